"""`python -m tests.proof.rto [--messages 10000000] [--kills 3]`: how soon a long log is served again after a bad day.

Builds a log on SQLite, serves it, and kills the server under load; then makes a backup beside the load, and puts it
back. Prints when the server was ready and when the first message was acknowledged, and what a backup costs the sends.
The file is in a temporary folder that is gone afterwards; 10 million messages take some 4 GB, and as much for the copy.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import httpx

from chatkit.drivers.file_lock import FileLock
from chatkit.drivers.sqlite import open_sqlite
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore, reads
from chatkit.storage.sqlite.last_served import LastServed
from chatkit.testing.contracts.storage_commands import NOW
from chatkit.testing.rng import Rng
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import token

from .backups.ways import LOG

CONVERSATIONS: Final = 1_000
MEMBERS: Final = 5
SENDERS: Final = 16
READY_MAX_S: Final = 10.0
"""After a kill."""
RESTORED_MAX_S: Final = 600.0
"""After the loss of the log, from a backup."""
_BATCH = 200
_LOAD_S = 3.0
_BODY: Final = '{"text":"%s","type":"TEXT"}' % ("x" * 100)

_FILL = (
    """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :entries)
INSERT INTO message (conversation_key, seq, epoch, kind, sender_id, client_msg_id, server_ts, payload_mac, payload)
SELECT c.conversation_key, 1 + i, c.epoch, 'USER', c.owner_id, hex(randomblob(16)), :now + i, zeroblob(16),
    CAST(:body AS BLOB)
FROM n CROSS JOIN conversation AS c
""",
    "UPDATE conversation SET head_seq = head_seq + :entries, last_activity_ms = :now + :entries",
    "UPDATE member_cursor SET delivered_seq = delivered_seq + :entries + 1, device_seq = device_seq + :entries + 1",
    "DELETE FROM outbox",
)
"""In the order in which conversations that are all busy are written."""


class Served(ServerProcess):
    """A server that may take long to become ready, since it reads all of a log that was put back."""

    def wait_ready(self) -> None:
        process = self.process
        assert process is not None
        with httpx.Client(base_url=self.http_url, trust_env=False) as client:
            while not _is_ready(client):
                assert process.poll() is None, self.log[-2000:]
                time.sleep(0.02)


def _is_ready(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False


async def build(path: Path, messages: int) -> None:
    """A log that is served like any other, of so many messages."""
    store = SqliteStore(path, ids=Rng(0).ports("rto").ids)
    await store.migrate()
    for start in range(0, CONVERSATIONS, _BATCH):
        users = [tuple(_user(number, it) for it in range(MEMBERS)) for number in range(start, start + _BATCH)]
        made = [
            base.CreateConversation(f"c{number}", "GROUP", each[0], each, "", "e1", MEMBERS, NOW)
            for number, each in enumerate(users, start)
        ]
        refused = [it for it in await store.commit(made) if isinstance(it, base.Refused)]
        assert not refused, refused[0]
    await store.aclose()
    values = {"entries": messages // CONVERSATIONS, "now": NOW, "body": _BODY}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (
            "journal_mode = DELETE",
            "journal_mode = OFF",
            "synchronous = OFF",
            "cache_size = -2000000",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        for sql in _FILL:
            connection.execute(sql, values)
        connection.execute("COMMIT")
    os.sync()


def count_as_served(path: Path) -> None:
    """What was written by hand counts as written by a server that ended in order: the first start checks nothing."""
    with closing(open_sqlite(str(path))) as connection:
        position = reads.position(connection)
    lock = FileLock.acquire(str(path))
    assert lock is not None
    LastServed(lock, str(path)).leave(position)
    lock.release()


def _user(conversation: int, number: int) -> str:
    return f"u{conversation}-{number}"


class Load:
    """Messages by HTTP, one after the other from each of some senders.

    Attributes:
        latencies_s: Of each message, in the order of their answers.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.latencies_s: list[float] = []

    async def during(self, work: Callable[[], Awaitable[object]]) -> None:
        """Send while something goes on."""
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=30) as http:
            senders = [asyncio.create_task(self._send(http, number)) for number in range(SENDERS)]
            try:
                await work()
            finally:
                for it in senders:
                    it.cancel()
                await asyncio.gather(*senders, return_exceptions=True)

    async def _send(self, http: httpx.AsyncClient, number: int) -> None:
        with suppress(httpx.TransportError):
            for count in range(10**9):
                began_s = time.perf_counter()
                await send(http, number * 37, f"{id(self)}-{number}-{count}")
                self.latencies_s.append(time.perf_counter() - began_s)


