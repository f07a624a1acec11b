"""`python -m tests.durability.failing_server` instead of `chatkit serve`: the server that kills itself at a place.

`KILL_AT=name:n` is the place and which passage through it is the last one, counted from when the file `KILL_WHEN`
exists. The real objects are wrapped before the real command runs; nothing in the product knows of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from chatkit.cli import login_options
from chatkit.cli import serve as serving
from chatkit.core.log.state import MessageRow
from chatkit.drivers.sqlite import Connection, Params, Row, open_sqlite
from chatkit.gateway.websocket_protocol import ChatWebSocketProtocol
from chatkit.ports import SystemIds
from chatkit.server.auth import Authenticator, jwt_authenticator
from chatkit.server.live.hub import Hub
from chatkit.storage.base import Entry, Store
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite import write as sqlite_write
from chatkit.storage.sqlite.select import with_keys
from chatkit.types import Identity
from chatkit.wire.codec import Codec
from chatkit.wire.events import SendMsg

PLACE, ARMED_BY = "KILL_AT", "KILL_WHEN"
_INTO_MESSAGE, _ = sqlite_write.INSERT_MESSAGE.split("{keys}")
_MESSAGE_WIDTH = len(MessageRow._fields)


class FailPoint:
    """The one place at which this process dies.

    Args:
        name: Of the place.
        passages: Which passage is the last one, from 1.
        armed_by: Passages count once this file exists.
    """

    def __init__(self, name: str, passages: int, armed_by: Path) -> None:
        self._name = name
        self._left = passages
        self._armed_by = armed_by

    def armed(self, name: str) -> bool:
        """Whether this passage through a place is the last one."""
        if name != self._name or not self._armed_by.exists():
            return False
        self._left -= 1
        return self._left == 0

    def passed(self, name: str) -> None:
        """The process is at a place; it may not come back from here."""
        if self.armed(name):
            self.die()

    def die(self) -> None:
        """SIGKILL oneself, after a line for the log that says where."""
        os.write(2, f"killed at {self._name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


class FailingConnection:
    """A writer's connection with places around each step of a transaction."""

    def __init__(self, inner: Connection, point: FailPoint) -> None:
        self._inner = inner
        self._point = point
        self.execute: Callable[..., list[Row]] = inner.execute
        self.rollback = inner.rollback
        self.close = inner.close

    def begin(self) -> None:
        self._inner.begin()
        self._point.passed("begin")

    def change(self, sql: str, params: Params = ()) -> int:
        if sql.startswith(_INTO_MESSAGE):
            return self._insert_one_by_one(params)
        return self._inner.change(sql, params)

    def _insert_one_by_one(self, params: Params) -> int:
        """What goes into the log in one statement, in a statement for each message, so that death may come between."""
        written = 0
        for first in range(0, len(params), _MESSAGE_WIDTH):
            row = params[first : first + _MESSAGE_WIDTH]
            if row[0] != 0:
                written += self._inner.change(with_keys(sqlite_write.INSERT_MESSAGE, 1, _MESSAGE_WIDTH), row)
                self._point.passed("insert_message")
        return written

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        self._inner.executemany(sql, rows)
        if sql == sqlite_write.UPDATE_HEAD:
            self._point.passed("counter")
        elif sql == sqlite_write.INSERT_OUTBOX:
            self._point.passed("insert_outbox")

    def commit(self) -> None:
        self._point.passed("before_commit")
        self._inner.commit()
        self._point.passed("after_commit")


class FailingTransport:
    """A socket's transport at which an acknowledgement may leave in part, or be the last that leaves."""

    def __init__(self, inner: Any, point: FailPoint) -> None:
        self._inner = inner
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, frame: bytes) -> None:
        if b'"MSG_ACK"' in frame:
            self._last("ack_half_written", frame[: len(frame) // 2])
            self._last("ack_written", frame)
        elif b'"NEW_MSG"' in frame:
            self._point.passed("push")
        self._inner.write(frame)

    def _last(self, name: str, part: bytes) -> None:
        """These bytes leave at once, past all buffers, and are the last."""
        if self._point.armed(name):
            os.write(self._inner.get_extra_info("socket").fileno(), part)
            self._point.die()


def wrap(point: FailPoint) -> None:
    """Put every place around the real objects."""
    _replace(serving, "open_store", _failing_store(point))
    _replace(login_options, "jwt_authenticator", _failing_login(point, jwt_authenticator))
    _replace(serving, "ChatWebSocketProtocol", _failing_protocol(point))
    _replace(Codec, "client_events", _failing_decoder(point, Codec.client_events))
    _replace(Hub, "publish", _failing_publish(point, Hub.publish))
    _replace(Hub, "publish_run", _failing_run(point, Hub.publish_run))


def _replace(owner: Any, name: str, stand_in: Any) -> None:
    assert hasattr(owner, name)
    setattr(owner, name, stand_in)


def _failing_store(point: FailPoint) -> Callable[[str], Store]:
    def connect(path: str, *, read_only: bool = False) -> Connection:
        inner = open_sqlite(path, read_only=read_only)
        return inner if read_only else FailingConnection(inner, point)

    def open_store(address: str) -> Store:
        return SqliteStore(address.removeprefix("sqlite:///"), ids=SystemIds(), connect=connect)

    return open_store


def _failing_login(point: FailPoint, real: Callable[[str], Authenticator]) -> Callable[[str], Authenticator]:
    def authenticator(secret: str) -> Authenticator:
        authenticate = real(secret)

        async def authenticated(token: str) -> Identity:
            identity = await authenticate(token)
            point.passed("auth")
            return identity

        return authenticated

    return authenticator


def _failing_protocol(point: FailPoint) -> type[ChatWebSocketProtocol]:
    class FailingProtocol(ChatWebSocketProtocol):
        def connection_made(self, transport: Any) -> None:
            wrapped: Any = FailingTransport(transport, point)
            super().connection_made(wrapped)

    return FailingProtocol


def _failing_decoder(point: FailPoint, real: Callable[..., Any]) -> Callable[..., Any]:
    def client_events(codec: Codec, frame: bytes | str) -> Any:
        events = real(codec, frame)
        if any(isinstance(event, SendMsg) for event in events):
            point.passed("parse")
        return events

    return client_events


def _failing_publish(point: FailPoint, real: Callable[..., int]) -> Callable[..., int]:
    def publish(hub: Hub, entry: Entry, origin: Any) -> int:
        point.passed("publish")
        return real(hub, entry, origin)

    return publish


def _failing_run(point: FailPoint, real: Callable[..., list[int]]) -> Callable[..., list[int]]:
    def publish_run(hub: Hub, entries: Sequence[Entry], origin: Any) -> list[int]:
        for _ in entries:
            point.passed("publish")
        return real(hub, entries, origin)

    return publish_run


def main() -> None:
    """Wrap, then run the real command."""
    name, _, passages = os.environ[PLACE].partition(":")
    wrap(FailPoint(name, int(passages), Path(os.environ[ARMED_BY])))
    serving.serve()


if __name__ == "__main__":
    main()
