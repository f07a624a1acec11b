"""JSON lines of `log_export` into a log: the same entries, in the same order, with their times and authors.

What is there already must be the beginning of what the file holds: then the rest is appended, so that a repeat adds
nothing and one that was cut off is gone on with. Each batch is one transaction, and the last one of a conversation also
makes its members what they were: where all entries are, the roles are, and what was changed since stays.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import msgspec

from ..core.policy import DEFAULT_POLICY
from ..errors import ConflictError, ImportFileError
from ..ports import Ports
from ..storage.base import (
    Command,
    CreateConversation,
    Imported,
    ImportedEntry,
    ImportEntries,
    Outcome,
    RecordAct,
    Refused,
    SetRole,
    Store,
    UpdateConversation,
)
from ..storage.base import Entry as StoredEntry
from ..wire.payload import RECALLED, canonical
from .log_lines import Checked, ConversationLine, Entry, MemberLine

_BATCH: Final = 1_000
_MEMBERS_MAX: Final = 1_000_000


class LogTotals(msgspec.Struct):
    """What was done.

    Attributes:
        conversations: How many were gone through.
        done: Entries that were gone through.
        added: Those that were appended.
        known: Those that were there already.
    """

    conversations: int = 0
    done: int = 0
    added: int = 0
    known: int = 0


class LogImporter:
    """Appends what one file holds.

    Args:
        store: Migrated. No other server may hold its SQLite file; on PostgreSQL servers may run.
        secret: What `Store.migrate` returned.
        file: What the audit calls the file.
        ports: Time and ids.
    """

    def __init__(self, store: Store, secret: bytes, file: str, ports: Ports) -> None:
        self._store, self._file, self._ports = store, file, ports
        self._keyed = hmac.new(secret, digestmod=hashlib.sha256)
        self._line: ConversationLine | None = None
        self._head = 0
        self._waiting: list[Entry] = []
        self._known: list[StoredEntry] = []
        self._members: list[MemberLine] = []
        self.totals = LogTotals()

    async def run(self, checked: Iterable[Checked]) -> AsyncIterator[LogTotals]:
        """Do it; yields after each batch how far it is. What was yielded is durable.

        Raises:
            ImportFileError: Of the file; or a conversation that is there holds something else.
            UnavailableError: Storage refused; a repeat goes on from there.
        """
        await self._commit(RecordAct("IMPORTED", None, f"chatkit {self._file}"[:256], {}, self._now_ms()))
        for it in checked:
            if isinstance(it, ConversationLine):
                await self._end()
                await self._begin(it)
                yield self.totals
            elif isinstance(it, MemberLine):
                self._members.append(it)
            else:
                await self._take(it)
                if not self.totals.done % _BATCH:
                    yield self.totals
        await self._end()
        yield self.totals

    async def _begin(self, line: ConversationLine) -> None:
        self._line, self._members = line, []
        heads = await self._store.head_seqs([line.conversation_id])
        self._head = heads.get(line.conversation_id, ("", 0))[1]
        self.totals.conversations += 1

    async def _take(self, entry: Entry) -> None:
        assert self._line is not None, "a conversation comes first"
        self.totals.done += 1
        if entry.seq <= self._head:
            await self._compare(self._line.conversation_id, entry)
            return
        first_seq = self._waiting[0].seq if self._waiting else entry.seq
        if len(self._waiting) >= _BATCH or entry.names_seq >= first_seq:
            await self._flush()
        self._waiting.append(entry)

    async def _compare(self, conversation_id: str, entry: Entry) -> None:
        """What is there must be what the file holds, but that it may have been recalled since."""
        if not self._known:
            self._known = await self._store.entries(conversation_id, entry.seq - 1, _BATCH)
        stored = self._known.pop(0) if self._known else None
        if stored is None or not _is_same(entry, stored):
            raise ImportFileError(
                f"{entry.where}: seq {entry.seq} of {conversation_id} is something else there"
            )
        self.totals.known += 1

    async def _flush(self, *roles: Command) -> None:
        """Append what waits, and set roles in the same transaction; neither, if nothing waits."""
        if not self._waiting:
            return
        assert self._line is not None, "a conversation comes first"
        first, entries = self._waiting[0], self._waiting
        new = self._new(self._line, first) if first.seq == 1 else None
        rows = tuple([await self._row(it) for it in (entries[1:] if new else entries)])
        head, name = first.seq - 1, self._line.conversation_id
        outcome, *_ = await self._commit(ImportEntries(name, rows, head, self._now_ms(), new), *roles)
        assert isinstance(outcome, Imported), "it was asked for entries"
        if outcome.head_seq != entries[-1].seq:
            raise ImportFileError(
                f"{entries[-1].where}: a key is in {name} twice, so that its log is another one now"
            )
        self.totals.added += len(entries)
        self._waiting = []

    def _new(self, line: ConversationLine, first: Entry) -> CreateConversation:
        epoch = self._ports.ids.token_bytes(8).hex()
        sender = first.sender_id if first.sender_id in first.user_ids else first.user_ids[0]
        return CreateConversation(
            line.conversation_id,
            line.type,
            sender,
            first.user_ids,
            line.title if line.type == "GROUP" else "",
            epoch,
            _MEMBERS_MAX,
            first.ts,
            by_host=True,
            history=line.history,
        )

    async def _row(self, entry: Entry) -> ImportedEntry:
        if entry.kind == "MEMBER":
            assert entry.op != "CREATED", "that is the first one"
            return ImportedEntry("MEMBER", entry.sender_id, entry.ts, op=entry.op, user_ids=entry.user_ids)
        if entry.kind == "RECALL":
            return ImportedEntry("RECALL", entry.sender_id, entry.ts, names_seq=entry.names_seq, by=entry.by)
        payload, reaction, removed = await self._renamed(entry)
        mac = self._keyed.copy()
        mac.update(payload)
        return ImportedEntry(
            entry.kind,
            entry.sender_id,
            entry.ts,
            payload,
            entry.client_msg_id,
            mac.digest(),
            names_seq=entry.names_seq,
            reaction=reaction,
            removed=removed,
        )

    async def _renamed(self, entry: Entry) -> tuple[bytes, str, bool]:
        """A payload with the id that the message it names has in this log; and what a REACTION or PINNED says."""
        if not entry.names_seq or entry.payload == RECALLED:
            return entry.payload, "", False
        assert self._line is not None, "a conversation comes first"
        found = await self._store.entries(self._line.conversation_id, entry.names_seq - 1, 1)
        if not found or found[0].seq != entry.names_seq:
            raise ImportFileError(f"{entry.where}: seq {entry.names_seq}, which it names, has expired there")
        payload = msgspec.json.decode(entry.payload)
        named = payload if entry.kind != "USER" else payload["replyTo"]
        named["messageId"] = found[0].message_id
        removed = payload.get("removed") is True or payload.get("pinned") is False
        return canonical(payload), payload.get("reaction", ""), removed

    async def _end(self) -> None:
        """Append the rest of a conversation, and make its members what they were."""
        if self._line is not None:
            await self._flush(*self._roles(self._line))
        self._known = []

    def _roles(self, line: ConversationLine) -> list[Command]:
        """What makes members of a GROUP what they were, its owner first."""
        if line.type == "SINGLE":
            return []
        name, now_ms = line.conversation_id, self._now_ms()
        owners: list[Command] = [
            UpdateConversation(name, None, None, it.user_id, now_ms)
            for it in self._members
            if it.role == "OWNER"
        ]
        return owners + [
            SetRole(name, None, it.user_id, it.role, now_ms, DEFAULT_POLICY)
            for it in self._members
            if it.role in {"ADMIN", "GUEST"}
        ]

    async def _commit(self, *commands: Command) -> list[Outcome]:
        """Apply them in one transaction. Raises what refused the first of those that were refused."""
        outcomes = await self._store.commit(commands)
        for it in outcomes:
            if not isinstance(it, Refused):
                continue
            if isinstance(it.error, ConflictError) and self._line is not None:
                name = self._line.conversation_id
                raise ImportFileError(f"{name}: {it.error}; nothing more of it was imported")
            raise it.error
        return outcomes

    def _now_ms(self) -> int:
        return self._ports.clock.now_ms()


def _is_same(entry: Entry, stored: StoredEntry) -> bool:
    """Whether it is the same entry, but for the ids that a log makes itself."""
    if (entry.seq, entry.sender_id, entry.ts) != (stored.seq, stored.sender_id, stored.server_ts):
        return False
    if (entry.client_msg_id or None) != stored.client_msg_id:
        return False
    if stored.payload in (entry.payload, RECALLED, b"") and entry.kind not in {"MEMBER", "RECALL"}:
        return True
    found = msgspec.json.decode(stored.payload)
    if entry.kind == "RECALL":
        return (found.get("type"), found.get("seq")) == ("RECALL", entry.names_seq)
    if entry.kind == "MEMBER":
        says = (found.get("type"), found.get("op"), sorted(found.get("userIds", ())))
        return bool(says == ("MEMBER", entry.op, sorted(entry.user_ids)))
    return bool(entry.names_seq) and _without_ids(found) == _without_ids(msgspec.json.decode(entry.payload))


def _without_ids(payload: dict[str, Any]) -> dict[str, Any]:
    named = payload.get("replyTo")
    if isinstance(named, dict):
        payload["replyTo"] = {name: value for name, value in named.items() if name != "messageId"}
    payload.pop("messageId", None)
    return payload
