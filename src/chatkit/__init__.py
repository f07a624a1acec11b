"""chatkit: both ends of a reliable chat system. A server engine to embed, and a client SDK.

Every public name of the package is here, loaded on first use so that a client needs none of the server's
dependencies. The way in: `ChatServer` and `asgi_app` on one side, `ChatClient` and `ChatApi` on the other.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assemble import open_store as open_store
    from .client.api import ChatApi as ChatApi
    from .client.client import ChatClient as ChatClient
    from .client.config import ClientConfig as ClientConfig
    from .gateway.asgi import asgi_app as asgi_app
    from .server.auth import Authenticator as Authenticator
    from .server.auth import jwt_authenticator as jwt_authenticator
    from .server.auth import sign_token as sign_token
    from .server.config import ServerConfig as ServerConfig
    from .server.server import ChatServer as ChatServer

_HOMES = {
    "Authenticator": "server.auth",
    "ChatApi": "client.api",
    "ChatClient": "client.client",
    "ChatServer": "server.server",
    "ClientConfig": "client.config",
    "ServerConfig": "server.config",
    "asgi_app": "gateway.asgi",
    "jwt_authenticator": "server.auth",
    "open_store": "assemble",
    "sign_token": "server.auth",
}
_ERRORS = {
    "BadRequestError",
    "ChatkitError",
    "ConfigurationError",
}
_TYPES = {"Identity", "Member", "Message", "Payload", "Receipt", "Sent"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or ("errors" if name in _ERRORS else "types" if name in _TYPES else None)
    if home is None:
        raise AttributeError(f"module 'chatkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"chatkit.{home}"), name)
