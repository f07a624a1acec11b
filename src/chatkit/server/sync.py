"""Reads for sessions: SYNC pages, HEADS listings, and BEHIND once a session is drained.

One SYNC at a time per connection, none while a page of it has not left yet; the requests that wait are bounded.
"""

from __future__ import annotations

from collections import deque

import msgspec
from msgspec import UNSET

from ..core.connection import State
from ..core.log.marks import StoredMarks
from ..errors import ConflictError, NotFoundError, OverloadedError, RefusedError
from ..observability.instrument import Instruments
from ..storage.base import Page, PinRow, Store
from ..wire import events as ev
from ..wire.payload import RECALLED
from .allowance import Allowance
from .archiving.reader import ArchiveReader
from .background import Spawn
from .cluster.reconcile_queue import ReconcileQueue
from .config import ServerConfig
from .entries import head_event, log_entries
from .live.hub import Hub
from .read_gate import ReadGate
from .session import Session

HEADS_PER_PAGE = ev.PAGE_MAX
"""Conversations in one frame of a HEADS listing."""

BEHIND_MAX = 200
"""More conversations than this are announced by a HEADS listing."""


class _Reading(msgspec.Struct):
    """What one session still has to be sent.

    Attributes:
        requests: SYNC requests that wait for their turn.
        serving: Whether a task answers them.
        heads: The rest of a HEADS listing; None if there is none under way.
    """

    requests: deque[ev.Sync] = msgspec.field(default_factory=deque)
    serving: bool = False
    heads: deque[ev.Head] | None = None


