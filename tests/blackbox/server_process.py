"""The real server as a process: started, waited for, killed, restarted on the same log."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import httpx

from .tokens import SECRET

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "benchmarks" / "unlimited_serve.py"
READY_S = 20.0
POLL_S = 0.02


def own_tracebacks(log: str) -> list[str]:
    """What was logged with a traceback through chatkit's code, wherever its checkout is.

    What its web server logs of itself has a test in `test_log.py`.
    """
    own = f'File "{ROOT / "src"}'
    records = re.split(r"^(?=\d{4}-\d\d-\d\d \S+ [A-Z]+ )", log, flags=re.MULTILINE)
    return [record for record in records if "Traceback" in record and own in record]


def faults_of_log(log: str) -> list[str]:
    """Lines that hold a body or a token, or that belong to a record of several lines: one of these could be forged.

    Bodies that the tests call canaries stand for all of them.
    """
    lines = [line for line in log.splitlines() if not line.startswith(("chatkit serves on ", "metrics on "))]
    return [line for line in lines if not _RECORD.match(line) or "canary" in line or "eyJ" in line]


_RECORD = re.compile(r"\d{4}-\d\d-\d\d \S+ [A-Z]+ \S+ ")


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """One `chatkit serve`, without limits of one peer, on a log of its own; restarts keep the port and the log.

    Args:
        folder: Where its own log is, and a SQLite file.
        options: More of `chatkit serve`.
        secret: Of the tokens.
        storage: The address of its log; None: the SQLite file.

    Attributes:
        environment: Further variables of the process, from its next start on.
    """

    program: Sequence[str] = (str(SERVE), "serve")
    """What Python runs; it takes the options of `chatkit serve`."""

    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, folder: Path, *options: str, secret: str = SECRET, storage: str | None = None) -> None:
        self.folder = folder
        self._options = options
        self._secret = secret
        self.storage = storage or f"sqlite:///{folder / 'chat.db'}"
        self.port = free_port()
        self.log_path = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def pids(self) -> list[int]:
        """Its process; of several nodes, all of them."""
        assert self.process is not None
        return [self.process.pid]

    def start(self) -> None:
        """Start and return once /readyz answers 200."""
        self.launch()
        self.wait_ready()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start without waiting for it to be ready."""
        command = [sys.executable, "-P", *self.program, "--port", str(self.port)]
        command += ["--storage", self.storage]
        command += ["--jwt-secret-env", "CHATKIT_JWT_SECRET", *self._options]
        env = os.environ | {"CHATKIT_JWT_SECRET": self._secret, "PYTHONUNBUFFERED": "1", **self.environment}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env
            )
        return self.process

    def kill(self) -> None:
        """SIGKILL: nothing of the process runs any more when this returns."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Ask for a drain; `exit_code` waits for its end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, timeout_s: float = 30.0) -> int:
        """How the process ended; negative for a signal."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """Leave nothing running, whatever state it is in."""
        if self.process is None or self.process.poll() is not None:
            return
        self.terminate()
        try:
            self.exit_code(10.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait_ready(self) -> None:
        """Return once /readyz answers 200."""
        process = self.process
        assert process is not None
        deadline = time.monotonic() + READY_S
        with httpx.Client(base_url=self.http_url, trust_env=False, verify=False) as client:
            while not _is_ready(client):
                assert process.poll() is None, f"server ended with {process.returncode}:\n{self.log}"
                assert time.monotonic() < deadline, f"server not ready after {READY_S} s:\n{self.log}"
                try:  # a poll between two looks at /readyz: there is no event to wait for
                    process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    continue


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
