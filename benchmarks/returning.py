"""`python -m benchmarks.returning [--against TREE]`: what it costs the server that 1,000 clients come back at once.

Each has missed 20 messages of one conversation. After a restart of the server all connect at the same moment: login by
token, HEADS, one SYNC, and one confirmation, which is durable. CPU is user and system of the server, from its first
line until the last confirmation is stored; its start is not in it. `python -m benchmarks --only return` measures
socket.io beside it, whose clients ask for what they missed as they connect, and confirm nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .filling import all_of, opened
from .measured import MeasuredServer, Talker
from .node import Node, node
from .rivals.servers import Socketio, socketio
from .talker import TEXT
from .tree import CannotMeasureError, Tree
from .wire_client import WireClient, connect
from .workloads import Figures, source_of

CLIENTS, MISSED = 1_000, 20
SENDERS = 10
DEVICE = "d"
QUIET_S = 0.5
"""After the last answer: confirmations are stored a moment later."""


async def measured(
    server: MeasuredServer, back: Callable[[int], Awaitable[Talker]], got: Callable[[], int], expected: int
) -> Figures:
    """CPU and time of one return.

    Args:
        server: Whose.
        back: A client that is connected and has all.
        got: How many messages have come to all of them.
        expected: How many should.

    Raises:
        CannotMeasureError: They have not.
    """
    cpu_s, began = server.cpu_s(), time.perf_counter()
    clients = await asyncio.gather(*map(back, range(CLIENTS)))
    took_s = time.perf_counter() - began
    if got() != expected:
        raise CannotMeasureError(f"{got()} messages came instead of {expected}")
    await asyncio.sleep(QUIET_S)
    cpu_s = server.cpu_s() - cpu_s
    for client in clients:
        client.close()
    return {"cpu_ms_per_client": round(1000 * cpu_s / CLIENTS, 3), "all_back_s": round(took_s, 2)}


class Returning:
    """One client of chatkit that comes back, as an app does it.

    Args:
        confirms: Whether it confirms what it gets; else it misses the same the next time.
    """

    def __init__(self, *, confirms: bool = True) -> None:
        self._confirms = confirms
        self.messages = 0
        self.client: WireClient
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def failure(self) -> str | None:
        return self.client.failure

    def close(self) -> None:
        self.client.close()

    def send(self, conversation_id: str, count: int) -> None:
        raise NotImplementedError("it only listens")

    def received(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        """HEADS names what is behind: pull it; and confirm the page."""
        for event in events:
            if event["event"] == "HEADS":
                syncs = [
                    {
                        "event": "SYNC",
                        "conversationId": head["conversationId"],
                        "lastSeq": head["deliveredSeq"],
                        "epoch": head["epoch"],
                    }
                    for head in event["conversations"]
                    if head["headSeq"] > head["deliveredSeq"]
                ]
                if syncs:
                    client.send(syncs)
            elif event["event"] == "SYNC_PAGE":
                self.messages += len(event["messages"])
                if self._confirms:
                    confirmation = {"conversationId": event["conversationId"], "upToSeq": event["upToSeq"]}
                    client.send([{"event": "DELIVERED_ACK", **confirmation}])
                if not event["more"] and not self.done.done():
                    self.done.set_result(None)


async def come_back(server: Node, number: int, one: Returning) -> Returning:
    """It is connected and has all."""
    token = server.token(f"u-{number}")
    one.client = await connect(server.port, token, DEVICE, one.received, source=source_of(number))
    await one.done
    return one


async def create(file: Path, clients: int) -> None:
    """A conversation for each."""
    async with opened(file) as host:
        await all_of(
            host.create_conversation(
                "SINGLE", f"s-{number % SENDERS}", [f"u-{number}"], conversation_id=f"r-{number}"
            )
            for number in range(clients)
        )


async def write(file: Path, clients: int) -> None:
    """What they miss."""
    async with opened(file) as host:
        await all_of(
            host.send(
                f"r-{number}", f"s-{number % SENDERS}", TEXT, client_msg_id=f"m-{time.time_ns()}-{turn}"
            )
            for turn in range(MISSED)
            for number in range(clients)
        )


class Chatkit:
    """A log with devices that are away, and servers on it.

    Args:
        folder: Where the file is.
        tree: Whose server.
    """

    def __init__(self, folder: Path, tree: Tree | None = None) -> None:
        self._file = folder / "returning.db"
        self._tree = tree
        asyncio.run(create(self._file, CLIENTS))
        with self._node() as first:  # each device has been here before
            asyncio.run(self._measured(first, 1))

    def measure(self) -> Figures:
        """One round."""
        asyncio.run(write(self._file, CLIENTS))
        with self._node() as server:
            return asyncio.run(self._measured(server, MISSED))

    def _node(self) -> AbstractContextManager[Node]:
        return node(self._tree, storage=f"sqlite:///{self._file}")

    async def _measured(self, server: Node, missed: int) -> Figures:
        waiting = [Returning() for _ in range(CLIENTS)]

        async def back(number: int) -> Talker:
            return await come_back(server, number, waiting[number])

        return await measured(server, back, lambda: sum(it.messages for it in waiting), CLIENTS * missed)


class Rival:
    """The same on socket.io, which keeps what each user was sent; a fresh file for each round.

    Attributes:
        acked: Messages that are stored.
        delivered: Messages that have come.
    """

    def __init__(self) -> None:
        self.acked = self.delivered = 0

    def measure(self) -> Figures:
        """One round."""
        self.acked = self.delivered = 0
        with tempfile.TemporaryDirectory() as folder:
            store = f"{folder}/returning.db"
            with socketio(store) as first:
                asyncio.run(self._write(first))
            with socketio(store) as server:
                return asyncio.run(
                    measured(server, self._back(server), lambda: self.delivered, CLIENTS * MISSED)
                )

    async def _write(self, server: Socketio) -> None:
        senders = [await server.connect(f"s-{number}", self) for number in range(SENDERS)]
        for number in range(CLIENTS):
            server.create(f"r-{number}", "SINGLE", ["", f"u-{number}"])
            senders[number % SENDERS].send(f"r-{number}", MISSED)
        while self.acked < CLIENTS * MISSED:
            await asyncio.sleep(0.05)
        for sender in senders:
            sender.close()

    def _back(self, server: Socketio) -> Callable[[int], Awaitable[Talker]]:
        return lambda number: server.come_back(f"u-{number}", self, source_of(number))

    def on_acked(self, talker: Talker, conversation_id: str, waits_ms: list[float]) -> None:
        self.acked += len(waits_ms)

    def on_delivered(self, talker: Talker, count: int) -> None:
        self.delivered += count


def main() -> int:
    """Print each round, and the ratio of the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.returning", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of chatkit")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        sides = {"here": Chatkit(Path(here))}
        if options.against is not None:
            sides[str(options.against)] = Chatkit(Path(there), Tree(options.against))
        for turn in range(options.rounds):
            for name, side in sides.items():
                found = side.measure()
                print(json.dumps({"round": turn, "server": name, **found}), flush=True)
                took.setdefault(name, []).append(float(found["cpu_ms_per_client"]))
    medians = {name: statistics.median(all_took) for name, all_took in took.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} ms a client; this tree takes {medians['here'] / median:.2f} of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
