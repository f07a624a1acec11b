"""Who is online in which conversation, and the fan-out: encode once per codec, offer to each session.

Everything here is in memory and a hint: what a session misses it pulls from the log. Never waits, for a socket or for
storage. Conversations nobody online belongs to are not held.

**The audience of a conversation is the log's, applied entry by entry.** Each audience has a position, and only the
entry after it is applied, wherever it comes from: an own commit, a hint of another node, a read. A MEMBER entry changes
who is in the audience before the next entry is offered, so whoever was removed gets nothing from there on, whatever a
bus lost. What comes too early waits, and the log is asked for what is missing (`doubts`, settled by `follower`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ..bus.base import Bus
from ..storage.base import Conversation, Entry, MembershipSnapshot
from ..types import ConversationType
from ..wire import events as ev
from ..wire.codec import Codec
from .doubts import Doubts, JoinReason
from .entries import new_msg
from .hints import topic_of
from .session import Session

_WAITING_MAX = 256  # entries of one audience that came too early; further ones are read from the log


class _MadeEntry(msgspec.Struct, rename="camel"):
    """What of a server-made entry matters here: a RECALL has no `op`."""

    op: str = ""
    user_ids: list[str] = []


_made_entry = msgspec.json.Decoder(_MadeEntry)


class Audience:
    """The online part of one conversation.

    Attributes:
        sessions: Online sessions of members, in the order they came; each with the seq up to which its membership is
            known: MEMBER entries up to there are in it.
        type: SINGLE or GROUP.
        epoch: Identity of the log.
        position: Everything up to here was applied; the next entry is the following one.
        reached: The furthest that was ever applied, or where a session came in. Up to here sessions may differ in
            what they had.
        member_count: Members at `position`, online or not.
        waiting: Entries that came too early, by seq, each with the session that sent it.
        receipts: By user, the furthest delivered and read seq that were told here.
    """

    __slots__ = ("epoch", "member_count", "position", "reached", "receipts", "sessions", "type", "waiting")

    def __init__(self, kind: ConversationType, epoch: str, position: int, member_count: int) -> None:
        self.sessions: dict[Session, int] = {}
        self.type: ConversationType = kind
        self.epoch = epoch
        self.position = position
        self.reached = position
        self.member_count = member_count
        self.waiting: dict[int, tuple[Entry, Session | None]] = {}
        self.receipts: dict[str, tuple[int, int]] = {}

    def furthest(self, user_id: str, delivered_seq: int, read_seq: int) -> tuple[int, int]:
        """A user's cursors, never behind what was told before: another node's hint may come late."""
        delivered_told, read_told = self.receipts.get(user_id, (0, 0))
        cursors = max(delivered_seq, delivered_told), max(read_seq, read_told)
        self.receipts[user_id] = cursors
        return cursors


class Hub:
    """The online sessions of this node, by user and by conversation.

    Args:
        doubts: Where it notes what the log must be asked about.
        bus: Where it subscribes to the conversations that somebody online belongs to; None: there is no other node.
    """

    def __init__(self, doubts: Doubts, bus: Bus | None = None) -> None:
        self._audiences: dict[str, Audience] = {}
        self._users: dict[str, dict[str, Session]] = {}
        self._doubts = doubts
        self._bus = bus

    # --- who is here ---

    def join(self, session: Session, conversations: Iterable[MembershipSnapshot]) -> Session | None:
        """Take a session in; from here on it gets the pushes of these conversations.

        Returns:
            The session of the same device that this one replaces, already taken out.
        """
        replaced = self.session(session.user_id, session.device_id)
        if replaced is not None:
            self.leave(replaced)
        self._users.setdefault(session.user_id, {})[session.device_id] = session
        for joined in conversations:
            self._enter(session, joined)
        return replaced

    def leave(self, session: Session) -> None:
        """Take a session out; leaving twice changes nothing."""
        devices = self._users.get(session.user_id)
        if devices is None or devices.get(session.device_id) is not session:
            return
        del devices[session.device_id]
        if not devices:
            del self._users[session.user_id]
        for conversation_id in session.offered:
            self._drop(conversation_id, session)

    def open(self, conversation: Conversation, entry: Entry, user_ids: Sequence[str]) -> None:
        """Hold a conversation that these users become members of with `entry`, if any of them is online."""
        name = conversation.conversation_id
        if name not in self._audiences and any(user_id in self._users for user_id in user_ids):
            before = conversation.member_count - len(user_ids)
            self._hold(name, Audience(conversation.type, conversation.epoch, entry.seq - 1, before))

    def admit(self, found: Conversation, users: dict[str, JoinReason]) -> None:
        """These users are members of a conversation as it was just read: take in those of their sessions that are not
        in its audience. They have missed what was written so far and are told to pull it.
        """
        joined = MembershipSnapshot(
            found.conversation_id, found.type, found.epoch, found.head_seq, found.member_count
        )
        for user_id, reason in users.items():
            for session in self._outside(found.conversation_id, user_id):
                self._enter(session, joined)
                session.answer(ev.ConversationPush(found.conversation_id, found.type, reason))
                session.mark_behind(found.conversation_id)

    def outsiders(self, conversation_id: str, user_ids: Iterable[str]) -> list[str]:
        """Those of the users who have a session here that is not in the conversation's audience."""
        return [user_id for user_id in user_ids if self._outside(conversation_id, user_id)]

    def session(self, user_id: str, device_id: str) -> Session | None:
        """The session of a device."""
        return self._users.get(user_id, {}).get(device_id)

    def all_sessions(self) -> list[Session]:
        """Every session that is logged in."""
        return [session for devices in self._users.values() for session in devices.values()]

    def audience(self, conversation_id: str) -> Audience | None:
        """The online part of a conversation; None if nobody of it is online."""
        return self._audiences.get(conversation_id)

    def online(self, conversation_id: str) -> list[str]:
        """Members of a conversation who are online, each once."""
        audience = self._audiences.get(conversation_id)
        return [] if audience is None else list(dict.fromkeys(s.user_id for s in audience.sessions))

    def conversation_ids(self) -> list[str]:
        """Conversations with anybody online."""
        return list(self._audiences)

    # --- fan-out ---

    def publish(self, entry: Entry, origin: Session | None) -> None:
        """Apply a stored entry if it is the next one, and offer it to every online session but the one that sent it.

        One that was applied already is nothing. One that comes too early, or of a log with another epoch than the
        one known here, waits for the log to be asked.
        """
        audience = self._audiences.get(entry.conversation_id)
        if audience is None or entry.seq <= audience.position:
            return
        if entry.seq != audience.position + 1 or entry.epoch != audience.epoch:
            self._wait(audience, entry, origin)
            return
        self._apply(audience, entry, origin)
        if audience.waiting:
            self._apply_waiting(audience)
        if not audience.sessions:
            self._release(entry.conversation_id)

    def tell(self, sessions: Iterable[Session], event: ev.ReceiptPush | ev.TypingPush) -> None:
        """Offer a droppable event, encoded once per codec."""
        encoded: dict[Codec, bytes] = {}
        for session in sessions:
            hint = encoded.get(session.codec)
            if hint is None:
                hint = encoded[session.codec] = session.codec.encode(event)
            session.hint(hint, event.conversation_id)

    def tell_typing(self, conversation_id: str, user_id: str) -> None:
        """Tell the others in a conversation that somebody is writing."""
        audience = self._audiences.get(conversation_id)
        if audience is not None:
            others = [member for member in audience.sessions if member.user_id != user_id]
            self.tell(others, ev.TypingPush(conversation_id=conversation_id, user_id=user_id))

    def in_conversation(
        self, conversation_id: str, user_ids: Sequence[str], *, but: Session | None = None
    ) -> list[Session]:
        """Sessions of these users that belong to this conversation."""
        audience = self._audiences.get(conversation_id)
        if audience is None:
            return []
        return [s for s in self._sessions(user_ids) if s is not but and s in audience.sessions]

    # --- against the log ---

    def epochs(self, conversation_ids: Iterable[str]) -> dict[str, str]:
        """The epoch that each of these logs has here; of those that somebody online belongs to."""
        held = ((name, self._audiences.get(name)) for name in conversation_ids)
        return {name: audience.epoch for name, audience in held if audience is not None}

    def compare(self, heads: dict[str, tuple[str, int]], before: dict[str, str]) -> list[str]:
        """Compare with what the log said a moment ago. Who missed a push is behind; under a new epoch everybody is.

        A log that got another epoch here while it was read is asked again: the read may have seen the former one.

        Args:
            heads: (epoch, head) of each log.
            before: `epochs` from before the read.

        Returns:
            Conversations whose log goes further than what was applied here.
        """
        further = []
        for conversation_id, (epoch, head_seq) in heads.items():
            audience = self._audiences.get(conversation_id)
            if audience is None:
                continue
            if audience.epoch != before.get(conversation_id):
                self._doubts.log(conversation_id)
                continue
            if audience.epoch != epoch:
                _renew(audience, conversation_id, epoch, head_seq)
            for session in audience.sessions:
                if session.offered[conversation_id] < min(head_seq, audience.position):
                    session.mark_behind(conversation_id)
            if head_seq > audience.position:
                further.append(conversation_id)
        return further

    # --- inside ---

    def _apply(self, audience: Audience, entry: Entry, origin: Session | None) -> None:
        if entry.client_msg_id is None:
            self._change_members(audience, entry)
        conversation_id, seq, sender_id = entry.conversation_id, entry.seq, entry.sender_id
        audience.position = seq
        sessions: Iterable[Session] = audience.sessions
        if seq > audience.reached:
            audience.reached = seq
        else:
            sessions = [it for it in audience.sessions if it.offered[conversation_id] < seq]
        encoded: dict[Codec, bytes] = {}
        for session in sessions:
            if session is origin:
                session.offered[conversation_id] = seq
            elif session.user_id == sender_id:
                session.push(new_msg(entry, session.codec, own=True), conversation_id, seq)
            else:
                push = encoded.get(session.codec)
                if push is None:
                    push = encoded[session.codec] = new_msg(entry, session.codec, own=False)
                session.push(push, conversation_id, seq)

    def _wait(self, audience: Audience, entry: Entry, origin: Session | None) -> None:
        if len(audience.waiting) < _WAITING_MAX and entry.epoch == audience.epoch:
            audience.waiting.setdefault(entry.seq, (entry, origin))
        self._doubts.log(entry.conversation_id)

    def _apply_waiting(self, audience: Audience) -> None:
        """Apply what has its turn now; forget what has had it."""
        while (following := audience.waiting.pop(audience.position + 1, None)) is not None:
            self._apply(audience, *following)
        for seq in [seq for seq in audience.waiting if seq <= audience.position]:
            del audience.waiting[seq]

    def _change_members(self, audience: Audience, entry: Entry) -> None:
        made = _made_entry.decode(entry.payload)
        if made.op in ("CREATED", "ADDED"):
            audience.member_count += len(made.user_ids)
            self._take_in(audience, entry, made.user_ids, "CREATED" if made.op == "CREATED" else "JOINED")
        elif made.op in ("REMOVED", "LEFT"):
            audience.member_count -= len(made.user_ids)
            self._put_out(audience, entry, made.user_ids)

    def _take_in(self, audience: Audience, entry: Entry, user_ids: Sequence[str], reason: JoinReason) -> None:
        """Users became members with this entry: their sessions get the pushes from it on.

        Where it is not certain that they still are (an entry applied again), the log is asked first.
        """
        conversation_id = entry.conversation_id
        outside = [it for it in self._sessions(user_ids) if it not in audience.sessions]
        if entry.seq <= audience.reached:
            if outside:
                self._doubts.joined(conversation_id, [it.user_id for it in outside], reason)
            return
        for session in outside:
            audience.sessions[session] = session.offered[conversation_id] = entry.seq - 1
            session.answer(ev.ConversationPush(conversation_id, audience.type, reason))

    def _put_out(self, audience: Audience, entry: Entry, user_ids: Sequence[str]) -> None:
        """Users are no members any more: nothing of this conversation reaches their sessions from here on."""
        conversation_id = entry.conversation_id
        for session in self._sessions(user_ids):
            if audience.sessions.get(session, entry.seq) < entry.seq:
                del audience.sessions[session]
                session.forget(conversation_id)
                session.answer(ev.ConversationPush(conversation_id, audience.type, "LEFT"))
        if not audience.sessions:  # the rest of the log is not followed, and may bring them back
            self._doubts.joined(conversation_id, user_ids, "JOINED")

    def _enter(self, session: Session, joined: MembershipSnapshot) -> None:
        """Take a session into an audience, as a member at the head of `joined`.

        An audience that stands further goes back to there, so that the session misses neither an entry nor its own
        removal; the others skip what they had. One that is not there yet goes on, and this session skips.
        """
        conversation_id = joined.conversation_id
        audience = self._audiences.get(conversation_id)
        if audience is None:
            audience = Audience(joined.type, joined.epoch, joined.head_seq, joined.member_count)
            self._hold(conversation_id, audience)
        elif audience.position != joined.head_seq or audience.epoch != joined.epoch:
            self._doubts.log(conversation_id)
            if audience.position > joined.head_seq:
                audience.position, audience.member_count = joined.head_seq, joined.member_count
            audience.reached = max(audience.reached, joined.head_seq)
        audience.sessions[session] = session.offered[conversation_id] = joined.head_seq

    def _outside(self, conversation_id: str, user_id: str) -> list[Session]:
        devices = self._users.get(user_id, {})
        return [it for it in devices.values() if conversation_id not in it.offered]

    def _sessions(self, user_ids: Iterable[str]) -> list[Session]:
        return [s for user_id in user_ids for s in self._users.get(user_id, {}).values()]

    def _hold(self, conversation_id: str, audience: Audience) -> None:
        self._audiences[conversation_id] = audience
        if self._bus is not None:
            self._bus.subscribe(topic_of(conversation_id))

    def _drop(self, conversation_id: str, session: Session) -> None:
        audience = self._audiences.get(conversation_id)
        if audience is None:
            return
        audience.sessions.pop(session, None)
        if not audience.sessions:
            self._release(conversation_id)

    def _release(self, conversation_id: str) -> None:
        """Nobody of this conversation is online any more."""
        del self._audiences[conversation_id]
        if self._bus is not None:
            self._bus.unsubscribe(topic_of(conversation_id))


def _renew(audience: Audience, conversation_id: str, epoch: str, head_seq: int) -> None:
    """The log has a new identity, and may be a shorter one: everybody is behind."""
    audience.epoch = epoch
    audience.waiting.clear()
    audience.receipts.clear()
    audience.position = min(audience.position, head_seq)
    audience.reached = max(audience.position, min(audience.reached, head_seq))
    for session, known in audience.sessions.items():
        audience.sessions[session] = min(known, head_seq)
        session.offered[conversation_id] = min(session.offered[conversation_id], head_seq)
        session.mark_behind(conversation_id)
