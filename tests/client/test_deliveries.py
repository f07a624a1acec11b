"""At least once to the app: what was not taken comes again, in order; what was taken does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit import ChatClient, ClientConfig, Delivery
from chatkit.client.events import (
    CaughtUp,
    EpochChanged,
    MessageRecalled,
    MessageReceived,
    MessageSent,
    Typing,
)
from chatkit.client.store.base import LocalStore
from chatkit.client.store.memory import MemoryStore
from chatkit.client.store.sqlite import SqliteStore
from chatkit.errors import BadRequestError, ClientError, ConfigurationError, UnavailableError
from chatkit.testing.faulty_local_store import FaultyLocalStore
from chatkit.wire import events as ev

from .fake_server import FakeServer, Line, ack, client, head, new, recall

Told = list[tuple[str, int, int]]
"""What a handler saw: conversation, seq, attempt."""


class CrashError(Exception):
    """What a handler of these tests raises."""


class Files:
    """Local stores that outlive the client: kept in memory, or in files."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._memory = MemoryStore()
        self._path = None if kind == "memory" else str(folder / "client.db")

    def open(self) -> LocalStore:
        return self._memory if self._path is None else SqliteStore(self._path)


@pytest.fixture(params=["memory", "sqlite"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Files(request.param, tmp_path)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def seen(delivery: Delivery) -> tuple[str, int, int]:
    return delivery.conversation_id, delivery.seq, delivery.attempt


class App:
    """Consumes until its handler has returned for `count` entries, then crashes on the next one."""

    def __init__(self, count: int) -> None:
        self.told: Told = []
        self.events: list[Any] = []
        self._count = count

    async def handle(self, delivery: Delivery) -> None:
        await anyio.sleep(0)
        if not delivery.repeats:
            return
        self.told.append(seen(delivery))
        self.events.append(delivery.event)
        if len(self.told) > self._count:
            raise CrashError

    async def crash(self, chat: ChatClient) -> None:
        with pytest.raises(CrashError):
            await chat.consume(self.handle)

    async def all(self, chat: ChatClient, for_s: float = 1) -> None:
        """Consume for so long, in which nothing goes wrong."""
        with anyio.move_on_after(for_s):
            await chat.consume(self.handle)


async def log_in(server: FakeServer, *heads: ev.Head) -> Line:
    line = await server.accept()
    await line.log_in(*heads)
    return line


async def confirmed(line: Line, up_to_seq: int) -> None:
    """Return once this, and no more, is confirmed."""
    while (await line.expect(ev.DeliveredAck)).up_to_seq < up_to_seq:
        pass
    await line.quiet(1)


async def push(line: Line, seqs: Iterable[int], **rest: Any) -> None:
    line.push(*(new(seq, **rest) for seq in seqs))
    await anyio.sleep(0.1)


async def test_what_was_not_taken_comes_at_the_next_start_and_nothing_else(
    server: FakeServer, files: Files
) -> None:
    first, second, third = App(3), App(4), App(99)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0), head(0, id_="c-2"))
        await push(line, range(1, 7))
        await push(line, range(1, 3), id_="c-2")
        await first.crash(chat)
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(6, delivered=6), head(2, delivered=2, id_="c-2"))
        await second.crash(chat)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(6, delivered=6), head(2, delivered=2, id_="c-2"))
        await push(line, [7])
        await third.all(chat)

    assert first.told == [("c-1", 1, 1), ("c-1", 2, 1), ("c-1", 3, 1), ("c-1", 4, 1)]
    assert second.told == [("c-1", 4, 2), ("c-1", 5, 1), ("c-1", 6, 1), ("c-2", 1, 1), ("c-2", 2, 1)]
    assert third.told == [("c-2", 2, 2), ("c-1", 7, 1)]


async def test_a_handler_that_fails_gets_its_event_again_in_the_same_client(server: FakeServer) -> None:
    app = App(1)
    async with client(server) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2, 3])
        for _ in range(3):
            await app.crash(chat)
        app._count = 99
        await app.all(chat)

    assert app.told == [("c-1", 1, 1)] + [("c-1", 2, attempt) for attempt in (1, 2, 3, 4)] + [("c-1", 3, 1)]


