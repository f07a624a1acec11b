"""Asks the log for what this node may have missed, and applies it. One task per node.

Missed entries are read and handed to the hub in order; users who joined through another node are looked up and taken
in; sessions whose device opened a newer one elsewhere are closed. What storage refuses to say is asked again. Only the
store is believed: a sign that was wrong costs one read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import anyio
import anyio.lowlevel

from ...errors import NotFoundError, RefusedError
from ...observability.instrument import Instruments, Reconciled
from ...ports import Clock
from ...storage.base import Entry, Store
from ...types import JoinReason
from ...wire import events as ev
from ..archiving.reader import ArchiveReader
from ..committer import Committer
from ..live.fanout import DELIVERIES_PER_TURN
from ..live.hub import Hub
from ..receipts import Receipts
from ..seq_check import SeqCheck
from ..session import Session
from .reconcile_queue import Noted, ReconcileQueue

logger = logging.getLogger(__name__)

HEADS_PER_READ = 500
ENTRIES_PER_READ = 100
CHANGES_PER_READ = 500
PAYLOAD_BYTES_PER_TURN = 128 * 1024
_BEGIN_RETRY_S = 1.0


class Reconciler:
    """Keeps what this node believes up with the log.

    Args:
        wait_s: How long what is missing may still come by itself before it is read.
        clock: Times the looks, for instruments.
        check: Looks at the numbers of what is read.
        instruments: Told what had been missed.
    """

    def __init__(
        self,
        store: Store,
        log: ArchiveReader,
        hub: Hub,
        receipts: Receipts,
        committer: Committer,
        to_reconcile: ReconcileQueue,
        wait_s: float,
        clock: Clock,
        check: SeqCheck,
        instruments: Instruments,
    ) -> None:
        self._store = store
        self._log = log
        self._hub = hub
        self._receipts = receipts
        self._committer = committer
        self._to_reconcile = to_reconcile
        self._wait_s = wait_s
        self._clock = clock
        self._check = check
        self._on_reconciled = instruments.on_reconciled
        self._missed: dict[str, int] = {}
        self._position: int | None = None
        self._unanswered = ReconcileQueue()

    async def begin(self) -> None:
        """Remember how far the changes of memberships are: those from here on are followed.

        Must be awaited before the first session comes. Waits until storage answers.
        """
        while self._position is None:
            try:
                self._position = (await self._store.membership_changes(None, 1)).position
            except RefusedError as error:
                _refused(error)
                await anyio.sleep(_BEGIN_RETRY_S)

    async def run(self) -> None:
        """Ask about what is noted until cancelled."""
        while True:
            await self._to_reconcile.wait()
            await anyio.sleep(self._wait_s)
            try:
                await self.reconcile(self._to_reconcile.take())
            except Exception:
                logger.exception("following the log failed")  # what is left of it is found by the next check

    async def retry(self) -> None:
        """Take up again what storage refused to say. Called about once a second, so that nothing else waits for it."""
        self._to_reconcile.again(self._unanswered.take())

    async def reconcile(self, noted: Noted) -> None:
        """Ask the log about everything that was noted.

        An unforeseen error costs the join, the log or the devices that it came with, never the rest: those are asked
        about again.
        """
        began_s, self._missed = self._clock.now_s(), {}
        if noted.changes:
            await self._read_changes()
        for conversation_id, users in noted.joins.items():
            await self._try_admit(conversation_id, users)
        await self._compare(self._hub.conversation_ids() if noted.all_logs else list(noted.logs))
        await self._check_devices(self._sessions(noted))
        await self._receipts.flush_all()
        if self._on_reconciled is not None:
            missed, duration_s = self._missed, self._clock.now_s() - began_s
            self._on_reconciled(Reconciled(sum(missed.values()), len(missed), duration_s))

    # --- logs ---

    async def _compare(self, conversation_ids: list[str]) -> None:
        """Compare heads; apply what is missing."""
        for start in range(0, len(conversation_ids), HEADS_PER_READ):
            names = conversation_ids[start : start + HEADS_PER_READ]
            before = self._hub.epochs(names)
            try:
                heads = await self._store.head_seqs(names)
            except Exception as error:
                _failed("comparing logs", error)
                for name in names:
                    self._unanswered.log(name)
                continue
            for name, head in heads.items():
                await self._compare_one(name, head, before)

    async def _compare_one(self, name: str, head: tuple[str, int], before: dict[str, str]) -> None:
        try:
            further = self._hub.compare({name: head}, before)
        except Exception as error:
            _failed("comparing one log", error)  # what it says is compared again by the next check
            return
        if further:
            await self._follow(name, head[1])

    async def _follow(self, conversation_id: str, head_seq: int) -> None:
        """Apply a log up to a seq that it is known to have."""
        try:
            while (position := self._position_of(conversation_id)) is not None and position < head_seq:
                entries = await self._log.entries(conversation_id, position, ENTRIES_PER_READ)
                if not await self._restarted(entries, position, head_seq):
                    self._check.read(entries, position)
                    await self._apply(entries)
                reached = self._position_of(conversation_id)
                if reached == position:
                    break  # of another epoch, which the hub has noted, or a shorter log
                if reached is not None and reached > position:
                    missed = self._missed.get(conversation_id, 0)
                    self._missed[conversation_id] = missed + reached - position
        except RefusedError as error:
            _refused(error)
            self._unanswered.log(conversation_id)
        except Exception:
            logger.exception("following one log failed")  # it goes on behind the entry that did this

    async def _apply(self, entries: Iterable[Entry]) -> None:
        """Publish entries in order; the loop gets its turn after enough deliveries, or after enough bytes.

        A page of large entries is more than a session's send buffer holds: whoever reads is given the time to.
        """
        deliveries = payload_bytes = 0
        for entry in entries:
            own = entry.client_msg_id is not None and self._hub.in_conversation(
                entry.conversation_id, (entry.sender_id,)
            )
            deliveries += self._hub.publish(entry, self._committer.origin(entry) if own else None)
            payload_bytes += len(entry.payload)
            if deliveries >= DELIVERIES_PER_TURN or payload_bytes >= PAYLOAD_BYTES_PER_TURN:
                deliveries = payload_bytes = 0
                await anyio.lowlevel.checkpoint()

    async def _restarted(self, entries: Sequence[Entry], position: int, head_seq: int) -> bool:
        """Pass over what was deleted for good before it was applied here; returns whether that is so.

        Who came and who left may be among it, so that it is read anew who of those online is a member.
        """
        if not entries or entries[0].seq == position + 1:
            return False
        name, epoch = entries[0].conversation_id, entries[0].epoch
        first, members, gone = None, set[str](), set[str]()
        for user_id in self._hub.online(name):
            if user_id in members:
                continue
            try:
                found = await self._store.conversation(name, user_id)
            except NotFoundError:
                gone.add(user_id)
                continue
            if first is None:
                page = await self._store.page(name, user_id, position, 1, 1)
                if page.floor_seq <= position or {page.epoch, found.epoch} != {epoch}:
                    return False
            first = first or found  # the oldest: what was written since then is followed
            members.update((user_id, *found.member_ids))
        head = (head_seq, 0) if first is None else (first.head_seq, first.member_count)
        self._hub.restart(entries[0], *head, gone)
        return True

    def _position_of(self, conversation_id: str) -> int | None:
        """How far a conversation was applied; None if nobody of it is online."""
        audience = self._hub.audience(conversation_id)
        return None if audience is None else audience.position

    # --- memberships ---

    async def _read_changes(self) -> None:
        """Find users of this node who joined conversations anywhere."""
        while self._position is not None:
            try:
                changes = await self._store.membership_changes(self._position, CHANGES_PER_READ)
            except Exception as error:
                _failed("reading the changes of memberships", error)
                self._unanswered.changes()
                return
            for change in changes.changes:
                await self._try_admit(change.conversation_id, dict.fromkeys(change.user_ids, change.reason))
            self._position = changes.position
            if len(changes.changes) < CHANGES_PER_READ:
                return

    async def _try_admit(self, conversation_id: str, users: dict[str, JoinReason]) -> None:
        """Take in the sessions of those users who really are members; whoever is left out is looked at again."""
        try:
            await self._admit(conversation_id, users)
        except Exception as error:
            _failed("letting members in", error)
            self._unanswered.again(Noted(joins={conversation_id: users}))

    async def _admit(self, conversation_id: str, users: dict[str, JoinReason]) -> None:
        missing = self._hub.outsiders(conversation_id, users)
        while missing:
            first = missing[0]
            try:
                found = await self._store.conversation(conversation_id, first)
            except NotFoundError:
                missing = missing[1:]
                continue
            members = {first, *found.member_ids}
            self._hub.admit(found, {it: users[it] for it in missing if it in members})
            complete = found.member_count <= len(found.member_ids)
            missing = [] if complete else [it for it in missing if it not in members]

    # --- devices ---

    def _sessions(self, noted: Noted) -> list[Session]:
        presence = self._hub.presence
        if noted.all_devices:
            return presence.all_sessions()
        found = (presence.session(*device) for device in noted.devices)
        return [session for session in found if session is not None]

    async def _check_devices(self, sessions: list[Session]) -> None:
        """Close sessions that are not their device's newest: the store holds the newest one's resume token.

        Asked is only about sessions that were open before the read.
        """
        for start in range(0, len(sessions), HEADS_PER_READ):
            part = sessions[start : start + HEADS_PER_READ]
            try:
                newest = await self._store.resume_hashes([(it.user_id, it.device_id) for it in part])
            except Exception as error:
                _failed("checking devices", error)
                for session in part:
                    self._unanswered.device(session.user_id, session.device_id)
            else:
                self._close_replaced(part, newest)

    def _close_replaced(self, sessions: Iterable[Session], newest: dict[tuple[str, str], bytes]) -> None:
        for session in sessions:
            own = session.resume_hash
            if newest.get((session.user_id, session.device_id), own) != own:
                self._close(session)

    def _close(self, session: Session) -> None:
        session.close(ev.CloseCode.REPLACED, "a newer session of this device took over")
        try:
            self._hub.leave(session)
        except Exception as error:
            _failed("taking a session out", error)  # closed, it is taken out by whoever serves its connection


def _refused(error: RefusedError) -> None:
    logger.warning("storage does not say what was missed: %s", error)


def _failed(what: str, error: Exception) -> None:
    if isinstance(error, RefusedError):
        _refused(error)
    else:
        logger.error("%s failed", what, exc_info=error)
