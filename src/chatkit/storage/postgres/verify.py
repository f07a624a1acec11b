"""The full check of a log on PostgreSQL, while it is served: `chatkit verify --storage postgresql://...`.

It reads all of a log part by part and changes nothing. What is checked: that what the migrations make is there and
works (`verify_schema`); the rules of `verify_rules`, for all stores the same, and of the tables that only PostgreSQL
has; the counters; and every body. Each part (some hundred conversations, or messages) is read in one transaction of its
own, which sees one state of the database: what is written meanwhile is no false alarm, no snapshot lasts so long that
it would hold up VACUUM, and memory is bounded. So a log that changes is not judged as a whole of one moment: each part
is, at the moment when it was read.

What it does not see: whether pages and indexes agree (`pg_amcheck` does), and a CHECK that somebody removed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache, partial
from typing import Final, NamedTuple, TypeVar

from ...core.log.audit import ChainedAct
from ...drivers.postgres import READ, Connection, DamagedError, Database, DatabaseError, Deadlines
from ...drivers.postgres_migrations import check_current
from ...errors import ConfigurationError
from ..audit import ChainPage
from ..verify_audit import ROWS_PER_READ, AuditCheck
from ..verify_entries import NOT_CARRIED_OUT, entry_fault, recalled_seq
from ..verify_report import Progress, Report
from ..verify_rules import RULES, Rule
from . import audit
from .verify_schema import check_schema

_Result = TypeVar("_Result")

_DEADLINES: Final = Deadlines(statement_s=120.0, transaction_s=300.0)
"""Of one part: one conversation of ten million entries takes some seconds."""

_CONVERSATIONS_PER_PART: Final = 500
_ENTRIES_PER_PART: Final = 50_000
"""What the conversations of one part have together, unless it is a single one."""

_MESSAGES_PER_PART: Final = 500  # bodies of 64 KiB at most
_TOKENS_PER_PART: Final = 5_000
_BROKEN_PER_READ: Final = 1_000
_FINER: Final = 8
_UNREADABLE_MAX: Final = 1_000  # parts that cannot be read before the rest is left
_NO_RIGHT: Final = "42501"
_FIRST_KEY: Final = -(2**63)
_LAST_KEY: Final = 2**63 - 1

_BY_INDEX: Final = (
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;"
    " SET LOCAL jit = off"
)
"""A plan that begins at all rows of a table would do so for each part."""

_NAMES: Final = (
    Rule(
        "entries",
        "SELECT t.conversation_key, t.conversation_id FROM conversation AS t "
        "WHERE t.conversation_key > ?1 AND t.conversation_key <= ?2 "
        "AND NOT EXISTS (SELECT 1 FROM conversation_name AS n "
        "WHERE n.conversation_id = t.conversation_id AND n.conversation_key = t.conversation_key) LIMIT ?3",
        "{name} is not found by its name",
    ),
    Rule(
        "entries",
        "SELECT t.conversation_key, t.single_pair FROM conversation AS t "
        "WHERE t.conversation_key > ?1 AND t.conversation_key <= ?2 AND t.single_pair IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM conversation_pair AS p "
        "WHERE p.single_pair = t.single_pair AND p.conversation_key = t.conversation_key) LIMIT ?3",
        "{name} is not found by its pair {0}",
    ),
)
"""A name that leads to another conversation, or to none, is found at that one, for each has one name of each kind."""

_SELECT_SIZES = "SELECT count(*), coalesce(sum(head_seq), 0)::bigint FROM conversation"
_SELECT_KEYS = (
    "SELECT conversation_key, head_seq FROM conversation WHERE conversation_key > $1 ORDER BY 1 LIMIT $2"
)
_SELECT_NAME = "SELECT conversation_id FROM conversation WHERE conversation_key = $1"
_SELECT_SECRET = "SELECT 1 FROM setting WHERE name = 'secret' AND length(value) > 0"  # noqa: S105
_SELECT_NAMES_LEFT = """
SELECT (SELECT count(*) FROM conversation), (SELECT count(*) FROM conversation_name),
    (SELECT count(*) FROM conversation WHERE single_pair IS NOT NULL), (SELECT count(*) FROM conversation_pair)
