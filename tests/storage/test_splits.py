"""However commands are cut into batches, the outcomes are the same, and so is every row that is left."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatkit.core.log import commands as c
from chatkit.core.log import outcomes as o
from chatkit.core.log import rules
from chatkit.drivers.sqlite import Connection, open_sqlite
from chatkit.storage.memory.tables import MemoryState
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import NOW, delivered, device, group, remove
from tests.core.log.batches import batches
from tests.core.log.tables import commit

from .ids import seeded_ids

Batches = Sequence[Sequence[c.Command]]

TABLES = {
    "conversation": "conversation_key",
    "conversation_member": "conversation_key, user_id, join_seq",
    "message": "conversation_key, seq",
    "recall": "conversation_key, seq",
    "device": "user_id, device_id",
    "block": "user_id, blocked_id",
    "member_cursor": "conversation_key, user_id",
    "device_cursor": "conversation_key, user_id, device_id",
    "device_exact": "conversation_key, user_id, device_id, seq",
    "resume_token": "user_id, device_id",
    "outbox": "conversation_key",
    "push_token": "user_id, device_id",
    "mute": "conversation_key, user_id",
    "audit": "audit_id",
    "revocation": "position",
    "audit_head": "chain",
}


def shown(outcomes: Sequence[o.Outcome]) -> list[object]:
    """Outcomes so that they compare: a refusal by its code and words."""
    return [(it.error.code, str(it.error)) if isinstance(it, o.Refused) else it for it in outcomes]


def on_sqlite(history: Batches) -> tuple[list[object], dict[str, list[Any]]]:
    """All outcomes, and all rows that are left."""
    opened: list[Connection] = []

    def connect(path: str, *, read_only: bool = False) -> Connection:
        opened.append(open_sqlite(path, read_only=read_only))
        return opened[-1]

    async def main() -> tuple[list[object], dict[str, list[Any]]]:
        store = SqliteStore(":memory:", ids=seeded_ids(), threads=False, connect=connect)
        await store.migrate()
        outcomes = [shown(await store.commit(batch)) for batch in history]
        assert store.healthy
        rows = {name: opened[0].execute(f"SELECT * FROM {name} ORDER BY {by}") for name, by in TABLES.items()}
        await store.aclose()
        return [*chain.from_iterable(outcomes)], rows

    return anyio.run(main)


def in_memory(history: Batches) -> tuple[list[object], object]:
    """The same on the tables in memory."""
    tables = MemoryState()
    outcomes = [shown(commit(tables, batch)) for batch in history]
    for it in tables.by_key.values():
        it.devices = filled(it.devices)
    logs = [[getattr(it, name) for name in it.__struct_fields__] for it in tables.by_key.values()]
    left = (
        logs,
        filled(tables.devices),
        tables.push_tokens,
        tables.tokens,
        tables.blocks,
        (tables.audit, tables.audit_heads),
        tables.revocations,
    )
    return [*chain.from_iterable(outcomes)], left


def filled(by_user: dict[str, Any]) -> dict[str, Any]:
    """Without the users of whom nothing is left."""
    return {user: found for user, found in by_user.items() if found}


@pytest.mark.parametrize("devices_max", [2, 50])
def test_any_split_gives_the_same_outcomes_and_rows(
    devices_max: int, caplog: pytest.LogCaptureFixture
) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(batches, st.integers(2, 9))
    def check(history: list[list[c.Command]], size: int) -> None:
        whole = [*chain.from_iterable(history)]
        splits: list[Batches] = [
            [whole],
            [whole[start : start + size] for start in range(0, len(whole), size)],
            history,
        ]
        alone = [[command] for command in whole]
        outcomes, rows = on_sqlite(alone)
        model, left = in_memory(alone)
        assert outcomes == model
        for split in splits:
            assert on_sqlite(split) == (outcomes, rows)
            assert in_memory(split) == (model, left)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rules, "DEVICES_MAX", devices_max)
        check()
    assert not caplog.records, "no batch had to be tried one by one"


def test_a_device_that_comes_back_in_the_batch_in_which_its_user_left_has_no_cursor_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2)
    before = [device("bob", "tablet"), group("g", "ann", "bob"), group("h", "ann", "bob")]
    before += [delivered(name, "bob", 1, "tablet") for name in "gh"]
    batch = [
        remove("g", "bob", "bob"),
        *(device("bob", name, NOW + turn) for turn, name in enumerate(("phone", "pc", "tablet"), 1)),
        delivered("h", "bob", 1, "tablet"),
    ]
    whole, alone = [before, batch], [[command] for command in (*before, *batch)]

    assert on_sqlite(whole) == on_sqlite(alone)
    assert in_memory(whole) == in_memory(alone)
    cursors = on_sqlite(whole)[1]["device_cursor"]
    assert [row[:4] for row in cursors] == [(2, "bob", "tablet", 1)]
