"""`python -m benchmarks.hostile [--only NAME ...] [--against PATH]`: one user at full speed against the others.

A real `chatkit serve` with the limits that are the default. A good user sends a message every 50 ms, first alone, then
beside one hostile user who does one thing as fast as a process of its own can. Printed are how long the good user's
acknowledgements took, and the ratio of the P95. With `--against`, the same for another checkout, one right after the
other.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from .node import Node, node
from .tree import HERE, Tree
from .wire_client import WireClient, connect

EVERY_S = 0.05
ALONE_S, ATTACKED_S, BEGIN_S = 3.0, 5.0, 0.5
_DATA = Path(__file__).parent / "hostile_data.py"
_IN_FLIGHT_BYTES = 256 * 1024

Event = dict[str, Any]


class Attacker:
    """One hostile user: connections that come back when they are closed, and requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def token(self, user_id: str = "mallory") -> str:
        """A token for any device of a user."""
        return Node.token(self, user_id)  # type: ignore[arg-type]

    async def get(self, path: str) -> Any:
        """The body of an answer."""
        answer = await self.http.get(path, headers=self._headers())
        return answer.json() if answer.is_success else None

    async def post(self, path: str, body: Event) -> None:
        """One request, whatever comes of it."""
        await self.http.post(path, json=body, headers=self._headers())

    async def flood(self, device_id: str, frames: Callable[[], list[Event]]) -> None:
        """Write frames as fast as the server takes them in, for ever."""
        while True:
            try:
                client = await asyncio.wait_for(
                    connect(self.port, self.token(), device_id, lambda *_: None), 5
                )
                while not client.transport.is_closing():
                    client.send(frames())
                    while client.transport.get_write_buffer_size() > _IN_FLIGHT_BYTES:
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(0)
            except (OSError, TimeoutError):
                pass
            await asyncio.sleep(0.05)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token()}"}


async def confirmations(attacker: Attacker) -> None:
    """Single confirmations above a gap, over and over."""
    ids: list[str] = []
    last = 2
    while len(ids) < 1_000:
        page = await attacker.get(f"/v1/sync?conversationId=g&lastSeq={last}")
        ids += [entry["messageId"] for entry in page["messages"] if entry["seq"] > 2]
        last = page["upToSeq"]
    turn = itertools.cycle(ids[:1_000])
    await attacker.flood("d", lambda: [_confirm(next(turn)) for _ in range(200)])


def _confirm(message_id: str) -> Event:
    return {"event": "DELIVERED_ACK", "conversationId": "g", "messageId": message_id}


def _text(conversation_id: str, key: str) -> Event:
    payload = {"type": "TEXT", "text": "x"}
    return {
        "event": "SEND_MSG",
        "conversationId": conversation_id,
        "clientMsgId": key,
        "payload": payload,
    }


async def repeats(attacker: Attacker) -> None:
    """One send, over and over."""
    await attacker.flood("d", lambda: [_text("g", "same")] * 200)


async def sends(attacker: Attacker) -> None:
    """New messages."""
    number = itertools.count()
    await attacker.flood("d", lambda: [_text("g", f"n{next(number)}") for _ in range(200)])


async def nowhere(attacker: Attacker) -> None:
    """Sends to conversations that do not exist."""
    number = itertools.count()
    await attacker.flood("d", lambda: [_text(f"no-{next(number)}", "k") for _ in range(200)])


async def recalls(attacker: Attacker) -> None:
    """Recalls of what others wrote."""
    page = await attacker.get("/v1/sync?conversationId=g&lastSeq=2")
    turn = itertools.cycle(entry["messageId"] for entry in page["messages"])
    await attacker.flood("d", lambda: [{"event": "RECALL", "messageId": next(turn)} for _ in range(200)])


async def reads(attacker: Attacker) -> None:
    """Read cursors, up and down."""
    seq = itertools.cycle(range(1, 1_200))
    await attacker.flood(
        "d", lambda: [{"event": "READ", "conversationId": "g", "upToSeq": next(seq)} for _ in range(200)]
    )


async def typing(attacker: Attacker) -> None:
    """TYPING from 60 connections."""
    frame = [{"event": "TYPING", "conversationId": "g"}] * 50
    await asyncio.gather(*(attacker.flood(f"d{number}", lambda: frame) for number in range(60)))


async def groups(attacker: Attacker) -> None:
    """Groups of 1,000."""
    number = itertools.count()

    async def create() -> None:
        users = [f"u{one}" for one in range(999)]
        body = {"conversationId": f"x-{next(number)}", "type": "GROUP", "memberIds": users}
        await attacker.post("/v1/conversations", body)

    await _side_by_side(4, create)


async def strangers(attacker: Attacker) -> None:
    """Groups with one victim in each."""
    number = itertools.count()

    async def create() -> None:
        body = {"conversationId": f"x-{next(number)}", "type": "GROUP", "memberIds": ["ann"]}
        await attacker.post("/v1/conversations", body)

    await _side_by_side(16, create)


async def devices(attacker: Attacker) -> None:
    """Logins of a user of many conversations, each with a new device."""
    await _logins(attacker, itertools.count())


