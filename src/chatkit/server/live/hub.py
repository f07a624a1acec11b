"""The hub: the sessions of this node and the conversations they belong to. Joins presence, audiences and fan-out.

Everything here is in memory, and nothing depends on it: what a session misses it pulls from the log. Never waits, for
a socket or for storage. Conversations nobody online belongs to are not held. What an audience does not know is noted
for the log to be asked (`cluster.reconcile_queue`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec import UNSET, UnsetType

from ...bus.base import Bus
from ...errors import ContentRefusedError
from ...observability.instrument import NO_INSTRUMENTS, Instruments
from ...storage.base import Conversation, Entry, MembershipSnapshot
from ...types import JoinReason
from ...wire import events as ev
from ..cluster.messages import StreamPart, topic_of
from ..cluster.reconcile_queue import ReconcileQueue
from ..session import Session
from .audience import Applied, Audience
from .delivery_times import DeliveryTimes
from .fanout import DELIVERIES_PER_TURN, push_entry, push_run, push_volatile
from .presence import Presence


class Hub:
    """Who is online in which conversation, and what they are offered.

    Args:
        to_reconcile: Where it notes what the log must be asked about.
        bus: Where it subscribes to the conversations that somebody online belongs to; None: there is no other node.
        instruments: Told of entries that come too early, or again.

    Attributes:
        presence: Who is here.
        on_confirmed: To be called with what a session confirms, as soon as it does: how long it took is noted for
            `take_delivery_s`. None: nobody wants to know.
        offered: Pushes of entries that were offered to sessions, since it was made.
    """

    def __init__(
        self,
        to_reconcile: ReconcileQueue,
        bus: Bus | None = None,
        instruments: Instruments = NO_INSTRUMENTS,
    ) -> None:
        self.presence = Presence()
        self._audiences: dict[str, Audience] = {}
        self._to_reconcile = to_reconcile
        self._bus = bus
        self._instruments = instruments
        self._times = None if instruments.on_committed is None else DeliveryTimes(self._audiences)
        self.on_confirmed = None if self._times is None else self._times.confirmed
        self.offered = 0

    def __len__(self) -> int:
        """How many conversations have somebody online."""
        return len(self._audiences)

    # --- who is here ---

    def join(self, session: Session, conversations: Iterable[MembershipSnapshot]) -> Session | None:
        """Take a session in; from here on it gets the pushes of these conversations.

        Returns:
            The session of the same device that this one replaces, already taken out.
        """
        replaced = self.presence.session(session.user_id, session.device_id)
        if replaced is not None:
            self.leave(replaced)
        self.presence.add(session)
        for joined in conversations:
            self._enter(session, joined)
        return replaced

    def leave(self, session: Session) -> None:
        """Take a session out; leaving twice changes nothing."""
        if self._times is not None:
            self._times.ended(session)
        if self.presence.remove(session):
            for conversation_id in session.last_pushed_seq:
                self._drop(conversation_id, session)

    def open(self, conversation: Conversation, entry: Entry, user_ids: Sequence[str]) -> None:
        """Hold a conversation that these users become members of with `entry`, if any of them is online."""
        name = conversation.conversation_id
        if name not in self._audiences and any(map(self.presence.is_online, user_ids)):
            before = conversation.member_count - len(user_ids)
            self._hold(Audience(name, conversation.type, conversation.epoch, entry.seq - 1, before))

    def admit(self, found: Conversation, users: dict[str, JoinReason]) -> None:
        """These users are members of a conversation as it was just read: take in those of their sessions that are not
        in its audience. They have missed what was written so far and are told to pull it; the log is asked about the
        rest, for other nodes' messages about it come only from here on.
        """
        joined = MembershipSnapshot(
            found.conversation_id, found.type, found.epoch, found.head_seq, found.member_count
        )
        for user_id, reason in users.items():
            for session in self._outside(found.conversation_id, user_id):
                self._enter(session, joined)
                session.answer(ev.ConversationPush(found.conversation_id, found.type, reason, found.title))
                session.mark_behind(found.conversation_id)
        self._to_reconcile.log(found.conversation_id)

    def outsiders(self, conversation_id: str, user_ids: Iterable[str]) -> list[str]:
        """Those of the users who have a session here that is not in the conversation's audience."""
        return [user_id for user_id in user_ids if self._outside(conversation_id, user_id)]

    def audience(self, conversation_id: str) -> Audience | None:
        """The online part of a conversation; None if nobody of it is online."""
        return self._audiences.get(conversation_id)

    def online(self, conversation_id: str) -> list[str]:
        """Members of a conversation who are online, each once."""
        audience = self._audiences.get(conversation_id)
        return [] if audience is None else list(dict.fromkeys(it.user_id for it in audience.sessions))

    def reach(self, conversation_id: str) -> int:
        """How many sessions are in a conversation."""
        audience = self._audiences.get(conversation_id)
        return 0 if audience is None else len(audience.sessions)

    def take_delivery_s(self) -> dict[float, int]:
        """How long the entries took that were confirmed since the last call, in seconds, and how many took so long."""
        return {} if self._times is None else self._times.take()

    def conversation_ids(self) -> list[str]:
        """Conversations with anybody online."""
        return list(self._audiences)

    def in_conversation(
        self, conversation_id: str, user_ids: Sequence[str], *, but: Session | None = None
    ) -> list[Session]:
        """Sessions of these users that belong to this conversation."""
        audience = self._audiences.get(conversation_id)
        if audience is None:
            return []
        return [it for it in self.presence.sessions(user_ids) if it is not but and it in audience.sessions]

    # --- what they are offered ---

    def publish(self, entry: Entry, origin: Session | None) -> int:
        """Apply a stored entry if it is the next one, and offer it to every online session but the one that sent it.

        One that was applied already is nothing. One that comes too early, or of a log with another epoch than the
        one known here, waits for the log to be asked. What waited and is next now is applied too, as much as fits one
        turn of the event loop; the rest goes on with the next call, which the log is asked for.

        Returns:
            How many sessions something was offered to, each counted once per entry; not the one that sent it.
        """
        audience = self._audiences.get(entry.conversation_id)
        if audience is None or entry.seq <= audience.position:
            if audience is not None and self._instruments.on_duplicate is not None:
                self._instruments.on_duplicate()
            return 0
        deliveries = 0
        if audience.is_next(entry):
            deliveries = self._carry_out(audience, audience.apply(entry, origin, self.presence))
        else:
            audience.keep(entry, origin)
            if self._instruments.on_gap is not None:
                self._instruments.on_gap(entry.seq - audience.position - 1)
            self._to_reconcile.log(entry.conversation_id)
        deliveries += self._publish_kept(audience)
        if not audience.sessions:
            self._release(entry.conversation_id)
        return deliveries

    def publish_run(self, entries: Sequence[Entry], origin: Session) -> list[int]:
        """As `publish` of each, for messages of one session to one conversation, in the order of the log."""
        audience = self._audiences.get(entries[0].conversation_id)
        if audience is None or not audience.is_next_run(entries):
            return [self.publish(entry, origin) for entry in entries]
        audience.apply_run(entries)
        if self._times is not None:
            self._times.published(audience, entries)
        push_run(entries, audience.sessions, origin)
        count = len(audience.sessions) - (origin in audience.sessions)
        self.offered += count * len(entries)
        return [count] * len(entries)

    def push_typing(self, conversation_id: str, user_id: str) -> int:
        """Say to the others in a conversation that somebody is writing. Returns to how many sessions."""
        audience = self._audiences.get(conversation_id)
        if audience is None:
            return 0
        others = [member for member in audience.sessions if member.user_id != user_id]
        push_volatile(ev.TypingPush(conversation_id=conversation_id, user_id=user_id), others)
        return len(others)

    def push_part(self, part: StreamPart, origin: Session | None) -> int:
        """Offer a part of a stream to who was shown the message, but not to who sent it.

        A part is a hint: one of which it is not certain here who may read it is dropped, and who lacks it reads the
        message again once the next one comes. Returns to how many it was offered.
        """
        audience = self._audiences.get(part.conversation_id)
        if audience is None or audience.epoch != part.epoch:
            return 0
        if audience.position < part.head_seq:
            self._to_reconcile.log(part.conversation_id)
        readers = [it for it in audience.pass_part(part.seq, part.part, part.head_seq) if it is not origin]
        place = (part.conversation_id, part.epoch, part.message_id, part.seq)
        push_volatile(ev.StreamPartPush(*place, part.part, part.text), readers)
        return len(readers)

    def show_streams(self, session: Session, conversation_id: str, entries: Iterable[Entry]) -> bool:
        """A session is given these entries: from here on it gets the parts of those of them that are open streams.

        Returns:
            Whether they show all that was pushed until now; if not, they are to be read again.
        """
        audience = self._audiences.get(conversation_id)
        if audience is None or session not in audience.sessions:
            return True
        opened = [(it.seq, it.stream.parts) for it in entries if it.stream is not None]
        whole = [audience.show_stream(session, seq, parts) for seq, parts in opened]
        return all(whole)

    def push_updated(
        self, conversation_id: str, title: str | UnsetType = UNSET, user_id: str | None = None
    ) -> int:
        """Say to everybody online in a conversation that its title or owner changed.

        Or, with `user_id`, to that user that what it is for them did: their mute. Returns to how many sessions.
        """
        audience = self._audiences.get(conversation_id)
        if audience is None:
            return 0
        sessions = [it for it in audience.sessions if user_id in (None, it.user_id)]
        push_volatile(ev.ConversationPush(conversation_id, audience.type, "UPDATED", title), sessions)
        return len(sessions)

    def push_content_refused(
        self, conversation_id: str, sender_id: str, client_msg_id: str, reason: str
    ) -> None:
        """Say to the sessions of a sender that a message of theirs, which was held, is refused for good."""
        error = ContentRefusedError(reason, reason=ev.REVIEWED)
        for session in self.presence.sessions([sender_id]):
            session.refuse(error, UNSET, conversation_id, client_msg_id)

    # --- against the log ---

    def epochs(self, conversation_ids: Iterable[str]) -> dict[str, str]:
        """The epoch that each of these logs has here; of those that somebody online belongs to."""
        held = ((name, self._audiences.get(name)) for name in conversation_ids)
        return {name: audience.epoch for name, audience in held if audience is not None}

    def compare(self, heads: dict[str, tuple[str, int]], before: dict[str, str]) -> list[str]:
        """Compare with what the log said a moment ago.

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
                self._to_reconcile.log(conversation_id)
            elif audience.compare(epoch, head_seq):
                further.append(conversation_id)
        return further

    def restart(self, mark: Entry, head_seq: int, member_count: int, gone: Collection[str]) -> None:
        """Go on behind a head of a log, as it was just read: what is missing here was deleted for good.

        Args:
            mark: Any entry of it, from the same look.
            head_seq: The head.
            member_count: Members there.
            gone: Users of it here who are members no more.
        """
        name = mark.conversation_id
        audience = self._audiences.get(name)
        if audience is None or audience.epoch != mark.epoch or audience.position >= head_seq:
            return
        for session in audience.restart(head_seq, member_count, gone):
            session.answer(ev.ConversationPush(name, audience.type, "LEFT"))
        if not audience.sessions:
            self._release(name)

    # --- inside ---

    def _carry_out(self, audience: Audience, applied: Applied) -> int:
        """Say what follows from an entry: who joined, who left, whom the log is asked about; then the entry itself."""
        name, kind = audience.conversation_id, audience.type
        for session in applied.joined:
            session.answer(ev.ConversationPush(name, kind, applied.reason))
        for session in applied.left:
            session.answer(ev.ConversationPush(name, kind, "LEFT"))
        if applied.uncertain:
            self._to_reconcile.joined(name, applied.uncertain, applied.reason)
        if self._times is not None and applied.entry.client_msg_id is not None:  # somebody sent it
            self._times.published(audience, (applied.entry,))
        push_entry(applied.entry, applied.recipients, applied.origin)
        count = len(applied.recipients) - (applied.origin in applied.recipients)
        self.offered += count
        return count

    def _publish_kept(self, audience: Audience) -> int:
        """Apply the kept entries that are next now, within the bound of a turn."""
        deliveries = 0
        while (kept := audience.take_kept()) is not None:
            deliveries += self._carry_out(audience, audience.apply(*kept, self.presence))
            if deliveries >= DELIVERIES_PER_TURN:
                self._to_reconcile.log(audience.conversation_id)
                break
        return deliveries

    def _enter(self, session: Session, joined: MembershipSnapshot) -> None:
        name = joined.conversation_id
        audience = self._audiences.get(name)
        if audience is None:
            audience = Audience(name, joined.type, joined.epoch, joined.head_seq, joined.member_count)
            self._hold(audience)
        if not audience.enter(session, joined):
            self._to_reconcile.log(name)

    def _outside(self, conversation_id: str, user_id: str) -> list[Session]:
        return [it for it in self.presence.sessions([user_id]) if conversation_id not in it.last_pushed_seq]

    def _hold(self, audience: Audience) -> None:
        self._audiences[audience.conversation_id] = audience
        if self._bus is not None:
            self._bus.subscribe(topic_of(audience.conversation_id))

    def _drop(self, conversation_id: str, session: Session) -> None:
        audience = self._audiences.get(conversation_id)
        if audience is None:
            return
        audience.leave(session)
        if not audience.sessions:
            self._release(conversation_id)

    def _release(self, conversation_id: str) -> None:
        """Nobody of this conversation is online any more."""
        del self._audiences[conversation_id]
        if self._bus is not None:
            self._bus.unsubscribe(topic_of(conversation_id))
