"""`chatkit worker` beside nodes on PostgreSQL, and `chatkit serve --push`: processes of their own, a real receiver."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from chatkit import ChatApi, open_store, sign_token
from chatkit.storage.base import RegisterPush
from tests.servers.postgres import PostgresServer, serving

from .command import SECRET, TIMEOUT_S, chatkit, next_line, started

PUSH = """
[webhook]
url = "http://127.0.0.1:{port}/"
secret = "a-secret-of-the-receiver-with-32-bytes"
[delivery]
push_after_s = 0.2
poll_s = 0.1
"""


class Receiver:
    """Where a webhook posts to."""

    def __init__(self) -> None:
        self.got: Queue[dict[str, Any]] = Queue()
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                got.put(json.loads(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.thread.start()
    (tmp_path / "push.toml").write_text(PUSH.format(port=receiver.server.server_port))
    yield receiver
    receiver.server.shutdown()
    receiver.thread.join()
    receiver.server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


async def register(address: str) -> None:
    store = open_store(address)
    await store.migrate()
    await store.commit([RegisterPush("ben", "phone", "webhook", "ben's token", False, 1)])
    await store.aclose()


async def send(port: int) -> None:
    async with ChatApi(f"http://127.0.0.1:{port}", token=sign_token(SECRET, user_id="ann")) as api:
        made = await api.create_conversation("GROUP", ["ben"], title="Team")
        await api.send(made.conversation_id, "hello")


async def test_a_worker_pushes_what_a_node_stored(
    server: PostgresServer, receiver: Receiver, tmp_path: Path
) -> None:
    address = server.new_database()
    await register(address)
    serve = ["serve", "--port", "0", "--storage", address, "--json"]
    worker = ["worker", "--storage", address, "--push", "push.toml"]
    with started(*serve, cwd=tmp_path) as node, started(*worker, cwd=tmp_path) as process:
        assert next_line(process) == "chatkit worker runs\n", process.stderr.read()
        await send(json.loads(next_line(node))["port"])
        push = receiver.got.get(timeout=TIMEOUT_S)
        assert (push["token"], push["title"], push["body"], push["badge"]) == (
            "ben's token",
            "Team",
            "ann: hello",
            1,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
        status = chatkit("worker", "--storage", address, "--status", cwd=tmp_path)
        node.send_signal(signal.SIGTERM)
        assert node.wait(TIMEOUT_S) == 0

    assert json.loads(status.stdout) == {"waiting": 0, "oldestMs": None, "dead": 0, "deadLetters": []}
    assert receiver.got.empty()


async def test_a_server_runs_a_worker_itself(receiver: Receiver, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/chat.db"
    await register(address)
    command = ["serve", "--port", "0", "--storage", address, "--push", "push.toml", "--json"]
    with started(*command, cwd=tmp_path) as process:
        await send(json.loads(next_line(process))["port"])
        push = receiver.got.get(timeout=TIMEOUT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0

    assert push["body"] == "ann: hello"
    assert receiver.got.empty()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    for arguments, words in [
        (["--storage", "postgresql://nowhere/log"], "give --push FILE"),
        (["--push", "push.toml"], "--storage"),
        (["--storage", "postgresql://nowhere/log", "--push", "none.toml"], "cannot read none.toml"),
        (["--storage", "memory://", "--status"], "only PostgreSQL"),
        (["--storage", "sqlite:///chat.db", "--push", "none.toml"], "only PostgreSQL"),
        (["--storage", "other://", "--push", "none.toml"], "unknown storage address"),
    ]:
        for command in (["worker"], ["config", "check", "worker"]):
            done = chatkit(*command, *arguments, cwd=tmp_path)
            assert done.returncode == 2
            assert words in done.stderr


def test_a_status_needs_no_push(tmp_path: Path) -> None:
    arguments = ["worker", "--storage", "postgresql://nowhere/log", "--status"]
    assert chatkit("config", "check", *arguments, cwd=tmp_path).returncode == 0
