"""What leaves after a commit: answers to whoever asked, pushes to whoever is online. Forwards only.

The committer calls `on_committed` with each outcome, in commit order; by then everything reported is durable. Nothing
here waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from ..core.log.titles import titled_by
from ..errors import ForbiddenError, NotFoundError, OverloadedError, RefusedError
from ..storage.base import (
    AddMembers,
    Advanced,
    AdvanceDelivered,
    Append,
    Appended,
    AppendPart,
    BanMember,
    BlobReserved,
    BlobsCollected,
    Command,
    Conversation,
    CreateConversation,
    Created,
    Done,
    EndStream,
    Entry,
    Held,
    MembersChanged,
    Mute,
    Outcome,
    PartAppended,
    Recall,
    Recalled,
    Refused,
    RemoveMember,
    RenewEpoch,
    Review,
    Reviewed,
    Revoked,
    SessionOpened,
    UpdateConversation,
    Updated,
)
from ..types import JoinReason
from ..wire import events as ev
from .access import Access
from .allowance import Allowance
from .cluster.bridge import ClusterBridge
from .cluster.messages import StreamPart
from .cluster.reconcile_queue import ReconcileQueue
from .commit_queue import HOST
from .config import ServerConfig
from .delivery.feed import QueueFeed
from .entries import stored_instead
from .live.hub import Hub
from .pending import PendingCommand, held_error
from .receipts import Receipts
from .runs import Committed
from .session import Session

logger = logging.getLogger(__name__)


_MAY_APPEND: Final = (
    Append,
    EndStream,
    Review,
    RemoveMember,
    BanMember,
    AddMembers,
    UpdateConversation,
    RenewEpoch,
)
"""Commands after which a log may have another entry, or another epoch."""


class Publisher:
    """Turns outcomes into answers and pushes, and into messages for the other nodes if there may be any.

    Attributes:
        on_confirmed: To be called with what a session confirms, as soon as it does; None: nobody wants to know.
    """

    def __init__(
        self,
        hub: Hub,
        receipts: Receipts,
        to_reconcile: ReconcileQueue,
        bridge: ClusterBridge | None,
        access: Access,
        allowance: Allowance,
        config: ServerConfig,
        feed: QueueFeed | None = None,
    ) -> None:
        self._hub = hub
        self._feed = feed
        self.on_confirmed = hub.on_confirmed
        self._receipts = receipts
        self._to_reconcile = to_reconcile
        self._bridge = bridge
        self._access = access
        self._allowance = allowance
        self._retry_s = config.overload_retry_s
        self._sessions_per_user = config.limits.sessions_per_user
        self._by_outcome: dict[type[Outcome], Callable[[PendingCommand, Any], int | None]] = {
            Appended: self._stored,
            PartAppended: self._part_stored,
            Held: self._held,
            Reviewed: self._reviewed,
            Recalled: self._stored,
            Advanced: self._advanced,
            Created: self._created,
            MembersChanged: self._members_changed,
            Updated: self._updated,
            SessionOpened: self._session_opened,
            Revoked: self._revoked,
            BlobReserved: self._done,
            BlobsCollected: self._done,
            Done: self._done,
            Refused: self._refused,
        }

    def on_committed(self, pending: PendingCommand, outcome: Outcome) -> int:
        """Send what follows from one outcome. A fault in it costs the session that asked, never the others.

        Returns:
            How many pushes were offered.
        """
        deliveries = None
        try:
            deliveries = self._by_outcome[type(outcome)](pending, outcome)
        except Exception:
            self._failed(pending.session, f"publishing after {type(pending.command).__name__} failed")
        if pending.reply is not None:
            pending.reply.resolve(outcome)
        return deliveries or 0

    def on_stored(self, run: Sequence[Committed], deliveries_max: int) -> Sequence[int]:
        """As `on_committed` of each, for new messages of one session to one conversation, or of as many as make so
        many deliveries: who is online is gone through once for all of them.

        Returns:
            Of each that was handled, how many pushes were offered.
        """
        session = run[0][0].session
        assert session is not None
        stored = [(pending, outcome) for pending, outcome in run if type(outcome) is Appended]
        reach = self._hub.reach(stored[0][1].entry.conversation_id)
        del stored[max(1, deliveries_max // max(1, reach)) :]
        entries = [outcome.entry for _, outcome in stored]
        try:
            for pending, outcome in stored:
                self._answer(session, pending, outcome)
        except Exception:
            self._failed(session, "answering messages failed")
        try:
            deliveries = self._hub.publish_run(entries, session)
            for pending, outcome in stored[: len(entries)]:
                self._tell(outcome.entry, session)
                self._retitled(pending.command, outcome.entry)
            return deliveries
        except Exception:
            self._failed(session, "publishing messages failed")
            return [0] * len(stored)

    def on_batch_end(self) -> bool:
        """Send the receipts of a batch, and what the other nodes are told of it. Returns whether receipts are left."""
        left = self._receipts.flush()
        try:
            if self._bridge is not None:
                self._bridge.flush()
        except Exception:
            logger.exception("telling the other nodes failed")
        return left

    def refuse_send(self, pending: PendingCommand, error: RefusedError) -> None:
        """Refuse a SEND_MSG; if it may be tried again, later ones are held back until it is."""
        session, command, order = pending.session, pending.command, pending.order
        assert session is not None
        assert order is not None
        assert isinstance(command, Append)
        session.refuse(error, pending.ref, command.conversation_id, command.client_msg_id)
        if not order.refused(
            command.conversation_id, command.client_msg_id, pending.number, retryable=error.retryable
        ):
            session.close(ev.CloseCode.OVERLOADED, "too many refused conversations")

    def refuse_held_back(self, pending: PendingCommand) -> None:
        """Refuse a send because an earlier one of its session and conversation was refused."""
        self.refuse_send(pending, held_back_error(self._retry_s))

    def on_outcome_unknown(self, batch: Sequence[PendingCommand]) -> None:
        """Have the log asked what became of refused commands, so that entries, memberships and a new epoch reach who
        is online soon, instead of by the next check. A recall names no conversation: every log is looked at.

        Not looked for are cursors, which come with the next HEADS, and logins. Their connection was closed; an older
        session of that device may go on, whose resume token is not its newest any more: with a bus the next check of
        the devices closes it, without one its client logs in by its token once it is cut.
        """
        for pending in batch:
            command = pending.command
            if isinstance(command, _MAY_APPEND):
                self._to_reconcile.log(command.conversation_id)
            if isinstance(command, Recall):
                self._to_reconcile.all_logs()
            if isinstance(command, AddMembers | CreateConversation):
                self._to_reconcile.changes()

    # --- one outcome ---

    def _stored(self, pending: PendingCommand, outcome: Appended | Recalled) -> int:
        session, entry = pending.session, outcome.entry
        if session is not None:
            self._answer(session, pending, outcome)
        if outcome.repeat:
            return self._hub.publish(entry, session)
        deliveries = self._publish(entry, session)
        self._retitled(pending.command, entry)
        return deliveries

    def _part_stored(self, pending: PendingCommand, outcome: PartAppended) -> int:
        session, command = pending.session, pending.command
        assert isinstance(command, AppendPart)
        if session is not None:
            session.answer(
                ev.StreamAck(
                    conversation_id=outcome.conversation_id,
                    message_id=outcome.message_id,
                    seq=outcome.seq,
                    part=outcome.parts,
                    ref=pending.ref,
                )
            )
        if outcome.repeat:
            return 0
        place = (outcome.conversation_id, outcome.epoch, outcome.message_id, outcome.seq)
        part = StreamPart(*place, command.part, command.text, outcome.head_seq)
        if self._bridge is not None:
            self._bridge.part(part)
        return self._hub.push_part(part, session)

    def _answer(self, session: Session, pending: PendingCommand, outcome: Appended | Recalled) -> None:
        payload = stored_instead(pending.command, outcome)
        instead = UNSET if payload is None else session.codec.raw(payload)
        session.answer(_ack(outcome.entry, pending.ref, instead))

    def _publish(self, entry: Entry, origin: Session | None) -> int:
        """Offer a new entry to who is online here, and tell the other nodes and the workers."""
        deliveries = self._hub.publish(entry, origin)
        self._tell(entry, origin)
        return deliveries

    def _tell(self, entry: Entry, origin: Session | None) -> None:
        if self._bridge is not None:
            self._bridge.stored(entry, origin)
        if self._feed is not None:
            self._feed.stored(entry)

    def _failed(self, session: Session | None, words: str) -> None:
        """Log the exception; the session that asked is closed, so that its client asks the log."""
        logger.exception(words)
        if session is not None:
            session.close(ev.CloseCode.OVERLOADED, "the server failed")

    def _held(self, pending: PendingCommand, outcome: Held) -> None:
        """Later sends go on: the store keeps them behind this one."""
        session, command = pending.session, pending.command
        if session is not None:
            assert isinstance(command, Append)
            session.refuse(held_error(outcome), pending.ref, command.conversation_id, command.client_msg_id)

    def _reviewed(self, pending: PendingCommand, outcome: Reviewed) -> int:
        """What was held is told like any entry, to all of its sender's sessions too; and who sent what was refused."""
        command, deliveries = pending.command, 0
        assert isinstance(command, Review)
        for entry in outcome.entries:
            deliveries += self._publish(entry, None)
            self._retitled(command, entry)
        for client_msg_id, reason in outcome.refused:
            self._hub.push_content_refused(command.conversation_id, command.sender_id, client_msg_id, reason)
            if self._bridge is not None:
                self._bridge.content_refused(
                    command.conversation_id, command.sender_id, client_msg_id, reason
                )
        return deliveries

    def _advanced(self, pending: PendingCommand, outcome: Advanced) -> None:
        command, session = pending.command, pending.session
        if (
            self.on_confirmed is not None
            and not pending.rested
            and session is not None
            and type(command) is AdvanceDelivered
        ):
            self.on_confirmed(session, command.conversation_id, command.up_to_seq, command.at_ms)
        if outcome.moved:
            self._receipts.note(outcome, session)
            if self._bridge is not None:
                self._bridge.moved(outcome)

    def _created(self, pending: PendingCommand, outcome: Created) -> int:
        if not outcome.created or outcome.entry is None:
            return 0
        return self._members(outcome.conversation, outcome.entry, outcome.member_ids, "CREATED")

    def _members_changed(self, pending: PendingCommand, outcome: MembersChanged) -> int:
        if outcome.entry is None:
            return 0
        deliveries = self._members(outcome.conversation, outcome.entry, outcome.added, "JOINED")
        if outcome.new_owner_id is not None:
            deliveries += self._push_updated(outcome.conversation.conversation_id, outcome.conversation.title)
        return deliveries

    def _updated(self, pending: PendingCommand, outcome: Updated) -> int:
        deliveries = 0 if outcome.entry is None else self._publish(outcome.entry, None)
        if outcome.changed:
            deliveries += self._push_updated(outcome.conversation.conversation_id, outcome.conversation.title)
        return deliveries

    def _push_updated(self, conversation_id: str, title: str | UnsetType) -> int:
        """Say that title, description or owner changed; what is lost of it, the next list shows."""
        if self._bridge is not None:
            self._bridge.updated(conversation_id)
        return self._hub.push_updated(conversation_id, title)

    def _retitled(self, command: Command, entry: Entry) -> None:
        """After a message that gave the group another title or description, which nearly none does."""
        if type(command) is Append and command.is_plain:
            return
        titled = titled_by(entry.payload)
        if titled is not None:
            self._push_updated(entry.conversation_id, titled.title)

    def _members(
        self, conversation: Conversation, entry: Entry, added: Sequence[str], reason: JoinReason
    ) -> int:
        self._hub.open(conversation, entry, added)
        deliveries = self._hub.publish(entry, None)
        if self._bridge is not None:
            self._bridge.stored(entry, None)
            if added:
                self._bridge.joined(entry.conversation_id, added, reason)
        return deliveries

    def _done(self, pending: PendingCommand, outcome: Outcome) -> None:
        """After a renewal every node asks the log for the new epoch: everybody online is behind then.

        After a mute the user's other devices ask for the list again.
        """
        command = pending.command
        if type(command) is Mute:
            if self._bridge is not None:
                self._bridge.updated(command.conversation_id, command.user_id)
            self._hub.push_updated(command.conversation_id, user_id=command.user_id)
        if type(command) is RenewEpoch:
            self._to_reconcile.log(command.conversation_id)
            if self._bridge is not None:
                self._bridge.renewed(command.conversation_id)

    def _session_opened(self, pending: PendingCommand, outcome: SessionOpened) -> None:
        try:
            self._join(pending, outcome)
        finally:
            if self._bridge is not None:
                self._announce_device(self._bridge, pending.session, outcome)

    def _announce_device(
        self, bridge: ClusterBridge, session: Session | None, outcome: SessionOpened
    ) -> None:
        """Have every node look at this device, also if the session has ended by now: the store holds its token as the
        newest, so that another session of the device, which may be its client's next try, cannot last.
        """
        bridge.opened(outcome.user_id, outcome.device_id)
        live = self._hub.presence.session(outcome.user_id, outcome.device_id)
        if live is not None and live is not session:
            self._to_reconcile.device(outcome.user_id, outcome.device_id)

    def _join(self, pending: PendingCommand, outcome: SessionOpened) -> None:
        session = pending.session
        if session is None or pending.opened is None or session.closed:
            return
        self._check_sessions_of(session, outcome)
        if not session.closed:
            pending.opened(outcome)
        if session.closed:
            return  # turned away after all: a failed try disturbs no live session
        replaced = self._hub.join(session, outcome.conversations)
        if replaced is not None:
            replaced.close(ev.CloseCode.REPLACED, "a newer session of this device took over")
        self._access.joined(session)

    def _revoked(self, pending: PendingCommand, outcome: Revoked) -> None:
        self._access.committed(outcome.revocation)
        if self._bridge is not None:
            self._bridge.revoked()

    def _check_sessions_of(self, session: Session, outcome: SessionOpened) -> None:
        """Turn a session away whose user has as many as are allowed, on other devices of this node."""
        others = [
            it for it in self._hub.presence.sessions([outcome.user_id]) if it.device_id != outcome.device_id
        ]
        if len(others) >= self._sessions_per_user:
            error = OverloadedError("this user has too many open connections", retry_after_s=self._retry_s)
            session.refuse(error)
            session.close(ev.CloseCode.OVERLOADED, str(error))

    def _refused(self, pending: PendingCommand, outcome: Refused) -> None:
        if (
            isinstance(pending.command, Append)
            and pending.user_id != HOST
            and isinstance(outcome.error, NotFoundError | ForbiddenError)
        ):
            self._allowance.not_sent(pending.command.conversation_id)
        if isinstance(pending.command, AppendPart):
            self._allowance.not_streamed(pending.command.conversation_id)
        if pending.session is None or pending.reply is not None:
            return
        if isinstance(pending.command, Append):
            self.refuse_send(pending, outcome.error)
            return
        conversation_id = getattr(pending.command, "conversation_id", None)
        pending.session.refuse(
            outcome.error, pending.ref, UNSET if conversation_id is None else conversation_id
        )


def held_back_error(retry_s: float) -> OverloadedError:
    """What a send is refused with that an earlier one holds back."""
    return OverloadedError("an earlier message was refused; send that one first", retry_after_s=retry_s)


def _ack(entry: Entry, ref: str | UnsetType, payload: msgspec.Raw | UnsetType) -> ev.MsgAck:
    return ev.MsgAck(
        conversation_id=entry.conversation_id,
        epoch=entry.epoch,
        message_id=entry.message_id,
        seq=entry.seq,
        server_ts=entry.server_ts,
        client_msg_id=UNSET if entry.client_msg_id is None else entry.client_msg_id,
        ref=ref,
        payload=payload,
    )
