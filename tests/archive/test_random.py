"""Random histories on a store whose old entries are in an archive, and on one without: all is the same."""

from __future__ import annotations

from typing import cast

import pytest

from chatkit.core.log import rules
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from tests.storage.ids import seeded_ids
from tests.storage.test_differential import agree

from .archived import ArchivedStore


@pytest.mark.parametrize("seed", range(12))
async def test_a_log_in_memory_reads_the_same_with_an_archive(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2 + seed % 2)
    store = MemoryStore(ids=seeded_ids())
    await store.migrate()
    archived = ArchivedStore(store, seed)
    await agree(cast("base.Store", archived), seed)
    assert archived.archive.objects


@pytest.mark.parametrize("seed", range(12))
async def test_a_log_on_sqlite_reads_the_same_with_an_archive(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2 + seed % 2)
    store = SqliteStore(":memory:", ids=seeded_ids(), threads=False)
    await store.migrate()
    archived = ArchivedStore(store, seed)
    await agree(cast("base.Store", archived), seed)
    assert archived.archive.objects
    await store.aclose()
