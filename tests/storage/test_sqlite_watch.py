"""Files that are deleted, moved or replaced under an open log, and a write-ahead log that grows."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatkit.client.store.sqlite import SqliteStore as ClientStore
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.ports import SystemIds
from chatkit.server.server import ChatServer
from chatkit.storage.sqlite import SqliteStore, watch
from tests.server.harness import by_name


def delete(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [delete, move_away, replace])
@pytest.mark.parametrize("name", ["chat.db", "chat.db-wal", "chat.db-shm", "chat.db-owner"])
async def test_a_server_whose_file_is_gone_takes_nothing_any_more(
    tmp_path: Path, name: str, change: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(str(tmp_path / "chat.db"), ids=SystemIds(), threads=False)
    async with ChatServer(store=store, authenticate=by_name) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        before = server.ready
        change(tmp_path / name)
        with pytest.raises(UnavailableError, match="not the one that was opened"):
            await server.send("g-1", "ann", "hi", client_msg_id="k1")

        assert (before, server.ready) == (True, False)
        assert caplog.text.count("was deleted, moved or replaced") == 1


async def test_a_server_is_unready_before_anybody_sends(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "chat.db"), ids=SystemIds(), threads=False)
    async with ChatServer(store=store, authenticate=by_name) as server:
        (tmp_path / "chat.db").rename(tmp_path / "elsewhere")
        assert not server.ready
        (tmp_path / "elsewhere").rename(tmp_path / "chat.db")
        assert not server.ready, "nobody knows who wrote to it meanwhile"


OTHER_PROGRAM = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("SELECT count(*) FROM message").fetchall()
other.execute("BEGIN IMMEDIATE")
other.execute("ROLLBACK")
other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
other.close()
"""


def is_as_it_was(path: Path) -> None:
    """A log that its server left."""


def is_put_back(path: Path) -> None:
    """Another file than the one that was served last."""
    replace(path)


@pytest.mark.parametrize("prepare", [is_as_it_was, is_put_back])
async def test_another_program_may_read_and_checkpoint_the_log(
    tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    """It closes its connection as if it were the last one, if the server's own does not hold its locks any more."""
    path = tmp_path / "chat.db"
    async with ChatServer(
        store=SqliteStore(str(path), ids=SystemIds(), threads=False), authenticate=by_name
    ) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
    prepare(path)
    async with ChatServer(
        store=SqliteStore(str(path), ids=SystemIds(), threads=False), authenticate=by_name
    ) as server:
        await server.send("g-1", "ann", "before", client_msg_id="k1")
        inode = path.with_name("chat.db-wal").stat().st_ino
        subprocess.run([sys.executable, "-c", OTHER_PROGRAM, str(path)], check=True)
        assert path.with_name("chat.db-wal").stat().st_ino == inode
        assert server.ready
        await server.send("g-1", "ann", "after", client_msg_id="k2")


async def test_a_refused_hard_link_leaves_the_locks_of_the_server(tmp_path: Path) -> None:
    """A handle that was closed for it would end them, and the next reader would delete the write-ahead log."""
    path, link = tmp_path / "chat.db", tmp_path / "link.db"
    store = SqliteStore(str(path), ids=SystemIds(), threads=False)
    async with ChatServer(store=store, authenticate=by_name) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        link.hardlink_to(path)
        with pytest.raises(ConfigurationError, match="in use by another server"):
            await SqliteStore(str(link), ids=SystemIds(), threads=False).migrate()
        inode = path.with_name("chat.db-wal").stat().st_ino
        subprocess.run([sys.executable, "-c", OTHER_PROGRAM, str(path)], check=True)
        assert path.with_name("chat.db-wal").stat().st_ino == inode
        await server.send("g-1", "ann", "after", client_msg_id="k1")


async def test_a_large_write_ahead_log_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chat.db"
    first = SqliteStore(str(path), ids=SystemIds(), threads=False)
    await first.migrate()
    await first.aclose()  # so that the log begins empty
    monkeypatch.setattr(watch, "WAL_WARNING_BYTES", 100_000)
    store = SqliteStore(str(path), ids=SystemIds(), threads=False)
    async with ChatServer(store=store, authenticate=by_name) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        foreign = sqlite3.connect(path, isolation_level=None)
        foreign.execute("BEGIN")
        foreign.execute("SELECT * FROM message").fetchall()
        for number in range(40):
            await server.send("g-1", "ann", "x" * 10_000, client_msg_id=f"k{number}")
        size_bytes = store.wal_bytes
        foreign.close()

    warnings = [it for it in caplog.messages if "cannot be moved into the file" in it]
    assert size_bytes > 400_000
    assert len(warnings) == 4, "at 0.1, 0.2, 0.4 and 0.9 MB"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_the_files_of_a_log_are_for_their_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = SqliteStore(str(tmp_path / "chat.db"), ids=SystemIds(), threads=False)
        async with ChatServer(store=store, authenticate=by_name) as server:
            await server.create_conversation("GROUP", "ann", ["ben"])
            modes = {it.name: stat.S_IMODE(it.stat().st_mode) for it in tmp_path.iterdir()}
    finally:
        os.umask(before)

    assert set(modes) == {"chat.db", "chat.db-wal", "chat.db-shm", "chat.db-owner"}
    assert set(modes.values()) == {0o600}


def test_the_store_of_a_client_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = ClientStore(str(tmp_path / "client.db"))
    store.bind("ann", "phone")
    modes = {stat.S_IMODE(it.stat().st_mode) for it in tmp_path.iterdir()}
    store.close()

    assert modes == {0o600}


def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "client.db"
    path.touch(0o640)
    path.chmod(0o640)
    ClientStore(str(path)).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
