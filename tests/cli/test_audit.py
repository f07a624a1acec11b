"""`chatkit audit`: shows, checks and exports what was done, beside the server that serves the log."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner, Result

from chatkit.cli.commands import chatkit as command
from chatkit.core.log.audit import ChainedAct, digest_of
from chatkit.ports import SystemIds
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_audit import a_story
from chatkit.testing.contracts.storage_commands import ban, do, revoke

STORY = 8


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "chat.db"
    anyio.run(tell, path, True)
    return path


async def tell(path: Path, whole: bool = False, user_id: str = "eve\x1b[31m") -> None:
    """Eight acts, or one more: a ban of the user."""
    store = SqliteStore(path, ids=SystemIds())
    await store.migrate()
    await (a_story(store) if whole else do(store, ban(user_id)))
    await store.aclose()


def run(*arguments: str, log: Path) -> Result:
    return CliRunner().invoke(command, ["audit", *arguments, "--storage", f"sqlite:///{log}"])


def change(path: Path, *statements: str) -> None:
    """Write to the tables behind chatkit's back; the triggers are put back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for sql in (*statements, *(sql for _, sql in triggers)):
            connection.execute(sql)


def test_acts_are_shown_in_order_one_in_a_line(log: Path) -> None:
    anyio.run(tell, log)
    shown = run("show", log=log)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert len(lines) == STORY + 1
    assert lines[0] == "       1  1970-01-01 00:16:40  ann CREATED in g g"
    assert lines[1] == "       2  1970-01-01 00:16:40  (host) REVOKED ann device=phone"
    assert lines[-1].endswith("BANNED eve\\x1b[31m")
    assert run("show", "--limit", "2", log=log).stdout.splitlines() == lines[-2:]
    assert run("show", "--after", "2", "--limit", "3", log=log).stdout.splitlines() == lines[2:5]


@pytest.mark.parametrize(
    ("options", "actions"),
    [
        (["--user", "bob"], ["CREATED", "REMOVED"]),
        (["--host"], ["REVOKED", "BANNED", "EPOCH_RENEWED"]),
        (["--actor", "cat"], ["RECALLED"]),
        (["--conversation", "h", "--action", "CREATED"], ["CREATED"]),
        (["--since", "1970-01-01T00:16:40.005"], ["BANNED", "EPOCH_RENEWED"]),
        (["--since", "1h"], []),
    ],
)
def test_what_is_asked_for_is_shown(log: Path, options: list[str], actions: list[str]) -> None:
    found = run("show", "--json", *options, log=log)
    assert [json.loads(line)["action"] for line in found.stdout.splitlines()] == actions


def test_wrong_options_end_with_2(log: Path, tmp_path: Path) -> None:
    assert run("show", "--since", "yesterday", log=log).exit_code == 2
    assert run("show", "--host", "--actor", "ann", log=log).exit_code == 2
    assert run("show", log=tmp_path / "nowhere.db").exit_code == 2
    assert run("verify", "--against", str(tmp_path), log=log).exit_code == 2
    memory = CliRunner().invoke(command, ["audit", "verify", "--storage", "memory://"])
    assert memory.exit_code == 2


def test_what_was_written_is_whole(log: Path) -> None:
    verified = run("verify", log=log)
    assert (verified.exit_code, verified.stdout) == (0, "the audit is whole; 8 acts were read\n")
    assert json.loads(run("verify", "--json", log=log).stdout) == {"whole": True, "findings": [], "rows": 8}


CHANGES = {
    "another actor": "UPDATE audit SET actor_id = 'eve' WHERE audit_id = 3",
    "another time": "UPDATE audit SET at_ms = at_ms + 1 WHERE audit_id = 5",
    "another detail": "UPDATE audit SET detail = '{}' WHERE audit_id = 2",
    "one in the middle is gone": "DELETE FROM audit WHERE audit_id = 6",
    "the newest is gone": "DELETE FROM audit WHERE audit_id = 8",
    "two are swapped": "UPDATE audit SET subject = CASE audit_id WHEN 3 THEN 'bob' ELSE 'cat' END "
    "WHERE audit_id IN (3, 7)",
    "a chain is gone": "DELETE FROM audit WHERE conversation_key = 2; DELETE FROM audit_head WHERE chain = 2",
    "a head is set back": "UPDATE audit_head SET number = 1 WHERE chain = 1",
    "all heads are gone": "DELETE FROM audit_head",
    "one from before there were chains is slipped in": "INSERT INTO audit SELECT 9, at_ms, conversation_key, "
    "actor_id, 'ADDED', seq, 'eve', '{}', 0, x'' FROM audit WHERE audit_id = 3",
}


