"""A load that makes a server do the same work in the same batches every time, so that what it does can be counted."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .node import Node
from .talker import TEXT
from .tree import CannotMeasureError
from .wire_client import WireClient, connect

QUIET_S, QUIET_SHARE = 0.4, 0.2
"""A server is idle once it used less than this share of a core for so long."""

STALL_S = 120
"""A load that moves nothing for so long has failed."""


async def quiet(node: Node) -> None:
    """A server has nothing to do any more: what waited a moment is stored too."""
    busy_s = 1.0
    while busy_s > QUIET_SHARE * QUIET_S:
        before_s = node.exact_cpu_s()
        await asyncio.sleep(QUIET_S)
        busy_s = node.exact_cpu_s() - before_s


class Lockstep:
    """Conversations in each of which one user sends `window` messages a turn, and everybody else confirms them.

    The server is stopped while a turn is written, so that it finds all of it at once and makes the same batches every
    time: what it then does by batch and by frame does not depend on who was scheduled when.

    Args:
        node: The server, slowed down or not.
        conversations: How many.
        members: Of each.
        window: Messages of each sender in a turn.
        tag: What the names of its conversations and users begin with.
    """

    def __init__(self, node: Node, conversations: int, members: int, window: int, tag: str = "c") -> None:
        self._node = node
        self._conversations, self._members, self._window = conversations, members, window
        self._tag = tag
        self._senders: list[tuple[WireClient, str]] = []
        self._clients: list[WireClient] = []
        self._receivers: dict[WireClient, tuple[str, int]] = {}
        self._keys = itertools.count()
        self._acked = self._delivered = 0

    @property
    def messages_per_turn(self) -> int:
        """Of all senders together."""
        return self._conversations * self._window

    async def connect(self) -> None:
        """All log in."""
        for number in range(self._conversations):
            name = f"{self._tag}-{number}"
            users = [f"{name}-{member}" for member in range(self._members)]
            self._node.create(name, "SINGLE" if self._members == 2 else "GROUP", users)
            for user in users[1:]:
                token = self._node.token(user)
                self._clients.append(await connect(self._node.port, token, "d", self._on_receiver))
            sender = await connect(self._node.port, self._node.token(users[0]), "d", self._on_sender)
            self._senders.append((sender, name))
            self._clients.append(sender)

    async def close(self) -> None:
        """All have gone."""
        for client in self._clients:
            client.transport.abort()
        await asyncio.sleep(0)  # the event loop closes them in its next turn
        await asyncio.sleep(0)

    async def send(self, turns: int) -> int:
        """So many turns are acknowledged, delivered and confirmed. Returns how many deliveries that were.

        Raises:
            CannotMeasureError: It stands still.
        """
        for _ in range(turns):
            with self._stopped():
                self._confirm()
                for sender, name in self._senders:
                    sender.send([self._message(name) for _ in range(self._window)])
            await self._until(self.messages_per_turn, self.messages_per_turn * (self._members - 1))
            await quiet(self._node)  # confirmations rest a moment, and are stored by themselves
        with self._stopped():
            self._confirm()
        await quiet(self._node)
        return turns * self.messages_per_turn * (self._members - 1)

    async def _until(self, acks: int, deliveries: int) -> None:
        """Return once so many more have come."""
        acks, deliveries = self._acked + acks, self._delivered + deliveries
        seen, since = -1, time.monotonic()
        while self._acked < acks or self._delivered < deliveries:
            if self._acked + self._delivered != seen:
                seen, since = self._acked + self._delivered, time.monotonic()
            elif time.monotonic() - since > STALL_S:
                raise CannotMeasureError(f"{acks - self._acked} messages were not acknowledged")
            await asyncio.sleep(0.01)

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        pid = self._node.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.001)
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _message(self, name: str) -> dict[str, Any]:
        return {
            "event": "SEND_MSG",
            "conversationId": name,
            "clientMsgId": f"k{next(self._keys)}",
            "payload": {"type": "TEXT", "text": TEXT},
        }

    def _confirm(self) -> None:
        """Everybody confirms what they have: one cumulative DELIVERED_ACK."""
        for client, (name, seq) in self._receivers.items():
            client.send([{"event": "DELIVERED_ACK", "conversationId": name, "upToSeq": seq}])
        self._receivers.clear()

    def _on_sender(self, _client: WireClient, events: list[dict[str, Any]]) -> None:
        self._acked += sum(event["event"] == "MSG_ACK" for event in events)

    def _on_receiver(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        messages = [event for event in events if event["event"] == "NEW_MSG"]
        self._delivered += len(messages)
        if messages:
            self._receivers[client] = (messages[-1]["conversationId"], messages[-1]["seq"])
