"""The composition root: turns addresses into parts. The one module that knows every implementation."""

from __future__ import annotations

from ._arguments import check_kind
from .errors import ConfigurationError
from .ports import Ids, SystemIds
from .storage.base import Store


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
        f"unknown storage address {_without_login(address)!r}; use sqlite:///PATH, postgresql://HOST/NAME or memory://"
    )


def check_local(role: str, address: str) -> None:
    """Accept `local://`, the only bus and queue there is so far.

    Raises:
        ConfigurationError: Any other address; one that is planned is named as not built yet.
    """
    if address == "local://":
        return
    if address.startswith("nats://"):
        raise ConfigurationError(f"{role} nats:// is not built yet; use local://")
    raise ConfigurationError(f"unknown {role} address {address!r}; use local://")


def _without_login(address: str) -> str:
    """An address for a message: a password may be in it."""
    scheme, separator, rest = address.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
