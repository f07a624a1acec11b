"""The verbs: one function per command. Each checks what needs no storage, then hands a command to the committer.

What comes by socket is answered to its session; `execute` serves HTTP, logins and hosts, which wait.
Reads go straight to the store. Membership is judged by the store, in the transaction or snapshot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import UNSET, UnsetType

from .._event_loop import LoopGuard
from ..core.policy import DEFAULT_POLICY, Policy
from ..core.send_order import SendOrder
from ..errors import BadRequestError, OverloadedError, RateLimitedError, RefusedError, UnavailableError
from ..ports import Ports
from ..storage.base import (
    AddMembers,
    AdvanceDelivered,
    AdvanceRead,
    Append,
    Appended,
    BanMember,
    BlockUser,
    Command,
    ConfirmMessage,
    CreateConversation,
    Done,
    EndLogins,
    EndStream,
    Expire,
    HeldRecord,
    IdleStream,
    Mute,
    Outcome,
    Recall,
    Recalled,
    RegisterPush,
    RemoveMember,
    RenewEpoch,
    ReportMessage,
    ResolveReports,
    Review,
    SetRetention,
    SetRole,
    SilenceMember,
    Store,
    TitleEntry,
    UnbanMember,
    UnblockUser,
    UnregisterPush,
    UpdateConversation,
)
from ..types import ConversationType, GrantedRole, History, Sent
from ..wire import events as ev
from ..wire.payload import canonical, is_plain, title_payload
from .access import Access
from .allowance import Allowance
from .commit_queue import HOST, Cursor
from .committer import Committer
from .config import ServerConfig
from .entries import sent_of
from .host_sends import HostSends
from .moderation.stage import Moderation
from .pending import PendingCommand, PendingReply
from .proof import Proof
from .publisher import Publisher, held_back_error
from .session import Session

_RECEIPT_SHARE = 0.5
"""Of the commit queue; above it receipts are refused so that sends get through."""

_OutcomeT = TypeVar("_OutcomeT", bound=Outcome)


class Engine:
    """Turns what users ask into commands and queues them for the next transaction.

    Attributes:
        store: For reads.
        policy: What roles may do; every command that depends on it carries it.
    """

    def __init__(
        self,
        store: Store,
        committer: Committer,
        host_sends: HostSends,
        publisher: Publisher,
        access: Access,
        allowance: Allowance,
        config: ServerConfig,
        ports: Ports,
        moderation: Moderation | None,
        policy: Policy = DEFAULT_POLICY,
        *,
        keep_reported_bodies: bool,
        keeps_blobs: bool = False,
    ) -> None:
        self._keeps_blobs = keeps_blobs
        self._keep_reported_bodies = keep_reported_bodies
        self.store = store
        self._submit_send = committer.submit if moderation is None else moderation.submit
        self.policy = policy
        self._allowance = allowance
        self._committer = committer
        self._host_sends = host_sends
        self._publisher = publisher
        self._confirmed = publisher.on_confirmed
        self._access = access
        self._config = config
        self._ports = ports
        self._keyed = _keyed(b"")
        window_s = config.edit_window_s
        self._edit_window_ms = None if window_s is None else int(window_s * 1000)
        self._guard: LoopGuard | None = None
        self._orders: dict[Session, SendOrder] = {}

    def start(self, secret: bytes, guard: LoopGuard) -> None:
        """Take the log's secret, known once the store is open, and the event loop that waits for answers."""
        self._keyed = _keyed(secret)
        self._guard = guard

    def stop(self) -> None:
        """The server was left: whoever asks is told so, in whatever event loop."""
        self._guard = None

    def check_loop(self) -> None:
        """Raise ConfigurationError in another event loop than the server's."""
        if self._guard is not None:
            self._guard.check()

    # --- from a socket: the answer goes to the session ---

    def send(self, session: Session, event: ev.SendMsg) -> None:
        """SEND_MSG: MSG_ACK once durable. Source: docs/protocol.md#send_msg"""
        command = self.append(event.conversation_id, session.user_id, event.client_msg_id, event.payload)
        pending = self._in_order(session, event, command)
        if pending is None:
            return
        try:
            self._allowance.send(session.user_id, event.conversation_id, session.heard_at_s)
            self._submit_send(pending)
        except (OverloadedError, RateLimitedError, UnavailableError) as error:
            self._publisher.refuse_send(pending, error)

    def refuse_send(self, session: Session, event: ev.SendMsg, error: RefusedError) -> None:
        """Refuse a SEND_MSG for now; later ones to its conversation are held back until it comes again."""
        command = Append(event.conversation_id, session.user_id, event.client_msg_id, b"", b"", 0)
        pending = self._in_order(session, event, command)
        if pending is not None:
            self._publisher.refuse_send(pending, error)

    def _in_order(self, session: Session, event: ev.SendMsg, command: Append) -> PendingCommand | None:
        """The send with its number in its session's order; None, and refused, if an earlier one must come first."""
        order = self._orders.get(session)
        if order is None:
            order = self._orders[session] = SendOrder()
        number = order.admit(event.conversation_id, event.client_msg_id)
        if number is None:
            error = held_back_error(self._config.overload_retry_s)
            session.refuse(error, event.ref, event.conversation_id, event.client_msg_id)
            return None
        return PendingCommand(
            command,
            session,
            event.ref,
            order,
            number,
            user_id=session.user_id,
            received_s=session.heard_at_s,
        )

    def delivered(self, session: Session, event: ev.DeliveredAck) -> None:
        """DELIVERED_ACK, cumulative or of one message. Source: docs/protocol.md#delivered_ack"""
        name, up_to_seq, message_id = event.conversation_id, event.up_to_seq, event.message_id
        if (up_to_seq is UNSET) == (message_id is UNSET):
            raise BadRequestError("give either `upToSeq` or `messageId`")
        if message_id is not UNSET:
            command = self.confirm(message_id, session.user_id, session.device_id, name)
            self._submit_receipt(session, command, event.ref)
        elif up_to_seq is not UNSET:
            at_ms = self._ports.clock.now_ms()
            cursor = AdvanceDelivered(name, session.user_id, session.device_id, up_to_seq, at_ms)
            self._advance(session, cursor, event.ref)

    def read(self, session: Session, event: ev.Read) -> None:
        """READ. Source: docs/protocol.md#read"""
        self._advance(
            session, self.advance_read(event.conversation_id, session.user_id, event.up_to_seq), event.ref
        )

    def _advance(self, session: Session, cursor: Cursor, ref: str | UnsetType) -> None:
        """Queue a cursor. It may take the place of one before it if both are of entries that were pushed to the
        session: whether any other is refused, the store alone can say.
        """
        if cursor.up_to_seq <= session.last_pushed_seq.get(cursor.conversation_id, -1):
            if self._confirmed is not None and type(cursor) is AdvanceDelivered:
                self._confirmed(session, cursor.conversation_id, cursor.up_to_seq, cursor.at_ms)
            self._committer.advance(session, cursor, ref, _RECEIPT_SHARE)
        else:
            self._submit_receipt(session, cursor, ref)

    def recall(self, session: Session, event: ev.Recall) -> None:
        """RECALL: MSG_ACK of the recall's own entry. Source: docs/protocol.md#recall"""
        command = self.withdraw(event.message_id, session.user_id)
        self._allowance.recall(session.user_id)
        pending = PendingCommand(
            command, session, event.ref, user_id=session.user_id, received_s=session.heard_at_s
        )
        self._committer.submit(pending)

    def _submit_receipt(self, session: Session, command: Command, ref: str | UnsetType) -> None:
        pending = PendingCommand(
            command, session, ref, user_id=session.user_id, received_s=session.heard_at_s
        )
        self._committer.submit(pending, urgent=False, share=_RECEIPT_SHARE)

    def ended(self, session: Session) -> None:
        """Forget a session; what it has queued keeps its order."""
        self._orders.pop(session, None)

    # --- for whoever waits ---

    async def send_and_wait(
        self, proof: Proof, conversation_id: str, client_msg_id: str, payload: Any
    ) -> Sent:
        """A user's message that came by HTTP. Raises as `append_and_wait` does, and RateLimitedError."""
        command = self.append(conversation_id, proof.user_id, client_msg_id, payload)
        self._allowance.send(proof.user_id, conversation_id, self._ports.clock.now_s())
        self._access.check(proof)
        pending = PendingCommand(command, user_id=proof.user_id, proof=proof)
        return await self.append_and_wait(pending)

    async def append_and_wait(self, pending: PendingCommand) -> Sent:
        """Send a message; a moderator is asked about it first. Raises as `execute` does, and HeldError."""
        outcome = await self._wait(pending, Appended, self._submit_send)
        assert isinstance(pending.command, Append)
        return sent_of(pending.command, outcome)

    async def recall_and_wait(self, proof: Proof, message_id: str) -> Recalled:
        """A user's recall that came by HTTP. Raises as `execute` does, and RateLimitedError."""
        command = self.withdraw(message_id, proof.user_id)
        self._allowance.recall(proof.user_id)
        return await self.execute(command, Recalled, proof)

    async def execute(
        self, command: Command, expected: type[_OutcomeT], proof: Proof | None = None
    ) -> _OutcomeT:
        """Commit one command and return its outcome.

        Args:
            command: What is to be done.
            expected: What its outcome is, if it is not refused.
            proof: The login of the user who asks for it, whose share of the commit queue it takes; refused if it does
                not hold any more. None: the host asks.

        Raises:
            RefusedError: It changed nothing; the class says why and whether a retry may help.
            UnavailableError: Storage refused or did not answer in time; resend with the same key.
            ConfigurationError: Called in another event loop than the server's.
        """
        if proof is None:
            return await self.submit(PendingCommand(command, user_id=HOST), expected)
        self._access.check(proof)
        return await self.submit(PendingCommand(command, user_id=proof.user_id, proof=proof), expected)

    async def append_within(self, connection: object, command: Append) -> Appended:
        """A message in a transaction that the host began on its own connection.

        Raises:
            RefusedError: As `execute`; the host's transaction goes on as if nothing had been tried.
            UnavailableError: The host rolls its transaction back, and may repeat all of it.
            ConfigurationError: Nothing can be sent on this connection, or this is another event loop than the server's.
        """
        self.check_loop()
        self._committer.check_open()
        return await self._host_sends.append(connection, command)

    async def submit(self, pending: PendingCommand, expected: type[_OutcomeT]) -> _OutcomeT:
        """As `execute`, for a command that belongs to a session."""
        return await self._wait(pending, expected, self._committer.submit)

    async def _wait(
        self, pending: PendingCommand, expected: type[_OutcomeT], submit: Callable[[PendingCommand], None]
    ) -> _OutcomeT:
        self.check_loop()
        pending.reply = PendingReply()
        submit(pending)
        outcome = await pending.reply.wait(self._config.request_timeout_s)
        assert isinstance(outcome, expected)
        return outcome

    async def report_and_wait(self, proof: Proof, message_id: str, reason: str, note: str) -> Done:
        """A user's report that came by HTTP. Raises as `execute` does, and RateLimitedError."""
        self._allowance.report(proof.user_id)
        return await self.execute(self.report(message_id, proof.user_id, reason, note), Done, proof)

    # --- commands, stamped ---

    def append(self, conversation_id: str, sender_id: str, client_msg_id: str, payload: Any) -> Append:
        """A user's message. Raises BadRequestError or TooLargeError for a payload nobody may store."""
        encoded = canonical(payload)
        return Append(
            conversation_id,
            sender_id,
            client_msg_id,
            encoded,
            self._mac(encoded),
            self._now_ms(),
            self.policy,
            self._edit_window_ms,
            self._keeps_blobs,
            is_plain(payload),
        )

    def end_stream(self, it: IdleStream) -> EndStream:
        """The end of a stream whose author is silent. Its key is the server's secret until then, and another one at
        another time: after a backup was put back, the author may have used what they saw.
        """
        edit = {
            "type": "EDIT",
            "messageId": it.message_id,
            "seq": it.seq,
            "ends": "CUT_OFF",
            "payload": {"type": "TEXT", "text": it.text},
        }
        payload = canonical(edit)
        now_ms = self._now_ms()
        key = "end-" + self._mac(f"{it.message_id} {now_ms}".encode()).hex()
        place = (it.conversation_id, it.message_id, it.author_id, it.at_ms, it.parts)
        return EndStream(*place, key, payload, self._mac(payload), now_ms)

    def review(
        self, held: HeldRecord, by: str | None, *, release: bool, reason: str, payload: bytes | None
    ) -> Review:
        """A decision about a held message; None is the host."""
        place = (held.held_id, held.conversation_id, held.sender_id)
        return Review(*place, by, release, self._now_ms(), reason, payload, self.policy)

    def report(self, message_id: str, user_id: str, reason: str, note: str) -> ReportMessage:
        """A user's report of a message."""
        return ReportMessage(message_id, user_id, reason, note, self._keep_reported_bodies, self._now_ms())

    def resolve_reports(self, message_id: str, by: str | None, resolution: str) -> ResolveReports:
        """The end of the open reports of a message; None is the host."""
        return ResolveReports(message_id, by, resolution, self._now_ms())

    def withdraw(self, message_id: str, by: str | None) -> Recall:
        """A recall, of one's own messages inside the configured window. None is the host."""
        window_ms = int(self._config.recall_window_s * 1000)
        return Recall(message_id, by, window_ms, self._now_ms(), self.policy)

    def advance_delivered(
        self, conversation_id: str, user_id: str, device_id: str, up_to_seq: int
    ) -> AdvanceDelivered:
        """A device's cumulative confirmation."""
        return AdvanceDelivered(conversation_id, user_id, device_id, up_to_seq, self._now_ms())

    def confirm(
        self, message_id: str, user_id: str, device_id: str, conversation_id: str | None = None
    ) -> ConfirmMessage:
        """A device's confirmation of exactly one entry."""
        return ConfirmMessage(message_id, user_id, device_id, self._now_ms(), conversation_id)

    def advance_read(self, conversation_id: str, user_id: str, up_to_seq: int) -> AdvanceRead:
        """A user's read cursor."""
        return AdvanceRead(conversation_id, user_id, up_to_seq, self._now_ms())

    def create(
        self,
        kind: ConversationType,
        creator_id: str,
        member_ids: tuple[str, ...],
        conversation_id: str | None = None,
        title: str = "",
        *,
        by_host: bool = False,
        history: History = "FROM_JOIN",
    ) -> CreateConversation:
        """A new conversation; the creator is a member in any case, and without an id it gets a random one."""
        members = tuple(dict.fromkeys((creator_id, *member_ids)))
        name = conversation_id or f"c-{self._ports.ids.token_bytes(12).hex()}"
        return CreateConversation(
            name,
            kind,
            creator_id,
            members,
            title,
            self.new_epoch(),
            self._config.members_max,
            self._now_ms(),
            by_host,
            history,
        )

    def add(
        self, conversation_id: str, by: str | None, user_ids: tuple[str, ...], role: GrantedRole = "MEMBER"
    ) -> AddMembers:
        """More members for a group; None is the host."""
        config, unique = self._config, tuple(dict.fromkeys(user_ids))
        bounds = (config.members_max, self._now_ms(), config.readd_after_leaving)
        return AddMembers(conversation_id, by, unique, *bounds, role, self.policy)

    def remove(self, conversation_id: str, by: str | None, user_id: str) -> RemoveMember:
        """One member less; or, with oneself, leaving. None is the host."""
        return RemoveMember(conversation_id, by, user_id, self._now_ms(), self.policy)

    def update(
        self,
        conversation_id: str,
        by: str | None,
        *,
        title: str | None = None,
        description: str | None = None,
        owner_id: str | None = None,
        history: History | None = None,
    ) -> UpdateConversation:
        """Another title, description, owner or history for a group; None is the host."""
        titled = None
        if (title, description) != (None, None):
            encoded = canonical(title_payload(title, description))
            titled = TitleEntry(self.new_key(), encoded, self._mac(encoded))
        return UpdateConversation(conversation_id, by, titled, owner_id, self._now_ms(), history, self.policy)

    def set_role(self, conversation_id: str, by: str | None, user_id: str, role: GrantedRole) -> SetRole:
        """Another role for a member; None is the host."""
        return SetRole(conversation_id, by, user_id, role, self._now_ms(), self.policy)

    def silence(self, conversation_id: str, by: str | None, user_id: str, until_ms: int) -> SilenceMember:
        """A member may not write until then, or may again (0); None is the host."""
        return SilenceMember(conversation_id, by, user_id, until_ms, self._now_ms(), self.policy)

    def ban(self, conversation_id: str, by: str | None, user_id: str) -> BanMember:
        """A user is kept out of a group; None is the host."""
        return BanMember(conversation_id, by, user_id, self._now_ms(), self.policy)

    def unban(self, conversation_id: str, by: str | None, user_id: str) -> UnbanMember:
        """A user may be added to a group again; None is the host."""
        return UnbanMember(conversation_id, by, user_id, self._now_ms(), self.policy)

    def block(self, user_id: str, blocked_id: str) -> BlockUser:
        """A user blocks another one."""
        return BlockUser(user_id, blocked_id, self._now_ms())

    def unblock(self, user_id: str, blocked_id: str) -> UnblockUser:
        """A user ends a block."""
        return UnblockUser(user_id, blocked_id)

    def mute(self, conversation_id: str, user_id: str, until_ms: int, *, but_mentions: bool = False) -> Mute:
        """A member is not woken for a conversation until then, or but for what mentions them; 0: they are again."""
        return Mute(conversation_id, user_id, until_ms, but_mentions)

    def register_push(
        self, proof: Proof, device_id: str, provider: str, token: str, *, hide_body: bool
    ) -> RegisterPush:
        """A device says how it is reached when it sleeps. Held to what is revoked until it is stored."""
        login = (proof.token_hash, proof.identity.issued_at_ms, proof.asked_at)
        return RegisterPush(proof.user_id, device_id, provider, token, hide_body, self._now_ms(), *login)

    def unregister_push(self, user_id: str, device_id: str) -> UnregisterPush:
        """A device is not to be pushed to any more."""
        return UnregisterPush(user_id, device_id)

    def renew_epoch(self, conversation_id: str) -> RenewEpoch:
        """A new identity for a restored log."""
        return RenewEpoch(conversation_id, self.new_epoch(), self._now_ms())

    def end_logins(self) -> EndLogins:
        """Nobody comes back by a resume token from before."""
        return EndLogins(self._now_ms())

    def retention(self, conversation_id: str, keep_ms: int | None, by: str | None) -> SetRetention:
        """How long entries are kept."""
        return SetRetention(conversation_id, keep_ms, by, self._now_ms())

    def expiry(self, conversation_id: str, up_to_seq: int, by: str | None) -> Expire:
        """The end of entries."""
        return Expire(conversation_id, up_to_seq, by, self._now_ms())

    def new_key(self) -> str:
        """A clientMsgId that nobody has used."""
        return f"made-{self._ports.ids.token_bytes(16).hex()}"

    def _mac(self, encoded: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(encoded)
        return keyed.digest()

    def new_epoch(self) -> str:
        """An epoch that no log has had."""
        return self._ports.ids.token_bytes(5).hex()

    def _now_ms(self) -> int:
        return self._ports.clock.now_ms()


def _keyed(secret: bytes) -> hashlib.blake2b:
    """The MAC of nothing yet: copied for each payload, which costs less than to begin with the key again."""
    return hashlib.blake2b(key=secret, digest_size=16)
