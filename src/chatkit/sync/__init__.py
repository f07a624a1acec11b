"""The client for code without `await`: scripts, and views of Django. The same calls as `chatkit.ChatApi` and
`chatkit.ChatClient`, each of which blocks its thread until it is done. See docs/sync.md.

`api` and `client` are made of the async classes by `make sync`, and a test holds them equal.
"""

from __future__ import annotations

from .api import ChatApi
from .client import ChatClient

__all__ = ["ChatApi", "ChatClient"]
