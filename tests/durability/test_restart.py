"""What a restart finds: pages that a killed process wrote and did not live to sync."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.blackbox.world import World, ok

from .launched import CHATKIT_SERVE, LaunchedServer
from .stage import ALICE, DATABASE, DEVICE, GROUP, fresh_server
from .state import read_state
from .strace import Call, Strace, parse
from .syscalls import Files, died, pid_of
from .workloads import until_cut

pytestmark = [pytest.mark.usefixtures("strace"), pytest.mark.timeout(120)]


@pytest.mark.xfail(
    strict=True,
    reason="the log that a killed server left is served without a sync: a power cut takes back what was acknowledged",
)
def test_what_was_left_is_synced_before_it_is_acknowledged(files: Files, tmp_path: Path) -> None:
    """A kill between the write and the sync, a restart, an acknowledgement: a power cut now must not lose it (S12)."""
    folder = tmp_path / "server"
    _killed_before_the_sync(files, folder)
    assert read_state(folder / DATABASE).log(GROUP)[-1][3] == "left", (
        "the pages are in the file, or in its cache"
    )
    trace = folder / "restart"
    options = [
        "-D",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-yy",
        "-o",
        str(trace),
        "-e",
        "trace=fdatasync,fsync,pwrite64",
    ]
    server = LaunchedServer(folder, ["strace", *options, *CHATKIT_SERVE])
    server.start()
    world = World(server.http_url, server.ws_url)
    try:
        ok(world.api(ALICE, DEVICE).say(GROUP, "left", "left"))
        assert any(map(_syncs_the_log, parse(trace.read_text(encoding="utf-8", errors="replace"))))
    finally:
        world.close()
        server.stop()


def _killed_before_the_sync(files: Files, folder: Path) -> None:
    server = fresh_server(files.prepared(), folder)
    server.start()
    world = World(server.http_url, server.ws_url)
    with Strace([pid_of(server)], folder / "trace", "fdatasync", "fdatasync:signal=SIGKILL", follow=True):
        answers = (world.api(ALICE, DEVICE).say(GROUP, "left", "left").content for _ in range(1))
        assert until_cut(answers) == [] and died(server)
    world.close()


def _syncs_the_log(call: Call) -> bool:
    return call.name in ("fdatasync", "fsync") and call.path.endswith("-wal") and call.result == "0"
