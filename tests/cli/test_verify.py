"""`chatkit verify`: what it prints, and the exit codes 0 whole, 1 damaged, 2 no log that can be checked."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from chatkit.cli import _progress
from chatkit.cli import verify as verify_module
from chatkit.client.store.sqlite import SqliteStore as ClientStore
from chatkit.storage.postgres import PostgresStore
from tests.servers.postgres import serving

from ..storage.damage import (
    SECRET,
    change,
    cut_in_half,
    damage_bytes,
    fill,
    make_log,
    with_name_in_schema_broken,
    with_old_page_zeroed,
)
from ..storage.ids import seeded_ids
from .command import TIMEOUT_S, chatkit, next_line, started


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = str(tmp_path / "chat.db")
    make_log(path)
    return path


def test_a_whole_log(log: str, tmp_path: Path) -> None:
    done = chatkit("verify", "chat.db", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("chat.db is whole; 2 conversations and 307 messages were read in ")


def test_a_whole_log_as_json(log: str, tmp_path: Path) -> None:
    done = chatkit("verify", "chat.db", "--json", cwd=tmp_path)

    printed = json.loads(done.stdout)
    assert printed.pop("seconds") >= 0
    assert (done.returncode, done.stderr) == (0, "")
    assert printed == {
        "file": "chat.db",
        "whole": True,
        "findings": [],
        "found": {},
        "conversations": 2,
        "messages": 307,
    }


def test_a_damaged_log(log: str, tmp_path: Path) -> None:
    change(log, "DELETE FROM message WHERE conversation_key = 2 AND seq = 50", "DELETE FROM device_exact")
    change(log, "UPDATE message SET payload = x'7b' WHERE seq BETWEEN 60 AND 99")

    done = chatkit("verify", "chat.db", cwd=tmp_path)

    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert lines[:3] == [
        "entries: conversation h has head 304, but 303 entries up to seq 304",
        "device: conversation h counts 1 single confirmations of device phone of bob and has 0",
        "body: conversation h has a body that is not JSON, at seq 60",
    ]
    assert lines[-2] == "and 20 more findings of the same kinds"
    assert lines[-1].startswith("chat.db is damaged; 2 conversations and 306 messages were read in ")
    assert lines[-1].endswith("; restore a backup (rows that were deleted by hand are damage too)")


def test_a_damaged_log_as_json(log: str, tmp_path: Path) -> None:
    change(log, "DELETE FROM setting")

    done = chatkit("verify", "chat.db", "--json", cwd=tmp_path)

    printed = json.loads(done.stdout)
    assert (done.returncode, done.stderr, printed["whole"]) == (1, "", False)
    assert printed["findings"] == [{"check": "secret", "words": "the log's secret is not there"}]
    assert printed["found"] == {"secret": 1}


@pytest.mark.parametrize("damage", [cut_in_half, with_old_page_zeroed, with_name_in_schema_broken])
def test_a_file_damaged_on_the_disk(log: str, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    damage_bytes(log, damage)

    done = chatkit("verify", "chat.db", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (1, "")
    assert "chat.db is damaged" in done.stdout.splitlines()[-1]
    assert SECRET not in done.stdout


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()


def _of_a_client(path: Path) -> None:
    ClientStore(str(path)).close()


def _newer(path: Path) -> None:
    make_log(str(path))
    change(str(path), "INSERT INTO schema_migration VALUES (999, '0999_later.sql')")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "cannot read the file x.db: No such file or directory"),
        (Path.mkdir, "x.db is a folder"),
        (os.mkfifo, "x.db is no regular file"),
        (lambda path: path.write_text("notes"), "x.db is no SQLite file"),
        (_foreign, "x.db was made by another program"),
        (_of_a_client, "x.db is the local store of a client"),
        (_newer, "was made by a newer version (it has 0999_later.sql); upgrade first"),
    ],
)
def test_misuse_is_told_in_a_line(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    make(tmp_path / "x.db")

    done = chatkit("verify", "x.db", "--json", cwd=tmp_path)

    printed = json.loads(done.stdout)
    assert (done.returncode, printed.keys(), printed["file"]) == (2, {"file", "error"}, "x.db")
    assert says in printed["error"]
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_file_that_somebody_keeps_for_themselves_is_busy(log: str, tmp_path: Path) -> None:
    keeper = sqlite3.connect(log, isolation_level=None)
    keeper.execute("PRAGMA locking_mode = EXCLUSIVE")
    keeper.execute("BEGIN IMMEDIATE")
    done = chatkit("verify", "chat.db", cwd=tmp_path)
    keeper.close()

    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be checked now: storage refused: database is locked" in done.stderr.splitlines()[-1]


def test_a_log_that_is_being_served(log: str, tmp_path: Path) -> None:
    with started("serve", "--port", "0", "--storage", "sqlite:///chat.db", "--json", cwd=tmp_path) as process:
        assert next_line(process)
        done = chatkit("verify", "chat.db", cwd=tmp_path)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0

    assert (done.returncode, done.stderr) == (0, "")


_ENDLESS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores it
from chatkit.cli import main
from chatkit.storage.sqlite import verify

def read(connection, *_):
    print("reading", flush=True)
    connection.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")

verify._check_rules = read
main()
"""
"""The command, with a statement that never ends."""


