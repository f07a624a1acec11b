"""What the addresses lead to: the log, the bus, the queue, the issuer's keys. Looked at, never changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import anyio
import msgspec

from ..._abilities import offers
from ...assemble import open_archive, open_bus, open_store
from ...bus.base import Connects
from ...drivers.https import FetchError, fetch
from ...drivers.migrations import is_ours
from ...drivers.postgres import READ, Database, DatabaseError, Deadlines
from ...drivers.sqlite import open_sqlite
from ...errors import ChatkitError, ConfigurationError
from ...ports import SystemClock
from ...server.jwks import DOCUMENT_BYTES_MAX
from ...storage.base import OpensToRead
from ...storage.cold import Archivable
from ...storage.sqlite.opening import APPLICATION_ID
from ...transport.network import Network
from .._capacity import CONNECTIONS_PER_NODE_TO_DATABASE
from ..masking import masked_address
from .base import Finding, Subject, in_thread

NATS_MIN: Final = (2, 12, 6)
"""Older ones can be crashed or misled by strangers (CVE-2026-33222, -33246, -33249)."""

POSTGRES_MIN: Final = 130000
OFFSET_WARNING_S: Final = 2.0
_LINE_BYTES_MAX: Final = 65_536
_KAFKA_PORT, _NATS_PORT = 9092, 4222
_DURABLE: Final = ("synchronous_commit", "fsync", "full_page_writes")
_LOOK: Final = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    current_setting('server_encoding'), (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    to_regclass('conversation') IS NOT NULL,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
"""


async def storage(subject: Subject) -> list[Finding]:
    """Whether the log can be reached, and is one."""
    if subject.file is not None:
        return await in_thread(_sqlite, str(subject.file))  # type: ignore[no-any-return]
    if subject.storage.startswith("memory:"):
        words = "the log is in memory"
        return [
            Finding(
                "storage", "warning", words, "every message is gone when the server ends: for trying only"
            )
        ]
    return await _postgres(subject)


def _sqlite(path: str) -> list[Finding]:
    try:
        with closing(open_sqlite(path, read_only=True)) as connection:
            ((found,),) = connection.execute("PRAGMA application_id")
            known = is_ours(connection, APPLICATION_ID)
    except ChatkitError as error:
        if not _is_there(path):
            return [Finding("storage", "ok", f"{path} will be made by the first server")]
        return [Finding("storage", "failure", str(error), "name another file, or restore a backup")]
    if not known:
        return [Finding("storage", "failure", f"{path} belongs to another program", "name another file")]
    return [Finding("storage", "ok", f"{path} is {'a log of chatkit' if found else 'an empty database'}")]


def _is_there(path: str) -> bool:
    with suppress(OSError), open(path, "rb"):
        return True
    return False


async def _postgres(subject: Subject) -> list[Finding]:
    shown = masked_address(subject.storage)
    try:
        database = Database(subject.storage, connections=1, deadlines=Deadlines())
        await database.open()
        try:
            async with database.transaction(READ) as connection:
                (row,) = await connection.fetch(_LOOK)
                off = [name for name in _DURABLE if await _setting(connection, name) == "off"]
        finally:
            await database.aclose()
    except (ChatkitError, DatabaseError) as error:
        return [
            Finding("storage", "failure", f"{shown}: {error}", "see the address, its password and the server")
        ]
    return [
        _server(shown, row, off),
        *_room(row[5], subject.workers),
        _offset("the database", row[3] / 1000, subject),
    ]


def _room(connections: int, workers: int) -> list[Finding]:
    """Whether the database lets all processes of this server in at once; other programs are not known here."""
    wanted = workers * CONNECTIONS_PER_NODE_TO_DATABASE
    if wanted <= connections:
        return []
    words = f"the database takes {connections} connections, and {workers} processes open up to {wanted}"
    return [Finding("storage", "warning", words, "raise max_connections, or give fewer --workers")]


async def _setting(connection: Any, name: str) -> str:
    ((value,),) = await connection.fetch("SELECT current_setting($1)", name)
    return str(value)