async def logins(attacker: Attacker) -> None:
    """Logins of a user of many conversations, always with the same devices."""
    await _logins(attacker, itertools.cycle(range(15)))


async def _logins(attacker: Attacker, numbers: Iterator[int]) -> None:
    async def log_in() -> None:
        token = attacker.token("many")
        client = await asyncio.wait_for(
            connect(attacker.port, token, f"d{next(numbers)}", lambda *_: None), 5
        )
        client.transport.close()

    await _side_by_side(4, log_in)


async def lists(attacker: Attacker) -> None:
    """Conversation lists over long logs, 8 at once."""
    await _side_by_side(8, lambda: attacker.get("/v1/conversations?limit=200"))


async def slow_readers(attacker: Attacker) -> None:
    """30 connections that ask for pages and do not read them."""
    frame = [{"event": "SYNC", "conversationId": "g", "lastSeq": 0} for _ in range(200)]

    async def ask(device_id: str) -> None:
        client = await connect(attacker.port, attacker.token(), device_id, lambda *_: None)
        client.transport.pause_reading()
        client.send(frame)
        await asyncio.sleep(3600)

    await asyncio.gather(*(ask(f"d{number % 18}-{number}"[:8]) for number in range(30)))


ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    it.__name__: it
    for it in (
        confirmations,
        repeats,
        sends,
        nowhere,
        recalls,
        reads,
        typing,
        groups,
        strangers,
        devices,
        logins,
        lists,
        slow_readers,
    )
}


async def _side_by_side(count: int, act: Callable[[], Awaitable[Any]]) -> None:
    async def again() -> None:
        while True:
            try:
                await act()
            except (OSError, TimeoutError, httpx.HTTPError):
                await asyncio.sleep(0.01)

    await asyncio.gather(*(again() for _ in range(count)))


class GoodUser:
    """Sends a message every 50 ms and notes how long each answer took."""

    def __init__(self) -> None:
        self.waits_ms: list[float] = []
        self._sent_at: dict[str, float] = {}

    async def run(self, port: int, token: str) -> None:
        """Send for ever."""
        client = await connect(port, token, "d", self._heard)
        for number in itertools.count():
            key = f"g{number}"
            self._sent_at[key] = time.monotonic()
            client.send([_text("good", key)])
            await asyncio.sleep(EVERY_S)

    def take(self) -> tuple[float, float]:
        """P50 and P95 since the last call, in ms; what is not answered yet counts with its age."""
        now = time.monotonic()
        waits = sorted(self.waits_ms + [1000 * (now - at) for at in self._sent_at.values()])
        self.waits_ms.clear()
        return waits[len(waits) // 2], waits[int(len(waits) * 0.95)]

    def _heard(self, client: WireClient, events: list[Event]) -> None:
        for event in events:
            sent_at = self._sent_at.pop(event.get("clientMsgId", ""), None)
            if sent_at is not None:
                self.waits_ms.append(1000 * (time.monotonic() - sent_at))


def _start(attack: str, port: int) -> subprocess.Popen[bytes]:
    """The hostile process; it yields the core of the load to the good user."""
    command = [sys.executable, "-m", "benchmarks.hostile", "--attack", attack, "--port", str(port)]
    return subprocess.Popen(["nice", "-n", "10", *command], stderr=subprocess.DEVNULL)


async def measure(server: Node, attack: str) -> dict[str, Any]:
    """The good user alone and beside one attack."""
    good = GoodUser()
    sending = asyncio.create_task(good.run(server.port, server.token("ann")))
    await asyncio.sleep(BEGIN_S)
    good.take()
    await asyncio.sleep(ALONE_S)
    alone, pss_kib = good.take(), server.pss_kib()
    hostile = _start(attack, server.port)
    try:
        await asyncio.sleep(BEGIN_S)
        good.take()
        await asyncio.sleep(ATTACKED_S)
        attacked = good.take()
        grown_kib = server.pss_kib() - pss_kib
    finally:
        hostile.kill()
        hostile.wait()
        sending.cancel()
    return {
        "attack": attack,
        "alone_ms": [round(value, 1) for value in alone],
        "attacked_ms": [round(value, 1) for value in attacked],
        "p95_ratio": round(attacked[1] / alone[1], 1),
        "memory_grown_kib": grown_kib,
    }


def _compare(trees: list[Tree], attacks: list[str]) -> None:
    for attack, tree in itertools.product(attacks, trees):

        def prepare(path: Path, tree: Tree = tree) -> None:
            command = [tree.python, "-P", str(_DATA), str(path)]
            subprocess.run(command, env=tree.environment, check=True)

        with node(tree, limited=True, prepare=prepare) as server:
            figures = asyncio.run(measure(server, attack))
        print(json.dumps({"tree": tree.commit, **figures}), flush=True)


def main() -> None:
    """Measure, or be the hostile process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=sorted(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--against", type=Path, help="another checkout, with a .venv")
    parser.add_argument("--attack", choices=sorted(ATTACKS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        asyncio.run(ATTACKS[options.attack](Attacker(options.port)))  # type: ignore[arg-type]
        return
    before = [] if options.against is None else [Tree(options.against)]
    _compare([*before, Tree(HERE)], options.only)


if __name__ == "__main__":
    main()
