"""The servers of the cluster as processes: PostgreSQL, NATS, nodes and the balancer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.blackbox.server_process import ROOT, ServerProcess, free_port, own_tracebacks
from tests.blackbox.tokens import SECRET
from tests.servers.jetstream import JetStreamProcess, running_jetstream
from tests.servers.postgres import PostgresServer, serving
from tests.servers.process import ServerProcess as Process

from .sleepers import Receiver

NODES = 3
WORKERS = 2


class Nodes(ServerProcess):
    """Three `chatkit serve` on one log and one bus, and a balancer before them, used as if they were one server.

    Args:
        folder: A folder for each is made in it.
        options: More of `chatkit serve`, for each node.
        storage: The address of the log.
        bus: The address of the bus.
        secret: Of the tokens.

    Attributes:
        nodes: Each alone.
        metrics_ports: Where the figures of each are.
    """

    def __init__(self, folder: Path, *options: str, storage: str, bus: str, secret: str = SECRET) -> None:
        super().__init__(folder, secret=secret, storage=storage)
        self.metrics_ports = [free_port() for _ in range(NODES)]
        self.nodes = [
            ServerProcess(
                _made(folder / f"node-{number}"),
                *("--bus", bus, *_metrics_on(port)),
                *options,
                secret=secret,
                storage=storage,
            )
            for number, port in enumerate(self.metrics_ports)
        ]
        self._balancer = _balancer(_made(folder / "balancer"), self.port, [it.port for it in self.nodes])

    @property
    def pids(self) -> list[int]:
        return [pid for node in self.nodes for pid in node.pids]

    @property
    def log(self) -> str:
        return "".join(node.log for node in self.nodes)

    def start(self) -> None:
        """Start all and return once /readyz answers 200, of each and of the balancer."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()
        self._balancer.start()

    def cut_all(self) -> None:
        """Cut off every client at once; returns when they are let in again."""
        self._balancer.kill()
        self._balancer.start()

    def kill(self) -> None:
        """SIGKILL: nothing of them runs any more when this returns."""
        for node in self.nodes:
            node.kill()
        self._balancer.stop()

    def terminate(self) -> None:
        """Ask for a drain of each; `exit_code` waits for their end."""
        for node in self.nodes:
            node.terminate()

    def exit_code(self, timeout_s: float = 30.0) -> int:
        """How they ended: that of the first one that did not end with 0. Nobody is let in any more."""
        codes = [node.exit_code(timeout_s) for node in self.nodes]
        self._balancer.stop()
        return next((code for code in codes if code), 0)

    def stop(self) -> None:
        """Leave nothing running, whatever state it is in."""
        for node in self.nodes:
            node.stop()
        self._balancer.stop()


class Worker:
    """A `chatkit worker`.

    Args:
        folder: For its log.
        options: Of the command.

    Attributes:
        metrics_port: Where its figures are.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._log = folder / "log"
        self.metrics_port = free_port()
        metrics = _metrics_on(self.metrics_port)
        self._command = [sys.executable, "-P", "-m", "chatkit", "worker", *metrics, *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """It looks for work soon after."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Cluster:
    """Everything that runs, until the end of `serving`.

    Attributes:
        postgres: Has the log.
        bus: NATS, which is also the workers' queue.
        nodes: Behind their balancer.
        workers: Two, beside them.
        receiver: Where they push to.
    """

    def __init__(
        self,
        postgres: PostgresServer,
        bus: JetStreamProcess,
        nodes: Nodes,
        workers: Sequence[Worker],
        receiver: Receiver,
    ) -> None:
        self.postgres = postgres
        self.bus = bus
        self.nodes = nodes
        self.workers = workers
        self.receiver = receiver

    @property
    def address(self) -> str:
        """Of the log."""
        return self.nodes.storage

    @property
    def port(self) -> int:
        """Of the balancer."""
        return self.nodes.port

    def tracebacks(self) -> list[str]:
        """What nodes and workers logged of errors that nobody foresaw."""
        logs = [self.nodes.log, *(it.log for it in self.workers)]
        return [record for log in logs for record in own_tracebacks(log)]

    @classmethod
    @contextmanager
    def serving(cls, folder: Path, *options: str, secret: str) -> Iterator[Cluster]:
        """Start all of it, and stop it again.

        Args:
            folder: For logs.
            options: More of `chatkit serve`, for each node.
            secret: Of the tokens.
        """
        with ExitStack() as stack:
            postgres = stack.enter_context(serving())
            bus = stack.enter_context(running_jetstream(JetStreamProcess(_made(folder / "nats"))))
            bus_address, queue = f"nats://127.0.0.1:{bus.port}", f"jetstream://127.0.0.1:{bus.port}"
            log = postgres.new_database()
            nodes = Nodes(folder, "--queue", queue, *options, storage=log, bus=bus_address, secret=secret)
            stack.callback(nodes.stop)
            nodes.start()
            receiver = Receiver()
            stack.enter_context(receiver.receiving())
            (folder / "push.toml").write_text(receiver.configuration)
            of_workers = ("--storage", log, "--queue", queue, "--push", str(folder / "push.toml"))
            workers = [Worker(_made(folder / f"worker-{number}"), *of_workers) for number in range(WORKERS)]
            for worker in workers:
                stack.callback(worker.kill)
                worker.start()
            yield cls(postgres, bus, nodes, workers, receiver)


def _metrics_on(port: int) -> tuple[str, str]:
    return "--metrics", f"127.0.0.1:{port}"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _balancer(folder: Path, port: int, nodes: Sequence[int]) -> Process:
    command = [sys.executable, "-m", "tests.proof.cluster.balancer"]
    environment = ["env", f"PYTHONPATH={ROOT}"]
    return Process(
        lambda own: [*environment, *command, str(own), *map(str, nodes)], folder, lambda _: True, port=port
    )
