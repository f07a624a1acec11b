"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing is ready.

Waits cost nothing and never vary, and with a seed the order in which ready tasks run is drawn from it: the same seed
runs the same program the same way, in every process. Threads and real sockets are not for such a loop. One that
waits for ever raises instead of hanging.

Two backends: asyncio, on which users run, and trio. The order of both is drawn through private names of theirs: this
module checks that they are there, and of asyncio's that they do what is needed.

A seed is 0 unless another is given; None leaves the order to the backend: asyncio's is first in, first out, trio's is
not the same twice.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import anyio

from ..errors import ConfigurationError

START_MS = 1_700_000_000_000
"""What the wall clock shows at virtual second 0, in Unix milliseconds."""

Backend = Literal["asyncio", "trio"]
_Result = TypeVar("_Result")

_LAST_THREADS_S = 5.0
"""Real seconds for the threads that a standstill left behind."""

_STANDSTILL = (
    "every task waits and no timer runs: on a real clock this would hang, unless a thread or a socket is at work. "
    "Neither lives in virtual time: open a SQLite store as SqliteStore(path, ids=..., threads=False), "
    "or run on a real clock"
)


class VirtualClock:
    """`chatkit.ports.Clock` on the running loop's time.

    Attributes:
        ahead_ms: How far its wall clock is ahead of the loop's; a jump of the machine's clock changes it.
    """

    def __init__(self, ahead_ms: int = 0) -> None:
        self.ahead_ms = ahead_ms

    def now_s(self) -> float:
        """Seconds of the loop."""
        return anyio.current_time()

    def now_ms(self) -> int:
        """Unix milliseconds, ahead of the loop's by `ahead_ms`."""
        return START_MS + int(anyio.current_time() * 1000) + self.ahead_ms


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where a real one would sleep, the time moves on.

    After a standstill was raised it gives threads a real moment, so that what waits for them can end with the loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._stood_still = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            ready = super().select(_LAST_THREADS_S) if self._stood_still else []
            self._stood_still = True
            if ready:
                return ready
            raise RuntimeError(_STANDSTILL)
        self.now_s += timeout
        return []


class _NumberedTask(asyncio.Task[Any]):
    virtual_number: int


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time.

    Args:
        seed: Draws the order in which ready callbacks run; None keeps asyncio's own, first in, first out.

    Raises:
        ConfigurationError: There is a seed, and asyncio's private parts are not those that this module knows.
    """

    _ready: Any  # asyncio's deque of callbacks that are due

    def __init__(self, seed: int | None = 0) -> None:
        self._jumping = _JumpingSelector()
        self._order: random.Random | None = None
        self._task_numbers = itertools.count(1)
        super().__init__(self._jumping)
        self.set_task_factory(self._numbered)
        if seed is not None:
            self._check_order()
            self._order = random.Random(seed)  # noqa: S311 -- no secret

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now_s

    def _run_once(self) -> None:
        if self._order is not None and len(self._ready) > 1:
            due = sorted(self._ready, key=_task_number)  # tasks in sets come by address, which is no seed's
            self._order.shuffle(due)
            self._ready.clear()
            self._ready.extend(due)
        super()._run_once()  # type: ignore[misc]  # private to asyncio, and not in its stubs

    def _check_order(self) -> None:
        """Have two tasks go on in reverse, as a seed may want it."""
        went_on: list[int] = []
        gate = self.create_future()

        async def wait(number: int) -> None:
            await gate
            went_on.append(number)

        waits = [wait(1), wait(2)]
        try:
            sound = self._goes_on_in_reverse(waits, gate) and went_on == [2, 1]
        except (AttributeError, TypeError) as error:
            raise self._unknown_asyncio() from error
        finally:
            for it in waits:
                it.close()
        if not sound:
            raise self._unknown_asyncio()

    def _goes_on_in_reverse(
        self, waits: Iterable[Coroutine[Any, Any, None]], gate: asyncio.Future[None]
    ) -> bool:
        """Whether the tasks are known by what is due, before and after they waited; they go on last in, first out."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            numbers = [getattr(self.create_task(it), "virtual_number", 0) for it in waits]
            started = [_task_number(handle) for handle in self._ready]
            self._run_once()
            gate.set_result(None)
            woken = [_task_number(handle) for handle in self._ready]
            self._ready.reverse()
            self._run_once()
        finally:
            asyncio._set_running_loop(outer)
        return started == woken == numbers

    def _unknown_asyncio(self) -> ConfigurationError:
        self.close()
        return ConfigurationError("this version of asyncio cannot be seeded; seed=None keeps its own order")

    def _numbered(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = _NumberedTask(coro, loop=loop, **options)
        task.virtual_number = next(self._task_numbers)
        return task


def _task_number(handle: Any) -> int:
    """The number of the task that a callback goes on with; 0 for any other callback."""
    return getattr(getattr(handle._callback, "__self__", None), "virtual_number", 0)


def run_virtual(
    main: Callable[..., Awaitable[_Result]], *args: Any, seed: int | None = 0, backend: Backend = "asyncio"
) -> _Result:
    """Run a program to its end in virtual time, from second 0 on.

    With a seed, garbage is not collected during the run: see `garbage_waits`.

    Args:
        main: An async function; `args` are handed to it.
        seed: Draws the order of tasks; None leaves it to the backend.
        backend: Whose tasks, cancellation and order; `trio` must be installed.

    Raises:
        ConfigurationError: asyncio or trio is not one that this module knows, or trio is wanted and not installed.
        RuntimeError: On asyncio: every task waits and no timer runs.
    """
    run = _run_on_trio if backend == "trio" else _run_on_asyncio
    if seed is None:
        return run(main, args, None)
    with garbage_waits():
        return run(main, args, seed)


def on_virtual_loop() -> bool:
    """Whether the running task is on a `VirtualLoop`. Says False on trio, also in virtual time."""
    try:
        return isinstance(asyncio.get_running_loop(), VirtualLoop)
    except RuntimeError:  # not on asyncio
        return False


@contextmanager
def garbage_waits() -> Iterator[None]:
    """Collect no garbage inside, and what is new of it at the end, unless collection was off before.

    When it runs depends on all that the process did before, and it calls finalizers: no two runs would be alike.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
            gc.collect(1)  # what was made inside is young still; the old is left to its own time


def _run_on_asyncio(
    main: Callable[..., Awaitable[_Result]], args: tuple[Any, ...], seed: int | None
) -> _Result:
    options = {"loop_factory": lambda: VirtualLoop(seed)}
    return anyio.run(main, *args, backend="asyncio", backend_options=options)


def _run_on_trio(main: Callable[..., Awaitable[_Result]], args: tuple[Any, ...], seed: int | None) -> _Result:
    try:
        import trio.testing
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the trio backend needs trio: pip install 'chatkit-engine[testing]'"
        ) from None
    options = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    if seed is None:
        return anyio.run(main, *args, backend="trio", backend_options=options)
    with _seeded_trio(seed):
        return anyio.run(main, *args, backend="trio", backend_options=options)


@contextmanager
def _seeded_trio(seed: int) -> Iterator[None]:
    """Inside, trio draws its order from the seed; afterwards it is as it was."""
    from trio._core import _run

    names = vars(_run)
    seeded = {"_ALLOW_DETERMINISTIC_SCHEDULING": True, "_r": random.Random(seed)}  # noqa: S311 -- no secret
    if not seeded.keys() <= names.keys():
        raise ConfigurationError("this version of trio cannot be seeded; seed=None keeps its own order")
    before = {name: names[name] for name in seeded}
    names.update(seeded)
    try:
        yield
    finally:
        names.update(before)
