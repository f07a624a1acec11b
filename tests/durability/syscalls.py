"""`python -m tests.durability.syscalls [--workloads all]`: SIGKILL at every system call of one request.

One run on a copy of a prepared file records which calls on files and sockets the server makes between the request
and its answer. Then, for each of them, the same request is made to a server on a fresh copy, which is killed as it
enters that call. What must hold whichever call it was:

- the file is one of the states on the way from before the request to after it, never in between (S1-S5, S13, S15, S20,
  S24), and no answer had left for what is not in it;
- the server starts on it; the request sent again gets the same bytes if it had been answered, is answered in any
  case, and then the file is as if nothing had happened (S11).

In the recorded run no answer leaves before its pages were synced (S12).
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.blackbox.server_process import ServerProcess

from .stage import BOB, DATABASE, GROUP, Stage, fresh_server, prepare, prepare_long_log
from .state import State, check_whole, read_state
from .strace import Call, Strace, missing, threads_of
from .workloads import WORKLOADS, Told, Workload, until_cut

SWEPT = (
    "read,write,writev,sendto,sendmsg,recvfrom,recvmsg,pwrite64,pwritev,fdatasync,fsync,ftruncate,?unlink,unlinkat,"
    "openat,close,fcntl"
)
"""The calls by which something gets in, gets out, gets onto the disk or takes a lock."""
CHANGING = frozenset({"pwrite64", "pwritev", "fdatasync", "fsync", "ftruncate", "unlink", "unlinkat"})
SOCKET, WAKE_UP = "socket", "wake-up"
ANSWER = f"write {SOCKET}"
PARALLEL = 3
"""Kills under way at once; each waits for the disk and for a process to start more than it computes."""
DEATH_S = 20.0
"""How long a server may go on after its last answer before it counts as not killed."""


@dataclass(frozen=True)
class Point:
    """Where to kill: the nth call of a name in a kind of thread, counted from the request."""

    in_loop: bool
    name: str
    nth: int
    target: str

    @property
    def kind(self) -> str:
        """What the table counts together."""
        return f"{self.name} {self.target}"


@dataclass(frozen=True)
class Reference:
    """A run that was not killed.

    Attributes:
        steps: The states that a crash may leave: before the request, after each part of it, after all of it.
    """

    steps: list[State]
    points: list[Point]


@dataclass(frozen=True)
class Outcome:
    """What one kill left. `step` is the place of the state in `Reference.steps`."""

    point: Point
    killed: bool
    told: int
    step: int
    steps: int


class Sweep:
    """One workload, killed at many points.

    Args:
        prepared: The file that every run begins with a copy of.
        folder: Where the runs work; each leaves its files only if it fails.
    """

    def __init__(self, workload: Workload, prepared: Path, folder: Path) -> None:
        self.workload = workload
        self.prepared = prepared
        self.folder = folder

    def reference(self) -> Reference:
        """Run it without a kill, traced."""
        server = fresh_server(self.prepared, self.folder / "reference")
        server.start()
        try:
            before, calls = self._traced(server)
        finally:
            server.stop()
        after = read_state(server.folder / DATABASE)
        check_answers_follow_syncs(calls)
        return Reference(steps_between(before, after), points_of(calls))

    def kill_at(self, reference: Reference, point: Point) -> Outcome:
        """One kill, the restart after it, and everything that must hold."""
        server = fresh_server(self.prepared, self._folder(point))
        try:
            told, killed, arranged = self._killed(server, point)
            state = read_state(server.folder / DATABASE)
            step = step_of(state, reference.steps)
            assert step >= len(told), f"{len(told)} answers had left, {step} steps are in the file"
            self._restarted(server, told, arranged)
            assert read_state(server.folder / DATABASE) == reference.steps[-1], (
                "sent again, and not as if never cut"
            )
        except Exception as failure:
            raise AssertionError(
                f"{self.workload.name} killed at {point} ({server.folder}): {failure}"
            ) from failure
        finally:
            server.stop()
        shutil.rmtree(server.folder)
        return Outcome(point, killed, len(told), step, len(reference.steps) - 1)

    def _traced(self, server: ServerProcess) -> tuple[State, list[Call]]:
        """The state before the request, and the calls that it makes; the server is killed afterwards."""
        stage = Stage(server)
        arranged = self.workload.arrange(stage)
        before = read_state(server.folder / DATABASE)
        with Strace(threads_of(pid_of(server)), server.folder / "trace", SWEPT) as strace:
            list(self.workload.act(stage, arranged))
            self.workload.follow(stage)
            calls = in_roles(strace.detach(), pid_of(server))
        server.kill()
        stage.close()
        return before, calls

    def _killed(self, server: ServerProcess, point: Point) -> tuple[Told, bool, Any]:
        server.start()
        stage = Stage(server)
        arranged = self.workload.arrange(stage)
        loop, *workers = threads_of(pid_of(server))
        fault = f"{point.name}:signal=SIGKILL:when={point.nth}"
        threads = [loop] if point.in_loop else workers
        with Strace(threads, server.folder / "trace", point.name, fault):
            told = until_cut(self.workload.act(stage, arranged))
            killed = died(server)
        stage.close()
        return told, killed, arranged

    def _restarted(self, server: ServerProcess, told: Told, arranged: Any) -> None:
        server.start()
        stage = Stage(server)
        seqs = [entry["seq"] for entry in stage.api(BOB).log(GROUP)]
        assert seqs == list(range(1, len(seqs) + 1)), f"bob sees {seqs}"
        again = list(self.workload.act(stage, arranged))
        if self.workload.repeats:
            assert again[: len(told)] == told, f"S11: told {told}, then {again}"
            assert list(self.workload.act(stage, arranged)) == again, "S11: a third answer differs"
        server.kill()
        stage.close()

    def _folder(self, point: Point) -> Path:
        thread = "loop" if point.in_loop else "worker"
        return self.folder / f"{thread}-{point.name}-{point.nth}"


def pid_of(server: ServerProcess) -> int:
    """Of a server that was started."""
    assert server.process is not None
    return server.process.pid


def died(server: ServerProcess) -> bool:
    """Whether SIGKILL ends it by itself; it does not run any more in any case."""
    try:
        return server.exit_code(DEATH_S) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        server.kill()
        return False


def in_roles(calls: Iterable[Call], loop: int) -> list[Call]:
    """The calls with 0 for the event loop's thread and 1 for each other, which take turns at the same work."""
    roles = list(calls)
    for call in roles:
        call.thread = int(call.thread != loop)
    return roles


