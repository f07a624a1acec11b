"""The local store in a SQLite file: outlives the app, also when it is killed (WAL, synchronous=NORMAL).

A power cut may cost the newest commits: entries come again by SYNC (and the app is notified again); a message that was
queued but not yet answered can be lost with them.

One process at a time: the file is locked from opening to closing. Each call blocks the event loop for one small
transaction; opening for at most `BUSY_TIMEOUT_MS` (2 s), when somebody else holds the file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from ...core.log.reads import UNREAD_MAX
from ...core.marks import mentioned_as, named_seq
from ...core.resend import Key, PendingSend
from ...drivers.migrations import migrate, migration_files
from ...drivers.sqlite import DamagedError as DamagedPageError
from ...drivers.sqlite import DamagedFileError, DamagedRowError, SqliteError, open_sqlite
from ...errors import ConfigurationError, ConflictError, DamagedError, UnavailableError
from ...types import NO_MESSAGES, Marks, Message
from ...wire.payload import RECALLED
from .base import Change, Progress, Record, payload_bytes

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_UNCOUNTED = msgspec.json.encode(sorted((*NO_MESSAGES, "RECALLED"))).decode()

APPLICATION_ID = 0x63_6B_63_6C
"""`ckcl`: marks the file as a client's store, so that it is never taken for a server's log."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_marks = msgspec.json.Decoder(Marks).decode

_COLUMNS = "conversation_id, seq, message_id, sender_id, server_ts, payload, client_msg_id, marks"
_UPSERT_CONVERSATION = (
    "INSERT INTO conversation (conversation_id, type, epoch, prefix, floor, has_left, taken_seq, title, activity_ms,"
    " muted_until_ms, read_seq, notify) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET type = excluded.type, epoch = excluded.epoch, prefix = excluded.prefix,"
    " has_left = excluded.has_left, title = excluded.title, activity_ms = excluded.activity_ms,"
    " muted_until_ms = excluded.muted_until_ms, read_seq = excluded.read_seq,"
    " notify = excluded.notify"
)
_INSERT_MESSAGE = (
    f"INSERT INTO message ({_COLUMNS}, named_seq, mentioned_as, is_own) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 -- fixed column names
    " ON CONFLICT DO UPDATE SET payload = excluded.payload, marks = NULL, named_seq = NULL, mentioned_as = NULL"
    " WHERE excluded.payload = ?"
)
_ADVANCE = (
    "UPDATE conversation SET taken_seq = max(taken_seq, ?), tries = ?, renewed_above = ?"
    " WHERE conversation_id = ? AND epoch = ?"
)
_FORGET_ABOVE = (
    "UPDATE conversation SET floor = min(floor, ?1), taken_seq = min(taken_seq, ?1), tries = 0,"
    " renewed_above = min(ifnull(renewed_above, ?1), ?1) WHERE conversation_id = ?2"
)
_KEEP_STATE = (
    "INSERT OR REPLACE INTO app_state SELECT conversation_id, ? FROM conversation"
    " WHERE conversation_id = ? AND epoch = ?"
)
_UNREAD = (
    "SELECT count(*) FROM (SELECT 1 FROM message WHERE conversation_id = ? AND seq > ? AND sender_id <> ?"
    " AND ifnull(json_extract(CAST(payload AS TEXT), '$.type'), '') NOT IN (SELECT value FROM json_each(?)) LIMIT ?)"
)
_UNREAD_MENTIONS = (
    "SELECT count(*) FROM (SELECT 1 FROM message WHERE conversation_id = ? AND mentioned_as IS NOT NULL"
    " GROUP BY ifnull(named_seq, seq), mentioned_as HAVING min(seq) > ? LIMIT ?)"
)
_LAST_TO_TRIM = "SELECT seq FROM message WHERE conversation_id = ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
_TRIMMABLE = (  # the placed ones up to here, as far as none of them waits for the app
    "SELECT min(?1, prefix, ifnull((SELECT seq - 1 FROM message AS m WHERE m.conversation_id = c.conversation_id"
    " AND seq > taken_seq AND NOT is_own ORDER BY seq LIMIT 1), prefix))"
    " FROM conversation AS c WHERE conversation_id = ?2"
)
_EARLY_RECALLS = (
    "SELECT conversation_id, seq FROM early_recall JOIN conversation USING (conversation_id)"
    " WHERE seq > prefix ORDER BY seq"
)
_FORGET_MET_RECALLS = (
    "DELETE FROM early_recall WHERE seq <="
    " (SELECT prefix FROM conversation AS c WHERE c.conversation_id = early_recall.conversation_id)"
)


