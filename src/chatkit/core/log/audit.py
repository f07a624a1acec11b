"""The audit: what is written down of a privileged act, in the transaction of its effect, and how rows are chained.

A flow calls `note`; a new kind of act needs nothing but a new name in `AuditAction`. Each row holds a digest over all
that it says and over the row before it in its chain: none can be changed, taken out or put elsewhere unseen. There is a
chain for each conversation, so that acts in two of them never wait for each other, and one for the log, 0: what
concerns no conversation, and that each one was made, so that none vanishes with its chain. Stores call `chained`; a
check of a log calls `ChainCheck`. Why it is so: docs/design/0021-the-audit.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from ...errors import BadRequestError
from .state import Act, ConversationState, State

AuditAction = Literal[
    "CREATED",
    "ADDED",
    "REMOVED",
    "LEFT",
    "OWNER_CHANGED",
    "TITLE_CHANGED",
    "DESCRIPTION_CHANGED",
    "HISTORY_CHANGED",
    "ROLE_CHANGED",
    "SILENCED",
    "UNSILENCED",
    "MEMBER_BANNED",
    "MEMBER_UNBANNED",
    "RECALLED",
    "PINNED",
    "UNPINNED",
    "EPOCH_RENEWED",
    "RETENTION_CHANGED",
    "EXPIRED",
    "HELD_RELEASED",
    "HELD_REWRITTEN",
    "HELD_REFUSED",
    "REPORTS_RESOLVED",
    "REVOKED",
    "BANNED",
    "UNBANNED",
    "DISCONNECTED",
    "LOGINS_ENDED",
    "READ",
    "EXPORTED",
    "IMPORTED",
    "ERASURE_BEGAN",
    "ERASED",
    "CHAIN_STARTED",
]
"""What may be written down; the schema of no store repeats it."""

HOST: Final = ""
"""The host as an actor: it is no user."""

LOG: Final = 0
"""The chain of the log, and the conversation of what concerns none."""

DIGEST_BYTES: Final = 32
DETAIL_BYTES_MAX: Final = 4_096

_DOMAIN: Final = b"chatkit audit 1"


def note(
    state: State,
    conversation: ConversationState | None,
    at_ms: int,
    by: str | None,
    action: AuditAction,
    subject: str,
    **detail: str,
) -> None:
    """Write down a privileged act in the transaction of its effect; with the seq of the conversation's newest entry.

    Args:
        state: Of the batch.
        conversation: Where; None: nowhere in particular.
        at_ms: When.
        by: Who did it; None is the host.
        action: What was done.
        subject: Whom or what it changed: a user, a message, a title. Never a body or a token.
        detail: What else a reader must know, by name; empty values are left out.
    """
    key, seq = (LOG, 0) if conversation is None else (conversation.key, conversation.head_seq)
    state.audit.append(Act(at_ms, key, HOST if by is None else by, action, seq, subject, detail_text(detail)))


def detail_text(detail: Mapping[str, str]) -> str:
    """A detail as it is stored: a JSON object of texts, its names in order."""
    text = msgspec.json.encode({name: detail[name] for name in sorted(detail) if detail[name]})
    if len(text) > DETAIL_BYTES_MAX:
        raise BadRequestError(f"the detail of an act has more than {DETAIL_BYTES_MAX} bytes")
    return text.decode()


class Head(NamedTuple):
    """How far a chain has got: the number of its newest row, and that row's digest."""

    number: int
    digest: bytes


START: Final = Head(0, bytes(DIGEST_BYTES))
"""A chain without rows."""


class ChainedAct(NamedTuple):
    """A row of the audit, in the order of the table's columns; its number counts within its chain."""

    audit_id: int
    at_ms: int
    conversation_key: int
    actor_id: str
    action: str
    seq: int
    subject: str
    detail: str
    number: int
    digest: bytes

    @property
    def chain(self) -> int:
        """The chain that it is in."""
        return chain_of(self.conversation_key, self.action)


def chain_of(conversation_key: int, action: str) -> int:
    """The chain of an act: that of its conversation, or of the log; there it is, too, that a conversation was made."""
    return LOG if action == "CREATED" else conversation_key


def digest_of(previous: bytes, row: ChainedAct) -> bytes:
    """SHA-256 over the former digest and every column of a row but its own digest, each as text behind its length."""
    texts = (str(value).encode() for value in row[:-1])
    return hashlib.sha256(
        _DOMAIN + previous + b"".join(len(it).to_bytes(8, "big") + it for it in texts)
    ).digest()


