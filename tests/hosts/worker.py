"""A worker class for gunicorn, as docs/hosts.md shows it."""

from __future__ import annotations

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker

from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol


class ChatWorker(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "http": ChatHttpProtocol,
        "ws": ChatWebSocketProtocol,
        "ws_max_size": 1_000_000,
        "ws_per_message_deflate": False,
        "ws_ping_interval": None,
    }
