"""Several handlers at once: of each conversation one event at a time, in order, and at least once as with one."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit import ChatClient, ClientConfig, ConfigurationError, Delivery, Taken
from chatkit.client.events import Typing
from chatkit.client.store.memory import MemoryStore
from chatkit.client.store.sqlite import SqliteStore
from chatkit.errors import ClientError, TooLargeError
from chatkit.testing.faulty_local_store import FaultyLocalStore
from chatkit.wire import events as ev

from .fake_server import FakeServer, client, head, new
from .test_deliveries import CrashError, Files, log_in, push, seen

IDS = ("c-1", "c-2", "c-3")


@pytest.fixture(params=["memory", "sqlite"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Files(request.param, tmp_path)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


class Slow:
    """A handler that notes who begins and ends when; each takes a second, or as long as its conversation says."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.begun: list[tuple[str, int, int]] = []
        self.ended: list[tuple[str, int]] = []
        self.at_once = 0
        self.busy: Counter[str] = Counter()
        self._seconds = seconds or {}

    async def handle(self, delivery: Delivery) -> None:
        if not delivery.repeats:
            return
        id_ = delivery.conversation_id
        self.begun.append(seen(delivery))
        self.busy[id_] += 1
        self.at_once = max(self.at_once, self.busy.total())
        assert self.busy[id_] == 1, "two of one conversation at once"
        try:
            await anyio.sleep(self._seconds.get(id_, 1.0))
        finally:
            self.busy[id_] -= 1
        self.ended.append((id_, delivery.seq))

    def of(self, id_: str) -> list[int]:
        return [seq for found, seq in self.ended if found == id_]


async def fill(server: FakeServer, count: int, ids: tuple[str, ...] = IDS) -> Any:
    line = await log_in(server, *(head(0, id_=id_) for id_ in ids))
    for seq in range(1, count + 1):
        line.push(*(new(seq, id_=id_) for id_ in ids))
    await anyio.sleep(0.1)
    return line


async def consume(chat: ChatClient, handler: Any, for_s: float, **options: Any) -> None:
    with anyio.move_on_after(for_s):
        await chat.consume(handler, **options)


@pytest.mark.parametrize(("concurrency", "at_once", "after_s"), [(1, 1, 9), (2, 2, 5), (3, 3, 3), (99, 3, 3)])
async def test_conversations_are_handled_at_once_each_in_order(
    server: FakeServer, concurrency: int, at_once: int, after_s: int
) -> None:
    app = Slow()
    async with client(server) as chat:
        await fill(server, 3)
        await consume(chat, app.handle, after_s + 0.5, concurrency=concurrency)
    assert app.at_once == at_once
    assert [app.of(id_) for id_ in IDS] == [[1, 2, 3]] * 3


async def test_a_slow_conversation_holds_up_no_other(server: FakeServer) -> None:
    app = Slow({"c-1": 100.0})
    async with client(server) as chat:
        await fill(server, 20)
        await consume(chat, app.handle, 41, concurrency=2)
    assert app.of("c-1") == []
    assert app.of("c-2") == app.of("c-3") == list(range(1, 21))


async def test_what_an_earlier_start_left_is_handled_at_once_too_before_what_arrives(
    server: FakeServer,
    files: Files,
) -> None:
    app = Slow({"c-1": 50.0})
    async with client(server, store=files.open()) as chat:
        await fill(server, 40)
    async with client(server, store=files.open()) as chat:
        line = await log_in(server, *(head(40, delivered=40, id_=id_) for id_ in IDS))
        await push(line, [41], id_="c-3")
        await push(line, [41], id_="c-1")
        await consume(chat, app.handle, 49, concurrency=3)
    assert app.of("c-2") == list(range(1, 41))
    assert app.of("c-3") == list(range(1, 42))
    assert app.begun.count(("c-1", 1, 1)) == 1
    assert [seq for id_, seq, _ in app.begun if id_ == "c-1"] == [1]


async def test_a_kill_repeats_what_was_in_hand_in_each_conversation_first(
    server: FakeServer,
    files: Files,
) -> None:
    first, second = Slow(), Slow({"c-1": 0.0, "c-2": 0.0, "c-3": 0.0})
    async with client(server, store=files.open()) as chat:
        await fill(server, 3)
        await consume(chat, first.handle, 1.5, concurrency=3)
    async with client(server, store=files.open()) as chat:
        await log_in(server, *(head(3, delivered=3, id_=id_) for id_ in IDS))
        await consume(chat, second.handle, 1, concurrency=3)
    assert sorted(first.ended) == [(id_, 1) for id_ in IDS]
    assert [next(it[1:] for it in second.begun if it[0] == id_) for id_ in IDS] == [(2, 2)] * 3
    assert [second.of(id_) for id_ in IDS] == [[2, 3]] * 3


