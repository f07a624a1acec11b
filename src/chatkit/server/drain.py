"""The end of a node that others go on without: its clients are sent away a few at a time, then it closes.

Whoever has not been told to leave is served as ever, so that nobody waits for the others to go. Used by `server`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

import anyio

from ..ports import Clock
from .committer import DRAINING, Committer
from .config import ServerConfig
from .moderation.stage import Moderation
from .session import Session
from .sessions import Sessions

_STEP_S: Final = 0.1
_STEP_LEAST: Final = 20
"""Sessions in one step at least, so that a small server ends at once."""


class Drain:
    """Sends everybody away, once; a second call waits for the first and finds nobody left.

    Args:
        committer: Whose answers are waited for.
        moderation: What comes before it, if there is a moderator.
    """

    def __init__(
        self,
        sessions: Sessions,
        committer: Committer,
        config: ServerConfig,
        clock: Clock,
        moderation: Moderation | None = None,
    ) -> None:
        self._sessions = sessions
        self._committer = committer
        self._moderation = moderation
        self._config = config
        self._clock = clock
        self._turn = anyio.Lock()

    async def run(self, *, running: bool) -> None:
        """Take nobody in from here on, send everybody away in steps, and refuse all commands after that.

        Args:
            running: Whether there is somebody to commit what was accepted.
        """
        self._sessions.turn_away()
        async with self._turn:
            if running:
                await self._in_steps()
            self._committer.close(DRAINING)
            self._sessions.tell_to_leave(self._sessions)
            with anyio.move_on_after(self._config.drain_timeout_s):
                if running:
                    await self._flush()
            with anyio.move_on_after(self._config.drain_timeout_s):
                self._sessions.send_away(self._sessions)
                await self._sessions.wait_empty()

    async def _flush(self) -> None:
        if self._moderation is not None:
            await self._moderation.flush()
        await self._committer.flush()

    async def _answer(self, sessions: Collection[Session]) -> None:
        if self._moderation is not None:
            await self._moderation.answer(sessions)
        await self._committer.answer(sessions)

    async def _in_steps(self) -> None:
        spread_s = min(self._config.drain_spread_s, self._config.drain_timeout_s)
        end_s = self._clock.now_s() + spread_s
        with anyio.move_on_after(spread_s):
            while staying := self._sessions.staying():
                left_s = max(end_s - self._clock.now_s(), _STEP_S)
                count = max(math.ceil(len(staying) * _STEP_S / left_s), _STEP_LEAST)
                if count >= len(staying):
                    return
                step = dict.fromkeys(staying[:count])
                self._sessions.tell_to_leave(step)
                await self._answer(step)
                self._sessions.send_away(step)
                await anyio.sleep(_STEP_S)
