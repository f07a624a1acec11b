"""SIGKILL at a few system calls of each request that changes the store.

`make crash` sweeps every call of every workload with the same demands.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .launched import LaunchedServer
from .stage import GROUP, Stage
from .state import copy_database
from .strace import Call, Strace, threads_of
from .syscalls import (
    SWEPT,
    Files,
    Outcome,
    Point,
    check_answers_follow_syncs,
    check_killed_and_stored,
    check_swept_whole,
    marks,
    pid_of,
    points_of,
    sweep,
)
from .workloads import WORKLOADS

SAMPLED = ("send", "batch", "recall", "remove", "delivered", "read", "checkpoint", "stop")


@pytest.mark.usefixtures("strace")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SAMPLED)
def test_sigkill_at_the_marks_of(name: str, files: Files) -> None:
    outcomes = sweep(WORKLOADS[name], files, every=False)
    assert {"pwrite64", "fdatasync"} <= {outcome.point.name for outcome in outcomes}
    steps = {outcome.step for outcome in outcomes}
    assert len(steps) > 1 or outcomes[0].steps == 0, "some kills lost what others kept"
    check_killed_and_stored(outcomes)


@pytest.mark.usefixtures("strace")
def test_a_server_that_does_not_sync_is_found(files: Files, tmp_path: Path) -> None:
    copy_database(files.prepared(), tmp_path)
    server = LaunchedServer(tmp_path, (sys.executable, "-m", "tests.durability.careless_server"))
    server.start()
    try:
        stage = Stage(server)
        with Strace(threads_of(pid_of(server)), tmp_path / "trace", SWEPT) as strace:
            stage.alice.say(GROUP, "unsynced", "unsynced")
            calls = strace.detach()
        stage.close()
    finally:
        server.stop()
    with pytest.raises(AssertionError, match="S12"):
        check_answers_follow_syncs(calls)


POINTS = (
    *(Point(False, "pwrite64", nth, "chat.db-wal") for nth in range(1, 17)),
    Point(False, "fdatasync", 1, "chat.db-wal"),
    *(Point(False, "fcntl", nth, "chat.db-shm") for nth in (1, 2)),
    *(Point(True, "write", nth, "socket") for nth in (1, 2)),
)
"""What one message needs, nearly."""


def outcomes_at(points: tuple[Point, ...] = POINTS, **others: int) -> list[Outcome]:
    """All killed; from the sync on the message is stored, and the second answer tells that the first had left."""
    synced = [number >= points.index(POINTS[16]) for number in range(len(points))]
    outcomes = [
        Outcome(point, killed=True, told=0, step=int(kept), steps=1)
        for point, kept in zip(points, synced, strict=True)
    ]
    outcomes[-1] = replace(outcomes[-1], told=1)
    return [replace(outcome, **others) for outcome in outcomes]


def test_the_outcomes_of_a_sweep_that_holds_are_right() -> None:
    check_killed_and_stored(outcomes_at())
    check_swept_whole(outcomes_at())


@pytest.mark.parametrize(
    ("spoilt", "finding"), [({"killed": False}, "survived"), ({"step": 0}, "nothing is")]
)
def test_a_kill_that_missed_and_an_answer_to_nothing_are_found(spoilt: dict[str, int], finding: str) -> None:
    with pytest.raises(AssertionError, match=finding):
        check_killed_and_stored(outcomes_at(**spoilt))


@pytest.mark.parametrize(
    "outcomes",
    [
        outcomes_at(POINTS[9:]),
        outcomes_at(killed=False),
        outcomes_at(step=1),
        outcomes_at(step=0),
        outcomes_at(told=0),
    ],
    ids=["few calls", "none killed", "nothing lost", "nothing kept", "no answer left"],
)
def test_a_sweep_that_left_something_out_is_found(outcomes: list[Outcome]) -> None:
    with pytest.raises(AssertionError):
        check_swept_whole(outcomes)


def call(name: str, path: str, entered: int, returned: int | None = None, thread: int = 0) -> Call:
    arguments = f"({3}<{path}>, ...)"
    return Call(thread, name, arguments, entered, "0", entered if returned is None else returned)


LOG, PEER = "/x/chat.db-wal", "TCP:[127.0.0.1:1->127.0.0.1:2]"


def test_an_answer_after_the_sync_is_right() -> None:
    check_answers_follow_syncs(
        [call("pwrite64", LOG, 0), call("fdatasync", LOG, 1, returned=3), call("write", PEER, 4)]
    )


@pytest.mark.parametrize(
    "calls",
    [
        [call("pwrite64", LOG, 0), call("write", PEER, 1), call("fdatasync", LOG, 2)],
        [call("pwrite64", LOG, 0), call("fdatasync", LOG, 1, returned=3), call("write", PEER, 2)],
        [call("fdatasync", LOG, 0), call("pwrite64", LOG, 1), call("write", PEER, 2)],
        [call("pwrite64", LOG, 0), call("fdatasync", "/x/chat.db", 1), call("write", PEER, 2)],
    ],
    ids=["before it", "during it", "after another write", "after a sync of another file"],
)
def test_an_answer_before_the_sync_is_found(calls: list[Call]) -> None:
    with pytest.raises(AssertionError, match="S12"):
        check_answers_follow_syncs(calls)


def test_points_are_counted_per_thread_and_name() -> None:
    calls = [
        call("write", PEER, 0),
        call("write", LOG, 1, thread=1),
        call("write", "/dev/null", 2),
        call("write", PEER, 3),
    ]
    assert points_of(calls) == [
        Point(True, "write", 1, "socket"),
        Point(False, "write", 1, "chat.db-wal"),
        Point(True, "write", 3, "socket"),
    ]


def test_marks_are_the_last_of_each_kind_that_changes_a_file_and_the_first_answer() -> None:
    points = [
        *(Point(False, "pwrite64", nth, "chat.db-wal") for nth in (1, 2, 3)),
        Point(False, "fcntl", 1, "chat.db-shm"),
        Point(False, "fdatasync", 1, "chat.db-wal"),
        *(Point(True, "write", nth, "socket") for nth in (1, 2)),
    ]
    assert marks(points) == [points[2], points[4], points[5]]
