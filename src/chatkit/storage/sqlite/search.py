"""The index of search on SQLite: a file of its own beside the log, with FTS5; and the reads of the log that it needs.

Its own file, so that the log's writer never waits for it, and so that it can be thrown away: damaged, of a log that was
put back, or not wanted any more. Each function takes a connection inside a transaction. Called by `search_store`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from ...core.log.marks import NO_MARKS
from ...core.search import Term
from ...drivers.sqlite import Connection
from ..search import (
    CONVERSATIONS_MAX,
    PLACE_BITS,
    SCAN_MAX,
    Candidate,
    Proposed,
    candidate_of,
    conversation_terms,
    edit_in,
    first_place,
    indexed_terms,
    is_shown,
)
from ..verify_entries import entry_fault, recalled_seq
from .reads import joined
from .references import marks
from .select import select

APPLICATION_ID: Final = 0x43484B46
"""Marks a file as an index of a chatkit log ("CHKF")."""

_VERSION: Final = 2
"""Of the tables and of what is a term: an index of another version is made anew."""

SCHEMA: Final = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    # log: of which log, and which state of it. position: the last row of its table of messages that was taken up.
    # floor_key: the conversations up to here were looked through for what has expired. taken_out: messages whose
    # words may still be in the file.
    """
CREATE TABLE search_state (
    log BLOB NOT NULL,
    position INTEGER NOT NULL,
    conversation_key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    taken_out INTEGER NOT NULL
) STRICT
""",
    # Each version of a message is a row: itself, and each edit at its seq, all of them at the time of the message.
    """
CREATE TABLE search_entry (
    place INTEGER PRIMARY KEY,
    conversation_key INTEGER NOT NULL,
    message_seq INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    words TEXT NOT NULL,
    UNIQUE (conversation_key, message_seq, seq)
) STRICT
""",
    # ascii: parts at spaces alone, of all that is in terms
    """
