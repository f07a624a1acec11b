"""The request that makes a connection a WebSocket, as nearly every client sends it: read by hand, without ASGI.

What is taken here would be taken by HTTP's parser, by `websockets` and by the app too, and is answered alike. Whatever
is unusual or wrong is left to them as it came, so that there is one judge of what is legal, and one place that refuses.
Called by `websocket_protocol`. Source: RFC 6455 section 4.2; docs/design/0025-the-fast-path.md
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from ..server.login_request import LoginRequest
from ..server.server import ChatServer
from ..wire.codec import Codec
from .http_head import HEADERS_MAX
from .websocket_asgi import WEBSOCKET_PATH, ChatApp

_START = f"GET {WEBSOCKET_PATH} HTTP/1.1\r\n".encode()
_BYTES_MAX = 8 * 1024
_FIELDS = re.compile(rb"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]++:[\t -~]*+\r\n)++\r\n")
_TOKENS = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++(?:[\t ]*+,[\t ]*+[-!#$%&'*+.^_`|~0-9A-Za-z]++)*+")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONNECTION = frozenset({b"upgrade", b"keep-alive, upgrade"})
_WITH_A_BODY = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class Upgrade(NamedTuple):
    """A request that is taken.

    Attributes:
        headers: By name in lower case; there is one of each.
        rest: What came behind it.
    """

    headers: dict[bytes, bytes]
    rest: bytes

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers."""
        offered = self.headers.get(b"sec-websocket-protocol")
        return [] if offered is None else [it.strip(" \t") for it in offered.decode("ascii").split(",")]

    def answer(self, subprotocol: str | None, more: Sequence[tuple[bytes, bytes]]) -> bytes:
        """What makes it a WebSocket; with further headers."""
        # SHA-1 is what the RFC says; it proves nothing, and protects nobody
        digest = hashlib.sha1(self.headers[b"sec-websocket-key"] + _GUID, usedforsecurity=False).digest()
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest),
            *(name + b": " + value for name, value in more),
        ]
        if subprotocol is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
        return b"\r\n".join([*lines, b"", b""])


def is_unfinished(data: bytes) -> bool:
    """Whether this may be the beginning of such a request, which has not ended yet."""
    if not data.startswith(_START):
        return _START.startswith(data)
    whole = b"\r\n\r\n" in data or len(data) > _BYTES_MAX
    return not whole and data.count(b"\n") == data.count(b"\r\n")  # others are judged as they come


def upgrade_of(data: bytes) -> Upgrade | None:
    """The request that a connection begins with; None if it is none that is certainly legal."""
    if not data.startswith(_START) or (fields := _FIELDS.match(data, len(_START))) is None:
        return None
    end = fields.end()
    lines = data[len(_START) : end - 4].split(b"\r\n")
    if end > _BYTES_MAX or len(lines) > HEADERS_MAX:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip(b" \t")
    is_one = (
        len(headers) == len(lines)
        and headers.get(b"upgrade", b"").lower() == b"websocket"
        and headers.get(b"connection", b"").lower() in _CONNECTION
        and headers.get(b"sec-websocket-version") == b"13"
        and _KEY.fullmatch(headers.get(b"sec-websocket-key", b"")) is not None
        and _TOKENS.fullmatch(headers.get(b"sec-websocket-protocol", b"none")) is not None
        and b"host" in headers
        and _WITH_A_BODY.isdisjoint(headers)
    )
    return Upgrade(headers, data[end:]) if is_one else None


class Door:
    """Takes clients in where a uvicorn server's settings leave nothing to negotiate, and nothing is around the app.

    Args:
        config: Loaded.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        app: Any = config.loaded_app
        self._proxies: Any = None
        if type(app) is ProxyHeadersMiddleware:  # uvicorn's own
            app, self._proxies = app.app, app.trusted_hosts
        fixed = not (config.root_path or config.ws_ping_interval or config.ws_per_message_deflate)
        self._app = app if fixed and isinstance(app, ChatApp) else None

    @property
    def is_open(self) -> bool:
        """Whether anybody may be taken in here."""
        return self._app is not None and self._app.endpoint is not None

    def admit(
        self, upgrade: Upgrade, client: tuple[str, int] | None
    ) -> tuple[ChatServer, Codec, LoginRequest] | None:
        """Whose session it will be, in which wire form, and what came with it; None: the app decides.

        Args:
            upgrade: The request.
            client: The address of the peer.
        """
        endpoint = None if self._app is None else self._app.endpoint
        if endpoint is None:
            return None
        forwarded = upgrade.headers.get(b"x-forwarded-for")
        return endpoint.admit(upgrade.subprotocols, upgrade.headers, self._client(forwarded, client))

    def _client(self, forwarded: bytes | None, peer: tuple[str, int] | None) -> tuple[str, int] | None:
        """The client that a proxy speaks for, if it is one that is trusted."""
        if forwarded is not None and self._proxies is not None and (peer and peer[0]) in self._proxies:
            host, port = self._proxies.get_trusted_client_address(forwarded.decode("ascii"))
            return (host, port) if host else peer
        return peer


_doors: WeakKeyDictionary[ServerState, Door] = WeakKeyDictionary()


def door_of(state: ServerState, config: uvicorn.Config) -> Door:
    """The door of a uvicorn server."""
    found = _doors.get(state)
    if found is None:
        found = _doors[state] = Door(config)
    return found
