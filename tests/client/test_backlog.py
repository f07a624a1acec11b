"""What an earlier start left reaches the app: offline, after leaving, across refusals, reconnects and other logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit import ChatClient, ClientConfig, Delivery
from chatkit.client.events import EpochChanged, MessageReceived
from chatkit.client.store.base import Change
from chatkit.client.store.memory import MemoryStore
from chatkit.client.store.sqlite import SqliteStore
from chatkit.errors import ClosedError
from chatkit.testing.faulty_local_store import FaultyLocalStore
from chatkit.transport.base import TransportClosedError
from chatkit.types import Message
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, Line, client, entry, head, new

ADDED = {"type": "MEMBER", "op": "ADDED", "userIds": ["u-1"], "by": "u-2"}
SOON_S = 1.0


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "client.db")


class App:
    """What a handler was given, in order: the seq of an entry, or an EpochChanged."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.ids: list[str] = []
        self.ended_at_s: float | None = None

    def handle(self, delivery: Delivery) -> None:
        if isinstance(delivery.event, MessageReceived):
            self.ids.append(delivery.event.message.message_id)
        if delivery.repeats:
            self.told.append(delivery.seq or delivery.event)

    async def consume(self, chat: ChatClient) -> None:
        await chat.consume(self.handle)
        self.ended_at_s = anyio.current_time()


@asynccontextmanager
async def consuming(chat: ChatClient, app: App) -> AsyncIterator[Any]:
    """An entered client whose events the app consumes."""
    async with chat, anyio.create_task_group() as group:
        group.start_soon(app.consume, chat)
        yield group
        group.cancel_scope.cancel()


def offline() -> FakeServer:
    """A server that nobody can reach."""
    server = FakeServer()
    server.refusals.extend(TransportClosedError(1006, "down") for _ in range(1000))
    return server


def taken_seq(path: str) -> int:
    store = SqliteStore(path)
    (record,) = store.records()
    store.close()
    return record.taken_seq


async def expect_sync(line: Line) -> ev.Sync:
    while not isinstance(event := await line._next(), ev.Sync):
        pass
    return event


def page(line: Line, sync: ev.Sync, entries: Sequence[ev.NewMsg], head_seq: int, epoch: str = EPOCH) -> None:
    """Answer with what fits of a log."""
    limit = sync.limit if isinstance(sync.limit, int) else 200
    own = [it for it in entries if it.conversation_id == sync.conversation_id]
    listed = [entry(it) for it in own if it.seq > sync.last_seq][:limit]
    up_to = listed[-1].seq if len(listed) == limit else head_seq
    line.push(
        ev.SyncPage(sync.conversation_id, epoch, head_seq, listed, up_to, up_to < head_seq, ref=sync.ref)
    )


async def serve(line: Line, entries: Sequence[ev.NewMsg], head_seq: int, epoch: str = EPOCH) -> None:
    while True:
        page(line, await expect_sync(line), entries, head_seq, epoch)


def refuse(
    line: Line, sync: ev.Sync, code: str, after_ms: int | None = None, *, retryable: bool = True
) -> None:
    rest = {} if after_ms is None else {"retry_after_ms": after_ms}
    line.push(ev.ErrorEvent(code, code, retryable, **rest, ref=sync.ref, conversation_id="c-1"))


LOG = [new(1), new(2), new(3), new(10, payload=ADDED)]
"""What is visible of `c-1` after a new membership from 10 on; the store lets go of what is before it."""


async def leave_a_hole(path: str) -> None:
    """A first start that takes nothing: 1 to 3 were stored and are let go of, 10 is in the file."""
    server = FakeServer()
    async with client(server, store=path):
        line = await server.accept()
        await line.log_in(head(3))
        await line.page(*LOG[:3], up_to=3)
        await anyio.sleep(SOON_S)
        line.push(LOG[3])
        page(line, await expect_sync(line), LOG, 10)
        await anyio.sleep(SOON_S)
    store = SqliteStore(path)
    assert (store.floor("c-1"), [it.seq for it in store.untaken("c-1", 0, 99, 99)]) == (3, [10])
    store.close()