def chained(acts: Iterable[Act], heads: dict[int, Head], newest_id: int) -> list[ChainedAct]:
    """Rows for these acts, in order.

    Args:
        acts: Of one batch.
        heads: Of the chains that `chains_of` names, where there are any. They move on; a conversation that
            is made gets one.
        newest_id: Number of the newest row in the store.
    """
    rows = []
    for audit_id, act in enumerate(acts, newest_id + 1):
        if act.action == "CREATED":
            heads[act.conversation_key] = START
        chain = chain_of(act.conversation_key, act.action)
        head = heads.get(chain, START)
        row = ChainedAct(audit_id, *act, head.number + 1, b"")
        row = row._replace(digest=digest_of(head.digest, row))
        heads[chain] = Head(row.number, row.digest)
        rows.append(row)
    return rows


def chains_of(acts: Iterable[Act]) -> set[int]:
    """The chains that these acts go into."""
    return {chain_of(act.conversation_key, act.action) for act in acts}


class RunningDigest:
    """One digest over many rows in order of their numbers, whichever chains they are in.

    Args:
        value: Where an earlier one had got to.
    """

    def __init__(self, value: bytes = START.digest) -> None:
        self.value = value

    def add(self, row: ChainedAct) -> None:
        """Take the next row in."""
        own = digest_of(row.digest or START.digest, row)
        self.value = hashlib.sha256(_DOMAIN + self.value + own).digest()


class UnchainedRows:
    """What is to be stated, as the first act in the log's chain, of the rows from before there were chains.

    Attributes:
        last: Number of the newest row that was taken in.
        count: How many were.
    """

    def __init__(self) -> None:
        self.last = self.count = 0
        self._newest_ms = 0
        self._digest = RunningDigest()

    def add(self, rows: Iterable[ChainedAct]) -> None:
        """Take the next rows in, in order."""
        for row in rows:
            self.last, self._newest_ms, self.count = row.audit_id, row.at_ms, self.count + 1
            self._digest.add(row)

    def act(self) -> Act | None:
        """What is stated; None if there are no such rows."""
        if not self.count:
            return None
        detail = {"rows": str(self.count), "digest": self._digest.value.hex()}
        return Act(self._newest_ms, LOG, HOST, "CHAIN_STARTED", 0, "", detail_text(detail))


class ChainFault(NamedTuple):
    """Something that is wrong with a chain."""

    chain: int
    words: str


class ChainCheck:
    """Checks every chain, page by page, in memory that does not grow.

    Attributes:
        chain: Where the next page is to begin.
        number: Of the newest row of that chain that was seen.
        rows: How many were checked.
        chains: How many were.
    """

    def __init__(self) -> None:
        self.chain, self._head = LOG, START
        self.rows = self.chains = 0

    @property
    def number(self) -> int:
        """Of the newest row of the chain that was seen."""
        return self._head.number

    def feed(
        self, rows: Iterable[ChainedAct], heads: Mapping[int, Head], ends_in: int | None
    ) -> Iterator[ChainFault]:
        """Check the next page (`storage.audit.ChainPage`); what is wrong with it."""
        by_chain: dict[int, list[ChainedAct]] = {}
        for row in rows:
            by_chain.setdefault(row.chain, []).append(row)
        for chain in sorted({self.chain, *by_chain, *heads}):
            if ends_in is not None and chain > ends_in:
                break
            if chain != self.chain:
                self.chain, self._head = chain, START
            for row in by_chain.get(chain, ()):
                yield from self._check(row)
            if chain != ends_in:
                yield from self._check_end(heads.get(chain))

    def _check(self, row: ChainedAct) -> Iterator[ChainFault]:
        self.rows += 1
        missing = row.number - self._head.number - 1
        if missing > 0:
            yield self._fault(f"{missing} rows are missing before number {row.number}")
        elif missing < 0:
            yield self._fault(f"number {row.number} is there twice")
        elif row.digest != digest_of(self._head.digest, row):
            yield self._fault(f"number {row.number}, audit row {row.audit_id}, is not as it was written")
        self._head = Head(row.number, row.digest)

    def _check_end(self, head: Head | None) -> Iterator[ChainFault]:
        self.chains += 1
        last = self._head.number
        if head is None:
            yield self._fault("its head is not there")
        elif head.number > last:
            yield self._fault(f"{head.number - last} rows are missing at its end, after number {last}")
        elif head != self._head:
            yield self._fault(f"its head is not that of its newest row, number {last}")

    def _fault(self, words: str) -> ChainFault:
        return ChainFault(self.chain, words)
