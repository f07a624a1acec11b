"""`python -m benchmarks.instructions`: instructions that a real server runs for a message, counted by callgrind.

Counts do not depend on how busy the machine is: the same tree gives the same figure within 1 %, where CPU time varies
by 20 %. They are of user space alone: what the kernel does for sockets and files is not in them. `chatkit serve`
on a fresh SQLite file runs some fifty times slower meanwhile, so it is always the server that is waited for.

What a server does once a second would meet fifty times fewer messages than in life, so its clocks and its periods are
slowed down too (`unlimited_serve`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from .lockstep import Lockstep, quiet
from .node import Node, node
from .returning import MISSED, Returning, come_back, create, write
from .tree import HERE, CannotMeasureError, Tree

START_TIMEOUT_S = 180
SLOWER = 50


@dataclass(frozen=True)
class Counted:
    """What a load ran up.

    Attributes:
        each: Instructions for a message (pairs), for a delivery (group), or for a client (return).
        by_object: The part of each shared object and of the interpreter in it.
    """

    each: float
    by_object: dict[str, float]


class CountedNode:
    """A server under callgrind."""

    def __init__(self, inner: Node, files: Path) -> None:
        self.inner = inner
        self._files = files
        self._dumps = 0

    def control(self, *arguments: str) -> None:
        """Tell callgrind something.

        Raises:
            CannotMeasureError: It does not answer.
        """
        command = ["callgrind_control", *arguments, str(self.inner.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode or "Error" in done.stdout + done.stderr:
            raise CannotMeasureError(f"{shlex.join(command)}: {done.stdout}{done.stderr}")

    def dump(self) -> Counter[str]:
        """Self cost by object since the last dump."""
        self._dumps += 1
        self.control("-d")
        return cost_by_object(Path(f"{self._files}.{self._dumps}").read_text(errors="replace"))


def cost_by_object(profile: str) -> Counter[str]:
    """Instructions by the object whose own code they are, of a profile as callgrind writes it.

    Raises:
        CannotMeasureError: Its sum is not the total that the profile says.
    """
    names: dict[str, str] = {}
    costs: Counter[str] = Counter()
    current, inclusive, total = "?", False, None
    for line in profile.splitlines():
        if line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            current = names.setdefault(number, Path(name).name or "?")
        elif line.startswith("cob="):
            number, _, name = line[4:].partition(" ")
            if name:
                names.setdefault(number, Path(name).name)
        elif line.startswith("calls="):
            inclusive = True  # the next line is the cost of what was called
        elif line[:1] in "+-*0123456789" and line:
            if not inclusive:
                costs[current] += int(line.split()[-1])
            inclusive = False
        elif line.startswith(("totals:", "summary:")):
            total = int(line.split()[1])
    if total is None or sum(costs.values()) != total:
        raise CannotMeasureError(f"this profile adds up to {sum(costs.values())} and not to {total}")
    return costs


@contextmanager
def counted_node(
    tree: Tree, options: Sequence[str] = (), prepare: Callable[[Path], None] | None = None
) -> Iterator[CountedNode]:
    """A tree's server under callgrind, which counts nothing yet.

    Args:
        tree: Whose.
        options: More of `chatkit serve`.
        prepare: Fills the file before the server opens it.

    Raises:
        CannotMeasureError: There is no valgrind, or the server did not start.
    """
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        raise CannotMeasureError("instructions are counted by valgrind, which is missing: scripts/valgrind")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "counted.out"
        wrapper = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={files}",
            "-q",
            "--",
        ]
        steady = {"CHATKIT_BENCH_SLOWER": str(SLOWER), "PYTHONHASHSEED": "0"}
        with node(
            tree,
            options=options,
            prepare=prepare,
            wrapper=wrapper,
            start_timeout_s=START_TIMEOUT_S,
            environment=steady,
        ) as inner:
            yield CountedNode(inner, files)


async def counted(server: CountedNode, load: Callable[[], Awaitable[int]]) -> Counted:
    """What `load` costs; it returns of how many."""
    server.control("-i", "on")
    number = await load()
    server.control("-i", "off")
    costs = server.dump()
    return Counted(sum(costs.values()) / number, {name: cost / number for name, cost in costs.items()})


@dataclass(frozen=True)
class Workload:
    """What is sent, and what its figure is for."""

    unit: str
    conversations: int
    members: int
    turns: int

    prepare = None

    async def measured(self, server: CountedNode, window: int) -> Counted:
        """After a few turns, so that what the first messages alone cost is over."""
        load = Lockstep(server.inner, self.conversations, self.members, window)
        await load.connect()
        await load.send(2)
        return await counted(server, lambda: load.send(self.turns))


@dataclass(frozen=True)
class Return:
    """Clients that come back at once, as in `returning`: login, HEADS, a page of what was missed, a confirmation."""

    unit: str = "client"
    clients: int = 100

    def prepare(self, file: Path) -> None:
        """The log, with what they miss."""
        asyncio.run(create(file, self.clients))
        asyncio.run(write(file, self.clients))

    async def measured(self, server: CountedNode, window: int) -> Counted:
        """The second return: each device has been here before, and confirmed nothing."""
        await gone(await self._all_back(server.inner, confirms=False))
        await quiet(server.inner)
        here: list[Returning] = []

        async def back() -> int:
            here.extend(await self._all_back(server.inner, confirms=True))
            await quiet(server.inner)  # confirmations rest a moment, and are stored by themselves
            return self.clients

        found = await counted(server, back)
        await gone(here)
        return found

    async def _all_back(self, node: Node, *, confirms: bool) -> list[Returning]:
        each = [Returning(confirms=confirms) for _ in range(self.clients)]
        await asyncio.gather(*(come_back(node, number, one) for number, one in enumerate(each)))
        if sum(one.messages for one in each) != self.clients * _PAGE:
            raise CannotMeasureError("somebody has not got what they missed")
        return each


async def gone(clients: Sequence[Returning]) -> None:
    """They have closed."""
    for each in clients:
        each.close()
    await asyncio.sleep(0)  # the event loop closes them in its next turn
    await asyncio.sleep(0)


_PAGE = MISSED + 1
"""The messages, and the entry by which the conversation began."""

WORKLOADS: dict[str, Workload | Return] = {
    "pairs": Workload("message", conversations=20, members=2, turns=6),
    "group": Workload("delivery", conversations=1, members=50, turns=20),
    "return": Return(),
}


@dataclass(frozen=True)
class Side:
    """One of the servers that are compared."""

    name: str
    tree: Tree
    options: tuple[str, ...] = ()


def measure(
    workload: Workload | Return, sides: Sequence[Side], rounds: int, window: int
) -> dict[str, list[Counted]]:
    """Each side in each round, in the order A B B A."""
    found: dict[str, list[Counted]] = {side.name: [] for side in sides}
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            began = time.monotonic()
            with counted_node(side.tree, side.options, workload.prepare) as server:
                found[side.name].append(asyncio.run(workload.measured(server, window)))
            took_s, each = time.monotonic() - began, found[side.name][-1].each
            print(
                f"  {side.name}: {each:,.0f} a {workload.unit} ({took_s:.0f} s)", file=sys.stderr, flush=True
            )
    return found


def report(unit: str, found: dict[str, list[Counted]]) -> list[str]:
    """Medians, by object; and the ratio of the second side to the first, of all pairs of a round."""
    lines = []
    for name, each in found.items():
        middle = statistics.median(it.each for it in each)
        runs = ", ".join(f"{it.each:,.0f}" for it in each)
        lines.append(f"{name}: {middle:,.0f} instructions a {unit} ({runs})")
        objects = {key for it in each for key in it.by_object}
        parts = {key: statistics.median(it.by_object.get(key, 0.0) for it in each) for key in objects}
        for key, part in sorted(parts.items(), key=lambda item: -item[1]):
            if part > 0.01 * middle:
                lines.append(f"    {part:>10,.0f}  {part / middle:>4.0%}  {key}")
    if len(found) == 2:
        (before_name, before), (after_name, after) = found.items()
        ratios = [b.each / a.each for a, b in zip(before, after, strict=True)]
        rounds = ", ".join(f"{it:.4f}" for it in ratios)
        lines.append(f"{after_name} / {before_name}: {statistics.median(ratios):.4f} (rounds: {rounds})")
    return lines


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; all by default"
    )
    parser.add_argument("--rounds", type=int, default=1, help="servers of each side (default 1)")
    parser.add_argument("--window", type=int, default=16, help="messages of a sender in a turn (default 16)")
    parser.add_argument(
        "--against", type=Path, metavar="PATH", help="another checkout, compared with this one"
    )
    parser.add_argument(
        "--options", default="", help="more of `chatkit serve`: this tree with them, against without"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    chosen = parser.parse_args()
    names = chosen.workloads or list(WORKLOADS)
    if chosen.rounds < 1 or chosen.window < 1 or not set(names) <= set(WORKLOADS):
        parser.error(f"nothing to measure; workloads: {', '.join(WORKLOADS)}")
    if chosen.against is not None and chosen.options:
        parser.error("one comparison at a time: --against or --options")
    sides = [Side("here", Tree(HERE))]
    if chosen.against is not None:
        sides.insert(0, Side("against", Tree(chosen.against)))
    if chosen.options:
        sides.append(Side(chosen.options, Tree(HERE), tuple(shlex.split(chosen.options))))
    for name in names:
        found = measure(WORKLOADS[name], sides, chosen.rounds, chosen.window)
        if chosen.json:
            figures = {side: [asdict(it) for it in each] for side, each in found.items()}
            print(json.dumps({"workload": name, "unit": WORKLOADS[name].unit, "sides": figures}))
        else:
            print(f"{name}, window {chosen.window}")
            print("\n".join(report(WORKLOADS[name].unit, found)), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotMeasureError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
