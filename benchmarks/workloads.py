"""The workloads: pairs that talk at full speed, one sender in a group, and connections that do nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .node import Node
from .wire_client import WireClient, connect

TEXT = "x" * 100


class Pairs:
    """Pairs of users; one of each sends with a window, the other confirms each read.

    Args:
        node: Where senders are.
        receivers: Where the others are; None: at the same node.
    """

    def __init__(self, node: Node, count: int, window: int, tag: str, receivers: Node | None = None) -> None:
        self._node = node
        self._receivers = receivers or node
        self._count = count
        self._window = window
        self._tag = tag
        self._keys = itertools.count()
        self._sending = True
        self.delivered = 0
        self.acked = 0
        self.confirmed = 0
        self.waits_ms: list[float] = []
        self._sent_at: dict[str, float] = {}
        self._clients: list[WireClient] = []

    async def open(self) -> None:
        """Connect all of them; then they begin."""
        pairs = [await self._connected(number) for number in range(self._count)]
        self._clients = list(itertools.chain.from_iterable(pairs))
        for number, (sender, _) in enumerate(pairs):
            self._send(sender, f"{self._tag}-{number}", self._window)

    def close(self) -> None:
        """Send nothing more, and leave."""
        self._sending = False
        for client in self._clients:
            client.transport.close()

    async def run(self, warm_up_s: float, measured_s: float) -> dict[str, Any]:
        """Server CPU per message and rates over the measured time."""
        await self.open()
        await asyncio.sleep(warm_up_s)
        cpu_s, acked, delivered, began = self._node.cpu_s(), self.acked, self.delivered, time.monotonic()
        self.waits_ms.clear()
        await asyncio.sleep(measured_s)
        took_s = time.monotonic() - began
        cpu_s, acked, delivered = self._node.cpu_s() - cpu_s, self.acked - acked, self.delivered - delivered
        self.close()
        waits = sorted(self.waits_ms)
        return {
            "messages_per_s": round(acked / took_s),
            "deliveries_per_s": round(delivered / took_s),
            "server_cpu_us_per_message": round(1e6 * cpu_s / acked, 1),
            "server_cpu_share": round(cpu_s / took_s, 2),
            "ack_ms_p50": round(waits[len(waits) // 2], 2),
            "ack_ms_p95": round(waits[int(len(waits) * 0.95)], 2),
        }

    async def _pair(self, number: int) -> tuple[WireClient, WireClient]:
        """Connect one pair, which begins at once."""
        sender, receiver = await self._connected(number)
        self._send(sender, f"{self._tag}-{number}", self._window)
        return sender, receiver

    async def _connected(self, number: int) -> tuple[WireClient, WireClient]:
        conversation_id = f"{self._tag}-{number}"
        users = [f"{self._tag}-a{number}", f"{self._tag}-b{number}"]
        self._node.create(conversation_id, "SINGLE", users)
        receiver = await connect(self._receivers.port, self._node.token(users[1]), "d", self._received)
        sender = await connect(self._node.port, self._node.token(users[0]), "d", self._acked)
        return sender, receiver

    def _send(self, client: WireClient, conversation_id: str, count: int) -> None:
        events, now = [], time.monotonic()
        for _ in range(count):
            key = f"k{next(self._keys)}"
            self._sent_at[key] = now
            payload = {"type": "TEXT", "text": TEXT}
            events.append(
                {
                    "event": "SEND_MSG",
                    "conversationId": conversation_id,
                    "clientMsgId": key,
                    "payload": payload,
                }
            )
        client.send(events)

    def _acked(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        acks = [event for event in events if event["event"] == "MSG_ACK"]
        if not acks:
            return
        self.acked += len(acks)
        now = time.monotonic()
        self.waits_ms.extend(1000 * (now - self._sent_at.pop(ack["clientMsgId"])) for ack in acks)
        if self._sending:
            self._send(client, acks[0]["conversationId"], len(acks))

    def _received(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        confirm(client, events, self)


class Group:
    """One sender in a group, with a window; every member confirms what it gets."""

    def __init__(self, node: Node, members: int, window: int, tag: str) -> None:
        self._node = node
        self._members = members
        self._window = window
        self._tag = tag
        self.delivered = self.confirmed = 0
        self._pending = 0

    async def run(self, messages: int) -> dict[str, Any]:
        """Deliveries per second and server CPU per delivery, confirmations included."""
        users = [f"{self._tag}-{number}" for number in range(self._members)]
        self._node.create(self._tag, "GROUP", users)
        clients = [
            await connect(self._node.port, self._node.token(user), "d", self._received) for user in users[1:]
        ]
        self._keys = itertools.count()
        self._left = messages
        self._all_acked = asyncio.Event()
        sender = await connect(self._node.port, self._node.token(users[0]), "d", self._acked)
        await asyncio.sleep(1)
        expected = self.delivered + messages * (self._members - 1)
        cpu_s, began = self._node.cpu_s(), time.monotonic()
        for _ in range(self._window):
            self._send(sender)
        while self.delivered < expected:
            await asyncio.sleep(0.005)
        took_s = time.monotonic() - began
        await asyncio.sleep(0.5)  # the last confirmations are part of the cost
        cpu_s = self._node.cpu_s() - cpu_s
        for client in (*clients, sender):
            client.transport.close()
        deliveries = messages * (self._members - 1)
        return {
            "deliveries_per_s": round(deliveries / took_s),
            "server_cpu_us_per_delivery": round(1e6 * cpu_s / deliveries, 2),
        }

    def _send(self, client: WireClient) -> None:
        if self._left == 0:
            return
        self._left -= 1
        client.send(
            [
                {
                    "event": "SEND_MSG",
                    "conversationId": self._tag,
                    "clientMsgId": f"k{next(self._keys)}",
                    "payload": {"type": "TEXT", "text": TEXT},
                }
            ]
        )

    def _acked(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["event"] == "MSG_ACK":
                self._send(client)

    def _received(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        confirm(client, events, self)


def confirm(client: WireClient, events: list[dict[str, Any]], count: Pairs | Group) -> None:
    """Count the messages of one read and confirm them with one cumulative DELIVERED_ACK."""
    messages = [event for event in events if event["event"] == "NEW_MSG"]
    if not messages:
        return
    count.delivered += len(messages)
    count.confirmed += 1
    last = messages[-1]
    client.send(
        [{"event": "DELIVERED_ACK", "conversationId": last["conversationId"], "upToSeq": last["seq"]}]
    )


async def idle(node: Node, count: int) -> dict[str, Any]:
    """KiB of server memory per logged-in connection that does nothing."""
    warm = [await connect(node.port, node.token(f"w{n}"), "d", lambda *_: None) for n in range(50)]
    await asyncio.sleep(0.5)
    before_kib = node.pss_kib()
    clients = []
    for n in range(count):
        source = f"127.0.0.{2 + n // 500}"  # one address may not have them all
        clients.append(await connect(node.port, node.token(f"i{n}"), "d", lambda *_: None, source=source))
        await asyncio.sleep(0.005)  # nor are more taken in per second
    await asyncio.sleep(1)
    kib = (node.pss_kib() - before_kib) / count
    for client in (*warm, *clients):
        client.transport.close()
    return {"kib_per_idle_connection": round(kib, 1)}


WORKLOADS: dict[str, Callable[[Node, float], Awaitable[dict[str, Any]]]] = {
    "1:1, 100 pairs, window 16": lambda node, seconds: Pairs(node, 100, 16, "sat").run(seconds / 3, seconds),
    "1:1, 1 pair, window 1": lambda node, seconds: Pairs(node, 1, 1, "one").run(1, seconds / 2),
    "group of 50, window 16": lambda node, _: Group(node, 50, 16, "g50").run(2000),
    "group of 500, window 16": lambda node, _: Group(node, 500, 16, "g500").run(200),
    "2000 idle connections": lambda node, _: idle(node, 2000),
}
"""Each takes a fresh server and the seconds to measure; the groups send a fixed number of messages instead."""