async def test_a_cancelled_handler_has_not_taken_its_event(server: FakeServer, files: Files) -> None:
    async def hang(delivery: Delivery) -> None:
        if delivery.seq == 2:
            await anyio.sleep_forever()

    app = App(99)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2, 3])
        with anyio.move_on_after(1):
            await chat.consume(hang)
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(3, delivered=3))
        await app.all(chat)

    assert app.told == [("c-1", 2, 2), ("c-1", 3, 1)]


@pytest.mark.parametrize("taken", [0, 1, 5])
async def test_a_killed_app_loses_nothing_and_repeats_only_what_it_was_busy_with(
    server: FakeServer, files: Files, taken: int
) -> None:
    """Killed: nothing that it still does reaches its store."""
    stored = files.open()
    local, told = FaultyLocalStore(stored), list[int]()

    async def handle(delivery: Delivery) -> None:
        if delivery.seq:
            told.append(delivery.seq)
            if len(told) > taken:
                local.die()
                await anyio.sleep_forever()

    async with client(server, store=local) as chat:
        line = await log_in(server, head(0))
        await push(line, range(1, 11))
        with anyio.move_on_after(1):
            await chat.consume(handle)
    stored.close()

    app = App(99)
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(10, delivered=10))
        await app.all(chat)
    assert app.told == [("c-1", seq, 2 if seq == taken + 1 else 1) for seq in range(taken + 1, 11)]


async def test_an_app_that_leaves_its_events_gets_the_rest_at_the_next_start(
    server: FakeServer, files: Files
) -> None:
    shown: list[list[int]] = []
    for start in range(3):
        async with client(server, store=files.open()) as chat:
            line = await log_in(server, head(100 if start else 0, delivered=100 if start else 0))
            if not start:
                await push(line, range(1, 101))
            seqs: list[int] = []
            with anyio.move_on_after(1):
                async for event in chat.events():
                    if isinstance(event, MessageReceived):
                        seqs.append(event.message.seq)
                        if not start and len(seqs) == 10:
                            break
            shown.append(seqs)

    assert shown == [list(range(1, 11)), list(range(11, 101)), []]


async def test_what_is_left_is_read_in_pages(server: FakeServer) -> None:
    class Counting(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.limits: list[int] = []

        def untaken(self, conversation_id: str, after_seq: int, up_to_seq: int, limit: int) -> Any:
            self.limits.append(limit)
            return super().untaken(conversation_id, after_seq, up_to_seq, limit)

    store, app = Counting(), App(999)
    async with client(server, store=store) as chat:
        line = await log_in(server, head(0))
        await push(line, range(1, 101))
    async with client(server, store=store) as chat:
        await log_in(server, head(100, delivered=100))
        await app.all(chat)

    assert [seq for _, seq, _ in app.told] == list(range(1, 101))
    assert store.limits == [32] * 4


async def test_what_the_store_let_go_of_is_fetched_again(server: FakeServer) -> None:
    store, app = MemoryStore(messages_max=2), App(99)
    async with client(server, store=store) as chat:
        line = await log_in(server, head(0))
        await push(line, range(1, 6))
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        line = await log_in(server, head(5, delivered=5))
        group.start_soon(app.all, chat)
        own = new(2, sender="u-1", key="k")
        sync = await line.page(new(1), own, new(3, payload={"type": "RECALLED"}), up_to=3, head=5)

    assert (sync.last_seq, sync.limit) == (0, 3)
    assert [seq for _, seq, _ in app.told] == [1, 3, 4, 5]
    assert app.events[1].message.type == "RECALLED"


async def test_what_is_left_of_a_conversation_that_was_left_is_what_is_stored(server: FakeServer) -> None:
    store, app = MemoryStore(messages_max=2), App(99)
    async with client(server, store=store) as chat:
        line = await log_in(server, head(0))
        await push(line, range(1, 6))
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        line = await log_in(server)
        group.start_soon(app.all, chat)
        ref = (await line.expect(ev.Sync)).ref
        line.push(ev.ErrorEvent("NOT_FOUND", "no such conversation", False, ref=ref))

    assert [seq for _, seq, _ in app.told] == [4, 5]


async def test_a_recalled_message_that_was_not_taken_comes_without_its_text(
    server: FakeServer, files: Files
) -> None:
    first, second = App(99), App(99)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2])
        line.push(recall(3, 1))
        await anyio.sleep(0.1)
        await first.all(chat)
        await push(line, [4])
        line.push(recall(5, 4))
        await anyio.sleep(0.1)
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(5, delivered=5))
        await second.all(chat)

    assert [getattr(it, "message", None) and it.message.type for it in first.events] == [
        "RECALLED",
        "TEXT",
        None,
    ]
    assert [seq for _, seq, _ in first.told + second.told] == [1, 2, 3, 4, 5]
    assert second.events[0].message.type == "RECALLED"
    assert second.events[1] == MessageRecalled("c-1", "m-4", 4, "u-2")