async def send(http: httpx.AsyncClient, conversation: int, key: str) -> None:
    """One message, acknowledged. Raises httpx.TransportError, and AssertionError if it is refused."""
    body = {"conversationId": f"c{conversation}", "clientMsgId": key, "type": "TEXT", "content": key}
    headers = {"Authorization": f"Bearer {token(_user(conversation, 0))}"}
    answer = await http.post("/v1/messages/send", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def first_send_s(url: str) -> float:
    """Seconds until a message is acknowledged."""
    began_s = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        await send(http, 1, f"first {began_s}".replace(" ", "-"))
    return time.perf_counter() - began_s


async def killed(server: Served) -> tuple[float, float]:
    """Kill it under load and start it again: seconds until it was ready, and until the first message after that."""

    async def kill() -> None:
        await asyncio.sleep(_LOAD_S)
        server.kill()

    await Load(server.http_url).during(kill)
    began_s = time.perf_counter()
    await asyncio.to_thread(server.start)
    ready_s = time.perf_counter() - began_s
    return ready_s, ready_s + await first_send_s(server.http_url)


async def backed_up(server: Served, folder: Path) -> tuple[float, str]:
    """Make a backup beside the load: how long it took, and in words what it cost the sends."""
    alone, beside = Load(server.http_url), Load(server.http_url)
    await alone.during(lambda: asyncio.sleep(2 * _LOAD_S))
    began_s = time.perf_counter()
    await beside.during(lambda: _chatkit(folder, "backup", LOG, "backup.db", "--no-verify"))
    took_s = time.perf_counter() - began_s
    rates = len(alone.latencies_s) / (2 * _LOAD_S), len(beside.latencies_s) / took_s
    medians = statistics.median(alone.latencies_s), statistics.median(beside.latencies_s)
    worst = _p99(alone.latencies_s), _p99(beside.latencies_s)
    words = (
        f"sends beside it: {rates[1] / rates[0]:.2f} of the throughput ({rates[0]:.0f} a second alone), median "
        f"{medians[1] / medians[0]:.2f} times, P99 {worst[1] / worst[0]:.2f} times ({worst[1] * 1000:.0f} ms)"
    )
    return took_s, words


def _p99(latencies_s: Sequence[float]) -> float:
    return statistics.quantiles(latencies_s, n=100)[98]


async def _chatkit(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "chatkit", *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stderr=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0, arguments


async def restored(server: Served, folder: Path) -> tuple[float, float, float]:
    """Lose the log and put the backup back: seconds of the command, until ready, until the first message."""
    server.kill()
    for path in folder.glob(f"{LOG}*"):
        path.unlink()
    began_s = time.perf_counter()
    await _chatkit(folder, "restore", "backup.db", LOG)
    put_back_s = time.perf_counter() - began_s
    await asyncio.to_thread(server.start)
    ready_s = time.perf_counter() - began_s
    return put_back_s, ready_s, ready_s + await first_send_s(server.http_url)


async def run(folder: Path, messages: int, kills: int) -> list[str]:
    """What took too long, in words; says what it does."""
    began_s, path, wrong = time.perf_counter(), folder / LOG, list[str]()
    if not path.exists():
        await build(path, messages)
    count_as_served(path)
    size = path.stat().st_size / 2**30
    _say(f"{messages} messages in {CONVERSATIONS} conversations, {size:.2f} GiB, built in {_since(began_s)}")
    server = Served(folder)
    try:
        await asyncio.to_thread(server.start)
        for number in range(1, kills + 1):
            ready_s, sent_s = await killed(server)
            _say(
                f"kill {number} under load: ready after {ready_s:.2f} s, a message acknowledged after {sent_s:.2f} s"
            )
            if ready_s > READY_MAX_S:
                wrong.append(f"ready {ready_s:.1f} s after a kill")
        took_s, words = await backed_up(server, folder)
        _say(f"chatkit backup: {took_s:.1f} s; {words}")
        put_back_s, ready_s, sent_s = await restored(server, folder)
        _say(
            f"the log lost, put back by chatkit restore in {put_back_s:.0f} s (all of it checked), ready after "
            f"{ready_s:.0f} s, a message acknowledged after {sent_s:.0f} s"
        )
        if ready_s > RESTORED_MAX_S:
            wrong.append(f"ready {ready_s:.0f} s after the loss of the log")
    finally:
        server.stop()
    return wrong


def _say(words: str) -> None:
    print(words, flush=True)


def _since(began_s: float) -> str:
    return f"{time.perf_counter() - began_s:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 if it was ready within 10 s after each kill, and within 10 minutes from a backup."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.rto", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--messages", type=int, default=10_000_000, help="in the log (default 10000000)")
    parser.add_argument("--kills", type=int, default=3, help="how often it is killed (default 3)")
    parser.add_argument("--folder", type=Path, help="use the log that was built here before, or keep it here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chatkit-rto-") as folder:
        wrong = asyncio.run(run(options.folder or Path(folder), options.messages, options.kills))
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