# --- what is stored ----------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("keep", [None, 8])
async def test_what_is_stored_comes_offline_and_after_leaving(
    server: FakeServer, path: str, keep: int | None, left: bool
) -> None:
    app, config = App(), ClientConfig(keep_messages_max=keep)
    async with client(server, store=path, config=config):
        line = await server.accept()
        await line.log_in(head(50))
        await line.page(*(new(seq) for seq in range(1, 51)), up_to=50)
        await anyio.sleep(SOON_S)
        if left:
            line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"))
        await anyio.sleep(SOON_S)
    async with consuming(client(offline(), store=path, config=config), app):
        await anyio.sleep(SOON_S)

    assert app.told == list(range(1, 51))
    assert taken_seq(path) == 50


async def test_what_must_be_fetched_waits_for_what_is_stored(path: str) -> None:
    await leave_a_hole(path)
    store = SqliteStore(path)
    store.save([_stored("c-2", range(1, 41))])
    app, reached = App(), FakeServer()
    reached.refusals.extend(TransportClosedError(1006, "down") for _ in range(4))
    async with consuming(client(reached, store=store), app) as group:
        await anyio.sleep(0.5)
        assert app.told == list(range(1, 41))
        line = await reached.accept()
        await line.log_in(head(10, delivered=10), head(40, delivered=40, id_="c-2"))
        group.start_soon(serve, line, LOG, 10)
        await anyio.sleep(SOON_S)
    assert app.told[40:] == [1, 2, 3, 10]


def _stored(id_: str, seqs: Sequence[int]) -> Change:
    messages = [Message(id_, seq, f"n-{seq}", "u-2", seq, {"type": "TEXT", "text": ""}) for seq in seqs]
    return Change(id_, "GROUP", EPOCH, seqs[-1], floor=0, messages=messages)


@pytest.mark.parametrize("is_there", [True, False])
async def test_of_what_the_server_does_not_have_the_file_gives_what_it_holds(
    server: FakeServer, is_there: bool
) -> None:
    """A store may hold entries below its floor; whether all of them, nobody knows."""
    store, app = Unsure(), App()
    store.save([_stored("c-1", range(1, 41))])
    async with consuming(client(server, store=store), app) as group:
        line = await server.accept()
        await line.log_in(head(40, delivered=40))
        if is_there:
            group.start_soon(serve, line, [new(seq) for seq in range(1, 41)], 40)
        while not is_there and len(app.told) < 40:
            refuse(line, await expect_sync(line), "NOT_FOUND", retryable=False)
            await anyio.sleep(0.1)
        await anyio.sleep(SOON_S)

    assert app.told == list(range(1, 41))
    assert (app.ids[0] == "m-1") is is_there
    assert store.records()[0].taken_seq == 40


class Unsure(MemoryStore):
    """Says of nothing that it is complete."""

    def floor(self, conversation_id: str) -> int:
        return self.records()[0].prefix


# --- what must be fetched ----------------------------------------------------------------------------


async def test_a_refused_save_during_a_fetch_loses_nothing(server: FakeServer, path: str) -> None:
    await leave_a_hole(path)
    kept, app = SqliteStore(path), App()
    store = FaultyLocalStore(kept)
    async with consuming(client(server, store=store), app) as group:
        line = await server.accept()
        await line.log_in(head(10, delivered=10))
        under_way = await expect_sync(line)
        store.full = True
        line.push(new(11))
        page(line, under_way, LOG, 11)
        await anyio.sleep(0.1)
        store.full = False
        line = await server.accept()
        await line.log_in(head(11, delivered=10))
        group.start_soon(serve, line, [*LOG, new(11)], 11)
        await anyio.sleep(5)

    kept.close()
    assert app.told == [1, 2, 3, 10, 11]


@pytest.mark.parametrize("delivered_when", ["stored", "taken"])
async def test_another_log_during_a_fetch_loses_nothing_that_both_have(
    server: FakeServer, path: str, delivered_when: Any
) -> None:
    await leave_a_hole(path)
    app, config = App(), ClientConfig(delivered_when=delivered_when)
    anew = [*LOG, new(11, epoch="e2")]
    async with consuming(client(server, store=path, config=config), app) as group:
        line = await server.accept()
        await line.log_in(head(10, delivered=10))
        await expect_sync(line)
        line.close(1006)
        line = await server.accept()
        await line.log_in(head(11, delivered=0, epoch="e2"))
        group.start_soon(serve, line, anew, 11, "e2")
        await anyio.sleep(5)
        assert [it for it in line.frames if isinstance(it[0], ev.DeliveredAck)][-1][0].up_to_seq == 11

    assert app.told == [1, 2, 3, 10, EpochChanged("c-1", "e2", 10), 11]
    assert taken_seq(path) == 11


