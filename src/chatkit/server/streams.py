"""Streamed messages: takes parts from their authors, and ends the streams of authors who are silent.

A part goes through the committer like a message, and is answered and pushed by `publisher`. Where a moderator is set,
parts are refused unless the host lets them pass unseen: nobody reads what the moderator has not seen.
"""

from __future__ import annotations

import logging
from typing import Final

from ..errors import BadRequestError, ConflictError, ForbiddenError, RefusedError
from ..ports import Clock
from ..storage.base import Appended, AppendPart, IdleStream, StreamReader
from ..wire import events as ev
from ..wire.payload import part_bytes
from .allowance import Allowance
from .committer import Committer
from .config import ServerConfig
from .engine import Engine
from .pending import PendingCommand
from .session import Session

logger = logging.getLogger(__name__)

_ENDED_PER_LOOK: Final = 100

_LOOKS_PER_WAIT: Final = 4
"""So often within `stream_idle_s`: a stream ends a quarter of it late at most."""


class Streams:
    """Takes STREAM_PART from sessions, and ends what nobody continues.

    Args:
        store: Where silent streams are looked up; None: it cannot say, and they stay open.
        moderated: Whether a moderator is set: then a stream that nobody continues ends with the text that it began
            with, for that is what the moderator has seen.
        unseen: Whether parts are shown all the same.
    """

    def __init__(
        self,
        store: StreamReader | None,
        engine: Engine,
        committer: Committer,
        allowance: Allowance,
        config: ServerConfig,
        clock: Clock,
        *,
        moderated: bool,
        unseen: bool,
    ) -> None:
        self._store = store
        self._engine = engine
        self._committer = committer
        self._allowance = allowance
        self._idle_s = config.stream_idle_s
        self._clock = clock
        self._moderated = moderated
        self._takes_parts = unseen or not moderated

    @property
    def look_s(self) -> float:
        """How often `end_idle` is to be called."""
        return self._idle_s / _LOOKS_PER_WAIT

    def part(self, session: Session, event: ev.StreamPartCommand) -> None:
        """STREAM_PART: STREAM_ACK once durable. Source: docs/protocol.md#stream_part

        Raises:
            BadRequestError, TooLargeError: A text that no part has.
            ForbiddenError: A moderator is set, and parts are not to be shown unseen.
            RateLimitedError: Too many parts of this user.
            OverloadedError, UnavailableError: As for a message; a retry is safe.
        """
        if event.part == 0:
            if event.text:
                raise BadRequestError("part 0 has no text")
        elif not self._takes_parts:
            raise ForbiddenError("a moderator sees the whole first: send it with the end of the stream")
        command = AppendPart(
            event.conversation_id,
            event.message_id,
            session.user_id,
            event.part,
            event.text,
            part_bytes(event.text) if event.part else 0,
            self._clock.now_ms(),
            self._engine.policy,
        )
        self._allowance.stream_part(session.user_id, event.conversation_id)
        pending = PendingCommand(
            command, session, event.ref, user_id=session.user_id, received_s=session.heard_at_s
        )
        self._committer.submit(pending)

    async def end_idle(self) -> None:
        """End the streams of which nothing was heard for `stream_idle_s`, with what there is of them.

        Where a moderator is set that is the text that they began with. At most 100 a look. One that cannot be ended
        now comes again with the next look, and keeps no other one open. Raises RefusedError if they cannot be read.
        """
        if self._store is None:
            return
        now_ms, idle_ms = self._clock.now_ms(), int(self._idle_s * 1000)
        for it in await self._store.idle_streams(
            now_ms - idle_ms, now_ms + idle_ms, _ENDED_PER_LOOK, parts=not self._moderated
        ):
            await self._end(it)

    async def _end(self, it: IdleStream) -> None:
        try:
            await self._engine.execute(self._engine.end_stream(it), Appended)
        except ConflictError:
            return  # its author came back, another node was first, or the key is taken
        except RefusedError as error:
            logger.warning("the stream %s cannot be ended now: %s", it.message_id, error)
