"""A session driven straight from the event loop: what it reads, writes and ends, on a line that the test holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import anyio
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from chatkit import ChatServer, Identity, asgi_app
from chatkit.core.connection import State
from chatkit.gateway import fair_connection, websocket_session
from chatkit.gateway.fair_connection import strangers_of
from chatkit.gateway.framing import head_of
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol
from chatkit.gateway.websocket_session import SessionProtocol
from chatkit.ports import Ports, SystemIds
from chatkit.server.login_request import LoginRequest
from chatkit.server.session import Services, Session
from chatkit.storage.memory import MemoryStore
from chatkit.wire.codec import JSON, Codec

from .both_ways import BOTH_WAYS
from .test_framing import masked
from .test_mounting import running

FULL = 1_000


class Line(asyncio.Transport):
    """A connection whose peer the test is."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.closed = self.aborted = self.ended = self.peer_gone = False
        self.protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        assert not self.closed
        assert not self.ended
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def write_eof(self) -> None:
        self.ended = True
        if self.peer_gone:
            raise OSError(107, "not connected")

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def say(self, data: bytes) -> None:
        """The peer sends; at most as much as is asked for at once."""
        while data:
            assert self.reading
            into = self.protocol.get_buffer(-1)
            count = min(len(into), len(data))
            into[:count] = data[:count]
            self.protocol.buffer_updated(count)
            data = data[count:]

    def taken(self) -> bytes:
        """What the peer has read since the last time."""
        data, self.written = b"".join(self.written), []
        return data


class Notes:
    """A session's services, and a server of sessions: notes what happens, and fails when told to."""

    ports = Ports()

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.ends = 0
        self.failing: Callable[[], None] = lambda: None
        self.session: Session

    def connect(self, codec: Codec, wake: Callable[[], None], request: LoginRequest) -> Session:
        self.session = Noted(self, codec, wake)
        return self.session

    def disconnected(self, session: Session) -> None:
        assert session is self.session
        self.ends += 1
        session.end()

    def ended(self, session: Session) -> None: ...


class Noted(Session):
    """Notes frames instead of decoding them."""

    __slots__ = ("_notes",)

    def __init__(self, notes: Notes, codec: Codec, wake: Callable[[], None]) -> None:
        super().__init__("s-1", codec, cast(Services, notes), now_s=0.0, buffer_bytes_max=FULL, wake=wake)
        self._notes = notes

    def received(self, frame: bytes | str, now_s: float, *, is_text: bool | None = None) -> None:
        if not self.closed:
            assert is_text
            self._notes.failing()
            self._notes.got.append(frame if isinstance(frame, bytes) else frame.encode())

    def next_frame(self) -> bytes | None:
        self._notes.failing()
        return super().next_frame()


class House:
    """A uvicorn server's state, and connections in it."""

    def __init__(self) -> None:
        self.state = ServerState()

    def open(self, *, logged_in: bool = True) -> tuple[Line, Notes, SessionProtocol]:
        line, notes = Line(), Notes()
        protocol = SessionProtocol(
            line, self.state, cast(ChatServer, notes), JSON, LoginRequest(), frame_bytes_max=100_000
        )
        if logged_in:
            notes.session.state = State.OPEN
            protocol.write()
        return line, notes, protocol


async def turn() -> None:
    """Let what was woken be written."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def until_read(line: Line) -> None:
    """Let a stranger's turn come; on a busy machine it takes a while."""
    with anyio.fail_after(10):
        while not line.reading:
            await asyncio.sleep(0)


def text(data: bytes) -> bytes:
    return head_of(len(data), binary=False) + data


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_all_that_is_said_in_a_turn_leaves_in_one_write() -> None:
    house = House()
    lines = [house.open() for _ in range(3)]
    for _, notes, _ in lines:
        for data in (b"1", b"2", b"3"):
            assert notes.session.offer(data)
    assert not any(line.written for line, _, _ in lines)
    await turn()
    assert [line.written for line, _, _ in lines] == [[text(b"[1,2,3]")]] * 3


