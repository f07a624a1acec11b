"""The reads of the store in memory. Nothing here changes anything; `store` adds the commands."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...core.cursors import delivery_state
from ...core.log import reads as rules
from ...core.log.audit import ChainedAct
from ...core.log.blob_rows import BlobRow, DueBlob
from ...core.log.marks import NO_MARKS, StoredMarks
from ...core.log.members import describe, keys_of_description
from ...core.log.rules import author_range, check_allowed, members_of, not_found
from ...core.log.state import MessageRow, State
from ...core.policy import Policy
from ...core.visibility import is_visible, ranges_after, readable
from ...wire.payload import RECALLED
from .. import base
from ..pins import seqs_that_fit
from . import blobs, moderation, references
from .audit import MemoryAuditReads
from .load import load
from .person import MemoryPersonReads
from .references import marks_in
from .tables import Conversation, Device
from .trail import trail
from .unread import unread_of


class MemoryReads(MemoryAuditReads, MemoryPersonReads):
    """The reading half of `storage.base.Store` over the tables."""

    def _joined(self, conversation_id: str, user_id: str) -> Conversation:
        """A conversation that the user is a member of; else NotFoundError."""
        log = self._tables.by_id.get(conversation_id)
        if log is None or not log.is_member(user_id):
            raise not_found()
        return log

    async def pins(self, conversation_id: str, user_id: str, bytes_max: int) -> list[base.PinRow]:
        """What is pinned."""
        log = self._joined(conversation_id, user_id)
        seen = [
            (by_seq, seq)
            for seq, by_seq in log.pins.items()
            if seq > log.floor_seq and is_visible(readable(log.members[user_id]), seq)
        ]
        rows = [(seq, log.rows[by_seq - 1]) for by_seq, seq in sorted(seen, reverse=True)]
        pinned = [base.PinRow(seq, row.seq, row.sender_id, row.server_ts) for seq, row in rows]
        shown = marks_in(log, [(it.seq, it.seq) for it in pinned], readable(log.members[user_id]))
        said = {it.seq: (log.rows[it.seq - 1], shown.get(it.seq, NO_MARKS)) for it in pinned}
        sizes = {seq: len(_payload(log, row)) + marks.size_bytes for seq, (row, marks) in said.items()}
        entries = {
            seq: _entry(log, said[seq][0], user_id, said[seq][1])
            for seq in seqs_that_fit(pinned, sizes, bytes_max)
        }
        return [it._replace(entry=entries.get(it.seq)) for it in pinned]

    async def page(
        self,
        conversation_id: str,
        user_id: str,
        after_seq: int,
        limit: int,
        bytes_max: int,
        *,
        history: bool = False,
    ) -> base.Page:
        """Visible entries after a seq."""
        log = self._joined(conversation_id, user_id)
        intervals = readable(log.members[user_id]) if history else log.members[user_id]
        after_seq = max(after_seq, log.floor_seq)
        ranges = rules.page_ranges(intervals, after_seq, log.head_seq, limit)
        rows = [row for first, last in ranges for row in log.rows[first - 1 : last]]
        marks = marks_in(log, ranges, readable(log.members[user_id]))
        sizes = ((row.seq, len(_payload(log, row)) + marks.get(row.seq, NO_MARKS).size_bytes) for row in rows)
        last_seq = rules.last_that_fits(sizes, bytes_max)
        entries = [
            _entry(log, row, user_id, marks.get(row.seq, NO_MARKS))
            for row in rows
            if last_seq is not None and row.seq <= last_seq
        ]
        up_to_seq = rules.page_end(intervals, last_seq, log.head_seq)
        more = up_to_seq < log.head_seq
        return base.Page(
            conversation_id, log.epoch, log.head_seq, tuple(entries), up_to_seq, more, log.floor_seq
        )

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[base.Entry]:
        """The log itself after a seq, whoever may see it."""
        log = self._tables.by_id.get(conversation_id)
        if log is None:
            return []
        return [_entry(log, row) for row in log.rows[max(0, after_seq, log.floor_seq) :][:limit]]

    async def heads(self, user_id: str, device_id: str) -> list[base.ListedHead]:
        """The user's conversations, for one device."""
        logs = sorted(
            self._tables.of_user(user_id), key=lambda log: (-log.last_activity_ms, log.conversation_id)
        )
        heads = [
            base.ListedHead(
                **msgspec.structs.asdict(self._head(log, user_id, device_id)),
                title=log.title,
                last_activity_ms=log.last_activity_ms,
                muted_until_ms=log.muted.get(user_id, 0),
                but_mentions=user_id in log.but_mentions,
            )
            for log in logs
        ]
        return sorted(heads, key=lambda head: head.delivered_seq >= head.head_seq)

    def _head(self, log: Conversation, user_id: str, device_id: str | None) -> base.ConversationHead:
        cursors = log.cursors[user_id]
        others = [log.cursors[user] for user in log.others(user_id)]
        device = log.devices.get(user_id, {}).get(device_id) if device_id is not None else None
        delivered_seq = cursors.delivered_seq
        if device_id is not None:
            delivered_seq = cursors.device_seq if device is None else device.delivered_seq
        return base.ConversationHead(
            log.conversation_id,
            log.type,
            log.epoch,
            log.head_seq,
            max(readable(log.members[user_id])[0].join_seq, log.floor_seq + 1),
            delivered_seq,
            cursors.read_seq,
            min((it.delivered_seq for it in others), default=0),
            min((it.read_seq for it in others), default=0),
        )

    async def head_seqs(self, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(epoch, head) of each conversation that exists."""
        logs = (self._tables.by_id.get(name) for name in conversation_ids)
        return {log.conversation_id: (log.epoch, log.head_seq) for log in logs if log is not None}

    async def conversation(self, conversation_id: str, user_id: str) -> base.Conversation:
        """One conversation, for a member of it."""
        state = State()
        load(self._tables, keys_of_description(conversation_id, user_id), state)
        return describe(state, state.joined(conversation_id, user_id).conversation)

    async def conversations(
        self, user_id: str, device_id: str | None, after: str | None, limit: int
    ) -> list[base.ListedConversation]:
        """A page of the user's conversations."""
        logs = sorted(self._tables.of_user(user_id), key=lambda log: log.conversation_id)
        following = [log for log in logs if log.conversation_id > (after or "")][:limit]
        return [self._row(log, user_id, device_id) for log in following]

    async def recent(
        self, user_id: str, device_id: str | None, after: base.RecentPlace | None, limit: int, bytes_max: int
    ) -> base.RecentPage:
        """A page of the user's conversations, newest activity first."""
        places = sorted((-it.last_activity_ms, it.conversation_id) for it in self._tables.of_user(user_id))
        following = [it for it in places if after is None or it > (-after[0], after[1])]
        logs = [self._tables.by_id[name] for _, name in following[:limit]]
        rows = [self._row(it, user_id, device_id, last=self._last(it, user_id)) for it in logs]
        fit_count = rules.rows_that_fit([_preview_bytes(it.last) for it in rows], bytes_max)
        more = fit_count < len(following)
        place = (logs[fit_count - 1].last_activity_ms, logs[fit_count - 1].conversation_id) if more else None
        return base.RecentPage(tuple(rows[:fit_count]), place)

    def _row(
        self, log: Conversation, user_id: str, device_id: str | None, *, last: base.Entry | None = None
    ) -> base.ListedConversation:
        return base.ListedConversation(
            self._head(log, user_id, device_id),
            log.title,
            *unread_of(log, user_id),
            log.last_activity_ms,
            log.muted.get(user_id, 0),
            user_id in log.but_mentions,
            self._member(log, user_id).member,
            log.history,
            log.description,
            last,
        )

    def _last(self, log: Conversation, user_id: str) -> base.Entry | None:
        """The newest message that a member may read."""
        first = rules.first_of_preview(log.floor_seq + 1, log.head_seq)
        visible = ranges_after(readable(log.members[user_id]), first - 1, log.head_seq)
        for start, end in reversed(list(visible)):
            for row in reversed(log.rows[start - 1 : end]):
                if row.kind == "USER":
                    span = [(row.seq, row.seq)]
                    marks = marks_in(log, span, readable(log.members[user_id]))
                    return _entry(log, row, user_id, marks.get(row.seq, NO_MARKS).in_a_list)
        return None

    async def members(
        self, conversation_id: str, user_id: str, after: str | None, limit: int
    ) -> list[base.MemberCursor]:
        """A page of the current members."""
        log = self._joined(conversation_id, user_id)
        users = [user for user in log.member_ids() if user > (after or "")][:limit]
        return [self._member(log, user) for user in users]

    def _member(self, log: Conversation, user_id: str) -> base.MemberCursor:
        joined_seq = log.members[user_id][-1].join_seq
        standing = log.standings[user_id]
        member = rules.member_of(
            user_id, log.owner_id, log.pair, standing.granted, joined_seq, standing.silenced_until_ms
        )
        cursors = log.cursors[user_id]
        return base.MemberCursor(member, cursors.delivered_seq, cursors.read_seq)

    async def bans(
        self, conversation_id: str, user_id: str | None, policy: Policy, after: str | None, limit: int
    ) -> list[base.Ban]:
        """A page of who is banned from a conversation."""
        log = self._tables.by_id.get(conversation_id)
        if log is None:
            raise not_found()
        if user_id is not None:
            member = self._member(self._joined(conversation_id, user_id), user_id).member
            check_allowed(policy, member.role, "BAN_MEMBERS", None, log.type)
        found = sorted((user, *ban) for user, ban in log.bans.items() if user > (after or ""))
        return [base.Ban(*row) for row in found[:limit]]

    async def membership_changes(self, after: int | None, limit: int) -> base.MembershipChanges:
        """Who joined any conversation after a position."""
        newest = len(self._tables.audit)
        if after is None:
            return base.MembershipChanges(newest, ())
        rows = [row for row in self._tables.audit[after:] if row.action in ("CREATED", "ADDED")][:limit]
        position = rows[-1].audit_id if len(rows) == limit else newest
        return base.MembershipChanges(position, tuple(map(self._join, rows)))

    def _join(self, row: ChainedAct) -> base.MembershipChange:
        log = self._tables.by_key[row.conversation_key]
        if row.action == "ADDED":
            return base.MembershipChange(log.conversation_id, (row.subject,), "JOINED")
        return base.MembershipChange(log.conversation_id, members_of(log.rows[0].payload), "CREATED")

    @property
    def restored(self) -> bool:
        """Never: the log is as old as this object."""
        return False

    async def confirm_restored(self, proved: int = 0) -> None:
        """Raise the position beyond every former one."""
        self._tables.position_floor = base.next_floor(max(proved, await self.position()))

    async def trail(self, message_id: str, user_id: str | None, limit: int) -> base.MessageTrail:
        """What became of a message."""
        return trail(self._tables, message_id, user_id, limit)

    async def position(self) -> int:
        """How many entries and audit rows there are, above the floor of the last renewal."""
        count = len(self._tables.audit) + sum(len(it.rows) for it in self._tables.by_key.values())
        return self._tables.position_floor + count

    async def conversation_ids(self, after: str, limit: int) -> list[str]:
        """The ids of all conversations after one, ascending."""
        return sorted(name for name in self._tables.by_id if name > after)[:limit]

    async def blocks(self, user_id: str, after: str | None, limit: int) -> list[base.Block]:
        """A page of whom a user blocked."""
        found = sorted(
            (other, at_ms) for (user, other), at_ms in self._tables.blocks.items() if user == user_id
        )
        return [base.Block(*row) for row in found if row[0] > (after or "")][:limit]

    async def contacts(self, user_ids: Sequence[str], members_max: int, limit: int) -> dict[str, list[str]]:
        """Who may know of each of these users."""
        found = {user: self._contacts(user, members_max)[:limit] for user in user_ids}
        return {user: contacts for user, contacts in found.items() if contacts}

    def _contacts(self, user_id: str, members_max: int) -> list[str]:
        logs = [log for log in self._tables.of_user(user_id) if len(log.member_ids()) <= members_max]
        others = {other for log in logs for other in log.others(user_id)}
        return sorted(other for other in others if (user_id, other) not in self._tables.blocks)

    async def known_to(self, user_id: str, others: Sequence[str], members_max: int) -> dict[str, int | None]:
        """Whom of the others a user may know of, and when they were last seen."""
        return {
            other: max((seen for _, seen in self._tables.devices.get(other, {}).values()), default=None)
            for other in dict.fromkeys(others)
            if user_id in self._contacts(other, members_max)
        }

    async def resume_hashes(self, devices: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """Digest of each device's resume token."""
        tokens = self._tables.tokens
        return {device: tokens[device].token_hash for device in devices if device in tokens}

    async def revocations(self, after: int, limit: int) -> list[base.Revocation]:
        """Those above a position."""
        found = [it for it in self._tables.revocations.values() if it.position > after]
        return sorted(found, key=lambda it: it.position)[:limit]

    async def kept_login(self, token_hash: bytes) -> base.KeptLogin | None:
        """The login of a resume token."""
        place = self._tables.token_places.get(token_hash)
        if place is None:
            return None
        token = self._tables.tokens[place]
        return base.KeptLogin(*place, token.identity_expires_ms, token.scope)

    async def status(
        self, message_id: str, user_id: str, after: tuple[str, str] | None, limit: int
    ) -> base.Status:
        """The state of a message, for its author."""
        place = base.message_place(message_id)
        log = self._tables.by_key.get(place[0]) if place is not None else None
        row = log.row(place[2]) if log is not None and place is not None else None
        if place is None or log is None or row is None or not log.is_member(user_id):
            raise not_found()
        if (row.epoch, row.sender_id) != (place[1], user_id):
            raise not_found()
        counts = self._counts(log, user_id, row.seq)
        found = [
            it
            for it in self._deliveries(log, user_id, row)
            if after is None or (it.user_id, it.device_id) > after
        ]
        page = tuple(found[:limit])
        return base.Status(
            rules.status_of(counts.member_count, counts.delivered_count, counts.read_count),
            counts.member_count,
            counts.delivered_count,
            counts.read_count,
            page,
            (page[-1].user_id, page[-1].device_id) if len(found) > limit else None,
        )

    def _counted(self, log: Conversation, author_id: str, seq: int) -> list[str]:
        return [user for user in log.others(author_id) if is_visible(log.members[user], seq)]

    def _counts(self, log: Conversation, author_id: str, seq: int) -> base.ReadCounts:
        users = self._counted(log, author_id, seq)
        delivered = sum(
            log.cursors[user].delivered_seq >= seq or any(seq in it.exact for _, it in log.devices_of(user))
            for user in users
        )
        read = sum(log.cursors[user].read_seq >= seq for user in users)
        return base.ReadCounts(author_id, seq, delivered, read, len(users))

    def _deliveries(self, log: Conversation, author_id: str, row: MessageRow) -> list[base.Delivery]:
        found = []
        for user in self._counted(log, author_id, row.seq):
            cursors = log.cursors[user]
            for device_id, (first_seen_ms, _) in sorted(self._tables.devices.get(user, {}).items()):
                device = log.devices.get(user, {}).get(device_id)
                if device is None:
                    device = Device(cursors.device_seq, first_seen_ms)
                state = delivery_state(row.seq, device.delivered_seq, device.exact, cursors.read_seq)
                at_ms = rules.state_ms(state, row.server_ts, device.updated_ms, cursors.read_ms)
                found.append(base.Delivery(user, device_id, state, at_ms))
        return found

    async def read_counts(
        self, conversation_id: str, after_seq: int, up_to_seq: int, authors: Sequence[str]
    ) -> list[base.ReadCounts]:
        """Counts for the newest message of each of some authors in a range."""
        log = self._tables.by_id.get(conversation_id)
        if log is None:
            return []
        rows = log.rows[author_range(after_seq, up_to_seq) : up_to_seq]
        wanted = set(authors)
        newest = {row.sender_id: row.seq for row in rows if row.kind == "USER" and row.sender_id in wanted}
        return [self._counts(log, author, seq) for author, seq in sorted(newest.items())]

    async def blob(self, blob_id: str, user_id: str) -> BlobRow | None:
        """A file as a user sees it in a message."""
        return blobs.blob(self._tables, blob_id, user_id)

    async def upload(self, blob_id: str) -> BlobRow | None:
        """A file, whoever asks."""
        return self._tables.blobs.get(blob_id)

    async def due_blobs(self, now_ms: int, limit: int) -> list[DueBlob]:
        """What the collector is to look at."""
        return blobs.due_blobs(self._tables, now_ms, limit)

    async def to_moderate(self, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Which of these a moderator need see."""
        return moderation.to_moderate(self._tables, sends)

    async def held_messages(self, after: int, limit: int) -> list[base.HeldRecord]:
        """What is to be reviewed."""
        return moderation.held_messages(self._tables, after, limit)

    async def held_message(self, held_id: int) -> base.HeldRecord | None:
        """One message that is to be reviewed."""
        found = moderation.held_messages(self._tables, held_id - 1, 1)
        return found[0] if found and found[0].held_id == held_id else None

    async def idle_streams(
        self, before_ms: int, after_ms: int, limit: int, *, parts: bool = True
    ) -> list[base.IdleStream]:
        """Open streams of which nothing was heard since."""
        return references.idle_streams(self._tables, before_ms, after_ms, limit, parts=parts)

    async def reports(self, after: int, limit: int) -> list[base.ReportRecord]:
        """Open reports."""
        return moderation.reports(self._tables, after, limit)

    async def outbox(self, limit: int) -> list[base.OutboxEntry]:
        """Open outbox entries, those of the oldest conversations first."""
        opened = [
            base.OutboxEntry(log.conversation_id, log.outbox[0], log.head_seq, log.outbox[1])
            for log in self._tables.by_key.values()
            if log.outbox is not None
        ]
        return opened[:limit]


def _entry(
    log: Conversation, row: MessageRow, reader_id: str | None = None, marks: StoredMarks = NO_MARKS
) -> base.Entry:
    """A row as the contract shows it: with its key to its author, or to nobody in particular."""
    own = reader_id is None or reader_id == row.sender_id
    return base.Entry(
        log.conversation_id,
        log.epoch,
        base.message_id(log.key, row.epoch, row.seq),
        row.seq,
        row.sender_id,
        row.server_ts,
        _payload(log, row),
        row.client_msg_id if own else None,
        marks.edit,
        marks.reactions,
        marks.stream,
    )


def _preview_bytes(last: base.Entry | None) -> int:
    return 0 if last is None else len(last.payload) + StoredMarks(last.edit, (), last.stream).size_bytes


def _payload(log: Conversation, row: MessageRow) -> bytes:
    return RECALLED if row.seq in log.recalled else row.payload
