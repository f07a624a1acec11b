"""What a restart finds: pages that a killed process wrote and did not live to sync."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatkit.drivers.file_lock import SUFFIX
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.world import World, ok

from .launched import CHATKIT_SERVE, LaunchedServer
from .stage import ALICE, DATABASE, DEVICE, GROUP, MESSAGES, fresh_server
from .state import check_whole, copy_database, read_state
from .strace import Call, Strace, parse, traced
from .syscalls import Files, died, pid_of, target_of
from .workloads import until_cut

pytestmark = [pytest.mark.usefixtures("strace"), pytest.mark.timeout(120)]


@pytest.fixture
def left(files: Files, tmp_path: Path) -> Path:
    """The folder of a server that was killed between the writes of a message and their sync."""
    server = fresh_server(files.prepared(), tmp_path / "server")
    server.start()
    world = World(server.http_url, server.ws_url)
    api = world.api(ALICE, DEVICE)
    ok(api.say(GROUP, "answered", "answered"))
    trace = server.folder / "trace"
    with Strace([pid_of(server)], trace, "fdatasync", "fdatasync:signal=SIGKILL", follow=True):
        told = until_cut(api.say(GROUP, key, key).content for key in ("left",))
        killed = died(server)
    world.close()
    if told or not killed:
        pytest.fail(f"told {told}, killed {killed}")
    return server.folder


@pytest.fixture
def restarted(left: Path) -> Iterator[LaunchedServer]:
    """A server on that file, traced from its start."""
    server = LaunchedServer(left, [*traced(left / "trace", "fdatasync,fsync"), *CHATKIT_SERVE])
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_what_was_written_outlives_the_process_unsynced(left: Path) -> None:
    assert read_state(left / DATABASE).log(GROUP)[-1][3] == "left"


def test_what_was_left_is_synced_before_anything_is_answered(restarted: LaunchedServer) -> None:
    """A kill before the sync, a restart, an acknowledgement: a power cut now must not lose the message (S12)."""
    assert any(map(_syncs_the_log, parse_trace(restarted)))
    with closing(World(restarted.http_url, restarted.ws_url)) as world:
        assert ok(world.api(ALICE, DEVICE).say(GROUP, "left", "left"))["seq"] == MESSAGES + 3


def test_a_kill_during_the_start_leaves_the_log_as_it_was(left: Path, tmp_path: Path) -> None:
    """At the first and last call of each kind that a start makes; then the next start must find everything."""
    before = read_state(left / DATABASE)
    kinds = calls_of_a_start(left, tmp_path / "reference")
    assert kinds["write", "chat.db-wal"] and kinds["fsync", "chat.db-wal"]
    for (name, target), count in kinds.items():
        for nth in {1, count}:
            folder = tmp_path / f"{target}-{name}-{nth}"
            killed = starting(left, folder, f"{name}:signal=SIGKILL:when={nth}", path=folder / target)
            killed.launch()
            assert died(killed), f"survived {name} {nth} on {target}"
            assert read_state(folder / DATABASE) == before
            goes_on(ServerProcess(folder))


def calls_of_a_start(left: Path, folder: Path) -> Counter[tuple[str, str]]:
    """How often a start makes which call on which file of the database, the shared memory left out."""
    server = starting(left, folder)
    try:
        server.start()
        server.kill()
    finally:
        server.stop()
    named = [(call.name, target_of(call)) for call in parse_trace(server)]
    return Counter((name, target) for name, target in named if target in (DATABASE, f"{DATABASE}-wal"))


def starting(left: Path, folder: Path, *faults: str, path: Path | None = None) -> LaunchedServer:
    """A server on a copy of that file, to be traced from its start."""
    folder.mkdir()
    copy_database(left / DATABASE, folder)
    strace = traced(folder / "trace", "write,pwrite64,fdatasync,fsync,ftruncate", *faults, path=path)
    return LaunchedServer(folder, [*strace, *CHATKIT_SERVE])


def test_a_start_that_cannot_make_the_log_durable_ends(left: Path, tmp_path: Path) -> None:
    before = read_state(left / DATABASE)
    server = starting(left, tmp_path / "broken", "fsync:error=EIO:when=1")
    server.launch()
    assert server.exit_code() == 2
    assert "chat.db-wal: Input/output error" in server.log and "Traceback" not in server.log
    assert read_state(server.folder / DATABASE) == before
    goes_on(ServerProcess(server.folder))


def goes_on(server: ServerProcess) -> None:
    """It starts and has the message; it takes the log for its own, not for one that was put back."""
    try:
        server.start()
        with closing(World(server.http_url, server.ws_url)) as world:
            api = world.api(ALICE, DEVICE)
            seqs = [ok(api.say(GROUP, key, key))["seq"] for key in ("answered", "left")]
        assert seqs == [MESSAGES + 2, MESSAGES + 3]
    finally:
        server.stop()
    check_whole(read_state(server.folder / DATABASE))


def test_a_log_that_was_not_served_from_its_place_is_renewed(left: Path, tmp_path: Path) -> None:
    """So the check of every other restart can fail."""
    copied = copy_database(left / DATABASE, tmp_path)
    copied.with_name(copied.name + SUFFIX).unlink()
    with pytest.raises(AssertionError, match="renewed"):
        goes_on(ServerProcess(tmp_path))


def parse_trace(server: LaunchedServer) -> list[Call]:
    """What was traced so far."""
    return parse((server.folder / "trace").read_text(encoding="utf-8"))


def _syncs_the_log(call: Call) -> bool:
    return call.name in ("fdatasync", "fsync") and call.path.endswith("-wal") and call.result == "0"
