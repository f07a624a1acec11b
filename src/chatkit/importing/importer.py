"""The second look at an export: its messages, appended to a log through the store's own commands.

Each batch is one transaction, and each message has a key made from the source's own id, or from what it says: so a
second run, or one that goes on where another was cut off, finds what is there already. Why it is so:
docs/design/0029-import.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

import anyio
import msgspec
from msgspec.structs import replace

from ..errors import ConfigurationError, ConflictError, RefusedError, UnavailableError
from ..ports import Ports
from ..storage.base import (
    AuditFilter,
    Command,
    CreateConversation,
    Created,
    Imported,
    ImportedEntry,
    ImportEntries,
    Outcome,
    RecordAct,
    Refused,
    Store,
)
from ..wire.events import PAYLOAD_BYTES_MAX
from ..wire.payload import canonical
from ._whole import whole
from .plan import Plan, PlannedConversation
from .records import FoundMessage, Record

ENTRIES_PER_BATCH: Final = 2_000
BYTES_PER_BATCH: Final = 2 * 1024 * 1024
REPEATS_REMEMBERED: Final = 200_000
"""Of messages without an id: two that are the same in time, author and words are told apart as long as no more than
so many others are between them."""

ACTS_PER_PAGE: Final = 1_000
"""Rows of the audit that are looked through at once."""

_TEXT_CHARS_MAX: Final = 10_000
"""A text that does not fit into one message becomes several of so many characters: six bytes each at most."""

_TRIES: Final = 20
_PAUSE_S: Final = 1.0
_EPOCH_BYTES: Final = 8


class ImportTerms(msgspec.Struct, frozen=True):
    """What a host decides.

    Attributes:
        format: The source's name, in the keys of messages.
        file: What the audit calls the export.
        unread: Whether imported messages count as unread. They wake nobody in either case.
        add_members: Whether who is in the export and not in a conversation that is there already is added to it.
        members_max: Most members of a conversation; those who wrote last are in it.
        read_as: How the files were read, by the option's name (`timezone`, `encoding`), as far as times and words
            depend on it. It is kept in the audit for each conversation, and a repeat that reads otherwise is refused.
    """

    format: str
    file: str
    unread: bool = False
    add_members: bool = False
    members_max: int = 1_000
    read_as: dict[str, str] = {}


class ImportTotals(msgspec.Struct):
    """What was done.

    Attributes:
        done: Messages of the export that were gone through.
        added: Entries that were appended.
        known: Messages that were there already.
        changed: Those of them that say something else in the export now; what is here stays.
        conversations_made: How many there were not before.
        unmatched: Conversations that were there, with none of the export's messages: was it imported with other ids?
        not_members: Who is in the export, but not in a conversation that was there: counted, and not added.
    """

    done: int = 0
    added: int = 0
    known: int = 0
    changed: int = 0
    conversations_made: int = 0
    unmatched: list[str] = []
    not_members: int = 0


class _Target(msgspec.Struct):
    """A conversation that is imported into."""

    planned: PlannedConversation
    conversation_id: str
    head_seq: int = -1
    made: bool = False
    known: int = 0
    done: int = 0
    waiting: list[ImportedEntry] = []


class Importer:
    """Appends the messages of one export.

    Args:
        store: Migrated. No other server may hold its SQLite file; on PostgreSQL servers may run.
        secret: What `Store.migrate` returned.
        plan: Of the same export.
        terms: What a host decides.
        ports: Time and ids.
    """

    def __init__(self, store: Store, secret: bytes, plan: Plan, terms: ImportTerms, ports: Ports) -> None:
        self._store, self._plan, self._terms, self._ports = store, plan, terms, ports
        self._keyed = hmac.new(secret, digestmod=hashlib.sha256)
        self._targets: dict[str, _Target] = {}
        self._waiting = self._waiting_bytes = 0
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self._noted: set[str] = set()
        self.totals = ImportTotals()

    async def run(self, records: Iterable[Record]) -> AsyncIterator[ImportTotals]:
        """Do it; yields after each batch how far it is. What was yielded is durable.

        Raises:
            ConfigurationError: A conversation of it was imported before, and read otherwise (`read_as`); nothing was
                written.
            ImportFileError: Of the format, which has changed since it was planned.
            UnavailableError: Storage refused, several times; a repeat goes on from there.
            RefusedError: The log does not take it, and a repeat will not help.
        """
        await self._check_read_as()
        counts = {"conversations": str(len(self._plan.made())), "messages": str(self._plan.messages)}
        subject = f"{self._terms.format} {self._terms.file}"[:256]
        await self._commit([RecordAct("IMPORTED", None, subject, counts, self._ports.clock.now_ms())])
        for record in records:
            if type(record) is FoundMessage:
                self._take(record)
                if self._waiting >= ENTRIES_PER_BATCH or self._waiting_bytes >= BYTES_PER_BATCH:
                    await self._flush()
                    yield self.totals
        await self._flush()
        self._sum_up()
        yield self.totals

    async def _check_read_as(self) -> None:
        """Refuse what would come in a second time, with other times or words and so under other keys."""
        wanted = AuditFilter(action="IMPORTED")
        ours = {it.conversation_id for it in self._plan.made()} if self._terms.read_as else set()
        after = 0
        while ours and (acts := await self._store.acts(wanted, after, ACTS_PER_PAGE)):
            after = acts[-1].audit_id
            for act in acts:
                if act.subject in ours and act.detail:
                    self._noted.add(act.subject)
                    self._compare(act.subject, act.detail)

    def _compare(self, conversation_id: str, before: Mapping[str, str]) -> None:
        for option, now in self._terms.read_as.items():
            if before.get(option, now) != now:
                raise ConfigurationError(
                    f"{conversation_id} was imported with --{option} {before[option]} before: with --{option} {now} its"
                    " messages would be other ones, and come in once more. Repeat it with"
                    f" --{option} {before[option]}; if that was wrong, import into a new log, or under another --prefix"
                )

    # --- from records to entries ---

    def _take(self, found: FoundMessage) -> None:
        target = self._targets.get(found.conversation)
        if target is None:
            planned = self._plan.conversations[found.conversation]
            target = self._targets[found.conversation] = _Target(planned, planned.conversation_id)
        author, key = self._plan.names.user(found.author), self._key(found)
        self.totals.done += 1
        target.done += 1
        for number, payload in enumerate(payloads_of(found.text)):
            mac = self._keyed.copy()
            mac.update(payload)
            part = f"{key}#{number}" if number else key
            entry = ImportedEntry("USER", author, int(found.at_ms), payload, part, mac.digest())
            target.waiting.append(entry)
            self._waiting += 1
            self._waiting_bytes += len(payload)

    def _key(self, found: FoundMessage) -> str:
        """What a repeat is known by."""
        if found.key and len(found.key) <= 90 and found.key.isprintable():
            return f"{self._terms.format}:{found.key}"
        words = (found.conversation, found.author, str(int(found.at_ms)), found.key or found.text)
        encoded = (it.encode("utf-8", "surrogatepass") for it in words)
        digest = hashlib.sha256(b"".join(len(it).to_bytes(8, "big") + it for it in encoded)).digest()[:16]
        times = 0 if found.key else self._times_before(digest)
        return f"{self._terms.format}:{digest.hex()}" + (f"-{times}" if times else "")

    def _times_before(self, digest: bytes) -> int:
        """How many messages of the same author, time and words came before."""
        times = self._seen.pop(digest, 0)
        self._seen[digest] = times + 1
        if len(self._seen) > REPEATS_REMEMBERED:
            self._seen.popitem(last=False)
        return times

    # --- from entries to the log ---

    async def _flush(self) -> None:
        """Append everything that waits. One transaction, but for what somebody else got in the way of."""
        targets = [it for it in self._targets.values() if it.waiting]
        self._waiting = self._waiting_bytes = 0
        new = [it for it in targets if it.head_seq < 0]
        await self._find(new)
        for target in new:
            if target.head_seq:
                await self._compare_members(target)
        notes = self._notes(new)
        outcomes = await self._commit([*notes, *map(self._command, targets)])
        for target, outcome in zip(targets, outcomes[len(notes) :], strict=True):
            await self._resolve(target, outcome)

    def _notes(self, targets: list[_Target]) -> list[Command]:
        """How these were read, once for each; in the transaction of their first entries."""
        if not self._terms.read_as:
            return []
        now_ms, names = self._ports.clock.now_ms(), [it.planned.conversation_id for it in targets]
        return [
            RecordAct("IMPORTED", None, it, self._terms.read_as, now_ms)
            for it in names
            if it not in self._noted
        ]

    async def _find(self, targets: list[_Target]) -> None:
        """Where each conversation stands; 0: there is none."""
        heads = await self._store.head_seqs([it.conversation_id for it in targets]) if targets else {}
        for target in targets:
            _, target.head_seq = heads.get(target.conversation_id, ("", 0))

    def _command(self, target: _Target) -> ImportEntries:
        entries, new = tuple(target.waiting), None if target.head_seq else self._new(target.planned)
        now_ms = self._ports.clock.now_ms()
        return ImportEntries(target.conversation_id, entries, None, now_ms, new, self._terms.unread)

    def _new(self, planned: PlannedConversation) -> CreateConversation:
        members = planned.members(self._terms.members_max)
        epoch = self._ports.ids.token_bytes(_EPOCH_BYTES).hex()
        title = planned.title if planned.type == "GROUP" else ""
        return CreateConversation(
            planned.conversation_id,
            planned.type,
            members[0],
            members,
            title,
            epoch,
            max(self._terms.members_max, 2),
            planned.first_ms,
            by_host=True,
            history=planned.history,
        )

    async def _resolve(self, target: _Target, outcome: Outcome) -> None:
        """Take the outcome, or try again where somebody else was faster."""
        for _ in range(_TRIES):
            if not isinstance(outcome, Refused):
                break
            if not isinstance(outcome.error, ConflictError | UnavailableError):
                raise outcome.error
            if outcome.error.retryable:
                await anyio.sleep(outcome.error.retry_after_s or _PAUSE_S)
            await self._look_again(target)
            (outcome,) = await self._commit([self._command(target)])
        if isinstance(outcome, Refused):
            raise outcome.error
        assert isinstance(outcome, Imported), "it was asked for entries"
        added = outcome.added
        if not target.head_seq:
            target.made = True
            self.totals.conversations_made += 1
        target.head_seq, target.waiting = outcome.head_seq, []
        target.known += outcome.known
        self.totals.added += added
        self.totals.known += outcome.known
        self.totals.changed += outcome.changed

    async def _look_again(self, target: _Target) -> None:
        """Where the conversation stands now; of two users, which one they have."""
        await self._find([target])
        if not target.head_seq and target.planned.type == "SINGLE":
            (outcome,) = await self._commit([replace(self._new(target.planned), by_host=True)])
            if isinstance(outcome, Created):
                target.conversation_id = outcome.conversation.conversation_id
                target.head_seq = outcome.conversation.head_seq

    async def _compare_members(self, target: _Target) -> None:
        """Who is in the export, but not in the conversation: whoever was removed here would come back.

        Raises:
            ConflictError: The conversation is one of others.
        """
        planned = target.planned
        wanted = planned.members(self._terms.members_max)
        missing = [it for it in wanted if not await self._is_member(target.conversation_id, it)]
        is_of_others = bool(missing) if planned.type == "SINGLE" else len(missing) == len(wanted)
        if is_of_others and not (self._terms.add_members and planned.type == "GROUP"):
            raise ConflictError(
                f"{target.conversation_id} is there and has other members: was it imported with other --users before?"
                " Repeat it with the same --users as then (without, if there were none), or import into a new log"
            )
        if missing and self._terms.add_members:
            now_ms = self._ports.clock.now_ms()
            joins = ImportedEntry("MEMBER", missing[0], now_ms, op="ADDED", user_ids=tuple(missing))
            target.waiting.insert(0, joins)
        elif planned.listed is not None:
            self.totals.not_members += len(missing)

    async def _is_member(self, conversation_id: str, user_id: str) -> bool:
        try:
            await self._store.conversation(conversation_id, user_id)
        except RefusedError as error:
            if error.retryable:
                raise
            return False
        return True

    def _sum_up(self) -> None:
        for target in self._targets.values():
            if not target.made and not target.known:
                self.totals.unmatched.append(target.conversation_id)

    async def _commit(self, commands: list[Command]) -> list[Outcome]:
        """One transaction; tried again where storage refuses for now."""
        for _ in range(_TRIES):
            try:
                return await self._store.commit(commands)
            except UnavailableError as error:
                await anyio.sleep(error.retry_after_s or _PAUSE_S)
        return await self._store.commit(commands)


def payloads_of(text: str) -> list[bytes]:
    """A text as canonical payloads: one, or several where it does not fit into one.

    NUL and halves of surrogate pairs, which nothing could send on, become U+FFFD.
    """
    text = whole(text)
    if len(text) <= _TEXT_CHARS_MAX:
        return [canonical({"type": "TEXT", "text": text})]
    single = canonical_if_short(text)
    if single is not None:
        return [single]
    pieces = (text[at : at + _TEXT_CHARS_MAX] for at in range(0, len(text), _TEXT_CHARS_MAX))
    return [canonical({"type": "TEXT", "text": it}) for it in pieces]


def canonical_if_short(text: str) -> bytes | None:
    """A text as one payload; None if it is too long for one."""
    if len(text) > PAYLOAD_BYTES_MAX:
        return None
    encoded = msgspec.json.encode({"text": text, "type": "TEXT"})
    return encoded if len(encoded) <= PAYLOAD_BYTES_MAX else None
