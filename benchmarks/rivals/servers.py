"""Rivals as processes of their own, and the clients that make them work."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import hmac
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tests.servers.process import free_port

from ..frames import FrameClient, open_client
from ..measured import Listener, MeasuredServer, Talker
from ..pinned import served
from ..talker import TEXT, ConfirmingTalker
from ..wire_client import WireClient
from .installed import NODE_MODULES, PYTHON

HERE = Path(__file__).parent
KEY = b"benchmark"


class Socketio(MeasuredServer):
    """socket.io, or python-socketio: they speak the same."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, database: int | None) -> None:
        super().__init__(process, port, database)
        self._rooms: dict[str, str] = {}
        self._groups: dict[str, list[str]] = collections.defaultdict(list)

    def create(self, conversation_id: str, kind: str, user_ids: list[str]) -> None:
        if kind == "SINGLE":
            self._rooms[conversation_id] = f"user:{user_ids[1]}"
        for user_id in user_ids if kind == "GROUP" else ():
            self._groups[user_id].append(conversation_id)

    async def connect(self, user_id: str, listener: Listener, source: str = "127.0.0.1") -> SocketioTalker:
        return await self._in(user_id, listener, source)

    async def come_back(self, user_id: str, listener: Listener, source: str = "127.0.0.1") -> SocketioTalker:
        """A user who is connected, and has got everything that was ever sent to them alone."""
        talker = await self._in(user_id, listener, source, last=0)
        await talker.caught_up
        return talker

    async def _in(self, user_id: str, listener: Listener, source: str, **more: int) -> SocketioTalker:
        token = hmac.new(KEY, user_id.encode(), hashlib.sha256).hexdigest()
        auth = {"user": user_id, "token": token, "groups": self._groups[user_id], **more}
        talker = await open_client(self.port, SocketioTalker(auth, self._rooms, listener), source)
        await talker.let_in
        return talker


class SocketioTalker(FrameClient):
    """A client of socket.io over WebSocket alone, as a browser with `transports: ["websocket"]` is.

    Args:
        auth: What the server asks of who connects.
        rooms: Where a conversation is, unless it is a room of that name.
        listener: Whom to tell.
    """

    def __init__(self, auth: dict[str, object], rooms: dict[str, str], listener: Listener) -> None:
        super().__init__("/socket.io/?EIO=4&transport=websocket")
        self._auth = auth
        self._user = str(auth["user"])
        self._rooms = rooms
        self._listener = listener
        self._sent: dict[int, tuple[str, float]] = {}
        self._numbers = itertools.count()
        self._nonce = time.monotonic_ns()
        loop = asyncio.get_running_loop()
        self.let_in: asyncio.Future[None] = loop.create_future()
        self.caught_up: asyncio.Future[None] = loop.create_future()

    def received(self, texts: list[bytes]) -> None:
        """Count messages, and match acknowledgements with what was sent."""
        news, waits_ms, conversation_id = 0, [], ""
        for text in texts:
            if text.startswith(b'42["message"'):
                news += 1
            elif text.startswith(b"43"):
                conversation_id, sent_at = self._sent.pop(int(text[2 : text.index(b"[")]))
                waits_ms.append(1000 * (time.monotonic() - sent_at))
            else:
                self._other(text)
        if waits_ms:
            self._listener.on_acked(self, conversation_id, waits_ms)
        if news:
            self._listener.on_delivered(self, news)

    def _other(self, text: bytes) -> None:
        if text == b"2":
            self.write(b"3")
        elif text.startswith(b"0"):
            self.write(b"40" + json.dumps(self._auth).encode())
        elif text.startswith(b"40"):
            self.let_in.set_result(None)
        elif text.startswith(b'42["caught-up"'):
            self.caught_up.set_result(None)
        else:
            self.let_in.set_exception(ConnectionError(text))

    def send(self, conversation_id: str, count: int) -> None:
        room, frames = self._rooms.get(conversation_id, conversation_id), []
        now = time.monotonic()
        for number in itertools.islice(self._numbers, count):
            self._sent[number] = (conversation_id, now)
            event = ["send", room, TEXT, f"{self._user}-{self._nonce}-{number}"]
            frames.append(b"42%d" % number + msgspec.json.encode(event))
        self.write(*frames)


class Prototype(MeasuredServer):
    """The bare path."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, database: int | None) -> None:
        super().__init__(process, port, database)
        self._conversations: dict[str, str] = {}

    def create(self, conversation_id: str, kind: str, user_ids: list[str]) -> None:
        self._conversations.update(dict.fromkeys(user_ids, conversation_id))

    async def connect(self, user_id: str, listener: Listener, source: str = "127.0.0.1") -> Talker:
        talker = ConfirmingTalker(listener)
        path = f"/{user_id}/{self._conversations.get(user_id, user_id)}"
        talker.client = await open_client(self.port, WireClient(talker.heard, path), source)
        return talker


@contextmanager
def socketio(store: str, database: int | None = None) -> Iterator[Socketio]:
    """socket.io on the first core; `store` is the path of a SQLite file, or the address of a PostgreSQL database."""
    with _served(["node", str(HERE / "socketio_server.cjs")], store) as (process, port):
        yield Socketio(process, port, database)


@contextmanager
def python_socketio(store: str) -> Iterator[Socketio]:
    """python-socketio on the first core; `store` is the path of a SQLite file."""
    with _served([str(PYTHON), str(HERE / "python_socketio_server.py")], store) as (process, port):
        yield Socketio(process, port, None)


@contextmanager
def prototype(store: str) -> Iterator[Prototype]:
    """The bare path on the first core; `store` is the path of a SQLite file."""
    with _served([str(PYTHON), str(HERE / "prototype_server.py")], store) as (process, port):
        yield Prototype(process, port, None)


@contextmanager
def _served(command: list[str], store: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    environment = {**os.environ, "PORT": str(free_port()), "STORE": store}
    more = {"NODE_PATH": str(NODE_MODULES), "NODE_ENV": "production"}
    with served(command, {**environment, **more}) as (process, said):
        yield process, said["port"]
