"""`chatkit top` and `chatkit metrics` on a real server; `chatkit serve --metrics` itself."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from chatkit import ChatApi, ChatClient, sign_token
from chatkit.cli._scrape import Between, parsed
from chatkit.observability.prometheus import DASHBOARD, RULES

SECRET = "a-secret-of-32-characters-or-more"
CHATKIT = [sys.executable, "-m", "chatkit"]
ENV = {**os.environ, "CHATKIT_JWT_SECRET": SECRET, "COLUMNS": "120"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a real server with `--metrics` says of itself."""
    storage = f"sqlite:///{tmp_path_factory.mktemp('top')}/chat.db"
    with serving("--storage", storage, "--metrics", "127.0.0.1:0") as said:
        yield said


@contextmanager
def serving(*options: str) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(
        [*CHATKIT, "serve", "--port", "0", "--json", *options],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            assert process.wait(20) == 0


def run(*arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CHATKIT, *arguments], env=ENV, capture_output=True, text=True, timeout=timeout)


async def talk(where: dict[str, Any], count: int) -> None:
    """ann writes to ben, who is online."""
    url = f"http://127.0.0.1:{where['port']}"
    tokens = {it: sign_token(SECRET, user_id=it, ttl_s=600) for it in ("ann", "ben")}
    async with ChatApi(url, token=tokens["ann"]) as api:
        name = (await api.create_conversation("SINGLE", ["ann", "ben"])).conversation_id
    async with (
        ChatClient(url, token=tokens["ann"], device_id="a") as ann,
        ChatClient(url, token=tokens["ben"], device_id="b") as ben,
    ):
        await ben.wait_connected()
        for number in range(count):
            await ann.send(name, f"hello {number}")


async def test_the_figures_are_on_a_port_of_their_own(where: dict[str, Any]) -> None:
    await talk(where, 5)

    async with httpx.AsyncClient() as http:
        shown = await http.get(where["metrics"])
        public = await http.get(f"http://127.0.0.1:{where['port']}/metrics")
        posted = await http.post(where["metrics"])
        head = await http.head(where["metrics"])

    assert (shown.status_code, public.status_code, posted.status_code) == (200, 404, 405)
    assert (head.status_code, head.content) == (200, b"")
    assert 'chatkit_sends_total{result="stored"} 5.0' in shown.text
    assert "process_resident_memory_bytes" in shown.text
    assert not [it for it in ("ann", "ben", "hello", SECRET) if it in shown.text]


async def test_once_says_what_happened_between_two_looks(where: dict[str, Any]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk, where, 1_000_000)
        found = await anyio.to_thread.run_sync(
            lambda: run("top", where["metrics"], "--once", "--json", "--every", "3")
        )
        tasks.cancel_scope.cancel()

    look = json.loads(found.stdout)
    assert look["sent"] > 0
    assert 0 < look["send_to_ack"]["p50"] <= look["send_to_ack"]["p99"] < 5
    assert look["broken_numbers"] == 0
    assert look["log_bytes"] > 0
    assert set(look["refused"]) <= {"RATE_LIMITED"}  # they send as fast as they may


def test_once_prints_a_table(where: dict[str, Any]) -> None:
    address = where["metrics"].removeprefix("http://").removesuffix("/metrics")  # HOST:PORT is enough

    found = run("top", address, "--once", "--every", "1")

    assert found.returncode == 0, found.stderr
    for word in ("messages", "send to ack", "sessions", "0 broken numbers", "MiB memory"):
        assert word in found.stdout


def test_live_goes_on_until_it_is_interrupted(where: dict[str, Any]) -> None:
    master, slave = pty.openpty()
    command = [*CHATKIT, "top", where["metrics"], "--every", "1"]
    with subprocess.Popen(command, env=ENV, stdout=slave) as process:
        os.close(slave)
        seen = b""
        while seen.count(b"broken numbers") < 2:
            seen += os.read(master, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    os.close(master)


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("127.0.0.1:1", 1, "no figures at http://127.0.0.1:1/metrics"),
        ("ftp://127.0.0.1/metrics", 2, "give the address of figures"),
        ("file:///etc/passwd", 2, "give the address of figures"),
    ],
)
def test_a_wrong_address_is_said_in_one_line(url: str, code: int, words: str) -> None:
    found = run("top", url, "--once")

    assert found.returncode == code
    assert words in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("path", ["", "/healthz"])
def test_what_is_no_chatkit_is_said_so(path: str) -> None:
    with serving("--storage", "memory://") as other:
        found = run("top", f"http://127.0.0.1:{other['port']}{path}", "--once")

    assert found.returncode == 2
    assert "shows no figures of chatkit" in found.stderr


def test_what_is_no_http_is_said_in_one_line() -> None:
    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"INFO {}\r\n")
            while connection.recv(65_536):  # until the other side has ended: no reset
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        greeted = threads.submit(greet, listener)
        found = run("top", f"127.0.0.1:{listener.getsockname()[1]}", "--once")
        greeted.result(20)

    assert found.returncode == 1
    assert "is no HTTP" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("address", ["9464", "127.0.0.1", "127.0.0.1:x", ":9464", "127.0.0.1:70000"])
def test_metrics_wants_an_address(address: str) -> None:
    found = run("serve", "--storage", "memory://", "--metrics", address)

    assert found.returncode == 2
    assert "give --metrics an address, such as 127.0.0.1:9464" in found.stderr


def test_a_port_that_is_taken_is_said(where: dict[str, Any]) -> None:
    taken = where["metrics"].removeprefix("http://").removesuffix("/metrics")

    found = run("serve", "--storage", "memory://", "--port", "0", "--metrics", taken)

    assert found.returncode == 2
    assert f"cannot listen on {taken}" in found.stderr
    assert "give another port with --metrics" in found.stderr


@pytest.mark.parametrize(("command", "file"), [("rules", RULES), ("dashboard", DASHBOARD)])
def test_what_prometheus_and_grafana_take_is_printed(command: str, file: Path) -> None:
    assert run("metrics", command).stdout == file.read_text()


def test_a_quantile_is_as_prometheus_has_it() -> None:
    before = parsed('x_bucket{le="1"} 10\nx_bucket{le="2"} 10\nx_bucket{le="+Inf"} 10\n')
    now = parsed('x_bucket{le="1"} 20\nx_bucket{le="2"} 40\nx_bucket{le="+Inf"} 50\n')
    between = Between(before, now, 10.0)

    assert between.quantile("x", 0.25) == pytest.approx(1.0)
    assert between.quantile("x", 0.5) == pytest.approx(1.5)
    assert between.quantile("x", 0.99) == 2.0
    assert between.quantile("y", 0.5) is None


def test_a_server_that_began_anew_counts_from_its_beginning() -> None:
    between = Between(parsed("x_total 100\n"), parsed("x_total 30\n"), 10.0)

    assert between.rate("x_total") == 3.0
