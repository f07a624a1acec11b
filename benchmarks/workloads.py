"""The workloads: pairs that talk at full speed, one sender in a group, and connections that do nothing.

Each runs on any server that has users who are connected, send, and hear (`measured`).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from .measured import MeasuredServer, Talker
from .tree import CannotMeasureError

Figures = dict[str, Any]

AT_ONCE = 50
PER_ADDRESS = 500
"""One address may not have more connections."""

STALL_S = 20.0
"""A load that moves nothing for so long has failed."""


class Pairs:
    """Pairs of users; one of each sends with a window, the other confirms each read.

    Args:
        node: Where senders are.
        receivers: Where the others are; None: at the same node.
        existing: Conversations that are there already, as many as pairs: each with who sends and who receives.

    Attributes:
        acked: Messages that are stored.
        delivered: Messages that have come.
        reads: In which they came: where there are confirmations, as many.
        waits_ms: From each send to its acknowledgement.
    """

    def __init__(
        self,
        node: MeasuredServer,
        count: int,
        window: int,
        tag: str,
        receivers: MeasuredServer | None = None,
        existing: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        self._node = node
        self._receivers = receivers or node
        self._count = count
        self._window = window
        self._tag = tag
        self._existing = existing
        self._sending = True
        self.acked = self.delivered = self.reads = 0
        self.waits_ms: list[float] = []
        self._clients: list[Talker] = []

    async def open(self) -> None:
        """Connect all of them; then they begin."""
        pairs = self._existing or [self._created(number) for number in range(self._count)]
        senders = []
        for _, sender, receiver in pairs:
            self._clients.append(await self._receivers.connect(receiver, self))
            senders.append(await self._node.connect(sender, self))
        self._clients += senders
        for (conversation_id, _, _), talker in zip(pairs, senders, strict=True):
            talker.send(conversation_id, self._window)

    def close(self) -> None:
        """Send nothing more, and leave."""
        self._sending = False
        for client in self._clients:
            client.close()

    async def run(self, warm_up_s: float, measured_s: float) -> Figures:
        """Server CPU per message and rates over the measured time.

        Raises:
            CannotMeasureError: Something was refused, a connection was lost, or nothing was acknowledged in that time.
        """
        try:
            await self.open()
            return await self._measured(warm_up_s, measured_s)
        finally:
            self._sending = False
            await leave(self._clients)

    async def _measured(self, warm_up_s: float, measured_s: float) -> Figures:
        await asyncio.sleep(warm_up_s)
        cpu, acked, delivered, began = self._node.cpu(), self.acked, self.delivered, time.monotonic()
        self.waits_ms.clear()
        await asyncio.sleep(measured_s)
        check(self._clients)
        took_s = time.monotonic() - began
        cpu, acked, delivered = self._node.cpu() - cpu, self.acked - acked, self.delivered - delivered
        if not acked:
            raise CannotMeasureError("no message was acknowledged in the time that is measured")
        waits = sorted(self.waits_ms)
        return {
            "messages_per_s": round(acked / took_s),
            "deliveries_per_s": round(delivered / took_s),
            "server_cpu_us_per_message": round(1e6 * cpu.total / acked, 1),
            "server_cpu_share": round(cpu.total / took_s, 2),
            "ack_ms_p50": round(percentile(waits, 0.5), 2),
            "ack_ms_p95": round(percentile(waits, 0.95), 2),
            "layers_us": cpu.layers_us(acked),
        }

    def _created(self, number: int) -> tuple[str, str, str]:
        name, sender, receiver = (f"{self._tag}-{part}{number}" for part in ("", "a", "b"))
        self._node.create(name, "SINGLE", [sender, receiver])
        return name, sender, receiver

    def on_acked(self, talker: Talker, conversation_id: str, waits_ms: list[float]) -> None:
        self.acked += len(waits_ms)
        self.waits_ms += waits_ms
        if self._sending:
            talker.send(conversation_id, len(waits_ms))

    def on_delivered(self, talker: Talker, count: int) -> None:
        self.delivered += count
        self.reads += 1


class Turns:
    """Many users who are all connected and write in turn, one message each: few are under way at any time.

    Args:
        senders: Where each conversation is sent to, by its name, with the user who does.
        receivers: Whoever else is connected.
    """

    def __init__(
        self, node: MeasuredServer, senders: dict[str, str], receivers: list[str], in_flight: int = 50
    ) -> None:
        self._node = node
        self._senders, self._receivers = senders, receivers
        self._in_flight = in_flight
        self._sending = False
        self._acked = 0
        self._next: itertools.cycle[tuple[Talker, str]]

    async def run(self, warm_up_s: float, measured_s: float) -> Figures:
        """Server CPU per message."""
        others = await connected(self._node, self._receivers, self)
        names = list(self._senders)
        talkers = await connected(self._node, list(self._senders.values()), self, first=len(others))
        self._next = itertools.cycle(zip(talkers, names, strict=True))
        self._sending = True
        for _ in range(self._in_flight):
            self._one()
        await asyncio.sleep(warm_up_s)
        cpu_s, acked = self._node.cpu_s(), self._acked
        await asyncio.sleep(measured_s)
        cpu_s, acked = self._node.cpu_s() - cpu_s, self._acked - acked
        self._sending = False
        check([*others, *talkers])
        if not acked:
            raise CannotMeasureError("no message was acknowledged in the time that is measured")
        await leave([*others, *talkers])
        return {
            "connections": len(others) + len(talkers),
            "messages_per_s": round(acked / measured_s),
            "server_cpu_us_per_message": round(1e6 * cpu_s / acked, 1),
        }

    def _one(self) -> None:
        talker, conversation_id = next(self._next)
        talker.send(conversation_id, 1)

    def on_acked(self, talker: Talker, conversation_id: str, waits_ms: list[float]) -> None:
        self._acked += len(waits_ms)
        for _ in waits_ms if self._sending else ():
            self._one()

    def on_delivered(self, talker: Talker, count: int) -> None: ...


class Group:
    """One sender in a group, whom every member hears.

    Attributes:
        delivered: Messages that have come, to all members together.
    """

    def __init__(self, node: MeasuredServer, members: int, tag: str) -> None:
        self._node = node
        self._tag = tag
        self._users = [f"{tag}-{number}" for number in range(members)]
        self._left = 0
        self.acked = self.delivered = 0
        self._sent_at: list[float] = []
        self._missing: list[int] = []
        self._reached: dict[Talker, int] = {}
        self._last_ms: list[float] = []

    async def run(self, messages: int, window: int) -> Figures:
        """So many messages at full speed: deliveries per second and server CPU per delivery, confirmations included."""
        sender, clients = await self._open()
        cpu, acked, delivered, began = self._node.cpu(), self.acked, self.delivered, time.monotonic()
        self._left = messages - window
        sender.send(self._tag, window)
        expected = (messages + acked) * self._heard_by
        await self._until(lambda: self.delivered >= expected, [*clients, sender])
        took_s = time.monotonic() - began
        await asyncio.sleep(0.5)  # the last confirmations are part of the cost
        cpu, deliveries = self._node.cpu() - cpu, self.delivered - delivered
        await leave([*clients, sender])
        return {
            "deliveries_per_s": round(deliveries / took_s),
            "server_cpu_us_per_delivery": round(1e6 * cpu.total / deliveries, 2),
            "layers_us": cpu.layers_us(deliveries),
        }

    async def run_paced(self, messages: int, every_s: float) -> Figures:
        """So many messages at a pace that leaves time: from the send until the last member has it."""
        sender, clients = await self._open()
        self._reached.clear()
        for _ in range(messages):
            self._sent_at.append(time.monotonic())
            self._missing.append(self._heard_by)
            sender.send(self._tag, 1)
            await asyncio.sleep(every_s)
        await self._until(lambda: len(self._last_ms) == messages, [*clients, sender])
        await leave([*clients, sender])
        waits = sorted(self._last_ms)
        return {
            "last_member_ms_p50": round(percentile(waits, 0.5), 1),
            "last_member_ms_p99": round(percentile(waits, 0.99), 1),
        }

    async def _until(self, done: Callable[[], bool], talkers: list[Talker]) -> None:
        """Return once it is done. Raises CannotMeasureError if nothing comes any more."""
        seen, since = -1, time.monotonic()
        while not done():
            if self.delivered != seen:
                seen, since = self.delivered, time.monotonic()
            elif time.monotonic() - since > STALL_S:
                check(talkers)
                raise CannotMeasureError(f"nothing was delivered for {STALL_S:g} s")
            await asyncio.sleep(0.005)

    async def _open(self) -> tuple[Talker, list[Talker]]:
        """All are connected, and one message has shown who hears the sender: all others, or the sender too."""
        self._node.create(self._tag, "GROUP", self._users)
        clients = await connected(self._node, self._users[1:], self)
        sender = await self._node.connect(self._users[0], self)
        await asyncio.sleep(1)
        sender.send(self._tag, 1)
        await self._until(lambda: self.acked == 1 and self.delivered >= len(clients), [*clients, sender])
        await asyncio.sleep(0.5)
        self._heard_by = self.delivered
        return sender, clients

    def on_acked(self, talker: Talker, conversation_id: str, waits_ms: list[float]) -> None:
        self.acked += len(waits_ms)
        more = min(len(waits_ms), self._left)
        if more:
            self._left -= more
            talker.send(conversation_id, more)

    def on_delivered(self, talker: Talker, count: int) -> None:
        self.delivered += count
        if self._sent_at:
            first = self._reached.get(talker, 0)
            self._reached[talker] = first + count
            for number in range(first, first + count):
                self._missing[number] -= 1
                if self._missing[number] == 0:
                    self._last_ms.append(1000 * (time.monotonic() - self._sent_at[number]))


class Silent:
    """Nobody who listens says anything."""

    def on_acked(self, talker: Talker, conversation_id: str, waits_ms: list[float]) -> None: ...

    def on_delivered(self, talker: Talker, count: int) -> None: ...


def source_of(number: int) -> str:
    """The address of this machine that a connection comes from."""
    return f"127.0.0.{2 + number // PER_ADDRESS}"


async def connected(
    node: MeasuredServer, users: list[str], listener: Pairs | Turns | Group | Silent, first: int = 0
) -> list[Talker]:
    """All of them, some at once, from as many addresses as it takes; `first` connections are there already."""
    talkers: list[Talker] = []
    for start in range(0, len(users), AT_ONCE):
        some = enumerate(users[start : start + AT_ONCE], first + start)
        talkers += await asyncio.gather(*(node.connect(user, listener, source_of(at)) for at, user in some))
    return talkers


async def idle(node: MeasuredServer, count: int) -> Figures:
    """KiB of server memory per logged-in connection that does nothing."""
    warm = await connected(node, [f"w{number}" for number in range(AT_ONCE)], Silent())
    await asyncio.sleep(0.5)
    before_kib = node.pss_kib()
    clients = await connected(node, [f"i{number}" for number in range(count)], Silent(), first=len(warm))
    await asyncio.sleep(1)
    kib = (node.pss_kib() - before_kib) / count
    await leave([*warm, *clients])
    return {"kib_per_idle_connection": round(kib, 1)}


def check(talkers: Iterable[Talker]) -> None:
    """Raise CannotMeasureError if one of them was refused something, or lost its connection."""
    for it in talkers:
        if it.failure is not None:
            raise CannotMeasureError(it.failure)


def percentile(ordered: list[float], part: float) -> float:
    """The value below which that part of them is."""
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


async def leave(clients: Iterable[Talker]) -> None:
    """Close them; they are gone then."""
    for client in clients:
        client.close()
    for _ in range(3):  # the event loop closes their sockets in its next turns
        await asyncio.sleep(0)


WORKLOADS: dict[str, Callable[[MeasuredServer, float], Awaitable[Figures]]] = {
    "1:1, 100 pairs, window 16": lambda node, seconds: Pairs(node, 100, 16, "sat").run(seconds / 3, seconds),
    "1:1, 1 pair, window 1": lambda node, seconds: Pairs(node, 1, 1, "one").run(1, seconds / 2),
    "group of 50, window 16": lambda node, _: Group(node, 50, "g50").run(2000, 16),
    "group of 500, window 16": lambda node, _: Group(node, 500, "g500").run(200, 16),
    "2000 idle connections": lambda node, _: idle(node, 2000),
}
"""For `compare`: each takes a fresh server and the seconds to measure; groups send so many messages instead."""
