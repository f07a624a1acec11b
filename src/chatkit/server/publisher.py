"""What leaves after a commit: answers to whoever asked, pushes to whoever is online. Forwards only.

The committer calls `settle` with each batch and its outcomes, in commit order; by then everything reported is
durable. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from ..core.connection import State
from ..errors import RefusedError
from ..storage.base import (
    Advanced,
    Append,
    Appended,
    Created,
    Done,
    Entry,
    MembersChanged,
    Outcome,
    Recalled,
    Refused,
    SessionOpened,
)
from ..wire import events as ev
from .draft import Draft
from .hub import Hub
from .receipts import Receipts

Withdraw = Callable[[Draft], list[Draft]]
"""Takes what a session sent to the same conversation after this draft out of the queue."""

_REFUSED_MAX = 1000  # conversations of one session that wait for a refused message to come again


class Publisher:
    """Turns outcomes into answers and pushes."""

    def __init__(self, hub: Hub, receipts: Receipts, withdraw: Withdraw) -> None:
        self._hub = hub
        self._receipts = receipts
        self._withdraw = withdraw
        self._by_outcome: dict[type[Outcome], Callable[[Draft, Any], None]] = {
            Appended: self._appended,
            Recalled: self._recalled,
            Advanced: self._advanced,
            Created: self._created,
            MembersChanged: self._members_changed,
            SessionOpened: self._session_opened,
            Refused: self._refused,
        }

    def settle(self, drafts: Sequence[Draft], outcomes: Sequence[Outcome]) -> None:
        """Send everything that follows from one committed batch."""
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if type(outcome) is not Done:
                self._by_outcome[type(outcome)](draft, outcome)
            if draft.reply is not None:
                draft.reply.settle(outcome)
        self._receipts.flush()

    def refuse_send(self, draft: Draft, error: RefusedError) -> None:
        """Refuse a SEND_MSG; after a retryable refusal, what the session sent after it is refused alike."""
        session, command = draft.session, draft.command
        assert session is not None
        assert type(command) is Append
        session.refuse(error, draft.ref, command.conversation_id, command.client_msg_id)
        earliest = session.refused.get(command.conversation_id)
        if not error.retryable or (earliest is not None and earliest[0] < draft.order):
            return
        if len(session.refused) >= _REFUSED_MAX:
            session.close(ev.CloseCode.OVERLOADED, "too many refused conversations")
            return
        session.refused[command.conversation_id] = (draft.order, command.client_msg_id)
        for later in self._withdraw(draft):
            self.refuse_send(later, error)

    def _appended(self, draft: Draft, outcome: Appended) -> None:
        session, entry = draft.session, outcome.entry
        if session is not None:
            session.answer(_ack(entry, draft.ref, entry.client_msg_id))
        if not outcome.repeat:
            self._hub.publish(entry, session)

    def _recalled(self, draft: Draft, outcome: Recalled) -> None:
        if draft.session is not None:
            draft.session.answer(_ack(outcome.entry, draft.ref, None))
        if not outcome.repeat:
            self._hub.publish(outcome.entry, draft.session)

    def _advanced(self, draft: Draft, outcome: Advanced) -> None:
        if outcome.moved:
            self._receipts.note(outcome, draft.session)

    def _created(self, draft: Draft, outcome: Created) -> None:
        if outcome.created and outcome.entry is not None:
            self._admit(outcome.conversation.member_ids, outcome, "CREATED")
            self._hub.publish(outcome.entry, None)

    def _members_changed(self, draft: Draft, outcome: MembersChanged) -> None:
        if outcome.entry is None:
            return
        conversation = outcome.conversation
        self._hub.remove_members(conversation, outcome.removed)
        self._hub.announce(
            outcome.removed, ev.ConversationOut(conversation.conversation_id, conversation.type, "LEFT")
        )
        self._admit(outcome.added, outcome, "JOINED")
        self._hub.publish(outcome.entry, None)

    def _admit(self, user_ids: Sequence[str], outcome: Created | MembersChanged, change: Any) -> None:
        conversation, entry = outcome.conversation, outcome.entry
        assert entry is not None
        self._hub.add_members(conversation, user_ids, entry.seq)
        self._hub.announce(
            user_ids, ev.ConversationOut(conversation.conversation_id, conversation.type, change)
        )

    def _session_opened(self, draft: Draft, outcome: SessionOpened) -> None:
        session = draft.session
        if session is None or draft.opened is None or session.state is State.CLOSED:
            return
        draft.opened(outcome)
        replaced = self._hub.join(session, outcome.conversations)
        if replaced is not None:
            replaced.close(ev.CloseCode.REPLACED, "a newer session of this device took over")

    def _refused(self, draft: Draft, outcome: Refused) -> None:
        if draft.session is None or draft.reply is not None:
            return
        if type(draft.command) is Append:
            self.refuse_send(draft, outcome.error)
            return
        conversation_id = getattr(draft.command, "conversation_id", None)
        draft.session.refuse(outcome.error, draft.ref, UNSET if conversation_id is None else conversation_id)


def _ack(entry: Entry, ref: str | UnsetType, client_msg_id: str | None) -> ev.MsgAck:
    return ev.MsgAck(
        conversation_id=entry.conversation_id,
        epoch=entry.epoch,
        message_id=entry.message_id,
        seq=entry.seq,
        server_ts=entry.server_ts,
        client_msg_id=UNSET if client_msg_id is None else client_msg_id,
        ref=ref,
    )
