"""The contract of every connector to a server: subclass `TransportContract` and override its fixture `connector`.

    class TestMyTransport(TransportContract):
        @pytest.fixture
        async def connector(self, server):
            async with listening(server) as address:
                yield MyConnector(address)

The other end is a real server (`server`), which takes any token for the id of a user. Frames are written and read here
by hand, without the client, so that only the connection is judged: whole frames, in order, one honest end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest

from ...assemble import open_store
from ...server.config import ServerConfig
from ...server.limits import Limits
from ...server.server import ChatServer
from ...transport.base import Connector, Transport, TransportClosedError
from ...types import Identity
from ...wire import events as ev
from ...wire.codec import JSON, MSGPACK, Codec

DEADLINE_S = 20.0
"""Nothing here takes so long, but what is broken may never end."""

LARGE_TEXT = "到" * 20_000
"""60,000 bytes, nearly the largest payload."""

_E = TypeVar("_E", bound=ev.Event)


async def by_name(token: str) -> Identity:
    """The login of the contract's server: a token is the id of its user."""
    return Identity(token)


class Peer:
    """One connection, spoken by hand.

    Args:
        transport: An open one.
        codec: What its frames are encoded with.
    """

    def __init__(self, transport: Transport, codec: Codec) -> None:
        self.transport = transport
        self._codec = codec
        self._heard: list[ev.ServerEvent] = []

    async def say(self, *events: ev.ClientEvent) -> None:
        """Send one frame with these events."""
        frame = self._codec.join([self._codec.encode(event) for event in events])
        await self.transport.send(frame if self._codec.binary else frame.decode())

    async def hear(self, kind: type[_E], count: int = 1) -> list[_E]:
        """The next events of this kind; others before and between them are passed over."""
        found: list[_E] = []
        with anyio.fail_after(DEADLINE_S):
            while len(found) < count:
                event = await self._next()
                if isinstance(event, kind):
                    found.append(event)
        return found

    async def end(self) -> TransportClosedError:
        """How the connection ended; frames before that are kept for `hear`."""
        with anyio.fail_after(DEADLINE_S), pytest.raises(TransportClosedError) as ended:
            await self._read_on()
        return ended.value

    async def log_in(self, user_id: str, device_id: str = "phone") -> None:
        """Say HELLO and wait until it is answered completely."""
        await self.say(ev.Hello(device_id=device_id, token=user_id))
        await self.hear(ev.Heads)

    async def _read_on(self) -> None:
        while True:
            self._take(await self.transport.receive())

    async def _next(self) -> ev.ServerEvent:
        while not self._heard:
            self._take(await self.transport.receive())
        return self._heard.pop(0)

    def _take(self, frame: bytes | str) -> None:
        assert isinstance(frame, bytes) is self._codec.binary, "JSON travels as text, MessagePack as bytes"
        self._heard += self._codec.server_events(frame)


def texts(events: Sequence[ev.NewMsg | ev.LogEntry], codec: Codec) -> list[str]:
    """The texts of log entries, without those that are no texts."""
    payloads = [codec.payload(event.payload) for event in events]
    return [payload["text"] for payload in payloads if payload["type"] == "TEXT"]


def large(key: object) -> ev.SendMsg:
    """A message of nearly the largest size, to the contract's conversation."""
    return ev.SendMsg("c-1", str(key), {"type": "TEXT", "text": f"{key} {LARGE_TEXT}"})


