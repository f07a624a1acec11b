"""A line's messages as the bytes of a real WebSocket, cut into slices, so that delay and loss fall inside a frame.

Both ends are the state machines of `websockets`, with the opening and the closing handshake and without compression.
What they draw by themselves (keys, masks, the date) changes contents, never lengths.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from ..ports import Random
from ..wire.codec import CODECS
from ..wire.events import FRAME_BYTES_MAX
from .line import LOST, Closed, Message, Opened

_URI = parse_uri("ws://chatkit.test/v1/ws")
_SIZE_MAX = FRAME_BYTES_MAX + 1024
_FINE_SHARE = 0.5
_FINE_BYTES = 256
_FINE = (1, 7)
_COARSE = (512, 4096)


def slices(data: bytes, rng: Random) -> Iterator[bytes]:
    """Cut what was written at once: half of the time the first 256 bytes into slices of 1 to 7, the rest coarsely."""
    fine_bytes = _FINE_BYTES if rng.random() < _FINE_SHARE else 0
    start = 0
    while start < len(data):
        least, greatest = _FINE if start < fine_bytes else _COARSE
        size = least + int(rng.random() * (greatest - least + 1))
        yield data[start : start + size]
        start += size


class _WebSocketBytes(ABC):
    """One end's `Carrier`."""

    def __init__(self, protocol: WebSocketProtocol, rng: Random) -> None:
        self._protocol = protocol
        self._rng = rng

    def say(self, message: Message) -> None:
        """Take in a message; nothing of it once the connection is closing, or before it is open."""
        if isinstance(message, Opened):
            self._say_opened()
        elif self._protocol.state is not State.OPEN:
            return
        elif isinstance(message, Closed):
            self._protocol.send_close(message.code, message.reason)
        elif isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)

    def parcels(self) -> Sequence[bytes]:
        """The bytes to write, in slices; the end of the stream is left to the line."""
        data = b"".join(self._protocol.data_to_send())
        return list(slices(data, self._rng)) if data else ()

    def hear(self, parcel: Message | None) -> Sequence[Message]:
        """The messages that these bytes complete."""
        if parcel is None:
            self._protocol.receive_eof()
        else:
            assert isinstance(parcel, bytes), "a byte stream carries bytes"
            self._protocol.receive_data(parcel)
        found = map(self._message, self._protocol.events_received())
        messages = [message for message in found if message is not None]
        if self._protocol.parser_exc is not None or self._protocol.handshake_exc is not None:
            messages.append(self._fault())
        return messages or (() if parcel is not None else (LOST,))

    @abstractmethod
    def _say_opened(self) -> None:
        """Say this end's part of the opening handshake."""

    @abstractmethod
    def _opened(self, event: Request | Response) -> Message | None:
        """What the other end's part of it comes to; None if it is refused."""

    def _message(self, event: Event) -> Message | None:
        if not isinstance(event, Frame):
            return self._opened(event)
        if event.opcode is Opcode.TEXT:
            return bytes(event.data).decode()
        if event.opcode is Opcode.BINARY:
            return bytes(event.data)
        return self._closed() if event.opcode is Opcode.CLOSE else None

    def _closed(self) -> Closed:
        close = self._protocol.close_rcvd
        assert close is not None, "a close frame was just parsed"
        return Closed(close.code, close.reason)

    def _fault(self) -> Closed:
        """What this end found wrong itself, or that the stream ended without a close frame."""
        close = self._protocol.close_sent
        return LOST if close is None else Closed(close.code, close.reason)


class ClientBytes(_WebSocketBytes):
    """The client's end.

    Args:
        subprotocol: The only one it offers.
        rng: Draws the sizes of slices.
    """

    _protocol: ClientProtocol

    def __init__(self, subprotocol: str, rng: Random) -> None:
        offered = [Subprotocol(subprotocol)]
        super().__init__(ClientProtocol(_URI, subprotocols=offered, max_size=_SIZE_MAX), rng)

    def _say_opened(self) -> None:
        self._protocol.send_request(self._protocol.connect())

    def _opened(self, event: Request | Response) -> Message | None:
        refused = self._protocol.handshake_exc is not None
        return None if refused else Opened(self._protocol.subprotocol)


class ServerBytes(_WebSocketBytes):
    """The server's end. Of what is offered it chooses the first that chatkit knows.

    Args:
        rng: Draws the sizes of slices.
    """

    _protocol: ServerProtocol

    def __init__(self, rng: Random) -> None:
        super().__init__(ServerProtocol(select_subprotocol=_first_known, max_size=_SIZE_MAX), rng)
        self._response: Response | None = None

    def _say_opened(self) -> None:
        assert self._response is not None, "the request comes first"
        self._protocol.send_response(self._response)

    def _opened(self, event: Request | Response) -> Message | None:
        assert isinstance(event, Request), "clients send requests"
        self._response = self._protocol.accept(event)
        return Opened(self._protocol.subprotocol)


def _first_known(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((name for name in offered if name in CODECS), None)
