"""A server as a process of its own: started, frozen, killed, and always stopped by its process id."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_S = 20.0
STOP_S = 10.0


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server on one port of loopback, which it keeps when it is started again.

    Args:
        command: The command line for a port.
        folder: Its working folder; `log` there holds what it says.
        greets: Whether a fresh connection shows that it serves.
        port: None: a free one.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        folder: Path,
        greets: Callable[[socket.socket], bool],
        *,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.log = folder / "log"
        self._command, self._folder, self._greets = command, folder, greets
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it runs"
        return self._process.pid

    def start(self) -> None:
        """Return once it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(self.port), cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while not self._serves():
            assert self._process.poll() is None, f"it ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"it does not serve: {self.log.read_text()}"
            time.sleep(0.01)

    def _serves(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                return self._greets(probe)
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it stand still: its connections stay, and nothing is read or answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        while not self._stands_still():  # a thread that runs on another core goes on for a moment
            time.sleep(0.001)

    def _stands_still(self) -> bool:
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        try:
            return all("\nState:\tT" in task.joinpath("status").read_text() for task in tasks)
        except FileNotFoundError:  # that thread has just ended
            return False

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self.thaw()
            self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextmanager
def running(server: ServerProcess) -> Iterator[ServerProcess]:
    """A server while a test or all tests need it."""
    server.start()
    try:
        yield server
    finally:
        server.stop()
