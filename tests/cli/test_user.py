"""`chatkit user`: a copy of all there is of somebody, and their erasure, on a log that is not served."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from chatkit.ports import SystemIds
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.contracts.storage_commands import device, do, group, send

from .command import chatkit


@pytest.fixture
def log(tmp_path: Path) -> str:
    anyio.run(fill, tmp_path / "chat.db")
    return f"sqlite:///{tmp_path / 'chat.db'}"


async def fill(path: Path) -> None:
    store = SqliteStore(path, ids=SystemIds())
    await store.migrate()
    await do(store, device("ann"), device("bob"), group("g", "ann", "bob"))
    await do(store, send("g", "ann", "1", "canary of ann"), send("g", "bob", "1", "canary of bob"))
    await store.aclose()


def test_a_copy_is_written_once_and_for_its_owner_alone(log: str, tmp_path: Path) -> None:
    out = tmp_path / "ann.jsonl"
    done = chatkit("user", "export", "ann", "--storage", log, "--out", str(out), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [next(iter(it)) for it in lines] == ["export", "device", "conversation", "message", "act", "act"]
    assert lines[3]["message"]["payload"] == {"type": "TEXT", "text": "canary of ann"}
    assert [it["act"]["action"] for it in lines[4:]] == ["CREATED", "EXPORTED"]
    assert out.stat().st_mode & 0o777 == 0o600

    again = chatkit("user", "export", "ann", "--storage", log, "--out", str(out), cwd=tmp_path)
    assert again.returncode == 2
    printed = chatkit("user", "export", "ann", "--storage", log, cwd=tmp_path)
    assert len(printed.stdout.splitlines()) == 8  # two acts more


def test_an_erasure_asks_first_and_leaves_no_word_in_the_file(log: str, tmp_path: Path) -> None:
    asked = chatkit("user", "erase", "bob", "--storage", log, "--bodies", "erase", cwd=tmp_path)
    assert asked.returncode == 1
    assert b"canary of bob" in (tmp_path / "chat.db").read_bytes()
    done = chatkit("user", "erase", "bob", "--storage", log, "--bodies", "erase", "--yes", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (
        0,
        "bob is erased: 1 conversations, 1 messages were recalled\n",
    ), done.stderr
    left = b"".join(it.read_bytes() for it in tmp_path.glob("chat.db*"))
    assert b"canary of bob" not in left
    assert b"canary of ann" in left
    assert full_report(str(tmp_path / "chat.db")).findings == []


def test_what_cannot_be_done_ends_with_2(log: str, tmp_path: Path) -> None:
    assert chatkit("user", "erase", "bob", "--storage", log, cwd=tmp_path).returncode == 2
    wrong = chatkit("user", "erase", "a|b", "--storage", log, "--bodies", "keep", "--yes", cwd=tmp_path)
    assert wrong.returncode == 1
    store = SqliteStore(tmp_path / "chat.db", ids=SystemIds())

    async def beside() -> int:
        await store.migrate()
        try:
            return (
                await anyio.to_thread.run_sync(
                    lambda: chatkit("user", "export", "ann", "--storage", log, cwd=tmp_path)
                )
            ).returncode
        finally:
            await store.aclose()

    assert anyio.run(beside) == 2


def test_nobody_is_erased_or_exported_where_no_log_is(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'mistyped.db'}"
    for arguments in (("erase", "bob", "--bodies", "erase", "--yes"), ("export", "bob")):
        done = chatkit("user", *arguments, "--storage", storage, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "mistyped.db: No such file" in done.stderr
    assert not list(tmp_path.iterdir())
