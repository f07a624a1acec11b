"""What a store behind a wrapper can do is seen on every Python."""

from __future__ import annotations

from typing import Any, Protocol

from chatkit._abilities import offers
from chatkit.ports import SystemIds
from chatkit.storage.base import Store, StreamReader, TrailReader
from chatkit.storage.memory import MemoryStore
from chatkit.testing.faulty_store import FaultyStore, StoreFaults
from chatkit.testing.rng import Rng


class HandsOn:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Grows(Protocol):
    async def grow(self) -> None: ...


def test_what_a_wrapper_hands_on_it_offers() -> None:
    store = MemoryStore(ids=SystemIds())
    faulty = FaultyStore(store, b"secret", StoreFaults(), Rng(1).stream("store"))
    for it in (store, faulty, HandsOn(store), HandsOn(HandsOn(store))):
        assert offers(it, StreamReader) and offers(it, TrailReader) and offers(it, Store)
        assert not offers(it, Grows)
    assert not offers(object(), StreamReader)
