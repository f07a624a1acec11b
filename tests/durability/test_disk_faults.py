"""The real server on a disk that fails, fills up, hangs, or that somebody else holds (F9-F13, F15).

Nothing here measures time: what is held is held until the test lets it go, and the order of events is looked at.
"""

from __future__ import annotations

import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.blackbox.peer import Event, send_msg
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.world import ok, refused

from .launched import CHATKIT_SERVE, LaunchedServer
from .stage import ALICE, BOB, DATABASE, GROUP, MESSAGES, Stage, fresh_server
from .state import check_whole, copy_database, read_state
from .strace import Call, Strace, parse, threads_of, traced
from .syscalls import SWEPT, Files, check_answers_follow_syncs, pid_of
from .workloads import WORKLOADS

pytestmark = [pytest.mark.usefixtures("strace"), pytest.mark.timeout(120)]

FOREVER = "600s"
DISK_CALLS = "pread64,pwrite64,fdatasync,fsync,ftruncate"


def faulty(server: ServerProcess, *faults: str, calls: str = DISK_CALLS, path: Path | None = None) -> Strace:
    """Faults in every thread of a running server, for as long as the block lasts."""
    threads = [pid_of(server)]
    return Strace(threads, server.folder / "trace", calls, *faults, path=path, follow=True)


def say(stage: Stage, key: str) -> httpx.Response:
    """A message of alice by HTTP, its text being its key."""
    return stage.api(ALICE).say(GROUP, key, key)


def told_unavailable(response: httpx.Response) -> None:
    """The answer that asks to come again, and says when."""
    refused(response, "UNAVAILABLE")
    assert int(response.headers["retry-after"]) >= 1


def texts(stage: Stage) -> list[str]:
    """What bob reads beyond the prepared messages."""
    return [entry["payload"]["text"] for entry in stage.api(BOB).log(GROUP)[MESSAGES + 1 :]]


def ready(stage: Stage) -> int:
    return stage.world.http.get("/readyz").status_code


def on_log(calls: list[Call], *names: str) -> list[Call]:
    """The calls of these names on the write-ahead log."""
    return [call for call in calls if call.name in names and call.path.endswith("-wal")]


def restarted(server: ServerProcess) -> Stage:
    """The server ended in good order and started again, on a disk that is well."""
    server.terminate()
    assert server.exit_code() in (0, -15), server.log
    check_whole(read_state(server.folder / DATABASE))
    server.start()
    return Stage(server)


# -- the disk breaks


@pytest.mark.parametrize(
    "fault",
    ["fdatasync:error=EIO", "fdatasync:error=ENOSPC", "pwrite64:error=EIO", "pwrite64:error=EROFS"],
)
def test_after_a_failed_write_or_sync_nothing_is_written_until_the_restart(
    server: ServerProcess, stage: Stage, fault: str
) -> None:
    answered = ok(say(stage, "before"))
    with faulty(server, f"{fault}:when=1") as strace:
        told_unavailable(say(stage, "broken"))
        failed = on_log(strace.calls(), fault.partition(":")[0])[-1]
        assert "INJECTED" in failed.result
        told_unavailable(say(stage, "after"))
        told_unavailable(say(stage, "broken"))
        calls = strace.detach()
    later = [
        call for call in on_log(calls, "pwrite64", "fdatasync", "fsync") if call.entered > failed.entered
    ]
    assert not later, "a sync that is tried again says nothing of the pages that the failed one lost"
    assert ready(stage) == 503
    assert texts(stage) == ["before"], "reads go on, and show nothing that was refused"
    stage.alice.ping()
    again = restarted(server)
    assert texts(again)[0] == "before"
    assert ok(say(again, "before")) == answered
    sent = [ok(say(again, key))["seq"] for key in ("broken", "after")]
    assert texts(again) == ["before", "broken", "after"]
    assert sent == [MESSAGES + 3, MESSAGES + 4]
    again.close()