CREATE VIRTUAL TABLE search_words USING fts5(
    words, content='search_entry', content_rowid='place', detail=none, columnsize=0, tokenize='ascii'
)
""",
)

SELECT_LOG = (
    "SELECT (SELECT value FROM setting WHERE name = 'secret'), "
    "(SELECT value FROM setting WHERE name = 'position_floor'), (SELECT ifnull(max(rowid), 0) FROM message)"
)
SELECT_AT = "SELECT conversation_key, seq FROM message WHERE rowid = ?"
SELECT_NEW = """
SELECT e.rowid, e.conversation_key, e.seq, e.kind, e.sender_id, e.server_ts, e.payload, EXISTS (
    SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
FROM message AS e WHERE e.rowid > ? ORDER BY e.rowid LIMIT ?
"""
SELECT_TIMES = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT e.conversation_key, e.seq, e.server_ts FROM k
CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
"""
SELECT_FLOORS = """
SELECT conversation_key, floor_seq FROM (
    SELECT conversation_key, floor_seq FROM conversation WHERE conversation_key > ?1 ORDER BY conversation_key LIMIT ?2
) WHERE floor_seq > 0
"""
SELECT_LAST_LOOKED_AT = (
    "SELECT conversation_key FROM conversation WHERE conversation_key > ? ORDER BY 1 LIMIT 1 OFFSET ?"
)
SELECT_OWN = "SELECT conversation_key FROM conversation_member WHERE user_id = ? AND leave_seq IS NULL"
SELECT_VISIBLE = """
WITH k (place, conversation_key, seq) AS (VALUES {keys})
SELECT k.place, e.conversation_key, e.seq, c.conversation_id, c.epoch, e.epoch, e.sender_id, e.server_ts, e.payload,
    e.client_msg_id
FROM k
CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
CROSS JOIN conversation AS c ON c.conversation_key = e.conversation_key
WHERE e.kind = 'USER' AND e.seq > c.floor_seq
    AND EXISTS (SELECT 1 FROM conversation_member AS m
        WHERE m.conversation_key = e.conversation_key AND m.user_id = ? AND m.leave_seq IS NULL)
    AND EXISTS (SELECT 1 FROM conversation_member AS m
        WHERE m.conversation_key = e.conversation_key AND m.user_id = ?
            AND ifnull(m.first_seq, m.join_seq) <= e.seq AND ifnull(m.leave_seq, e.seq + 1) > e.seq)
    AND NOT EXISTS (SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
"""

SELECT_STATE = "SELECT log, position, conversation_key, seq, taken_out FROM search_state"
INSERT_STATE = "INSERT INTO search_state VALUES (?, ?, ?, ?, ?)"
UPDATE_POSITION = "UPDATE search_state SET position = ?, conversation_key = ?, seq = ?"
ADD_TAKEN_OUT = "UPDATE search_state SET taken_out = taken_out + ?"
SELECT_LAST_PLACE = "SELECT max(place) FROM search_entry WHERE place >= ? AND place < ?"
SELECT_PLACES = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT s.place, s.words FROM k
CROSS JOIN search_entry AS s ON s.conversation_key = k.conversation_key AND s.message_seq = k.seq
"""
SELECT_EXPIRED = "SELECT place, words FROM search_entry WHERE conversation_key = ? AND message_seq <= ?"
INSERT_ENTRY = (
    "INSERT INTO search_entry (place, conversation_key, message_seq, seq, words) VALUES (?, ?, ?, ?, ?)"
)
INSERT_WORDS = "INSERT INTO search_words (rowid, words) VALUES (?, ?)"
DELETE_WORDS = "INSERT INTO search_words (search_words, rowid, words) VALUES ('delete', ?, ?)"
DELETE_ENTRY = "DELETE FROM search_entry WHERE place = ?"
MERGE = "INSERT INTO search_words (search_words, rank) VALUES ('merge', ?)"
SELECT_CHANGES = "SELECT total_changes()"
SELECT_FOUND = """
SELECT s.place, s.conversation_key, s.message_seq, s.seq FROM (
    SELECT rowid AS place FROM search_words WHERE search_words MATCH ?1 AND rowid >= ?2 AND rowid < ?3
    ORDER BY rowid DESC LIMIT ?4
) AS f CROSS JOIN search_entry AS s ON s.place = f.place
"""
SELECT_FOUND_AMONG = """
WITH f AS MATERIALIZED (
    SELECT rowid AS place FROM search_words WHERE search_words MATCH ?1 AND rowid >= ?2 AND rowid < ?3
    ORDER BY rowid DESC LIMIT ?6
)
SELECT min(place), count(*), NULL, NULL FROM f
UNION ALL
SELECT * FROM (
    SELECT s.place, s.conversation_key, s.message_seq, s.seq FROM f CROSS JOIN search_entry AS s ON s.place = f.place
    WHERE s.conversation_key IN (SELECT value FROM json_each(?5)) LIMIT ?4
)
"""
MERGE_PAGES: Final = 64
"""Written in one step of a merge, about."""

CONVERSATIONS_PER_LOOK: Final = 5_000


class NewRow(NamedTuple):
    """A row of the log."""

    rowid: int
    conversation_key: int
    seq: int
    kind: str
    sender_id: str
    server_ts: int
    payload: bytes
    is_recalled: int


class LogState(NamedTuple):
    """Which log it is, and which state of it: a log that was put back is another one."""

    name: bytes
    end: int


class IndexState(NamedTuple):
    """How far an index has got: the row of `position` is `seq` of a conversation."""

    log: bytes
    position: int
    conversation_key: int
    seq: int
    taken_out: int


# --- of the log ---


def log_state(connection: Connection) -> LogState:
    """Which log this is."""
    ((secret, floor, end),) = connection.execute(SELECT_LOG)
    return LogState(
        blake2b(bytes(secret), digest_size=16, salt=b"search").digest() + bytes(floor or b""), end
    )


def new_rows(connection: Connection, after: int, limit: int) -> tuple[LogState, list[NewRow]]:
    """The rows after a position, in the order of their commits; edits with the time of the message that they name."""
    rows = [NewRow(*row) for row in connection.execute(SELECT_NEW, (after, limit))]
    named = {(it.conversation_key, edit[0]) for it in rows if (edit := _edit_of(it)) is not None}
    times = {(key, seq): server_ts for key, seq, server_ts in select(connection, SELECT_TIMES, named)}
    return log_state(connection), [_at_time_of_message(it, times) for it in rows]


def _edit_of(it: NewRow) -> tuple[int, bytes] | None:
    return edit_in(it.payload) if it.kind == "EDIT" and not it.is_recalled else None


def _at_time_of_message(it: NewRow, times: Mapping[tuple[int, int], int]) -> NewRow:
    edit = _edit_of(it)
    return (
        it if edit is None else it._replace(server_ts=times.get((it.conversation_key, edit[0]), it.server_ts))
    )


def is_of_log(connection: Connection, it: IndexState) -> bool:
    """Whether an index was made from this log, or from an earlier state of it."""
    log = log_state(connection)
    at = connection.execute(SELECT_AT, (it.position,))
    return (
        it.log == log.name and it.position <= log.end and (not at or at[0] == (it.conversation_key, it.seq))
    )


def floors(connection: Connection, after_key: int) -> tuple[list[tuple[int, int]], int]:
    """(conversation, up to where it has expired) of the next ones, and where to go on; 0: at the beginning."""
    found = [
        (key, seq) for key, seq in connection.execute(SELECT_FLOORS, (after_key, CONVERSATIONS_PER_LOOK))
    ]
    last = connection.execute(SELECT_LAST_LOOKED_AT, (after_key, CONVERSATIONS_PER_LOOK - 1))
    return found, last[0][0] if last else 0


def keys_of(connection: Connection, user_id: str, conversation_id: str | None) -> list[int]:
    """The conversations that a user is a member of, or the one that is named. Raises NotFoundError."""
    if conversation_id is None:
        return [key for (key,) in connection.execute(SELECT_OWN, (user_id,))]
    return [joined(connection, conversation_id, user_id).conversation.key]


def visible(connection: Connection, user_id: str, proposed: Collection[Proposed]) -> list[Candidate]:
    """Those that the user may see and that are what they see of their message, the newest first."""
    rows = select(connection, SELECT_VISIBLE, [it[:3] for it in proposed], user_id, user_id)
    said = marks(connection, user_id, [(key, seq, seq) for _, key, seq, *_ in rows])
    by_place, found = {it.place: it for it in proposed}, []
    for place, key, seq, *row in sorted(rows, reverse=True):
        of_message = said.get((key, seq), NO_MARKS)
        if is_shown(by_place[place], of_message):
            found.append(candidate_of(user_id, of_message, place, key, seq, *row))
    return found


# --- of the index ---


def make(connection: Connection, log: bytes) -> IndexState:
    """The tables of an index of nothing yet."""
    for statement in SCHEMA:
        connection.execute(statement)
    state = IndexState(log, 0, 0, 0, 0)
    connection.execute(INSERT_STATE, state)
    return state


def index_state(connection: Connection) -> IndexState | None:
    """How far an index has got; None if it is none of this version."""
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if (application, version) != (APPLICATION_ID, _VERSION):
        return None
    rows = connection.execute(SELECT_STATE)
    return IndexState(*rows[0]) if len(rows) == 1 else None


def take_up(connection: Connection, rows: Sequence[NewRow]) -> None:
    """Put new messages into the index, and take recalled ones out."""
    recalled = {(it.conversation_key, recalled_seq(it.payload)) for it in rows if _is_recall(it)}
    entries = []
    for it in rows:
        version = _version_of(it)
        if version is not None and (it.conversation_key, version[0]) not in recalled:
            terms = indexed_terms(it.conversation_key, it.sender_id, version[1])
            if terms:
                entries.append((it.server_ts, it.conversation_key, version[0], it.seq, " ".join(terms)))
    _insert(connection, entries)
    _take_out(connection, select(connection, SELECT_PLACES, recalled))
    last = rows[-1]
    connection.execute(UPDATE_POSITION, (last.rowid, last.conversation_key, last.seq))


def _version_of(it: NewRow) -> tuple[int, bytes] | None:
    """Of which message a row is a version, and what it says; None for other entries, and for what is gone."""
    if it.kind == "EDIT":
        return _edit_of(it)
    return (it.seq, it.payload) if it.kind == "USER" and it.payload and not it.is_recalled else None


def _is_recall(it: NewRow) -> bool:
    return it.kind == "RECALL" and entry_fault("RECALL", it.payload, is_recalled=False, is_cold=False) is None


def _insert(connection: Connection, entries: Iterable[tuple[int, int, int, int, str]]) -> None:
    """New versions: (when, conversation, message, own seq, words), those of one conversation ascending."""
    next_places: dict[int, int] = {}
    placed = []
    for server_ts, *version in entries:
        first = first_place(server_ts)
        if first not in next_places:
            ((last,),) = connection.execute(SELECT_LAST_PLACE, (first, first + (1 << PLACE_BITS)))
            next_places[first] = first if last is None else last + 1
        placed.append((next_places[first], *version))
        next_places[first] += 1
    placed.sort()  # FTS5 begins a new part of its index for each row that is before the last one
    connection.executemany(INSERT_ENTRY, placed)
    connection.executemany(INSERT_WORDS, [(place, words) for place, *_, words in placed])


def take_expired(connection: Connection, floors: Iterable[tuple[int, int]]) -> None:
    """Take out what has expired: (conversation, up to which seq)."""
    for floor in floors:
        _take_out(connection, connection.execute(SELECT_EXPIRED, floor))


def _take_out(connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
    if not rows:
        return
    connection.executemany(DELETE_WORDS, rows)
    connection.executemany(DELETE_ENTRY, [(place,) for place, _ in rows])
    connection.execute(ADD_TAKEN_OUT, (len(rows),))


def note_merged(connection: Connection, count: int) -> None:
    """The words of so many that were taken out are gone."""
    connection.execute(ADD_TAKEN_OUT, (-count,))


def merge(connection: Connection, *, begin: bool) -> bool:
    """Write a part of the index anew, without the words of what was taken out; returns whether it is done.

    What is taken out of FTS5 leaves its words in the file until all parts of the index are merged into one.
    """
    if begin:
        connection.execute(MERGE, (-MERGE_PAGES,))
    ((before,),) = connection.execute(SELECT_CHANGES)
    connection.execute(MERGE, (MERGE_PAGES,))
    ((after,),) = connection.execute(SELECT_CHANGES)
    return bool(after - before < 2)


def propose(
    connection: Connection, terms: Sequence[Term], keys: Sequence[int], first: int, end: int, limit: int
) -> tuple[list[Proposed], int | None]:
    """What the index finds in some conversations, the newest first, and before which place to go on; None: it ends."""
    if len(keys) <= CONVERSATIONS_MAX:
        asked = _expression(terms, conversation_terms(keys))
        rows = connection.execute(SELECT_FOUND, (asked, first, end, limit))
        scanned_to = None
    else:
        place = (_expression(terms, []), first, end, limit, json.dumps(keys), SCAN_MAX)
        (lowest, count, _, _), *rows = connection.execute(SELECT_FOUND_AMONG, place)
        scanned_to = lowest if count == SCAN_MAX else None
    found = sorted((Proposed(*row) for row in rows), reverse=True)
    return found, found[-1].place if len(found) == limit else scanned_to


def _expression(terms: Iterable[Term], any_of: Sequence[Term]) -> str:
    """What FTS5 is asked: all of some terms, and one of others, if there are any."""
    one_of = [f"({' OR '.join(map(_quoted, any_of))})"] if any_of else []
    return " AND ".join((*map(_quoted, terms), *one_of))


def _quoted(term: Term) -> str:
    """A term has no quotation mark in it; whatever else is in it has no meaning inside of them."""
    return f'"{term.text}"{"*" if term.is_prefix else ""}'
