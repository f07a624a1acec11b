"""What became of one message, as the store and this node know it. Called by `ChatServer.explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from .._abilities import offers
from ..core.log.explain import LiveSession, explain
from ..errors import ConfigurationError
from ..ports import Clock
from ..storage.base import READERS_MAX, MessageTrail, Store, TrailReader
from ..types import Explanation
from .live.presence import Presence

READERS_SHOWN: Final = 200
"""Members that are told of, where nobody asks for another number."""

ReaderLimit = Annotated[int, msgspec.Meta(ge=1, le=READERS_MAX)]


async def explain_message(
    store: Store, presence: Presence, clock: Clock, message_id: str, user_id: str | None, limit: int
) -> Explanation:
    """See `ChatServer.explain`, where the arguments are checked."""
    if not offers(store, TrailReader):
        raise ConfigurationError("this store has no `trail`: it cannot say what became of a message")
    trail = await store.trail(message_id, user_id, min(limit, READERS_MAX))
    return explain(trail, clock.now_ms(), [*_live(presence, trail)])


def _live(presence: Presence, trail: MessageTrail) -> Iterator[LiveSession]:
    name = trail.conversation_id
    for session in presence.sessions(it.user_id for it in trail.readers if it.leave_seq is None):
        offered_seq, is_behind = session.last_pushed_seq.get(name), name in session.behind
        yield LiveSession(session.user_id, session.device_id, session.session_id, offered_seq, is_behind)
