"""Who is online in which conversation, and the fan-out: encode once per codec, offer to each session.

Everything here is in memory and a hint: what a session misses it pulls from the log. Changes arrive in commit
order (from `publisher`), so the audience of a conversation is exact for this node. Never waits for a socket.
Conversations nobody online belongs to are not held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..storage.base import Conversation, Entry, Joined
from ..types import ConversationType
from ..wire import events as ev
from ..wire.codec import Codec
from .entries import new_msg
from .session import Session


class Audience:
    """The online part of one conversation.

    Attributes:
        sessions: Online sessions of members, in the order they came.
        type: SINGLE or GROUP.
        epoch: Identity of the log.
        head_seq: Highest seq seen.
        member_count: Current members, online or not.
    """

    __slots__ = ("epoch", "head_seq", "member_count", "sessions", "type")

    def __init__(self, kind: ConversationType, epoch: str, head_seq: int, member_count: int) -> None:
        self.sessions: dict[Session, None] = {}
        self.type = kind
        self.epoch = epoch
        self.head_seq = head_seq
        self.member_count = member_count


class Hub:
    """The online sessions of this node, by user and by conversation."""

    def __init__(self) -> None:
        self._audiences: dict[str, Audience] = {}
        self._users: dict[str, dict[str, Session]] = {}

    # --- who is here ---

    def join(self, session: Session, conversations: Iterable[Joined]) -> Session | None:
        """Take a session in; from here on it gets the pushes of these conversations.

        Returns:
            The session of the same device that this one replaces, already taken out.
        """
        replaced = self._users.get(session.user_id, {}).get(session.device_id)
        if replaced is not None:
            self.leave(replaced)
        self._users.setdefault(session.user_id, {})[session.device_id] = session
        for joined in conversations:
            audience = self._audience(
                joined.conversation_id, joined.type, joined.epoch, joined.head_seq, joined.member_count
            )
            audience.sessions[session] = None
            session.offered[joined.conversation_id] = joined.head_seq
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

    def add_members(self, conversation: Conversation, user_ids: Iterable[str], seq: int) -> None:
        """Users became members with the entry `seq`: their sessions get the pushes from there on."""
        for session in self._sessions(user_ids):
            audience = self._audience(
                conversation.conversation_id, conversation.type, conversation.epoch, seq - 1, 0
            )
            audience.sessions[session] = None
            session.offered[conversation.conversation_id] = seq - 1
        self._set_member_count(conversation.conversation_id, conversation.member_count)

    def remove_members(self, conversation: Conversation, user_ids: Iterable[str]) -> None:
        """Users are no members any more: nothing of this conversation reaches their sessions from here on."""
        for session in self._sessions(user_ids):
            self._drop(conversation.conversation_id, session)
            session.offered.pop(conversation.conversation_id, None)
            session.behind.pop(conversation.conversation_id, None)
            session.typed_at_s.pop(conversation.conversation_id, None)
            session.refused.pop(conversation.conversation_id, None)
        self._set_member_count(conversation.conversation_id, conversation.member_count)

    def _set_member_count(self, conversation_id: str, count: int) -> None:
        """Remember how many members a conversation has, if anybody of it is online."""
        audience = self._audiences.get(conversation_id)
        if audience is not None:
            audience.member_count = count

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
        """Offer a stored entry to every online session of its conversation but the one that sent it."""
        audience = self._audiences.get(entry.conversation_id)
        if audience is None:
            return
        audience.head_seq = max(audience.head_seq, entry.seq)
        conversation_id, seq, sender_id = entry.conversation_id, entry.seq, entry.sender_id
        encoded: dict[Codec, bytes] = {}
        for session in audience.sessions:
            if session is origin:
                session.offered[conversation_id] = seq
            elif session.user_id == sender_id:
                session.push(new_msg(entry, session.codec, own=True), conversation_id, seq)
            else:
                push = encoded.get(session.codec)
                if push is None:
                    push = encoded[session.codec] = new_msg(entry, session.codec, own=False)
                session.push(push, conversation_id, seq)

    def tell(self, sessions: Iterable[Session], event: ev.ReceiptOut | ev.TypingOut) -> None:
        """Offer a droppable event, encoded once per codec."""
        encoded: dict[Codec, bytes] = {}
        for session in sessions:
            hint = encoded.get(session.codec)
            if hint is None:
                hint = encoded[session.codec] = session.codec.encode(event)
            session.hint(hint, event.conversation_id)

    def announce(self, user_ids: Iterable[str], event: ev.ConversationOut) -> None:
        """Tell all sessions of these users about a change of their conversations."""
        for session in self._sessions(user_ids):
            session.answer(event)

    def in_conversation(
        self, conversation_id: str, user_ids: Sequence[str], *, but: Session | None = None
    ) -> list[Session]:
        """Sessions of these users that belong to this conversation."""
        audience = self._audiences.get(conversation_id)
        if audience is None:
            return []
        return [s for s in self._sessions(user_ids) if s is not but and s in audience.sessions]

    def compare(self, heads: dict[str, tuple[str, int]]) -> None:
        """Compare what was offered with what the log said a moment ago: who missed something is behind.

        Under a new epoch everybody is.
        """
        for conversation_id, (epoch, head_seq) in heads.items():
            audience = self._audiences.get(conversation_id)
            if audience is None:
                continue
            renewed, audience.epoch = audience.epoch != epoch, epoch
            audience.head_seq = max(audience.head_seq, head_seq)
            for session in audience.sessions:
                if renewed or session.offered[conversation_id] < head_seq:
                    session.mark_behind(conversation_id)

    def _sessions(self, user_ids: Iterable[str]) -> list[Session]:
        return [s for user_id in user_ids for s in self._users.get(user_id, {}).values()]

    def _audience(
        self, conversation_id: str, kind: ConversationType, epoch: str, head_seq: int, member_count: int
    ) -> Audience:
        audience = self._audiences.get(conversation_id)
        if audience is None:
            audience = self._audiences[conversation_id] = Audience(kind, epoch, head_seq, member_count)
        return audience

    def _drop(self, conversation_id: str, session: Session) -> None:
        audience = self._audiences.get(conversation_id)
        if audience is not None:
            audience.sessions.pop(session, None)
            if not audience.sessions:
                del self._audiences[conversation_id]