class Sync:
    """Answers what a session asks of the log."""

    def __init__(
        self,
        store: Store,
        log: ArchiveReader,
        hub: Hub,
        to_reconcile: ReconcileQueue,
        allowance: Allowance,
        reads: ReadGate,
        config: ServerConfig,
        spawn: Spawn,
        instruments: Instruments,
    ) -> None:
        self._allowance = allowance
        self._reads = reads
        self._store = store
        self._log = log
        self._hub = hub
        self._to_reconcile = to_reconcile
        self._config = config
        self._spawn = spawn
        self._instruments = instruments
        self._readings: dict[Session, _Reading] = {}

    def request(self, session: Session, event: ev.Sync) -> None:
        """SYNC: a SYNC_PAGE. Source: docs/protocol.md#sync

        Raises:
            OverloadedError: Too many are waiting in this session; a retry is safe.
            RateLimitedError: The user asks for more than their share; a retry is safe.
        """
        self._allowance.request(session.user_id)
        reading = self._reading(session)
        if len(reading.requests) >= self._config.sync_queue_max:
            raise OverloadedError("too many SYNC requests are waiting", retry_after_s=1.0)
        reading.requests.append(event)
        self._serve(session, reading)

    def list_heads(self, session: Session) -> None:
        """Start a HEADS listing, as `read_heads`, without waiting for it."""
        self._spawn(session, self.read_heads)

    async def read_heads(self, session: Session) -> None:
        """Read a HEADS listing; it leaves in pages as the buffer drains. A newer one takes the place of the former."""
        async with self._reads.turn(session.user_id):
            heads = await self._store.heads(session.user_id, session.device_id)
        for head in heads:
            audience = self._hub.audience(head.conversation_id)
            if audience is not None:  # a receipt that comes late must not say less than this listing
                audience.raise_cursors(session.user_id, head.delivered_seq, head.read_seq)
            if head.conversation_id not in session.last_pushed_seq:
                # joined meanwhile, unless it was left meanwhile
                self._to_reconcile.joined(head.conversation_id, [session.user_id], "JOINED")
        if not session.closed:
            self._reading(session).heads = deque(map(head_event, heads))
            session.call_when_drained()

    def drained(self, session: Session) -> None:
        """Go on with a session whose buffer is empty: a listing, else waiting requests and what it missed."""
        reading = self._readings.get(session)
        if reading is not None and reading.heads is not None:
            self._send_heads(session, reading, reading.heads)
            return
        if reading is not None and reading.requests:
            self._serve(session, reading)
        if session.behind and self._instruments.on_behind is not None:
            self._instruments.on_behind(len(session.behind))
        if len(session.behind) > BEHIND_MAX:
            session.behind.clear()
            self.list_heads(session)
        else:
            self._announce_behind(session)

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._readings.pop(session, None)

    async def page(
        self,
        conversation_id: str,
        user_id: str,
        last_seq: int,
        limit: int,
        epoch: str | None = None,
        *,
        history: bool = False,
    ) -> Page:
        """One page of the log for a member; with `history`, also of what they may read of the time before they joined.

        Raises:
            NotFoundError: Not a member.
            ConflictError: The log has another epoch than the caller's cursor.
            UnavailableError: The page has messages from the archive, which does not answer; a retry is safe.
            RateLimitedError: Too many reads of this user wait already.
        """
        limit, bytes_max = min(limit, ev.PAGE_MAX), self._config.page_bytes_max
        async with self._reads.turn(user_id):
            bounds = (last_seq, limit, bytes_max)
            page = await self._log.page(conversation_id, user_id, *bounds, history=history)
        if epoch is not None and epoch != page.epoch:
            raise ConflictError("the log has another epoch; drop the cursor and sync afresh")
        return page

    async def pins(self, conversation_id: str, user_id: str) -> list[PinRow]:
        """What is pinned of what a member may read, pinned last first, with the messages that a page has room for.

        Raises:
            As `page`.
        """
        found, room = [], self._config.page_bytes_max
        async with self._reads.turn(user_id):
            for it in await self._store.pins(conversation_id, user_id, room):
                entry = it.entry if room > 0 else None
                if entry is not None and not entry.payload:  # the archive has its body
                    page = await self._log.page(conversation_id, user_id, it.seq - 1, 1, room, history=True)
                    entry = page.entries[0] if page.entries else None
                    if entry is None or entry.seq != it.seq or entry.payload == RECALLED:
                        continue  # it was recalled or has expired just now
                if entry is not None:
                    room -= len(entry.payload) + StoredMarks(entry.edit, entry.reactions).size_bytes
                found.append(it._replace(entry=entry))
        return found

    def _reading(self, session: Session) -> _Reading:
        return self._readings.setdefault(session, _Reading())

    def _forget_if_done(self, session: Session, reading: _Reading) -> None:
        """A session that is owed nothing takes no memory here: most are idle most of the time."""
        if not (reading.serving or reading.requests or reading.heads is not None):
            self._readings.pop(session, None)

    # --- SYNC ---

    def _serve(self, session: Session, reading: _Reading) -> None:
        if not reading.serving:
            reading.serving = True
            self._spawn(session, self._answer_requests, reading)

    async def _answer_requests(self, session: Session, reading: _Reading) -> None:
        """Answer waiting requests, one after the other, until none is left or the answers do not drain."""
        try:
            while reading.requests and session.state is State.OPEN and self._may_page(session):
                await self._answer(session, reading.requests.popleft())
        finally:
            reading.serving = False
        if reading.requests and not session.closed:
            session.call_when_drained()
        self._forget_if_done(session, reading)

    def _may_page(self, session: Session) -> bool:
        """A slow reader holds two pages at most: the next is made once the first has left."""
        return session.buffered_bytes < self._config.page_bytes_max

    async def _answer(self, session: Session, event: ev.Sync) -> None:
        limit = ev.PAGE_MAX if event.limit is UNSET else max(1, event.limit)
        epoch = None if event.epoch is UNSET else event.epoch
        try:
            await self._find_joined(session, event.conversation_id)
            bounds = (event.last_seq, limit, epoch)
            history = event.history is True
            page = await self.page(event.conversation_id, session.user_id, *bounds, history=history)
            if not self._hub.show_streams(
                session, page.conversation_id, page.entries
            ):  # one grew while it was read
                page = await self.page(event.conversation_id, session.user_id, *bounds, history=history)
            if event.conversation_id not in session.last_pushed_seq:
                raise NotFoundError("no such conversation")  # left while the page was read
        except RefusedError as error:
            session.refuse(error, event.ref, event.conversation_id)
            return
        session.answer(
            ev.SyncPage(
                conversation_id=page.conversation_id,
                epoch=page.epoch,
                head_seq=page.head_seq,
                messages=log_entries(page, session.codec),
                up_to_seq=page.up_to_seq,
                more=page.more,
                floor_seq=page.floor_seq or UNSET,
                ref=event.ref,
            )
        )

    async def _find_joined(self, session: Session, conversation_id: str) -> None:
        """A conversation that this node does not know to be the session's is looked up: who is a member hears JOINED,
        and only then gets its page.

        Raises:
            NotFoundError: Not a member.
            RateLimitedError: Too many reads of this user wait already.
        """
        if conversation_id not in session.last_pushed_seq:
            async with self._reads.turn(session.user_id):
                found = await self._store.conversation(conversation_id, session.user_id)
            self._hub.admit(found, {session.user_id: "JOINED"})

    # --- HEADS ---

    def _send_heads(self, session: Session, reading: _Reading, heads: deque[ev.Head]) -> None:
        """Send the next page; conversations left since the listing was read are passed over."""
        pushed = session.last_pushed_seq
        page = [heads.popleft() for _ in range(min(HEADS_PER_PAGE, len(heads)))]
        page = [head for head in page if head.conversation_id in pushed]
        for head in page:
            pushed[head.conversation_id] = max(head.head_seq, pushed[head.conversation_id])
        session.answer(ev.Heads(conversations=page, more=bool(heads)))
        if not heads:
            reading.heads = None
        if heads or reading.requests or session.behind:
            session.call_when_drained()
        self._forget_if_done(session, reading)

    # --- BEHIND ---

    def _announce_behind(self, session: Session) -> None:
        behind, session.behind = session.behind, {}
        for conversation_id in behind:
            audience = self._hub.audience(conversation_id)
            if audience is not None and session in audience.sessions:
                head_seq = max(audience.position, session.last_pushed_seq[conversation_id])
                session.last_pushed_seq[conversation_id] = head_seq
                session.answer(
                    ev.Behind(conversation_id=conversation_id, epoch=audience.epoch, head_seq=head_seq)
                )