@pytest.mark.parametrize("sql", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_is_found(log: Path, sql: str) -> None:
    change(log, *sql.split(";"))
    verified = run("verify", log=log)
    assert verified.exit_code == 1, verified.stdout
    assert verified.stdout.endswith("acts were read\n")


def forge(path: Path) -> None:
    """Take out the newest act of a conversation, and write its chain anew as somebody who may write everything can."""
    with closing(sqlite3.connect(path)) as connection:
        *columns, digest = connection.execute("SELECT * FROM audit WHERE audit_id = 5").fetchone()
        (previous,) = connection.execute("SELECT digest FROM audit WHERE audit_id = 4").fetchone()
    columns[6] = "nobody"
    new = digest_of(previous, ChainedAct(*columns, digest))
    change(
        path,
        f"UPDATE audit SET subject = 'nobody', digest = x'{new.hex()}' WHERE audit_id = 5",
        f"UPDATE audit_head SET digest = x'{new.hex()}' WHERE chain = 0",
        "DELETE FROM audit WHERE audit_id = 8",
        "UPDATE audit_head SET number = 0, digest = zeroblob(32) WHERE chain = 2",
    )


def test_what_is_written_anew_with_digests_is_seen_beside_an_export(log: Path, tmp_path: Path) -> None:
    export, head = tmp_path / "audit.jsonl", tmp_path / "head.json"
    assert run("export", str(export), log=log).exit_code == 0
    head.write_text(export.read_text().splitlines()[-1] + "\n")
    for kept in (export, head):
        assert run("verify", "--against", str(kept), log=log).exit_code == 0

    forge(log)
    assert run("verify", log=log).exit_code == 0
    against = run("verify", "--against", str(export), log=log)
    assert (against.exit_code, against.stdout.splitlines()[0]) == (
        1,
        "audit: row 5 is not in the export as it is in the audit",
    )
    against = run("verify", "--against", str(head), log=log)
    assert against.exit_code == 1
    assert against.stdout.startswith("audit: row 8 of the export is not in the audit\n")


def test_an_export_goes_on_where_it_ended(log: Path, tmp_path: Path) -> None:
    export = tmp_path / "audit.jsonl"
    run("export", str(export), log=log)
    first = export.read_bytes()
    assert export.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["auditId"] for line in first.splitlines()[:-1]] == [*range(1, STORY + 1)]

    export.write_bytes(first[: first.index(b"\n", 900) + 40])  # cut off in the middle of a line
    run("export", str(export), log=log)
    assert _without_time(export) == _without_time_of(first)

    anyio.run(tell, log)
    run("export", str(export), log=log)
    lines = [json.loads(line) for line in export.read_bytes().splitlines()]
    assert [line["head"]["rows"] for line in lines if "head" in line] == [STORY, STORY + 1]
    assert run("verify", "--against", str(export), log=log).exit_code == 0


def _without_time_of(export: bytes) -> list[object]:
    lines = [json.loads(line) for line in export.splitlines()]
    lines[-1]["head"].pop("exportedMs")
    return lines


def _without_time(path: Path) -> list[object]:
    return _without_time_of(path.read_bytes())


def test_an_export_of_a_log_that_was_put_back_is_not_gone_on_with(log: Path, tmp_path: Path) -> None:
    backup, export = log.read_bytes(), tmp_path / "audit.jsonl"
    anyio.run(tell, log)
    run("export", str(export), log=log)
    former = export.read_bytes()

    log.write_bytes(backup)
    for _ in range(2):  # the audit is shorter than the export, then as long, with other acts
        refused = run("export", str(export), log=log)
        assert refused.exit_code == 2
        assert f"ends with row {STORY + 1}" in refused.stderr
        assert export.read_bytes() == former
        anyio.run(tell, log, False, "dan")


def test_a_changed_export_is_refused(log: Path, tmp_path: Path) -> None:
    export = tmp_path / "audit.jsonl"
    run("export", str(export), log=log)
    whole = export.read_text()
    for changed in (
        whole.replace('"cat"', '"dan"', 1),
        "no export\n",
        "\n".join(whole.splitlines()[1:]) + "\n",
    ):
        export.write_text(changed)
        refused = run("export", str(export), log=log)
        assert refused.exit_code == 2, changed
        assert export.read_text() == changed
    export.write_text("")
    assert run("verify", "--against", str(export), log=log).exit_code == 2


async def test_beside_the_server_that_serves_it(log: Path, tmp_path: Path) -> None:
    store = SqliteStore(log, ids=SystemIds())
    await store.migrate()
    await do(store, revoke("bob"))
    commands = (("show",), ("verify",), ("export", str(tmp_path / "a.jsonl")))
    results = [await anyio.to_thread.run_sync(partial(run, *it, log=log)) for it in commands]
    assert [it.exit_code for it in results] == [0, 0, 0]
    assert "REVOKED bob" in results[0].stdout
    assert await store.audit_end() == STORY + 1
    await store.aclose()