def _server(shown: str, row: Any, off: list[str]) -> Finding:
    number, version, encoding, _, is_log, _ = row
    if number < POSTGRES_MIN or encoding != "UTF8":
        words = f"{shown} is PostgreSQL {version} with {encoding}"
        return Finding("storage", "failure", words, "take PostgreSQL 13 or newer, and a database in UTF8")
    if off:
        words = f"{shown} has {', '.join(off)} off"
        return Finding("storage", "failure", words, "switch it on: a crash would lose acknowledged messages")
    made = "which holds a log" if is_log else "which has no log yet"
    return Finding("storage", "ok", f"{shown} is PostgreSQL {version}, {made}")


def _offset(whose: str, their_s: float, subject: Subject) -> Finding:
    """How far the clock here is from another one: tokens and stamps of several nodes are compared."""
    offset_s = abs(SystemClock().now_ms() / 1000 - their_s)
    words = f"the clock here and that of {whose} differ by {offset_s:.1f} s"
    advice = "let NTP or chrony keep the time on both machines"
    if offset_s > subject.config.token_leeway_s:
        return Finding("offset", "failure", words, advice)
    return Finding(
        "offset", "warning" if offset_s > OFFSET_WARNING_S else "ok", words, advice * (offset_s > 2)
    )


async def bus(subject: Subject) -> list[Finding]:
    """Whether the bus takes us, and is new enough."""
    if subject.bus == "local://":
        return []
    shown = masked_address(subject.bus)
    try:
        member = open_bus(subject.bus)
        try:
            if offers(member, Connects):
                await member.connect()
        finally:
            if member is not None:
                await member.aclose()
    except ConfigurationError as error:
        return [
            Finding("bus", "failure", f"{shown}: {error}", "see the address, its password and the server")
        ]
    findings = [Finding("bus", "ok", f"{shown} takes us")]
    if subject.bus.startswith(("nats://", "tls://")):
        findings += await _nats("bus", subject.bus, wants_jetstream=False)
    return findings


async def queue(subject: Subject) -> list[Finding]:
    """Whether the delivery queue is there, and is one."""
    if subject.queue is None or subject.queue.startswith("memory:"):
        return []
    if subject.queue.startswith("kafka://"):
        return [await _kafka(subject.queue)]
    return await _nats("queue", subject.queue, wants_jetstream=True)


async def _nats(check: str, address: str, *, wants_jetstream: bool) -> list[Finding]:
    """What the first server that answers says of itself: a NATS server speaks first."""
    greeting = await _ask(address, _NATS_PORT, b"", lambda data: data.endswith(b"\n"))
    if greeting is None or not greeting.startswith(b"INFO "):
        words = f"{masked_address(address)} does not greet as NATS does"
        return [Finding(check, "failure", words, "see the address and the server")]
    try:
        greeted = msgspec.json.decode(greeting[5:], type=dict[str, Any])
    except msgspec.DecodeError:
        greeted = {}
    return [
        _nats_version(check, str(greeted.get("version", ""))),
        *_jetstream(check, greeted, wants_jetstream),
    ]


def _nats_version(check: str, version: str) -> Finding:
    numbers = tuple(int(it) for it in version.partition("-")[0].split(".") if it.isdigit())
    if numbers >= NATS_MIN:
        return Finding(check, "ok", f"nats-server {version}")
    words = f"nats-server {version or 'of no known version'} has faults that strangers can use"
    return Finding(check, "warning", words, "take 2.12.6 or newer, and let nobody else reach it")


def _jetstream(check: str, greeted: Mapping[str, Any], wanted: bool) -> list[Finding]:
    if not wanted or greeted.get("jetstream") is True:
        return []
    return [Finding(check, "failure", "the server has no JetStream", "start nats-server with --jetstream")]


_KAFKA_VERSIONS: Final = b"\x00\x12\x00\x00\x00\x00\x00\x07\x00\x07chatkit"
"""ApiVersions, version 0, correlation id 7: every broker answers it."""


