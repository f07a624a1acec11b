"""The local store of a client that need not outlive its process. A new one catches up from the server's cursors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ...core.log.reads import UNREAD_MAX
from ...core.marks import mentioned_as, named_seq
from ...core.resend import Key, PendingSend
from ...core.sizes import ENTRY_BYTES
from ...core.timeline import tombstone
from ...errors import ConfigurationError
from ...types import NO_MESSAGES, Marks, Message
from ...wire.payload import RECALLED
from .base import Change, Progress, Record, payload_bytes

_decode_marks = msgspec.json.Decoder(Marks).decode

MESSAGES_MAX = 1000
BYTES_MAX = 32 * 1024 * 1024


class _Row(msgspec.Struct, frozen=True):
    """An entry; its payload as bytes, which an app that changes what it was given cannot reach."""

    message_id: str
    sender_id: str
    server_ts: int
    payload: bytes
    client_msg_id: str | None
    marks: bytes = b""


class _Typed(msgspec.Struct):
    type: Any = ""


_typed = msgspec.json.Decoder(_Typed).decode
_UNCOUNTED = NO_MESSAGES | {"RECALLED"}


class _Log:
    def __init__(self, change: Change) -> None:
        self.record = Record(change.conversation_id, change.type, change.epoch, change.prefix, change.left)
        self.floor = change.prefix if change.floor is None else change.floor
        self.progress = Progress(change.conversation_id, change.epoch, self.floor)
        self.renewed_above: int | None = None
        self.own: set[int] = set()
        self.messages: dict[int, _Row] = {}
        self.recalled: set[int] = set()
        self.named: dict[int, set[int]] = {}  # by seq, which EDIT and REACTION entries name it


class MemoryStore:
    """`LocalStore` in memory.

    Args:
        messages_max: Newest entries kept per conversation; older ones are fetched again when asked for.
        bytes_max: Of all entries together; beyond it those of the conversation that changed longest ago go, as far
            as they are in order.

    Attributes:
        size_bytes: What the entries take, as counted here.
    """

    def __init__(self, messages_max: int = MESSAGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.size_bytes = 0
        self._messages_max = messages_max
        self._owner: tuple[str, str] | None = None
        self._pending: dict[Key, PendingSend] = {}
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._reads: dict[str, int] = {}
        self._states: dict[str, bytes] = {}

    def owner(self) -> str:
        """The user's id; "" before the first login."""
        return "" if self._owner is None else self._owner[0]

    def bind(self, user_id: str, device_id: str) -> None:
        """Tie the store to its owner; another one is a ConfigurationError."""
        owner = (user_id, device_id)
        if self._owner not in (None, owner):
            raise ConfigurationError(
                "the local store belongs to another user or device; use one client for each"
            )
        self._owner = owner

    def pending(self) -> list[PendingSend]:
        """Unacknowledged messages, by order."""
        return sorted(self._pending.values(), key=lambda send: send.order)

    def add_pending(self, send: PendingSend) -> None:
        """Keep a message until it is resolved."""
        self._pending[send.key] = send

    def records(self) -> list[Record]:
        """Every conversation that is stored."""
        return [_record(log) for log in self._logs.values()]

    def save(self, changes: Sequence[Change], resolved: Sequence[Key] = ()) -> None:
        """Store all that one frame changed."""
        for change in changes:
            self._apply(change)
        for key in resolved:
            self._pending.pop(key, None)
        self._trim_bytes()

    def messages(self, conversation_id: str, before_seq: int, limit: int) -> list[Message]:
        """The newest stored entries below `before_seq`, ascending."""
        log = self._logs.get(conversation_id)
        if log is None or limit <= 0:
            return []
        seqs = sorted(seq for seq in log.messages if seq < before_seq)
        return [_message(log, seq) for seq in seqs[-limit:]]

    def message_ids(self, conversation_id: str, after_seq: int, up_to_seq: int) -> dict[int, str]:
        """The ids of the stored entries in (after_seq, up_to_seq], by seq."""
        log = self._logs.get(conversation_id)
        rows = log.messages if log is not None else {}
        return {seq: row.message_id for seq, row in rows.items() if after_seq < seq <= up_to_seq}

    def untaken(self, conversation_id: str, after_seq: int, up_to_seq: int, limit: int) -> list[Message]:
        """The oldest stored entries of (after_seq, up_to_seq], without this device's own sends."""
        log = self._logs.get(conversation_id)
        if log is None:
            return []
        seqs = sorted(seq for seq in log.messages if after_seq < seq <= up_to_seq and seq not in log.own)
        return [_message(log, seq) for seq in seqs[:limit]]

    def naming(self, conversation_id: str, first_seq: int, last_seq: int) -> list[Message]:
        """The stored EDIT and REACTION entries that name an entry of a range, ascending by seq."""
        log = self._logs.get(conversation_id)
        if log is None:
            return []
        found = {
            seq
            for target in log.named.keys() & set(range(first_seq, last_seq + 1))
            for seq in log.named[target] & log.messages.keys()
        }
        entries = (_message(log, seq) for seq in sorted(found))
        return [entry for entry in entries if named_seq(entry) is not None]  # the others were recalled

    def advance(self, progress: Sequence[Progress]) -> None:
        """Keep how far the app has taken each log."""
        for each in progress:
            log = self._logs.get(each.conversation_id)
            if log is not None and log.record.epoch == each.epoch:
                log.progress = replace(each, taken_seq=max(each.taken_seq, log.progress.taken_seq))
                log.renewed_above = each.renewed_above
                if each.state is not None:
                    self._states[each.conversation_id] = each.state

    def app_state(self, conversation_id: str) -> bytes:
        """What the app keeps of a conversation."""
        return self._states.get(conversation_id, b"")

    def unread(self, conversation_id: str, after_seq: int, user_id: str) -> int:
        """How many stored messages above a seq are of others and not recalled."""
        log = self._logs.get(conversation_id)
        rows = {} if log is None else log.messages
        count = sum(
            seq > after_seq and row.sender_id != user_id and _typed(row.payload).type not in _UNCOUNTED
            for seq, row in rows.items()
        )
        return min(count, UNREAD_MAX)

    def unread_mentions(self, conversation_id: str, after_seq: int) -> int:
        """How often the user is mentioned above a seq."""
        log = self._logs.get(conversation_id)
        if log is None or self._owner is None:
            return 0
        first: dict[tuple[int, str], int] = {}
        for seq in sorted(seq for seq, row in log.messages.items() if b'"mentions":' in row.payload):
            message = _message(log, seq)
            as_whom = mentioned_as(message, self._owner[0])
            if as_whom is not None:
                first.setdefault((named_seq(message) or seq, as_whom), seq)
        return min(sum(seq > after_seq for seq in first.values()), UNREAD_MAX)

    def floor(self, conversation_id: str) -> int:
        """Where the completely stored part starts."""
        log = self._logs.get(conversation_id)
        return log.floor if log is not None else 0

    def reads(self) -> dict[str, int]:
        """How far the user wants each conversation to count as read."""
        return dict(self._reads)

    def want_read(self, conversation_id: str, up_to_seq: int) -> None:
        """Keep how far the user has read; 0 forgets it."""
        self._reads[conversation_id] = up_to_seq
        if up_to_seq == 0:
            del self._reads[conversation_id]

    def close(self) -> None:
        """Nothing is held open."""

    def _apply(self, change: Change) -> None:
        log = self._logs.get(change.conversation_id)
        if log is None:
            log = self._logs[change.conversation_id] = _Log(change)
        self._logs.move_to_end(change.conversation_id)
        log.record = Record(
            change.conversation_id,
            change.type,
            change.epoch,
            change.prefix,
            change.left,
            title=change.title,
            activity_ms=change.activity_ms,
            muted_until_ms=change.muted_until_ms,
            read_seq=change.read_seq,
            notify=change.notify,
        )
        if change.forget_up_to:
            self._forget(log, [seq for seq in log.messages if seq <= change.forget_up_to])
        if change.forget_above is not None:
            self._forget_above(log, change.forget_above)
        if change.expired_up_to:
            self._expire(log, change.expired_up_to)
        log.own |= change.own_seqs
        if change.floor is not None:
            log.floor = change.floor
        for message in change.messages:
            self.size_bytes += _keep(log, message)
        for seq in change.recalled_seqs:
            self.size_bytes += _blank(log, seq)
        if change.floor is None:
            self._trim(log)

    def _trim(self, log: _Log) -> None:
        excess = len(log.messages) - self._messages_max
        if excess <= 0:
            return
        self._let_go(log, sorted(log.messages)[:excess])

    def _trim_bytes(self) -> None:
        """Let go of whole logs, the one that changed longest ago first; of the last one, of its older half."""
        for log in list(self._logs.values()):
            if self.size_bytes <= self._bytes_max:
                return
            seqs = sorted(log.messages)
            is_newest = log.record.conversation_id == next(reversed(self._logs))
            self._let_go(log, seqs[: len(seqs) // 2 + 1] if is_newest else seqs)

    def _let_go(self, log: _Log, seqs: list[int]) -> None:
        """Drop these entries, as far as they are in order; history fetches them again."""
        placed = [seq for seq in seqs if seq <= log.record.prefix]
        self._forget(log, placed)
        log.floor = max([log.floor, *placed])

    def _expire(self, log: _Log, up_to_seq: int) -> None:
        """Let go of what was deleted from the log, as far as the app has taken it."""
        waiting = [seq for seq in log.messages if seq > log.progress.taken_seq and seq not in log.own]
        last_seq = min(up_to_seq, log.record.prefix, min(waiting, default=up_to_seq + 1) - 1)
        self._forget(log, [seq for seq in log.messages if seq <= last_seq])
        log.floor = max(log.floor, last_seq)

    def _forget_above(self, log: _Log, seq: int) -> None:
        self._forget(log, [each for each in log.messages if each > seq])
        log.recalled = {each for each in log.recalled if each <= seq}
        log.floor = min(log.floor, seq)
        log.progress = replace(log.progress, taken_seq=min(log.progress.taken_seq, seq), tries=0)
        log.renewed_above = seq if log.renewed_above is None else min(log.renewed_above, seq)

    def _forget(self, log: _Log, seqs: list[int]) -> None:
        for seq in seqs:
            self.size_bytes -= _size_of(log.messages.pop(seq))
            log.own.discard(seq)
            log.named.pop(seq, None)


def _record(log: _Log) -> Record:
    held = tuple(_message(log, seq) for seq in sorted(log.messages) if seq > log.record.prefix)
    recalled = tuple(sorted(seq for seq in log.recalled if seq > log.record.prefix))
    return replace(
        log.record,
        held=held,
        recalled_seqs=recalled,
        taken_seq=log.progress.taken_seq,
        tries=log.progress.tries,
        renewed_above=log.renewed_above,
    )


def _size_of(row: _Row) -> int:
    return len(row.payload) + len(row.marks) + ENTRY_BYTES


def _keep(log: _Log, message: Message) -> int:
    """Returns by how many bytes the log grew."""
    if message.seq in log.recalled:
        log.recalled.discard(message.seq)
        message = tombstone(message)
    earlier = log.messages.get(message.seq)
    if earlier is not None and message.type != "RECALLED":
        return 0
    row = log.messages[message.seq] = _Row(
        message.message_id,
        message.sender_id,
        message.server_ts,
        payload_bytes(message),
        message.client_msg_id,
        b"" if message.marks is None else msgspec.json.encode(message.marks),
    )
    target = named_seq(message)
    if target is not None:
        log.named.setdefault(target, set()).add(message.seq)
    return _size_of(row) - (0 if earlier is None else _size_of(earlier))


def _message(log: _Log, seq: int) -> Message:
    row = log.messages[seq]
    return Message(
        log.record.conversation_id,
        seq,
        row.message_id,
        row.sender_id,
        row.server_ts,
        msgspec.json.decode(row.payload),
        row.client_msg_id,
        _decode_marks(row.marks) if row.marks else None,
    )


def _blank(log: _Log, seq: int) -> int:
    """Returns by how many bytes the log grew."""
    row = log.messages.get(seq)
    if row is not None:
        blank = log.messages[seq] = replace(row, payload=RECALLED, marks=b"")
        return _size_of(blank) - _size_of(row)
    if seq > log.record.prefix:
        log.recalled.add(seq)
    return 0
