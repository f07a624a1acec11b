"""The checker knows who owns a group when, by its own arithmetic, and who may change its members."""

from __future__ import annotations

from msgspec.structs import replace

from chatkit.storage.memory import MemoryStore
from chatkit.testing.contracts.storage_commands import add, do, group, remove, send
from chatkit.testing.contracts.storage_ownership import update
from tests.storage.ids import seeded_ids

from .checker.log_view import LogView
from .checker.rights import _change_not_allowed, _changes_audited
from .checker.standings import Standings
from .dumps import LogDump

OWNERS = {2: "ann", 3: "ann", 4: "bob", 5: "cat", 6: "cat", 7: "bob"}
"""Before each change of members below: ann goes, bob follows and passes the group to cat, whom the host removes."""


async def passed_on() -> LogDump:
    store = MemoryStore(ids=seeded_ids())
    await store.migrate()
    await do(store, group("g", "ann", "bob"), add("g", "ann", "cat"), remove("g", "ann", "ann"))  # 1 to 3
    await do(store, add("g", "bob", "dan"), update("g", "bob", owner="cat"))  # 4
    await do(store, add("g", "cat", "ann"), remove("g", None, "cat"), add("g", "bob", "eve"))  # 5 to 7
    await do(store, send("g", "eve", "k"))
    entries = await store.entries("g", 0, 100)
    return LogDump("g", "e1", len(entries), entries, [], await store.audit("g"))


def breaches(log: LogView) -> list[str]:
    """What is wrong between a log and its audit."""
    return [it.what for it in _changes_audited(log, Standings(log)) if it is not None]


async def test_owners_follow_one_another_by_the_rule_and_the_audit() -> None:
    log = LogView(await passed_on())
    owners = Standings(log)

    assert {seq: owners.before[seq].owner for seq in OWNERS} == OWNERS
    assert owners.successors == {3: "bob", 6: "bob"}
    assert [_change_not_allowed(log, log.rows[seq], owners) for seq in OWNERS] == [None] * len(OWNERS)
    assert breaches(log) == []


async def test_a_former_owner_may_change_nothing() -> None:
    dump = await passed_on()
    dump.entries[6] = replace(dump.entries[6], sender_id="ann")
    log = LogView(dump)

    assert _change_not_allowed(log, log.rows[7], Standings(log)) == "ann is neither the owner nor an admin"


async def test_a_succession_is_audited() -> None:
    dump = await passed_on()
    dump.audit[:] = [row for row in dump.audit if (row.action, row.seq) != ("OWNER_CHANGED", 3)]
    wrong = breaches(LogView(dump))

    assert wrong == ["seq 3 of g: OWNER_CHANGED of bob by ann: done 1 times, audited 0 times"]
