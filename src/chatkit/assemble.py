"""The composition root: turns addresses into parts. The one module that knows every implementation."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode

from ._arguments import check_kind
from .archive.base import ArchiveStore
from .bus._names import PREFIX
from .bus.base import Bus
from .errors import ConfigurationError
from .ports import Ids, Ports, SystemIds
from .push.base import PushProvider
from .queue.base import Queue
from .server.delivery.config import DeliveryConfig
from .storage.base import Store

Providers = Mapping[str, PushProvider]
"""Ways to devices, by the names that devices register with."""

_PROVIDERS: Final = {
    "apns": "ApnsPushProvider",
    "fcm": "FcmPushProvider",
    "webpush": "WebPushProvider",
    "webhook": "WebhookPushProvider",
    "log": "LogPushProvider",
}
"""By the module of `push` that holds each."""


def open_store(address: str, *, ids: Ids | None = None) -> Store:
    """The store behind an address; nothing is opened before the server is entered.

    Args:
        address: `memory://`, `sqlite:///PATH` (relative; four slashes for an absolute path), or
            `postgresql://USER@HOST:PORT/NAME` (docs/deploying.md).
        ids: Where the log's secret comes from.

    Raises:
        ConfigurationError: Nobody serves such an address.
    """
    check_kind("address", address, str, hint="; sqlite:///PATH for a file")
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "memory" and not rest:
        from .storage.memory import MemoryStore

        return MemoryStore(ids=ids or SystemIds())
    if separator and scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        from .storage.sqlite import SqliteStore

        return SqliteStore(rest[1:], ids=ids or SystemIds())
    if separator and scheme in {"postgresql", "postgres"} and rest:
        from .storage.postgres import PostgresStore

        return PostgresStore(address, ids=ids or SystemIds())
    raise ConfigurationError(
        f"unknown storage address {without_login(address)!r}; use sqlite:///PATH, postgresql://HOST/NAME or memory://"
    )


_BUS_ADDRESSES = "use local://, nats://HOST:4222, tls://HOST:4222, redis://HOST:6379 or rediss://HOST:6379"


def open_bus(address: str, *, ports: Ports | None = None) -> Bus | None:
    """A place on the bus behind an address; nothing is connected before the server is entered.

    Args:
        address: `local://` for a server that is alone on its log; `nats://` or `tls://` for NATS (the extra `nats`),
            `redis://` or `rediss://` for Redis or Valkey (the extra `redis`), as `NatsBus` and `RedisBus` take them.
            `?prefix=NAME` behind it keeps the servers of one log from those of another that share the bus.
        ports: Random numbers and ids.

    Returns:
        What `ChatServer` takes as `bus`: None for `local://`.

    Raises:
        ConfigurationError: Nobody serves such an address, or an extra is missing.
    """
    check_kind("address", address, str, hint="; local:// for a server that is alone on its log")
    if address == "local://":
        return None
    server, prefix = _without_prefix(address)
    scheme, separator, _ = server.partition("://")
    if separator and scheme in {"nats", "tls"}:
        from .bus.nats import NatsBus

        return NatsBus(server, prefix=prefix, ports=ports)
    if separator and scheme in {"redis", "rediss"}:
        from .bus.redis import RedisBus

        return RedisBus(server, prefix=prefix, ports=ports)
    raise ConfigurationError(f"unknown bus address; {_BUS_ADDRESSES}")  # it may hold a password


def _without_prefix(address: str) -> tuple[str, str]:
    server, _, query = address.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    given = [value for name, value in pairs if name == "prefix"]
    rest = urlencode([pair for pair in pairs if pair[0] != "prefix"])
    return f"{server}?{rest}" if rest else server, given[-1] if given else PREFIX


_QUEUE_ADDRESSES = "use memory://, jetstream://HOST:4222, jetstream+tls://HOST:4222 or kafka://HOST:9092"


def open_queue(address: str, *, ports: Ports | None = None) -> Queue:
    """The delivery queue behind an address; nothing is connected before `connect`, or the first use.

    Args:
        address: `memory://` for workers of one process; `jetstream://` or `jetstream+tls://` for NATS JetStream (the
            extra `nats`), as `JetStreamQueue` takes them, with `?prefix=NAME&replicas=3`; `kafka://` for Kafka (the
            extra `kafka`), as `KafkaQueue` takes it, with `?topic=NAME&group=NAME&partitions=12&replicas=3`.
            Everywhere `visibility_s`, for JetStream and in memory also `items_max`.
        ports: Clock, random numbers and ids.

    Returns:
        One that `queue.base.Connects` describes too, unless it is in memory.

    Raises:
        ConfigurationError: Nobody serves such an address, an option is none, or an extra is missing.
    """
    check_kind("address", address, str, hint="; memory:// for workers of one process")
    server, _, query = address.partition("?")
    scheme, separator, rest = server.partition("://")
    ports = ports or Ports()
    if separator and scheme == "memory" and not rest:
        from .queue.local import LocalQueue

        return LocalQueue(clock=ports.clock, **_options_of(query, items_max=int, visibility_s=float))
    if separator and scheme in {"jetstream", "jetstream+tls"}:
        from .queue.jetstream import JetStreamQueue

        options = _options_of(query, prefix=str, replicas=int, items_max=int, visibility_s=float)
        return JetStreamQueue(server, ports=ports, **options)
    if separator and scheme == "kafka":
        from .queue.kafka import KafkaQueue

        options = _options_of(query, topic=str, group=str, partitions=int, replicas=int, visibility_s=float)
        return KafkaQueue(server, ports=ports, **options)
    raise ConfigurationError(f"unknown queue address; {_QUEUE_ADDRESSES}")  # it may hold a password


_ARCHIVE_ADDRESSES = (
    "use file:///FOLDER or dir:///FOLDER (an absolute path), s3://BUCKET/PREFIX?region=NAME or memory://"
)


def open_archive(address: str) -> ArchiveStore:
    """A place for objects behind an address, for an archive or for uploaded files; nothing is opened or made before the
    first use.

    Args:
        address: `file:///FOLDER`, or `dir:///FOLDER`, for a folder of this machine; `s3://BUCKET/PREFIX` for S3, with
            `?region=NAME` and, for another service that speaks its protocol, `?endpoint=URL` (the extra `archive`);
            `memory://` for tests.

    Raises:
        ConfigurationError: Nobody serves such an address, or an extra is missing.
    """
    check_kind("address", address, str, hint="; file:///FOLDER for a folder")
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "memory" and not rest:
        from .archive.memory import MemoryArchive

        return MemoryArchive()
    if separator and scheme in ("file", "dir") and rest.startswith("/") and rest.strip("/"):
        from .archive.directory import DirectoryArchive

        return DirectoryArchive(unquote(rest))
    if separator and scheme == "s3":
        from .archive.s3 import S3Archive

        return S3Archive(address)
    raise ConfigurationError(
        f"unknown address of a folder or bucket; {_ARCHIVE_ADDRESSES}"
    )  # it may hold a password


def _options_of(query: str, **kinds: Callable[[str], Any]) -> dict[str, Any]:
    """What stands behind the question mark of an address. Raises ConfigurationError for any other name, or value.

    The message holds neither: a password with a question mark in it ends up here.
    """
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in kinds:
            raise ConfigurationError(f"unknown option in a queue address; it may have {', '.join(kinds)}")
        try:
            options[name] = kinds[name](value)
        except ValueError:
            raise ConfigurationError(f"{name} in a queue address must be a number") from None
    return options


def open_push(
    path: str | os.PathLike[str], *, ports: Ports | None = None
) -> tuple[Providers, DeliveryConfig]:
    """What a push file names: the ways to devices, and the settings of the delivery worker.

    A TOML file with a table for each provider. Its name is what devices register with; its kind (`apns`, `fcm`,
    `webpush`, `webhook` or `log`) is the value of `kind`, or else the name. The other values are the arguments of the
    provider; one that ends in `_file` names a file that holds the value, beside this one. A table `delivery` holds
    fields of `DeliveryConfig`. See docs/push.md.

    Raises:
        ConfigurationError: The file or one that it names cannot be read, or a value is wrong; names which.
    """
    return make_push(_read_toml(Path(path)), Path(path).parent, str(path), ports=ports)


def make_push(
    tables: Mapping[str, Any], folder: Path, where: str, *, ports: Ports | None = None
) -> tuple[Providers, DeliveryConfig]:
    """What the tables of a push file name, as `open_push` says.

    Args:
        tables: A table for each provider, and `delivery`.
        folder: What the paths in them are below.
        where: What errors begin with.
        ports: Clock, random numbers and ids.

    Raises:
        ConfigurationError: A file that they name cannot be read, or a value is wrong; names which.
    """
    providers, config = {}, DeliveryConfig()
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{where}: {name} must be a table, such as [{name}]")
        try:
            if name == "delivery":
                config = DeliveryConfig(**table)
            else:
                providers[name] = _provider(name, {**table}, folder, ports)
        except (TypeError, ConfigurationError) as error:  # TypeError: no such argument, or one is missing
            raise ConfigurationError(f"{where}: [{name}]: {error}") from None
    return providers, config


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from None


def _provider(name: str, values: dict[str, Any], folder: Path, ports: Ports | None) -> PushProvider:
    kind = values.pop("kind", name)
    for argument in [it for it in values if it.endswith("_file")]:
        file = folder / str(values.pop(argument))
        try:
            values[argument.removesuffix("_file")] = file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot read {file}: {error}") from None
    if kind not in _PROVIDERS:
        raise ConfigurationError(f"unknown kind {kind!r}; use {', '.join(_PROVIDERS)}")
    make = getattr(import_module(f".push.{kind}", __package__), _PROVIDERS[kind])
    provider: PushProvider = make(**values, ports=ports)
    return provider


def without_login(address: str) -> str:
    """An address for a message: a password may be in it."""
    scheme, separator, rest = address.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