def steps_between(before: State, after: State) -> list[State]:
    """The states on the way, each of them whole."""
    heads = range(before.head(GROUP) + 1, after.head(GROUP))
    steps = [before, *(after.up_to(GROUP, head) for head in heads), after]
    for step in steps:
        check_whole(step)
    return steps if before != after else [before]


def points_of(calls: Sequence[Call]) -> list[Point]:
    """A point for each call that has to do with peers, the database or the event loop, in order."""
    seen: Counter[tuple[int, str]] = Counter()
    points = []
    for call in calls:
        seen[call.thread, call.name] += 1
        target = target_of(call)
        if target in (SOCKET, WAKE_UP) or target.startswith(DATABASE):
            points.append(Point(call.thread == 0, call.name, seen[call.thread, call.name], target))
    return points


def target_of(call: Call) -> str:
    """What a call is about, in a word."""
    if call.path.startswith("TCP"):
        return SOCKET
    if call.path.startswith("anon_inode"):
        return WAKE_UP
    return Path(call.path).name


def marks(points: Sequence[Point]) -> list[Point]:
    """The last point of each kind that changes a file, where the most is half done, and the first answer; in order."""
    last = {point.kind: point for point in points if point.name in CHANGING}
    first_answer = [point for point in points if point.kind == ANSWER][:1]
    chosen = {*last.values(), *first_answer}
    return [point for point in points if point in chosen]


def check_killed_and_stored(outcomes: Iterable[Outcome]) -> None:
    """No call on a file was missed; and once an answer is on its way, something of the request is stored."""
    for outcome in outcomes:
        assert outcome.killed or outcome.point.name not in CHANGING, f"survived {outcome.point}"
        stored = outcome.step > 0 or outcome.steps == 0
        assert stored or outcome.point.kind != ANSWER, f"nothing is stored at {outcome.point}"


def check_swept_whole(outcomes: Sequence[Outcome]) -> None:
    """A sweep of `send` at every call has met all that one message needs, and every outcome that there is."""
    kinds = Counter(outcome.point.name for outcome in outcomes)
    least = {"pwrite64": 8, "fdatasync": 1, "write": 2, "fcntl": 2}
    assert all(kinds[name] >= count for name, count in least.items()), kinds
    assert sum(outcome.killed for outcome in outcomes) >= 20
    assert {outcome.step for outcome in outcomes} == {0, 1}, "some kills lost the message, some kept it"
    assert any(outcome.told for outcome in outcomes), "one came after the acknowledgement had left"


