"""The least that could do chatkit's work on a message, to see what the machine allows: no login, members or cursors.

A C parser of frames (picows), decoding by msgspec, one SQLite transaction for all that waits (WAL, synchronous=FULL, a
unique key), and one write per socket and turn. The path of a connection names its user and its conversation, and
everybody who is connected to a conversation gets what is sent to it. Environment: PORT, STORE (a path).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE message (
    conversation TEXT, seq INTEGER, id TEXT, sender TEXT, key TEXT, ts INTEGER, payload BLOB,
    PRIMARY KEY (conversation, seq)) WITHOUT ROWID;
CREATE UNIQUE INDEX message_key ON message (conversation, sender, key);
CREATE TABLE head (conversation TEXT PRIMARY KEY, seq INTEGER) WITHOUT ROWID;
"""


class Send(msgspec.Struct, tag_field="event", tag="SEND_MSG", rename="camel"):
    """What a client asks for."""

    conversation_id: str
    client_msg_id: str
    payload: msgspec.Raw


class Confirm(msgspec.Struct, tag_field="event", tag="DELIVERED_ACK", rename="camel"):
    """What a client has."""

    conversation_id: str
    up_to_seq: int


class Ack(msgspec.Struct, tag_field="event", tag="MSG_ACK", rename="camel"):
    """It is stored."""

    conversation_id: str
    client_msg_id: str
    message_id: str
    seq: int
    server_ts: int


class New(msgspec.Struct, tag_field="event", tag="NEW_MSG", rename="camel"):
    """For everybody else."""

    conversation_id: str
    message_id: str
    seq: int
    sender_id: str
    payload: msgspec.Raw
    server_ts: int


Event = Send | Confirm
decode = msgspec.json.Decoder(Event | list[Event]).decode
encode = msgspec.json.Encoder().encode


class Peer(WSListener):  # type: ignore[misc] -- not typed
    """One connection."""

    def __init__(self, log: Log, request: WSUpgradeRequest) -> None:
        _, self.user, self.conversation = request.path.decode().split("/")
        self._log = log
        self.confirmed = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take part."""
        self._transport = transport
        self._log.present.setdefault(self.conversation, []).append(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave."""
        self._log.present[self.conversation].remove(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take what it says."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        event = decode(frame.get_payload_as_memoryview())
        for it in event if isinstance(event, list) else (event,):
            if isinstance(it, Send):
                # a Raw of a frame's memory is gone with the frame
                self._log.add(self, Send(it.conversation_id, it.client_msg_id, it.payload.copy()))
            else:
                self.confirmed = it.up_to_seq

    def write(self, events: list[bytes]) -> None:
        """One frame."""
        data = events[0] if len(events) == 1 else b"[" + b",".join(events) + b"]"
        self._transport.send(WSMsgType.TEXT, data)


class Log:
    """Writes all that waits in one transaction, one transaction after the other."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript(SCHEMA)
        self._thread = ThreadPoolExecutor(1)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Peer, Send]] = []
        self._heads: dict[str, int] = {}
        self._ids = map("m-{}".format, itertools.count())
        self._busy = False
        self.present: dict[str, list[Peer]] = {}

    def add(self, peer: Peer, message: Send) -> None:
        """It goes with the next transaction."""
        self._waiting.append((peer, message))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        rows, now = [], time.time_ns() // 1_000_000
        for peer, it in batch:
            seq = self._heads[it.conversation_id] = self._heads.get(it.conversation_id, 0) + 1
            payload = bytes(it.payload)
            rows.append((it.conversation_id, seq, next(self._ids), peer.user, it.client_msg_id, now, payload))
        done = self._loop.run_in_executor(self._thread, self._commit, rows)
        done.add_done_callback(lambda it: (it.result(), self._tell(batch, rows)))

    def _commit(self, rows: list[tuple[str, int, str, str, str, int, bytes]]) -> None:
        heads = {row[0]: row[1] for row in rows}
        execute, executemany = self._database.execute, self._database.executemany
        execute("BEGIN IMMEDIATE")
        executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        executemany(
            "INSERT INTO head VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq", heads.items()
        )
        execute("COMMIT")

    def _tell(
        self, batch: list[tuple[Peer, Send]], rows: list[tuple[str, int, str, str, str, int, bytes]]
    ) -> None:
        out: dict[Peer, list[bytes]] = {}
        for (peer, message), (conversation, seq, number, sender, key, now, _) in zip(
            batch, rows, strict=True
        ):
            out.setdefault(peer, []).append(encode(Ack(conversation, key, number, seq, now)))
            new = encode(New(conversation, number, seq, sender, message.payload, now))
            for other in self.present[conversation]:
                if other is not peer:
                    out.setdefault(other, []).append(new)
        for peer, events in out.items():
            peer.write(events)
        if self._waiting:
            self._loop.call_soon(self._flush)
        else:
            self._busy = False


async def main() -> None:
    """Serve until this process ends."""
    log = Log(os.environ["STORE"])
    port = int(os.environ["PORT"])
    server = await ws_create_server(lambda request: Peer(log, request), "127.0.0.1", port, backlog=4096)
    print(json.dumps({"port": port}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
