"""`chatkit serve --workers 2` on PostgreSQL and NATS: one port, one log, and whatever becomes of one of the two."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from click.testing import CliRunner

from chatkit import ChatApi, ChatClient, MessageReceived, sign_token
from chatkit.cli.commands import chatkit as chatkit_command
from chatkit.cli.serve import _end_within_s
from chatkit.server.config import ServerConfig
from tests.servers.nats import nats_process
from tests.servers.postgres import PostgresServer, serving
from tests.servers.process import ServerProcess, running

from .command import SECRET, TIMEOUT_S, chatkit, next_line, started
from .test_supervisor import children, is_alive, wait_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")

PLACES = ["--storage", "postgresql://db/chat", "--bus", "nats://bus"]
PAIRS = 12
"""Users of a hash that deals them to two processes; that all are at one of them has a chance of 2 in 2^24."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(nats_process(tmp_path_factory.mktemp("nats"))) as server:
        yield server


class Serving:
    """A parent and its processes.

    Attributes:
        url: Of all of them together.
        figures: Where each has its metrics.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        said = json.loads(next_line(process))
        assert said["workers"] == 2
        self.port: int = said["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.figures: Sequence[str] = said["metrics"]
        self.folder = folder

    @property
    def pids(self) -> list[int]:
        return children(self.process.pid)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(TIMEOUT_S)

    async def sessions(self) -> list[int]:
        """How many each process has."""
        async with httpx.AsyncClient(trust_env=False) as client:
            texts = [(await client.get(url)).text for url in self.figures]
        lines = [line for text in texts for line in text.splitlines() if line.startswith("chatkit_sessions ")]
        return [int(float(line.split()[1])) for line in lines]


@contextmanager
def two(postgres: PostgresServer, nats: ServerProcess, folder: Path, *options: str) -> Iterator[Serving]:
    """Two server processes on a log of their own; they are gone at the end."""
    storage = postgres.new_database()
    bus = f"nats://127.0.0.1:{nats.port}?prefix={storage.partition('?')[0].rpartition('/')[2]}"
    command = ["serve", "--port", "0", "--json", "--metrics", "127.0.0.1:0", "--workers", "2"]
    places = {"CHATKIT_STORAGE": storage, "CHATKIT_BUS": bus, "CHATKIT_LOG_LEVEL": "info"}
    with started(*command, *options, cwd=folder, env=places) as process:
        yield Serving(process, folder)


def token(user_id: str) -> str:
    return sign_token(SECRET, user_id=user_id, ttl_s=600)


@asynccontextmanager
async def clients(url: str, names: Sequence[str]) -> AsyncIterator[list[ChatClient]]:
    """These users, connected."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(ChatClient(url, token=token(name), device_id="d"))
            for name in names
        ]


async def make(url: str, pairs: int) -> None:
    for number in range(pairs):
        async with ChatApi(url, token=token(f"a{number}")) as api:
            await api.create_conversation("SINGLE", [f"b{number}"], conversation_id=f"c{number}")


async def texts_of(client: ChatClient, count: int) -> list[str]:
    """The first so many texts that come."""
    texts: list[str] = []
    async for event in client.events():
        if isinstance(event, MessageReceived) and event.message.type == "TEXT":
            texts.append(event.message.text)
            if len(texts) == count:
                break
    return texts


async def test_a_message_crosses_and_a_signal_drains(
    postgres: PostgresServer, nats: ServerProcess, tmp_path: Path
) -> None:
    with two(postgres, nats, tmp_path) as it:
        pids = it.pids
        await make(it.url, 1)
        members = [f"m{number}" for number in range(PAIRS)]
        async with ChatApi(it.url, token=token("a0")) as api:
            assert await api.ready()
            await api.create_conversation("GROUP", members, conversation_id="all")
        with anyio.fail_after(TIMEOUT_S):
            async with clients(it.url, ["a0", *members]) as (sender, *others):
                while sum(sessions := await it.sessions()) < 1 + PAIRS:
                    pass
                assert min(sessions) > 0, "each has some of them"
                await sender.send("all", "hello")
                assert [await texts_of(each, 1) for each in others] == [["hello"]] * PAIRS
        assert it.end() == 0
        assert not any(map(is_alive, pids))
        assert it.process.stderr is not None
        log = it.process.stderr.read()
    assert "[process 1] the server was left" in log and "[process 2] the server was left" in log
    assert "ERROR" not in log and "WARNING" not in log, log
    socket.create_server(("127.0.0.1", it.port)).close()