"""
_SELECT_NUMBERS = """
SELECT 'conversations', coalesce(max(conversation_key), 0), (SELECT last_value FROM conversation_key)
FROM conversation
UNION ALL
SELECT 'audit rows', coalesce(max(audit_id), 0), (SELECT last_value FROM audit_id) FROM audit
UNION ALL
SELECT 'revocations', coalesce(max(position), 0), (SELECT last_value FROM revocation_position) FROM revocation
"""
"""Numbers that are there are read as of one moment, and a sequence is never behind one that was committed."""

_SELECT_WRITTEN = """
SELECT
    (SELECT coalesce(sum(added), 0)::bigint FROM log_position WHERE slot >= 0),
    (SELECT coalesce(sum(head_seq), 0)::bigint FROM conversation), (SELECT count(*) FROM audit)
"""
_SELECT_TOKENS = """
SELECT t.user_id, t.device_id, EXISTS (
    SELECT 1 FROM device AS d WHERE d.user_id = t.user_id AND d.device_id = t.device_id)
FROM resume_token AS t WHERE (t.user_id, t.device_id) > ($1, $2) ORDER BY t.user_id, t.device_id LIMIT $3
"""
_SELECT_MESSAGES = """
SELECT e.conversation_key, e.seq, e.kind, e.payload, r.recalled_by_seq, coalesce(e.seq <= c.cold_seq, false) FROM (
    SELECT * FROM message WHERE (conversation_key, seq) > ($1, $2) ORDER BY conversation_key, seq LIMIT $3
) AS e
LEFT JOIN conversation AS c ON c.conversation_key = e.conversation_key
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
ORDER BY e.conversation_key, e.seq
"""
_SELECT_NEXT_PLACE = """
SELECT c.conversation_key, CASE WHEN c.conversation_key = $1 THEN $2::bigint ELSE 0 END FROM conversation AS c
WHERE c.conversation_key > $1 OR (c.conversation_key = $1 AND c.head_seq > $2::bigint)
ORDER BY c.conversation_key LIMIT 1
"""
_SELECT_RECALLS = """
SELECT k.conversation_key, k.by_seq
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (conversation_key, seq, by_seq)
WHERE NOT EXISTS (SELECT 1 FROM recall AS r WHERE r.conversation_key = k.conversation_key AND r.seq = k.seq
    AND r.recalled_by_seq = k.by_seq)
