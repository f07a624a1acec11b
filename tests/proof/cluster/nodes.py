"""The servers of the cluster as processes: PostgreSQL, NATS, nodes and the balancer, and what is done to them."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.blackbox.server_process import ServerProcess, Storage
from tests.proof.soak.server import SECRET
from tests.servers.nats import nats_process
from tests.servers.postgres import PostgresServer, serving
from tests.servers.process import ServerProcess as Process
from tests.servers.process import running

NODES = 3
_PAUSE_S = (4.0, 10.0)
_DOWN_S = 3.0
_BUS_DOWN_S = 10.0
_FROZEN_S = 30.0
_BETWEEN_NODES_S = 5.0


class Cluster:
    """Everything that runs, until the end of `serving`.

    Attributes:
        address: Of the log.
        port: Of the balancer.
    """

    def __init__(self, postgres: PostgresServer, bus: Process, nodes: list[ServerProcess], port: int) -> None:
        self.postgres = postgres
        self.bus = bus
        self.nodes = nodes
        self.port = port

    @property
    def address(self) -> str:
        """Of the log."""
        return self.nodes[0].storage

    def tracebacks(self) -> list[str]:
        """What nodes logged of errors that nobody foresaw."""
        return [part for node in self.nodes for part in node.log.split("Traceback")[1:] if "chatkit/" in part]

    @classmethod
    @contextmanager
    def serving(cls, folder: Path) -> Iterator[Cluster]:
        """Start all of it, and stop it again."""
        with ExitStack() as stack:
            postgres = stack.enter_context(serving())
            bus_folder = folder / "nats"
            bus_folder.mkdir()
            bus = stack.enter_context(running(nats_process(bus_folder)))
            address = postgres.new_database()
            nodes = []
            for number in range(NODES):
                node = _node(folder / f"node-{number}", address, f"nats://127.0.0.1:{bus.port}")
                stack.callback(node.stop)
                node.start()
                nodes.append(node)
            balancer = stack.enter_context(running(_balancer(folder / "balancer", [it.port for it in nodes])))
            yield cls(postgres, bus, nodes, balancer.port)


def _node(folder: Path, address: str, bus: str) -> ServerProcess:
    folder.mkdir()
    os.environ["CHATKIT_HEARTBEAT_S"] = "5"
    Storage.address_for = lambda _folder: address
    return ServerProcess(folder, "--bus", bus, secret=SECRET)


def _balancer(folder: Path, nodes: list[int]) -> Process:
    folder.mkdir()
    module = ["-m", "tests.proof.cluster.balancer"]
    environment = ["env", f"PYTHONPATH={os.pathsep.join(it for it in sys.path if it)}:{os.getcwd()}"]
    return Process(
        lambda port: [*environment, sys.executable, *module, str(port), *map(str, nodes)],
        folder,
        lambda _probe: True,
    )


class Nemesis:
    """Faults, one after the other, while there is a load.

    Args:
        cluster: Everything.
        seed: Draws which comes when.

    Attributes:
        struck: How often each came.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self.struck = Counter[str]()
        self._faults: dict[str, Callable[[], None]] = {
            "node killed": self._kill_node,
            "node frozen": self._freeze_node,
            "PostgreSQL crashed": self._crash_postgres,
            "sessions of PostgreSQL ended": self._end_sessions,
            "NATS killed": self._kill_bus,
            "NATS frozen": self._freeze_bus,
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
                self._faults[name]()

    def _kill_node(self) -> None:
        node = self._rng.choice(self._cluster.nodes)
        node.kill()
        self._over.wait(_DOWN_S)
        node.start()

    def _freeze_node(self) -> None:
        process = self._rng.choice(self._cluster.nodes).process
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


class RollingRestart:
    """Each node in turn is drained, waited for and started again, while there is a load.

    Args:
        cluster: Everything.

    Attributes:
        exit_codes: Of the drained nodes, in order.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._nodes = cluster.nodes
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
