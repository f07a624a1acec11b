"""What leaves after a commit: answers to whoever asked, pushes to whoever is online. Forwards only.

The committer calls `settle` with each batch and its outcomes, in commit order; by then everything reported is
durable. Nothing here waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from ..errors import OverloadedError, RefusedError
from ..storage.base import (
    AddMembers,
    Advanced,
    Append,
    Appended,
    Conversation,
    CreateConversation,
    Created,
    Done,
    Entry,
    MembersChanged,
    Outcome,
    Recall,
    Recalled,
    Refused,
    RemoveMember,
    RenewEpoch,
    SessionOpened,
)
from ..wire import events as ev
from .config import ServerConfig
from .doubts import Doubts, JoinReason
from .draft import Draft
from .hub import Hub
from .receipts import Receipts
from .relay import Relay
from .session import Session

logger = logging.getLogger(__name__)

_REFUSED_MAX = 1000  # conversations of one session that wait for a refused message to come again


class Publisher:
    """Turns outcomes into answers and pushes, and into hints for the other nodes if there may be any."""

    def __init__(
        self, hub: Hub, receipts: Receipts, doubts: Doubts, relay: Relay | None, config: ServerConfig
    ) -> None:
        self._hub = hub
        self._doubts = doubts
        self._relay = relay
        self._retry_s = config.overload_retry_s
        self._receipts = receipts
        self._held_back = False
        self._by_outcome: dict[type[Outcome], Callable[[Draft, Any], None]] = {
            Appended: self._appended,
            Recalled: self._recalled,
            Advanced: self._advanced,
            Created: self._created,
            MembersChanged: self._members_changed,
            SessionOpened: self._session_opened,
            Refused: self._refused,
        }

    def settle(self, drafts: Sequence[Draft], outcomes: Sequence[Outcome]) -> bool:
        """Send everything that follows from one committed batch.

        A fault in what follows from one outcome costs that draft's session, never the others.

        Returns:
            Whether a send was refused in a way that holds later ones back.
        """
        self._held_back = False
        for draft, outcome in zip(drafts, outcomes, strict=True):
            try:
                self._settle_one(draft, outcome)
            except Exception:
                logger.exception("publishing after %s failed", type(draft.command).__name__)
                if draft.session is not None:
                    draft.session.close(ev.CloseCode.OVERLOADED, "the server failed")
            if draft.reply is not None:
                draft.reply.settle(outcome)
        try:
            self._receipts.flush()
        except Exception:
            logger.exception("publishing receipts failed")
        if self._relay is not None:
            self._flush(self._relay)
        return self._held_back

    def refuse_send(self, draft: Draft, error: RefusedError) -> None:
        """Refuse a SEND_MSG; a retryable refusal is remembered, so that the sender's order survives it."""
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
        self._held_back = True

    def doubt(self, drafts: Sequence[Draft]) -> None:
        """Have the log asked what became of refused drafts: entries, memberships and a new epoch are told to whoever is
        online soon, instead of by the next check. A recall names no conversation: every log is looked at.

        Not looked for are cursors, which are told with the next HEADS, and logins, which the next check of the devices
        finds.
        """
        for draft in drafts:
            command = draft.command
            if isinstance(command, Append | RemoveMember | AddMembers | RenewEpoch):
                self._doubts.log(command.conversation_id)
            if isinstance(command, Recall):
                self._doubts.all_logs()
            if isinstance(command, AddMembers | CreateConversation):
                self._doubts.changes()

    def refuse_held_back(self, draft: Draft) -> None:
        """Refuse a send because an earlier one of its session and conversation was refused."""
        error = OverloadedError(
            "an earlier message was refused; send that one first", retry_after_s=self._retry_s
        )
        self.refuse_send(draft, error)

    def _settle_one(self, draft: Draft, outcome: Outcome) -> None:
        if type(outcome) is not Done:
            self._by_outcome[type(outcome)](draft, outcome)

    def _appended(self, draft: Draft, outcome: Appended) -> None:
        session, entry = draft.session, outcome.entry
        if session is not None:
            session.answer(_ack(entry, draft.ref, entry.client_msg_id))
        self._hub.publish(entry, session)
        if self._relay is not None and not outcome.repeat:
            self._relay.logged(entry, session)

    def _recalled(self, draft: Draft, outcome: Recalled) -> None:
        if draft.session is not None:
            draft.session.answer(_ack(outcome.entry, draft.ref, None))
        self._hub.publish(outcome.entry, draft.session)
        if self._relay is not None and not outcome.repeat:
            self._relay.logged(outcome.entry, draft.session)

    def _advanced(self, draft: Draft, outcome: Advanced) -> None:
        if outcome.moved:
            self._receipts.note(outcome, draft.session)
            if self._relay is not None:
                self._relay.moved(outcome)

    def _created(self, draft: Draft, outcome: Created) -> None:
        if outcome.created and outcome.entry is not None:
            self._members(outcome.conversation, outcome.entry, outcome.member_ids, "CREATED")

    def _members_changed(self, draft: Draft, outcome: MembersChanged) -> None:
        if outcome.entry is not None:
            self._members(outcome.conversation, outcome.entry, outcome.added, "JOINED")

    def _members(
        self, conversation: Conversation, entry: Entry, added: Sequence[str], reason: JoinReason
    ) -> None:
        self._hub.open(conversation, entry, added)
        self._hub.publish(entry, None)
        if self._relay is not None:
            self._relay.logged(entry, None)
            if added:
                self._relay.entered(entry.conversation_id, added, reason)

    def _session_opened(self, draft: Draft, outcome: SessionOpened) -> None:
        try:
            self._join(draft, outcome)
        finally:
            if self._relay is not None:
                self._tell_opened(self._relay, draft.session, outcome)

    def _tell_opened(self, relay: Relay, session: Session | None, outcome: SessionOpened) -> None:
        """Have every node look at this device, also if the session has ended by now: the store holds its token as the
        newest, so that another session of the device, which may be its client's next try, cannot last.
        """
        relay.opened(outcome.user_id, outcome.device_id)
        live = self._hub.session(outcome.user_id, outcome.device_id)
        if live is not None and live is not session:
            self._doubts.device(outcome.user_id, outcome.device_id)

    def _join(self, draft: Draft, outcome: SessionOpened) -> None:
        session = draft.session
        if session is None or draft.opened is None or session.closed:
            return
        draft.opened(outcome)
        if session.closed:
            return  # turned away after all: a failed try disturbs no live session
        replaced = self._hub.join(session, outcome.conversations)
        if replaced is not None:
            replaced.close(ev.CloseCode.REPLACED, "a newer session of this device took over")

    def _flush(self, relay: Relay) -> None:
        try:
            relay.flush()
        except Exception:
            logger.exception("telling the other nodes failed")

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