async def test_large_answers_leave_in_frames_that_go_together() -> None:
    line, notes, _ = House().open()
    notes.session._buffer_bytes_max = 10**6
    for _ in range(4):
        notes.session.offer(b"x" * 20_000)
    await turn()
    assert line.written == [text(b"x" * 20_000) * 4]


async def test_a_peer_that_does_not_read_is_written_no_more_than_the_transport_takes() -> None:
    line, notes, protocol = House().open()
    protocol.pause_writing()
    for _ in range(3):
        notes.session.offer(b"1")
    await turn()
    assert (line.written, notes.session.buffered_bytes) == ([], 3)
    protocol.resume_writing()
    await turn()
    assert line.taken() == text(b"[1,1,1]")


async def test_a_peer_that_pings_and_does_not_read_is_owed_one_pong() -> None:
    line, _, protocol = House().open()
    line.say(masked(0x89, b"at once"))
    assert line.taken() == b"\x8a\x07at once"
    protocol.pause_writing()
    for number in range(9):
        line.say(masked(0x89, b"%d" % number))
    assert line.written == []
    protocol.resume_writing()
    await turn()
    assert line.taken() == b"\x8a\x018"


async def test_a_pong_that_waits_does_not_follow_a_close() -> None:
    line, _, protocol = House().open()
    protocol.pause_writing()
    line.say(masked(0x89, b"1"))
    line.say(masked(0x88, b"\x03\xe8"))
    assert line.taken() == b"\x88\x02\x03\xe8"
    protocol.resume_writing()
    assert line.written == []


async def test_a_transport_that_is_full_in_the_middle_gets_no_more() -> None:
    line, notes, protocol = House().open()
    notes.session._buffer_bytes_max = 10**6
    for _ in range(10):
        notes.session.offer(b"x" * 30_000)
    write = line.write

    def write_and_be_full(data: Any) -> None:
        write(data)
        protocol.pause_writing()

    line.write = write_and_be_full  # type: ignore[method-assign]
    await turn()
    assert line.taken() == text(b"x" * 30_000) * 3
    assert notes.session.buffered_bytes == 7 * 30_000


async def test_who_does_not_read_answers_is_not_read_until_they_drain() -> None:
    line, notes, protocol = House().open()
    protocol.pause_writing()

    def answer() -> None:
        if not notes.got:
            notes.session._append(b"x" * (FULL + 1))

    notes.failing = answer
    line.say(masked(0x81, b"a") + masked(0x81, b"b") + masked(0x88, b"")[:3])
    assert (notes.got, line.reading) == ([b"a"], False)
    await turn()
    assert (notes.got, line.reading) == ([b"a"], False)
    protocol.resume_writing()
    await turn()
    assert (notes.got, line.reading) == ([b"a", b"b"], True)
    line.say(masked(0x88, b"")[3:])
    assert (notes.ends, line.closed) == (1, True)


async def test_a_peer_that_closes_is_answered_and_the_session_ends_once() -> None:
    house = House()
    line, notes, protocol = house.open()
    assert protocol in house.state.connections
    line.say(masked(0x81, b"a") + masked(0x88, (1000).to_bytes(2, "big")))
    assert (notes.got, line.taken(), notes.ends, line.closed) == ([b"a"], b"\x88\x02\x03\xe8", 1, True)
    protocol.connection_lost(None)
    assert notes.ends == 1
    assert not house.state.connections


async def test_a_socket_that_is_lost_ends_the_session_once() -> None:
    house = House()
    _, notes, protocol = house.open(logged_in=False)
    assert len(strangers_of(house.state)) == 1
    protocol.connection_lost(ConnectionResetError())
    notes.session.offer(b"1")
    await turn()
    assert notes.ends == 1
    assert len(strangers_of(house.state)) == 0


