"""`chatkit archive` and `chatkit serve --archive`: as operators use them, on real files and a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from msgspec.structs import replace

from chatkit.cli.checks import services
from chatkit.cli.checks.base import Subject
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.contracts.storage_commands import do, group, send
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import token
from tests.servers.postgres import serving
from tests.storage.ids import seeded_ids

COUNT = 120
OLD_MS = int(time.time() * 1000) - 400 * 86_400_000
TINY = (
    "--set",
    "archiving.keep_entries=5",
    "--set",
    "archiving.object_entries=50",
    "--set",
    "archiving.pause_s=0",
)


async def fill(store: Any) -> None:
    await store.migrate()
    await do(store, group("g", "ann", "bob", at_ms=OLD_MS))
    await do(
        store, *[send("g", "ann", f"k{n}", f"secret {n} " + "x" * 300, OLD_MS + n) for n in range(COUNT)]
    )
    await store.aclose()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with 120 old messages."""
    path = tmp_path / "chat.db"
    anyio.run(fill, SqliteStore(str(path), ids=seeded_ids()))
    return path


def chatkit(*arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    command = [sys.executable, "-m", "chatkit", "archive", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "secret" not in done.stdout + done.stderr
    return json.loads(done.stdout) if code in (0, 1) and done.stdout else done.stderr


def verified(log: Path, folder: Path) -> tuple[int, Any]:
    """How `chatkit verify --archive` ends, and what it counts."""
    command = [
        sys.executable,
        "-m",
        "chatkit",
        "verify",
        str(log),
        "--archive",
        f"file://{folder}/archive",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)["found"]


def test_a_log_goes_to_the_archive_and_comes_back(log: Path, tmp_path: Path) -> None:
    where = ("--storage", f"sqlite:///{log}", "--archive", f"file://{tmp_path}/archive")
    before = chatkit("status", "--storage", f"sqlite:///{log}")
    assert (before["archived"]["entries"], before["waiting"]) == (0, 1)

    done = chatkit("run", *where, *TINY)
    assert (done["entries"], done["moved"], done["objects"]) == (COUNT - 4, COUNT - 4, 3)
    status = chatkit("status", "--storage", f"sqlite:///{log}", *TINY[:2])
    assert (status["archived"]["entries"], status["archived"]["objects"], status["waiting"]) == (
        COUNT - 4,
        3,
        0,
    )
    assert len(list((tmp_path / "archive").rglob("*.jsonl.zst"))) == 3
    (manifest,) = (tmp_path / "archive").rglob("manifest.json")
    assert len(json.loads(manifest.read_text())["objects"]) == 3
    assert full_report(str(log)).whole
    assert b"secret 7 " not in log.read_bytes()

    back = chatkit("restore", *where)
    assert (back["entries"], back["objects"], back["failed"]) == (COUNT - 4, 3, [])
    assert not list((tmp_path / "archive").rglob("*.jsonl.zst"))
    assert full_report(str(log)).whole
    assert b"secret 7 " in log.read_bytes()


def test_a_lost_object_is_said_and_the_rest_comes_back(log: Path, tmp_path: Path) -> None:
    where = ("--storage", f"sqlite:///{log}", "--archive", f"file://{tmp_path}/archive")
    chatkit("run", *where, *TINY)
    first = min((tmp_path / "archive").rglob("*.jsonl.zst"))
    assert verified(log, tmp_path) == (0, {})
    first.write_bytes(b"damaged")
    assert verified(log, tmp_path) == (1, {"archive": 1})
    back = chatkit("restore", *where, code=1)
    assert (back["failed"], back["objects"]) == (["g"], 2)
    assert full_report(str(log)).whole


def test_a_file_that_is_served_is_left_to_its_server(log: Path, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    server.start()
    try:
        where = ("--storage", f"sqlite:///{log}", "--archive", f"file://{tmp_path}/archive")
        assert "in use by another server" in chatkit("run", *where, code=2)
        assert "in use by a server" in chatkit("shrink", str(log), code=2)
        assert chatkit("status", "--storage", f"sqlite:///{log}")["waiting"] == 1
    finally:
        server.stop()


def test_a_log_is_written_anew_without_its_free_space(log: Path, tmp_path: Path) -> None:
    where = ("--storage", f"sqlite:///{log}", "--archive", f"file://{tmp_path}/archive")
    chatkit("run", *where, *TINY, "--set", "archiving.shrink_bytes=0")
    assert chatkit("status", "--storage", f"sqlite:///{log}")["space"]["free_bytes"] > 0
    size = chatkit("shrink", str(log))
    assert size["after"] < size["before"]
    assert chatkit("status", "--storage", f"sqlite:///{log}")["space"]["free_bytes"] == 0
    assert full_report(str(log)).whole


async def test_the_doctor_misses_an_archive_that_is_needed(log: Path, tmp_path: Path) -> None:
    where = ("--storage", f"sqlite:///{log}", "--archive", f"file://{tmp_path}/archive")
    subject = Subject(storage=f"sqlite:///{log}")
    assert await services.archive(subject) == []
    chatkit("run", *where, *TINY)
    (found,) = await services.archive(subject)
    assert found.status == "failure" and "--archive" in found.advice
    assert await services.archive(replace(subject, reads_archive=False)) == []
    assert await services.archive(Subject(storage=f"sqlite:///{tmp_path}/none.db")) == []


@pytest.mark.parametrize("put_back", [False, True])
def test_a_log_written_anew_counts_as_put_back_only_if_it_was_before(
    log: Path, tmp_path: Path, put_back: bool
) -> None:
    if put_back:
        copy = tmp_path / "copy.db"
        copy.write_bytes(log.read_bytes())
        copy.replace(log)
    chatkit("shrink", str(log))
    assert anyio.run(is_restored, SqliteStore(str(log), ids=seeded_ids())) == put_back


async def is_restored(store: SqliteStore) -> bool:
    await store.migrate()
    restored = store.restored
    await store.aclose()
    return restored


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--storage", "memory://", "--archive", "ftp://x"), "unknown address of a folder or bucket"),
        (("run", "--storage", "sqlite:///nowhere/chat.db", "--archive", "memory://"), "nowhere"),
        (
            ("run", "--storage", "sqlite:///mistyped.db", "--archive", "memory://"),
            "mistyped.db: No such file",
        ),
        (("restore", "--storage", "sqlite:///mistyped.db", "--archive", "memory://"), "mistyped.db: No such"),
        (("run", "--storage", "memory://", "--archive", "memory://"), "cannot be changed here"),
        (("shrink", "/etc/hostname"), "no SQLite file"),
        (("status", "--storage", "memory://"), "cannot be read here"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: tuple[str, ...], words: str) -> None:
    assert words in chatkit(*arguments, code=2)


def test_a_server_archives_its_log_and_reads_on(log: Path, tmp_path: Path) -> None:
    options = ("--archive", f"file://{tmp_path}/archive", *TINY, "--set", "archiving.interval_s=0.1")
    server = ServerProcess(tmp_path, *options)
    server.start()
    login = {"Authorization": f"Bearer {token('bob', 'phone')}"}
    try:
        with httpx.Client(base_url=server.http_url, headers=login, trust_env=False) as client:
            deadline = time.monotonic() + 30
            while len(list((tmp_path / "archive").rglob("*.zst"))) < 3:
                assert time.monotonic() < deadline, server.log
                client.get("/readyz")
            page = client.get("/v1/conversations/g/messages", params={"fromSeq": 1, "limit": 200}).json()
        assert [it["seq"] for it in page["messages"]] == list(range(1, COUNT + 2))
        assert page["messages"][8]["payload"]["text"].startswith("secret 7 ")
        server.terminate()
        assert server.exit_code() == 0
        assert "secret" not in server.log
    finally:
        server.stop()
    without = ServerProcess(tmp_path)
    assert without.launch().wait(30) == 2
    assert "--archive" in without.log


def test_postgresql_is_archived_beside_its_servers(tmp_path: Path) -> None:
    from chatkit.storage.postgres import PostgresStore

    with serving() as database:
        address = database.new_database()
        anyio.run(fill, PostgresStore(address, ids=seeded_ids()))
        where = ("--storage", address, "--archive", f"file://{tmp_path}/archive")
        assert chatkit("run", *where, *TINY)["moved"] == COUNT - 4
        assert chatkit("status", "--storage", address)["archived"]["entries"] == COUNT - 4
        server = ServerProcess(tmp_path, "--archive", f"file://{tmp_path}/archive", storage=address)
        server.start()
        try:
            login = {"Authorization": f"Bearer {token('bob', 'phone')}"}
            with httpx.Client(base_url=server.http_url, headers=login, trust_env=False) as client:
                page = client.get("/v1/conversations/g/messages", params={"limit": 200}).json()
            assert len(page["messages"]) == COUNT + 1
        finally:
            server.stop()
        assert chatkit("restore", *where)["entries"] == COUNT - 4
