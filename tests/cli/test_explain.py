"""`chatkit explain`: what it prints of a message, beside the server that serves the log; and its exit codes."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from chatkit.cli.commands import chatkit as command
from chatkit.ports import SystemIds
from chatkit.storage.base import Store
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import NOW, delivered, device, do, group, recall, send

from ..servers.postgres import serving
from .command import chatkit


@pytest.fixture
def log(tmp_path: Path) -> str:
    anyio.run(fill, SqliteStore(tmp_path / "chat.db", ids=SystemIds()))
    return f"sqlite:///{tmp_path / 'chat.db'}"


async def fill(store: Store) -> None:
    """Put in a message that bob's phone has confirmed, and that was recalled."""
    await store.migrate()
    await do(store, device("bob"), group("g", "ann", "bob"), send("g", "ann", "k\x1b[31m\nk", "canary"))
    await do(store, delivered("g", "bob", 2, at_ms=NOW + 1_500), recall("1-e1-2", "ann", at_ms=NOW + 2_000))
    await store.aclose()


def test_one_line_for_each_fact_with_its_time_and_source(log: str, tmp_path: Path) -> None:
    done = chatkit("explain", "1-e1-2", "--storage", log, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "message  1-e1-2",
        "place    seq 2 of g (GROUP), epoch e1",
        "sender   ann, key k\\x1b[31m\\nk; USER",
        "readers  2",
    ]
    facts = [line for line in lines if line.endswith("]")]
    assert facts[0].startswith("   1970-01-01 00:16:40.000Z STORED")
    assert facts[1].startswith("by 1970-01-01 00:16:41.500Z CONFIRMED     bob/phone")
    assert facts[2].startswith("   1970-01-01 00:16:42.000Z RECALLED")
    assert facts[-1].startswith("   now                      PENDING       ann")
    assert facts[-1].endswith("[device]")
    assert "canary" not in done.stdout
    assert "\x1b" not in done.stdout


def test_as_json_of_one_reader(log: str, tmp_path: Path) -> None:
    done = chatkit("explain", "1-e1-2", "--storage", log, "--user", "bob", "--json", cwd=tmp_path)

    found = json.loads(done.stdout)
    assert (found["conversationId"], found["readerCount"], found["hasMore"]) == ("g", 1, False)
    assert {fact["event"] for fact in found["facts"]} == {"STORED", "CONFIRMED", "RECALLED", "WAITING"}


def test_nothing_is_written_and_a_server_may_have_the_file(log: str) -> None:
    path = log.removeprefix("sqlite:///")
    with sqlite3.connect(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        result = CliRunner().invoke(command, ["explain", "1-e1-1", "--storage", log])
        writer.rollback()
    writer.close()
    assert result.exit_code == 0, result.output
    assert "CREATED ann, bob" in result.output


def test_a_log_on_postgresql_beside_its_server(tmp_path: Path) -> None:
    with serving() as postgres:
        address = postgres.new_database()
        empty = chatkit("explain", "1-e1-2", "--storage", address, cwd=tmp_path)
        anyio.run(fill, PostgresStore(address, ids=SystemIds()))
        done = chatkit("explain", "1-e1-2", "--json", cwd=tmp_path, env={"CHATKIT_STORAGE": address})

    assert (empty.returncode, "has no log" in empty.stderr) == (2, True), "none is made"
    events = [fact["event"] for fact in json.loads(done.stdout)["facts"]]
    assert events[:3] == ["STORED", "CONFIRMED", "RECALLED"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["1-e1-9"], 1, "g ends at seq 3"),
        (["m-1"], 1, "no message has such an id"),
        (["1-e1-2", "--user", "a b"], 1, "--user takes 1-128 characters"),
        (["1-e1-2", "--limit", "0"], 2, "--limit"),
        (["1-e1-2", "--storage", "memory://"], 2, "ask the server"),
        (["1-e1-2", "--storage", "sqlite:///no.db"], 2, "no.db"),
        (["1-e1-2", "--storage", "mysql://x"], 2, "unknown storage"),
    ],
)
def test_what_cannot_be_explained(log: str, arguments: list[str], code: int, words: str) -> None:
    storage = [] if "--storage" in arguments else ["--storage", log]
    result = CliRunner().invoke(command, ["explain", *arguments, *storage])

    assert result.exit_code == code
    assert words in result.output
    assert "Traceback" not in result.output
