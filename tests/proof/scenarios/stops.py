"""A store that a script can stop in the midst of a call, as a debugger would, and let go on or fail.

    stop = store.stop("commit", appends("m-4"), after=True)
    ...
    await stop.reached()  # the message is stored, and nobody knows it yet
    stop.refuse()

A stop is made before the call that it is to hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from typing import Any

import anyio

from chatkit.errors import UnavailableError
from chatkit.storage.base import Append, Command, Outcome, Store

from .demands import PATIENCE_S, require

Wanted = Callable[..., bool]
"""Whether a call with these arguments is the one."""


def commits(kind: type[Command]) -> Wanted:
    """A batch with such a command."""
    return lambda commands: any(type(it) is kind for it in commands)


def appends(client_msg_id: str) -> Wanted:
    """A batch with this message."""
    return lambda commands: any(type(it) is Append and it.client_msg_id == client_msg_id for it in commands)


def reads(user_id: str, device_id: str | None = None) -> Wanted:
    """A read in the name of a user, and of his device where the read has one."""
    return lambda *args: user_id in args and (device_id is None or device_id in args)


class Stop:
    """One call that is held; made by `StoppableStore.stop`.

    Attributes:
        after: Whether it is held after its effect, with its answer, instead of before.
    """

    def __init__(self, name: str, wanted: Wanted, *, after: bool) -> None:
        self.after = after
        self._name = name
        self._wanted = wanted
        self._reached = anyio.Event()
        self._over = anyio.Event()
        self._error: Exception | None = None

    def wants(self, name: str, args: Sequence[Any]) -> bool:
        """Whether a call is the one."""
        return name == self._name and self._wanted(*args)

    async def hold(self) -> None:
        """Keep the call until the script has decided. Raises what it decided on."""
        self._reached.set()
        await self._over.wait()
        if self._error is not None:
            raise self._error

    async def reached(self) -> None:
        """Return once the call is held. Raises TrapNotSetOffError if it does not come."""
        with anyio.move_on_after(PATIENCE_S):
            await self._reached.wait()
        require(self._reached.is_set(), f"a call of {self._name} comes that is to be stopped")

    def go_on(self) -> None:
        """Let the call go on as if nothing had been."""
        self._over.set()

    def refuse(self, retry_after_s: float = 0.5) -> None:
        """Let the caller be told UNAVAILABLE: with nothing done or, of a stop after the effect, with all done.

        Said before the call comes, it is refused when it comes.
        """
        self._error = UnavailableError("storage refuses", retry_after_s=retry_after_s)
        self._over.set()


class StoppableStore:
    """`storage.base.Store` with stops.

    Args:
        store: The store itself.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stops: list[Stop] = []
        self._holding: list[Stop] = []

    def stop(self, name: str, wanted: Wanted, *, after: bool = False) -> Stop:
        """Hold the next call of this name that is wanted; each stop holds one call, once.

        Args:
            name: Of the port's method.
            wanted: Asked with the call's arguments.
            after: Hold the answer instead of the call.
        """
        stop = Stop(name, wanted, after=after)
        self._stops.append(stop)
        return stop

    def let_all_go(self) -> None:
        """Hold nothing any more; what is held is refused."""
        self._stops.clear()
        for stop in self._holding:
            stop.refuse()

    @property
    def restored(self) -> bool:
        """As the store itself."""
        return self._store.restored

    @property
    def commits_in_flight_max(self) -> int:
        """As the store itself."""
        return self._store.commits_in_flight_max

    @property
    def healthy(self) -> bool:
        """As the store itself."""
        return self._store.healthy

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        """As the store itself, unless it is stopped."""
        outcomes: list[Outcome] = await self._pass("commit", self._store.commit, commands)
        return outcomes

    def __getattr__(self, name: str) -> Any:
        """Every other call of the port, alike; what is no call is as the store's own."""
        call = getattr(self._store, name)
        if not iscoroutinefunction(call):
            return call

        async def stoppable(*args: Any, **options: Any) -> Any:
            return await self._pass(name, call, *args, **options)

        return stoppable

    async def _pass(self, name: str, call: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        await self._halt(name, args, after=False)
        answer = await call(*args, **options)
        await self._halt(name, args, after=True)
        return answer

    async def _halt(self, name: str, args: Sequence[Any], *, after: bool) -> None:
        stop = next((it for it in self._stops if it.after is after and it.wants(name, args)), None)
        if stop is not None:
            self._stops.remove(stop)
            self._holding.append(stop)
            await stop.hold()
