"""Imports between everything else that can happen: the same outcomes and rows on every store and however they are cut
into batches, and a log that is whole afterwards.
"""

from __future__ import annotations

import random
from itertools import chain
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatkit.core.log import commands as c
from chatkit.core.log import outcomes as o
from chatkit.storage.memory.tables import MemoryState
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from tests.core.log.batches import NOW, USERS, batches
from tests.core.log.tables import commit

from .ids import seeded_ids
from .test_splits import in_memory, on_sqlite

EVERY = 4


def entry(rng: random.Random, head: int) -> c.ImportedEntry:
    """Something of another log."""
    sender, at_ms = rng.choice([*USERS, "zoe"]), rng.randrange(2 * NOW)
    kind = rng.random()
    if kind < 0.2:
        said: Any = rng.choice(["EDIT", "REACTION"])
        key, names, removed = rng.choice("abcxyz"), rng.randrange(1, head + 2), rng.random() < 0.3
        payload = b'{"type":"%s"}' % said.encode()
        values = {"names_seq": names, "reaction": rng.choice("+-"), "removed": removed}
        return c.ImportedEntry(said, sender, at_ms, payload, key, payload[::-1], **values)
    if kind < 0.6:
        payload = b'{"text":"%d","type":"TEXT"}' % rng.randrange(3)
        return c.ImportedEntry("USER", sender, at_ms, payload, rng.choice("abcxyz"), payload[::-1])
    if kind < 0.85:
        op: Any = rng.choice(["ADDED", "ADDED", "REMOVED", "LEFT"])
        return c.ImportedEntry(
            "MEMBER", sender, at_ms, op=op, user_ids=tuple(rng.sample(USERS, rng.choice([1, 2])))
        )
    return c.ImportedEntry("RECALL", sender, at_ms, names_seq=rng.randrange(1, head + 2))


def an_import(rng: random.Random, tables: MemoryState, at_ms: int) -> c.ImportEntries:
    """One that fits mostly: it names the head that there is."""
    name = rng.choice("ggghis")
    heads = {it.conversation_id: it.head_seq for it in tables.by_key.values()}
    head = heads.get(name, 0)
    after = rng.choice([head, head, None, head + 1])
    entries = tuple(entry(rng, head) for _ in range(rng.randrange(5)))
    entries = tuple(it for it in entries if name != "s" or it.kind != "MEMBER")
    users = tuple(rng.sample(USERS, 2))
    new = c.CreateConversation(name, "GROUP", users[0], users, "t", "e0", 9, 5, True)
    wanted = new if rng.random() < 0.8 else None
    return c.ImportEntries(name, entries, after, at_ms, wanted, rng.random() < 0.3)


def with_imports(history: list[list[c.Command]], rng: random.Random) -> tuple[list[c.Command], int]:
    """A history with imports in between, and how many of them were carried out."""
    tables, whole, done = MemoryState(), [], 0
    for turn, command in enumerate(chain.from_iterable(history)):
        commit(tables, [command])
        whole.append(command)
        if turn % EVERY == 0:
            imported = an_import(rng, tables, NOW + turn)
            (outcome,) = commit(tables, [imported])
            done += isinstance(outcome, o.Imported)
            whole.append(imported)
    return whole, done


def findings(path: Path, whole: list[c.Command]) -> list[Any]:
    """What is wrong with a file after these."""

    async def main() -> None:
        store = SqliteStore(path, ids=seeded_ids(), threads=False)
        await store.migrate()
        for command in whole:
            await store.commit([command])
        await store.aclose()

    path.unlink(missing_ok=True)
    anyio.run(main)
    return list(full_report(str(path)).findings)


def test_imports_between_everything_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts: list[int] = []

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(batches, st.integers(2, 9), st.randoms(use_true_random=False))
    def check(history: list[list[c.Command]], size: int, rng: random.Random) -> None:
        whole, done = with_imports(history, rng)
        counts.append(done)
        alone = [[command] for command in whole]
        split = [whole[start : start + size] for start in range(0, len(whole), size)]
        outcomes, rows = on_sqlite(alone)
        model, left = in_memory(alone)
        assert outcomes == model
        together, rows_together = on_sqlite(split)
        assert together == outcomes
        assert rows_together == rows
        assert in_memory(split) == (model, left)
        assert findings(tmp_path / "chat.db", whole) == []

    check()
    assert sum(counts) > len(counts), "most imports were refused"
    assert not [it for it in caplog.records if "tried alone" in it.message], (
        "no batch had to be tried one by one"
    )
