"""`python -m benchmarks.idle [COUNT]`: so many connections that do nothing, held by one server, and what each costs.

They come from as many addresses of this machine as it takes at 500 each, and are held for a heartbeat or two. Then each
of them sends a PING, and every answer is counted; so none of them was dropped on the way. COUNT is 10,000 by default;
the server and this process need a descriptor for each, and the server as many again in reserve.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

from .node import Node, node
from .wire_client import WireClient, connect
from .workloads import AT_ONCE, source_of

WARM = 50
BEAT_S = 20.0
LATE_S = 60.0


class Crowd:
    """Clients that do nothing but live."""

    def __init__(self, running: Node) -> None:
        self._node = running
        self.clients: list[WireClient] = []
        self.answers = 0

    async def grow(self, count: int) -> None:
        """Have so many in all."""
        while len(self.clients) < count:
            first = len(self.clients)
            numbers = range(first, min(first + AT_ONCE, count))
            self.clients += await asyncio.gather(*(self._one(number) for number in numbers))

    async def _one(self, number: int) -> WireClient:
        token, source = self._node.token(f"i{number}"), source_of(number)
        return await connect(self._node.port, token, "d", self._heard, source=source)

    def _heard(self, _: WireClient, events: list[dict[str, Any]]) -> None:
        self.answers += sum(event["event"] == "PONG" for event in events)

    async def live(self) -> None:
        """Send heartbeats for as long as this runs."""
        while True:
            await asyncio.sleep(BEAT_S)
            self._beat()

    def _beat(self) -> None:
        for client in self.clients:
            client.send([{"event": "PING"}])

    async def roll_call(self) -> int:
        """How many answer."""
        await asyncio.sleep(1)
        self.answers = 0
        self._beat()
        end_s = time.monotonic() + LATE_S
        while self.answers < len(self.clients) and time.monotonic() < end_s:
            await asyncio.sleep(0.1)
        return self.answers


async def measure(running: Node, count: int, hold_s: float) -> dict[str, Any]:
    """Connect, hold, and call the roll."""
    crowd = Crowd(running)
    await crowd.grow(WARM)
    await asyncio.sleep(0.5)
    before_kib, began_s, busy_s = running.pss_kib(), time.monotonic(), running.cpu_s()
    living = asyncio.create_task(crowd.live())
    await crowd.grow(count)
    took_s, busy_s = time.monotonic() - began_s, running.cpu_s() - busy_s
    await asyncio.sleep(1)
    kib = (running.pss_kib() - before_kib) / (count - WARM)
    await asyncio.sleep(hold_s)
    living.cancel()
    answered = await crowd.roll_call()
    for client in crowd.clients:
        client.transport.close()
    return {
        "connections": count,
        "answered_after_hold": answered,
        "held_s": hold_s,
        "kib_per_idle_connection": round(kib, 2),
        "server_pss_mib_before": round(before_kib / 1024, 1),
        "logins_per_s": round((count - WARM) / took_s),
        "server_cpu_us_per_login": round(1e6 * busy_s / (count - WARM)),
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--hold", type=float, default=30.0, help="seconds that they are held (30)")
    asked = parser.parse_args()
    with node() as running:
        print(json.dumps(asyncio.run(measure(running, asked.count, asked.hold))), flush=True)


if __name__ == "__main__":
    main()