def test_a_socket_is_told_of_a_broken_disk_and_keeps_its_order(server: ServerProcess, stage: Stage) -> None:
    keys = ["one", "two", "three"]
    with faulty(server, "fdatasync:error=EIO:when=1"):
        stage.alice.send(*(send_msg(GROUP, key, key) for key in keys))
        told = [stage.alice.expect("ERROR", clientMsgId=key) for key in keys]
    assert {event["code"] for event in told} <= {"UNAVAILABLE", "OVERLOADED"}
    assert all(event["retryable"] and event["retryAfterMs"] > 0 for event in told)
    stage.alice.ping()
    stage.bob.ping()
    assert not stage.bob.seen("NEW_MSG"), "nobody was shown what was refused"
    again = restarted(server)
    seqs = [again.alice.say(GROUP, key, key)["seq"] for key in keys]
    assert seqs == sorted(seqs) and texts(again) == keys
    again.close()


def test_a_read_that_fails_costs_that_read_only(server: ServerProcess, stage: Stage) -> None:
    with faulty(server, "pread64:error=EIO:when=1") as strace:
        told_unavailable(stage.api(BOB).get(f"/v1/conversations/{GROUP}/messages"))
        strace.detach()
    assert len(stage.api(BOB).log(GROUP)) == MESSAGES + 1
    assert ok(say(stage, "after"))["seq"] == MESSAGES + 2


def test_a_copy_back_that_fails_is_done_again_as_a_whole(files: Files, tmp_path: Path) -> None:
    """The pages that a failed sync may have lost are written anew before the log of them is given up."""
    server = fresh_server(files.of(WORKLOADS["checkpoint"]), tmp_path / "long")
    server.start()
    stage = Stage(server)
    head = stage.api(ALICE).row(GROUP)["headSeq"]
    database = server.folder / DATABASE
    with faulty(server, "fdatasync:error=EIO:when=1", path=database) as strace:
        said = [stage.alice.say(GROUP, f"more {number}", f"more-{number}") for number in range(8)]
        calls = strace.detach()
    failed, done = [call for call in calls if call.name == "fdatasync"][:2]
    assert "INJECTED" in failed.result and done.result == "0"
    assert pages(calls, 0, failed.entered) <= pages(calls, failed.entered, done.entered)
    assert [event["seq"] for event in said] == list(range(head + 1, head + 9))
    server.kill()
    stage.close()
    state = read_state(database)
    check_whole(state)
    assert state.head(GROUP) == head + 8
    server.stop()


def pages(calls: list[Call], after: int, before: int) -> set[str]:
    """The places in a file that were written between two calls."""
    written = [call for call in calls if call.name == "pwrite64" and after <= call.entered < before]
    return {call.arguments.rpartition(", ")[2] for call in written}


def test_a_stop_on_a_broken_disk_loses_nothing(server: ServerProcess, stage: Stage) -> None:
    answered = ok(say(stage, "before"))
    with faulty(server, "fdatasync:error=EIO", "pwrite64:error=EIO"):
        server.terminate()
        assert server.exit_code() in (0, -15), server.log
    server.start()
    again = Stage(server)
    assert ok(say(again, "before")) == answered and texts(again) == ["before"]
    again.close()


# -- the disk is full


def goes_on_by_itself(stage: Stage, refused_keys: list[str]) -> None:
    """There is room again: nobody has to restart anything."""
    answers = [ok(say(stage, key)) for key in refused_keys]
    assert [answer["seq"] for answer in answers] == list(
        range(MESSAGES + 3, MESSAGES + 3 + len(refused_keys))
    )
    assert texts(stage) == ["before", *refused_keys]
    assert ready(stage) == 200


