"""`python -m tests.proof.archive [--entries 1000000]`: a server moves old messages to an archive, and nobody notices.

A log on SQLite is filled with messages of 200 days ago. `chatkit serve` runs on it twice under the same load: without
an archive, then with one, until every body that is old enough has left. The load: readers that page through whole
conversations, senders, authors who send old messages again under their old keys, and authors who recall old ones. 0 if
every page had every entry with its words, every resend had its old answer, no recalled body was seen or is left in an
object, and the full check finds nothing. It says what the log and the archive weigh, and what archiving costs a send.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx

from chatkit.archive.directory import DirectoryArchive
from chatkit.archive.format import decode
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.rng import Rng
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import token

GROUPS = 200
MEMBERS = 10
BATCH = 1_000
DAY_MS = 86_400_000
KEEP = 100
WORDS = (
    "the",
    "of",
    "and",
    "is",
    "that",
    "it",
    "was",
    "with",
    "from",
    "they",
    "have",
    "you",
    "there",
    "about",
    "would",
)
SETTINGS = (
    f"archiving.keep_entries={KEEP}",
    "archiving.interval_s=2",
    "archiving.sweep_s=20",
    "archiving.lease_s=60",
    "recall_window_s=1000000000",
)


def name_of(group: int) -> str:
    return f"group-{group}"


def author_of(group: int, seq: int) -> str:
    return f"user-{group}-{(seq * 7 + group) % MEMBERS}"


def key_of(group: int, seq: int) -> str:
    return hashlib.md5(f"{group} {seq}".encode()).hexdigest()


def words_of(group: int, seq: int) -> str:
    """What an old message says: 10 to 600 characters, the same whenever it is asked."""
    rng = random.Random(group << 32 | seq)
    return " ".join(rng.choices(WORDS, k=rng.choice([3, 5, 8, 13, 21, 60, 120])))


def payload_of(group: int, seq: int) -> bytes:
    return json.dumps({"text": words_of(group, seq), "type": "TEXT"}, separators=(",", ":")).encode()


async def fill(path: str, entries: int) -> list[int]:
    """Old messages in all groups, written in the order of their time; returns the head of each group."""
    store = SqliteStore(path, ids=Rng(0).ports("archive").ids)
    secret = await store.migrate()
    began_ms = int(time.time() * 1000) - 200 * DAY_MS
    for group in range(GROUPS):
        users = tuple(f"user-{group}-{number}" for number in range(MEMBERS))
        made = base.CreateConversation(name_of(group), "GROUP", users[0], users, "old", "e1", 100, began_ms)
        await store.commit([made])
    heads, rng = [1] * GROUPS, random.Random(1)
    for start in range(0, entries, BATCH):
        commands: list[base.Command] = []
        for number in range(start, min(start + BATCH, entries)):
            group = rng.randrange(GROUPS)
            heads[group] += 1
            seq = heads[group]
            payload = payload_of(group, seq)
            mac = hashlib.blake2b(payload, key=secret, digest_size=16).digest()
            at_ms = began_ms + number * 10
            author, key = author_of(group, seq), key_of(group, seq)
            commands.append(base.Append(name_of(group), author, key, payload, mac, at_ms))
        refused = [it for it in await store.commit(commands) if isinstance(it, base.Refused)]
        assert not refused, refused[0]
    await store.aclose()
    return heads


class Load:
    """What users do, and what they find wrong.

    Attributes:
        wrong: In words.
        counts: How much was done.
        sends_s: How long each send took.
    """

    def __init__(self, url: str, heads: Sequence[int]) -> None:
        self._url = url
        self._heads = heads
        self._rng = random.Random(2)
        self._tokens: dict[str, str] = {}
        self._stopping = False
        self.recalling = False
        self._one_recall = anyio.Lock()
        self.recalled: set[tuple[int, int]] = set()
        self.wrong: list[str] = []
        self.counts = {
            "pages": 0,
            "entries": 0,
            "sends": 0,
            "resends": 0,
            "conflicts": 0,
            "recalls": 0,
            "passes": 0,
        }
        self.sends_s: list[float] = []

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=30)
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=30, limits=limits, trust_env=False) as self._client,
            anyio.create_task_group() as tasks,
        ):
            for number in range(2):
                tasks.start_soon(self._repeat, self._read, number)
            for number in range(2):
                tasks.start_soon(self._repeat, self._send, number)
            tasks.start_soon(self._repeat, self._resend, 0)
            tasks.start_soon(self._repeat, self._recall, 0)

    async def _repeat(self, act: Callable[[int], Awaitable[None]], number: int) -> None:
        while not self._stopping and len(self.wrong) < 20:
            try:
                await act(number)
            except Exception as error:
                self.wrong.append(f"{act.__name__}: {type(error).__name__}: {error}")

    async def _ask(self, method: str, path: str, user: str, **more: Any) -> httpx.Response:
        if user not in self._tokens:
            self._tokens[user] = token(user, "phone", ttl_s=86_400)
        return await self._client.request(
            method, path, headers={"Authorization": f"Bearer {self._tokens[user]}"}, **more
        )

    async def _read(self, number: int) -> None:
        """Page through all that was old in a conversation."""
        group, seq = self._rng.randrange(GROUPS), 0
        while seq < self._heads[group] and not self._stopping:
            before = {it for it in self.recalled if it[0] == group}
            answer = await self._ask(
                "GET",
                f"/v1/conversations/{name_of(group)}/messages",
                f"user-{group}-{number}",
                params={"fromSeq": seq + 1, "limit": 200},
            )
            if answer.status_code != 200:
                self.wrong.append(
                    f"page of {name_of(group)} after {seq}: {answer.status_code} {answer.text[:200]}"
                )
                return
            page = answer.json()
            found = [it["seq"] for it in page["messages"]]
            if found != list(range(seq + 1, page["upToSeq"] + 1)) or not found:
                self.wrong.append(f"page of {name_of(group)} after {seq} has {found[:3]} to {found[-3:]}")
                return
            for it in page["messages"]:
                self._check_entry(group, it, before)
            seq = page["upToSeq"]
            self.counts["pages"] += 1
            self.counts["entries"] += len(found)
        self.counts["passes"] += 1

    def _check_entry(self, group: int, it: dict[str, Any], before: set[tuple[int, int]]) -> None:
        seq, payload = it["seq"], it["payload"]
        if seq == 1 or seq > self._heads[group]:
            return
        is_recalled = payload == {"type": "RECALLED"}
        if (group, seq) in before and not is_recalled:
            self.wrong.append(f"{name_of(group)} {seq} was recalled, and then shown")
        if is_recalled:
            return
        wanted = {"type": "TEXT", "text": words_of(group, seq)}
        if payload != wanted or it["senderId"] != author_of(group, seq):
            self.wrong.append(f"{name_of(group)} {seq} is not as it was written")

    async def _send(self, number: int) -> None:
        group = self._rng.randrange(GROUPS)
        body = {
            "conversationId": name_of(group),
            "clientMsgId": f"new-{number}-{len(self.sends_s)}-{self._rng.random()}",
            "type": "TEXT",
            "content": "something new",
        }
        began_s = time.perf_counter()
        answer = await self._ask("POST", "/v1/messages/send", f"user-{group}-0", json=body)
        self.sends_s.append(time.perf_counter() - began_s)
        if answer.status_code != 200:
            self.wrong.append(f"send: {answer.status_code} {answer.text[:200]}")
        self.counts["sends"] += 1
        await anyio.sleep(0.02)

    async def _resend(self, number: int) -> None:
        """An old key gets its old answer; with another payload it is refused."""
        group = self._rng.randrange(GROUPS)
        seq = self._rng.randrange(2, self._heads[group] + 1)
        body = {
            "conversationId": name_of(group),
            "clientMsgId": key_of(group, seq),
            "type": "TEXT",
            "content": words_of(group, seq),
        }
        user = author_of(group, seq)
        answer = await self._ask("POST", "/v1/messages/send", user, json=body)
        if answer.status_code != 200 or answer.json()["seq"] != seq:
            self.wrong.append(f"resend of {name_of(group)} {seq}: {answer.status_code} {answer.text[:200]}")
        self.counts["resends"] += 1
        answer = await self._ask("POST", "/v1/messages/send", user, json=body | {"content": "another"})
        if answer.status_code != 409:
            self.wrong.append(f"another payload for {name_of(group)} {seq}: {answer.status_code}")
        self.counts["conflicts"] += 1
        await anyio.sleep(0.05)

    async def stop_recalling(self) -> None:
        """Afterwards none is under way: what it takes out of the archive counts as unfinished from here on."""
        self.recalling = False
        async with self._one_recall:
            pass

    async def _recall(self, number: int) -> None:
        await anyio.sleep(0.3)
        async with self._one_recall:
            if self.recalling:
                await self._recall_one()

    async def _recall_one(self) -> None:
        group = self._rng.randrange(GROUPS)
        seq = self._rng.randrange(2, self._heads[group] - KEEP)
        user = author_of(group, seq)
        place = {"fromSeq": seq, "limit": 1}
        page = await self._ask("GET", f"/v1/conversations/{name_of(group)}/messages", user, params=place)
        message_id = page.json()["messages"][0]["messageId"]
        answer = await self._ask("POST", f"/v1/messages/{message_id}/recall", user)
        if answer.status_code != 200:
            self.wrong.append(f"recall of {name_of(group)} {seq}: {answer.status_code} {answer.text[:200]}")
        self.recalled.add((group, seq))
        self.counts["recalls"] += 1


class Watch:
    """Looks into the log beside its server, which it does not disturb."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, sql: str) -> int:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute(sql).fetchone()
        return int(found)

    def cold(self) -> int:
        return self.ask("SELECT sum(cold_seq) FROM conversation")

    def unfinished(self) -> int:
        return self.ask("SELECT count(*) FROM archive_range WHERE is_stale = 1 OR next_name <> ''")

    def free(self) -> int:
        return self.ask("PRAGMA freelist_count")


