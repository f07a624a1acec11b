"""The parent of several server processes, with processes that only say that they serve.

Real ones are in `test_several_processes.py`. The parent prints what it announces.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatkit.cli.supervisor import check_can_share
from chatkit.cli.web import listen_beside, listen_side_by_side
from chatkit.errors import ConfigurationError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")

TIMEOUT_S = 20.0

BEGIN = """
import json, logging, os, signal, sys, time
from chatkit.cli import supervisor
from chatkit.cli.supervisor import Serving, Supervisor
from chatkit.cli.logging_setup import set_up_logging

supervisor._RETRY_S = 0.01
set_up_logging("info")

def announce(listener, said):
    print(json.dumps([listener.getsockname()[1], [it.metrics for it in said]]), flush=True)

{before}
process = Supervisor({count}, "127.0.0.1", {port}, announce, {end_within_s}).run()

def serve():
    process.serves(Serving(str(os.getpid())))

def until_told():
    signal.sigwait([signal.SIGTERM])

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
"""
"""What follows runs in each process, which has told nobody yet that it serves."""


class Parent:
    """The process of a supervisor."""

    def __init__(self, process: subprocess.Popen[str], err: Path) -> None:
        self.process, self._err = process, err

    def said(self) -> tuple[int, list[int]]:
        """The port and the processes, once all serve."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log
        port, pids = json.loads(line)
        return port, [int(pid) for pid in pids]

    def ends(self) -> int:
        return self.process.wait(TIMEOUT_S)

    @property
    def log(self) -> str:
        return self._err.read_text()

    def line(self) -> str:
        """The next line that a process prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def parent(
    folder: Path, body: str, *, before: str = "", count: int = 2, end_within_s: float = 10, port: int = 0
) -> Iterator[Parent]:
    """A parent that has run `before`, whose processes run `body`; killed at the end, and they with it."""
    begin = BEGIN.format(before=textwrap.dedent(before), count=count, port=port, end_within_s=end_within_s)
    program = begin + textwrap.dedent(body)
    err = folder / "log"
    with (
        err.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            yield Parent(process, err)
        finally:
            process.kill()


def wait_gone(pid: int) -> None:
    """Until a process is no more, and no zombie either; a process that is somebody else's cannot be waited for."""
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([ended], [], [], TIMEOUT_S)[0], f"{pid} goes on"
    finally:
        os.close(ended)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them_with_0(stop: signal.Signals, tmp_path: Path) -> None:
    with parent(tmp_path, "serve(); until_told()", count=3) as it:
        port, pids = it.said()
        assert len(set(pids)) == 3 and sorted(children(it.process.pid)) == sorted(pids)
        it.process.send_signal(stop)
        assert it.ends() == 0, it.log
        assert not any(map(is_alive, pids))
    socket.create_server(("127.0.0.1", port)).close()


def test_the_first_is_alone_until_it_serves_and_what_it_ends_with_ends_all(tmp_path: Path) -> None:
    with parent(tmp_path, "print('no such database', file=sys.stderr); sys.exit(2)") as it:
        assert it.ends() == 2
    assert it.log.count("no such database") == 1


def test_one_that_cannot_serve_at_the_start_ends_the_others(tmp_path: Path) -> None:
    body = """
    if process.number == 2:
        sys.exit(3)
    serve()
    until_told()
    print("asked to end", flush=True)
    """
    with parent(tmp_path, body) as it:
        assert (it.ends(), it.line()) == (3, "asked to end")


def test_one_that_is_killed_at_the_start_is_named(tmp_path: Path) -> None:
    with parent(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)") as it:
        assert it.ends() == 1
    assert "server process 1" in it.log and "ended by SIGKILL before all served" in it.log


def test_a_signal_before_all_serve_ends_with_0(tmp_path: Path) -> None:
    body = """
    print("begins", flush=True)
    until_told()
    """
    with parent(tmp_path, body) as it:
        assert it.line() == "begins"
        it.process.terminate()
        assert it.ends() == 0, it.log