def test_ctrl_c_ends_it_also_within_a_statement(log: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ENDLESS, "verify", "chat.db", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert next_line(process) == "reading\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=TIMEOUT_S)

    words = "Interrupted: nothing wrong was found until then; the check is not complete."
    assert (process.returncode, errors) == (130, words + "\n")
    assert json.loads(output) == {"file": "chat.db", "error": words}


def test_who_is_no_terminal_gets_lines(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "LINE_EVERY_S", 0)

    done = CliRunner().invoke(verify_module.verify, [log])

    lines = done.stderr.splitlines()
    assert done.exit_code == 0
    assert lines[0] == "structure: 0 of 1, 0 s"
    assert lines[-1] == "messages: 307 of 307, 0 s"


def test_a_terminal_shows_bars(log: str, tmp_path: Path) -> None:
    keeper, terminal = pty.openpty()
    command = [sys.executable, "-m", "chatkit", "verify", "chat.db"]
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal, check=False
    )
    shown = b""
    while select.select([keeper], [], [], 0)[0]:
        shown += os.read(keeper, 65536)
    os.close(terminal)
    os.close(keeper)

    assert done.returncode == 0
    assert b"messages" in shown
    assert b"100%" in shown
    assert b"is whole" in done.stdout


def test_a_database_is_checked_like_a_file(tmp_path: Path) -> None:
    with serving() as server:
        address = server.new_database()
        login = address.replace("chatkit@", "chatkit:hunter2@")
        anyio.run(_fill, address)
        whole = chatkit("verify", "--storage", login, "--json", cwd=tmp_path)
        by_variable = chatkit("verify", cwd=tmp_path, env={"CHATKIT_STORAGE": login})
        database = address.rsplit("/", 1)[1].partition("?")[0]
        server.query(database, "DELETE FROM device_exact")
        damaged = chatkit("verify", "--storage", login, cwd=tmp_path)
        empty = chatkit("verify", "--storage", server.new_database(), cwd=tmp_path)
        server.stop()
        gone = chatkit("verify", "--storage", login, "--json", cwd=tmp_path)

    name = f"postgresql://127.0.0.1:{server.port}/{database}?sslmode=disable"
    assert (whole.returncode, whole.stderr) == (0, "")
    printed = json.loads(whole.stdout)
    assert (printed["file"], printed["whole"], printed["messages"]) == (name, True, 307)
    assert by_variable.stdout.startswith(f"{name} is whole; 2 conversations and 307 messages were read in ")
    assert damaged.returncode == 1
    assert damaged.stdout.splitlines()[0] == (
        "device: conversation h counts 1 single confirmations of device phone of bob and has 0"
    )
    assert (empty.returncode, "has no log of chatkit" in empty.stderr) == (2, True)
    assert (gone.returncode, json.loads(gone.stdout)["file"]) == (2, name)
    assert "the database cannot be checked now" in gone.stderr
    assert "hunter2" not in repr((whole, by_variable, damaged, gone.stdout, gone.stderr)).replace(login, "")


async def _fill(address: str) -> None:
    store = PostgresStore(address, ids=seeded_ids())
    await store.migrate()
    await fill(store)
    await store.aclose()


@pytest.mark.parametrize("arguments", [(), ("--storage", "memory://"), ("--storage", "redis://x")])
def test_a_log_must_be_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = chatkit("verify", *arguments, cwd=tmp_path, env={"CHATKIT_STORAGE": None})
    assert done.returncode == 2
    assert "--storage" in done.stderr.splitlines()[-1]
