"""A real server of chatkit, on the first core."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from chatkit import sign_token

from .measured import Listener, MeasuredServer, Talker
from .pinned import START_TIMEOUT_S, served
from .talker import ConfirmingTalker
from .tree import HERE, Tree
from .wire_client import connect

SECRET = "benchmark-secret-of-32-characters"
SERVE = Path(__file__).parent / "unlimited_serve.py"


class Node(MeasuredServer):
    """A running `chatkit serve`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        port: int,
        metrics_url: str | None = None,
        database: int | None = None,
    ) -> None:
        super().__init__(process, port, database)
        self.metrics_url = metrics_url
        self._http = httpx.Client(verify=False)  # it is no TLS, and reading the certificates takes long

    def token(self, user_id: str) -> str:
        """A token for any device of a user."""
        return sign_token(SECRET, user_id=user_id, ttl_s=86_400)

    def create(self, conversation_id: str, kind: str, user_ids: list[str]) -> None:
        response = self._http.post(
            f"http://127.0.0.1:{self.port}/v1/conversations",
            json={"conversationId": conversation_id, "type": kind, "memberIds": user_ids},
            headers={"Authorization": f"Bearer {self.token(user_ids[0])}"},
        )
        response.raise_for_status()

    async def connect(self, user_id: str, listener: Listener, source: str = "127.0.0.1") -> Talker:
        talker = ConfirmingTalker(listener)
        talker.client = await connect(self.port, self.token(user_id), "d", talker.heard, source=source)
        return talker

    def close(self) -> None:
        """Ask for nothing more."""
        self._http.close()


@contextlib.contextmanager
def node(
    tree: Tree | None = None,
    *,
    limited: bool = False,
    prepare: Callable[[Path], None] | None = None,
    storage: str | None = None,
    bus: str = "local://",
    options: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    start_timeout_s: float = START_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    script: Path = SERVE,
    database: int | None = None,
) -> Iterator[Node]:
    """Start a tree's server (this tree's by default) on one core, put this process on another; end it afterwards.

    Args:
        tree: Whose server.
        limited: Whether each peer has the limits that are the default; else none.
        prepare: Fills the file before the server opens it.
        storage: Where the log is; None: in a SQLite file of its own.
        bus: Where other nodes on the same log are.
        options: More of `chatkit serve`.
        wrapper: A program and its options that run the server, such as valgrind.
        start_timeout_s: How long it may take until it serves.
        environment: More variables.
        script: What serves without limits.
        database: The first process of the database that is `storage`, to be counted with the server.

    Raises:
        CannotMeasureError: The server did not start.
    """
    tree = tree or Tree(HERE)
    with tempfile.TemporaryDirectory() as folder:
        if prepare is not None:
            prepare(Path(folder) / "bench.db")
        program = ["-m", "chatkit"] if limited else [str(script)]
        serve = ["serve", "--port", "0", "--json", "--bus", bus, *options]
        log = ["--storage", storage or f"sqlite:///{folder}/bench.db"]
        command = [*wrapper, tree.python, "-P", *program, *serve, *log]
        variables = {**tree.environment, "CHATKIT_JWT_SECRET": SECRET, **(environment or {})}
        with served(command, variables, start_timeout_s) as (process, said):
            running = Node(process, said["port"], said.get("metrics"), database)
            with contextlib.closing(running):
                yield running