async def test_an_app_that_does_not_take_its_events_does_not_keep_a_fetch_from_another_log(
    server: FakeServer, path: str
) -> None:
    """The queue is full, so the logs are not compared before the app goes on, which waits for the fetch."""
    await leave_a_hole(path)
    app, config = App(), ClientConfig(events_max=3, events_low=1)
    others = [new(seq, id_="c-2", epoch="e2") for seq in range(1, 12)]
    anew = [*LOG, new(11, epoch="e2"), *others]
    async with consuming(client(server, store=path, config=config), app) as group:
        line = await server.accept()
        await line.log_in(head(10, delivered=10), head(0, id_="c-2", epoch="e2"))
        await expect_sync(line)
        line.push(*others)
        await anyio.sleep(0.1)
        line.close(1006)
        line = await server.accept()
        await line.log_in(head(11, epoch="e2"), head(11, delivered=5, id_="c-2", epoch="e2"))
        group.start_soon(serve, line, anew, 11, "e2")
        await anyio.sleep(5)

    assert app.told[:4] == [1, 2, 3, 10]
    assert [it for it in app.told[4:] if not isinstance(it, int)] == [EpochChanged("c-1", "e2", 10)]
    assert app.ids[4:].count("m-e2-11") == 2  # of either conversation


@pytest.mark.parametrize("fails", [False, True])
async def test_a_log_that_was_put_back_under_its_name_takes_back_what_was_read_of_it(
    server: FakeServer, path: str, fails: bool
) -> None:
    """What was lost does not come, and that it was not taken does not cost an entry in its place."""
    async with client(server, store=path):
        line = await server.accept()
        await line.log_in(head(10))
        await line.page(*(new(seq) for seq in range(1, 11)), up_to=10)
        await anyio.sleep(SOON_S)

    app, gate, busy = App(), anyio.Event(), anyio.Event()

    async def handle(delivery: Delivery) -> None:
        app.handle(delivery)
        if delivery.seq == 8 and not gate.is_set():
            busy.set()
            await gate.wait()
            if fails:
                raise KeyError

    async def consume(chat: ChatClient) -> None:
        try:
            await chat.consume(handle)
        except KeyError:
            await chat.consume(handle)

    server = FakeServer()
    async with client(server, store=path) as chat, anyio.create_task_group() as group:
        group.start_soon(consume, chat)
        await busy.wait()
        line = await server.accept()
        await line.log_in(head(5))
        page(line, await expect_sync(line), [new(seq) for seq in range(1, 6)], 5)
        await anyio.sleep(SOON_S)
        gate.set()
        await anyio.sleep(SOON_S)
        group.cancel_scope.cancel()

    assert app.told == [*range(1, 9), EpochChanged("c-1", EPOCH, 5)]
    assert taken_seq(path) == 5


async def test_what_history_has_fetched_meanwhile_is_not_fetched_again(server: FakeServer) -> None:
    store, app = MemoryStore(messages_max=2), App()
    store.save([_stored("c-1", range(1, 6)), _stored("c-2", range(1, 6))])
    for id_ in ("c-1", "c-2"):  # a later change lets go of 1 to 3
        store.save([Change(id_, "GROUP", EPOCH, 5)])
    chat, logs = (
        client(server, store=store),
        [new(seq, id_=id_) for id_ in ("c-1", "c-2") for seq in range(1, 6)],
    )
    async with consuming(chat, app) as group:
        line = await server.accept()
        await line.log_in(head(5, delivered=5), head(5, delivered=5, id_="c-2"))
        under_way = await expect_sync(line)
        group.start_soon(chat.history, "c-2")
        page(line, await expect_sync(line), logs, 5)
        await anyio.sleep(0.1)
        page(line, under_way, logs, 5)
        await anyio.sleep(SOON_S)
        assert not any(isinstance(event, ev.Sync) for event in line.received)
    assert app.told == [1, 2, 3, 4, 5] * 2


# --- what goes wrong ---------------------------------------------------------------------------------


def _overloaded(line: Line, sync: ev.Sync) -> None:
    refuse(line, sync, "OVERLOADED", 20_000)


