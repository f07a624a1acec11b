"""Whether a state that a power cut left holds everything that was acknowledged. The numbers S1 to S24 name invariants.

Two ways that share nothing: what the outcomes promised is looked for one by one, and the tables as a whole must be
those after one of the batches, no older one than the last acknowledged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from chatkit.drivers.sqlite import open_sqlite
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.ports import Ids
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.wire.payload import RECALLED

from ..dumps import StoreDump, dump_store
from .driver import Acknowledged, Tables, read_tables
from .workload import CONVERSATIONS, word_of

_FINDINGS_MAX: Final = 3  # of one kind and state


class Verdict(msgspec.Struct):
    """What was found in one state.

    Attributes:
        damaged: Why the store refused to open the file, or what the full check found in it; else empty.
        findings: What is wrong, each beginning with the invariant that it breaks.
        held: How many batches the file holds, the opening counted; None if no whole number.
    """

    damaged: str = ""
    findings: list[str] = msgspec.field(default_factory=list)
    held: int | None = None

    @property
    def lost(self) -> bool:
        """Whether something acknowledged is not there."""
        return any(it.startswith("S1:") for it in self.findings)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damaged and not self.findings


class Promises:
    """What outcomes promise, one by one.

    Args:
        batches: In order.
    """

    def __init__(self, batches: Sequence[Acknowledged]) -> None:
        self.entries: list[base.Entry] = []
        self.sends: list[tuple[base.Append, base.Entry]] = []
        self.recalled: set[str] = set()
        self.cursors: dict[tuple[str, str], tuple[int, int]] = {}
        self.audit: Counter[tuple[str, str, str]] = Counter()
        for batch in batches:
            for command, outcome in zip(batch.commands, batch.outcomes, strict=True):
                self._add(command, outcome)

    def kept(self, entry: base.Entry) -> base.Entry:
        """An entry as it must be read now."""
        return replace(entry, payload=RECALLED) if entry.message_id in self.recalled else entry

    def recalled_words(self) -> list[bytes]:
        """What recalled bodies were made of."""
        return [word_of(sent.payload) for sent, entry in self.sends if entry.message_id in self.recalled]

    def _add(self, command: base.Command, outcome: base.Outcome) -> None:
        match command, outcome:
            case base.Append(), base.Appended(entry):
                self.sends.append((command, entry))
                self.entries.append(entry)
            case base.Recall(message_id), base.Recalled(entry, False):
                self.recalled.add(message_id)
                self._add_entry(entry, "RECALLED", message_id)
            case _, base.Created(conversation, True, base.Entry() as entry):
                self._add_entry(entry, "CREATED", conversation.conversation_id)
            case _, base.MembersChanged(_, added, removed, base.Entry() as entry):
                op = "ADDED" if added else "LEFT" if removed == (entry.sender_id,) else "REMOVED"
                self._add_entry(entry, op, *added, *removed)
            case base.RenewEpoch(conversation_id, epoch), base.Done():
                self.audit[conversation_id, "EPOCH_RENEWED", epoch] += 1
            case _, base.Advanced(conversation_id, user_id, _, delivered_seq, read_seq):
                self.cursors[conversation_id, user_id] = (delivered_seq, read_seq)
            case _:
                pass  # sessions and the outbox are seen in the tables

    def _add_entry(self, entry: base.Entry, action: str, *subjects: str) -> None:
        self.entries.append(entry)
        self.audit.update((entry.conversation_id, action, subject) for subject in subjects)


async def examine(
    path: str, ids: Ids, secret: bytes, told: Sequence[Acknowledged], begun: Acknowledged | None
) -> Verdict:
    """Open a file with the plain store, read all of it, and hold it against what was acknowledged.

    Args:
        path: The file, as the power cut left it.
        ids: For a log that was not acknowledged yet and is made anew.
        secret: The log's secret, as it was told.
        told: Every batch acknowledged before the cut.
        begun: The batch that was perhaps under way, which is there as a whole or not at all; None if there was none.
    """
    verdict = Verdict()
    store = SqliteStore(path, ids=ids, threads=False)
    try:
        found = await store.migrate()
    except (ConfigurationError, UnavailableError) as error:
        verdict.damaged = str(error)
        return verdict
    verdict.damaged = "; ".join(it.words for it in full_report(path).findings[:_FINDINGS_MAX])
    try:
        if told:
            verdict.findings += [] if found == secret else ["S1: the log has another secret"]
            await _examine(store, path, verdict, told, begun)
    except Exception as error:  # whatever it is, a file that was found whole must not lead to it
        verdict.findings.append(f"F14: a damaged file was opened: {type(error).__name__}: {error}")
    finally:
        await store.aclose()
    return verdict


async def _examine(
    store: SqliteStore, path: str, verdict: Verdict, told: Sequence[Acknowledged], begun: Acknowledged | None
) -> None:
    tables = _tables(path)
    batches = [*told, *([] if begun is None else [begun])]
    verdict.held = _held(tables, batches, len(told))
    _judge_held(verdict, tables, told)
    promises = Promises(batches[: max(len(told), verdict.held or 0)])
    dump = await dump_store(store, CONVERSATIONS)
    for check in _CHECKS:
        verdict.findings += islice(check(promises, dump), _FINDINGS_MAX)
    verdict.findings += await _resend(store, promises)
    if begun is not None and verdict.held == len(told):
        verdict.findings += await _do_again(store, path, begun)
    await store.aclose()
    verdict.findings += _search(path, promises)


def _tables(path: str) -> Tables:
    connection = open_sqlite(path, read_only=True)
    try:
        return read_tables(connection)
    finally:
        connection.close()


def _held(tables: Tables, batches: Sequence[Acknowledged], told: int) -> int | None:
    """After how many batches the tables were what they are; as many as were told, if that is one answer of several."""
    matching = [count for count, batch in enumerate(batches, 1) if batch.tables == tables]
    return None if not matching else told if told in matching else matching[-1]


def _judge_held(verdict: Verdict, tables: Tables, told: Sequence[Acknowledged]) -> None:
    last = told[-1].tables
    if verdict.held is None:
        names = ", ".join(name for name in last if tables.get(name) != last[name])
        verdict.findings.append(
            f"S13: these are the tables after no batch; since the last told differ: {names}"
        )
    elif verdict.held < len(told):
        verdict.findings.append(f"S1: the last {len(told) - verdict.held} acknowledged batches are gone")


def _entries(promises: Promises, dump: StoreDump) -> Iterator[str]:
    """What is read names the conversation's epoch of now; an entry's own one is in its id."""
    held = {(log.conversation_id, it.seq): it for log in dump.logs.values() for it in log.entries}
    for entry in promises.entries:
        found = held.get((entry.conversation_id, entry.seq))
        if found is None or replace(found, epoch=entry.epoch) != promises.kept(entry):
            yield f"S1: {entry.message_id} is not there, or another"


def _unique(promises: Promises, dump: StoreDump) -> Iterator[str]:
    entries = [entry for log in dump.logs.values() for entry in log.entries]
    names = Counter(entry.message_id for entry in entries)
    names.update(
        f"{it.conversation_id} {it.sender_id} {it.client_msg_id}" for it in entries if it.client_msg_id
    )
    yield from (f"S4: {name} is there {times} times" for name, times in names.items() if times > 1)


def _dense(promises: Promises, dump: StoreDump) -> Iterator[str]:
    for log in dump.logs.values():
        if [entry.seq for entry in log.entries] != list(range(1, log.head_seq + 1)):
            yield f"S5: {log.conversation_id} is not 1 to {log.head_seq}"


def _cursors(promises: Promises, dump: StoreDump) -> Iterator[str]:
    for log in dump.logs.values():
        for it in log.members:
            delivered, read = promises.cursors.get((log.conversation_id, it.member.user_id), (0, 0))
            if it.delivered_seq < delivered or it.read_seq < read:
                yield f"S15: a cursor of {it.member.user_id} in {log.conversation_id} has fallen"


def _recalls(promises: Promises, dump: StoreDump) -> Iterator[str]:
    bodies = b"".join(entry.payload for log in dump.logs.values() for entry in log.entries)
    yield from (
        f"S20: {word!r} was recalled and is read" for word in promises.recalled_words() if word in bodies
    )


def _audit(promises: Promises, dump: StoreDump) -> Iterator[str]:
    found: Counter[tuple[str, str, str]] = Counter(
        (it.conversation_id, it.action, it.subject) for log in dump.logs.values() for it in log.audit
    )
    for change in promises.audit | found:
        if promises.audit[change] != found[change]:
            yield f"S24: {change} has {found[change]} audit rows for {promises.audit[change]} changes"


_CHECKS: Final = (_entries, _unique, _dense, _cursors, _recalls, _audit)


async def _resend(store: SqliteStore, promises: Promises) -> list[str]:
    """Every acknowledged message once more: the same answers, and nothing new."""
    expected = [base.Appended(promises.kept(entry), True) for _, entry in promises.sends]
    found = await store.commit([command for command, _ in promises.sends])
    wrong = sum(one != other for one, other in zip(found, expected, strict=True))
    return [f"S11: {wrong} keys are answered otherwise"] if wrong else []


async def _do_again(store: SqliteStore, path: str, begun: Acknowledged) -> list[str]:
    """The batch that is not there once more: everything goes on as if there had been no cut."""
    outcomes = await store.commit(begun.commands)
    same = [_shown(it) for it in outcomes] == [_shown(it) for it in begun.outcomes]
    return (
        []
        if same and _tables(path) == begun.tables
        else ["S2: the batch under way, done again, ends otherwise"]
    )


def _shown(outcome: base.Outcome) -> object:
    """An outcome so that it compares: a refusal by its code, a message whether or not it was sent before."""
    if isinstance(outcome, base.Refused):
        return outcome.error.code
    return outcome.entry if isinstance(outcome, base.Appended) else outcome


def _search(path: str, promises: Promises) -> list[str]:
    """Recalled words in the bytes of the closed file and of what lies beside it."""
    folder = Path(path).parent
    held = b"".join(file.read_bytes() for file in sorted(folder.iterdir()))
    return [
        f"S20: {word!r} was recalled and is in a file" for word in promises.recalled_words() if word in held
    ]
