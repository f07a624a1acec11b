"""`python -m benchmarks.searching FOLDER [MESSAGES [ADDRESS]]`: search in a long log of real lines.

The folder holds IRC logs (`[12:34] <nick> words`), which are read and repeated in 1,000 conversations until there are
so many messages (a million by default). They go into the store directly, then into the index, step by step. Queries are
words of the logs, as often as they come there, alone and by two. Three users ask: one is in 10 of the conversations,
one in all, one in a single one and asks there.

Times are said as multiples of a page of 50 messages of history, read in turn with them on the same machine; what a
search looked at is a count. The log is a SQLite file in a temporary folder that is gone afterwards, or at an address as
`open_store` takes it, such as that of an empty PostgreSQL database, where it stays.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from chatkit import open_store
from chatkit.core.search import atoms_of
from chatkit.ports import Ports
from chatkit.server.search_verbs import wanted_of
from chatkit.server.searching import Searching
from chatkit.storage.base import Append, CreateConversation
from chatkit.storage.search import Candidates, Wanted
from chatkit.wire.payload import canonical

CONVERSATIONS: Final = 1_000
FEW: Final = 10
QUERIES: Final = 200
BATCH: Final = 1_000
START_MS: Final = 1_500_000_000_000
_LINE: Final = re.compile(r"\[\d\d:\d\d\] <([^>]+)> (.*\S)")


def lines_of(folder: Path) -> list[tuple[str, str]]:
    """(nick, words) of each line that somebody said."""
    found = []
    for file in sorted(folder.glob("*.txt")):
        for line in file.read_text("utf-8", "replace").splitlines():
            match = _LINE.match(line)
            if match:
                found.append((match[1], match[2]))
    return found


class Counting:
    """The index of a store, which counts what it proposes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.examined = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def candidates(self, wanted: Wanted, before_place: int, limit: int) -> Candidates:
        page: Candidates = await self._inner.candidates(wanted, before_place, limit)
        self.examined += page.examined
        return page


def conversations() -> Iterator[CreateConversation]:
    """All with `many` in them, the first ones with `few`, the first with `one`."""
    for n in range(CONVERSATIONS):
        members = ["many", *(["few"] if n < FEW else []), *(["one"] if n == 0 else [])]
        yield CreateConversation(f"c-{n}", "GROUP", "many", tuple(members), "", f"e{n}", 10, START_MS)


def appends(lines: Sequence[tuple[str, str]], count: int) -> Iterator[Append]:
    """So many messages, a second apart, each line in another conversation."""
    for n, (_, words) in enumerate(islice(cycle(lines), count)):
        payload = canonical({"type": "TEXT", "text": words})
        yield Append(f"c-{n % CONVERSATIONS}", "many", f"k{n}", payload, b"", START_MS + 1000 * n)


def queries(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Words as often as they come, alone and by two of one line."""
    rng, found = random.Random(7), []
    while len(found) < QUERIES:
        words = [it.text for it in atoms_of(rng.choice(lines)[1])]
        if words:
            found.append(" ".join(rng.sample(words, min(len(words), 1 + len(found) % 2))))
    return found


async def fill(store: Any, lines: Sequence[tuple[str, str]], count: int) -> float:
    """Seconds of all commits."""
    await store.commit([*conversations()])
    rows, began = appends(lines, count), time.perf_counter()
    while batch := [*islice(rows, BATCH)]:
        await store.commit(batch)
    return time.perf_counter() - began


async def take_up(store: Any) -> float:
    """Seconds until the index has everything."""
    began = time.perf_counter()
    while await store.search.follow():
        pass
    return time.perf_counter() - began


async def ask(store: Any, asked: Sequence[str], user_id: str, conversation_id: str | None) -> dict[str, Any]:
    """A page of each query, in turn with a page of history."""
    counting = Counting(store.search)
    searching = Searching(store, store, Ports().clock, is_on=True)
    searching._index = counting  # type: ignore[assignment]
    ratios, examined, hits, pages = [], [], 0, []
    for query in asked:
        began = time.perf_counter()
        await store.page("c-0", user_id, 0, 50, 1_000_000)
        between = time.perf_counter()
        counting.examined = 0
        page = await searching.search(wanted_of(user_id, query, conversation_id, None, None, None), None, 20)
        ended = time.perf_counter()
        pages.append(between - began)
        ratios.append(ended - between)
        examined.append(counting.examined)
        hits += len(page.found)
    unit = statistics.median(pages)
    return {
        "median": round(statistics.median(ratios) / unit, 1),
        "p95": round(statistics.quantiles(ratios, n=20)[-1] / unit, 1),
        "most": round(max(ratios) / unit, 1),
        "examined_median": statistics.median(examined),
        "examined_p95": statistics.quantiles(examined, n=20)[-1],
        "hits_per_query": round(hits / len(asked), 1),
        "page_of_history_ms": round(unit * 1000, 2),
    }


async def measure(folder: Path, count: int, address: str | None) -> dict[str, Any]:
    """All figures."""
    lines = lines_of(folder)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "chat.db"
        store: Any = open_store(address or f"sqlite:///{path}")
        await store.migrate()
        await store.search.open()
        commits_s = await fill(store, lines, count)
        index_s = await take_up(store)
        asked = queries(lines)
        found = {
            "10 conversations": await ask(store, asked, "few", None),
            "all conversations": await ask(store, asked, "many", None),
            "in one conversation": await ask(store, asked, "one", "c-0"),
        }
        await store.aclose()
        log, index = (path, path.with_name("chat.db-search")) if address is None else (None, None)
        share = log and index and round(os.stat(index).st_size / os.stat(log).st_size, 2)
    return {
        "lines": len(lines),
        "messages": count,
        "index_per_commit": round(index_s / commits_s, 2),
        "index_bytes_per_log_byte": share,
        "multiples_of_a_page_of_history": found,
    }


def main() -> None:
    """Print the figures as JSON."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    address = sys.argv[3] if len(sys.argv) > 3 else None
    print(json.dumps(asyncio.run(measure(folder, count, address)), indent=2))


if __name__ == "__main__":
    main()
