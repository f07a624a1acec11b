"""What the bus and the queue on NATS share: addresses, and a connection of nats-py that can be relied on.

Needs nats-py, which is made for asyncio: `pip install "chatkit-engine[nats]"`. Its own reconnecting is switched off,
for after some errors of a server it gives up; whoever uses a connection makes the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

import anyio
import anyio.lowlevel

from ..errors import ConfigurationError

try:
    from nats import errors
    from nats.aio.client import Client
except ImportError:
    raise ConfigurationError('NATS needs nats-py: pip install "chatkit-engine[nats]"') from None

logger = logging.getLogger(__name__)

FAILURES = (OSError, errors.Error, TimeoutError, ValueError)
"""What nats-py raises when a connection is no good. ValueError: a first line without an end."""

_CONNECT_S = 2
"""For each step of a connection: TCP, TLS, the server's greeting, the answer to ours."""

_PING_S = 5
"""Between pings; after two without an answer the connection counts as broken."""

_CLOSE_S = 0.5
_TRIES = 1  # nats-py makes one more than it is told; with 0 it would try for ever


def servers_of(address: str, schemes: Mapping[str, bool], what: str) -> list[SplitResult]:
    """The servers that an address names, separated by commas.

    Args:
        address: One scheme and `://`, then servers; each may repeat a scheme. `USER:PASSWORD@` or
            `TOKEN@` before a host.
        schemes: Those that are allowed, and whether they insist on TLS.
        what: What a good address looks like, for people.

    Raises:
        ConfigurationError: No such address. The message does not hold it.
    """
    scheme = address.partition("://")[0]
    parts = [part.strip() for part in address.split(",")]
    return [_server(part if "://" in part else f"{scheme}://{part}", schemes, what) for part in parts]


def _server(address: str, schemes: Mapping[str, bool], what: str) -> SplitResult:
    try:
        server = urlsplit(address)
        good = server.scheme in schemes and server.hostname and server.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        good = False
    if not good or server.path not in {"", "/"} or server.query or server.fragment:
        raise ConfigurationError(what)
    return server._replace(scheme="tls" if schemes[server.scheme] else "nats")


def url_of(server: SplitResult) -> str:
    """Without user and password."""
    return f"{server.scheme}://{server.netloc.rpartition('@')[2]}"


def _credentials(server: SplitResult) -> dict[str, str]:
    """nats-py would take them from the URL as they are, and cannot have a slash in them."""
    if server.username is None:
        return {}
    if server.password is None:
        return {"token": unquote(server.username)}
    return {"user": unquote(server.username), "password": unquote(server.password)}


class NatsClient(Client):
    """nats-py's client for one connection to one server, with what it lacks.

    TLS that is insisted on (`tls://` alone encrypts only if the server wants it), and an end that waits for nobody.
    """

    def __init__(self, server: SplitResult) -> None:
        super().__init__()
        self._server = server

    async def open(
        self, on_error: Callable[[Exception], Awaitable[None]], on_end: Callable[[], Awaitable[None]]
    ) -> None:
        """Connect. Raises one of FAILURES; `end` is to be called then too."""
        await self.connect(
            url_of(self._server),
            **cast(dict[str, Any], _credentials(self._server)),
            name="chatkit",
            no_echo=True,
            allow_reconnect=False,
            max_reconnect_attempts=_TRIES,
            reconnect_time_wait=0,
            connect_timeout=_CONNECT_S,
            ping_interval=_PING_S,
            error_cb=on_error,
            disconnected_cb=on_end,
            closed_cb=on_end,
        )

    async def publish_all(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """Publish frames on subjects that are good, each below the server's bound: one command for all of them.

        nats-py's own `publish` checks and queues each by itself, a third of what it costs a node to tell of a message.
        """
        if not self.is_connected:
            raise errors.ConnectionClosedError
        if batch:
            parts = [b"PUB %b %d\r\n%b\r\n" % (name.encode(), len(frame), frame) for name, frame in batch]
            await self._send_command(b"".join(parts))
            await self._flush_pending()

    async def end(self) -> None:
        """Close, in bounded time and whatever state the connection is in."""
        with anyio.move_on_after(_CLOSE_S):
            try:
                await self.close()
            except (OSError, errors.Error) as error:
                logger.debug("closing a connection to NATS: %r", error)
        self._abort()
        await anyio.lowlevel.checkpoint()

    def _connect_command(self) -> bytes:
        """Called right before user and password are sent."""
        if self._server.scheme == "tls" and self._stream().get_extra_info("ssl_object") is None:
            raise errors.SecureConnWantedError
        return super()._connect_command()

    def _abort(self) -> None:
        """Close the socket at once; `close` waits until a server that stands still has read everything."""
        stream = self._stream()
        if stream is not None:
            stream.transport.abort()

    def _stream(self) -> Any:
        return getattr(self._transport, "_io_writer", None)
