"""`PostgresStore`: one log in a PostgreSQL database, served by as many nodes as there are.

A batch is one transaction of four round trips: BEGIN, load (which locks what the batch touches), write, COMMIT. Between
load and write `core.log.decide` says what the commands do (`batch`). Called by `assemble`; everyone above sees only
`storage.base`. Why it is so: docs/design/0013-postgresql.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Concatenate, Final, ParamSpec, TypeVar

import anyio
from msgspec.structs import replace

from ...core.log.audit import ChainedAct
from ...core.log.blob_rows import BlobRow, DueBlob
from ...core.policy import Policy
from ...drivers.postgres import (
    READ,
    RETRY_AFTER_S,
    ConflictError,
    Connection,
    Database,
    DatabaseError,
    Deadlines,
    LockedError,
)
from ...drivers.postgres_migrations import check_current, migrate
from ...errors import ConfigurationError, UnavailableError
from ...ports import Ids, Random, SystemRandom
from .. import base
from ..transaction import commit_batch
from ..unread import UnreadCounts
from . import audit, blobs, moderation, person, put_back, reads, references, within
from .batch import carry_out
from .cold import PostgresCold
from .deliveries import PostgresDeliveries
from .locked import LockedConversations, Name, names_of, refusal
from .search import PostgresSearch
from .trail import trail
from .write import NODE_SLOTS

_logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_Result = TypeVar("_Result")

SECRET_BYTES: Final = 32
CONNECTIONS: Final = 10
COMMITS_IN_FLIGHT_MAX: Final = 4
_TRIES: Final = 6
_PAUSE_S: Final = 0.02

_CONVERSATION_S: Final = 1.5
"""How long a batch waits for a lock at first; then what concerns locked conversations is refused, and the rest goes on.
PostgreSQL needs 1 s to find a deadlock, which is tried again instead."""


class PostgresStore:
    """`storage.base.Store` on PostgreSQL; see there for what each method holds to.

    Args:
        address: As `drivers.postgres.Database` takes it.
        ids: Where the log's secret comes from.
        random: For the pause before a batch is tried again that another node's came before.
        connections: Most connections for reads at the same time, and as many for commits; one is opened of each.
        deadlines: How long things may take.
    """

    def __init__(
        self,
        address: str,
        *,
        ids: Ids,
        random: Random | None = None,
        connections: int = CONNECTIONS,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 -- frozen
    ) -> None:
        self._database = Database(address, connections=connections, deadlines=deadlines)
        self._reading = Database(
            address, connections=connections, deadlines=deadlines
        )  # commits wait for no read
        self._deadlines = deadlines
        self._impatient = replace(deadlines, lock_s=min(_CONVERSATION_S, deadlines.lock_s))
        self._locked = LockedConversations()
        self._secret, self._schema = b"", ""
        self._ids = ids
        self._random = random or SystemRandom()
        self._commits_in_flight_max = min(COMMITS_IN_FLIGHT_MAX, connections)
        self._healthy = False
        self._restored = False
        self._unread = UnreadCounts()
        self.cold = PostgresCold(self._database, self._reading)
        self.search = PostgresSearch(self._database, self._reading)
        self.deliveries = PostgresDeliveries(self._database, self._reading, self._unread)

    # --- its life ---

    async def migrate(self) -> bytes:
        """Connect, bring the schema up to date, see that commits are durable, and return the log's secret."""
        if self._database.is_open:
            raise ConfigurationError("this store is open already")
        await self._database.open()
        try:
            await self._prepare()
            await self._reading.open()
        except BaseException:
            await self._database.aclose()
            raise
        self._healthy = True
        return self._secret

    async def open_to_read(self) -> None:
        """Connect for reads alone: nothing is written, no table is made or changed."""
        if self._reading.is_open:
            raise ConfigurationError("this store is open already")
        await self._reading.open()
        try:
            await self._read(check_current, __package__)
        except BaseException:
            await self._reading.aclose()
            raise

    async def _prepare(self) -> None:
        async with self._database.transaction(deadlines=_MIGRATING) as connection:
            await _check_server(connection)
            try:
                await migrate(connection, __package__)
                await audit.start_chains(connection)
            except DatabaseError as error:
                if error.sqlstate not in _NO_RIGHT:
                    raise
                raise ConfigurationError(f"the user may not make chatkit's tables: {error}") from None
            await connection.fetch(
                "INSERT INTO setting (name, value) VALUES ('secret', $1) ON CONFLICT (name) DO NOTHING",
                self._ids.token_bytes(SECRET_BYTES),
            )
            ((secret,),) = await connection.fetch("SELECT value FROM setting WHERE name = 'secret'")
            ((self._schema,),) = await connection.fetch(within.SELECT_SCHEMA)
            self._restored = await put_back.notice(connection)
        self._secret = bytes(secret)

    @property
    def healthy(self) -> bool:
        """Whether the last commit was stored."""
        return self._healthy and self._database.is_open

    @property
    def restored(self) -> bool:
        """Whether the log is in another database than the one it was served from, or is said to be put back.

        As of the last `migrate` or `position`.
        """
        return self._restored

    async def confirm_restored(self, proved: int = 0) -> None:
        """Raise the position beyond every former one, and forget that the log was put back."""
        async with self._database.transaction() as connection:
            floor = base.next_floor(max(proved, await reads.position(connection)))
            await connection.fetch(
                "INSERT INTO log_position AS p (slot, added) VALUES (-1, $1) "
                "ON CONFLICT (slot) DO UPDATE SET added = greatest(p.added, excluded.added)",
                floor,
            )
            await put_back.unmark(connection)
        self._restored = False

    async def aclose(self) -> None:
        """Close every connection."""
        self._healthy = False
        await self._database.aclose()
        await self._reading.aclose()

    # --- commands ---

    @property
    def commits_in_flight_max(self) -> int:
        """Four, where there are as many connections: one conversation whose row somebody holds may stop three."""
        return self._commits_in_flight_max

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Apply a batch in one transaction; one that another node's came before is tried again."""
        reached = False

        async def transact(some: Sequence[base.Command]) -> list[base.Outcome]:
            nonlocal reached
            outcomes = await self._try_again(some)
            reached = True
            return outcomes

        try:
            with anyio.CancelScope(shield=True):  # once begun it ends, within its own deadlines
                outcomes = await commit_batch(transact, commands)
        finally:
            self._healthy = reached
        return outcomes

    async def _try_again(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        for turn in range(1, _TRIES + 1):
            try:
                return await self._transaction(commands)
            except ConflictError as error:
                if turn == _TRIES:
                    raise DatabaseError(error) from None  # each command is tried alone then
                _logger.info("a batch of %d commands is tried again: %s", len(commands), error)
                await anyio.sleep(_PAUSE_S * turn * self._random.random())
        raise AssertionError("the last try returns or raises")

    async def _transaction(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """One transaction; where another one keeps conversations locked, what concerns them is refused."""
        try:
            return await self._attempt(commands, self._locked.known_among(commands), self._impatient)
        except LockedError:
            names = names_of(commands)
            if not names:
                raise
            _logger.warning(
                "another transaction keeps its locks for long: commands for what it locked are refused"
            )
            return await self._attempt(commands, names, self._deadlines)

    async def _attempt(
        self, commands: Sequence[base.Command], to_look_at: Collection[Name], deadlines: Deadlines
    ) -> list[base.Outcome]:
        async with self._database.transaction(deadlines=deadlines) as connection:
            if not commands:
                await connection.execute(_PROBE)
                return []
            if any(isinstance(it, base.EndLogins) for it in commands):
                await connection.execute(_LOCK_ALL_LOGINS)
            locked = await self._locked.look(connection, to_look_at) if to_look_at else set()
            if not locked:
                return await carry_out(connection, commands, self._slot())
            is_free = [locked.isdisjoint(names_of([it])) for it in commands]
            free = [it for it, free in zip(commands, is_free, strict=True) if free]
            outcomes = iter(await carry_out(connection, free, self._slot()) if free else ())
        return [next(outcomes) if free else refusal() for free in is_free]

    def _slot(self) -> int:
        """A part of the log's position for one batch, by chance: so two of them seldom wait for each other there."""
        return int(self._random.random() * NODE_SLOTS)

    # --- in a transaction of the host's ---

    async def append_within(self, connection: object, command: base.Append) -> tuple[base.Appended, str]:
        """A message in a transaction that the host began on its own connection."""
        if not self._database.is_open:
            raise UnavailableError("the store is not open", retry_after_s=RETRY_AFTER_S)
        return await within.append_within(
            connection, command, schema=self._schema, secret=self._secret, lock_s=self._deadlines.lock_s
        )

    async def ended(self, transactions: Collection[str]) -> dict[str, bool]:
        """Which of these have ended, and whether they were committed."""
        return await self._read(within.ended, transactions)

    # --- reads ---

    async def _read(
        self,
        read: Callable[Concatenate[Connection, _P], Awaitable[_Result]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _Result:
        """One read, which sees one state of the database."""
        async with self._reading.transaction(READ) as connection:
            return await read(connection, *args, **kwargs)

    async def pins(self, conversation_id: str, user_id: str, bytes_max: int) -> list[base.PinRow]:
        """What is pinned."""
        return await self._read(reads.pins, conversation_id, user_id, bytes_max)

    async def page(
        self,
        conversation_id: str,
        user_id: str,
        after_seq: int,
        limit: int,
        bytes_max: int,
        *,
        history: bool = False,
    ) -> base.Page:
        """Visible entries after a seq."""
        bounds = (after_seq, limit, bytes_max, history)
        return await self._read(reads.page, conversation_id, user_id, *bounds)

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[base.Entry]:
        """The log itself after a seq, whoever may see it."""
        return await self._read(reads.entries, conversation_id, after_seq, limit)

    async def heads(self, user_id: str, device_id: str) -> list[base.ListedHead]:
        """The user's conversations, for one device."""
        return await self._read(reads.heads, user_id, device_id)

    async def head_seqs(self, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(epoch, head) of each conversation that exists."""
        return await self._read(reads.head_seqs, conversation_ids)

    async def conversation(self, conversation_id: str, user_id: str) -> base.Conversation:
        """One conversation, for a member of it."""
        return await self._read(reads.conversation, conversation_id, user_id)

    async def conversations(
        self, user_id: str, device_id: str | None, after: str | None, limit: int
    ) -> list[base.ListedConversation]:
        """A page of the user's conversations."""
        return await self._read(reads.conversations, self._unread, user_id, device_id, after, limit)

    async def recent(
        self, user_id: str, device_id: str | None, after: base.RecentPlace | None, limit: int, bytes_max: int
    ) -> base.RecentPage:
        """A page of the user's conversations, newest activity first."""
        place = (user_id, device_id, after, limit, bytes_max)
        return await self._read(reads.recent, self._unread, *place)

    async def members(
        self, conversation_id: str, user_id: str, after: str | None, limit: int
    ) -> list[base.MemberCursor]:
        """A page of the current members."""
        return await self._read(reads.members, conversation_id, user_id, after, limit)

    async def bans(
        self, conversation_id: str, user_id: str | None, policy: Policy, after: str | None, limit: int
    ) -> list[base.Ban]:
        """A page of who is banned from a conversation."""
        return await self._read(reads.bans, conversation_id, user_id, policy, after, limit)

    async def blocks(self, user_id: str, after: str | None, limit: int) -> list[base.Block]:
        """A page of whom a user blocked."""
        return await self._read(reads.blocks, user_id, after, limit)

    async def membership_changes(self, after: int | None, limit: int) -> base.MembershipChanges:
        """Who joined any conversation after a position."""
        return await self._read(reads.membership_changes, after, limit)

    async def contacts(self, user_ids: Sequence[str], members_max: int, limit: int) -> dict[str, list[str]]:
        """Who may know of each of these users."""
        return await self._read(reads.contacts, user_ids, members_max, limit)

    async def known_to(self, user_id: str, others: Sequence[str], members_max: int) -> dict[str, int | None]:
        """Whom of the others a user may know of, and when they were last seen."""
        return await self._read(reads.known_to, user_id, others, members_max)

    async def resume_hashes(self, devices: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """Digest of each device's resume token."""
        return await self._read(reads.resume_hashes, devices)

    async def revocations(self, after: int, limit: int) -> list[base.Revocation]:
        """Those above a position."""
        return await self._read(reads.revocations, after, limit)

    async def kept_login(self, token_hash: bytes) -> base.KeptLogin | None:
        """The login of a resume token."""
        return await self._read(reads.kept_login, token_hash)

    async def status(
        self, message_id: str, user_id: str, after: tuple[str, str] | None, limit: int
    ) -> base.Status:
        """The state of a message, for its author."""
        return await self._read(reads.status, message_id, user_id, after, limit)

    async def read_counts(
        self, conversation_id: str, after_seq: int, up_to_seq: int, authors: Sequence[str]
    ) -> list[base.ReadCounts]:
        """Counts for the newest message of each of some authors in a range."""
        return await self._read(reads.read_counts, conversation_id, after_seq, up_to_seq, authors)

    async def trail(self, message_id: str, user_id: str | None, limit: int) -> base.MessageTrail:
        """What became of a message."""
        return await self._read(trail, message_id, user_id, limit)

    async def position(self) -> int:
        """How far the log has got."""
        found, self._restored = await self._read(_position_and_mark)
        return found

    async def conversation_ids(self, after: str, limit: int) -> list[str]:
        """The ids of all conversations after one, ascending."""
        return await self._read(reads.conversation_ids, after, limit)

    async def blob(self, blob_id: str, user_id: str) -> BlobRow | None:
        """A file as a user sees it in a message."""
        return await self._read(blobs.blob, blob_id, user_id)

    async def upload(self, blob_id: str) -> BlobRow | None:
        """A file, whoever asks."""
        return await self._read(blobs.upload, blob_id)

    async def due_blobs(self, now_ms: int, limit: int) -> list[DueBlob]:
        """What the collector is to look at."""
        return await self._read(blobs.due_blobs, now_ms, limit)

    async def to_moderate(self, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Which of these a moderator need see."""
        return await self._read(moderation.to_moderate, sends)

    async def held_messages(self, after: int, limit: int) -> list[base.HeldRecord]:
        """What is to be reviewed."""
        return await self._read(moderation.held_messages, after, limit)

    async def held_message(self, held_id: int) -> base.HeldRecord | None:
        """One message that is to be reviewed."""
        return await self._read(moderation.held_message, held_id)

    async def idle_streams(
        self, before_ms: int, after_ms: int, limit: int, *, parts: bool = True
    ) -> list[base.IdleStream]:
        """Open streams of which nothing was heard since."""
        return await self._read(references.idle_streams, before_ms, after_ms, limit, parts=parts)

    async def reports(self, after: int, limit: int) -> list[base.ReportRecord]:
        """Open reports."""
        return await self._read(moderation.reports, after, limit)

    async def outbox(self, limit: int) -> list[base.OutboxEntry]:
        """Open outbox entries, those of the oldest conversations first."""
        return await self._read(reads.outbox, limit)

    async def audit(self, conversation_id: str) -> list[base.AuditRow]:
        """The acts in a conversation, in order."""
        return await self._read(audit.audit, conversation_id)

    async def acts(self, wanted: base.AuditFilter, after: int, limit: int) -> list[base.AuditRow]:
        """What was done, in order."""
        return await self._read(audit.acts, wanted, after, limit)

    async def newest_acts(self, wanted: base.AuditFilter, before: int, limit: int) -> list[base.AuditRow]:
        """What was done last, the newest first."""
        return await self._read(audit.newest_acts, wanted, before, limit)

    async def audit_end(self) -> int:
        """The number of the newest row, once whoever writes one at the moment is done."""
        async with self._reading.transaction(READ, self._impatient) as connection:
            return await audit.audit_end(connection)

    async def audit_chains(self, chain: int, number: int, limit: int) -> base.ChainPage:
        """Rows in the order of their chains."""
        return await self._read(audit.audit_chains, chain, number, limit)

    async def unchained_acts(self, after: int, limit: int) -> list[ChainedAct]:
        """Rows from before there were chains, in order."""
        return await self._read(audit.unchained_rows, after, limit)

    async def erasures(self) -> list[base.Erasure]:
        """Those that have begun and not ended."""
        return await self._read(person.erasures)

    async def devices_of(self, user_id: str) -> list[base.KnownDevice]:
        """The user's devices, by id."""
        return await self._read(person.devices_of, user_id)

    async def places_of(self, user_id: str, after_key: int) -> base.PlacePage:
        """The conversations above a number that the user is or was in."""
        return await self._read(person.places_of, user_id, after_key)

    async def messages_of(
        self, conversation_id: str, user_id: str, after: str, limit: int
    ) -> list[base.OwnMessage]:
        """What the user wrote in a conversation, in the order of their keys."""
        return await self._read(person.messages_of, conversation_id, user_id, after, limit)


async def _position_and_mark(connection: Connection) -> tuple[int, bool]:
    return await reads.position(connection), await put_back.is_marked(connection)


_PROBE: Final = (
    "INSERT INTO log_position AS p (slot, added) VALUES (-2, 0) ON CONFLICT (slot) DO UPDATE SET added = 0"
)
"""Writes a row, so that its commit shows that storage takes one."""

_LOCK_ALL_LOGINS: Final = "SELECT pg_advisory_xact_lock(1667785077, 4)"
_MIGRATING: Final = Deadlines(lock_s=600.0, statement_s=3600.0, transaction_s=7200.0)
_NO_RIGHT: Final = ("42501", "3F000")
_VERSION_MIN: Final = 130000

_DURABILITY = "SELECT current_setting(name), name FROM unnest($1::text[]) AS name"


async def _check_server(connection: Connection) -> None:
    """Refuse a server on which an acknowledged message may be lost by a crash, or which cannot hold every text.

    Raises:
        ConfigurationError: It says so by one of its settings.
    """
    ((version, encoding),) = await connection.fetch(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')"
    )
    if version < _VERSION_MIN or encoding != "UTF8":
        raise ConfigurationError(
            f"PostgreSQL {version} with {encoding} cannot hold a log: 13 or newer, and a database in UTF8"
        )
    for value, name in await connection.fetch(
        _DURABILITY, ["synchronous_commit", "fsync", "full_page_writes"]
    ):
        if value == "off":
            raise ConfigurationError(
                f"PostgreSQL runs with {name} = off: what was acknowledged could be lost; turn it on for this database"
            )
