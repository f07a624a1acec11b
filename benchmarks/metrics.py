"""What metrics cost: CPU of the server per message with them and without, `python -m benchmarks.metrics [ROUNDS]`.

Two servers run all the time on one core, one with `--metrics` and a scrape in each round, one without. The same pairs
send to one and to the other in short rounds, in the order A B B A, so that whatever else the machine does meets both.
One figure counts: the median of the ratios of neighbouring rounds. It exits with 1 if that is above 1.02.
`--same` compares two servers without metrics: what the machine makes of equal things.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from typing import Any

import httpx

from .node import Node, node
from .wire_client import WireClient
from .workloads import Pairs

PAIRS = 50
WINDOW = 16
ROUND_S = 1.0
ALLOWED = 1.02


async def main(rounds: int, *, same: bool) -> None:
    """Alternate, and say the ratio."""
    options = [] if same else ["--metrics", "127.0.0.1:0"]
    with node() as plain, node(options=options) as counted:
        loads = [Load(plain, "plain"), Load(counted, "counted")]
        for load in loads:
            await load.connect()
            await load.cost_us()
        ratios = []
        for number in range(rounds):
            order = loads if number % 2 == 0 else loads[::-1]
            found = {load: await load.cost_us() for load in order}
            ratios.append(found[loads[1]] / found[loads[0]])
            print(f"{found[loads[0]]:.1f} us, {found[loads[1]]:.1f} us: {ratios[-1]:.3f}", flush=True)
    ratio = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    print(
        f"CPU per message with metrics / without: {ratio:.4f} (half of the rounds: {low:.3f} to {high:.3f})"
    )
    sys.exit(ratio > ALLOWED)


class Load(Pairs):
    """Pairs that stay connected, and send only while they are measured."""

    def __init__(self, server: Node, tag: str) -> None:
        super().__init__(server, PAIRS, WINDOW, tag)
        self._sending = False
        self._senders: list[tuple[WireClient, str]] = []

    async def connect(self) -> None:
        """Everybody logs in."""
        for number in range(PAIRS):
            sender, _ = await self._pair(number)
            self._senders.append((sender, f"{self._tag}-{number}"))

    async def cost_us(self) -> float:
        """CPU of the server for one message, in microseconds: durable, acknowledged, pushed and confirmed."""
        cpu_s, acked = self._node.exact_cpu_s(), self.acked
        self._sending = True
        for sender, name in self._senders:
            super()._send(sender, name, WINDOW)
        await asyncio.sleep(ROUND_S / 2)
        await self._scrape()
        await asyncio.sleep(ROUND_S / 2)
        self._sending = False
        await self._quiet()
        return 1e6 * (self._node.exact_cpu_s() - cpu_s) / (self.acked - acked)

    async def _quiet(self) -> None:
        """Return once everything is answered and confirmed."""
        before = -1
        while before != self.acked + self.confirmed:
            before = self.acked + self.confirmed
            await asyncio.sleep(0.2)

    async def _scrape(self) -> None:
        if self._node.metrics_url is not None:
            async with httpx.AsyncClient() as client:
                (await client.get(self._node.metrics_url)).raise_for_status()

    def _send(self, client: WireClient, conversation_id: str, count: int) -> None:
        if self._sending:
            super()._send(client, conversation_id, count)


def _options() -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=30)
    parser.add_argument("--same", action="store_true")
    return vars(parser.parse_args())


if __name__ == "__main__":
    asyncio.run(main(**_options()))
