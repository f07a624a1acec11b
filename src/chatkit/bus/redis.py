"""The bus on Redis or Valkey: PUBLISH and SUBSCRIBE, nothing is kept. For nodes in several processes.

Needs redis-py, of which the asyncio half is used: `pip install "chatkit-engine[redis]"`. What is made of a connection
that ends is `_remote`'s business. redis-py makes connections anew by itself, and subscribes again, and says nothing of
what was missed meanwhile: it shows in a subscription that is confirmed once more than was asked for.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.lowlevel

from ..errors import ConfigurationError
from ..ports import Ports
from ._inbox import QUEUE_BYTES_MAX, QUEUE_MAX
from ._names import PREFIX
from ._outbound import PENDING_BYTES_MAX, PENDING_MAX, Outgoing
from ._remote import BrokenError, Carrier, Dial, Ears, RemoteMember

try:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub
    from redis.asyncio.connection import AbstractConnection
    from redis.exceptions import RedisError, ResponseError
except ImportError:
    raise ConfigurationError('a bus on Redis needs redis-py: pip install "chatkit-engine[redis]"') from None

logger = logging.getLogger(__name__)

_CONNECT_S = 2
_SOCKET_S = 5
"""For each answer of the server to a command."""

_PING_S = 5.0
"""After so long a silence a ping is sent; after as long again the connection counts as broken."""

_CLOSE_S = 0.5
_NAMES_AT_ONCE = 500
_PONG = b"chatkit"

_OPTIONS: dict[str, Any] = {
    "retry": None,  # a publish that is tried again may be carried out twice
    "socket_timeout": _SOCKET_S,
    "socket_connect_timeout": _CONNECT_S,
    "protocol": 2,  # every server's, and enough
    "client_name": "chatkit",
}


class RedisBus(RemoteMember):
    """`bus.base.Bus` for one node, on a Redis or Valkey server.

    Args:
        address: `redis://HOST:PORT`, or `rediss://` for TLS; with `USER:PASSWORD@` or `:PASSWORD@` before the host,
            percent-encoded where they hold special characters. Behind `?` redis-py's parameters that begin with `ssl_`.
            The number of a database has no meaning for a bus.
        prefix: The channels begin with it and a dot: one for each log, where several share a server.
        ports: Random numbers and ids.
        queue_max: Messages that wait for the reader.
        queue_bytes_max: Bytes of their data.
        pending_max: Messages that wait to be sent.
        pending_bytes_max: Their bytes.

    Raises:
        ConfigurationError: No such address.
    """

    def __init__(
        self,
        address: str,
        *,
        prefix: str = PREFIX,
        ports: Ports | None = None,
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        pending_max: int = PENDING_MAX,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        ports = ports or Ports()
        where = _where(address)
        own = f"{prefix}.{ports.ids.token_bytes(8).hex()}"
        super().__init__(
            where,
            [cast(Dial, partial(_dial, address, own))],
            prefix=prefix,
            ports=ports,
            queue_max=queue_max,
            queue_bytes_max=queue_bytes_max,
            pending_max=pending_max,
            pending_bytes_max=pending_bytes_max,
        )


def _where(address: str) -> str:
    """The address without user and password. Raises ConfigurationError."""
    try:
        server = urlsplit(address)
        good = server.scheme in {"redis", "rediss"} and server.hostname and server.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        good = False
    if not good or not all(name.startswith("ssl_") for name, _ in parse_qsl(server.query, True)):
        raise ConfigurationError(
            "a bus on Redis has an address such as redis://HOST:6379 or rediss://:PASSWORD@HOST:6379"
        )
    return f"{server.scheme}://{server.netloc.rpartition('@')[2]}"


async def _dial(address: str, own: str, ears: Ears) -> Carrier:
    carrier = _RedisCarrier(address, own, ears)
    try:
        await carrier.connect()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await carrier.aclose()
        raise
    return carrier


class _RedisCarrier:
    """Two connections of redis-py: one that listens, one that publishes.

    Args:
        own: A channel that nobody publishes on. While it is subscribed to, the listening connection is in the one mode
            in which the server answers pings as messages.
    """

    def __init__(self, address: str, own: str, ears: Ears) -> None:
        self._own, self._ears = own, ears
        with _translated():
            self._client: Redis = Redis.from_url(address, **_OPTIONS)
        self._listening: PubSub = self._client.pubsub()
        self._publishing: AbstractConnection | None = None
        self._asked: Counter[str] = Counter()
        self._warned = False

    async def connect(self) -> None:
        """Raises BrokenError."""
        with _translated():
            pool: Any = self._client.connection_pool  # untyped
            try:
                self._publishing = await pool.get_connection()
            except TypeError as error:  # a parameter of the address that redis-py does not know
                raise BrokenError(str(error)) from error

    async def begin(self, names: Sequence[str]) -> None:
        await self.subscribe([self._own, *names])
        with _translated():
            await self._listening.ping(_PONG)
            while await self._take_next() != _PONG:
                pass

    async def subscribe(self, names: Sequence[str]) -> None:
        with _translated():
            for start in range(0, len(names), _NAMES_AT_ONCE):
                some = names[start : start + _NAMES_AT_ONCE]
                self._asked.update(some)
                await self._listening.subscribe(*some)

    async def unsubscribe(self, names: Sequence[str]) -> None:
        with _translated():
            for start in range(0, len(names), _NAMES_AT_ONCE):
                await self._listening.unsubscribe(*names[start : start + _NAMES_AT_ONCE])

    async def publish(self, batch: Sequence[Outgoing]) -> int:
        assert self._publishing is not None, "connected"
        connection = self._publishing
        refused = 0
        with _translated():
            packed = connection.pack_commands([("PUBLISH", name, frame) for name, frame in batch])
            await connection.send_packed_command(packed)
            for _ in batch:
                try:
                    await connection.read_response()
                except ResponseError as error:  # no right to, or the server is loading or read-only
                    refused += 1
                    self._warn(error)
        return refused

    async def flush(self) -> None:
        """Each publish was answered."""

    async def listen(self) -> None:
        with _translated():
            while True:
                if await self._take_next() is None:
                    await self._listening.ping(_PONG)
                    if await self._take_next() is None:
                        raise BrokenError(f"no answer to a ping within {_PING_S:g} s")

    async def aclose(self) -> None:
        for connection in (self._publishing, self._listening.connection):
            _abort(connection)
        with anyio.move_on_after(_CLOSE_S):
            try:
                await cast(Any, self._listening).aclose()
                await self._client.aclose()
            except (OSError, RedisError) as error:
                logger.debug("closing a connection to Redis: %r", error)
        await anyio.lowlevel.checkpoint()

    async def _take_next(self) -> object:
        """Act on what comes next. Returns its data; None after a silence."""
        message = await self._listening.get_message(timeout=_PING_S)
        if message is None:
            return None
        if message["type"] == "message":
            self._ears.hear(message["channel"].decode(), message["data"])
        elif message["type"] == "subscribe":
            self._subscribed(message["channel"].decode())
        return cast(object, message["data"])

    def _subscribed(self, name: str) -> None:
        if self._asked[name]:
            self._asked[name] -= 1
        else:
            logger.warning("redis-py has made the connection of the bus anew")
            self._ears.lose()
        if not self._asked[name]:
            del self._asked[name]

    def _warn(self, error: Exception) -> None:
        """Once for each connection: it would be said for every message."""
        if not self._warned:
            self._warned = True
            logger.warning("Redis refuses what the bus does: %s", error)


def _abort(connection: object) -> None:
    """Close a socket at once; redis-py leaves it open until a server that stands still has read everything."""
    stream = getattr(connection, "_writer", None)
    if stream is not None:
        stream.transport.abort()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, RedisError, TimeoutError, ValueError) as error:
        raise BrokenError(str(error) or repr(error)) from error