async def test_whatever_order_handlers_end_in_each_conversation_is_whole_and_in_order(
    server: FakeServer,
    files: Files,
) -> None:
    """Many short incarnations of the app, each cut off at any moment."""
    rng, ids = random.Random(7), tuple(f"c-{number}" for number in range(8))
    taken: dict[str, list[int]] = {id_: [] for id_ in ids}

    async def handle(delivery: Delivery) -> None:
        if delivery.repeats:
            await anyio.sleep(rng.choice([0, 0.01, 0.3]))
            taken[delivery.conversation_id].append(delivery.seq)

    async with client(server, store=files.open()) as chat:
        await fill(server, 50, ids)
        await consume(chat, handle, 0.5, concurrency=3)
        await consume(chat, handle, 0.5, concurrency=1)
    for _ in range(20):
        async with client(server, store=files.open()) as chat:
            await log_in(server, *(head(50, delivered=50, id_=id_) for id_ in ids))
            await consume(chat, handle, rng.uniform(0, 3), concurrency=rng.choice([1, 3, 20]))
    async with client(server, store=files.open()) as chat:
        await log_in(server, *(head(50, delivered=50, id_=id_) for id_ in ids))
        await consume(chat, handle, 60, concurrency=5)
    assert taken == {id_: list(range(1, 51)) for id_ in ids}


async def test_after_an_error_the_others_are_cancelled_and_all_that_was_in_hand_comes_again(
    server: FakeServer,
) -> None:
    app, again = Slow(), Slow({"c-1": 0, "c-2": 0, "c-3": 0})

    async def handle(delivery: Delivery) -> None:
        if delivery.conversation_id == "c-2":
            await anyio.sleep(0.5)
            raise CrashError
        await app.handle(delivery)

    async with client(server) as chat:
        await fill(server, 2)
        with pytest.raises(CrashError):
            await chat.consume(handle, concurrency=3)
        assert app.ended == []
        await consume(chat, again.handle, 1)  # one at a time
    assert sorted(again.begun) == sorted((id_, seq, 3 - seq) for id_ in IDS for seq in (1, 2))
    assert [again.of(id_) for id_ in IDS] == [[1, 2]] * 3