async def prove(folder: Path, entries: int, baseline_s: float, timeout_s: float) -> list[str]:
    """What is wrong, in words; says what it does."""
    path, archive = folder / "chat.db", folder / "archive"
    began_s = time.monotonic()
    heads = await fill(str(path), entries)
    before = path.stat().st_size
    print(
        f"{entries} messages in {GROUPS} groups, {before / 1e6:.1f} MB, in {time.monotonic() - began_s:.0f} s",
        flush=True,
    )

    alone = await under_load(ServerProcess(folder, *_options()), heads, lambda load: anyio.sleep(baseline_s))
    print(f"without an archive: {_said(alone)}", flush=True)
    server = ServerProcess(folder, *_options(), "--archive", f"file://{archive}")
    watch = Watch(path)
    wanted, afterwards = sum(head - KEEP for head in heads), list[float]()

    async def until_archived(load: Load) -> None:
        load.recalling = True
        began_s = time.monotonic()
        while watch.cold() < wanted:
            assert time.monotonic() - began_s < timeout_s, (
                f"only {watch.cold()} of {wanted} after {timeout_s} s"
            )
            await anyio.sleep(0.5)
        took_s = time.monotonic() - began_s
        print(f"{wanted} bodies left in {took_s:.0f} s, {wanted / took_s:.0f} a second", flush=True)
        await load.stop_recalling()
        load.sends_s, during = [], load.sends_s
        while watch.unfinished() or watch.free() > 1_000:
            assert time.monotonic() - began_s < timeout_s, (
                f"{watch.unfinished()} unfinished, {watch.free()} free pages"
            )
            await anyio.sleep(0.5)
        load.sends_s = []
        await anyio.sleep(baseline_s)
        afterwards.extend(load.sends_s)
        load.sends_s = during

    load = await under_load(server, heads, until_archived)
    print(f"while archiving: {_said(load)}", flush=True)
    for name, share in (("median", 50), ("99th percentile", 99)):
        took_s = _percentile(load.sends_s, share)
        before_s, after_s = _percentile(alone.sends_s, share), _percentile(afterwards, share)
        print(
            f"a send took {took_s / before_s:.2f} times as long while archiving as before, and"
            f" {took_s / after_s:.2f} times as long as afterwards ({name})"
        )
    wrong = [*alone.wrong, *load.wrong, *await look(path, archive, load.recalled)]
    size = sum(it.stat().st_size for it in archive.rglob("*") if it.is_file())
    after = path.stat().st_size
    count = sum(1 for it in archive.rglob("*.zst"))
    of_before = f"{after / before:.0%} of what it had"
    print(f"the log has {after / 1e6:.1f} MB, {of_before}, with {load.counts['sends']} new messages")
    print(f"the archive has {size / 1e6:.1f} MB in {count} objects")
    return wrong