def test_one_that_dies_is_logged_and_started_again_with_its_number(tmp_path: Path) -> None:
    body = """
    again = os.path.exists("again")
    serve()
    if again:
        print(process.number, os.getpid(), flush=True)
    until_told()
    """
    with parent(tmp_path, f"os.chdir({str(tmp_path)!r})\n" + textwrap.dedent(body)) as it:
        _, (first, second) = it.said()
        (tmp_path / "again").touch()
        os.kill(second, signal.SIGKILL)
        number, pid = map(int, it.line().split())
        assert number == 2 and pid not in (first, second)
        assert is_alive(first) and not is_alive(second), "no zombie stays"
        it.process.terminate()
        assert it.ends() == 0
    assert (
        f"ERROR chatkit.cli.supervisor server process 2 ({second}) ended by SIGKILL; started again in"
        in it.log
    )


def test_one_that_never_comes_back_is_tried_again_and_the_others_go_on(tmp_path: Path) -> None:
    body = """
    if os.path.exists("broken"):
        print("tried", flush=True)
        sys.exit(2)
    serve()
    until_told()
    """
    with parent(tmp_path, f"os.chdir({str(tmp_path)!r})\n" + textwrap.dedent(body)) as it:
        _, (first, second) = it.said()
        (tmp_path / "broken").touch()
        os.kill(second, signal.SIGKILL)
        assert [it.line(), it.line()] == ["tried", "tried"]
        assert is_alive(first) and it.process.poll() is None
        it.process.terminate()
        assert it.ends() == 0


def test_with_no_file_left_the_parent_tries_again_and_the_others_go_on(tmp_path: Path) -> None:
    before = """
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.ERROR)
    logging.getLogger("chatkit.cli.supervisor").addHandler(handler)
    """
    body = """
    if os.path.exists("again"):
        print("again", flush=True)
    serve()
    until_told()
    """
    with parent(tmp_path, f"os.chdir({str(tmp_path)!r})\n" + textwrap.dedent(body), before=before) as it:
        _, (first, second) = it.said()
        (tmp_path / "again").touch()
        limit = resource.prlimit(it.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(it.process.pid, resource.RLIMIT_NOFILE, (3, limit[1]))
        os.kill(second, signal.SIGKILL)
        assert "ended by SIGKILL" in it.line()
        for _ in range(2):  # first a pair is missing, then its own socket as well
            assert it.line().startswith(
                "server process 2 has no socket: Too many open files; started again in"
            )
        assert is_alive(first) and it.process.poll() is None
        resource.prlimit(it.process.pid, resource.RLIMIT_NOFILE, limit)
        while (line := it.line()) != "again":
            assert "has no socket" in line, it.log
        it.process.terminate()
        assert it.ends() == 0, it.log


def test_a_fork_that_fails_is_tried_again_and_leaves_no_socket_behind(tmp_path: Path) -> None:
    before = """
    real, opened = os.fork, []
    def fork():
        opened.append(len(os.listdir("/proc/self/fd")))
        if len(opened) in (3, 4):
            raise BlockingIOError(11, "no process left")
        return real()
    os.fork = fork
    """
    body = """
    if len(opened) > 2:
        print(json.dumps(opened), flush=True)
    serve()
    until_told()
    """
    with parent(tmp_path, body, before=before) as it:
        _, (first, second) = it.said()
        os.kill(second, signal.SIGKILL)
        opened = json.loads(it.line())
        assert len(opened) == 5 and opened[2] == opened[3] == opened[4]
        assert is_alive(first)
        it.process.terminate()
        assert it.ends() == 0, it.log
    assert it.log.count("server process 2 cannot be started: no process left; started again in") == 2


def test_who_waits_at_one_that_died_is_served_by_the_next(tmp_path: Path) -> None:
    """A socket of its own dies with a process and resets who waits there; this one outlives it."""
    body = """
    serve()
    while process.number == 2 and os.path.exists("deaf"):
        time.sleep(3600)
    process.listener.setblocking(True)
    while True:
        connection, _ = process.listener.accept()
        connection.sendall(b"%d" % process.number)
        connection.close()
    """
    (tmp_path / "deaf").touch()
    with parent(tmp_path, f"os.chdir({str(tmp_path)!r})\n" + textwrap.dedent(body)) as it:
        port, (_, second) = it.said()
        callers = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(30)]
        (tmp_path / "deaf").unlink()
        os.kill(second, signal.SIGKILL)
        answers = {caller.recv(10) for caller in callers}
        for caller in callers:
            caller.close()
    assert answers == {b"1", b"2"}


