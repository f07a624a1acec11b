"""Search as a part of a server: the pace of its index, what is said of its lag, and where a search stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from chatkit.core.search import parse_query
from chatkit.errors import UnavailableError
from chatkit.observability.instrument import Instrument, ServerSample
from chatkit.ports import SystemIds
from chatkit.server.searching import SEARCH_S, Searching
from chatkit.storage.base import Entry
from chatkit.storage.memory import MemoryStore
from chatkit.storage.search import PLACE_MAX, Candidate, Candidates, Wanted
from chatkit.testing.contracts.storage_commands import text
from chatkit.testing.virtual_time import VirtualClock

from .harness import group, serving

WANTED = Wanted("ann", parse_query("word"))


class ScriptedIndex:
    """An index whose steps are told beforehand, and take a second each."""

    def __init__(self, *steps: int | Exception | None) -> None:
        self.steps = list(steps)
        self.at_s: list[float] = []
        self.slow_s = 0.0
        self.look_s = 0.0
        self.behind = False

    async def open(self) -> None:
        pass

    async def discard(self) -> None:
        raise AssertionError("search is on")

    async def follow(self) -> int | None:
        self.at_s.append(anyio.current_time())
        step = self.steps.pop(0) if self.steps else 0
        if isinstance(step, Exception):
            raise step
        await anyio.sleep(1.0 if step else self.look_s)
        return step

    async def is_behind(self, user_id: str) -> bool:
        return self.behind

    async def candidates(self, wanted: Wanted, before_place: int, limit: int) -> Candidates:
        """One message for each number below the place, none of them below 1."""
        await anyio.sleep(self.slow_s)
        places = range(min(before_place, 10_001) - 1, 0, -1)[:limit]
        found = tuple(Candidate(it, _entry(it)) for it in places)
        return Candidates(found, places[-1] if len(places) == limit else None, len(found))


def _entry(seq: int) -> Entry:
    payload = text("a word" if seq % 500 == 0 else "others")
    return Entry("g", "e", f"m{seq}", seq, "ben", seq, payload, None)


@asynccontextmanager
async def following(index: ScriptedIndex) -> AsyncIterator[Searching]:
    store: Any = MemoryStore(ids=SystemIds())
    store.search = index
    searching = Searching(store, store, VirtualClock(), is_on=True)
    await searching.start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(searching.run)
        yield searching
        tasks.cancel_scope.cancel()


async def test_a_step_pauses_for_as_long_as_it_took() -> None:
    index = ScriptedIndex(200, 200)
    async with following(index):
        await anyio.sleep(5)

    first = index.at_s[0]
    assert [round(it - first, 1) for it in index.at_s[:4]] == [0.0, 2.0, 4.0, 4.2]


async def test_a_look_that_finds_nothing_pauses_for_as_long_as_it_took() -> None:
    index = ScriptedIndex()
    index.look_s = 0.7
    async with following(index):
        await anyio.sleep(5)

    first = index.at_s[0]
    assert [round(it - first, 1) for it in index.at_s[:3]] == [0.0, 1.4, 2.8]


async def test_who_does_not_have_the_turn_does_not_say_that_all_was_taken_up() -> None:
    index = ScriptedIndex(*[None] * 20)
    async with following(index) as searching:
        await anyio.sleep(3.5)
        lag_s = searching.lag_s
        assert lag_s is not None
        assert lag_s > 3
        await anyio.sleep(1.5)
        assert searching.lag_s == 0.0
    assert index.at_s[1] - index.at_s[0] == pytest.approx(0.2)


async def test_the_lag_is_how_long_ago_all_was_taken_up() -> None:
    index = ScriptedIndex(*[200] * 5)
    async with following(index) as searching:
        await anyio.sleep(8)
        lag_s = searching.lag_s
        assert lag_s is not None
        assert lag_s > 7
        await anyio.sleep(4)
        assert searching.lag_s == 0.0


@pytest.mark.parametrize("error", [UnavailableError("not now"), ValueError("a bug")])
async def test_a_step_that_fails_is_tried_again(error: Exception) -> None:
    index = ScriptedIndex(error)
    async with following(index):
        await anyio.sleep(12)

    assert index.at_s[1] - index.at_s[0] == pytest.approx(5.0)
    assert index.at_s[2] - index.at_s[1] == pytest.approx(0.2)


async def test_a_search_stops_after_so_many_messages_and_goes_on_from_there() -> None:
    async with following(ScriptedIndex()) as searching:
        first = await searching.search(WANTED, None, 50)
        assert [it.entry.seq for it in first.found] == [10_000, 9_500]
        assert first.next_cursor == f"{9_001:x}"
        seqs, cursor = [it.entry.seq for it in first.found], first.next_cursor
        while cursor is not None:
            page = await searching.search(WANTED, cursor, 50)
            seqs += [it.entry.seq for it in page.found]
            cursor = page.next_cursor

    assert seqs == [*range(10_000, 0, -500)]


async def test_a_search_stops_after_so_long() -> None:
    index = ScriptedIndex()
    index.slow_s, index.behind = 0.6 * SEARCH_S, True
    async with following(index) as searching:
        page = await searching.search(WANTED, None, 50)

    assert [it.entry.seq for it in page.found] == [10_000]
    assert page.next_cursor == f"{9_900:x}"
    assert not page.up_to_date


async def test_a_page_is_full_at_its_limit() -> None:
    async with following(ScriptedIndex()) as searching:
        page = await searching.search(WANTED, f"{PLACE_MAX:x}", 1)

    assert page.next_cursor == f"{10_000:x}"


async def test_an_erased_user_is_found_no_more_and_the_lag_is_sampled() -> None:
    samples: list[ServerSample] = []

    class Taking(Instrument):
        def on_sampled(self, sample: ServerSample) -> None:
            samples.append(sample)

    async with serving(search=True, instruments=[Taking()]) as server:
        await group(server, "ann", "ben")
        await server.send("g-1", "ben", "a word of ben", client_msg_id="1")
        await server.send("g-1", "ann", "a word of ann", client_msg_id="1")
        await anyio.sleep(2)
        assert len((await server.search("ann", "word")).hits) == 2
        await server.erase_user("ben", bodies="erase")

        assert [it.text for it in (await server.search("ann", "word")).hits] == ["a word of ann"]
    assert samples[-1].search_lag_s == 0.0