_DAMAGE = (
    DamagedFileError,
    DamagedPageError,
    DamagedRowError,
    SqliteError,
    msgspec.MsgspecError,
    UnicodeDecodeError,
)


def _finds_damage(
    method: Callable[Concatenate[SqliteStore, _P], _T],
) -> Callable[Concatenate[SqliteStore, _P], _T]:
    """The method, with DamagedError for what a sound file never gives."""

    @wraps(method)
    def finding(self: SqliteStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with _damage(self.path):
            return method(self, *args, **kwargs)

    return finding


@contextmanager
def _damage(path: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DamagedError(
            f"the local store {path} is damaged ({type(error).__name__}): move the file away and start again;"
            " all but messages that were not sent yet comes again from the server"
        ) from error


class SqliteStore:
    """`LocalStore` in a file.

    Args:
        path: The file; made if it is missing.
        messages_max: Entries kept per conversation, and up to an eighth more; older ones go once the app has taken
            them, and history fetches them again. None keeps all.

    Attributes:
        path: The file.

    Raises:
        ConfigurationError: The file is no client store, was made by a newer version, or is open in another client.
        DamagedError: The file is damaged; every other method raises that too.
    """

    def __init__(self, path: str | os.PathLike[str], messages_max: int | None = None) -> None:
        if not isinstance(path, str | os.PathLike):
            raise ConfigurationError(f"path must be a path, not {type(path).__name__}")
        self.path = os.fspath(path)
        self._messages_max = messages_max
        self._untrimmed: dict[str, int] = {}  # by conversation: entries since it was trimmed last
        with _damage(self.path):
            self._open(self.path)

    def _open(self, path: str) -> None:
        try:
            self._connection = open_sqlite(os.fspath(path), synchronous="NORMAL")
        except _DAMAGE:
            raise
        except UnavailableError as error:
            raise _in_use(error) from error
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # taken by the first write: migrate's
            migrate(self._connection, migration_files("chatkit.client.store"), APPLICATION_ID)
            self._connection.execute(_FORGET_MET_RECALLS)
            self._user_id = self.owner()
            self._bodies_in_wal = True  # what a killed process blanked last
            self._scrub()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, UnavailableError) and not isinstance(error, _DAMAGE):
                raise _in_use(error) from error
            raise

    @_finds_damage
    def owner(self) -> str:
        """The user's id; "" before the first login."""
        return next((user_id for (user_id,) in self._connection.execute("SELECT user_id FROM owner")), "")

    @_finds_damage
    def bind(self, user_id: str, device_id: str) -> None:
        """Tie the store to its owner; another one is a ConfigurationError."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO owner VALUES (1, ?, ?)", (user_id, device_id))
            (owner,) = self._connection.execute("SELECT user_id, device_id FROM owner")
        if owner != (user_id, device_id):
            raise ConfigurationError(
                f"the local store {self.path} belongs to the user {owner[0]} on the device {owner[1]}:"
                " name another file (store, --store of chatkit chat, or CHATKIT_STORE)"
            )
        self._user_id = user_id

    @_finds_damage
    def pending(self) -> list[PendingSend]:
        """Unacknowledged messages, by order."""
        rows = self._connection.execute(
            "SELECT conversation_id, client_msg_id, payload, position FROM pending_send ORDER BY position"
        )
        return [PendingSend(*row) for row in rows]

    @_finds_damage
    def add_pending(self, send: PendingSend) -> None:
        """Keep a message until it is resolved. Raises ConflictError if its key is kept already."""
        added = self._connection.change(
            "INSERT INTO pending_send (conversation_id, client_msg_id, payload, position) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (send.conversation_id, send.client_msg_id, send.payload, send.order),
        )
        if not added:
            raise ConflictError("this clientMsgId is pending already in the local store")

    @_finds_damage
    def records(self) -> list[Record]:
        """Every conversation that is stored."""
        held: dict[str, list[Message]] = {}
        for row in self._connection.execute(
            f"SELECT {_COLUMNS} FROM message JOIN conversation USING (conversation_id)"  # noqa: S608 -- fixed names
            " WHERE seq > prefix ORDER BY seq"
        ):
            held.setdefault(row[0], []).append(_message(row))
        recalled: dict[str, list[int]] = {}
        for conversation_id, seq in self._connection.execute(_EARLY_RECALLS):
            recalled.setdefault(conversation_id, []).append(seq)
        rows = self._connection.execute(
            "SELECT conversation_id, type, epoch, prefix, has_left, taken_seq, tries, renewed_above, title,"
            " activity_ms, muted_until_ms, read_seq, notify FROM conversation"
        )
        return [
            Record(
                id_,
                type_,
                epoch,
                prefix,
                bool(left),
                tuple(held.get(id_, ())),
                tuple(recalled.get(id_, ())),
                *progress,
            )
            for id_, type_, epoch, prefix, left, *progress in rows
        ]

    @_finds_damage
    def save(self, changes: Sequence[Change], resolved: Sequence[Key] = ()) -> None:
        """Store all that one frame changed, in one transaction."""
        with self._transaction():
            for change in changes:
                self._apply(change)
            self._connection.executemany(
                "DELETE FROM pending_send WHERE conversation_id = ? AND client_msg_id = ?", resolved
            )
        self._bodies_in_wal = self._bodies_in_wal or any(_blanks(change) for change in changes)
        self._scrub()

    @_finds_damage
    def messages(self, conversation_id: str, before_seq: int, limit: int) -> list[Message]:
        """The newest stored entries below `before_seq`, ascending."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM message WHERE conversation_id = ? AND seq < ?"  # noqa: S608 -- fixed names
            " ORDER BY seq DESC LIMIT ?",
            (conversation_id, before_seq, max(0, limit)),
        )
        return [_message(row) for row in reversed(rows)]

    @_finds_damage
    def message_ids(self, conversation_id: str, after_seq: int, up_to_seq: int) -> dict[int, str]:
        """The ids of the stored entries in (after_seq, up_to_seq], by seq."""
        rows = self._connection.execute(
            "SELECT seq, message_id FROM message WHERE conversation_id = ? AND seq > ? AND seq <= ?",
            (conversation_id, after_seq, up_to_seq),
        )
        return dict(rows)

    @_finds_damage
    def untaken(self, conversation_id: str, after_seq: int, up_to_seq: int, limit: int) -> list[Message]:
        """The oldest stored entries of (after_seq, up_to_seq], without this device's own sends."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM message WHERE conversation_id = ? AND seq > ? AND seq <= ?"  # noqa: S608 -- fixed names
            " AND NOT is_own ORDER BY seq LIMIT ?",
            (conversation_id, after_seq, up_to_seq, limit),
        )
        return [_message(row) for row in rows]

    @_finds_damage
    def naming(self, conversation_id: str, first_seq: int, last_seq: int) -> list[Message]:
        """The stored EDIT and REACTION entries that name an entry of a range, ascending by seq."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM message WHERE conversation_id = ? AND named_seq BETWEEN ? AND ?"  # noqa: S608 -- fixed names
            " ORDER BY +seq",  # by itself SQLite reads the whole log in the order of its key
            (conversation_id, first_seq, last_seq),
        )
        return [_message(row) for row in rows]

    @_finds_damage
    def advance(self, progress: Sequence[Progress]) -> None:
        """Keep how far the app has taken each log, in one transaction."""
        with self._transaction():
            for each in progress:
                self._connection.execute(
                    _ADVANCE,
                    (each.taken_seq, each.tries, each.renewed_above, each.conversation_id, each.epoch),
                )
                if each.state is not None:
                    self._connection.execute(_KEEP_STATE, (each.state, each.conversation_id, each.epoch))

    @_finds_damage
    def app_state(self, conversation_id: str) -> bytes:
        """What the app keeps of a conversation."""
        rows = self._connection.execute(
            "SELECT state FROM app_state WHERE conversation_id = ?", (conversation_id,)
        )
        return rows[0][0] if rows else b""

    @_finds_damage
    def unread(self, conversation_id: str, after_seq: int, user_id: str) -> int:
        """How many stored messages above a seq are of others and not recalled."""
        place = (conversation_id, after_seq, user_id)
        ((count,),) = self._connection.execute(_UNREAD, (*place, _UNCOUNTED, UNREAD_MAX))
        return int(count)

    @_finds_damage
    def unread_mentions(self, conversation_id: str, after_seq: int) -> int:
        """How often the user is mentioned above a seq."""
        place = (conversation_id, after_seq)
        ((count,),) = self._connection.execute(_UNREAD_MENTIONS, (*place, UNREAD_MAX))
        return int(count)

    @_finds_damage
    def floor(self, conversation_id: str) -> int:
        """Where the completely stored part starts."""
        rows = self._connection.execute(
            "SELECT floor FROM conversation WHERE conversation_id = ?", (conversation_id,)
        )
        return rows[0][0] if rows else 0

    @_finds_damage
    def reads(self) -> dict[str, int]:
        """How far the user wants each conversation to count as read."""
        return dict(self._connection.execute("SELECT conversation_id, up_to_seq FROM wanted_read"))

    @_finds_damage
    def want_read(self, conversation_id: str, up_to_seq: int) -> None:
        """Keep how far the user has read; 0 forgets it."""
        if up_to_seq == 0:
            self._connection.execute("DELETE FROM wanted_read WHERE conversation_id = ?", (conversation_id,))
        else:
            self._connection.execute(
                "INSERT OR REPLACE INTO wanted_read VALUES (?, ?)", (conversation_id, up_to_seq)
            )

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def _scrub(self) -> None:
        """Empty the write-ahead log, which holds blanked bodies still; what is refused now is done with a later save.

        Nothing may be raised here: the transaction is durable, and the app must be notified of its entries.
        """
        if not self._bodies_in_wal:
            return
        try:
            ((busy, _, _),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except UnavailableError as error:
            logger.warning("recalled bodies stay in the write-ahead log for now: %s", error)
        else:
            self._bodies_in_wal = bool(busy)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise

    def _apply(self, change: Change) -> None:
        id_ = change.conversation_id
        floor = change.prefix if change.floor is None else change.floor
        self._connection.execute(
            _UPSERT_CONVERSATION,
            (
                id_,
                change.type,
                change.epoch,
                change.prefix,
                floor,
                int(change.left),
                floor,
                change.title,
                change.activity_ms,
                change.muted_until_ms,
                change.read_seq,
                change.notify,
            ),
        )
        if change.floor is not None:
            self._connection.execute(
                "UPDATE conversation SET floor = ? WHERE conversation_id = ?", (change.floor, id_)
            )
        if change.forget_above is not None:
            self._forget_above(id_, change.forget_above)
        if change.forget_up_to:
            self._connection.execute(
                "DELETE FROM message WHERE conversation_id = ? AND seq <= ?", (id_, change.forget_up_to)
            )
        if change.expired_up_to:
            self._expire(id_, change.expired_up_to)
        self._keep(id_, change.messages, change.own_seqs)
        for seq in change.recalled_seqs:
            self._blank(id_, seq, early=seq > change.prefix)
        if self._messages_max is not None and change.messages:
            self._trim(id_, self._messages_max, len(change.messages))

    def _forget_above(self, conversation_id: str, seq: int) -> None:
        for table in ("message", "early_recall"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE conversation_id = ? AND seq > ?",  # noqa: S608 -- fixed names
                (conversation_id, seq),
            )
        self._connection.execute(_FORGET_ABOVE, (seq, conversation_id))

    def _expire(self, id_: str, up_to_seq: int) -> None:
        """Let go of what was deleted from the log, as far as the app has taken it."""
        ((last_seq,),) = self._connection.execute(_TRIMMABLE, (up_to_seq, id_))
        self._connection.execute(
            "DELETE FROM message WHERE conversation_id = ? AND seq <= ?", (id_, last_seq)
        )
        self._connection.execute(
            "UPDATE conversation SET floor = max(floor, ?) WHERE conversation_id = ?", (last_seq, id_)
        )

    def _trim(self, id_: str, messages_max: int, added: int) -> None:
        """Let go of the oldest entries, now and then, down to the first that the app has not taken."""
        self._untrimmed[id_] = self._untrimmed.get(id_, messages_max) + added
        if self._untrimmed[id_] <= messages_max // 8:
            return
        self._untrimmed[id_] = 0
        for (last_seq,) in self._connection.execute(_LAST_TO_TRIM, (id_, messages_max)):
            ((floor,),) = self._connection.execute(_TRIMMABLE, (last_seq, id_))
            self._connection.execute(
                "DELETE FROM message WHERE conversation_id = ? AND seq <= ?", (id_, floor)
            )
            self._connection.execute(
                "UPDATE conversation SET floor = max(floor, ?) WHERE conversation_id = ?", (floor, id_)
            )

    def _keep(self, conversation_id: str, messages: Sequence[Message], own_seqs: set[int]) -> None:
        if not messages:
            return
        rows = self._connection.execute(
            "SELECT seq FROM early_recall WHERE conversation_id = ?", (conversation_id,)
        )
        recalled = {seq for (seq,) in rows}
        self._connection.executemany(
            _INSERT_MESSAGE, [_row(message, recalled, own_seqs, self._user_id) for message in messages]
        )
        met = [(conversation_id, message.seq) for message in messages if message.seq in recalled]
        self._connection.executemany("DELETE FROM early_recall WHERE conversation_id = ? AND seq = ?", met)

    def _blank(self, conversation_id: str, seq: int, *, early: bool) -> None:
        blanked = self._connection.execute(
            "UPDATE message SET payload = ?, marks = NULL, named_seq = NULL, mentioned_as = NULL"
            " WHERE conversation_id = ? AND seq = ? RETURNING seq",
            (RECALLED, conversation_id, seq),
        )
        if early and not blanked:
            self._connection.execute(
                "INSERT OR IGNORE INTO early_recall VALUES (?, ?)", (conversation_id, seq)
            )


def _blanks(change: Change) -> bool:
    """Whether a change takes bodies away."""
    if change.forget_above is not None or change.forget_up_to or change.recalled_seqs:
        return True
    return any(message.type == "RECALLED" for message in change.messages)


def _in_use(error: UnavailableError) -> ConfigurationError:
    return ConfigurationError(
        f"the local store cannot be used ({error}): if another client or process has it open, close that first or"
        " name another file"
    )


def _row(message: Message, recalled: set[int], own_seqs: set[int], user_id: str) -> tuple[Any, ...]:
    is_recalled = message.seq in recalled
    payload = RECALLED if is_recalled else payload_bytes(message)
    return (
        message.conversation_id,
        message.seq,
        message.message_id,
        message.sender_id,
        message.server_ts,
        payload,
        message.client_msg_id,
        None if message.marks is None or is_recalled else msgspec.json.encode(message.marks),
        None if is_recalled else named_seq(message),
        None if is_recalled else mentioned_as(message, user_id),
        message.seq in own_seqs,
        RECALLED,
    )


def _message(row: tuple[Any, ...]) -> Message:
    conversation_id, seq, message_id, sender_id, server_ts, payload, client_msg_id, marks = row
    return Message(
        conversation_id,
        seq,
        message_id,
        sender_id,
        server_ts,
        _decode(payload),
        client_msg_id,
        None if marks is None else _decode_marks(marks),
    )