def _forbidden(line: Line, sync: ev.Sync) -> None:
    refuse(line, sync, "FORBIDDEN", retryable=False)


def _nonsense(line: Line, sync: ev.Sync) -> None:
    line.push(ev.SyncPage("c-1", EPOCH, 10, [], sync.last_seq, True, ref=sync.ref))


def _silent(line: Line, sync: ev.Sync) -> None:
    pass


@pytest.mark.parametrize(
    ("answer", "least_s"), [(_overloaded, 20.0), (_forbidden, 0.1), (_nonsense, 0.1), (_silent, 30.0)]
)
async def test_a_fetch_that_fails_is_tried_again(
    server: FakeServer, path: str, answer: Callable[[Line, ev.Sync], None], least_s: float
) -> None:
    await leave_a_hole(path)
    app = App()
    async with consuming(client(server, store=path), app) as group:
        line = await server.accept()
        await line.log_in(head(10, delivered=10))
        group.start_soon(_pong, line)
        asked_at_s = []
        for _ in range(3):
            sync = await expect_sync(line)
            asked_at_s.append(anyio.current_time())
            answer(line, sync)
        page(line, await expect_sync(line), LOG, 10)
        await anyio.sleep(SOON_S)

    assert app.told == [1, 2, 3, 10]
    assert all(later - earlier >= least_s for earlier, later in pairwise(asked_at_s))


async def _pong(line: Line) -> None:
    while True:
        await anyio.sleep(5)
        line.push(ev.Pong(0))


@pytest.mark.parametrize("how", ["offline", "silent", "refused"])
async def test_a_consumer_that_waits_for_a_fetch_ends_with_the_client(path: str, how: str) -> None:
    """And what came after the missing entries is not taken before them: all of it comes at the next start."""
    await leave_a_hole(path)
    app, server = App(), offline() if how == "offline" else FakeServer()
    async with anyio.create_task_group() as group:
        async with client(server, store=path) as chat:
            group.start_soon(app.consume, chat)
            if how != "offline":
                line = await server.accept()
                await line.log_in(head(11, delivered=10))
                fetch = await expect_sync(line)
                pull = await expect_sync(line)
                if pull.last_seq == 0:
                    fetch, pull = pull, fetch
                page(line, pull, [*LOG, new(11)], 11)
                if how == "refused":
                    refuse(line, fetch, "OVERLOADED", 100_000)
            await anyio.sleep(SOON_S)
            closed_at_s = anyio.current_time()
        await anyio.sleep(SOON_S)
        assert (app.told, app.ended_at_s) == ([], pytest.approx(closed_at_s, abs=0.1))
        group.cancel_scope.cancel()

    server = FakeServer()
    async with consuming(client(server, store=path), app) as group:
        line = await server.accept()
        await line.log_in(head(11, delivered=11))
        group.start_soon(serve, line, [*LOG, new(11)], 11)
        await anyio.sleep(SOON_S)
    assert app.told == [1, 2, 3, 10, 11]


@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_consumer_that_waits_for_a_fetch_ends_once_the_client_has_stopped(
    server: FakeServer, path: str, when: str
) -> None:
    await leave_a_hole(path)
    app = App()

    async def run() -> None:
        async with client(server, store=path) as chat, anyio.create_task_group() as group:
            if when == "during":
                group.start_soon(app.consume, chat)
            line = await server.accept()
            await line.expect(ev.Hello)
            await anyio.sleep(SOON_S)
            line.close(4202, "banned")
            await anyio.sleep(SOON_S)
            if when == "before":
                await app.consume(chat)
            assert app.ended_at_s is not None

    with pytest.raises(ClosedError):
        await run()
    assert (app.told, taken_seq(path)) == ([], 0)


async def test_a_store_that_fails_to_read_costs_nothing(server: FakeServer) -> None:
    store = Failing()
    store.save([_stored("c-1", range(1, 4))])
    app = App()
    async with client(server, store=store) as chat:
        with pytest.raises(OSError, match="the disk"):
            await app.consume(chat)
        store.fails = False
        with anyio.move_on_after(SOON_S):
            await app.consume(chat)
    assert app.told == [1, 2, 3]


class Failing(MemoryStore):
    """Cannot be read while it `fails`."""

    fails = True

    def untaken(self, *arguments: Any) -> Any:
        if self.fails:
            raise OSError("the disk")
        return super().untaken(*arguments)
