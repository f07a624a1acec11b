"""The table that `python -m benchmarks` fills: each line a work, the servers that do it, and what is aimed at."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop
from tests.proof import rto

from . import catching_up
from .filling import all_of, opened
from .measured import MeasuredServer
from .node import Node, node
from .pinned import cores, others_cpu_s
from .postgres import postgres
from .returning import Chatkit as ReturningToChatkit
from .returning import Rival as ReturningToSocketio
from .rivals.installed import install_node, install_python
from .rivals.servers import prototype, python_socketio, socketio
from .workloads import Figures, Group, Pairs, Silent, Turns, connected, idle, leave

CHATKIT = "chatkit"
SOCKETIO = "socket.io, better-sqlite3"
SOCKETIO_PG = "socket.io, pg"
PYTHON_SOCKETIO = "python-socketio, aiosqlite"
PROTOTYPE = "bare prototype"

OTHERS = "cpu_share_of_others"


@dataclass(frozen=True)
class Sitting:
    """How much is measured, and where what is needed more than once is kept.

    Attributes:
        folder: For logs that are filled once.
        seconds: Measured of a load that runs for a time.
        part: Of the messages, connections and so on of a full sitting.
        stored: Of how many messages the longest log is.
    """

    folder: Path
    seconds: float = 6.0
    part: float = 1.0
    stored: int = 10_000_000
    _kept: dict[str, object] = field(default_factory=dict)

    def count(self, full: int) -> int:
        """Of what there are so many in a full sitting."""
        return round(full * self.part)

    def kept(self, name: str, make: Callable[[Path], object]) -> object:
        """What `make` has made of a folder of its own, the first time."""
        if name not in self._kept:
            folder = self.folder / name
            folder.mkdir()
            self._kept[name] = make(folder)
        return self._kept[name]


Measure = Callable[[Sitting], Figures]


@dataclass(frozen=True)
class Side:
    """Somebody who does the work.

    Attributes:
        measure: One round.
        prepare: What must be there before; raises CannotMeasureError where it cannot be had.
    """

    measure: Measure
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Aim:
    """What the median of one side is to be at most: times that of another one, or outright."""

    of: str
    at_most: float
    to: str | None = None


@dataclass(frozen=True)
class Line:
    """One work.

    Attributes:
        title: In words.
        unit: Of the figure.
        figure: Its name among what a side measures.
        sides: Who does it, by name.
        aims: What is to be reached.
        is_quick: Whether `--quick` measures it.
    """

    title: str
    unit: str
    figure: str
    sides: Mapping[str, Side]
    aims: tuple[Aim, ...]
    is_quick: bool = False


Start = Callable[[str], AbstractContextManager[MeasuredServer]]
Work = Callable[[MeasuredServer, Sitting], Awaitable[Figures]]


def on(start: Start, work: Work) -> Measure:
    """A round on a fresh server with a file of its own."""

    def measure(sitting: Sitting) -> Figures:
        with tempfile.TemporaryDirectory() as folder, start(f"{folder}/bench.db") as server:
            return loaded(server, work(server, sitting))

    return measure


def loaded(server: MeasuredServer, load: Awaitable[Figures]) -> Figures:
    """What a load finds, and how much of both cores other processes had meanwhile."""

    async def run() -> Figures:
        return await load

    others_s, began = others_cpu_s(server), time.monotonic()
    figures = uvloop.run(run())
    took_s = len(set(cores())) * (time.monotonic() - began)
    return {**figures, OTHERS: round((others_cpu_s(server) - others_s) / took_s, 3)}


def chatkit(file: str) -> AbstractContextManager[Node]:
    """A server on the first core, with a file that may be filled."""
    return node(storage=f"sqlite:///{file}")


@contextmanager
def chatkit_on_postgres(_: str) -> Iterator[MeasuredServer]:
    """A server and its database on the first core."""
    with postgres() as database, node(storage=database.new_database(), database=database.pid) as server:
        yield server


@contextmanager
def socketio_on_postgres(_: str) -> Iterator[MeasuredServer]:
    """Likewise."""
    with postgres() as database, socketio(database.address("postgres"), database.pid) as server:
        yield server


# The works


async def pairs(server: MeasuredServer, sitting: Sitting) -> Figures:
    """100 pairs, window 16."""
    return await Pairs(server, 100, 16, "p").run(sitting.seconds / 3, sitting.seconds)


async def group_50(server: MeasuredServer, sitting: Sitting) -> Figures:
    """One sender, 50 members."""
    return await Group(server, 50, "g").run(sitting.count(6_000), 16)


async def group_500(server: MeasuredServer, sitting: Sitting) -> Figures:
    """One sender, 500 members."""
    return await Group(server, 500, "g").run(sitting.count(1_000), 16)


async def last_member(server: MeasuredServer, sitting: Sitting) -> Figures:
    """Ten messages a second to 500 members."""
    return await Group(server, 500, "g").run_paced(sitting.count(200), 0.1)


async def idle_2000(server: MeasuredServer, sitting: Sitting) -> Figures:
    """2,000 connections that do nothing."""
    return await idle(server, sitting.count(2_000))


def chatkit_returns(sitting: Sitting) -> Figures:
    """1,000 clients come back to a log that is kept from round to round."""
    log = sitting.kept("returning", ReturningToChatkit)
    assert isinstance(log, ReturningToChatkit)
    return log.measure()


def socketio_returns(_: Sitting) -> Figures:
    """1,000 clients come back to a log that is new in each round."""
    return ReturningToSocketio().measure()


def catches_up(sitting: Sitting) -> Figures:
    """The SDK, 300 of 5,000 conversations behind, over 100 ms of round trip."""
    names = [f"c-{number:05}" for number in range(5_000)]
    behind = names[:: len(names) // 300][:300]

    def make(folder: Path) -> Path:
        asyncio.run(catching_up.prepare(folder, names))
        return folder

    folder = sitting.kept("catching-up", make)
    assert isinstance(folder, Path)
    asyncio.run(catching_up.write(folder, behind, f"m-{time.time_ns()}"))
    with node(limited=True, storage=f"sqlite:///{folder}/server.db") as server:
        return dict(asyncio.run(catching_up.come_back(server, folder / "client.db", None, len(behind))))


TALKING = 50
"""Pairs, each on two of the connections."""


def among_connections(count: int, sitting: Sitting) -> Figures:
    """Some pairs talk at full speed, and the rest of so many connections do nothing."""
    with tempfile.TemporaryDirectory() as folder, chatkit(f"{folder}/bench.db") as server:

        async def load() -> Figures:
            others = [f"i{number}" for number in range(count - 2 * TALKING)]
            idle_ones = await connected(server, others, Silent())
            figures = await Pairs(server, TALKING, 16, "p").run(sitting.seconds / 3, sitting.seconds)
            await leave(idle_ones)
            return figures

        return loaded(server, load())


def all_talk(count: int, sitting: Sitting) -> Figures:
    """All of so many users write in turn, or are written to."""
    numbers = range(count // 2)

    async def fill(file: Path) -> None:
        async with opened(file) as host:
            await all_of(
                host.create_conversation("SINGLE", f"a{it}", [f"b{it}"], conversation_id=f"c{it}")
                for it in numbers
            )

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(fill(Path(folder) / "bench.db"))
        with chatkit(f"{folder}/bench.db") as server:
            turns = Turns(server, {f"c{it}": f"a{it}" for it in numbers}, [f"b{it}" for it in numbers])
            return loaded(server, turns.run(sitting.seconds / 3, sitting.seconds))


def with_stored(count: int | None, sitting: Sitting) -> Figures:
    """100 of 1,000 groups are written to, in a log of so many messages; None: as many as the longest has."""
    messages = count or sitting.stored

    def make(folder: Path) -> Path:
        file = folder / "bench.db"
        asyncio.run(rto.build(file, messages))
        return file

    built = sitting.kept(f"stored-{messages}", make)
    assert isinstance(built, Path)
    groups = [(f"c{it}", f"u{it}-0", f"u{it}-1") for it in range(0, rto.CONVERSATIONS, 10)]
    with tempfile.TemporaryDirectory(dir=sitting.folder) as folder:
        file = Path(folder) / "bench.db"  # a round leaves hundreds of thousands of messages behind
        shutil.copyfile(built, file)
        rto.count_as_served(file)
        with chatkit(str(file)) as server:
            return loaded(server, _talk(server, groups, sitting))


async def _talk(server: MeasuredServer, groups: list[tuple[str, str, str]], sitting: Sitting) -> Figures:
    return await Pairs(server, len(groups), 16, "", existing=groups).run(sitting.seconds / 3, sitting.seconds)


# The lines

_MESSAGE = ("us of CPU a message", "server_cpu_us_per_message")
_DELIVERY = ("us of CPU a delivery", "server_cpu_us_per_delivery")


def _sqlite_sides(work: Work, *, every: bool = False) -> dict[str, Side]:
    sides = {CHATKIT: Side(on(chatkit, work)), SOCKETIO: Side(on(socketio, work), install_node)}
    if every:
        sides[PYTHON_SOCKETIO] = Side(on(python_socketio, work), install_python)
        sides[PROTOTYPE] = Side(on(prototype, work), install_python)
    return sides


LINES: dict[str, Line] = {
    "pairs": Line(
        "1:1 on SQLite: 100 pairs, 100 bytes, 16 in flight each",
        *_MESSAGE,
        _sqlite_sides(pairs, every=True),
        (Aim(CHATKIT, 0.15, SOCKETIO), Aim(CHATKIT, 0.07, PYTHON_SOCKETIO), Aim(CHATKIT, 1.3, PROTOTYPE)),
        is_quick=True,
    ),
    "postgres": Line(
        "the same on PostgreSQL, the database included",
        *_MESSAGE,
        {
            CHATKIT: Side(on(chatkit_on_postgres, pairs)),
            SOCKETIO_PG: Side(on(socketio_on_postgres, pairs), install_node),
        },
        (Aim(CHATKIT, 0.25, SOCKETIO_PG),),
    ),
    "group-50": Line(
        "group of 50, one sender, 16 in flight",
        *_DELIVERY,
        _sqlite_sides(group_50),
        (Aim(CHATKIT, 0.6, SOCKETIO),),
        is_quick=True,
    ),
    "group-500": Line(
        "group of 500, one sender, 16 in flight",
        *_DELIVERY,
        _sqlite_sides(group_500),
        (Aim(CHATKIT, 0.5, SOCKETIO),),
    ),
    "last-member": Line(
        "group of 500, 10 messages a second: until the last member has it",
        "ms, P99",
        "last_member_ms_p99",
        _sqlite_sides(last_member),
        (Aim(CHATKIT, 60.0),),
    ),
    "return": Line(
        "1,000 clients return at once, 20 missed messages each",
        "ms of CPU a client",
        "cpu_ms_per_client",
        {CHATKIT: Side(chatkit_returns), SOCKETIO: Side(socketio_returns, install_node)},
        (Aim(CHATKIT, 0.5, SOCKETIO),),
    ),
    "idle": Line(
        "idle connections, 2,000 of them",
        "KiB each",
        "kib_per_idle_connection",
        _sqlite_sides(idle_2000),
        (Aim(CHATKIT, 0.6, SOCKETIO), Aim(CHATKIT, 15.0)),
        is_quick=True,
    ),
    "catch-up": Line(
        "300 of 5,000 conversations behind, 100 ms round trip, by the SDK",
        "s",
        "caught_up_s",
        {CHATKIT: Side(catches_up)},
        (Aim(CHATKIT, 1.5),),
    ),
    "connections": Line(
        "50 pairs, 16 in flight each, among so many connections",
        *_MESSAGE,
        {f"{count:,}": Side(partial(among_connections, count)) for count in (100, 1_000, 10_000)},
        (Aim("10,000", 1.2, "100"),),
    ),
    "all-talk": Line(
        "all of so many connections talk in turn, 50 messages in flight",
        *_MESSAGE,
        {f"{count:,}": Side(partial(all_talk, count)) for count in (1_000, 10_000)},
        (Aim("10,000", 1.2, "1,000"),),
    ),
    "stored": Line(
        "100 of 1,000 groups of 5, 16 in flight each, by the length of the log in messages",
        *_MESSAGE,
        {
            "10,000": Side(partial(with_stored, 10_000)),
            "the longest": Side(partial(with_stored, None)),
        },
        (Aim("the longest", 1.2, "10,000"),),
    ),
}
"""By the name that `--only` knows."""
