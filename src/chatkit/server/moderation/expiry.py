"""The end of what is held and nobody decides about: it is refused, by whichever node looks first."""

from __future__ import annotations

from typing import Final

from ...errors import NotFoundError
from ...ports import Clock
from ...storage.base import ModerationReader, Review, Reviewed
from ..engine import Engine
from .config import ModerationConfig

LOOK_S: Final = 60.0
_PER_LOOK: Final = 100
NOT_REVIEWED: Final = "nobody reviewed this message in time"


class HoldExpiry:
    """Looks for held messages that are too old. Called by the server's timers."""

    def __init__(
        self, store: ModerationReader, engine: Engine, config: ModerationConfig, clock: Clock
    ) -> None:
        self._store = store
        self._engine = engine
        self._held_s = config.held_s
        self._clock = clock

    async def look(self) -> None:
        """Refuse what is too old; at most 100 messages a look. Raises RefusedError if storage does."""
        if self._held_s is None:
            return
        now_ms = self._clock.now_ms()
        for it in await self._store.held_messages(0, _PER_LOOK):
            if it.at_ms + self._held_s * 1000 <= now_ms:
                review = Review(
                    it.held_id, it.conversation_id, it.sender_id, None, False, now_ms, NOT_REVIEWED
                )
                try:
                    await self._engine.execute(review, Reviewed)
                except NotFoundError:
                    continue  # decided meanwhile
