"""Random histories on a store whose old entries are in an archive, and on one without: all is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from chatkit.core.log import rules
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.postgres.verify import verify_database
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.storage.verify_report import Report
from chatkit.testing.contracts.storage_reopening import opened
from tests.servers.postgres import PostgresServer, serving
from tests.storage.ids import seeded_ids
from tests.storage.test_differential import agree

from .archived import ArchivedStore


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.new_database()


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
    seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2 + seed % 2)
    path = str(tmp_path / "chat.db")
    store = SqliteStore(path, ids=seeded_ids(), threads=False)
    await store.migrate()
    archived = ArchivedStore(store, seed)
    await agree(cast("base.Store", archived), seed)
    assert archived.archive.objects
    await store.aclose()

    report = full_report(path)
    assert report.whole, report.findings
    assert report.messages


@pytest.mark.parametrize("seed", range(4))
async def test_a_log_on_postgresql_reads_the_same_with_an_archive(
    seed: int, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2 + seed % 2)
    async with opened(lambda: PostgresStore(address, ids=seeded_ids())) as store:
        archived = ArchivedStore(store, seed)
        await agree(cast("base.Store", archived), seed, bytes_max=100_000)
        assert archived.archive.objects

        report = Report()
        async for _ in verify_database(address, report):
            pass
        assert report.whole, report.findings
