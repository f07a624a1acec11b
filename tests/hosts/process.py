"""A host's own server program on `tests.hosts.app`, as a process; and a device that sends to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.blackbox.server_process import free_port

ROOT = Path(__file__).parents[2]
READY_S = 30.0

APP = "tests.hosts.app:app"
UVICORN = ("uvicorn", APP, "--port", "{port}", "--log-level", "warning")
GUNICORN = ("gunicorn", APP, "--workers", "1", "--bind", "127.0.0.1:{port}")
HOSTS = {
    "uvicorn": UVICORN,
    "uvicorn-asyncio-websockets": (*UVICORN, "--loop", "asyncio", "--ws", "websockets"),
    "uvicorn-sansio": (*UVICORN, "--ws", "websockets-sansio"),
    "uvicorn-wsproto": (*UVICORN, "--ws", "wsproto"),
    "gunicorn": (*GUNICORN, "-k", "uvicorn_worker.UvicornWorker"),
    "gunicorn-chatkit": (*GUNICORN, "-k", "tests.hosts.worker.ChatWorker"),
    "hypercorn": ("hypercorn", APP, "--bind", "127.0.0.1:{port}", "--workers", "0"),
    "hypercorn-uvloop": ("hypercorn", APP, "--bind", "127.0.0.1:{port}", "--workers", "0", "-k", "uvloop"),
    "granian": ("granian", APP, "--interface", "asgi", "--port", "{port}"),
    "granian-asyncio": ("granian", APP, "--interface", "asgi", "--port", "{port}", "--loop", "asyncio"),
}
"""Commands that run the app in one process of theirs; a module and its arguments."""


class HostProcess:
    """One program that serves the app, from its start to its end."""

    def __init__(self, command: tuple[str, ...], folder: Path) -> None:
        needs(command[0])
        self.file = folder / "chat.db"
        self.port = free_port()
        self._log = folder / "host.log"
        env = os.environ | {"CHAT_DB": str(self.file), "PYTHONUNBUFFERED": "1"}
        words = [word.format(port=self.port) for word in command]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=ROOT, stdout=log, stderr=log, env=env
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            assert self.process.poll() is None, f"the host ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"the host is not ready after {READY_S} s:\n{self.log}"
            time.sleep(0.05)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, timeout_s: float = 20.0) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """Leave nothing running."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/chat/readyz", trust_env=False, verify=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200


class _LateReader(ClientConnection):
    """Keeps what came together with a close frame, also when the close can no longer be answered.

    granian drops the socket as soon as its close frame is written. Then the answer to it fails, and the library throws
    away whatever it had read in the same piece as the close.
    """

    def send_data(self) -> None:
        """Write what is due; after a close frame a socket that is gone is no failure."""
        try:
            super().send_data()
        except OSError:
            if self.protocol.state is not State.CLOSING:
                raise


class Phone:
    """One device in one group, on a bare WebSocket."""

    def __init__(self, port: int) -> None:
        url = f"http://127.0.0.1:{port}/chat/v1/conversations"
        body = {"type": "GROUP", "conversationId": "g-1", "memberIds": ["ben"]}
        made = httpx.post(
            url, json=body, headers={"Authorization": "Bearer ann"}, trust_env=False, verify=False
        )
        assert made.status_code in (200, 201), made.text
        url = f"ws://127.0.0.1:{port}/chat/v1/ws"
        self._open = ExitStack()
        self.socket: ClientConnection = self._open.enter_context(
            connect(
                url,
                subprotocols=[Subprotocol("chatkit.v1.json")],
                proxy=None,
                max_queue=None,
                create_connection=_LateReader,
            )
        )
        self.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        self.socket.recv()

    def say(self, event: dict[str, Any]) -> None:
        self.socket.send(json.dumps(event))

    def send(self, key: int, text: str = "hi") -> None:
        payload = {"type": "TEXT", "text": text}
        self.say({"event": "SEND_MSG", "conversationId": "g-1", "clientMsgId": f"k{key}", "payload": payload})

    def hear_out(self) -> tuple[list[dict[str, Any]], int, str]:
        """Everything up to the end, and the code and the reason of the close."""
        heard: list[dict[str, Any]] = []
        try:
            while True:
                said = json.loads(self.socket.recv(timeout=20))
                heard.extend(said if isinstance(said, list) else [said])
        except ConnectionClosed as closed:
            self._open.close()
            close = closed.rcvd
            return heard, (close.code if close else 1006), (close.reason if close else "")


def needs(module: str) -> None:
    """Skip without a server program that the tests need; with CI=true its absence is a failure."""
    if find_spec(module) is None:
        message = f"{module} is not installed: pip install --group test"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
