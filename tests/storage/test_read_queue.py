"""Reads that wait for a connection are taken along in order, none is lost, and a cancelled one stops nobody."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from chatkit.storage.sqlite.read_queue import READS_MAX, ReadQueue


class Thread:
    """Runs work when the test says so, and knows how many pieces came at once."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.runs: list[list[str]] = []
        self.names: list[str] = []

    async def run(self, work: Callable[[], None]) -> None:
        await self.go.wait()
        self.names = []
        work()
        self.runs.append(self.names)

    def read(self, name: str) -> Callable[[], str]:
        def work() -> str:
            self.names.append(name)
            return name

        return work


async def _read(queue: ReadQueue, work: Callable[[], str], found: list[str]) -> None:
    found.append(await queue.read(work))


async def test_those_that_come_before_it_begins_go_along_and_so_do_those_that_wait_in_order() -> None:
    thread, found = Thread(), list[str]()
    queue = ReadQueue(thread.run, 1)
    names = [f"r-{number}" for number in range(READS_MAX + READS_MAX + 3)]
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(_read, queue, thread.read(name), found)
        await anyio.wait_all_tasks_blocked()
        thread.go.set()

    assert sorted(found) == sorted(names)
    assert [name for run in thread.runs for name in run] == names
    assert [len(run) for run in thread.runs] == [READS_MAX, READS_MAX, 3]


async def test_a_read_takes_a_free_connection_once_those_before_it_have_begun() -> None:
    begun, go, found = anyio.Event(), threading.Event(), list[str]()
    queue = ReadQueue(anyio.to_thread.run_sync, 2)

    def slow() -> str:
        anyio.from_thread.run_sync(begun.set)
        assert go.wait(10)
        return "slow"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, queue, slow, found)
        tasks.start_soon(_read, queue, lambda: "with it", found)
        await begun.wait()
        found.append(await queue.read(lambda: "beside it"))
        go.set()
    assert found[0] == "beside it"
    assert sorted(found[1:]) == ["slow", "with it"]


async def test_what_is_too_many_to_go_along_takes_a_free_connection() -> None:
    thread, found = Thread(), list[str]()
    queue = ReadQueue(thread.run, 2)
    names = [f"r-{number}" for number in range(READS_MAX + 2)]
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(_read, queue, thread.read(name), found)
        await anyio.wait_all_tasks_blocked()
        thread.go.set()
    assert [len(run) for run in thread.runs] == [READS_MAX, 2]
    assert sorted(found) == sorted(names)


async def test_who_comes_as_the_last_one_ends_is_not_forgotten() -> None:
    """The thread looks at nobody any more, and the event loop does not know yet."""
    found, joined = list[str](), anyio.Event()

    async def run(work: Callable[[], None]) -> None:
        closed = queue._gathering
        work()
        queue._gathering = closed  # as the loop saw it a moment ago
        await joined.wait()

    queue = ReadQueue(run, 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, queue, lambda: "first", found)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(_read, queue, lambda: "late", found)
        await anyio.wait_all_tasks_blocked()
        joined.set()
    assert sorted(found) == ["first", "late"]
    assert await queue.read(lambda: "later") == "later"


async def test_what_one_read_raises_is_its_own() -> None:
    thread, found = Thread(), list[str]()
    thread.go.set()
    queue = ReadQueue(thread.run, 1)

    def broken() -> str:
        raise ValueError("damaged")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, queue, thread.read("a"), found)
        tasks.start_soon(_read, queue, thread.read("b"), found)
        with pytest.raises(ValueError, match="damaged"):
            await queue.read(broken)
    assert sorted(found) == ["a", "b"]


@pytest.mark.parametrize("cancelled", [0, 1, 2, 3])
async def test_a_read_that_is_cancelled_before_it_began_holds_up_nobody(cancelled: int) -> None:
    thread, found = Thread(), list[str]()
    queue = ReadQueue(thread.run, 1)
    scopes: list[anyio.CancelScope] = []

    async def read(name: str) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await _read(queue, thread.read(name), found)

    names = ["r-0", "r-1", "r-2", "r-3"]
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(read, name)
        await anyio.wait_all_tasks_blocked()
        scopes[cancelled].cancel()
        await anyio.wait_all_tasks_blocked()
        thread.go.set()
    assert found == [name for name in names if name != names[cancelled]]
    assert await queue.read(thread.read("later")) == "later"


async def test_a_turn_that_comes_together_with_the_cancellation_goes_on_to_the_next() -> None:
    thread, found = Thread(), list[str]()
    queue = ReadQueue(thread.run, 1)
    scope = anyio.CancelScope()

    async def second() -> None:
        with scope:
            await _read(queue, thread.read("second"), found)

    def first() -> str:
        scope.cancel()
        return "first"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, queue, first, found)
        for number in range(READS_MAX - 1):  # nobody else goes along
            tasks.start_soon(_read, queue, thread.read(f"r-{number}"), found)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(second)
        tasks.start_soon(_read, queue, thread.read("third"), found)
        await anyio.wait_all_tasks_blocked()
        thread.go.set()
    assert "third" in found
    assert await queue.read(thread.read("later")) == "later"


async def test_reads_that_are_cancelled_together_keep_no_connection() -> None:
    """One has its turn and takes the other along, and both are cancelled before its thread begins."""
    go = anyio.Event()

    async def run(work: Callable[[], None]) -> None:
        await anyio.lowlevel.checkpoint()  # as the way to a thread begins
        await go.wait()
        work()

    queue = ReadQueue(run, 1)

    async def first(scope: anyio.CancelScope) -> None:
        await queue.read(lambda: None)
        scope.cancel()

    async def other() -> None:
        await queue.read(lambda: None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first, tasks.cancel_scope)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(other)
        tasks.start_soon(other)
        await anyio.wait_all_tasks_blocked()
        go.set()
        await anyio.sleep_forever()
    with anyio.fail_after(5):
        assert await queue.read(lambda: "free") == "free"


async def test_a_read_that_fails_is_no_garbage_in_a_cycle() -> None:
    class Work:
        def __call__(self) -> None:
            raise KeyError("no such row")

    async def run(work: Callable[[], None]) -> None:
        work()

    queue, work = ReadQueue(run, 1), Work()
    gone = weakref.ref(work)
    gc.disable()
    try:
        with suppress(KeyError):
            await queue.read(work)
        del work
        assert gone() is None
    finally:
        gc.enable()