class TransportContract:
    """All that a connector and its transports promise, as tests."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def server(self) -> AsyncIterator[ChatServer]:
        """The other end: a server on which `ann` and `bob` have the conversation `c-1`."""
        config = ServerConfig(limits=Limits.unlimited())
        async with ChatServer(store=open_store("memory://"), authenticate=by_name, config=config) as server:
            await server.create_conversation("SINGLE", "ann", ["bob"], conversation_id="c-1")
            yield server

    @pytest.fixture
    def connector(self, server: ChatServer) -> Connector:
        """Override: a connector that leads to `server`."""
        raise NotImplementedError("override the fixture `connector`")

    @pytest.fixture(params=[JSON, MSGPACK], ids=lambda codec: codec.name)
    def codec(self, request: pytest.FixtureRequest) -> Codec:
        """Every frame is text in JSON and bytes in MessagePack."""
        codec: Codec = request.param
        return codec

    @pytest.fixture
    async def ann(self, connector: Connector, codec: Codec) -> AsyncIterator[Peer]:
        """A connection that has logged in."""
        peer = await self.connected(connector, codec)
        await peer.log_in("ann")
        yield peer
        await peer.transport.aclose()

    async def connected(self, connector: Connector, codec: Codec) -> Peer:
        """A new connection."""
        with anyio.fail_after(DEADLINE_S):
            return Peer(await connector.connect(codec.subprotocol), codec)

    async def test_large_frames_cross_whole_in_both_directions(
        self, connector: Connector, codec: Codec, ann: Peer
    ) -> None:
        bob = await self.connected(connector, codec)
        await bob.log_in("bob")
        await ann.say(*(large(key) for key in range(15)))

        assert [it.client_msg_id for it in await ann.hear(ev.MsgAck, 15)] == [str(key) for key in range(15)]
        received = texts(await bob.hear(ev.NewMsg, 15), codec)
        assert received == [f"{key} {LARGE_TEXT}" for key in range(15)]
        await bob.transport.aclose()

    async def test_frames_keep_their_order_while_both_sides_send(self, ann: Peer) -> None:
        async def ask() -> None:
            for number in range(300):
                await ann.say(ev.Ping(ref=str(number)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            answers = await ann.hear(ev.Pong, 300)
        assert [it.ref for it in answers] == [str(number) for number in range(300)]

    async def test_a_receive_that_waits_does_not_hold_up_a_send(self, ann: Peer) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ann.hear, ev.Pong)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(DEADLINE_S):
                await ann.say(ev.Ping())

    async def test_a_cancelled_receive_loses_no_frame(self, ann: Peer) -> None:
        heard: list[str] = []
        for number in range(100):
            await ann.say(ev.Ping(ref=f"a{number}"), ev.Ping(ref=f"b{number}"))
            await self.hear_until_cancelled(ann, heard, number)
        while len(heard) < 200:
            heard += [str(it.ref) for it in await ann.hear(ev.Pong)]

        assert heard == [f"{half}{number}" for number in range(100) for half in "ab"]

    async def hear_until_cancelled(self, peer: Peer, heard: list[str], number: int) -> None:
        """Receive for a few turns of the event loop and a few milliseconds, other ones each time, then cancel."""

        async def receive() -> None:
            while True:
                heard.append(str((await peer.hear(ev.Pong))[0].ref))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            for _ in range(number % 7):
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(number % 4 * 0.003)
            tasks.cancel_scope.cancel()

    async def test_answers_that_nobody_reads_are_not_lost(self, ann: Peer, codec: Codec) -> None:
        """More than the buffers between both ends hold: somebody has to wait, and goes on once they are read."""
        for start in range(0, 45, 15):
            await ann.say(*(large(key) for key in range(start, start + 15)))
            await ann.hear(ev.MsgAck, 15)
        asked = 0

        async def ask() -> None:
            nonlocal asked
            for number in range(40):
                await ann.say(ev.Sync("c-1", 1 + number, limit=1, ref=str(number)))
                asked += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            pages = await ann.hear(ev.SyncPage, 40)
        assert [texts(page.messages, codec) for page in pages] == [
            [f"{key} {LARGE_TEXT}"] for key in range(40)
        ]
        assert asked == 40

    async def test_what_was_sent_before_the_end_comes_before_it(self, ann: Peer) -> None:
        await ann.say(ev.Ping(ref="last"), ev.Hello(device_id="phone", token="ann"))  # noqa: S106 -- a user's id
        ended = await ann.end()

        assert ended.close_code == ev.CloseCode.PROTOCOL_ERROR
        assert ended.reason != ""
        assert [it.ref for it in await ann.hear(ev.Pong)] == ["last"]

    async def test_a_receive_that_waits_hears_of_the_end(
        self, connector: Connector, codec: Codec, ann: Peer
    ) -> None:
        newer = await self.connected(connector, codec)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(newer.log_in, "ann")
            ended = await ann.end()

        assert ended.close_code == ev.CloseCode.REPLACED
        await newer.transport.aclose()

    async def test_after_the_end_nothing_works_and_the_code_stays(self, ann: Peer) -> None:
        await ann.say(ev.Hello(device_id="phone", token="ann"))  # noqa: S106 -- a user's id
        first = await ann.end()

        for _ in range(2):
            with pytest.raises(TransportClosedError) as sending:
                await ann.say(ev.Ping())
            assert sending.value.close_code == first.close_code
            assert (await ann.end()).close_code == first.close_code
        await ann.transport.aclose()
        assert (await ann.end()).close_code == first.close_code

    async def test_closing_twice_is_closing_once(self, ann: Peer) -> None:
        with anyio.fail_after(DEADLINE_S):
            await ann.transport.aclose(1000, "到" * 42)  # 126 bytes, and a WebSocket carries 123
            await ann.transport.aclose(4999, "a second time")

        assert (await ann.end()).close_code == 1000
        with pytest.raises(TransportClosedError):
            await ann.say(ev.Ping())

    async def test_closing_wakes_a_receive_that_waits(self, ann: Peer) -> None:
        ends: list[Any] = []

        async def wait() -> None:
            ends.append(await ann.end())

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await ann.transport.aclose()
        assert len(ends) == 1

    async def test_connections_end_one_by_one(self, connector: Connector, codec: Codec, ann: Peer) -> None:
        other = await self.connected(connector, codec)
        await other.log_in("ann", "tablet")
        await ann.transport.aclose()

        await other.say(ev.Ping(ref="still here"))
        assert [it.ref for it in await other.hear(ev.Pong)] == ["still here"]
        await other.transport.aclose()

    async def test_a_subprotocol_that_the_server_does_not_speak_is_a_closed_connection(
        self, connector: Connector
    ) -> None:
        async def connect() -> None:
            transport = await connector.connect("chatkit.v99.json")
            await transport.receive()

        with anyio.fail_after(DEADLINE_S), pytest.raises(TransportClosedError):
            await connect()
