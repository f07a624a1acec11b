"""The store in plain Python: the same contract as SQLite's, for tests, examples and throw-away servers.

Nothing outlives the process. Every command validates all of itself before it changes anything, so a refusal needs
no rollback. The reads are in `memory_reads`. Called by `assemble`; everyone above sees only `storage.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import anyio.lowlevel

from ..core.visibility import Interval
from ..errors import RefusedError, UnavailableError
from ..ports import Ids
from ..wire.payload import RECALLED
from . import base, rules
from .memory_log import Conversation, Device, Token, World
from .memory_reads import MemoryReads

SECRET_BYTES: Final = 32
AuditAction = Literal["CREATED", "ADDED", "REMOVED", "LEFT", "RECALLED", "EPOCH_RENEWED"]
AnyAdvance = base.AdvanceDelivered | base.ConfirmMessage


class MemoryStore(MemoryReads):
    """`storage.base.Store` in memory; see there for what each method holds to.

    Args:
        ids: Where the log's secret comes from.
    """

    def __init__(self, *, ids: Ids) -> None:
        super().__init__(World())
        self._ids = ids
        self._secret = b""
        self._closed = False
        self._handlers: dict[type, Callable[[Any], base.Outcome]] = {
            base.Append: self._append,
            base.Recall: self._recall,
            base.AdvanceDelivered: self._advance_delivered,
            base.ConfirmMessage: self._confirm,
            base.AdvanceRead: self._advance_read,
            base.CreateConversation: self._create,
            base.AddMembers: self._add,
            base.RemoveMember: self._remove,
            base.OpenSession: self._open_session,
            base.ResumeSession: self._resume,
            base.RenewLogin: self._renew_login,
            base.RenewEpoch: self._renew_epoch,
            base.CloseOutbox: self._close_outbox,
        }

    @property
    def healthy(self) -> bool:
        """Whether the store was made ready and not closed."""
        return bool(self._secret) and not self._closed

    async def migrate(self) -> bytes:
        """Make the store ready and return the log's secret."""
        self._secret = self._secret or self._ids.token_bytes(SECRET_BYTES)
        return self._secret

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Apply a batch in order."""
        await anyio.lowlevel.checkpoint()
        if not self.healthy:
            raise UnavailableError("the store is not open", retry_after_s=1.0)
        return [self._apply(command) for command in commands]

    async def aclose(self) -> None:
        """Take no more commands. The log goes with the object."""
        self._closed = True

    def _apply(self, command: base.Command) -> base.Outcome:
        try:
            return self._handlers[type(command)](command)
        except RefusedError as error:
            error.__traceback__ = None  # it would keep everything the command touched alive
            return base.Refused(error)

    def _append(self, command: base.Append) -> base.Appended:
        log = self._world.find(command.conversation_id)
        seq = log.by_client_id.get((command.sender_id, command.client_msg_id))
        if seq is not None:
            row = log.rows[seq - 1]
            rules.check_same_payload(command, row.mac)
            return base.Appended(log.entry(row, row.epoch), True)
        log.check_member(command.sender_id)
        row = log.append(
            "USER",
            command.sender_id,
            command.payload,
            command.at_ms,
            client_msg_id=command.client_msg_id,
            mac=command.payload_mac,
        )
        return base.Appended(log.entry(row, row.epoch), False)

    def _recall(self, command: base.Recall) -> base.Recalled:
        log, row = self._world.place(command.message_id)
        if row.recalled_by is not None and row.sender_id == command.user_id:
            first = log.rows[row.recalled_by - 1]
            return base.Recalled(log.entry(first, first.epoch), True)
        rules.check_visible(log.members.get(command.user_id, ()), row.seq)
        rules.check_author(command, row.kind, row.sender_id)
        rules.check_window(command, row.server_ts)
        payload = rules.recall_payload(command.message_id, row.seq, command.user_id)
        made = log.append("RECALL", command.user_id, payload, command.at_ms)
        row.recalled_by, row.payload = made.seq, RECALLED
        self._audit(log, command.at_ms, command.user_id, "RECALLED", made.seq, command.message_id)
        return base.Recalled(log.entry(made, made.epoch), False)

    def _advance_delivered(self, command: base.AdvanceDelivered) -> base.Advanced:
        log = self._world.joined(command.conversation_id, command.user_id)
        rules.check_up_to(command.up_to_seq, log.head_seq)
        device = self._device(log, command)
        if command.up_to_seq > device.delivered_seq:
            self._move(log, command, device, command.up_to_seq)
        return self._after_delivery(log, command, device)

    def _confirm(self, command: base.ConfirmMessage) -> base.Advanced:
        log, row = self._world.visible(command.message_id, command.user_id)
        rules.check_conversation(command, log.conversation_id)
        device = self._device(log, command)
        exact = [*device.exact, row.seq]
        if row.seq > device.delivered_seq and row.seq not in device.exact:
            intervals = log.members[command.user_id]
            _, above = rules.advanced(device.delivered_seq, exact, intervals)
            rules.check_exact_count(len(above))
            device.exact = exact
            device.updated_ms = command.at_ms
            if row.seq not in above:
                self._move(log, command, device, device.delivered_seq)
        return self._after_delivery(log, command, device)

    def _device(self, log: Conversation, command: AnyAdvance) -> Device:
        """The device's cursor; a device that comes by HTTP may be seen here for the first time."""
        self._world.register(command.user_id, command.device_id, command.at_ms)
        return log.devices[command.user_id][command.device_id]

    def _move(self, log: Conversation, command: AnyAdvance, device: Device, up_to_seq: int) -> None:
        intervals = log.members[command.user_id]
        device.delivered_seq, device.exact = rules.advanced(up_to_seq, device.exact, intervals)
        device.updated_ms = command.at_ms
        log.close_confirmed()

    def _after_delivery(self, log: Conversation, command: AnyAdvance, device: Device) -> base.Advanced:
        cursors = log.cursors[command.user_id]
        before = cursors.delivered_seq
        cursors.delivered_seq = max(before, device.delivered_seq)
        return self._advanced(log, command.user_id, command.device_id, before, cursors.delivered_seq)

    def _advance_read(self, command: base.AdvanceRead) -> base.Advanced:
        log = self._world.joined(command.conversation_id, command.user_id)
        rules.check_up_to(command.up_to_seq, log.head_seq)
        cursors = log.cursors[command.user_id]
        before = cursors.read_seq
        if command.up_to_seq > before:
            cursors.read_seq = rules.settled(command.up_to_seq, log.members[command.user_id])
            cursors.delivered_seq = max(cursors.delivered_seq, cursors.read_seq)
            cursors.read_ms = command.at_ms
        return self._advanced(log, command.user_id, None, before, cursors.read_seq)

    def _advanced(
        self, log: Conversation, user_id: str, device_id: str | None, before: int, after: int
    ) -> base.Advanced:
        cursors = log.cursors[user_id]
        return base.Advanced(
            log.conversation_id,
            user_id,
            device_id,
            cursors.delivered_seq,
            cursors.read_seq,
            after > before,
            log.authors(user_id, before, after),
            log.member_count,
        )

    def _create(self, command: base.CreateConversation) -> base.Created:
        users = rules.founders(command)
        pair = rules.pair_of(users) if command.type == "SINGLE" else None
        log = self._world.by_pair.get(pair) if pair is not None else None
        if log is None:
            log = self._world.by_id.get(command.conversation_id)
            if log is not None:
                rules.check_same_group(command, log.type, log.member_ids())
        if log is not None:
            return base.Created(log.describe(), False, None, ())
        log = self._world.create(command, pair)
        payload = rules.member_payload("CREATED", users)
        row = log.append("MEMBER", command.creator_id, payload, command.at_ms)
        self._world.join(log, users, row.seq, command.at_ms)
        self._audit(log, command.at_ms, command.creator_id, "CREATED", row.seq, command.conversation_id)
        return base.Created(log.describe(), True, log.entry(row, row.epoch), users)

    def _add(self, command: base.AddMembers) -> base.MembersChanged:
        log = self._world.joined(command.conversation_id, command.by)
        rules.check_may_add(log.type, log.creator_id, command.by)
        added = [user for user in sorted(set(command.user_ids)) if not log.is_member(user)]
        rules.check_member_count(log.member_count + len(added), command.members_max)
        if not added:
            return base.MembersChanged(log.describe(), (), (), None)
        payload = rules.member_payload("ADDED", added)
        row = log.append("MEMBER", command.by, payload, command.at_ms)
        self._world.join(log, added, row.seq, command.at_ms)
        for user in added:
            self._audit(log, command.at_ms, command.by, "ADDED", row.seq, user)
        return base.MembersChanged(log.describe(), tuple(added), (), log.entry(row, row.epoch))

    def _remove(self, command: base.RemoveMember) -> base.MembersChanged:
        log = self._world.joined(command.conversation_id, command.by)
        log.check_member(command.user_id)
        rules.check_may_remove(log.type, log.creator_id, command.by, command.user_id)
        op: rules.MemberOp = "LEFT" if command.by == command.user_id else "REMOVED"
        payload = rules.member_payload(op, [command.user_id])
        row = log.append("MEMBER", command.by, payload, command.at_ms)
        intervals = log.members[command.user_id]
        intervals[-1] = Interval(intervals[-1].join_seq, row.seq)
        log.close_confirmed()
        self._audit(log, command.at_ms, command.by, op, row.seq, command.user_id)
        return base.MembersChanged(log.describe(), (), (command.user_id,), log.entry(row, row.epoch))

    def _open_session(self, command: base.OpenSession) -> base.SessionOpened:
        return self._open(command, command.user_id, command.identity_expires_ms, command.scope)

    def _resume(self, command: base.ResumeSession) -> base.SessionOpened:
        token = self._world.tokens_by_hash.get(command.used_hash)
        if token is None or token.device_id != command.device_id or command.at_ms > token.expires_ms:
            raise rules.token_revoked()
        rules.check_login(token.identity_expires_ms, command.leeway_ms, command.at_ms)
        return self._open(command, token.user_id, token.identity_expires_ms, token.scope)

    def _open(
        self,
        command: base.OpenSession | base.ResumeSession,
        user_id: str,
        identity_expires_ms: int | None,
        scope: str,
    ) -> base.SessionOpened:
        self._world.register(user_id, command.device_id, command.at_ms)
        self._world.devices[user_id][command.device_id] = command.at_ms
        self._world.replace_token(
            command.resume_hash,
            Token(user_id, command.device_id, command.resume_expires_ms, identity_expires_ms, scope),
        )
        logs = sorted(self._world.of_user(user_id), key=lambda log: log.conversation_id)
        joined = tuple(log.joined() for log in logs)
        return base.SessionOpened(user_id, command.device_id, identity_expires_ms, scope, joined)

    def _renew_login(self, command: base.RenewLogin) -> base.Done:
        place = (command.user_id, command.device_id)
        devices = self._world.devices.get(command.user_id, {})
        if command.device_id in devices:
            devices[command.device_id] = command.at_ms
        token_hash = self._world.tokens.get(place)
        if token_hash is not None:
            expires_ms = self._world.tokens_by_hash[token_hash].expires_ms
            token = Token(*place, expires_ms, command.identity_expires_ms, command.scope)
            self._world.replace_token(token_hash, token)
        return base.Done()

    def _renew_epoch(self, command: base.RenewEpoch) -> base.Done:
        log = self._world.find(command.conversation_id)
        log.epoch = command.epoch
        self._audit(log, command.at_ms, "", "EPOCH_RENEWED", log.head_seq, command.epoch)
        return base.Done()

    def _close_outbox(self, command: base.CloseOutbox) -> base.Done:
        log = self._world.by_id.get(command.conversation_id)
        if log is not None:
            log.close_outbox(command.up_to_seq)
        return base.Done()

    def _audit(
        self, log: Conversation, at_ms: int, actor_id: str, action: AuditAction, seq: int, subject: str
    ) -> None:
        audit_id = len(self._world.audit) + 1
        row = base.AuditRow(audit_id, at_ms, log.conversation_id, actor_id, action, seq, subject)
        self._world.audit.append(row)
