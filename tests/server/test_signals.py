"""Signals reach the drain first, then whoever handled them before: a handler of Python's, or of the loop's."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest

from chatkit import ChatServer
from chatkit.ports import SystemIds
from chatkit.server.signals import forget, keep_back
from chatkit.storage.memory import MemoryStore

from .harness import by_name

Said = list[str]


@pytest.fixture
def said() -> Iterator[Said]:
    """What happened, in order; the handlers of before are put back."""
    before = [
        (number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    ]
    yield []
    for number, handler in before:
        signal.signal(number, handler)


def handled_by_python(said: Said) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: said.append(signal.Signals(number).name))


def handled_by_the_loop(said: Said) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, said.append, signal.Signals(number).name)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main()

    asyncio.run(bounded())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


@pytest.mark.parametrize("handle", [handled_by_python, handled_by_the_loop])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_drain_comes_first(said: Said, handle: Callable[[Said], None], number: signal.Signals) -> None:
    async def drain() -> None:
        said.append("drain begins")
        await asyncio.sleep(0.01)
        said.append("drain ends")

    async def main() -> None:
        handle(said)
        assert keep_back(drain)
        os.kill(os.getpid(), number)
        await until(lambda: number.name in said)
        forget(drain)

    run(main)

    assert said == ["drain begins", "drain ends", number.name]


@pytest.mark.parametrize("handle", [handled_by_python, handled_by_the_loop])
def test_a_second_signal_does_not_wait(said: Said, handle: Callable[[Said], None]) -> None:
    async def drain() -> None:
        said.append("drain begins")
        await asyncio.Event().wait()

    async def main() -> None:
        handle(said)
        keep_back(drain)
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: bool(said))
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: said.count("SIGINT") == 2)
        forget(drain)

    run(main)

    assert said == ["drain begins", "SIGINT", "SIGINT"]


def test_other_signals_and_later_handlers_are_not_lost(said: Said) -> None:
    async def drain() -> None:
        said.append("drain")

    async def main() -> None:
        handled_by_python(["replaced"])
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, said.append, "SIGUSR1")
        keep_back(drain)
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: said == ["SIGUSR1"])
        handled_by_python(said)  # as a host that sets its handlers after the lifespan began
        keep_back(drain)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: "SIGTERM" in said)
        forget(drain)

    run(main)

    assert said == ["SIGUSR1", "drain", "SIGTERM"]


def test_a_drain_that_fails_does_not_swallow_the_signal(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("no store")

    async def main() -> None:
        handled_by_python(said)
        keep_back(fail)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: bool(said))
        forget(fail)

    run(main)

    assert said == ["SIGTERM"]
    assert "no store" in caplog.text


@pytest.mark.parametrize("wanted", [True, False])
def test_a_server_puts_the_handlers_back(said: Said, wanted: bool) -> None:
    async def main() -> None:
        handled_by_python(said)
        before = signal.getsignal(signal.SIGTERM)
        store = MemoryStore(ids=SystemIds())
        async with ChatServer(store=store, authenticate=by_name, drain_on_signals=wanted):
            assert (signal.getsignal(signal.SIGTERM) is before) is not wanted
        assert signal.getsignal(signal.SIGTERM) is before

    run(main)


def test_nobody_who_leaves_signals_alone_is_meddled_with(said: Said) -> None:
    async def drain() -> None: ...

    async def main() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert not keep_back(drain)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        handled_by_python(said)
        assert not await asyncio.to_thread(lambda: asyncio.run(_in_another_thread(drain)))

    run(main)


async def _in_another_thread(drain: Callable[[], Awaitable[None]]) -> bool:
    return keep_back(drain)
