"""No operation or event tells an outsider anything of a foreign id, on any store; a new one needs a row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkit import ChatServer, open_store
from chatkit.storage.base import Store
from tests.servers.postgres import PostgresServer, serving

from .matrix import PATH_IDS, event_names, findings, name_of, operations
from .rows import EVENTS, HTTP
from .scene import authenticate


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return open_store(server.new_database())
    return open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/chat.db")


async def test_nobody_learns_or_changes_anything(store: Store) -> None:
    assert await findings(store) == []


def test_every_operation_and_event_has_a_row_and_no_row_is_left_over() -> None:
    server = ChatServer(store=open_store("memory://"), authenticate=authenticate)
    listed = operations(server)

    assert {name_of(it) for it in listed} == set(HTTP), "a new operation needs a row in tests/attacks/rows.py"
    assert set(event_names()) == set(EVENTS), "a new event needs a row in tests/attacks/rows.py"
    assert all(HTTP.values()) and all(EVENTS.values())


def test_every_id_of_a_path_is_asked_with_a_foreign_one() -> None:
    for name, asks in HTTP.items():
        for part in re.findall(r"\{(\w+)\}", name):
            assert part in PATH_IDS, f"{name}: say in matrix.py what fills {part}"
            assert any(not ask.path for ask in asks), f"{name}: no ask fills its own path"


def test_every_kind_of_id_is_asked_for() -> None:
    text = repr((HTTP, EVENTS))
    assert all(
        kind in text for kind in ("{c}", "{m}", "{u}", "{d}", "{resume}", "cursor={u}", "upToSeq", "lastSeq")
    )


def test_administrators_operations_are_no_path_to_others() -> None:
    for name, asks in HTTP.items():
        if "/v1/admin/" in name:
            assert {ask.answer for ask in asks} == {"NO_PATH"}, name