async def test_an_own_send_is_its_answer_and_does_not_come_again(server: FakeServer, files: Files) -> None:
    first, second = App(99), App(99)
    sent: list[Any] = []

    async def note(delivery: Delivery) -> None:
        if isinstance(delivery.event, MessageSent):
            sent.append((delivery.event.sent.seq, delivery.repeats))
        await first.handle(delivery)

    async with client(server, store=files.open()) as chat, anyio.create_task_group() as group:
        line = await log_in(server, head(0))
        group.start_soon(chat.send, "c-1", "hi")
        line.push(ack(await line.expect(ev.SendMsg), 2))
        await push(line, [1, 3])
        with anyio.move_on_after(1):
            await chat.consume(note)
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(3, delivered=3))
        await second.all(chat)

    assert (sent, [seq for _, seq, _ in first.told], second.told) == ([(2, False)], [1, 3], [])


async def test_another_log_begins_with_its_event_and_goes_on_where_it_differs(
    server: FakeServer, files: Files
) -> None:
    """What both logs have is handed out once, also what was not taken yet; what the old one had besides, never."""
    first, second, third = App(1), App(2), App(99)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2, 3, 4])
        line.close(1006)
        line = await log_in(server, head(4, epoch="e2"))
        kept, anew = [new(1), new(2)], [new(3, epoch="e2"), new(4, epoch="e2")]
        await line.page(*kept, *anew, up_to=4, epoch="e2")
        await anyio.sleep(0.1)
        await first.crash(chat)  # has taken 1, which is of both
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(4, delivered=4, epoch="e2"))
        await second.crash(chat)
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(4, delivered=4, epoch="e2"))
        await third.all(chat)

    assert first.told[0][1] == 1
    assert second.events[0] == EpochChanged("c-1", "e2", 2)
    assert [seq for _, seq, _ in second.told] == [0, 2, 3]
    assert [(seq, attempt) for _, seq, attempt in third.told] == [(3, 2), (4, 1)]


async def renewed(server: FakeServer, line: Line, epoch: str, kept_seq: int, head_seq: int) -> Line:
    """The log is another one above a seq, as the next connection shows; its entries there are of this epoch."""
    line.close(1006)
    line = await log_in(server, head(head_seq, epoch=epoch))
    kept = [new(seq) for seq in range(1, 5) if seq <= kept_seq]
    kept += [new(seq, epoch="e2") for seq in range(5, kept_seq + 1)]
    anew = [new(seq, epoch=epoch) for seq in range(kept_seq + 1, head_seq + 1)]
    await line.page(*kept, *anew, up_to=head_seq, epoch=epoch)
    await anyio.sleep(0.1)
    return line


