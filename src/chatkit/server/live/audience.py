"""The online part of one conversation, as its log says, entry by entry. Values in, values out; no I/O.

**An audience follows the log.** It has a position, and only the entry after it is applied, wherever it comes from: an
own commit, a message of another node, a read. A MEMBER entry changes who is in the audience before the entry is
offered, so whoever was removed gets nothing from there on, whatever a bus lost. What comes too early waits.

Used by `hub`, which carries out what `apply` returns and asks the log where the audience does not know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from ...storage.base import Entry, MembershipSnapshot
from ...types import ConversationType, JoinReason
from ..session import Session
from .presence import Presence

_EARLY_MAX = 256
"""Entries of one audience that came too early; further ones are read from the log."""


TIMED_MAX: Final = 100
"""Rows of entries of an audience that wait to be confirmed and are timed; older ones are not."""


STREAMS_SHOWN_MAX: Final = 256
"""Streams of an audience of which it is kept whom a page showed them to; of older ones they get no parts."""


_ENDS: Final = b'"ends":'
"""In the payload of every message that ends a stream; in another one it costs no more than parts, which are hints."""


class _MadeEntry(msgspec.Struct, rename="camel"):
    """What of a server-made entry matters here: a RECALL has no `op`."""

    op: str = ""
    user_ids: list[str] = []


_made_entry = msgspec.json.Decoder(_MadeEntry)


class Applied(msgspec.Struct, gc=False):
    """What follows from an entry that was applied, in this order.

    Attributes:
        entry: The entry.
        origin: The session that sent it, which is not pushed to.
        joined: Sessions whose user became a member with it.
        reason: How they did.
        left: Sessions whose user is no member any more.
        recipients: Whom it is offered to.
        uncertain: Users who may be members or not: the log knows.
    """

    entry: Entry
    origin: Session | None
    joined: Sequence[Session] = ()
    reason: JoinReason = "JOINED"
    left: Sequence[Session] = ()
    recipients: Collection[Session] = ()
    uncertain: Sequence[str] = ()


class Audience:
    """The online part of one conversation.

    Attributes:
        conversation_id: The conversation.
        sessions: Online sessions of members, in the order they came; each with the seq up to which its membership is
            known: MEMBER entries up to there are in it.
        type: SINGLE or GROUP.
        epoch: Identity of the log.
        position: Everything up to here was applied; the next entry is the following one.
        member_count: Members at `position`, online or not.
        timed: What was published last and is timed, see `delivery_times`: (first seq, last seq, serverTs, sender) of
            messages in a row that have these in common.
    """

    __slots__ = (
        "_early",
        "_ended_seq",
        "_notified",
        "_parts",
        "_reached",
        "_shown",
        "conversation_id",
        "epoch",
        "member_count",
        "position",
        "sessions",
        "timed",
        "type",
    )

    def __init__(
        self, conversation_id: str, kind: ConversationType, epoch: str, position: int, member_count: int
    ) -> None:
        self.conversation_id = conversation_id
        self.type: ConversationType = kind
        self.epoch = epoch
        self.position = position
        self.member_count = member_count
        self.sessions: dict[Session, int] = {}
        self._reached = (
            position  # the furthest that was applied or somebody came in at: up to here sessions may differ
        )
        self._early: dict[int, tuple[Entry, Session | None]] = {}
        self._notified: dict[str, tuple[int, int]] = {}
        self._shown: dict[int, set[Session]] = {}
        self._parts: dict[int, int] = {}
        self._ended_seq = position  # up to here streams may have ended: older parts are not shown any more
        self.timed: deque[tuple[int, int, int, str]] = deque(maxlen=TIMED_MAX)

    # --- entries ---

    def is_next(self, entry: Entry) -> bool:
        """Whether this entry may be applied now."""
        return entry.seq == self.position + 1 and entry.epoch == self.epoch

    def is_next_run(self, entries: Sequence[Entry]) -> bool:
        """Whether these messages are the next entries, which everybody here lacks, and nothing was kept."""
        first, last = entries[0], entries[-1]
        return (
            self.is_next(first)
            and last.seq - first.seq == len(entries) - 1
            and self.position == self._reached
            and not self._early
        )

    def apply_run(self, entries: Sequence[Entry]) -> None:
        """Apply them, which are the next ones (`is_next_run`); they are offered to all `sessions`."""
        self.position = self._reached = entries[-1].seq
        for entry in entries:
            if _ENDS in entry.payload:
                self._ended_seq = entry.seq

    def keep(self, entry: Entry, origin: Session | None) -> None:
        """Keep an entry that comes too early, within a bound; one of another epoch is for the log to explain."""
        if len(self._early) < _EARLY_MAX and entry.epoch == self.epoch:
            self._early.setdefault(entry.seq, (entry, origin))

    def take_kept(self) -> tuple[Entry, Session | None] | None:
        """The kept entry that is the next one now, with the session that sent it; forgets what was overtaken."""
        if not self._early:
            return None
        following = self._early.pop(self.position + 1, None)
        if following is None:
            for seq in [seq for seq in self._early if seq <= self.position]:
                del self._early[seq]
        return following

    def apply(self, entry: Entry, origin: Session | None, presence: Presence) -> Applied:
        """Apply the next entry: who belongs to the audience after it, and who is offered it."""
        if self._early:
            kept = self._early.pop(entry.seq, None)
            origin = origin or (kept and kept[1])  # an entry read from the log does not say who sent it
        applied = Applied(entry, origin)
        if entry.client_msg_id is None:
            self._change_members(applied, presence)
        if entry.client_msg_id is None or _ENDS in entry.payload:
            self._ended_seq = max(self._ended_seq, entry.seq)
        self.position = entry.seq
        if entry.seq > self._reached:
            self._reached = entry.seq
            applied.recipients = self.sessions
        else:
            name = self.conversation_id
            applied.recipients = [it for it in self.sessions if it.last_pushed_seq[name] < entry.seq]
        return applied

    def _change_members(self, applied: Applied, presence: Presence) -> None:
        made = _made_entry.decode(applied.entry.payload)
        if made.op in ("CREATED", "ADDED"):
            self.member_count += len(made.user_ids)
            applied.reason = "CREATED" if made.op == "CREATED" else "JOINED"
            self._take_in(applied, presence.sessions(made.user_ids))
        elif made.op in ("REMOVED", "LEFT"):
            self.member_count -= len(made.user_ids)
            self._put_out(applied, presence.sessions(made.user_ids))
            if not self.sessions:  # the rest of the log is not followed, and may bring them back
                applied.uncertain = made.user_ids

    def _take_in(self, applied: Applied, sessions: Iterable[Session]) -> None:
        """Users became members with this entry: their sessions get the pushes from it on.

        Where it is not certain that they still are (an entry applied again), the log is asked first.
        """
        seq = applied.entry.seq
        outside = [it for it in sessions if it not in self.sessions]
        if seq <= self._reached:
            applied.uncertain = [it.user_id for it in outside]
            return
        for session in outside:
            self.sessions[session] = session.last_pushed_seq[self.conversation_id] = seq - 1
        applied.joined = outside

    def _put_out(self, applied: Applied, sessions: Iterable[Session]) -> None:
        """Users are no members any more: nothing of this conversation reaches their sessions from here on."""
        seq = applied.entry.seq
        applied.left = [it for it in sessions if self.sessions.get(it, seq) < seq]
        for session in applied.left:
            del self.sessions[session]
            self._hide_streams(session)
            session.leave_conversation(self.conversation_id)

    # --- sessions ---

    def enter(self, session: Session, joined: MembershipSnapshot) -> bool:
        """Take a session in, as a member at the head of `joined`.

        An audience that is further goes back to there, so that the session misses neither an entry nor its own
        removal; the others skip what they had. One that is not there yet goes on, and this session skips.

        Returns:
            Whether both are at the same place of the same log; if not, the log must be asked.
        """
        agreed = self.position == joined.head_seq and self.epoch == joined.epoch
        if not agreed:
            if self.position > joined.head_seq:
                self.position, self.member_count = joined.head_seq, joined.member_count
            self._reached = max(self._reached, joined.head_seq)
        self.sessions[session] = session.last_pushed_seq[self.conversation_id] = joined.head_seq
        return agreed

    def leave(self, session: Session) -> None:
        """A session has ended; its user stays a member."""
        self.sessions.pop(session, None)
        self._hide_streams(session)

    # --- streams ---

    def _hide_streams(self, session: Session) -> None:
        """No page shows a session anything here any more."""
        for seq, shown in list(self._shown.items()):
            shown.discard(session)
            if not shown:
                del self._shown[seq]

    def show_stream(self, session: Session, seq: int, parts: int) -> bool:
        """A page shows a session so many parts of the open stream at `seq`: it may have those that follow.

        Returns:
            Whether the page has all that were pushed here until now.
        """
        if seq not in self._shown and len(self._shown) >= STREAMS_SHOWN_MAX:
            del self._shown[min(self._shown)]
        self._shown.setdefault(seq, set()).add(session)
        return self._parts.get(seq, 0) <= parts

    def pass_part(self, seq: int, part: int, head_seq: int) -> list[Session]:
        """Who may have a part of the stream at `seq`: who was here when it began, and whom a page showed it to.

        Of all others it is not known here whether they see it: they may have joined later. Nobody has it if the
        audience is not yet where the log was when the part was stored, `head_seq`, for somebody may have been removed
        until then; nor if a stream has ended since, or anything else was made by the server, which recalls too.
        """
        if seq not in self._parts and len(self._parts) >= STREAMS_SHOWN_MAX:
            del self._parts[min(self._parts)]
        self._parts[seq] = max(part, self._parts.get(seq, 0))
        if not self._ended_seq <= head_seq <= self.position:
            return []
        shown = self._shown.get(seq, ())
        return [
            session for session, known_seq in self.sessions.items() if known_seq < seq or session in shown
        ]

    # --- against the log ---

    def compare(self, epoch: str, head_seq: int) -> bool:
        """Compare with what the log says: who missed a push is behind; under a new epoch everybody is.

        Returns:
            Whether the log goes further than what was applied here.
        """
        if epoch != self.epoch:
            self._renew(epoch, head_seq)
        pushed_seq = min(head_seq, self.position)
        for session in self.sessions:
            if session.last_pushed_seq[self.conversation_id] < pushed_seq:
                session.mark_behind(self.conversation_id)
        return head_seq > self.position

    def _renew(self, epoch: str, head_seq: int) -> None:
        """The log has a new identity, and may be a shorter one: everybody is behind."""
        name = self.conversation_id
        self.epoch = epoch
        self._early.clear()
        self._notified.clear()
        self.position = self._ended_seq = min(self.position, head_seq)
        self._reached = max(self.position, min(self._reached, head_seq))
        for session, known_seq in self.sessions.items():
            self.sessions[session] = min(known_seq, head_seq)
            session.last_pushed_seq[name] = min(session.last_pushed_seq[name], head_seq)
            session.mark_behind(name)

    def restart(self, head_seq: int, member_count: int, gone: Collection[str]) -> list[Session]:
        """Go on behind `head_seq`: what is missing before it was deleted for good. Who has not seen it is behind.

        Args:
            head_seq: A head of the log, above what was applied.
            member_count: Members there.
            gone: Users who are members no more; the entries that say so may be among those that are missing.

        Returns:
            The sessions of these users, which are taken out.
        """
        name = self.conversation_id
        left = [session for session in self.sessions if session.user_id in gone]
        for session in left:
            del self.sessions[session]
            self._hide_streams(session)
            session.leave_conversation(name)
        self.position, self.member_count = head_seq, member_count
        self._ended_seq = max(self._ended_seq, head_seq)
        self._reached = max(self._reached, head_seq)
        for session in self.sessions:
            if session.last_pushed_seq[name] < head_seq:
                session.last_pushed_seq[name] = head_seq
                session.mark_behind(name)
        return left

    # --- cursors ---

    def raise_cursors(self, user_id: str, delivered_seq: int, read_seq: int) -> tuple[int, int]:
        """Take note of a user's cursors that are notified now.

        Returns:
            What to notify: never below what was notified before, as another node's message may come late.
        """
        notified_delivered, notified_read = self._notified.get(user_id, (0, 0))
        if notified_delivered > delivered_seq:
            delivered_seq = notified_delivered
        if notified_read > read_seq:
            read_seq = notified_read
        cursors = self._notified[user_id] = delivered_seq, read_seq
        return cursors