def _options() -> list[str]:
    return [part for setting in SETTINGS for part in ("--set", setting)]


async def under_load(
    server: ServerProcess, heads: Sequence[int], work: Callable[[Load], Awaitable[None]]
) -> Load:
    server.start()
    load = Load(server.http_url, heads)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load.run)
            await anyio.sleep(2)
            load.sends_s.clear()
            await work(load)
            load.stop()
        server.terminate()
        code = server.exit_code(60)
        if code:
            load.wrong.append(f"the server ended with {code}: {server.log[-500:]}")
        load.wrong += [line for line in server.log.splitlines() if " ERROR " in line or "Traceback" in line][
            :5
        ]
    finally:
        server.stop()
    return load


async def look(path: Path, archive: Path, recalled: set[tuple[int, int]]) -> list[str]:
    """What is wrong with a log and its archive while nobody uses them."""
    report = full_report(str(path))
    wrong = [f"{it.check}: {it.words}" for it in report.findings]
    store = SqliteStore(str(path), ids=Rng(0).ports("archive").ids)
    await store.migrate()
    objects, after, count = DirectoryArchive(archive), (0, 0), 0
    names = set()
    while found := await store.cold.ranges(after, 500):
        for it in found:
            names.add(it.name)
            group = int(it.conversation_id.removeprefix("group-"))
            for entry in decode(await objects.get(it.name), it):
                count += 1
                is_recalled = (group, entry.seq) in recalled
                if entry.kind == "USER" and entry.payload != (
                    None if is_recalled else payload_of(group, entry.seq)
                ):
                    wrong.append(
                        f"{it.name} has another body for {entry.seq} than was written, or a recalled one"
                    )
        after = (found[-1].conversation_key, found[-1].first_seq)
    held = {str(it.relative_to(archive)) for it in archive.rglob("*.zst")}
    if held != names:
        wrong.append(f"{len(held - names)} objects that no range names, {len(names - held)} that are missing")
    await store.aclose()
    print(
        f"{report.messages} messages checked in the log, {count} in {len(names)} objects, each by its digest",
        flush=True,
    )
    return wrong


def _percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


def _said(load: Load) -> str:
    done = ", ".join(f"{count} {name}" for name, count in load.counts.items())
    p50, p99 = (_percentile(load.sends_s, share) * 1e3 for share in (50, 99))
    return f"{done}; a send took {p50:.1f} ms (median), {p99:.1f} ms (99th percentile)"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument(
        "--baseline", type=float, default=20.0, metavar="SECONDS", help="of load without an archive"
    )
    parser.add_argument("--timeout", type=float, default=3_600.0, metavar="SECONDS")
    parser.add_argument("--folder", type=Path, help="where the log and the archive stay")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        os.makedirs(folder, exist_ok=True)
        wrong = anyio.run(prove, folder, options.entries, options.baseline, options.timeout)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