async def test_a_log_renewed_twice_under_a_slow_app_makes_it_forget_nothing_that_does_not_come_again(
    server: FakeServer, files: Files
) -> None:
    """It is busy with the first renewal when the second comes, takes what lies between, and dies over the second."""
    gate, shown, told = anyio.Event(), dict[int, str](), list[EpochChanged]()

    def apply(delivery: Delivery) -> None:
        if isinstance(event := delivery.event, EpochChanged):
            told.append(event)
            for seq in [seq for seq in shown if seq > event.kept_seq]:
                del shown[seq]
        elif isinstance(event, MessageReceived):
            shown[delivery.seq] = event.message.message_id

    async def slow(delivery: Delivery) -> None:
        if isinstance(delivery.event, EpochChanged):
            if told:
                raise CrashError
            await gate.wait()
        apply(delivery)

    async with client(server, store=files.open()) as chat, anyio.create_task_group() as group:
        line = await log_in(server, head(0))
        await push(line, range(1, 5))

        async def crash() -> None:
            with pytest.raises(CrashError):
                await chat.consume(slow)

        group.start_soon(crash)
        line = await renewed(server, line, "e2", 4, 7)
        line = await renewed(server, line, "e3", 7, 7)
        gate.set()
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(7, delivered=7, epoch="e3"))
        with anyio.move_on_after(1):
            await chat.consume(apply)

    assert told == [EpochChanged("c-1", "e2", 4), EpochChanged("c-1", "e3", 7)]
    assert sorted(shown) == list(range(1, 8))


async def test_a_log_renewed_twice_before_the_app_looks_comes_again_from_where_it_first_differs(
    server: FakeServer, files: Files
) -> None:
    first, second = App(4), App(99)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, range(1, 5))
        line = await renewed(server, line, "e2", 4, 7)
        await renewed(server, line, "e3", 6, 7)
        await first.crash(chat)  # over the first renewal
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(7, delivered=7, epoch="e3"))
        await second.all(chat)

    assert first.events[4] == EpochChanged("c-1", "e2", 4)
    assert second.events[0] == EpochChanged("c-1", "e3", 4)
    assert second.told == [("c-1", 0, 2), ("c-1", 5, 1), ("c-1", 6, 1), ("c-1", 7, 1)]


async def test_a_renewal_loses_nothing_that_was_taken_while_the_store_refused(server: FakeServer) -> None:
    """The entry is taken, the store refuses to keep that, and then the log is renewed above it."""

    class Refusing(MemoryStore):
        refuses = False

        def advance(self, progress: Any) -> None:
            if self.refuses:
                raise UnavailableError("full", retry_after_s=60)
            super().advance(progress)

    store = Refusing()

    async def handle(delivery: Delivery) -> None:
        store.refuses = delivery.seq == 4

    second = App(99)
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        line = await log_in(server, head(0))
        await push(line, range(1, 5))
        group.start_soon(chat.consume, handle)
        await anyio.sleep(0.1)
        await renewed(server, line, "e2", 4, 5)
        store.refuses = False
        group.cancel_scope.cancel()
    async with client(server, store=store) as chat:
        await log_in(server, head(5, delivered=5, epoch="e2"))
        await second.all(chat)
    assert [seq for _, seq, _ in second.told] == [0, 5]


async def test_the_tries_of_a_renewal_are_counted_across_restarts_and_apart_from_the_entries(
    server: FakeServer, files: Files
) -> None:
    apps = [App(3), App(0), App(0), App(1), App(99)]
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, range(1, 5))
        await renewed(server, line, "e2", 4, 5)
        for _ in range(2):
            await apps[0].crash(chat)  # over the entry 4, which comes before the renewal
    for app in apps[1:]:
        async with client(server, store=files.open()) as chat:
            await log_in(server, head(5, delivered=5, epoch="e2"))
            await (app.all(chat) if app is apps[-1] else app.crash(chat))

    assert apps[0].told[3:] == [("c-1", 4, 1), ("c-1", 4, 2)]
    assert [app.told for app in apps[1:]] == [
        [("c-1", 0, 1)],
        [("c-1", 0, 2)],
        [("c-1", 0, 3), ("c-1", 4, 1)],
        [("c-1", 4, 2), ("c-1", 5, 1)],
    ]


