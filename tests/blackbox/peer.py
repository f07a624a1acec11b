"""A bare WebSocket client of the contract: sends events, keeps every event and every byte that comes back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

WAIT_S = 8.0
Values = dict[str, Any]


class Event(dict[str, Any]):
    """One event from the server, with the exact bytes it came as."""

    def __init__(self, values: Values, raw: bytes) -> None:
        super().__init__(values)
        self.raw = raw

    @property
    def name(self) -> str:
        return str(self["event"])


def open_socket(url: str, *subprotocols: str, **options: Any) -> ClientConnection:
    """A WebSocket without any event sent on it."""
    offered = [Subprotocol(name) for name in subprotocols] or None
    options = {"compression": None, "proxy": None, "ping_interval": None, "close_timeout": 2} | options
    return connect(url, subprotocols=offered, max_size=2_000_000, legacy=True, **options)


class Peer:
    """One connection; `inbox` holds what came and was not yet taken by `expect`."""

    def __init__(self, url: str, codec: str = "json", subprotocol: bool = True, **options: Any) -> None:
        self.codec = codec
        names = (f"chatkit.v1.{codec}",) if subprotocol else ()
        self.socket = open_socket(url, *names, **options)
        self.inbox: list[Event] = []
        self.frames: list[bytes] = []
        self.user = self.device = ""
        self.welcome: Values = {}
        self._refs = itertools.count(1)

    # -- sending

    def send(self, *events: Values) -> None:
        """One event as itself, several as one array."""
        self.send_raw(self.encode(events[0] if len(events) == 1 else list(events)))

    def send_raw(self, frame: bytes | str) -> None:
        self.socket.send(frame, text=self.codec == "json")

    def encode(self, value: Any) -> bytes:
        return msgspec.json.encode(value) if self.codec == "json" else msgspec.msgpack.encode(value)

    def hello(self, token: str, device: str, **fields: Any) -> Event:
        """HELLO with a token; returns WELCOME."""
        self.device = device
        self.send({"event": "HELLO", "token": token, "deviceId": device, **fields})
        return self._welcomed()

    def resume(self, resume_token: str, device: str) -> Event:
        """HELLO with a resume token; returns WELCOME."""
        self.device = device
        self.send({"event": "HELLO", "resumeToken": resume_token, "deviceId": device})
        return self._welcomed()

    def _welcomed(self) -> Event:
        self.welcome = welcome = self.expect("WELCOME")
        self.user = welcome["userId"]
        return welcome

    def heads(self) -> list[Values]:
        """The rows of all HEADS pages up to the one that says no more."""
        rows: list[Values] = []
        while True:
            page = self.expect("HEADS")
            rows += page["conversations"]
            if not page["more"]:
                return rows

    def say(self, conversation: str, payload: str | Values, key: str | None = None) -> Event:
        """SEND_MSG; returns its MSG_ACK."""
        key = key if key is not None else f"k{next(self._refs)}-{time.monotonic_ns()}"
        self.send(send_msg(conversation, payload, key))
        return self.expect("MSG_ACK", clientMsgId=key)

    def ask(self, event: str, ref: str | None = None, **fields: Any) -> Event:
        """Send an event with a (fresh) ref; returns whatever carries that ref."""
        ref = ref or f"r{next(self._refs)}"
        self.send({"event": event, "ref": ref, **fields})
        return self.expect(None, ref=ref)

    def sync(self, conversation: str, last_seq: int = 0, **fields: Any) -> Event:
        """One SYNC_PAGE."""
        page = self.ask("SYNC", conversationId=conversation, lastSeq=last_seq, **fields)
        assert page.name == "SYNC_PAGE", page
        return page

    def ping(self) -> None:
        """PING and its PONG: everything this connection sent before was read by the server."""
        answer = self.ask("PING")
        assert answer.name == "PONG", answer

    # -- receiving

    def expect(
        self,
        name: str | None,
        where: Callable[[Event], bool] | None = None,
        *,
        timeout: float = WAIT_S,
        **fields: Any,
    ) -> Event:
        """Take the first event that fits, waiting for it; the others stay in `inbox`."""
        deadline = time.monotonic() + timeout
        start = 0
        while True:
            for index in range(start, len(self.inbox)):
                if _fits(self.inbox[index], name, where, fields):
                    return self.inbox.pop(index)
            start = len(self.inbox)
            try:
                self._read(deadline - time.monotonic())
            except TimeoutError:
                got = [_short(event) for event in self.inbox[-10:]]
                raise AssertionError(
                    f"{self.user}/{self.device}: no {name} {fields}; inbox ends {got}"
                ) from None

    def seen(self, name: str, **fields: Any) -> list[Event]:
        """The events in the inbox that fit; reads nothing."""
        return [event for event in self.inbox if _fits(event, name, None, fields)]

    def close_code(self, timeout: float = WAIT_S) -> int:
        """Read until the server closes; the code it closed with."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self._read(deadline - time.monotonic())
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006

    def answer_or_close(self) -> Event | int:
        """The next event, or the code the server closed with instead."""
        try:
            return self.expect(None)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006

    def send_or_close(self, frame: Any) -> Event | int:
        """Send a frame that the server may hang up on while it is still being written."""
        try:
            self.socket.send(frame, text=self.codec == "json")
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006
        return self.answer_or_close()

    def bytes_since(self, frame_count: int) -> bytes:
        """Every byte received after the first `frame_count` frames."""
        return b"\n".join(self.frames[frame_count:])

    def close(self) -> None:
        self.socket.close()

    def _read(self, timeout: float) -> None:
        frame = self.socket.recv(timeout=max(timeout, 0), decode=False)
        assert isinstance(frame, bytes)
        assert len(frame) <= 1_000_000, "no frame exceeds 1,000,000 bytes"
        self.frames.append(frame)
        self.inbox += parse(frame, self.codec)


def parse(frame: bytes, codec: str) -> list[Event]:
    """The events of one frame, each with its own bytes."""
    module = msgspec.json if codec == "json" else msgspec.msgpack
    decoded = module.decode(frame)
    if isinstance(decoded, dict):
        return [Event(decoded, frame)]
    raws = module.decode(frame, type=list[msgspec.Raw])
    return [Event(value, bytes(raw)) for value, raw in zip(decoded, raws, strict=True)]


def text(value: str) -> Values:
    """A TEXT payload."""
    return {"type": "TEXT", "text": value}


def send_msg(conversation: Any, payload: Any, key: Any, **fields: Any) -> Values:
    """A SEND_MSG event; a plain string becomes a TEXT."""
    body = text(payload) if isinstance(payload, str) else payload
    return {
        "event": "SEND_MSG",
        "conversationId": conversation,
        "clientMsgId": key,
        "payload": body,
        **fields,
    }


def _fits(event: Event, name: str | None, where: Callable[[Event], bool] | None, fields: Values) -> bool:
    if name is not None and event.get("event") != name:
        return False
    if any(field not in event or event[field] != value for field, value in fields.items()):
        return False
    return where is None or where(event)


def _short(event: Event) -> str:
    shown = str(dict(event))
    return shown if len(shown) < 300 else shown[:300] + "..."
