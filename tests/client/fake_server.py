"""A server that a test plays by hand: it accepts connections, sees every event, and answers what the test says."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

import anyio
import msgspec

from chatkit import ChatClient, ClientConfig
from chatkit.client.events import ChatEvent
from chatkit.transport.base import TransportClosedError
from chatkit.wire import events as ev
from chatkit.wire.codec import CODECS, BadItem

from .foretold import foretold_ports

_E = TypeVar("_E")

EPOCH = "e1"
HEARTBEAT_MS = 30_000


class Line:
    """One connection, from the server's end; the client's transport too."""

    def __init__(self, subprotocol: str) -> None:
        self.codec = CODECS[subprotocol]
        self.received: deque[ev.ClientEvent] = deque()
        self.frames: list[list[ev.ClientEvent]] = []
        self.ended: TransportClosedError | None = None
        self.stuck = False
        self._to_client: deque[bytes | str] = deque()
        self._changed = anyio.Event()

    # --- the client's end ---

    async def receive(self) -> bytes | str:
        while not self._to_client:
            if self.ended is not None:
                raise self.ended
            await self._changed.wait()
        return self._to_client.popleft()

    async def send(self, frame: bytes | str) -> None:
        while self.stuck:
            await self._changed.wait()
        if self.ended is not None:
            raise self.ended
        assert isinstance(frame, bytes) is self.codec.binary
        assert len(frame) <= ev.FRAME_BYTES_MAX
        events = []
        for event in self.codec.client_events(frame):
            assert not isinstance(event, BadItem), event
            events.append(event)
        self.frames.append(events)
        self.received.extend(events)
        self._change()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.close(code, reason)

    # --- the test's end ---

    def push(self, *events: Any) -> None:
        """Send one frame with these events."""
        frame = self.codec.join([self.codec.encode(event) for event in events])
        self._to_client.append(frame if self.codec.binary else frame.decode())
        self._change()

    def push_text(self, frame: str) -> None:
        """Send what no encoder would write."""
        self._to_client.append(frame)
        self._change()

    def close(self, code: int, reason: str = "") -> None:
        if self.ended is None:
            self.ended = TransportClosedError(code, reason)
        self._change()

    async def expect(self, kind: type[_E]) -> _E:
        """The next event of the client that is no PING; it must be of this kind."""
        while True:
            event = await self._next()
            if isinstance(event, ev.Ping) and kind is not ev.Ping:
                continue
            assert isinstance(event, kind), event
            return event

    async def quiet(self, seconds: float) -> None:
        """Fail if the client says anything but PING for so long."""
        await anyio.sleep(seconds)
        assert [event for event in self.received if not isinstance(event, ev.Ping)] == []

    async def log_in(self, *heads: ev.Head, user_id: str = "u-1", resumed: bool = False) -> ev.Hello:
        """Answer the HELLO with WELCOME and all heads."""
        hello = await self.expect(ev.Hello)
        self.push(welcome(hello.device_id, user_id, resumed), ev.Heads(list(heads), False))
        return hello

    async def page(self, *messages: Any, up_to: int, head: int | None = None, epoch: str = EPOCH) -> ev.Sync:
        """Answer the next SYNC."""
        sync = await self.expect(ev.Sync)
        entries = [entry(message) for message in messages]
        top = up_to if head is None else head
        self.push(ev.SyncPage(sync.conversation_id, epoch, top, entries, up_to, up_to < top, ref=sync.ref))
        return sync

    async def _next(self) -> ev.ClientEvent:
        while not self.received:
            if self.ended is not None:
                raise AssertionError(f"the client is gone: {self.ended}")
            await self._changed.wait()
        return self.received.popleft()

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class FakeServer:
    """A `Connector`; each connection is a `Line` (or another `kind` of it) that the test accepts."""

    def __init__(self, kind: type[Line] = Line) -> None:
        self._kind = kind
        self.refusals: deque[TransportClosedError] = deque()
        self.tries = 0
        self._lines: deque[Line] = deque()
        self._came = anyio.Event()

    async def connect(self, subprotocol: str) -> Line:
        self.tries += 1
        await anyio.sleep(0)
        if self.refusals:
            raise self.refusals.popleft()
        line = self._kind(subprotocol)
        self._lines.append(line)
        self._came.set()
        return line

    async def accept(self) -> Line:
        """The next connection."""
        while not self._lines:
            self._came = anyio.Event()
            await self._came.wait()
        return self._lines.popleft()


def client(server: FakeServer, **options: Any) -> ChatClient:
    """A client of the fake server on virtual time."""
    options.setdefault("token", "secret-token")
    options.setdefault("device_id", "phone")
    options.setdefault("config", ClientConfig())
    options.setdefault("ports", foretold_ports())
    return ChatClient("ws://chat.test", connector=server, **options)


def welcome(device_id: str = "phone", user_id: str = "u-1", resumed: bool = False) -> ev.Welcome:
    return ev.Welcome(user_id, device_id, "s-1", "resume-1", resumed, None, HEARTBEAT_MS, 0)


def head(
    head_seq: int,
    *,
    delivered: int = 0,
    id_: str = "c-1",
    epoch: str = EPOCH,
    read: int = 0,
    others: tuple[int, int] = (0, 0),
    type_: Any = "GROUP",
    first: int = 1,
) -> ev.Head:
    return ev.Head(id_, type_, epoch, head_seq, first, delivered, read, *others)


def message_id(seq: int, epoch: str = EPOCH) -> str:
    """As the server's: what was written under another epoch has another id."""
    return f"m-{seq}" if epoch == EPOCH else f"m-{epoch}-{seq}"


def new(
    seq: int,
    *,
    sender: str = "u-2",
    id_: str = "c-1",
    epoch: str = EPOCH,
    payload: dict[str, Any] | None = None,
    key: str | None = None,
) -> ev.NewMsg:
    raw = msgspec.Raw(msgspec.json.encode(payload or {"type": "TEXT", "text": f"t{seq}"}))
    client_msg_id = msgspec.UNSET if key is None else key
    return ev.NewMsg(id_, epoch, message_id(seq, epoch), seq, sender, 1000 + seq, raw, client_msg_id)


def recall(seq: int, target: int, by: str = "u-2") -> ev.NewMsg:
    return new(seq, payload={"type": "RECALL", "messageId": f"m-{target}", "seq": target, "by": by})


def entry(message: ev.NewMsg) -> ev.LogEntry:
    return ev.LogEntry(**msgspec.structs.asdict(message))


def ack(send: ev.SendMsg, seq: int, epoch: str = EPOCH) -> ev.MsgAck:
    return ev.MsgAck(send.conversation_id, epoch, message_id(seq, epoch), seq, 1000 + seq, send.client_msg_id)


def error(send: ev.SendMsg, code: str, *, retryable: bool, after_ms: int | None = None) -> ev.ErrorEvent:
    return ev.ErrorEvent(
        code,
        code,
        retryable,
        msgspec.UNSET if after_ms is None else after_ms,
        conversation_id=send.conversation_id,
        client_msg_id=send.client_msg_id,
    )


async def until(chat: ChatClient, kind: type[_E]) -> tuple[_E, list[ChatEvent]]:
    """Consume events up to one of this kind; returns it and those before."""
    before: list[ChatEvent] = []
    async for event in chat.events():
        if isinstance(event, kind):
            return event, before
        before.append(event)
    raise AssertionError(f"the events ended without {kind.__name__}; came {before}")
