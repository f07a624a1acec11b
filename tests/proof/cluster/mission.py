"""One fault at a time, long enough to be seen: all is well, the fault, and all is well again.

`storage` jitters, a `node` is lost, the `queue` backs up, and somebody is `away` for long.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from os import kill
from pathlib import Path

import anyio

from chatkit import CaughtUp, ChatClient, sign_token
from chatkit.storage.base import Entry

from .nemesis import beside
from .nodes import Cluster
from .pictures import Mark
from .sleepers import sleeper_of

_STILL_S = 0.7
_GOES_S = 0.3


class Mission:
    """Plays one fault in the middle third of a load.

    Args:
        cluster: Everything.
        name: Which fault.
        seconds: How long the load lasts.
        secret: Of the tokens.

    Attributes:
        marks: When it was.
        notes: What else is to be said.
    """

    def __init__(self, cluster: Cluster, name: str, seconds: float, secret: str) -> None:
        self._cluster = cluster
        self._name = name
        self._third_s = seconds / 3
        self._secret = secret
        self._over = threading.Event()
        self._play: Callable[[float], None] = {
            "storage": self._storage_jitters,
            "node": self._node_is_lost,
            "queue": self._queue_backs_up,
            "away": self._somebody_is_away,
        }[name]
        self.marks: list[Mark] = []
        self.notes: list[str] = []

    def playing(self) -> AbstractContextManager[None]:
        """Until the end of the block; then everything runs again."""
        return beside(self._run, self._over)

    def _run(self) -> None:
        if self._over.wait(self._third_s):
            return
        began_s = time.time()
        self._play(time.monotonic() + self._third_s)
        self.marks.append(Mark(self._name, began_s, time.time()))

    def _storage_jitters(self, until_s: float) -> None:
        """PostgreSQL stands still for most of each second, all of its processes together."""
        while time.monotonic() < until_s and not self._over.is_set():
            pids = _processes_of(self._cluster.postgres.pid)
            try:
                _signal(pids, signal.SIGSTOP)
                self._over.wait(_STILL_S)
            finally:
                _signal(pids, signal.SIGCONT)
            self._over.wait(_GOES_S)

    def _node_is_lost(self, until_s: float) -> None:
        node = self._cluster.nodes.nodes[0]
        node.kill()
        self._over.wait(max(0.0, until_s - time.monotonic()))
        node.start()

    def _queue_backs_up(self, until_s: float) -> None:
        """No worker runs."""
        for worker in self._cluster.workers:
            worker.kill()
        self._over.wait(max(0.0, until_s - time.monotonic()))
        for worker in self._cluster.workers:
            worker.start()

    def _somebody_is_away(self, until_s: float) -> None:
        """A phone that slept all the time comes back, and catches up."""
        self._over.wait(max(0.0, until_s - time.monotonic()))
        took_s, count = anyio.run(self._come_back)
        self.notes.append(f"{sleeper_of(0)} came back: {count} messages in {took_s:.1f} s")

    async def _come_back(self) -> tuple[float, int]:
        token = sign_token(self._secret, user_id=sleeper_of(0), ttl_s=600)
        began_s = anyio.current_time()
        url = f"http://127.0.0.1:{self._cluster.port}"
        async with ChatClient(url, token=token, device_id="phone") as phone:
            count = 0
            async for event in phone.events():
                count += type(event).__name__ == "MessageReceived"
                if isinstance(event, CaughtUp):
                    return anyio.current_time() - began_s, count
        raise AssertionError("the events ended")

    def explain(self, entries: Iterable[Entry]) -> str:
        """What `chatkit explain` says of a message that the fault caught: the first one stored in the middle of it.

        Raises:
            AssertionError: No message was stored meanwhile or after it, or `explain` does not know it.
        """
        (mark,) = self.marks
        middle_ms = 500 * (mark.began_s + mark.ended_s)
        after = [it for it in entries if it.client_msg_id is not None and it.server_ts >= middle_ms]
        assert after, "no message was stored from the middle of the fault on"
        caught = min(after, key=lambda it: it.server_ts)
        command = ["explain", caught.message_id, "--storage", self._cluster.address, "--limit", "20"]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "chatkit", *command], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _processes_of(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(it for child in children for it in _processes_of(int(child)))]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            kill(pid, number)
