"""The people on a real server, and the files that every run of a workload starts from.

Alice made the group, bob and carol are in it, each has a phone. In the prepared file every phone has confirmed
everything, so the outbox is empty and whatever a workload leaves there is its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.blackbox.server_process import ServerProcess
from tests.blackbox.world import Api, World, ok

from .state import copy_database

ALICE, BOB, CAROL, DAVE = "alice", "bob", "carol", "dave"
GROUP = "the-group"
DEVICE = "phone"
MESSAGES = 3
"""Messages in the prepared file; with the entry of the creation the head is one more."""

DATABASE = "chat.db"
PAGE_BYTES, FRAME_HEAD_BYTES, CHECKPOINT_FRAMES = 4096, 24, 1000
"""Of the write-ahead log: a commit that leaves this many frames in it copies them into the database."""
FRAMES_LEFT = 24
"""How many frames short of that the second prepared file is: two logins make fewer, a few sends more."""


class Stage:
    """Alice and bob on their phones, and HTTP for everybody, on a running server."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.world = World(server.http_url, server.ws_url)
        self.alice = self.world.peer(ALICE, DEVICE)
        self.bob = self.world.peer(BOB, DEVICE)

    def api(self, user: str) -> Api:
        """HTTP as one of them, from the same phone."""
        return self.world.api(user, DEVICE)

    def warm(self) -> None:
        """Open the HTTP connection, so that a request which is traced makes no connection of its own."""
        ok(self.world.http.get("/healthz"))

    def close(self) -> None:
        """Close every connection."""
        self.world.close()


def prepare(folder: Path) -> Path:
    """Make the file in which all is confirmed; its server was stopped in good order. Returns the database."""
    server = ServerProcess(folder)
    server.start()
    try:
        _populate(server)
        server.terminate()
        assert server.exit_code() in (0, -15), server.log
    finally:
        server.stop()
    return folder / DATABASE


def _populate(server: ServerProcess) -> None:
    world = World(server.http_url, server.ws_url)
    ok(world.api(ALICE, DEVICE).create("GROUP", [ALICE, BOB, CAROL], GROUP), 201)
    world.close()
    stage = Stage(server)
    for number in range(MESSAGES):
        stage.alice.say(GROUP, f"prepared {number}", f"prepared-{number}")
    for peer in (stage.alice, stage.bob, stage.world.peer(CAROL, DEVICE)):
        peer.send({"event": "DELIVERED_ACK", "conversationId": GROUP, "upToSeq": MESSAGES + 1})
        peer.ping()
    stage.close()


def prepare_long_log(prepared: Path, folder: Path) -> Path:
    """Make of the prepared file one whose write-ahead log is nearly long enough to be copied back.

    Its server was killed, since one that is stopped copies at once. Returns the database.
    """
    database = copy_database(prepared, folder)
    server = ServerProcess(folder)
    server.start()
    try:
        stage = Stage(server)
        number = 0
        while frames_in(database) < CHECKPOINT_FRAMES - FRAMES_LEFT:
            number += 1
            stage.alice.say(GROUP, f"filling {number}", f"filling-{number}")
        server.kill()
        stage.close()
    finally:
        server.stop()
    return database


def frames_in(database: Path) -> int:
    """How many page images the write-ahead log has room for."""
    log = database.with_name(database.name + "-wal")
    return log.stat().st_size // (PAGE_BYTES + FRAME_HEAD_BYTES) if log.exists() else 0


def fresh_server(prepared: Path, folder: Path) -> ServerProcess:
    """A server, not started yet, on a copy of a prepared file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy_database(prepared, folder)
    return ServerProcess(folder)