async def test_what_is_buffered_leaves_before_the_close_frame_and_the_answer_ends_the_connection() -> None:
    line, notes, _ = House().open()
    notes.session.offer(b"1")
    notes.session.close(4203, "no")
    await turn()
    assert line.taken() == text(b"1") + b"\x88\x04\x10\x6bno"
    assert (notes.ends, line.closed) == (1, False)
    line.say(masked(0x81, b"late") + masked(0x88, (4203).to_bytes(2, "big")))
    assert (notes.got, line.closed, notes.ends) == ([], True, 1)


async def test_who_never_answers_a_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_connection, "LINGER_S", 0.0)
    line, notes, _ = House().open()
    notes.session.close(4203, "no")
    await turn()
    await asyncio.sleep(0.01)
    assert line.aborted


async def test_who_does_not_read_their_close_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_session, "CLOSE_TIMEOUT_S", 0.0)
    line, notes, protocol = House().open()
    protocol.pause_writing()
    notes.session.close(4203, "no")
    await turn()
    await asyncio.sleep(0.01)
    assert (line.written, notes.ends, line.closed) == ([], 1, True)
    protocol.connection_lost(None)
    assert notes.ends == 1


async def test_who_reads_in_time_gets_their_close(monkeypatch: pytest.MonkeyPatch) -> None:
    line, notes, protocol = House().open()
    protocol.pause_writing()
    notes.session.close(4203, "no")
    await turn()
    protocol.resume_writing()
    await turn()
    assert line.taken() == b"\x88\x04\x10\x6bno"
    assert notes.ends == 1


async def test_what_comes_without_end_after_the_close_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_connection, "LINGER_BYTES_MAX", 100_000)
    line, notes, protocol = House().open()
    notes.session.close(4203, "no")
    await turn()
    while not line.aborted:
        await turn()  # those who are waited for no more are read by turns
        if line.reading:
            line.say(b"\x81\xfe\x40\x00" + b"x" * 5_000)
    assert protocol._deaf
    assert line.aborted


@pytest.mark.parametrize("peer_gone", [False, True])
async def test_who_breaks_the_protocol_is_told_and_lingers(peer_gone: bool) -> None:
    line, notes, protocol = House().open()
    line.peer_gone = peer_gone
    line.say(masked(0x81, b"a") + b"\x81\x01")
    assert notes.got == [b"a"]
    assert line.taken().startswith(b"\x88")
    assert (notes.ends, line.ended, line.closed, protocol._deaf) == (1, True, False, True)


@pytest.mark.parametrize("when", ["reading", "writing"])
async def test_a_failure_is_logged_and_answered_with_1011(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    line, notes, _ = House().open()
    other, others_notes, _ = House().open()

    def fail() -> None:
        raise RuntimeError("a bug")

    notes.failing = fail
    if when == "reading":
        line.say(masked(0x81, b"a") + masked(0x81, b"b"))
    else:
        notes.session.offer(b"1")
    others_notes.session.offer(b"2")
    await turn()
    assert line.taken() == b"\x88\x13\x03\xf3the server failed"
    assert (notes.ends, notes.got) == (1, [])
    assert "session s-1: its connection failed" in caplog.text
    assert other.taken() == text(b"2")


async def test_a_failure_at_the_end_of_one_keeps_nobody_from_being_written() -> None:
    house = House()
    broken, sound = house.open(), house.open()
    for _, notes, _ in (broken, sound):
        notes.session.offer(b"1")
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))

    def fail(session: Session) -> None:
        raise RuntimeError("a bug")

    broken[1].disconnected = fail  # type: ignore[method-assign]
    broken[1].session.close(4203, "no")
    await turn()
    await turn()
    assert sound[0].taken() == text(b"1")
    assert [str(error) for error in heard] == ["a bug"]


async def test_a_server_that_ends_says_so() -> None:
    line, notes, protocol = House().open()
    protocol.shutdown()
    assert line.taken() == b"\x88\x02\x03\xf4"
    assert (notes.ends, line.closed) == (1, True)


