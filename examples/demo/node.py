"""A real server process for the demo: `chatkit serve` on a loopback port and a SQLite file, to kill and start again.

Holds no chat logic. `NodeProcess.running` leaves nothing behind: the process is ended by its id whatever happened.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import anyio
import msgspec
from anyio.abc import Process

from chatkit.cli.common import SECRET_ENV
from chatkit.client.api import ChatApi
from chatkit.errors import ChatkitError
from chatkit.ports import Ids
from chatkit.server.auth import sign_token

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_LINE_BYTES_MAX = 4096


class NodeError(ChatkitError):
    """The server process did not do what was asked of it."""


class _Address(msgspec.Struct):
    host: str
    port: int


class NodeProcess:
    """One server; restarts keep the port, the file and the secret.

    Args:
        folder: Where its database and its log file go.
        ids: Where the login secret comes from.
    """

    def __init__(self, folder: Path, ids: Ids) -> None:
        self.database = folder / "server.db"
        self._log_path = folder / "server.log"
        self._secret = ids.token_bytes(32).hex()
        self._port = 0
        self._process: Process | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, ids: Ids) -> AsyncIterator[Self]:
        """A started server, ended when the block ends."""
        node = cls(folder, ids)
        try:
            await node.start()
            yield node
        finally:
            with anyio.CancelScope(shield=True):
                await node.stop()

    @property
    def pid(self) -> int:
        """Process id of the server that runs."""
        return self._running().pid

    @property
    def http_url(self) -> str:
        """Where its HTTP requests go."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def ws_url(self) -> str:
        """Where chat clients connect."""
        return f"ws://127.0.0.1:{self._port}"

    def token(self, user_id: str, device_id: str | None = None) -> str:
        """A login this server accepts for a day."""
        return sign_token(self._secret, user_id=user_id, device_id=device_id, ttl_s=86_400)

    async def start(self) -> None:
        """Start it, on the port it had before if it ran before. Returns once /readyz answers.

        Raises:
            NodeError: It ended instead, or was not ready in time; holds the last words of its log.
        """
        # shielded: a process that was started while its starter is cancelled must be known to `stop`
        with self._log_path.open("ab") as log, anyio.CancelScope(shield=True):
            self._process = await anyio.open_process(
                self._command(),
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, SECRET_ENV: self._secret},
                start_new_session=True,  # Ctrl-C is for the demo alone, which ends the server in order
            )
        try:
            with anyio.fail_after(_START_TIMEOUT_S):
                self._port = await self._announced_port()
                async with ChatApi(self.http_url, token=self.token("readiness")) as api:
                    if not await api.ready():
                        raise NodeError("/readyz does not answer with 200")
        except (TimeoutError, ChatkitError) as error:
            raise NodeError(f"the server did not start: {error}\n{self._last_words()}") from None

    async def kill(self) -> int:
        """SIGKILL. Returns the exit status once nothing of the process runs."""
        self._running().kill()
        return await self._reap()

    async def stop(self) -> int | None:
        """End it whatever state it is in: SIGTERM, and SIGKILL if that takes too long. Safe to repeat.

        Returns:
            The exit status; None if nothing ran.
        """
        if self._process is None:
            return None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(_STOP_TIMEOUT_S):
            return await self._reap()
        return await self.kill()

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "chatkit", "serve", "--json"),
            *("--port", str(self._port), "--storage", f"sqlite:///{self.database}"),
            *("--jwt-secret-env", SECRET_ENV),
            # an evening in seconds: nobody types so fast, and the rates would be all that one sees
            *("--set", "limits.sends_per_user=none", "--set", "limits.sends_per_conversation=none"),
        ]

    async def _announced_port(self) -> int:
        stdout = self._running().stdout
        assert stdout is not None
        line = b""
        while not line.endswith(b"\n") and len(line) < _LINE_BYTES_MAX:
            try:
                line += await stdout.receive()
            except anyio.EndOfStream:
                break
        try:
            return msgspec.json.decode(line, type=_Address).port
        except msgspec.DecodeError:
            raise NodeError(f"it printed {line!r} instead of its address") from None

    async def _reap(self) -> int:
        process = self._running()
        status = await process.wait()
        await process.aclose()
        self._process = None
        return status

    def _running(self) -> Process:
        if self._process is None:
            raise NodeError("the server does not run")
        return self._process

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-10:])
