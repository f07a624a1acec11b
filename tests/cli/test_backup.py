"""`chatkit backup`: what it prints, the exit codes 0 made, 1 failed, 2 misuse, and what `--keep` removes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from chatkit.cli.backup import backup
from chatkit.drivers.file_lock import lock_handle

from ..storage.damage import SECRET, change, make_log
from .command import TIMEOUT_S, chatkit, next_line, started


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = str(tmp_path / "chat.db")
    make_log(path)
    return path


def test_a_backup_of_a_log_that_is_being_served(log: str, tmp_path: Path) -> None:
    with started("serve", "--port", "0", "--storage", "sqlite:///chat.db", "--json", cwd=tmp_path) as process:
        assert next_line(process)
        done = chatkit("backup", "chat.db", "copy.db", cwd=tmp_path)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("copy.db has ")
    assert ": 2 conversations and 307 messages, all read and whole; " in done.stdout
    assert chatkit("verify", "copy.db", cwd=tmp_path).returncode == 0


def test_as_json(log: str, tmp_path: Path) -> None:
    done = chatkit("backup", "chat.db", "copy.db", "--json", cwd=tmp_path)
    printed = json.loads(done.stdout)
    assert printed.pop("seconds") >= 0
    assert printed == {
        "log": "chat.db",
        "file": "copy.db",
        "bytes": (tmp_path / "copy.db").stat().st_size,
        "verified": True,
        "conversations": 2,
        "messages": 307,
        "removed": [],
    }


def test_in_a_folder_it_is_named_by_the_time_and_the_newest_are_kept(log: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    older = [f"chat-2026010{day}T000000Z.db" for day in range(1, 5)]
    others = ["chat-20260101T000000Z.db.gz", "mail-20260101T000000Z.db", "chat-notes.db"]
    for name in (*older, *others):
        (folder / name).touch()

    done = chatkit("backup", "chat.db", "backups", "--keep", "3", "--json", cwd=tmp_path)

    printed = json.loads(done.stdout)
    made = os.path.basename(printed["file"])
    assert printed["removed"] == [f"backups/{name}" for name in older[:2]]
    assert sorted(os.listdir(folder)) == sorted([*older[2:], *others, made])
    assert made.startswith("chat-2")


def test_what_killed_backups_left_in_a_folder_goes(log: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    left = folder / "chat-20260101T000000Z.db.partial"
    others = ["chat-20260102T000000Z.db.partial", "mail-20260101T000000Z.db.partial", "notes.partial"]
    for name in (left.name, left.name + "-journal", *others):
        (folder / name).touch()
    with (folder / others[0]).open() as being_made:
        assert lock_handle(being_made.fileno())
        done = chatkit("backup", "chat.db", "backups", "--json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    made = Path(json.loads(done.stdout)["file"]).name
    assert sorted(os.listdir(folder)) == sorted([made, *others])


def test_a_backup_that_fails_removes_no_older_one(log: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "chat-20260101T000000Z.db").touch()
    change(log, "DELETE FROM message WHERE conversation_key = 2 AND seq = 50")

    done = chatkit("backup", "chat.db", "backups", "--keep", "1", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert "the log chat.db is damaged, and no backup was made" in done.stderr
    assert SECRET not in done.stderr
    assert os.listdir(folder) == ["chat-20260101T000000Z.db"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.db", "copy.db"), "cannot read the file missing.db"),
        (("chat.db", "no/copy.db"), "cannot write the backup no/copy.db: No such file or directory"),
        (("chat.db", "taken.db"), "taken.db is there already"),
        (("chat.db", "taken.db", "--force"), "taken.db is no backup of a log"),
        (("chat.db", "chat.db"), "chat.db is the log itself"),
        (("chat.db", "copy.db", "--keep", "3"), "--keep needs a folder"),
        (("chat.db", ".", "--keep", "0"), "Invalid value for '--keep'"),
    ],
)
def test_misuse_is_told_in_a_line(log: str, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    (tmp_path / "taken.db").write_text("mine")
    done = chatkit("backup", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["chat.db", "taken.db"]


def test_the_server_beside_it_goes_first(log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(os, "nice", steps.append)
    done = CliRunner().invoke(backup, [log, str(tmp_path / "copy.db")])
    assert done.exit_code == 0, done.output
    assert steps == [10]
