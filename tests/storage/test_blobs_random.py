"""Random lives of files on two stores at once: they answer alike, and no file goes that a message still names."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from msgspec.structs import replace

from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_blobs import KEEP_MS, collect, payload_of, reserve, show
from chatkit.testing.contracts.storage_commands import NOW, add, do, group, recall, remove, single

from .ids import seeded_ids

USERS = ("ann", "bob", "cat")
PLACES = ("g", "h", "s")
STEPS = 150


class Life:
    """Makes one random command after the other, each with a time of its own that only rises."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.at_ms = NOW
        self._keys = 0
        self.blobs = ["b0"]
        self._names: list[tuple[str, str]] = []

    def learn(self, outcomes: list[base.Outcome]) -> None:
        for it in outcomes:
            if isinstance(it, base.Appended) and not it.repeat:
                self._names.append((it.entry.message_id, it.entry.sender_id))

    def step(self) -> list[base.Command]:
        self.at_ms += self._chance.choice([0, 1_000, 60_000, KEEP_MS // 5])
        return [self._one() for _ in range(self._chance.choice([1, 1, 1, 2, 4]))]

    def wants_collector(self) -> bool:
        return self._chance.random() < 0.3

    def _one(self) -> base.Command:
        pick = self._chance.choice
        match pick(
            ("reserve", "finish", "show", "show", "show", "recall", "recall", "expire", "add", "remove")
        ):
            case "reserve":
                self.blobs.append(f"b{len(self.blobs)}")
                size = pick([5_000, 5_000, 60_000])
                return reserve(self.blobs[-1], pick(USERS), pick("abc"), size=size, at_ms=self.at_ms)
            case "finish":
                return base.FinishBlob(pick(self.blobs[-12:]), b"digest" * 5 + b"ab")
            case "recall" if self._names:
                name, author = pick(self._names)
                return recall(name, author, self.at_ms, 10**15)
            case "expire":
                return base.Expire(pick(PLACES), self._chance.randrange(2, 12), None, self.at_ms)
            case "add":
                return add(pick("gh"), "ann", pick(USERS[1:]))
            case "remove":
                return remove(pick("gh"), "ann", pick(USERS[1:]))
        self._keys += 1
        payload = payload_of(pick(self.blobs[-12:]), kind=pick(["IMAGE", "FILE"]))
        return replace(show(pick(PLACES), pick(USERS), f"k{self._keys}", payload), at_ms=self.at_ms)


async def named(store: Any) -> set[str]:
    """The files that messages name which anybody can read."""
    found = set[str]()
    for place in PLACES:
        for entry in await store.entries(place, 0, 1_000):
            payload = json.loads(entry.payload)
            if "blobId" in payload:
                found.add(payload["blobId"])
    return found


async def shown(store: Any, blobs: list[str]) -> list[Any]:
    rows = [await store.upload(blob) for blob in blobs]
    seen = [await store.blob(blob, user) is not None for blob in blobs for user in USERS]
    due = sorted((it.blob_id, it.keep_ms) for it in await store.due_blobs(10**15, 1_000))
    return [rows, seen, due]


def words(outcomes: list[base.Outcome]) -> list[Any]:
    return [(it.error.code, str(it.error)) if isinstance(it, base.Refused) else it for it in outcomes]


@pytest.mark.parametrize("seed", range(12))
async def test_no_file_goes_that_a_message_names(seed: int) -> None:
    history = Life(seed)
    stores: list[Any] = [
        MemoryStore(ids=seeded_ids()),
        SqliteStore(":memory:", ids=seeded_ids(), threads=False),
    ]
    gone = 0
    for store in stores:
        await store.migrate()
        await do(store, group("g", "ann", "bob", "cat"), group("h", "ann", "bob"), single("s", "ann", "cat"))
    for _ in range(STEPS):
        commands = history.step()
        outcomes = [await store.commit(commands) for store in stores]
        assert words(outcomes[0]) == words(outcomes[1])
        history.learn(outcomes[0])
        if history.wants_collector():
            found = []
            for store in stores:
                due = await store.due_blobs(history.at_ms, 1_000)
                (collected,) = await do(store, collect(due, history.at_ms))
                assert isinstance(collected, base.BlobsCollected)
                await do(store, base.ForgetBlobs(collected.gone))
                found.append((sorted(collected.going), sorted(it.blob_id for it in collected.gone)))
            assert found[0] == found[1]
            gone += len(found[0][0])
        states = [await shown(store, history.blobs) for store in stores]
        assert states[0] == states[1]
        rows = {row.blob_id: row.state for row in states[0][0] if row is not None}
        assert {rows.get(blob) for blob in await named(stores[1])} <= {"READY"}
    assert gone
    for store in stores:
        await store.aclose()
