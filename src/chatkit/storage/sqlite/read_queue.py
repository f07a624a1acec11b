"""Reads on their way to a connection: several of them go together.

Going to a thread and back costs more than a short read. Whoever gets a connection takes along those that wait, and
those that come before its thread has begun, each in a transaction of its own; who comes later has the next free one. So
many logins that are stored together list their conversations together. Called by `store`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import anyio

READS_MAX: Final = 16
"""So many at once: a read waits for the others that are taken along with it."""

_Result = TypeVar("_Result")


class _Read:
    """One read: what it does, and what came of it. Nobody waits any more for one that is abandoned."""

    __slots__ = ("abandoned", "done", "error", "has_turn", "value", "woken", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.woken: anyio.Event | None = None
        self.has_turn = self.abandoned = False
        self.done = False
        self.value: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.value = self.work()
        except Exception as error:
            self.error = error
        self.done = True

    def result(self) -> Any:
        error, self.error = self.error, None  # its traceback holds this read: together they would be a cycle
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self.value


class ReadQueue:
    """First in, first out.

    Args:
        run: Runs blocking work to its end in a thread, or right here.
        at_once: Connections.
    """

    def __init__(self, run: Callable[[Callable[[], None]], Awaitable[None]], at_once: int) -> None:
        self._run = run
        self._free = at_once  # above 0 only while nothing waits
        self._waiting: deque[_Read] = deque()
        self._gathering: list[_Read] | None = None  # have a connection, whose thread has not begun

    async def read(self, work: Callable[[], _Result]) -> _Result:
        """Run blocking work and return what it returns, or raise what it raises. Once begun it ends in any case."""
        it = _Read(work)
        if self._gathering is not None and len(self._gathering) < READS_MAX:
            await self._wait(it, self._gathering)
        elif self._free:
            self._free -= 1
            it.has_turn = True
        else:
            await self._wait(it, self._waiting)
        if not it.done:
            await self._serve(it)
        return cast("_Result", it.result())

    async def _wait(self, it: _Read, others: list[_Read] | deque[_Read]) -> None:
        """Until it was taken along by another one, or has its turn."""
        it.woken = anyio.Event()
        others.append(it)
        try:
            await it.woken.wait()
        except BaseException:
            if it.has_turn:
                self._hand_on()
            elif it in self._waiting:
                self._waiting.remove(it)
            else:
                it.abandoned = True  # another one has taken it along, and may put it back
            raise

    async def _serve(self, first: _Read) -> None:
        """Run it, those that wait, and those that come meanwhile, as far as they go along."""
        batch = [first]
        batch += [self._waiting.popleft() for _ in range(min(READS_MAX - 1, len(self._waiting)))]
        self._gathering = batch

        def work() -> None:
            self._begin(batch)
            for it in batch:
                it.run()

        try:
            await self._run(work)
        finally:
            self._begin(batch)
            taken = batch[1:]
            # it was cancelled before it began, or they came as it ended
            left = [it for it in taken if not (it.done or it.abandoned)]
            self._waiting.extendleft(reversed(left))
            for it in taken:
                if it.done and it.woken is not None:
                    it.woken.set()
            self._hand_on()
            while self._free and self._waiting:
                self._free -= 1
                self._hand_on()

    def _begin(self, batch: list[_Read]) -> None:
        """Nobody goes along any more. Called in the thread too: who is added at that moment is done, or is left."""
        if self._gathering is batch:
            self._gathering = None

    def _hand_on(self) -> None:
        """The oldest that waits has its turn."""
        if not self._waiting:
            self._free += 1
            return
        it = self._waiting.popleft()
        it.has_turn = True
        assert it.woken is not None
        it.woken.set()