async def test_what_the_app_died_over_comes_first_whatever_its_conversation_is_called(
    server: FakeServer, files: Files
) -> None:
    first, second = App(0), App(99)
    others = [head(2, delivered=2, id_=id_) for id_ in ("c-2", "c-3")]
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0, id_="c-1"), head(0, id_="c-2"), head(0, id_="c-3"))
        for id_ in ("c-2", "c-1", "c-3"):
            await push(line, [1, 2], id_=id_)
        line.close(1006)
        line = await log_in(server, head(2, delivered=2, epoch="e2"), *others)
        await line.page(new(1), new(2), up_to=2, epoch="e2")
        await anyio.sleep(0.1)
        await first.crash(chat)
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(2, delivered=2, epoch="e2"), *others)
        await second.all(chat)

    assert first.told == [("c-2", 1, 1)]
    assert second.told[:2] == [("c-2", 1, 2), ("c-2", 2, 1)]
    assert [it for it in second.told[2:] if it[0] == "c-1"] == [("c-1", seq, 1) for seq in range(3)]
    assert [it for it in second.told[2:] if it[0] == "c-3"] == [("c-3", seq, 1) for seq in (1, 2)]


async def test_what_is_delivered_can_be_what_was_taken(server: FakeServer, files: Files) -> None:
    app, config = App(2), ClientConfig(delivered_when="taken")
    async with client(server, store=files.open(), config=config) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2, 3])
        await line.quiet(1)
        await app.crash(chat)
        await confirmed(line, 2)
    async with client(server, store=files.open(), config=config) as chat:
        line = await log_in(server, head(3, delivered=2))
        await line.quiet(1)
        app._count = 99
        await app.all(chat)
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 3
    assert app.told[3:] == [("c-1", 3, 2)]


async def test_taken_alone_brings_back_what_was_not_without_any_store(server: FakeServer) -> None:
    """The server's cursor stands where the app stood."""
    first, second, config = App(2), App(99), ClientConfig(delivered_when="taken")
    async with client(server, config=config) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2, 3])
        await first.crash(chat)
        await confirmed(line, 2)
    async with client(server, config=config) as chat, anyio.create_task_group() as group:
        line = await log_in(server, head(3, delivered=2))
        group.start_soon(second.all, chat)
        assert (await line.page(new(3), up_to=3)).last_seq == 2

    assert [seq for _, seq, _ in second.told] == [3]


async def test_while_the_store_refuses_nothing_is_handed_out(server: FakeServer) -> None:
    local, app = FaultyLocalStore(MemoryStore()), App(99)
    async with client(server, store=local) as chat, anyio.create_task_group() as group:
        line = await log_in(server, head(0))
        await push(line, [1, 2])
        local.full = True
        group.start_soon(app.all, chat, 3)
        await anyio.sleep(0.6)
        assert app.told == []
        local.full = False
    assert app.told == [("c-1", 1, 1), ("c-1", 2, 1)]


async def test_a_broken_store_ends_the_consumer(server: FakeServer) -> None:
    class Broken(MemoryStore):
        def advance(self, progress: Any) -> None:
            raise BrokenError("the disk failed")

    async with client(server, store=Broken()) as chat:
        line = await log_in(server, head(0))
        await push(line, [1])
        with pytest.raises(BrokenError):
            await chat.consume(App(99).handle)


class BrokenError(UnavailableError):
    """No "not now", but a broken disk."""


async def test_what_is_not_repeated_is_gone_with_its_handler(server: FakeServer) -> None:
    kinds: list[type] = []

    async def handle(delivery: Delivery) -> None:
        kinds.append(type(delivery.event))
        if isinstance(delivery.event, Typing):
            raise CrashError

    async with client(server) as chat:
        line = await log_in(server)
        line.push(ev.TypingPush("c-1", "u-2"))
        with pytest.raises(CrashError):
            await chat.consume(handle)
        kinds.clear()
        with anyio.move_on_after(1):
            await chat.consume(handle)
    assert Typing not in kinds