def test_one_that_hangs_is_killed_after_the_bound_and_the_exit_code_tells(tmp_path: Path) -> None:
    body = """
    serve()
    if process.number == 1:
        until_told()
    else:
        time.sleep(3600)
    """
    with parent(tmp_path, body, end_within_s=0.2) as it:
        _, (first, second) = it.said()
        os.kill(second, signal.SIGSTOP)
        it.process.terminate()
        assert it.ends() == 1
        assert not is_alive(first) and not is_alive(second)
    assert f"server process 2 ({second}) did not end within 0.2 s and is killed" in it.log


ENDS_BUT_FOR_A_THREAD = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
again = os.path.exists("again")
serve()
if again:
    print("again", process.number, flush=True)
elif process.number == 1:
    signal.sigwait([signal.SIGUSR1])
    process.tether.close()
    print("ends", flush=True)
    while True:
        time.sleep(3600)
until_told()
print("told", flush=True)
"""


def test_while_one_cannot_end_the_others_are_started_again_and_told(tmp_path: Path) -> None:
    with parent(tmp_path, f"os.chdir({str(tmp_path)!r})\n{ENDS_BUT_FOR_A_THREAD}", end_within_s=3600) as it:
        _, (first, second) = it.said()
        (tmp_path / "again").touch()
        os.kill(first, signal.SIGUSR1)
        assert it.line() == "ends"
        os.kill(second, signal.SIGKILL)
        assert it.line() == "again 2"
        it.process.terminate()
        assert it.line() == "told"
        assert is_alive(first) and it.process.poll() is None
        os.kill(first, signal.SIGKILL)
        assert it.ends() == 1, it.log


def test_one_that_ends_by_itself_and_cannot_is_killed_after_the_bound_and_started_again(
    tmp_path: Path,
) -> None:
    with parent(tmp_path, f"os.chdir({str(tmp_path)!r})\n{ENDS_BUT_FOR_A_THREAD}", end_within_s=0.2) as it:
        _, (first, second) = it.said()
        (tmp_path / "again").touch()
        os.kill(first, signal.SIGUSR1)
        assert [it.line(), it.line()] == ["ends", "again 1"]
        assert not is_alive(first) and is_alive(second)
    assert f"server process 1 ({first}) did not end within 0.2 s and is killed" in it.log
    assert f"server process 1 ({first}) ended by SIGKILL; started again in" in it.log


def test_one_that_is_gone_is_missed_even_if_another_program_holds_its_end_of_the_pair(tmp_path: Path) -> None:
    body = """
    again = os.path.exists("again")
    if not again and process.number == 1 and os.fork() == 0:
        time.sleep(3600)
    serve()
    if again:
        print("again", process.number, flush=True)
    until_told()
    """
    with parent(tmp_path, f"os.chdir({str(tmp_path)!r})\n" + textwrap.dedent(body)) as it:
        _, (first, _) = it.said()
        (holder,) = children(first)
        try:
            (tmp_path / "again").touch()
            os.kill(first, signal.SIGKILL)
            assert it.line() == "again 1"
            it.process.terminate()
            assert it.ends() == 0, it.log
        finally:
            os.kill(holder, signal.SIGKILL)


def test_a_failure_while_ending_is_told(tmp_path: Path) -> None:
    with parent(tmp_path, "serve(); until_told(); sys.exit(process.number - 1)") as it:
        _, (_, second) = it.said()
        it.process.terminate()
        assert it.ends() == 1
    assert f"server process 2 ({second}) ended with exit code 1" in it.log


def test_with_the_parent_killed_nothing_goes_on_not_even_one_that_hangs(tmp_path: Path) -> None:
    with parent(tmp_path, "serve(); until_told()") as it:
        port, (first, second) = it.said()
        os.kill(second, signal.SIGSTOP)
        it.process.kill()
        it.ends()
        wait_gone(first)
        wait_gone(second)
    socket.create_server(("127.0.0.1", port)).close()


def test_a_process_that_cannot_begin_ends_and_is_no_second_parent(tmp_path: Path) -> None:
    before = """
    def refused(*_):
        raise PermissionError(1, "refused")
    os.setpgid = refused
    """
    with parent(tmp_path, "print('serves', flush=True)", before=before) as it:
        assert it.ends() == 1
        assert it.line() == "", "nothing came of it"
    assert "server process 1 cannot begin" in it.log and it.log.count("PermissionError: ") == 1
    assert "ended with exit code 1 before all served" in it.log and "started again" not in it.log


async def test_a_process_sees_the_end_of_its_parent_where_no_kernel_tells_it(tmp_path: Path) -> None:
    body = """
    import anyio, ctypes
    ctypes.CDLL(None).prctl(1, 0)
    async def serving():
        serve()
        await process.end_with_parent()
    anyio.run(serving)
    """
    with parent(tmp_path, body) as it:
        _, pids = it.said()
        it.process.kill()
        it.ends()
        for pid in pids:
            wait_gone(pid)


def test_a_process_holds_no_socket_of_another_one(tmp_path: Path) -> None:
    """Beside the three that every program has: its listener, and its end of the pair."""
    with parent(tmp_path, "serve(); until_told()", count=3) as it:
        _, pids = it.said()
        held = [sorted(os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()) for pid in pids]
        sockets = [{name for name in names if name.startswith("socket:")} for names in held]
        assert [len(it) for it in sockets] == [2, 2, 2], held
        assert len(set.union(*sockets)) == 6, "none is shared"
        assert not [name for names in held for name in names if "eventpoll" in name]


def test_a_port_that_somebody_has_is_refused_even_if_they_would_share_it() -> None:
    listeners = listen_side_by_side("127.0.0.1", 0, 2)
    port = listeners[0].getsockname()[1]
    try:
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen_side_by_side("127.0.0.1", port, 2)
    finally:
        for each in listeners:
            each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_are_dealt_to_all_and_to_one_that_came_later(host: str) -> None:
    listeners = listen_side_by_side(host, 0, 2)
    listeners.append(listen_beside(listeners[0].getsockname()))
    callers = [socket.create_connection(listeners[0].getsockname()[:2], TIMEOUT_S) for _ in range(120)]
    try:
        for each in listeners:
            each.settimeout(TIMEOUT_S)
            for _ in range(10):
                each.accept()[0].close()
    finally:
        for each in (*listeners, *callers):
            each.close()


@pytest.mark.parametrize(
    ("storage", "bus", "says"),
    [
        ("sqlite:///chat.db", "nats://host", "--storage postgresql://"),
        ("memory://", "nats://host", "--storage postgresql://"),
        ("postgresql://host/chat", "local://", "--bus nats://HOST or redis://HOST"),
    ],
)
def test_what_processes_cannot_share_is_refused(storage: str, bus: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match="--workers 2 needs a") as refused:
        check_can_share(2, storage, bus)
    assert says in str(refused.value)
    check_can_share(1, storage, bus)


def test_what_processes_can_share_is_taken() -> None:
    check_can_share(8, "postgres://host/chat", "redis://host")
