"""An entered client: its parts, its background task, and the waits that outlast one connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskGroup

from ..errors import ClosedError, ConnectionLostError, DeadlineExceededError
from .api import ChatApi
from .history import History
from .parts import Parts
from .requests import Answer, Asking
from .session import Session


class Running:
    """What exists between `__aenter__` and `__aexit__`."""

    def __init__(self, parts: Parts, session: Session) -> None:
        self.parts = parts
        self.session = session
        self.history = History(parts, session)
        self.api: ChatApi | None = None
        self.closing = False
        self._calls: set[anyio.CancelScope] = set()
        self.consuming = False
        self.typed_at_s: dict[str, float] = {}
        self._group: TaskGroup = anyio.create_task_group()

    async def start(self) -> None:
        """Run the session in the background."""
        await self._group.__aenter__()
        self._group.start_soon(self.session.run)

    @contextmanager
    def call(self, timeout_s: float) -> Iterator[None]:
        """One waiting call of the app.

        Raises:
            DeadlineExceededError: The body took longer.
            ClosedError: The client is closing, or closed while the call waited.
        """
        self.check_open()
        with anyio.move_on_after(timeout_s) as scope:
            self._calls.add(scope)
            try:
                yield
            finally:
                self._calls.discard(scope)
        if scope.cancelled_caught:
            self.check_open()
            raise DeadlineExceededError(f"no result within {timeout_s:g} s")

    def check_open(self) -> None:
        """Raises ClosedError once the client is closing."""
        if self.closing:
            raise ClosedError("the client is closing")

    def close(self) -> None:
        """Take no more calls, and end those that wait."""
        self.closing = True
        for scope in list(self._calls):
            scope.cancel()

    async def stop(self) -> None:
        """End the background task and release everything, also when the caller is being cancelled."""
        self.close()
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            self.parts.sender.stopped(ClosedError("the client was closed"))
            self.parts.mailbox.close()
            self.parts.store.close()
            await self._close_api()

    async def drain(self) -> None:
        """Return once every message is answered and every cursor written, or the client has stopped."""
        await self.parts.sender.wait_emptied()
        await self.parts.outgoing.wait_flushed()

    async def ask(self, event: Asking, timeout_s: float) -> Answer:
        """A request that is safe to repeat, over as many connections as it takes. The caller sets the deadline."""
        while True:
            await self.session.wait_connected()
            try:
                return await self.parts.requests.ask(event, timeout_s)
            except ConnectionLostError:
                await anyio.lowlevel.checkpoint()

    async def _close_api(self) -> None:
        if self.api is not None:
            with anyio.CancelScope(shield=True):
                await self.api.aclose()