async def test_a_killed_process_is_replaced_and_nothing_acknowledged_is_lost(
    postgres: PostgresServer, nats: ServerProcess, tmp_path: Path
) -> None:
    """Every sender sends on while one process is killed, then the other one, and every receiver gets all in order."""
    count = 20
    with two(postgres, nats, tmp_path) as it:
        await make(it.url, PAIRS)
        first, second = it.pids
        acked: dict[str, dict[str, int]] = {f"c{number}": {} for number in range(PAIRS)}
        kills = {PAIRS * count // 4: first, PAIRS * count // 2: second}

        async def send_all(client: ChatClient, conversation_id: str) -> None:
            for number in range(count):
                sent = await client.send(conversation_id, f"{number}", client_msg_id=f"k{number}")
                acked[conversation_id][f"k{number}"] = sent.seq
                victim = kills.pop(sum(map(len, acked.values())), None)
                if victim is not None:
                    os.kill(victim, signal.SIGKILL)

        async def receive_all(client: ChatClient) -> None:
            assert await texts_of(client, count) == [f"{number}" for number in range(count)]

        senders, receivers = ([f"{side}{number}" for number in range(PAIRS)] for side in "ab")
        with anyio.fail_after(TIMEOUT_S):
            async with clients(it.url, senders + receivers) as connected, anyio.create_task_group() as tasks:
                for number, client in enumerate(connected[:PAIRS]):
                    tasks.start_soon(send_all, client, f"c{number}")
                for client in connected[PAIRS:]:
                    tasks.start_soon(receive_all, client)
            for number in range(PAIRS):
                async with ChatApi(it.url, token=token(f"a{number}")) as api:
                    entries = (await api.history(f"c{number}", limit=200)).messages
                stored = {str(entry.client_msg_id): entry.seq for entry in entries if entry.type == "TEXT"}
                assert stored == acked[f"c{number}"], "each once, at the place that was acknowledged"
                assert sorted(stored.values()) == list(range(2, count + 2))
        assert not kills and not {first, second} & set(it.pids) and len(it.pids) == 2
        assert it.end() == 0


async def test_a_parent_that_is_killed_leaves_nothing(
    postgres: PostgresServer, nats: ServerProcess, tmp_path: Path
) -> None:
    with two(postgres, nats, tmp_path) as it:
        pids = it.pids
        await make(it.url, 1)
        async with clients(it.url, ["a0", "b0"]):
            it.process.kill()
            it.process.wait(TIMEOUT_S)
            for pid in pids:
                wait_gone(pid)
        socket.create_server(("127.0.0.1", it.port)).close()


def test_a_process_has_the_time_of_its_drain_and_no_more() -> None:
    assert _end_within_s(ServerConfig()) == 5 + 2 * 10 + 2 + 5
    assert _end_within_s(ServerConfig(drain_spread_s=30, drain_timeout_s=1)) == 1 + 2 * 1 + 2 + 5


def test_wrong_settings_end_all_with_2_and_one_line(postgres: PostgresServer, tmp_path: Path) -> None:
    command = ["serve", "--port", "0", "--storage", postgres.new_database(), "--workers", "2"]
    done = chatkit(*command, "--bus", "nats://127.0.0.1:1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("Error: the bus at nats://127.0.0.1:1 cannot be reached") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--workers", "2"], "--workers 2 needs a log that processes can share"),
        (["--workers", "2", *PLACES[:2]], "--workers 2 needs a bus between the"),
        (["--workers", "3", *PLACES, "--metrics", "127.0.0.1:65534"], "leaves no port for server process 3"),
        (["--workers", "0", *PLACES], "--workers"),
    ],
)
@pytest.mark.parametrize("command", [["serve"], ["config", "check", "serve"]])
def test_misuse_is_told_in_a_line(
    command: list[str], options: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_JWT_SECRET", SECRET)
    done = CliRunner().invoke(chatkit_command, [*command, *options])
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[-1]


def test_a_taken_port_is_told_in_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = chatkit("serve", "--workers", "2", "--port", port, *PLACES, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr.splitlines()[-1]