"""


async def verify_database(address: str, report: Report) -> AsyncIterator[Progress]:
    """Check all of a log. It may be served meanwhile: nobody is blocked, and nothing is written.

    Args:
        address: As `PostgresStore` takes it. `target_session_attrs=any` in it lets a standby be checked.
        report: What is found goes in there.

    Raises:
        ConfigurationError: The address is wrong, there is no log of this version of chatkit, or the user may not
            read it.
        UnavailableError: The server cannot do it now, or a part took too long; a retry is safe.
    """
    database = Database(address, connections=1, deadlines=_DEADLINES)
    await database.open()
    try:
        async for step in _Check(database, report).run():
            yield step
    except DatabaseError as error:
        if error.sqlstate != _NO_RIGHT:
            raise
        raise ConfigurationError(f"the user may not read all of chatkit's tables: {error}") from None
    finally:
        await database.aclose()


class _Found(NamedTuple):
    """A row that breaks a rule, and the name of its conversation."""

    rule: Rule
    name: str
    values: Sequence[object]


class _Check:
    """One check."""

    def __init__(self, database: Database, report: Report) -> None:
        self._database = database
        self._report = report
        self._unreadable = 0

    async def run(self) -> AsyncIterator[Progress]:
        yield Progress("structure", 0, 1)
        async with self._database.transaction(READ) as connection:
            await check_current(connection, __package__)
            if not await check_schema(connection, self._report):
                return
            ((conversations, messages),) = await connection.fetch(_SELECT_SIZES)
        for what, check in (("counters", _check_counters), ("positions", _check_position)):
            await self._part(what, partial(check, self._report), all_rows=True)
        async for step in self._check_tokens():
            yield step
        async for step in self._check_conversations(conversations):
            yield step
        async for step in self._check_audit():
            yield step
        async for step in self._check_messages(messages):
            yield step

    async def _part(
        self,
        what: str,
        read: Callable[[Connection], Awaitable[_Result]],
        *,
        all_rows: bool = False,
        is_told: bool = True,
    ) -> _Result | None:
        """What is read of one state of the database; None where it cannot be read, which is a finding if it is told."""
        try:
            async with self._database.transaction(READ) as connection:
                if not all_rows:
                    await connection.execute(_BY_INDEX)
                return await read(connection)
        except DamagedError as error:
            if is_told:
                self._unreadable += 1
                self._report.add("unreadable", f"{what} cannot be read: {error}")
            return None

    async def _check_tokens(self) -> AsyncIterator[Progress]:
        after: tuple[str, str] | None = ("", "")
        while after is not None:
            yield Progress("tokens", 0, 1)
            after = await self._part("resume tokens", partial(_check_tokens, self._report, after))

    async def _check_conversations(self, total: int) -> AsyncIterator[Progress]:
        """Range by range; the last range has no end, for rows whose conversation is not there."""
        after = _FIRST_KEY
        while after < _LAST_KEY:
            yield Progress("conversations", min(self._report.conversations, total), total)
            keys = await self._part("conversations", partial(_keys_after, after))
            up_to = keys[-1] if keys else _LAST_KEY
            await self._check_rules(after, up_to)
            self._report.conversations += len(keys or ())
            after = up_to

    async def _check_rules(self, after: int, up_to: int) -> None:
        """All rules on one state; where something cannot be read, each on its own."""
        rules = (*RULES, *_NAMES)
        found = await self._part("conversations", partial(_broken, rules, after, up_to), is_told=False)
        if found is None:
            alone = [
                await self._part(f"what the check '{it.check}' needs", partial(_broken, (it,), after, up_to))
                for it in rules
            ]
            found = [it for part in alone for it in part or ()]
        for rule, name, values in found:
            self._report.add(rule.check, rule.words.format(*values, name=name))

    async def _check_audit(self) -> AsyncIterator[Progress]:
        """What is there from before the chains, and every chain."""
        check = AuditCheck(self._report, "the conversation with number {}".format)
        total = await self._part("the audit", partial(_last_audit_id)) or 0
        while rows := await self._part("the audit", partial(_unchained_after, check.unchained.last)):
            check.unchained.add(rows)
        more = True
        while more:
            yield Progress("audit", min(check.rows, total), total)
            page = await self._part("the audit", partial(_chains_after, check.chain, check.number))
            more = page is not None and check.feed(page)

    async def _check_messages(self, total: int) -> AsyncIterator[Progress]:
        """Where a part cannot be read it is tried in smaller ones, down to the single messages that cannot be."""
        place: tuple[int, int] | None = (_FIRST_KEY, 0)
        limit = _MESSAGES_PER_PART
        while place is not None and self._unreadable < _UNREADABLE_MAX:
            yield Progress("messages", min(self._report.messages, total), total)
            what = "the message of the conversation with number {} after seq {}".format(*place)
            read = partial(_check_messages, self._report, place, limit)
            places = await self._part(what, read, is_told=limit == 1)
            if places is not None:
                self._report.messages += len(places)
                place, limit = places[-1] if places else None, min(limit * _FINER, _MESSAGES_PER_PART)
            elif limit > 1:
                limit = max(1, limit // _FINER)
            else:
                place = await self._part("conversations", partial(_place_after, place))
        yield Progress("messages", total, total)


async def _last_audit_id(connection: Connection) -> int:
    ((last,),) = await connection.fetch(audit.SELECT_END)
    return int(last)


async def _unchained_after(last: int, connection: Connection) -> list[ChainedAct]:
    return await audit.unchained_rows(connection, last, ROWS_PER_READ)


async def _chains_after(chain: int, number: int, connection: Connection) -> ChainPage:
    return await audit.audit_chains(connection, chain, number, ROWS_PER_READ)


async def _check_counters(report: Report, connection: Connection) -> None:
    if not await connection.fetch(_SELECT_SECRET):
        report.add("secret", "the log's secret is not there")
    for what, highest, given in await connection.fetch(_SELECT_NUMBERS):
        if highest > given:
            report.add("entries", f"{what} are numbered up to {highest}, but only {given} numbers were given")
    ((conversations, names, singles, pairs),) = await connection.fetch(_SELECT_NAMES_LEFT)
    for what, count, wanted in (("names", names, conversations), ("pairs", pairs, singles)):
        if count != wanted:
            report.add("entries", f"{wanted} conversations have {what}, and {count} {what} lead to one")


async def _check_position(report: Report, connection: Connection) -> None:
    """Every entry and audit row was counted when it was written, in a table of its own."""
    ((written, entries, audit_rows),) = await connection.fetch(_SELECT_WRITTEN)
    if written != entries + audit_rows:
        report.add(
            "audit",
            f"{written} entries and audit rows were written; there are {entries} entries and {audit_rows} audit rows",
        )


async def _check_tokens(
    report: Report, after: tuple[str, str], connection: Connection
) -> tuple[str, str] | None:
    """Returns the last device that was looked at; None if there are no more."""
    rows = await connection.fetch(_SELECT_TOKENS, *after, _TOKENS_PER_PART)
    for user_id, device_id, is_known in rows:
        if not is_known:
            report.add("device", f"a resume token is there of device {device_id} of {user_id}, which is not")
    return (rows[-1][0], rows[-1][1]) if len(rows) == _TOKENS_PER_PART else None


async def _keys_after(after: int, connection: Connection) -> list[int]:
    """The next conversations, so many that what they have is bounded."""
    keys: list[int] = []
    entries = 0
    for key, head_seq in await connection.fetch(_SELECT_KEYS, after, _CONVERSATIONS_PER_PART):
        entries += head_seq
        if keys and entries > _ENTRIES_PER_PART:
            break
        keys.append(key)
    return keys


async def _broken(rules: Sequence[Rule], after: int, up_to: int, connection: Connection) -> list[_Found]:
    """The rows between two conversations that break one of some rules."""
    found = []
    for rule in rules:
        for row in await connection.fetch(_in_postgres(rule.sql), after, up_to, _BROKEN_PER_READ):
            key, *values = list(row)
            found.append(_Found(rule, await _name(connection, key), values))
    return found


@cache
def _in_postgres(sql: str) -> str:
    return re.sub(r"\?(\d)", r"$\1", sql)


async def _name(connection: Connection, key: int) -> str:
    rows = await connection.fetch(_SELECT_NAME, key)
    return f"conversation {rows[0][0]}" if rows else f"the conversation with number {key}"


async def _check_messages(
    report: Report, after: tuple[int, int], limit: int, connection: Connection
) -> list[tuple[int, int]]:
    """Check the bodies behind a place; returns where each of them is."""
    rows = await connection.fetch(_SELECT_MESSAGES, *after, limit)
    recalls = []
    for key, seq, kind, payload, recalled_by, is_cold in rows:
        fault = entry_fault(kind, payload, is_recalled=recalled_by is not None, is_cold=is_cold)
        if fault is not None:
            report.add(fault[0], f"{await _name(connection, key)} has {fault[1]}, at seq {seq}")
        elif kind == "RECALL":
            recalls.append((key, recalled_seq(payload), seq))
    if recalls:
        for key, seq in await connection.fetch(_SELECT_RECALLS, *zip(*recalls, strict=True)):
            report.add("recall", NOT_CARRIED_OUT.format(name=await _name(connection, key), seq=seq))
    return [(row[0], row[1]) for row in rows]


async def _place_after(unreadable: tuple[int, int], connection: Connection) -> tuple[int, int] | None:
    """Where to go on after a message that cannot be read; None if there are no more."""
    key, seq = unreadable
    rows = await connection.fetch(_SELECT_NEXT_PLACE, key, seq + 1)
    return (rows[0][0], rows[0][1]) if rows else None