@pytest.mark.parametrize(
    "fault", ["pwrite64:error=ENOSPC", "pwrite64:retval=0"], ids=["no space", "nothing written"]
)
def test_a_full_disk_refuses_sends_and_nothing_else(server: ServerProcess, stage: Stage, fault: str) -> None:
    answered = ok(say(stage, "before"))
    with faulty(server, fault):
        for key in ("one", "two", "one"):
            told_unavailable(say(stage, key))
        stage.alice.send(send_msg(GROUP, "three", "three"))
        assert stage.alice.expect("ERROR", clientMsgId="three")["code"] == "UNAVAILABLE"
        assert texts(stage) == ["before"]
        assert ready(stage) == 503
        stage.alice.ping()
    goes_on_by_itself(stage, ["one", "two", "three"])
    assert ok(say(stage, "before")) == answered
    server.kill()
    check_whole(read_state(server.folder / DATABASE))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own in memory; skips where it may not be mounted."""
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *options], capture_output=True, text=True, check=False)


def server_on(disk: Path, files: Files) -> ServerProcess:
    """A server on a copy of the prepared file there; its words go elsewhere."""
    copy_database(files.prepared(), disk)
    server = ServerProcess(disk)
    server.log_path = disk.with_name("server.log")
    return server


def test_a_disk_that_fills_up_and_gets_room(files: Files, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "560k"):
        server = server_on(disk, files)
        server.start()
        try:
            stage = Stage(server)
            stored, unstored = fill(stage)
            assert stored and unstored
            assert texts(stage) == stored
            assert mount("-o", "remount,size=8m", str(disk)).returncode == 0
            assert ok(say(stage, unstored))["seq"] == MESSAGES + 2 + len(stored)
            assert texts(stage) == [*stored, unstored]
            server.kill()
            stage.close()
            state = read_state(disk / DATABASE)
            check_whole(state)
            assert state.head(GROUP) == MESSAGES + 2 + len(stored)
        finally:
            server.stop()


def fill(stage: Stage) -> tuple[list[str], str]:
    """Send until there is no room. Returns what was stored and what was not."""
    stored: list[str] = []
    for number in range(1000):
        key = f"{number:0100}"
        answer = say(stage, key)
        if answer.status_code != 200:
            told_unavailable(answer)
            return stored, key
        stored.append(key)
    raise AssertionError("the disk never filled up")


def test_a_write_that_is_cut_short(server: ServerProcess, stage: Stage) -> None:
    """A bound on the size of files cuts a page in two and then fails: no sound file, no further write."""
    answered = ok(say(stage, "before"))
    log_bytes = (server.folder / f"{DATABASE}-wal").stat().st_size
    resource.prlimit(pid_of(server), resource.RLIMIT_FSIZE, (log_bytes + 1000, resource.RLIM_INFINITY))
    with faulty(server) as strace:
        told_unavailable(say(stage, "broken"))
        calls = on_log(strace.detach(), "pwrite64")
    assert any(0 < int(call.result.split()[0]) < asked(call) for call in calls), "no write was cut short"
    resource.prlimit(pid_of(server), resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    told_unavailable(say(stage, "after"))
    assert texts(stage) == ["before"]
    again = restarted(server)
    assert ok(say(again, "before")) == answered
    assert ok(say(again, "broken"))["seq"] == MESSAGES + 3
    again.close()


def asked(call: Call) -> int:
    """How many bytes a pwrite64 was to write."""
    return int(call.arguments.rstrip(")").split(", ")[-2])


def test_a_write_that_is_interrupted_is_done_again(server: ServerProcess, stage: Stage) -> None:
    with faulty(server, "pwrite64:error=EINTR:when=2") as strace:
        answered = ok(say(stage, "one"))
        assert any("EINTR" in call.result for call in on_log(strace.detach(), "pwrite64"))
    assert texts(stage) == ["one"] and ok(say(stage, "one")) == answered
    server.kill()
    check_whole(read_state(server.folder / DATABASE))


# -- the disk hangs, or is slow


def test_a_disk_that_hangs_holds_the_answers_and_nothing_else(server: ServerProcess, stage: Stage) -> None:
    with faulty(server, f"fdatasync:delay_enter={FOREVER}", calls="fdatasync"):
        stage.alice.send(send_msg(GROUP, "slow", "slow"))
        stage.alice.ping()  # the event loop is alive: the PONG is here before the acknowledgement
        stage.bob.ping()
        assert not stage.alice.seen("MSG_ACK") and not stage.bob.seen("NEW_MSG")
        assert texts(stage) == [], "reads go on, and show nothing that is not durable"
        stage.alice.send(send_msg(GROUP, "slower", "slower"))
        stage.alice.ping()
        assert not stage.alice.seen("MSG_ACK")
    acks = [stage.alice.expect("MSG_ACK", clientMsgId=key) for key in ("slow", "slower")]
    assert [ack["seq"] for ack in acks] == [MESSAGES + 2, MESSAGES + 3]
    assert [pushed(stage)["seq"] for _ in acks] == [MESSAGES + 2, MESSAGES + 3]


def pushed(stage: Stage) -> Event:
    return stage.bob.expect("NEW_MSG")


def test_on_a_slow_disk_no_answer_leaves_early(server: ServerProcess, stage: Stage) -> None:
    with faulty(server, "fdatasync:delay_enter=500ms", calls=SWEPT) as strace:
        for key in ("one", "two"):
            stage.alice.say(GROUP, key, key)
        calls = strace.detach()
    assert len(on_log(calls, "fdatasync")) >= 2
    check_answers_follow_syncs(calls)


# -- somebody else holds the file


def test_a_held_lock_is_waited_for_and_then_refused(server: ServerProcess, stage: Stage) -> None:
    with closing(sqlite3.connect(server.folder / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        stage.alice.send(*(send_msg(GROUP, key, key) for key in ("one", "two")))
        stage.alice.ping()  # before the refusal: nobody else waits for the lock
        assert not stage.alice.seen("ERROR")
        told = [stage.alice.expect("ERROR", clientMsgId=key) for key in ("one", "two")]
        told_unavailable(say(stage, "three"))
        assert texts(stage) == []
        assert len(threads_of(pid_of(server))) <= 6, "one writer waits, however many messages do"
        other.execute("ROLLBACK")
    assert {event["code"] for event in told} <= {"UNAVAILABLE", "OVERLOADED"}
    assert [stage.alice.say(GROUP, key, key)["seq"] for key in ("one", "two")] == [MESSAGES + 2, MESSAGES + 3]
    assert ok(say(stage, "three"))["seq"] == MESSAGES + 4
    assert texts(stage) == ["one", "two", "three"]


# -- the file may not be written


def ended(server: LaunchedServer) -> int:
    """How a server that cannot start ends."""
    server.launch()
    try:
        return server.exit_code()
    finally:
        server.stop()


@pytest.mark.parametrize("error", ["EROFS", "EACCES"])
def test_a_file_that_may_not_be_written_is_told_at_the_start(
    files: Files, tmp_path: Path, error: str
) -> None:
    database = copy_database(files.prepared(), tmp_path)
    before = read_state(database)
    fault = f"openat:error={error}:when=2+2"  # a lock, then SQLite; each after one that makes a file that is missing
    strace = traced(tmp_path / "trace", "openat", fault, path=database)
    server = LaunchedServer(tmp_path, [*strace, *CHATKIT_SERVE])
    assert ended(server) == 2
    calls = parse((tmp_path / "trace").read_text(encoding="utf-8"))
    for made, opened in (calls[:2], calls[2:4]):
        assert "O_EXCL" in made.arguments and "EEXIST" in made.result
        assert "O_RDWR" in opened.arguments and "INJECTED" in opened.result
    assert f"cannot open the SQLite file {database}: attempt to write a readonly database" in server.log
    assert "Traceback" not in server.log
    assert read_state(database) == before


def test_a_file_system_that_may_not_be_written_is_told_at_the_start(files: Files, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "4m"):
        database = copy_database(files.prepared(), disk)
        assert mount("-o", "remount,ro", str(disk)).returncode == 0
        server = LaunchedServer(disk)
        server.log_path = tmp_path / "server.log"
        assert ended(server) == 2
        assert "Error: cannot open" in server.log and str(database) in server.log
        assert "Traceback" not in server.log
        assert mount("-o", "remount,rw", str(disk)).returncode == 0
        server.start()
        stage = Stage(server)
        assert ok(say(stage, "again"))["seq"] == MESSAGES + 2
        stage.close()
        server.stop()