async def test_a_stranger_is_read_in_small_slices_by_turns_until_they_are_logged_in() -> None:
    house = House()
    line, notes, protocol = house.open(logged_in=False)
    assert len(protocol.get_buffer(-1)) == 512
    line.say(masked(0x81, b"a"))
    assert (notes.got, line.reading) == ([], False)
    await until_read(line)
    assert notes.got == [b"a"]
    notes.session.state = State.OPEN
    notes.session.offer(b"welcome")
    await turn()
    assert line.taken() == text(b"welcome")
    assert len(protocol.get_buffer(-1)) > 512
    assert len(strangers_of(house.state)) == 0
    line.say(masked(0x81, b"x" * 50_000))
    assert notes.got[1:] == [b"x" * 50_000]


async def test_a_stranger_sends_small_messages_only() -> None:
    line, notes, _ = House().open(logged_in=False)
    line.say(masked(0x81, b"x" * 30_000)[:500])
    await until_read(line)
    assert (line.taken()[2:4], notes.got, notes.ends) == ((1009).to_bytes(2, "big"), [], 1)


# --- on a real uvicorn ---

SEEN: ContextVar[str] = ContextVar("SEEN", default="nothing")


async def said_by(way: str, *, offer_compression: bool) -> tuple[set[str], list[str], str]:
    """Which kinds of connections uvicorn has while a client is there, what its authenticator saw, and WELCOME."""
    seen: list[str] = []

    async def by_name(token: str) -> Identity:
        seen.append(SEEN.get())
        return Identity(token)

    app = asgi_app(ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=by_name))
    config = uvicorn.Config(
        with_word(app),
        port=0,
        log_config=None,
        http=ChatHttpProtocol,
        ws=ChatWebSocketProtocol,
        **BOTH_WAYS[way],
    )
    states: list[ServerState] = []
    made = ServerState.__init__

    def noted(state: ServerState) -> None:
        made(state)
        states.append(state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerState, "__init__", noted)
        async with running(config) as port:
            compression = "deflate" if offer_compression else None
            async with connect(
                f"ws://127.0.0.1:{port}/v1/ws",
                subprotocols=[JSON.subprotocol],  # type: ignore[list-item]
                proxy=None,
                compression=compression,
            ) as link:
                await link.send('{"event":"HELLO","token":"ann","deviceId":"phone"}')
                welcome = str(await link.recv())
                kinds = {type(it).__name__ for state in states for it in state.connections}
    return kinds, seen, welcome


def with_word(app: ASGIApp) -> ASGIApp:
    """A host's middleware that says something to whatever runs inside."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        SEEN.set("the word")
        await app(scope, receive, send)

    return wrapped


@pytest.mark.parametrize(
    ("way", "offer_compression", "kind"),
    [
        ("straight", False, "SessionProtocol"),
        ("straight", True, "SessionProtocol"),  # it is not agreed on
        ("through ASGI", False, "ChatWebSocketProtocol"),
        ("through ASGI", True, "ChatWebSocketProtocol"),
    ],
)
async def test_settings_lead_to_a_road_and_an_authenticator_sees_its_middleware_on_both(
    way: str, offer_compression: bool, kind: str
) -> None:
    kinds, seen, welcome = await said_by(way, offer_compression=offer_compression)
    assert kinds == {kind}
    assert seen == ["the word"]
    assert "WELCOME" in welcome


async def test_compression_that_is_agreed_on_goes_through_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOTH_WAYS, "compressed", {"ws_ping_interval": None, "ws_per_message_deflate": True})
    assert (await said_by("compressed", offer_compression=True))[0] == {"ChatWebSocketProtocol"}
    assert (await said_by("compressed", offer_compression=False))[0] == {"SessionProtocol"}


@pytest.mark.parametrize("way", BOTH_WAYS)
def test_a_host_that_never_heard_of_anyio_may_run_it(way: str) -> None:
    kinds, _, welcome = asyncio.run(said_by(way, offer_compression=False))
    assert len(kinds) == 1
    assert "WELCOME" in welcome
