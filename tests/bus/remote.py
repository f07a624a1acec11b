"""What every bus with a server does when something goes wrong there: subclass `RemoteFaults`, with its fixtures.

The servers are real processes that are killed and frozen. Nothing sleeps for a time: what must happen is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import anyio
import anyio.to_thread
import pytest

from chatkit.bus._names import name_of
from chatkit.bus._remote import RemoteMember
from chatkit.bus.base import Connects, Lost, Message
from chatkit.errors import ConfigurationError
from chatkit.testing.contracts.bus import Ear, listening
from tests.servers.process import ServerProcess, free_port

WAIT_S = 30.0

AWKWARD = [
    ".",
    "..",
    "*",
    ">",
    "c.*",
    "c.>",
    "a b",
    "\t",
    "\r\nPUB x 0\r\n",
    "\x00",
    "\x7f",
    "$SYS.REQ",
    "?[a-z]",
    "ä",
    "日本",
    "🙂" * 200,
    "\udc80",
    "A",
    "a",
    "x" * 199,
    "x" * 200,
    "=",
    "+/",
    "-_",
]


class Raw(Protocol):
    """A connection that is no member: it says what it likes."""

    def publish(self, name: str, data: bytes) -> None:
        """Publish, and return when the server has taken it."""

    def close(self) -> None: ...


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Real time, on both event loops; for the modules of the adapters."""
    return "asyncio", {"use_uvloop": request.param}


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(WAIT_S):
        while not true():
            await anyio.sleep(0.01)


def sockets() -> set[str]:
    """The sockets of this process."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:  # the one that lists them
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No task and no socket is more than before."""
    await anyio.lowlevel.checkpoint()
    tasks, before = asyncio.all_tasks(), sockets()
    yield
    await until(lambda: asyncio.all_tasks() <= tasks and sockets() <= before)


