"""Several stores on one log used as one: each call goes to the next, as the requests of a user go to several nodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from chatkit.storage.base import Store


class StoresInTurn:
    """`Store` by many: what one of them has written, the next one must show.

    Args:
        stores: On one log.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self._next = cycle(stores)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._next), name)

    async def migrate(self) -> bytes:
        secrets = {await store.migrate() for store in self._stores}
        (secret,) = secrets
        return secret

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()
