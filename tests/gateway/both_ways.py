"""The two ways in which uvicorn with our protocols drives a session, as settings of uvicorn that lead to them."""

from __future__ import annotations

from typing import Any

BOTH_WAYS: dict[str, dict[str, Any]] = {
    "through ASGI": {"ws_ping_interval": 20.0, "ws_per_message_deflate": True},
    "straight": {"ws_ping_interval": None, "ws_per_message_deflate": False},
}