async def test_consume_returns_once_the_client_is_closed(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        await log_in(server, head(0))
        group.start_soon(chat.consume, App(99).handle)
        await anyio.sleep(1)
        await chat.aclose()


async def test_there_is_one_consumer_at_a_time(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        await log_in(server)
        group.start_soon(chat.consume, App(99).handle)
        await anyio.sleep(1)
        with pytest.raises(ClientError, match="consuming"):
            await chat.consume(App(99).handle)
        with pytest.raises(ClientError, match="consuming"):
            await anext(chat.events())
        group.cancel_scope.cancel()


async def test_a_rejoin_before_it_was_taken_loses_nothing(server: FakeServer, files: Files) -> None:
    """The bodies from before the new membership leave the store; they are fetched as they read now."""
    app = App(99)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2])
        line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"))
        line.push(ev.ConversationPush("c-1", "GROUP", "JOINED"))
        again = {"type": "MEMBER", "op": "ADDED", "userIds": ["u-1"], "by": "u-2"}
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 2
        await line.page(new(5, payload=again), up_to=5)
        await anyio.sleep(0.1)
    async with client(server, store=files.open()) as chat, anyio.create_task_group() as group:
        line = await log_in(server, head(5, delivered=5))
        group.start_soon(app.all, chat)
        gone = new(1, payload={"type": "RECALLED"})
        assert (await line.page(gone, new(2), up_to=2, head=5)).last_seq == 0

    assert [seq for _, seq, _ in app.told] == [1, 2, 5]
    assert app.events[0].message.type == "RECALLED"


async def test_caught_up_and_the_like_come_too(server: FakeServer) -> None:
    kinds: list[type] = []

    async def handle(delivery: Delivery) -> None:
        kinds.append(type(delivery.event))

    async with client(server) as chat:
        await log_in(server)
        with anyio.move_on_after(1):
            await chat.consume(handle)
    assert CaughtUp in kinds


async def test_a_plain_function_handles_too_and_nothing_else_does(server: FakeServer, files: Files) -> None:
    handled: list[int] = []
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, [1, 2])
        for wrong in (None, "handle", 5):
            with pytest.raises(ConfigurationError, match="handler must be"):
                await chat.consume(wrong)  # type: ignore[arg-type]
        with anyio.move_on_after(1):
            await chat.consume(lambda delivery: handled.append(delivery.seq))
    assert [seq for seq in handled if seq] == [1, 2]


async def test_a_handler_that_is_a_generator_is_refused_and_takes_nothing(
    server: FakeServer, files: Files
) -> None:
    async def stray(_: Delivery) -> AsyncIterator[None]:
        yield

    def plain(_: Delivery) -> Iterator[None]:
        yield

    class Bound:
        async def handle(self, _: Delivery) -> AsyncIterator[None]:
            yield

    app = App(99)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, head(0))
        await push(line, [1])
        for handler in (stray, plain, partial(stray), Bound().handle):
            with pytest.raises(ConfigurationError, match="handler is a generator function"):
                await chat.consume(handler)
        await app.all(chat)
        await push(line, [2])
        for make in (stray, plain):
            with pytest.raises(ConfigurationError, match="handler returned a generator"):
                await chat.consume(lambda delivery, make=make: make(delivery))  # type: ignore[misc]
    async with client(server, store=files.open()) as chat:
        await log_in(server, head(2, delivered=2))
        await app.all(chat)
    assert app.told == [("c-1", 1, 1), ("c-1", 2, 3)]


@pytest.mark.parametrize("timeout", ["3", float("nan"), -1, True])
async def test_a_timeout_that_is_none_queues_nothing(server: FakeServer, timeout: Any) -> None:
    async with client(server) as chat:
        await log_in(server, head(0))
        with pytest.raises(BadRequestError, match="timeout must be seconds"):
            await chat.send("c-1", "hi", timeout=timeout)
        assert chat.pending_count == 0
