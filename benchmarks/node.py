"""A real server process for a benchmark, pinned to the first core; and what it has cost so far."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from chatkit import sign_token

SECRET = "benchmark-secret-of-32-characters"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Node:
    """A running `chatkit serve` on a fresh SQLite file."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_s(self) -> float:
        """User and system seconds of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def pss_kib(self) -> int:
        """Its proportional share of memory, in KiB."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        raise RuntimeError("no Pss line")

    def token(self, user_id: str) -> str:
        """A token for any device of a user."""
        return sign_token(SECRET, user_id=user_id, ttl_s=86_400)

    def create(self, conversation_id: str, kind: str, user_ids: list[str]) -> None:
        """A conversation of these users."""
        response = httpx.post(
            f"http://127.0.0.1:{self.port}/v1/conversations",
            json={"conversationId": conversation_id, "type": kind, "memberIds": user_ids},
            headers={"Authorization": f"Bearer {self.token(user_ids[0])}"},
        )
        response.raise_for_status()


@contextlib.contextmanager
def node() -> Iterator[Node]:
    """Start a server on core 0, put this process on core 1, and end the server afterwards."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "chatkit",
                "serve",
                "--port",
                "0",
                "--json",
                "--storage",
                f"sqlite:///{folder}/bench.db",
            ],
            env={**os.environ, "CHATKIT_JWT_SECRET": SECRET},
            stdout=subprocess.PIPE,
        )
        try:
            os.sched_setaffinity(process.pid, cores[:1])
            os.sched_setaffinity(0, cores[-1:])
            assert process.stdout is not None
            yield Node(process, json.loads(process.stdout.readline())["port"])
        finally:
            os.sched_setaffinity(0, cores)
            process.terminate()
            process.wait(20)