@contextmanager
def deaf_server(greeting: bytes = b"") -> Iterator[int]:
    """A port that takes connections and says no more than a greeting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                taken.append(connection)
                connection.sendall(greeting)

        thread = Thread(target=accept)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


class RemoteFaults:
    """Override the fixture `own` and the methods."""

    scheme: str
    module: str

    @pytest.fixture
    def own(self) -> ServerProcess:
        """A server of the test's own, running."""
        raise NotImplementedError

    def make(self, address: str, **options: Any) -> RemoteMember:
        raise NotImplementedError

    def raw(self, port: int) -> Raw:
        raise NotImplementedError

    def address(self, port: int) -> str:
        return f"{self.scheme}://127.0.0.1:{port}"

    @asynccontextmanager
    async def members(
        self, server: ServerProcess, count: int = 2, **options: Any
    ) -> AsyncIterator[list[RemoteMember]]:
        """Connected members, the last of which hears `t`; nothing is left of them."""
        made = [self.make(self.address(server.port), **options) for _ in range(count)]
        made[-1].subscribe("t")
        async with nothing_left():
            try:
                for member in made:
                    await member.connect()
                yield made
            finally:
                for member in made:
                    await member.aclose()

    async def arrives(self, speaker: RemoteMember, ear: Ear, data: bytes, topic: str = "t") -> None:
        """Say something again and again until it is heard: what was said while nobody was connected is lost."""
        with anyio.fail_after(WAIT_S):
            while data not in ear.data():
                speaker.publish(topic, data)
                await anyio.sleep(0.02)

    # --- names ---

    async def test_topics_with_every_awkward_character_are_their_own_names(self, own: ServerProcess) -> None:
        async with self.members(own, 3) as (speaker, all_ears, one), listening(all_ears) as ear:
            for topic in AWKWARD:
                all_ears.subscribe(topic)
            one.subscribe("c.*")
            await self.arrives(speaker, ear, b"there", AWKWARD[-1])
            for topic in AWKWARD:
                speaker.publish(topic, topic.encode("utf-8", "surrogatepass"))
            await ear.until(lambda: len(ear.data()) == len(AWKWARD) + 1)
            async with listening(one) as only:
                await only.until(lambda: b"c.*" in only.data())

            assert all(
                event.topic.encode("utf-8", "surrogatepass") == event.data
                for event in ear.heard
                if isinstance(event, Message) and event.data != b"there"
            )
            assert only.data() == {b"c.*"}

    async def test_who_is_connected_hears_everything_from_then_on(self, own: ServerProcess) -> None:
        async with self.members(own) as (speaker, _):
            for number in range(100):
                late = self.make(self.address(own.port))
                late.subscribe("t")
                await late.connect()
                speaker.publish("t", b"%d" % number)
                async with listening(late) as ear:
                    await ear.until(lambda ear=ear, number=number: b"%d" % number in ear.data())  # type: ignore[misc]
                await late.aclose()

    async def test_another_prefix_is_another_bus(self, own: ServerProcess) -> None:
        other = self.make(self.address(own.port), prefix="other")
        other.subscribe("t")
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            await other.connect()
            async with listening(other) as elsewhere:
                speaker.publish("t", b"here")
                await ear.until(lambda: b"here" in ear.data())
                other.publish("t", b"there")
            await other.aclose()

            assert elsewhere.heard == []
            assert ear.data() == {b"here"}

    async def test_nobody_hears_themselves(self, own: ServerProcess) -> None:
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            hearer.publish("t", b"own")
            await self.arrives(speaker, ear, b"other")

            assert ear.data() == {b"other"}

    async def test_rubbish_of_strangers_is_handed_on_and_harms_nobody(self, own: ServerProcess) -> None:
        stranger = self.raw(own.port)
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            for rubbish in (b"", b"x", b"\r\n", bytes(range(256)), b"\xff" * 1_000_000):
                await anyio.to_thread.run_sync(stranger.publish, name_of("chatkit", "t"), rubbish)
            await self.arrives(speaker, ear, b"ours")
            stranger.close()

            assert {len(data) for data in ear.data()} == {0, 248, 999_992, 4}

    # --- a server that goes and comes back ---

    async def test_a_killed_server_is_a_loss_and_all_is_as_before_when_it_is_back(
        self, own: ServerProcess
    ) -> None:
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            await self.arrives(speaker, ear, b"before")
            own.kill()
            await until(lambda: not hearer.connected and not speaker.connected)
            hearer.subscribe("new")
            hearer.unsubscribe("never")
            assert Lost() not in ear.heard, "there is nothing to be looked at yet"
            own.start()
            await self.arrives(speaker, ear, b"after")
            await self.arrives(speaker, ear, b"on the new topic", "new")

            order = [event if event == Lost() else event.data for event in ear.heard]  # type: ignore[union-attr]
            assert order.index(Lost()) < order.index(b"after")
            assert order.count(Lost()) == 1

    async def test_a_server_that_is_killed_again_and_again(self, own: ServerProcess) -> None:
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            for number in range(5):
                own.kill()
                own.start()
                await self.arrives(speaker, ear, b"%d" % number)

    async def test_publishing_without_a_connection_never_waits_and_is_counted(
        self, own: ServerProcess, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            own.kill()
            await until(lambda: not speaker.connected)
            before = speaker.dropped
            for number in range(50_000):
                speaker.publish("t", b"%d" % number)
            assert speaker.dropped == before + 50_000
            own.start()
            await until(lambda: speaker.connected and hearer.connected)
            await self.arrives(speaker, ear, b"after")

            assert ear.data() == {b"after"}, "what is old is not said later"
            assert "were not sent" in caplog.text

    async def test_before_it_is_connected_subscriptions_are_kept_and_messages_are_dropped(
        self, own: ServerProcess
    ) -> None:
        early = self.make(self.address(own.port))
        early.publish("t", b"too early")
        assert early.dropped == 1
        async with self.members(own) as (_, hearer), listening(hearer) as ear:
            await early.connect()
            await early.connect()
            await self.arrives(early, ear, b"now")
            await early.aclose()

            assert ear.data() == {b"now"}

    # --- a server that stands still ---

    async def test_a_frozen_server_fills_the_queue_and_nobody_waits(self, own: ServerProcess) -> None:
        async with self.members(own, pending_max=100) as (speaker, hearer), listening(hearer) as ear:
            await self.arrives(speaker, ear, b"before")
            own.freeze()
            with anyio.fail_after(WAIT_S):
                while not speaker.dropped:
                    speaker.publish("t", bytes(100_000))
                    await anyio.sleep(0)
            own.thaw()
            await self.arrives(speaker, ear, b"after")

    async def test_a_server_frozen_for_long_is_a_loss(
        self, own: ServerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(f"{self.module}._PING_S", 0.5)
        monkeypatch.setattr("chatkit.bus._remote.DIAL_S", 1.0)
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            await self.arrives(speaker, ear, b"before")
            own.freeze()
            await until(lambda: not hearer.connected and not speaker.connected)
            own.thaw()
            await ear.until(lambda: Lost() in ear.heard)
            await self.arrives(speaker, ear, b"after")

    # --- readers that are too slow ---

    async def test_a_reader_the_server_cuts_off_is_told_of_a_loss(
        self, own: ServerProcess, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The event loop stands still while others publish: the server does not keep it all."""
        stranger = self.raw(own.port)
        name = name_of("chatkit", "t")
        async with self.members(own) as (speaker, hearer):

            def flood() -> None:
                for _ in range(1_500):  # large ones are not counted as waiting by Valkey 9.1
                    stranger.publish(name, bytes(10_000))

            flooding = Thread(target=flood)
            flooding.start()
            flooding.join()  # blocks the event loop, as a slow host does
            stranger.close()
            async with listening(hearer) as ear:
                await ear.until(lambda: Lost() in ear.heard)
                await self.arrives(speaker, ear, b"after")
        assert "is connected again" in caplog.text, "it was the server that lost something"

    async def test_more_bytes_than_wait_for_a_reader_are_a_loss(self, own: ServerProcess) -> None:
        async with self.members(own, queue_bytes_max=1_000_000) as (speaker, hearer):
            for _ in range(20):
                speaker.publish("t", bytes(100_000))
            speaker.publish("t", b"the last")
            await until(lambda: hearer._inbox._lost)  # more has come than may wait, and nobody reads yet
            async with listening(hearer) as ear:
                await ear.until(lambda: Lost() in ear.heard)
                await self.arrives(speaker, ear, b"after")

    # --- leaving ---

    async def test_what_was_published_right_before_leaving_arrives(self, own: ServerProcess) -> None:
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            for number in range(1_000):
                speaker.publish("t", b"%d" % number)
            await speaker.aclose()
            await ear.until(lambda: len(ear.data()) == 1_000)

            assert speaker.dropped == 0

    async def test_leaving_without_ever_being_connected(self) -> None:
        async with nothing_left():
            member = self.make(self.address(1))
            await member.aclose()
            await member.aclose()
            member.subscribe("t")
            member.publish("t", b"")
            assert [event async for event in member.events()] == []
            with pytest.raises(ConfigurationError, match="was left"):
                await member.connect()

    async def test_leaving_while_the_server_is_gone(self, own: ServerProcess) -> None:
        async with self.members(own) as (speaker, hearer):
            own.kill()
            await until(lambda: not speaker.connected and not hearer.connected)
            with anyio.fail_after(3):
                await speaker.aclose()
                await hearer.aclose()

    async def test_leaving_while_the_server_stands_still_and_much_is_waiting(
        self, own: ServerProcess
    ) -> None:
        async with self.members(own) as (speaker, hearer), listening(hearer) as ear:
            await self.arrives(speaker, ear, b"before")
            own.freeze()
            for _ in range(150):
                speaker.publish("t", bytes(100_000))
                await anyio.sleep(0)
            with anyio.fail_after(6):
                await speaker.aclose()
                await hearer.aclose()

    async def test_leaving_while_it_connects(self) -> None:
        async with nothing_left():
            with deaf_server() as port:
                async with anyio.create_task_group() as tasks:
                    member = self.make(self.address(port))
                    tasks.start_soon(member.connect)
                    await anyio.wait_all_tasks_blocked()
                    await member.aclose()
                    tasks.cancel_scope.cancel()

    async def test_two_leave_at_once(self, own: ServerProcess) -> None:
        async with self.members(own) as (speaker, _), anyio.create_task_group() as tasks:
            tasks.start_soon(speaker.aclose)
            tasks.start_soon(speaker.aclose)

    # --- set-up that is wrong ---

    async def test_a_server_that_is_not_there_is_wrong_set_up(self) -> None:
        port = free_port()
        async with nothing_left():
            member = self.make(f"{self.scheme}://user:secret@127.0.0.1:{port}")
            with (
                anyio.fail_after(6),
                pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*") as refused,
            ):
                await member.connect()
            await member.aclose()
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "greeting",
        [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 100_000, b"INFO {}\r\n", b"INFO {\r\n"],
    )
    async def test_a_port_where_something_else_listens(
        self, greeting: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatkit.bus._remote.DIAL_S", 1.0)
        async with nothing_left():
            with deaf_server(greeting) as port:
                member = self.make(self.address(port))
                with anyio.fail_after(8), pytest.raises(ConfigurationError, match="cannot be reached"):
                    await member.connect()
                await member.aclose()

    async def test_it_is_a_bus_to_be_connected(self) -> None:
        assert isinstance(self.make(self.address(1)), Connects)

    @pytest.fixture(autouse=True)
    def _no_errors_in_the_log(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        caplog.set_level(logging.DEBUG)
        yield
        bad = [it for it in caplog.get_records("call") if it.levelno >= logging.ERROR]
        assert not bad, [f"{it.name}: {it.getMessage()} {it.exc_info}" for it in bad]
