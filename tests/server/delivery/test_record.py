"""What providers said of pushes is kept beside the log for some time, for `ChatServer.explain`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chatkit.ports import SystemIds
from chatkit.push.base import Dead, Delivered, Push, Refused, Result, Retry, Unknown
from chatkit.storage.memory import MemoryStore

from .world import CLOCK, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """ann and bob, with a phone each, in a group."""
    store = MemoryStore(ids=SystemIds())
    await store.migrate()
    world = World(store)
    for user in ("ann", "bob"):
        await world.device(user)
    await world.group("g", "ann", "bob")
    await world.work()
    yield world
    await store.aclose()


async def kept(world: World, message_id: str) -> list[tuple[str, str, int, str, int, str, str]]:
    """(user, device, seq, answer, tries, name, reason) of each push that is kept."""
    assert isinstance(world.store, MemoryStore)
    found = (await world.store.trail(message_id, None, 10)).pushes
    return [
        (it.user_id, it.device_id, it.seq, it.answer, it.tries, it.provider_id, it.reason) for it in found
    ]


async def test_a_push_that_was_taken(world: World) -> None:
    name = await world.send("g", "ann", "canary")
    await world.work()

    assert await kept(world, name) == [("bob", "phone", 2, "TAKEN", 1, "id", "")]
    assert isinstance(world.store, MemoryStore)
    (push,) = (await world.store.trail(name, None, 10)).pushes
    assert (push.provider, push.at_ms) == ("scripted", world.provider.sent[0][0])


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (Dead("Unregistered"), "DEAD"),
        (Refused("too large"), "REFUSED"),
        (Unknown("cut off", 10**6), "UNKNOWN"),
        (Retry(10**6, "503"), "RETRY"),
    ],
)
async def test_every_other_answer_with_its_reason(world: World, result: Result, answer: str) -> None:
    async def say(push: Push) -> Result:
        return result

    world.provider.answer = say
    name = await world.send("g", "ann", "hello")
    await world.work()

    reason = getattr(result, "reason", "")
    assert await kept(world, name) == [("bob", "phone", 2, answer, 1, "", reason)]


async def test_what_a_provider_says_is_kept_as_one_short_line(world: World) -> None:
    async def say(push: Push) -> Result:
        return Delivered("a\x1b[31m\nb" + "c" * 999)

    world.provider.answer = say
    name = await world.send("g", "ann", "hello")
    await world.work()

    ((*_, provider_id, _),) = await kept(world, name)
    assert provider_id.startswith("a [31m bccc")
    assert len(provider_id) == 200


async def test_tries_are_counted(world: World) -> None:
    async def fail_twice(push: Push) -> Result:
        return Retry(1.0, "busy") if len(world.provider.sent) < 3 else Delivered("at last")

    world.provider.answer = fail_twice
    name = await world.send("g", "ann", "hello")
    await world.work(120)

    assert await kept(world, name) == [("bob", "phone", 2, "TAKEN", 3, "at last", "")]


async def test_the_push_that_withdraws_a_recalled_message_is_about_the_recall(world: World) -> None:
    name = await world.send("g", "ann", "hello")
    await world.work()
    await world.recall(name, "ann")
    await world.work()

    assert [row[2:4] for row in await kept(world, name)] == [(2, "TAKEN"), (3, "TAKEN")]


async def test_what_never_left_is_no_push(world: World) -> None:
    worker = world.another_worker(2)
    del worker._job._providers["scripted"]  # type: ignore[attr-defined]
    name = await world.send("g", "ann", "hello")
    await world.confirm("g", "ann", 2)
    world.worker = worker
    await world.work()

    assert world.provider.sent == []
    assert await kept(world, name) == []


async def test_after_some_days_it_is_forgotten(world: World) -> None:
    name = await world.send("g", "ann", "hello")
    await world.work()
    world.worker = world.another_worker(2, pushes_kept_s=3_000)
    await world.work(2_000)
    assert len(await kept(world, name)) == 1
    world.worker = world.another_worker(3, pushes_kept_s=3_000)
    await world.work(4_000)

    assert CLOCK.now_ms() - world.provider.sent[-1][0] > 3_000_000
    assert await kept(world, name) == []
