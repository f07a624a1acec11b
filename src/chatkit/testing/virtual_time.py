"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing is ready.

Waits cost nothing and never vary, and with a seed the order in which ready tasks run is drawn from it: the same seed
runs the same program the same way, in every process. Threads and real sockets are not for such a loop. One that
waits for ever raises instead of hanging.

Two backends: asyncio, on which users run, and trio, whose own order is seeded through a private name of it (this
module checks that the name is there).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import anyio

from ..errors import ConfigurationError

START_MS = 1_700_000_000_000
"""What the wall clock shows at virtual second 0, in Unix milliseconds."""

Backend = Literal["asyncio", "trio"]
_Result = TypeVar("_Result")


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
    """Never waits: where a real one would sleep, the time moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits and no timer runs: on a real clock this would hang")
        self.now_s += timeout
        return []


class _NumberedTask(asyncio.Task[Any]):
    virtual_number: int


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time.

    Args:
        seed: Draws the order in which ready callbacks run; None keeps asyncio's own, first in, first out.
    """

    _ready: Any  # asyncio's deque of callbacks that are due

    def __init__(self, seed: int | None = None) -> None:
        self._jumping = _JumpingSelector()
        self._order = None if seed is None else random.Random(seed)  # noqa: S311 -- no secret
        self._task_numbers = itertools.count(1)
        super().__init__(self._jumping)
        self.set_task_factory(self._numbered)

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

    Args:
        main: An async function; `args` are handed to it.
        seed: Draws the order of tasks; None keeps asyncio's own.
        backend: Whose tasks, cancellation and order; `trio` must be installed.

    Raises:
        ConfigurationError: trio is wanted and is not installed, or not one that this module knows.
        RuntimeError: On asyncio: every task waits and no timer runs.
    """
    if backend == "trio":
        return anyio.run(main, *args, backend="trio", backend_options=_trio_options(seed or 0))
    options = {"loop_factory": lambda: VirtualLoop(seed)}
    return anyio.run(main, *args, backend="asyncio", backend_options=options)


def _trio_options(seed: int) -> dict[str, Any]:
    try:
        import trio.testing
        from trio._core import _run
    except ModuleNotFoundError:
        raise ConfigurationError("the trio backend needs trio: pip install 'chatkit[testing]'") from None
    if not {"_ALLOW_DETERMINISTIC_SCHEDULING", "_r"} <= vars(_run).keys():
        raise ConfigurationError("this version of trio cannot be seeded")
    vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    vars(_run)["_r"] = random.Random(seed)  # noqa: S311 -- no secret
    return {"clock": trio.testing.MockClock(autojump_threshold=0)}