async def _kafka(address: str) -> Finding:
    shown = masked_address(address)
    request = len(_KAFKA_VERSIONS).to_bytes(4, "big") + _KAFKA_VERSIONS
    answer = await _ask(address, _KAFKA_PORT, request, lambda data: len(data) >= 8)
    if answer is None or answer[4:8] != b"\x00\x00\x00\x07":
        return Finding(
            "queue", "failure", f"{shown} does not answer as Kafka does", "see the address and the server"
        )
    return Finding("queue", "ok", f"{shown} answers as Kafka does")


async def _ask(address: str, port: int, request: bytes, is_whole: Callable[[bytes], bool]) -> bytes | None:
    """What the first server of an address answers; None if nobody does."""
    scheme, _, rest = address.partition("?")[0].partition("://")
    for server in rest.rpartition("@")[2].split(","):
        place = urlsplit(f"{scheme}://{server.rpartition('://')[2]}")
        try:
            stream = await anyio.connect_tcp(place.hostname or "", place.port or port)
        except OSError:
            continue
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.send(request) if request else None
                data = b""
                while not is_whole(data) and len(data) < _LINE_BYTES_MAX:
                    data += await stream.receive()
                return data
    return None


async def archive(subject: Subject) -> list[Finding]:
    """Whether the archive lets us in: one name of it is asked for. Without one, whether the log does without."""
    if subject.archive is None:
        return await _missing_archive(subject) if subject.reads_archive else []
    return [await _objects("archive", subject.archive, "old messages are archived")]


async def blobs(subject: Subject) -> list[Finding]:
    """Whether the place for uploaded files lets us in."""
    if subject.blobs is None:
        return []
    return [await _objects("blobs", subject.blobs, "uploaded files are kept")]


async def _objects(check: str, address: str, what: str) -> Finding:
    """Whether a folder can be written, or a bucket lets us in: one name of it is asked for."""
    shown = masked_address(address)
    if address.startswith("memory:"):
        advice = "they are gone when the server ends: for trying only"
        return Finding(check, "warning", f"{what} in memory", advice)
    if address.startswith(("file://", "dir://")) and not await in_thread(_can_be_made, address):
        return Finding(check, "failure", f"{shown} cannot be written", "give it to the user of the server")
    try:
        store = open_archive(address)
        try:
            names = await store.names("", "", 1)
        finally:
            await store.aclose()
    except ChatkitError as error:
        return Finding(check, "failure", f"{shown}: {error}", "see the address, its keys and its rights")
    found = "there is something in it" if names else "there is nothing in it yet"
    return Finding(check, "ok", f"{shown} lets us in; {found}")


async def _missing_archive(subject: Subject) -> list[Finding]:
    store = open_store(subject.storage)
    if not offers(store, Archivable) or not offers(store, OpensToRead):
        return []
    try:
        await store.open_to_read()
        try:
            is_needed = bool(await store.cold.ranges((0, 0), 1))
        finally:
            await store.aclose()
    except ChatkitError:  # no log yet, or none that can be read: `storage` says so
        return []
    if not is_needed:
        return []
    words = "older messages of the log are in an archive, and none is given: no server starts"
    return [Finding("archive", "failure", words, "give it by --archive")]


def _can_be_made(address: str) -> bool:
    """Whether a folder can be written, or made."""
    folder = Path(unquote(address.partition("://")[2]))
    there = next((it for it in (folder, *folder.parents) if it.exists()), Path("/"))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


async def issuer(subject: Subject) -> list[Finding]:
    """Whether the issuer's keys can be fetched, and how far its clock is from this one."""
    if subject.jwks_url is None:
        return []
    network = Network()
    secure = subject.jwks_url.startswith("https:")
    try:
        document = await fetch(
            subject.jwks_url,
            bytes_max=DOCUMENT_BYTES_MAX,
            timeout_s=5.0,
            ssl_context=await network.ssl_context() if secure else None,
            proxy=network.proxy_for(subject.jwks_url),
        )
    except (FetchError, ConfigurationError) as error:
        words = f"the issuer's keys: {error}"
        return [Finding("issuer", "failure", words, "nobody can log in until they can be fetched")]
    findings = [Finding("issuer", "ok", "the issuer's keys can be fetched")]
    with suppress(ValueError, TypeError):
        findings.append(_offset("the issuer", parsedate_to_datetime(document.date).timestamp(), subject))
    return findings
