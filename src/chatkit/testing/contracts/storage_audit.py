"""The audit in a store: who did what, in chains of digests. Part of `StoreContract`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from ...core.log.audit import ChainCheck, ChainedAct, Head
from ...storage import base
from ...storage.base import Store
from .storage_commands import NOW, add, ban, do, group, one, recall, remove, revoke, send

EVERYTHING = base.AuditFilter()


async def a_story(store: Store) -> None:
    """Acts in two conversations, between acts in none, some of them in one batch."""
    await do(store, group("g", "ann", "bob"), revoke("ann", "phone"), add("g", "ann", "cat"))
    await do(store, group("h", "bob"), ban("dan", at_ms=NOW + 5))
    sent = await one(store, send("g", "cat", "k", "secret"), base.Appended)
    await do(store, recall(sent.entry.message_id, "cat"), remove("g", "ann", "bob"))
    await do(store, base.RenewEpoch("h", "e2", NOW + 9))


async def faults(store: Store, limit: int) -> tuple[ChainCheck, list[str]]:
    """A check of every chain by pages of this size, and what it found."""
    check, found, more = ChainCheck(), list[str](), True
    while more:
        page = await store.audit_chains(check.chain, check.number, limit)
        found += [f"chain {it.chain}: {it.words}" for it in check.feed(*page)]
        more = page.ends_in is not None
    return check, found


async def by_pages(store: Store, limit: int) -> AsyncIterator[list[base.AuditRow]]:
    """All rows in order."""
    after = 0
    while rows := await store.acts(EVERYTHING, after, limit):
        yield rows
        after = rows[-1].audit_id


def wrong(rows: Iterable[ChainedAct], heads: Mapping[int, Head]) -> list[str]:
    """What is wrong with these rows."""
    return [
        it.words for it in ChainCheck().feed(sorted(rows, key=lambda it: (it.chain, it.number)), heads, None)
    ]


class AuditContract:
    """Every act is there in its order, and no row can go or change unseen."""

    async def test_every_act_is_there_in_order_wherever_it_was(self, store: Store) -> None:
        await a_story(store)
        rows = await store.acts(EVERYTHING, 0, 100)

        assert [(row.conversation_id, row.actor_id, row.action, row.subject) for row in rows] == [
            ("g", "ann", "CREATED", "g"),
            ("", "", "REVOKED", "ann"),
            ("g", "ann", "ADDED", "cat"),
            ("h", "bob", "CREATED", "h"),
            ("", "", "BANNED", "dan"),
            ("g", "cat", "RECALLED", rows[5].subject),
            ("g", "ann", "REMOVED", "bob"),
            ("h", "", "EPOCH_RENEWED", "e2"),
        ]
        assert [row.audit_id for row in rows] == sorted({row.audit_id for row in rows})
        assert [row async for page in by_pages(store, 3) for row in page] == rows
        assert await store.audit_end() == rows[-1].audit_id
        assert await store.acts(EVERYTHING, rows[-1].audit_id, 100) == []

    async def test_what_is_asked_for_is_found(self, store: Store) -> None:
        await a_story(store)
        rows = await store.acts(EVERYTHING, 0, 100)

        async def found(**wanted: str | int) -> list[str]:
            some = await store.acts(base.AuditFilter(**wanted), 0, 100)  # type: ignore[arg-type]
            newest = await store.newest_acts(base.AuditFilter(**wanted), rows[-1].audit_id + 1, 100)  # type: ignore[arg-type]
            assert newest == some[::-1]
            return [row.action for row in some]

        assert await found(conversation_id="h") == ["CREATED", "EPOCH_RENEWED"]
        assert await found(conversation_id="nowhere") == []
        assert await found(user_id="bob") == ["CREATED", "REMOVED"]
        assert await found(actor_id="ann") == ["CREATED", "ADDED", "REMOVED"]
        assert await found(actor_id="") == ["REVOKED", "BANNED", "EPOCH_RENEWED"]
        assert await found(action="ADDED") == ["ADDED"]
        assert await found(since_ms=NOW + 5) == ["BANNED", "EPOCH_RENEWED"]
        assert await found(actor_id="ann", conversation_id="g", action="REMOVED") == ["REMOVED"]
        assert await store.newest_acts(EVERYTHING, rows[4].audit_id, 2) == [rows[3], rows[2]]

    async def test_each_chain_holds_and_every_row_is_in_one(self, store: Store) -> None:
        assert (await faults(store, 2))[1] == []
        await a_story(store)
        rows = await store.acts(EVERYTHING, 0, 100)

        for limit in (2, 3, 5, 100):
            check, found = await faults(store, limit)
            assert found == []
            assert (check.rows, check.chains) == (len(rows), 3)

    async def test_a_row_that_was_changed_or_taken_out_is_found(self, store: Store) -> None:
        await a_story(store)
        rows, heads, _ = await store.audit_chains(0, 0, 100)
        assert wrong(rows, heads) == []

        for place, row in enumerate(rows):
            before, behind = rows[:place], rows[place + 1 :]
            assert wrong([*before, *behind], heads), f"row {row.audit_id} is not missed"
            for column, value in enumerate(row[:-1]):
                values: list[Any] = [*row]
                values[column] = value + 1 if isinstance(value, int) else f"{value}x"
                found = wrong([*before, ChainedAct(*values), *behind], heads)
                assert found, f"{row._fields[column]} of row {row.audit_id} can be changed"

    async def test_a_chain_that_was_taken_out_is_found(self, store: Store) -> None:
        await a_story(store)
        rows, heads, _ = await store.audit_chains(0, 0, 100)

        for chain in {row.conversation_key for row in rows}:
            left = [row for row in rows if row.conversation_key != chain]
            assert wrong(left, {key: head for key, head in heads.items() if key != chain})

    async def test_a_refusal_leaves_no_row(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        before = await store.acts(EVERYTHING, 0, 10)
        await store.commit(
            [remove("g", "bob", "ann"), base.RenewEpoch("nowhere", "e", NOW), send("g", "ann", "k")]
        )

        assert await store.acts(EVERYTHING, 0, 10) == before
