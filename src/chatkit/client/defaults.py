"""The client's composition root: which store, road and HTTP client stand behind plain arguments.

The one module of the client that knows the implementations; called by `client` alone, once per client.
"""

from __future__ import annotations

from ..errors import ConfigurationError
from ..ports import Ports
from ..transport.base import Connector
from ..transport.websocket import WebSocketConnector
from ..wire.codec import JSON, MSGPACK, Codec
from .api import ChatApi
from .base import LocalStore
from .config import ClientConfig
from .memory import MemoryStore
from .sqlite import SqliteStore
from .tokens import Token

_CODECS = {"json": JSON, "msgpack": MSGPACK}


def codec_named(name: str) -> Codec:
    """The codec. Raises ConfigurationError for another name."""
    codec = _CODECS.get(name)
    if codec is None:
        raise ConfigurationError("codec must be json or msgpack")
    return codec


def store_of(store: LocalStore | str | None) -> LocalStore:
    """A store as itself, a path as a SQLite file, None as memory."""
    if store is None:
        return MemoryStore()
    return SqliteStore(store) if isinstance(store, str) else store


def connector_of(connector: Connector | None, url: str, config: ClientConfig) -> Connector:
    """A connector as itself, None as WebSockets to `url`."""
    if connector is not None:
        return connector
    return WebSocketConnector(
        url, connect_timeout_s=config.connect_timeout_s, close_timeout_s=config.close_timeout_s
    )


def api_of(url: str, token: Token, device_id: str, config: ClientConfig, ports: Ports) -> ChatApi:
    """The HTTP side of the same server and login."""
    return ChatApi(url, token=token, device_id=device_id, timeout_s=config.request_timeout_s, ports=ports)