async def test_an_error_is_logged_where_it_cannot_be_raised(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Two handlers fail together; then one fails as its caller is cancelled."""

    async def fail(delivery: Delivery) -> None:
        if delivery.repeats:
            try:
                await anyio.sleep(1)
            finally:
                raise CrashError(delivery.conversation_id)

    async with client(server) as chat:
        await fill(server, 1, ("c-1", "c-2"))
        with pytest.raises(CrashError):
            await chat.consume(fail, concurrency=2)
        assert caplog.text.count("another handler failed, too") == 1
        caplog.clear()
        await consume(chat, fail, 0.5, concurrency=2)
        assert caplog.text.count("another handler failed, too") == 2


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_error_may_be_answered_with_another_try_or_with_taking(
    server: FakeServer,
    files: Files,
    concurrency: int,
) -> None:
    tries: list[tuple[str, int, int]] = []
    errors: list[tuple[int, str]] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.repeats:
            tries.append(seen(delivery))
            if delivery.seq == 1:
                raise CrashError(f"try {delivery.attempt}")

    async def on_error(delivery: Delivery, error: Exception) -> float | None:
        errors.append((delivery.attempt, str(error)))
        return 10.0 if delivery.attempt < 3 else None

    async with client(server, store=files.open()) as chat:
        await fill(server, 2, ("c-1", "c-2"))
        options = {"concurrency": concurrency, "on_error": on_error}
        await consume(chat, handle, 5, **options)
        assert [seq for _, seq, _ in tries] == [1] * concurrency if concurrency == 1 else [1, 1]
        await consume(chat, handle, 60, **options)
    async with client(server, store=files.open()) as chat:
        await log_in(server, *(head(2, delivered=2, id_=id_) for id_ in ("c-1", "c-2")))
        before = len(tries)
        await consume(chat, handle, 5, **options)
        assert tries[before:] == []
    for id_ in ("c-1", "c-2"):
        assert [it[1:] for it in tries if it[0] == id_] == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert {error for _, error in errors} == {"try 1", "try 2", "try 3"}


async def test_what_the_error_handler_raises_ends_consume_and_takes_nothing(server: FakeServer) -> None:
    app = Slow({"c-1": 0})

    async def fail(delivery: Delivery) -> None:
        if delivery.repeats:
            raise CrashError

    async def on_error(delivery: Delivery, error: Exception) -> float | None:
        raise LookupError from error

    async with client(server) as chat:
        await fill(server, 1, ("c-1",))
        with pytest.raises(LookupError):
            await chat.consume(fail, on_error=on_error)
        await consume(chat, app.handle, 1)
    assert app.begun == [("c-1", 1, 2)]


async def wait_for_a_cancelled_task() -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_cancellation_of_a_handlers_own_making_is_an_error_like_any_other(
    server: FakeServer, concurrency: int
) -> None:
    app = Slow({"c-1": 0})
    errors: list[Exception] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.seq == 1:
            await wait_for_a_cancelled_task()
        await app.handle(delivery)

    async def on_error(delivery: Delivery, error: Exception) -> float | None:
        errors.append(error)
        return 1.0 if len(errors) < 2 else None

    async with client(server) as chat:
        await fill(server, 2, ("c-1",))
        with pytest.raises(ClientError, match="the handler was cancelled"):
            await chat.consume(handle, concurrency=concurrency)
        await consume(chat, handle, 10, concurrency=concurrency, on_error=on_error)
    assert [type(error) for error in errors] == [ClientError, ClientError]
    assert app.begun == [("c-1", 2, 1)]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_cancellation_of_an_error_handlers_own_making_ends_consume(
    server: FakeServer, concurrency: int
) -> None:
    async def fail(delivery: Delivery) -> None:
        raise CrashError

    async def on_error(delivery: Delivery, error: Exception) -> float | None:
        await wait_for_a_cancelled_task()
        return None

    async with client(server) as chat:
        await fill(server, 1, ("c-1",))
        with pytest.raises(ClientError, match="on_error was cancelled"):
            await chat.consume(fail, concurrency=concurrency, on_error=on_error)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_who_cancels_the_caller_is_no_error_of_a_handler(server: FakeServer, concurrency: int) -> None:
    app, again = Slow({"c-1": 60}), Slow({"c-1": 0})
    errors: list[Exception] = []

    async def on_error(delivery: Delivery, error: Exception) -> float | None:
        errors.append(error)
        return None

    async with client(server) as chat:
        await fill(server, 1, ("c-1",))
        task = asyncio.ensure_future(chat.consume(app.handle, concurrency=concurrency, on_error=on_error))
        await anyio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await consume(chat, again.handle, 1)
    assert (app.ended, errors, again.begun) == ([], [], [("c-1", 1, 2)])


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_stopped_it_hands_out_nothing_more_and_waits_for_who_is_busy(
    server: FakeServer, concurrency: int
) -> None:
    app = Slow()
    async with client(server) as chat:
        await fill(server, 3)
        chat.stop_consuming()  # nobody consumes: nothing happens
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial_consume(chat, app, concurrency))
            await anyio.sleep(0.5)
            chat.stop_consuming()
        assert len(app.ended) == len(app.begun) == concurrency
        await consume(chat, app.handle, 10, concurrency=3)
    assert [app.of(id_) for id_ in IDS] == [[1, 2, 3]] * 3


def partial_consume(chat: ChatClient, app: Slow, concurrency: int) -> Any:
    async def run() -> None:
        await chat.consume(app.handle, concurrency=concurrency)

    return run


async def test_stopped_it_does_not_wait_for_the_next_try(server: FakeServer) -> None:
    async def fail(delivery: Delivery) -> None:
        if delivery.repeats:
            raise CrashError

    async def on_error(delivery: Delivery, error: Exception) -> float | None:
        return 10_000.0

    async with client(server) as chat, anyio.create_task_group() as tasks:
        await fill(server, 1)

        async def run() -> None:
            await chat.consume(fail, concurrency=2, on_error=on_error)

        tasks.start_soon(run)
        await anyio.sleep(1)
        began_s = anyio.current_time()
        chat.stop_consuming()
        await anyio.sleep(0)
    assert anyio.current_time() - began_s < 1


async def test_what_waits_behind_a_busy_conversation_counts_in_the_bound(server: FakeServer) -> None:
    app = Slow({"c-1": 1000.0})
    config = ClientConfig(events_max=10, events_low=5)
    async with client(server, config=config) as chat, anyio.create_task_group() as tasks:
        line = await log_in(server, head(0), head(0, id_="c-2"))
        tasks.start_soon(partial_consume(chat, app, 2))
        for seq in range(1, 21):
            await push(line, [seq])
        runtime = chat._runtime
        assert runtime is not None
        assert runtime.events.paused
        assert len(runtime.events) <= 12
        tasks.cancel_scope.cancel()


async def test_what_concerns_no_log_is_handled_one_at_a_time_beside_the_logs(server: FakeServer) -> None:
    app, typing = Slow({"c-1": 5.0}), []

    async def handle(delivery: Delivery) -> None:
        await app.handle(delivery)
        if isinstance(delivery.event, Typing):
            typing.append(delivery.event.user_id)

    async with client(server) as chat:
        line = await fill(server, 1, ("c-1",))
        line.push(ev.TypingPush("c-1", "u-2"), ev.TypingPush("c-1", "u-3"))
        await consume(chat, handle, 1, concurrency=2)
    assert typing == ["u-2", "u-3"]


# --- what an app keeps of a conversation ---


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_state_is_kept_with_the_taking_or_not_at_all(
    server: FakeServer,
    files: Files,
    concurrency: int,
) -> None:
    rng = random.Random(3)

    async def count(delivery: Delivery) -> Taken | None:
        if not delivery.repeats:
            return None
        kept = int(chat.app_state(delivery.conversation_id) or b"0")
        await anyio.sleep(rng.choice([0, 0.1]))
        if rng.random() < 0.2:
            raise CrashError
        return Taken(state=str(kept + delivery.seq).encode())

    async def once_more(delivery: Delivery, error: Exception) -> float | None:
        return 0.05

    async with client(server, store=files.open()) as chat:
        await fill(server, 20)
    for for_s in (0.3, 0.2, 1, 0.5, 60):
        async with client(server, store=files.open()) as chat:
            await log_in(server, *(head(20, delivered=20, id_=id_) for id_ in IDS))
            await consume(chat, count, for_s, concurrency=concurrency, on_error=once_more)
            states = {id_: chat.app_state(id_) for id_ in IDS}
    assert states == dict.fromkeys(IDS, b"210")
    assert chat.stopped is None


async def test_a_state_may_be_forgotten_and_is_left_as_it_was_by_default(server: FakeServer) -> None:
    returned = iter([Taken(b"one"), None, Taken(), "anything", Taken(b"")])
    states = []

    def handle(delivery: Delivery) -> object:
        if not delivery.repeats:
            return None
        states.append(chat.app_state("c-1"))
        return next(returned)

    async with client(server) as chat:
        await fill(server, 5, ("c-1",))
        await consume(chat, handle, 1)
        states.append(chat.app_state("c-1"))
        assert chat.app_state("c-unknown") == b""
    assert states == [b"", b"one", b"one", b"one", b"one", b""]


async def test_a_state_that_cannot_be_kept_is_an_error_of_the_handler(server: FakeServer) -> None:
    async def too_much(delivery: Delivery) -> Taken | None:
        return Taken(b"x" * (16 * 1024 + 1)) if delivery.repeats else None

    async def of_nothing(delivery: Delivery) -> Taken | None:
        return None if delivery.repeats else Taken(b"x")

    async with client(server) as chat:
        await fill(server, 1, ("c-1",))
        with pytest.raises(ConfigurationError, match="entries of a log"):
            await chat.consume(of_nothing)
        with pytest.raises(TooLargeError):
            await chat.consume(too_much)
        assert chat.app_state("c-1") == b""


async def test_a_state_waits_with_the_taking_while_the_store_refuses(server: FakeServer) -> None:
    local = FaultyLocalStore(MemoryStore())

    async def handle(delivery: Delivery) -> Taken | None:
        if not delivery.repeats:
            return None
        local.full = delivery.seq == 1
        return Taken(str(delivery.seq).encode())

    async with client(server, store=local) as chat, anyio.create_task_group() as tasks:
        await fill(server, 2, ("c-1",))
        tasks.start_soon(chat.consume, handle)
        await anyio.sleep(2)
        assert chat.app_state("c-1") == b""
        local.full = False
        await anyio.sleep(2)
        assert chat.app_state("c-1") == b"2"
        tasks.cancel_scope.cancel()


async def test_a_file_of_before_states_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "client.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as old:
        old.execute("DROP TABLE app_state")
        old.execute("DELETE FROM schema_migration WHERE number = 3")
        old.commit()
    store = SqliteStore(path)
    assert store.app_state("c-1") == b""
    store.close()


@pytest.mark.parametrize("concurrency", [0, -1, 1001, 1.5, None, "2", True])
async def test_a_concurrency_that_is_none_takes_nothing(server: FakeServer, concurrency: Any) -> None:
    async with client(server) as chat:
        with pytest.raises(ConfigurationError, match="concurrency"):
            await chat.consume(print, concurrency=concurrency)
        with pytest.raises(ConfigurationError, match="on_error"):
            await chat.consume(print, on_error=7)  # type: ignore[arg-type]
