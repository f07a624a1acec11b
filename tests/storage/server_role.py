"""The role that servers log in as: it has the rights of `chatkit postgres grants`, and is not the owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chatkit.storage.postgres.grants import grants
from tests.servers.postgres import PostgresServer, serving

ROLE = 'the "app"'
_MAKE = 'CREATE ROLE "the ""app""" LOGIN;'


@contextmanager
def serving_a_role() -> Iterator[PostgresServer]:
    """A server on whose `empty_log` the role may do what servers do; its rights were given twice."""
    with serving() as server:
        database = server.empty_log().partition("?")[0].rpartition("/")[2]
        server.query(database, _MAKE + 2 * grants(ROLE, "public"))
        yield server


def as_role(owner: str) -> str:
    """The address by which a server logs in."""
    return owner.replace("chatkit@", "the%20%22app%22@")
