"""What PostgreSQL has to do for the store: round trips, plans, and keys by which the schema can be distributed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from chatkit.storage import base
from chatkit.storage.postgres import (
    PostgresStore,
    audit,
    deliveries,
    moderation,
    person,
    reads,
    references,
    trail,
)
from chatkit.testing.contracts.storage_commands import device, do, group, send, single
from chatkit.testing.contracts.storage_reopening import everything, live, opened
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids
from .test_statements import BATCHES, MANY

ROUND_TRIPS = 4
"""BEGIN, load, write, COMMIT."""

MORE_TRIPS = {
    "joining": 1,  # what the group is for, which the answer says
    "joining by the host": 1,
    "leaving": 1,
    "owners that leave": 1,
    "titles and owners": 1,
    "mutes": 1,  # what wakes all the same
    "recalls": 2,  # edits of the message; what else was said of it goes along
    "all at once": 3,
}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    settings = {
        "shared_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "-1",
        "auto_explain.log_nested_statements": "on",
    }
    with serving(**settings) as server:
        yield server


@pytest.fixture
async def store(server: PostgresServer) -> AsyncIterator[PostgresStore]:
    async with opened(lambda: PostgresStore(server.empty_log(), ids=seeded_ids())) as store:
        yield store  # type: ignore[misc]


class Trips:
    """Counts what is said to the server, after it has said once what its statements are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("fetch", "execute"):
            monkeypatch.setattr(asyncpg.Connection, name, self._counted(getattr(asyncpg.Connection, name)))

    def _counted(self, inner: Any) -> Any:
        async def call(connection: Any, *args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return await inner(connection, *args, **kwargs)

        return call


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("count", [1, MANY])
async def test_a_batch_takes_four_round_trips_however_long_it_is(
    store: PostgresStore, name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = count  # as many conversations as the batch names
    await do(store, device("ann"), *(device(f"u{n}") for n in range(many + 1)))
    await do(store, *(group(f"g{n}", "ann", f"u{n}", "cat") for n in range(many)))
    await do(store, *(single(f"s{n}", "ann", f"u{n}") for n in range(many)))
    await do(store, *(send(f"{kind}{n}", "ann", "first") for kind in "gs" for n in range(many)))
    trips = Trips(monkeypatch)
    commands = [make(n) for n in range(many) for make in BATCHES[name]]
    outcomes = await store.commit(commands)

    assert trips.count == ROUND_TRIPS + MORE_TRIPS.get(name, 0)
    refusals = [it for it in outcomes if isinstance(it, base.Refused)]
    assert not refusals, refusals[0]


async def test_a_list_by_activity_takes_a_bounded_number_of_round_trips(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await do(store, *(group(f"g{n}", "ann", f"u{n % 2}") for n in range(MANY)))
    await do(store, *(send(f"g{n}", "ann", "k") for n in range(MANY)))
    trips = Trips(monkeypatch)
    counts = []
    for user, limit in (("u0", 1), ("u1", 200)):
        before = trips.count
        page = await store.recent(user, None, None, limit, 1_000_000)
        counts.append(trips.count - before)
        assert len(page.rows) == limit
        assert all(row.last is not None and row.unread == 1 for row in page.rows)

    assert counts[0] == counts[1] <= 7


STATEMENTS = {
    name: sql
    for module in (reads, deliveries, trail, audit, person, moderation, references)
    for name, sql in vars(module).items()
    if name.startswith("SELECT_")
}
_WHOLE: dict[str, set[str]] = {
    "SELECT_POSITION": {"log_position"},
    "SELECT_NEWEST_CHANGE": {"audit"},
    "SELECT_END": {"audit"},
    "SELECT_STARTED": {"audit"},
    "SELECT_ERASURES": {"erasure"},
    "SELECT_LAST_PLACE": {"conversation"},
    "SELECT_OUTBOX": {"outbox"},
    "SELECT_DEAD_LETTERS": {"delivery"},
    "SELECT_LAG": {"delivery", "outbox"},
}
"""Tables that a statement reads from an end of an index, or as a whole where they are small."""

_NODE = re.compile(r"^(?:\s*->)?\s*\S.*?\(cost=", re.MULTILINE)
_SCAN = re.compile(
    r"(?:Seq|Index|Index Only|Bitmap Heap) Scan(?: Backward)?(?: using \w+)? on (?:public\.)?(\w+)"
)


def scanned(plan: str) -> set[str]:
    """Tables of which a plan reads everything: without an index, or an index from end to end."""
    starts = [it.start() for it in _NODE.finditer(plan)]
    nodes = [plan[start:end] for start, end in pairwise([*starts, len(plan)])]
    return {
        found[1]
        for node in nodes
        if (found := _SCAN.search(node)) and not re.search(r"(Index|Recheck) Cond:", node)
    }


def test_a_whole_index_that_is_read_is_seen() -> None:
    assert scanned(_PLAN) == {"message", "device", "recall"}


_PLAN = """Limit  (cost=0.15..1 rows=1 width=8)
  ->  Nested Loop  (cost=0.15..9 rows=2 width=8)
        ->  Index Scan using message_pkey on message e  (cost=0.15..8 rows=3 width=8)
              Filter: (sender_id = 'ann'::text)
        ->  Index Only Scan Backward using device_pkey on public.device  (cost=0.15..1 rows=1 width=8)
        ->  Index Scan using conversation_pkey on conversation c  (cost=0.15..1 rows=1 width=8)
              Index Cond: (conversation_key = e.conversation_key)
        ->  Seq Scan on recall  (cost=0.00..1 rows=1 width=8)
              Filter: (seq = 1)"""


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_every_read_goes_by_an_index(store: PostgresStore, server: PostgresServer, name: str) -> None:
    """Asked not to read whole tables, the planner never has to."""
    await live(store)
    connection = await asyncpg.connect(store._database._address)
    await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    sql = STATEMENTS[name]
    count = max((int(it) for it in re.findall(r"\$(\d+)", sql)), default=0)
    await connection.execute(f"PREPARE it AS {sql}")
    arguments = f"({', '.join(['NULL'] * count)})" if count else ""
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE it{arguments}"))
    await connection.close()

    assert scanned(plan) == _WHOLE.get(name, set()), plan


async def test_loading_and_writing_go_by_indexes(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plans of what runs inside the functions, by auto_explain."""
    address = server.new_database()
    async with opened(lambda: PostgresStore(address, ids=seeded_ids())):
        pass
    name = address.rpartition("/")[2].partition("?")[0]
    server.query(name, f"ALTER DATABASE {name} SET auto_explain.log_min_duration = 0")
    server.query(name, f"ALTER DATABASE {name} SET client_min_messages = warning")
    before = len(server.log())
    async with opened(lambda: PostgresStore(address, ids=seeded_ids())) as store:
        await live(store)
        await do(store, base.EndLogins(1))
        await do(store, device("ann", "phone"), *(device("ann", f"d{n}") for n in range(3)))
        await everything(store)
    records = re.split(r"\n(?=\d{4}-\d\d-\d\d )", server.log()[before:])
    inside = [  # a statement, and whose it is
        (context, plan)
        for plan, context in pairwise(records)
        if "Query Text:" in plan and "CONTEXT:" in context
    ]
    called = {name for context, _ in inside for name in re.findall(r"function \"?(\w+)", context)}

    assert called == {
        "load_batch_2",
        "write_batch_2",
        "least_confirmed_1",
        "make_archive_range_stale",
        "take_recalled_out_of_search",
        "write_audit_1",
        "announce_audit",
        "chain_audit",
        "audit_digest_1",
    }
    whole = {(name, plan) for _, plan in inside for name in scanned(plan) - {"resume_token"}}  # of EndLogins
    assert not whole, "\n".join(plan for _, plan in whole)


async def test_unique_keys_begin_with_what_a_table_can_be_distributed_by(
    store: PostgresStore, server: PostgresServer
) -> None:
    """With the conversation's number where a table has one; else with the user or the name that is looked up."""
    connection = await asyncpg.connect(store._database._address)
    rows = await connection.fetch(
        """
        SELECT c.relname, i.indkey[0] AS first, a.attname,
            EXISTS (SELECT FROM pg_attribute AS k WHERE k.attrelid = c.oid AND k.attname = 'conversation_key') AS inside
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indrelid
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace
        """
    )
    await connection.close()
    firsts: dict[str, set[str]] = {}
    for row in rows:
        firsts.setdefault(row["relname"], set()).add(row["attname"])

    names = {
        "conversation_name": "conversation_id",
        "conversation_pair": "single_pair",
        "audit_head": "chain",
        "blob": "blob_id",
        "blob_due": "due_id",
    }
    whole = {"setting": "name", "log_position": "slot", "schema_migration": "number"}
    for table, columns in firsts.items():
        inside = next(row["inside"] for row in rows if row["relname"] == table)
        wanted = {**names, **whole}.get(table, "conversation_key" if inside else "user_id")
        assert columns == {wanted}, table
