"""A device of the demo: a `ChatClient`, and the state that its events add up to.

`CuttingConnector` beside it is the broken network of the story.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from chatkit.client.client import ChatClient
from chatkit.client.events import (
    CaughtUp,
    ChatEvent,
    Connected,
    Disconnected,
    MessageReceived,
    MessageSent,
    ReceiptChanged,
)
from chatkit.transport.base import Connector, Transport, TransportClosedError
from chatkit.types import Message, Sent

from .console import within
from .node import NodeProcess


class DemoDevice:
    """A client, and the state its events add up to; nothing but the events changes that state.

    Attributes:
        chat: The client.
        received: Entries that came as `MessageReceived`, in the order they came.
        sent: What came as `MessageSent`, by clientMsgId.
        delivered: Delivered cursors of others, by user.
        read: Read cursors of others and of this user's other devices, by user.
        connected: Whether the last connection event was a login.
        caught_up: Whether everything missed before the last connect was placed.
        losses: How many connections were lost.
    """

    def __init__(self, name: str, chat: ChatClient) -> None:
        self.name = name
        self.chat = chat
        self.received: list[Message] = []
        self.sent: dict[str, Sent] = {}
        self.delivered: dict[str, int] = {}
        self.read: dict[str, int] = {}
        self.connected = False
        self.caught_up = False
        self.losses = 0
        self._events = aiter(chat.events())

    @classmethod
    @asynccontextmanager
    async def online(
        cls,
        node: NodeProcess,
        user_id: str,
        device_id: str,
        *,
        store: Path | None = None,
        connector: Connector | None = None,
    ) -> AsyncIterator[Self]:
        """A device that has connected and placed everything it missed; it disconnects when the block ends."""
        token = node.token(user_id, device_id)
        async with ChatClient(
            node.ws_url,
            token=token,
            device_id=device_id,
            store=str(store) if store else None,
            connector=connector,
        ) as chat:
            device = cls(f"{user_id}'s {device_id}", chat)
            await device.until(f"{device.name} to connect and catch up", lambda: device.caught_up)
            yield device

    def __contains__(self, seq: int) -> bool:
        return any(message.seq == seq for message in self.received)

    def message(self, seq: int) -> Message:
        """The received entry at `seq`."""
        return next(message for message in self.received if message.seq == seq)

    def delivered_to(self, user_id: str) -> int:
        """How far another user's devices hold the conversation, as far as this device knows.

        What a reconnect learns comes under "" and means the same here: there is one other member.
        """
        return max(self.delivered.get(user_id, 0), self.delivered.get("", 0))

    def read_by(self, user_id: str) -> int:
        """How far a user has read, as far as this device knows."""
        return self.read.get(user_id, 0)

    async def until(self, expected: str, holds: Callable[[], bool]) -> None:
        """Take events until a condition on them holds.

        Raises:
            ExpectationError: It did not hold in time.
        """
        with within(expected):
            while not holds():
                self._take(await anext(self._events))

    def _take(self, event: ChatEvent) -> None:
        match event:
            case MessageReceived(message=message):
                self.received.append(message)
            case MessageSent(sent=sent):
                self.sent[sent.client_msg_id] = sent
            case ReceiptChanged(receipt=receipt):
                self.delivered[receipt.user_id] = receipt.delivered_seq
                self.read[receipt.user_id] = receipt.read_seq
            case Connected():
                self.connected, self.caught_up = True, False
            case CaughtUp():
                self.caught_up = True
            case Disconnected():
                self.connected, self.losses = False, self.losses + 1
            case _:
                pass


class CuttingConnector:
    """A network that can be told to break just before the acknowledgement of a message arrives.

    Attributes:
        lost: The acknowledgement that was cut off, decoded; None while nothing was.
        departures: How often each clientMsgId left for the server.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._armed_for: str | None = None
        self.lost: dict[str, Any] | None = None
        self.departures: dict[str, int] = {}

    def cut_before_ack(self, client_msg_id: str) -> None:
        """Break the connection once the server has answered this message, before the client reads the answer."""
        self._armed_for = client_msg_id

    async def connect(self, subprotocol: str) -> Transport:
        """Open a connection through this network."""
        return _CuttableTransport(await self._connector.connect(subprotocol), self)

    def left(self, frame: bytes | str) -> None:
        """Note the messages in a frame to the server."""
        for event in _events(frame):
            if event.get("event") == "SEND_MSG":
                key = event["clientMsgId"]
                self.departures[key] = self.departures.get(key, 0) + 1

    def cuts(self, frame: bytes | str) -> bool:
        """Whether this frame from the server is the one to cut off."""
        for event in _events(frame):
            if (
                self._armed_for is not None
                and event.get("event") == "MSG_ACK"
                and event.get("clientMsgId") == self._armed_for
            ):
                self._armed_for, self.lost = None, event
                return True
        return False


class _CuttableTransport:
    def __init__(self, transport: Transport, network: CuttingConnector) -> None:
        self._transport = transport
        self._network = network

    async def receive(self) -> bytes | str:
        frame = await self._transport.receive()
        if self._network.cuts(frame):
            await self._transport.aclose()
            raise TransportClosedError(1006, "cut by the demo")
        return frame

    async def send(self, frame: bytes | str) -> None:
        await self._transport.send(frame)
        self._network.left(frame)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._transport.aclose(code, reason)


def _events(frame: bytes | str) -> list[dict[str, Any]]:
    decoded = msgspec.json.decode(frame)
    return decoded if isinstance(decoded, list) else [decoded]
