"""Reads for sessions: SYNC pages, HEADS listings, and what a drained session is told.

One SYNC at a time per connection, none while its answers do not drain; the requests that wait are bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET

from ..core.connection import State
from ..errors import ConflictError, NotFoundError, OverloadedError, RefusedError
from ..storage.base import LogReader, Page
from ..wire import events as ev
from .config import ServerConfig
from .doubts import Doubts
from .entries import head_event, log_entries
from .hub import Hub
from .session import Session

Spawn = Callable[..., None]
"""Starts a session's background work: `spawn(session, function, *args)` runs `function(session, *args)`."""

_BEHIND_MAX = 200  # more conversations than this are told by a HEADS listing


class Sync:
    """Answers what a session pulls."""

    def __init__(
        self, store: LogReader, hub: Hub, doubts: Doubts, config: ServerConfig, spawn: Spawn
    ) -> None:
        self._store = store
        self._hub = hub
        self._doubts = doubts
        self._config = config
        self._spawn = spawn

    def request(self, session: Session, event: ev.Sync) -> None:
        """SYNC: a SYNC_PAGE. Source: docs/protocol.md#sync

        Raises:
            OverloadedError: Too many are waiting in this session; a retry is safe.
        """
        if len(session.sync_queue) >= self._config.sync_queue_max:
            raise OverloadedError("too many SYNC requests are waiting", retry_after_s=1.0)
        session.sync_queue.append(event)
        self._start(session)

    def list_heads(self, session: Session) -> None:
        """Start a HEADS listing; it leaves in pages as the buffer drains."""
        self._spawn(session, self._send_heads)

    def drained(self, session: Session) -> None:
        """Go on with a session whose buffer is empty: waiting pulls, and which conversations it missed."""
        if session.sync_queue:
            self._start(session)
        if len(session.behind) > _BEHIND_MAX:
            session.behind.clear()
            self.list_heads(session)
            return
        behind, session.behind = session.behind, {}
        for conversation_id in behind:
            audience = self._hub.audience(conversation_id)
            if audience is not None and session in audience.sessions:
                head_seq = max(audience.position, session.offered[conversation_id])
                session.offered[conversation_id] = head_seq
                session.answer(
                    ev.Behind(conversation_id=conversation_id, epoch=audience.epoch, head_seq=head_seq)
                )

    async def page(
        self, conversation_id: str, user_id: str, last_seq: int, limit: int, epoch: str | None = None
    ) -> Page:
        """One page of the log for a member.

        Raises:
            NotFoundError: Not a member.
            ConflictError: The log has another epoch than the caller's cursor.
        """
        limit = min(limit, ev.PAGE_MAX)
        page = await self._store.page(conversation_id, user_id, last_seq, limit, self._config.page_bytes_max)
        if epoch is not None and epoch != page.epoch:
            raise ConflictError("the log has another epoch; drop the cursor and sync afresh")
        return page

    def _start(self, session: Session) -> None:
        if not session.syncing:
            session.syncing = True
            self._spawn(session, self._serve)

    async def _serve(self, session: Session) -> None:
        """Answer waiting requests, one after the other, until none is left or the answers do not drain."""
        try:
            while session.sync_queue and session.state is State.OPEN and not session.congested:
                await self._serve_one(session, session.sync_queue.popleft())
        finally:
            session.syncing = False

    async def _serve_one(self, session: Session, event: ev.Sync) -> None:
        limit = ev.PAGE_MAX if event.limit is UNSET else max(1, event.limit)
        epoch = None if event.epoch is UNSET else event.epoch
        joined = event.conversation_id in session.offered
        try:
            page = await self.page(event.conversation_id, session.user_id, event.last_seq, limit, epoch)
            if joined and event.conversation_id not in session.offered:
                raise NotFoundError("no such conversation")  # left while the page was read
        except RefusedError as error:
            session.refuse(error, event.ref, event.conversation_id)
            return
        if not joined:  # through another node, which this one has not heard of yet
            self._doubts.joined(event.conversation_id, [session.user_id], "JOINED")
        session.answer(
            ev.SyncPage(
                conversation_id=page.conversation_id,
                epoch=page.epoch,
                head_seq=page.head_seq,
                messages=log_entries(page, session.codec),
                up_to_seq=page.up_to_seq,
                more=page.more,
                ref=event.ref,
            )
        )

    async def _send_heads(self, session: Session) -> None:
        heads = await self._store.heads(session.user_id, session.device_id)
        for head in heads:
            audience = self._hub.audience(head.conversation_id)
            if audience is not None:  # a receipt that comes late must not say less than this listing
                audience.furthest(session.user_id, head.delivered_seq, head.read_seq)
            if head.conversation_id not in session.offered:  # joined meanwhile, unless it was left meanwhile
                self._doubts.joined(head.conversation_id, [session.user_id], "JOINED")
        session.send_heads([head_event(head) for head in heads])
