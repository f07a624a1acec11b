"""SIGKILL at every system call of one send, and at the marks of everything else that changes the store.

`python -m tests.durability.syscalls --workloads all` sweeps every call of every workload.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from .launched import LaunchedServer
from .stage import GROUP, Stage
from .state import copy_database
from .strace import Call, Strace, threads_of
from .syscalls import (
    ANSWER,
    CHANGING,
    SWEPT,
    Files,
    Outcome,
    Point,
    check_answers_follow_syncs,
    marks,
    pid_of,
    points_of,
    sweep,
)
from .workloads import WORKLOADS

REDUCED = ("batch", "recall", "remove", "delivered", "read", "checkpoint", "stop")


@pytest.mark.usefixtures("strace")
@pytest.mark.timeout(300)
def test_sigkill_at_every_call_of_one_send(files: Files) -> None:
    outcomes = sweep(WORKLOADS["send"], files)
    kinds = Counter(outcome.point.name for outcome in outcomes)
    assert (
        kinds["pwrite64"] >= 8 and kinds["fdatasync"] >= 1 and kinds["write"] >= 2 and kinds["fcntl"] >= 2
    ), kinds
    assert sum(outcome.killed for outcome in outcomes) >= 20
    assert {outcome.step for outcome in outcomes} == {0, 1}, "some kills lost the message, some kept it"
    assert any(outcome.told for outcome in outcomes), "one came after the acknowledgement had left"
    check_killed_and_stored(outcomes)


@pytest.mark.usefixtures("strace")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", REDUCED)
def test_sigkill_at_the_marks_of(name: str, files: Files) -> None:
    outcomes = sweep(WORKLOADS[name], files, every=False)
    assert {"pwrite64", "fdatasync"} <= {outcome.point.name for outcome in outcomes}
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


def check_killed_and_stored(outcomes: list[Outcome]) -> None:
    """No call on a file was missed; and once an answer is on its way, something of the request is stored."""
    assert all(outcome.killed for outcome in outcomes if outcome.point.name in CHANGING)
    assert all(outcome.step > 0 or outcome.steps == 0 for outcome in outcomes if outcome.point.kind == ANSWER)


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


def test_marks_are_the_ends_of_what_changes_files_and_the_first_answer() -> None:
    points = [
        *(Point(False, "pwrite64", nth, "chat.db-wal") for nth in (1, 2, 3)),
        Point(False, "fcntl", 1, "chat.db-shm"),
        Point(False, "fdatasync", 1, "chat.db-wal"),
        *(Point(True, "write", nth, "socket") for nth in (1, 2)),
    ]
    assert marks(points) == [points[0], points[2], points[4], points[5]]
