"""A random life of a log, and the same searches in two stores: for each store against the one in memory."""

from __future__ import annotations

import random

from chatkit.errors import BadRequestError, RefusedError
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.testing.contracts.storage_commands import NOW, add, group, recall, remove, send
from chatkit.testing.contracts.storage_roles import open_group
from chatkit.testing.contracts.storage_search import SearchedStore, found, search_all

from .ids import seeded_ids

USERS = ("ann", "bob", "cat")
CONVERSATIONS = ("g", "h", "o")
WORDS = (
    *("red", "Red", "foxes", "fox", "东京", "東京都", "京都", "東", "手机", "手", "한국어", "ไทย"),
    *("café", "cafe", "x-y", "y", "😀", "ﬁne", "STRASSE"),
)


def words(rng: random.Random) -> str:
    """What somebody says, or looks for."""
    return rng.choice((" ", "", ", ")).join(rng.choices(WORDS, k=rng.randint(1, 5)))


async def search_alike(store: SearchedStore, seed: int) -> int:
    """Live at random in a store and in memory, and compare what is found; returns how much was."""
    rng, memory = random.Random(seed), MemoryStore(ids=seeded_ids())
    await memory.migrate()
    await store.search.open()
    both: tuple[SearchedStore, ...] = (store, memory)
    sent: list[tuple[str, str]] = []
    count = 0
    for step in range(60):
        command = _command(rng, step, sent) if step else open_group("o", *USERS)
        for one in both:
            (outcome,) = await one.commit([command])
        if isinstance(outcome, base.Appended):
            sent.append((outcome.entry.message_id, outcome.entry.sender_id))
        if step % 3 == 0:
            count += await _compare(both, rng, is_indexed=step % 2 == 0)
    return count


def _command(rng: random.Random, step: int, sent: list[tuple[str, str]]) -> base.Command:
    where, user, other = rng.choice(CONVERSATIONS), rng.choice(USERS), rng.choice(USERS)
    kind = rng.random()
    if step < 3:
        return group("gh"[step % 2], *USERS)
    if kind < 0.7 or not sent:
        return send(where, user, f"k{step}", words(rng), NOW + step)
    if kind < 0.8:
        return recall(*rng.choice(sent))
    if kind < 0.85:
        return base.Expire(where, rng.randint(1, 10), None, NOW)
    return add(where, None, other) if kind < 0.93 else remove(where, None, other)


async def _compare(both: tuple[SearchedStore, ...], rng: random.Random, *, is_indexed: bool) -> int:
    query, user = words(rng)[: rng.choice((2, 40))] + rng.choice(("", "*")), rng.choice(USERS)
    where = {"conversation_id": rng.choice(CONVERSATIONS)} if rng.random() < 0.3 else {}
    answers: list[list[str] | str] = []
    for one in both:
        try:
            answers.append(await found(one, user, query, **where))
        except (BadRequestError, RefusedError) as error:
            answers.append(error.code)
    assert answers[0] == answers[1], (query, user, where)
    if not is_indexed and not isinstance(answers[0], str):  # whatever the index knows, nothing else is found
        assert set(await search_all(both[0], user, query, **where)) <= set(answers[1])
    return 0 if isinstance(answers[0], str) else len(answers[0])