def check_answers_follow_syncs(calls: Sequence[Call]) -> None:
    """S12: whenever an answer or a push leaves, whatever was written to the log by then has been synced."""
    unsynced: Call | None = None
    for call in sorted(calls, key=_takes_effect):
        if call.name == "pwrite64" and call.path.endswith("-wal"):
            unsynced = call
        elif call.name == "fdatasync" and call.path.endswith("-wal") and call.result.split()[:1] == ["0"]:
            unsynced = None
        elif f"{call.name} {target_of(call)}" == ANSWER:
            assert unsynced is None, f"S12: before a sync of {unsynced}, this left: {call.arguments[:120]}"


def _takes_effect(call: Call) -> float:
    """A sync counts from its end, a write from its beginning."""
    if call.name != "fdatasync":
        return call.entered
    return math.inf if call.returned is None else call.returned


def step_of(state: State, steps: Sequence[State]) -> int:
    """Which of the states it is."""
    for step, expected in enumerate(steps):
        if state == expected:
            return step
    check_whole(state)  # says more plainly what is wrong, if that is it
    raise AssertionError(f"the file is in none of {len(steps)} states: {difference(state, steps[0])}")


def difference(state: State, other: State) -> str:
    """The tables in which two states differ, with their rows."""
    names = [name for name in vars(state) if getattr(state, name) != getattr(other, name)]
    return "; ".join(f"{name} {getattr(state, name)} against {getattr(other, name)}" for name in names)


def table(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    """What became of the points of each kind, in lines."""
    lines = []
    for kind in dict.fromkeys(outcome.point.kind for outcome in outcomes):
        found = [outcome for outcome in outcomes if outcome.point.kind == kind]
        stored = sum(outcome.step == outcome.steps for outcome in found)
        nothing = sum(outcome.step == 0 < outcome.steps for outcome in found)
        lines.append(
            f"{name:10} {kind:24} {len(found):6} {sum(it.killed for it in found):6} {stored:6} "
            f"{len(found) - stored - nothing:6} {nothing:6} {sum(it.told > 0 for it in found):8}"
        )
    return lines


HEADER = f"{'workload':10} {'call':24} {'points':>6} {'killed':>6} {'all':>6} {'part':>6} {'none':>6} {'answered':>8}"


class Files:
    """The prepared files of one sweep, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepared(self) -> Path:
        """The file in which all is confirmed."""
        return self._made("prepared", prepare)

    def of(self, workload: Workload) -> Path:
        """The file that this workload starts from."""
        prepared = self.prepared()
        return (
            self._made("long", lambda folder: prepare_long_log(prepared, folder))
            if workload.long_log
            else prepared
        )

    def _made(self, name: str, make: Callable[[Path], Path]) -> Path:
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(parents=True)
            make(folder)
        return folder / DATABASE


def sweep(workload: Workload, files: Files, *, every: bool = True) -> list[Outcome]:
    """Kill a workload at all its points, or only at its `marks`; in their order."""
    swept = Sweep(workload, files.of(workload), files.folder / workload.name)
    reference = swept.reference()
    points = reference.points if every else marks(reference.points)
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(lambda point: swept.kill_at(reference, point), points))


def main() -> int:
    """Sweep and print the table; 0 when everything held, 1 with the reason when not, the files kept."""
    options = _options()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 1
    files = Files(Path(tempfile.mkdtemp(prefix="chatkit-syscalls-")))
    started = time.monotonic()
    print(HEADER)
    try:
        outcomes = [_one(WORKLOADS[name], files, not options.marks) for name in options.workloads]
    except AssertionError as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    shutil.rmtree(files.folder)
    killed = sum(outcome.killed for of_one in outcomes for outcome in of_one)
    print(
        f"{killed} kills of {sum(map(len, outcomes))} points in {time.monotonic() - started:.0f} s; all hold"
    )
    return 0


def _one(workload: Workload, files: Files, every: bool) -> list[Outcome]:
    outcomes = sweep(workload, files, every=every)
    print("\n".join(table(workload.name, outcomes)), flush=True)
    check_killed_and_stored(outcomes)
    if every and workload.name == "send":
        check_swept_whole(outcomes)
    return outcomes


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.durability.syscalls", description=__doc__)
    parser.add_argument(
        "--workloads", default="send", help=f"all, or some of {','.join(WORKLOADS)} (default send)"
    )
    parser.add_argument(
        "--marks", action="store_true", help="only the last call of each kind that changes a file"
    )
    options = parser.parse_args()
    options.workloads = list(WORKLOADS) if options.workloads == "all" else options.workloads.split(",")
    if unknown := set(options.workloads) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
