"""Faults of the cluster's servers, one after the other, while there is a load."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from .nodes import Cluster
from .pictures import Mark

_PAUSE_S = (4.0, 10.0)
_DOWN_S = 3.0
_BUS_DOWN_S = 10.0
_FROZEN_S = 30.0
_BETWEEN_NODES_S = 5.0


class Nemesis:
    """Faults, one after the other, while there is a load.

    Args:
        cluster: Everything.
        seed: Draws which comes when.

    Attributes:
        struck: How often each came.
        marks: When each was.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self.struck = Counter[str]()
        self.marks: list[Mark] = []
        self._faults: dict[str, Callable[[], None]] = {
            "node killed": self._kill_node,
            "node frozen": self._freeze_node,
            "PostgreSQL crashed": self._crash_postgres,
            "sessions of PostgreSQL ended": self._end_sessions,
            "NATS killed": self._kill_bus,
            "NATS frozen": self._freeze_bus,
            "NATS wiped": self._wipe_bus,
            "worker killed": self._kill_worker,
        }

    def striking(self) -> AbstractContextManager[None]:
        """Until the end of the block; then everything runs again. Raises what went wrong with a fault itself."""
        return beside(self._run, self._over)

    def _run(self) -> None:
        """Each fault once, in an order by chance, and again."""
        while not self._over.is_set():
            for name in self._rng.sample(sorted(self._faults), len(self._faults)):
                if self._over.wait(self._rng.uniform(*_PAUSE_S)):
                    return
                self.struck[name] += 1
                began_s = time.time()
                self._faults[name]()
                self.marks.append(Mark(name, began_s, time.time()))

    def _kill_node(self) -> None:
        node = self._rng.choice(self._cluster.nodes.nodes)
        node.kill()
        self._over.wait(_DOWN_S)
        node.start()

    def _freeze_node(self) -> None:
        process = self._rng.choice(self._cluster.nodes.nodes).process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        self._over.wait(_FROZEN_S)
        process.send_signal(signal.SIGCONT)

    def _crash_postgres(self) -> None:
        self._cluster.postgres.stop(signal.SIGQUIT)
        self._cluster.postgres.start()

    def _end_sessions(self) -> None:
        for _ in range(20):
            self._cluster.postgres.query(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'",
            )
            if self._over.wait(0.2):
                return

    def _kill_bus(self) -> None:
        self._cluster.bus.kill()
        self._over.wait(_BUS_DOWN_S)
        self._cluster.bus.start()

    def _freeze_bus(self) -> None:
        self._cluster.bus.freeze()
        self._over.wait(_BUS_DOWN_S)
        self._cluster.bus.thaw()

    def _wipe_bus(self) -> None:
        """What was in the queue is gone with its server's disk."""
        self._cluster.bus.kill()
        self._cluster.bus.wipe()
        self._cluster.bus.start()

    def _kill_worker(self) -> None:
        worker = self._rng.choice(self._cluster.workers)
        worker.kill()
        self._over.wait(_DOWN_S)
        worker.start()


class RollingRestart:
    """Each node in turn is drained, waited for and started again, while there is a load.

    Args:
        cluster: Everything.

    Attributes:
        exit_codes: Of the drained nodes, in order.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._nodes = cluster.nodes.nodes
        self._over = threading.Event()
        self.exit_codes: list[int] = []

    def rolling(self) -> AbstractContextManager[None]:
        """Once through all nodes, with no pauses after the end of the block. Raises what went wrong with a node."""
        return beside(self._run, self._over)

    def _run(self) -> None:
        for node in self._nodes:
            self._over.wait(_BETWEEN_NODES_S)
            node.terminate()
            self.exit_codes.append(node.exit_code())
            node.start()


@contextmanager
def beside(run: Callable[[], None], over: threading.Event) -> Iterator[None]:
    """Have `run` go on in a thread; at the end of the block it is told so by `over`. Raises what it raised."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
