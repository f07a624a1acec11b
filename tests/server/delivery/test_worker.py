"""Who is pushed to, when, with which words; and what becomes of a push that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.ports import Ports, SystemIds
from chatkit.push.base import Dead, Delivered, Push, Refused, Result, Retry, Unknown
from chatkit.server.delivery.notices import ENTRIES_MAX, Notice, PushText
from chatkit.server.delivery.worker import DeliveryWorker
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import mentioning, reacted, title_entry
from tests.observability.recorder import Recorder

from .world import CLOCK, ScriptedProvider, World


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """ann, bob with phone and tablet, and cat in a group."""
    in_memory = request.param == "memory"
    store = (
        MemoryStore(ids=SystemIds()) if in_memory else SqliteStore(":memory:", ids=SystemIds(), threads=False)
    )
    await store.migrate()
    world = World(store)
    for user in ("ann", "bob", "cat"):
        await world.device(user)
    await world.device("bob", "tablet")
    await world.group("g", "ann", "bob", "cat")
    await world.work()
    assert world.provider.sent == []
    yield world
    await store.aclose()


# --- who and when ---


async def test_every_device_of_the_others_is_pushed_to_once(world: World) -> None:
    await world.send("g", "ann", "hello")
    await world.work()

    assert world.provider.shown() == [
        ("bob's phone", "Team", "ann: hello", 1),
        ("bob's tablet", "Team", "ann: hello", 1),
        ("cat's phone", "Team", "ann: hello", 1),
    ]
    await world.work(1000)
    assert len(world.provider.sent) == 3


async def test_a_message_is_left_to_the_sockets_for_a_while(world: World) -> None:
    await world.send("g", "ann", "hello")
    sent_ms = CLOCK.now_ms()
    await world.work(4.9)
    assert world.provider.sent == []
    await world.work(2.0)

    assert {at_ms - sent_ms >= 5_000 for at_ms, _ in world.provider.sent} == {True}


async def test_whoever_confirmed_or_read_meanwhile_is_not_pushed_to(world: World) -> None:
    await world.send("g", "ann", "hello")
    await world.confirm("g", "bob", 2, "tablet")
    await world.read("g", "cat", 2)
    await world.work()

    assert [push.token for _, push in world.provider.sent] == ["bob's phone"]


async def test_many_messages_are_one_push(world: World) -> None:
    for number in range(7):
        await world.send("g", "ann", f"number {number}")
    await world.work()

    assert [it for it in world.provider.shown() if it[0] == "cat's phone"] == [
        ("cat's phone", "Team", "ann: number 6", 7)
    ]


async def test_what_comes_later_is_another_push_with_the_same_collapse_id(world: World) -> None:
    await world.send("g", "ann", "one")
    await world.work()
    await world.send("g", "ann", "two")
    await world.work()

    pushes = [push for _, push in world.provider.sent if push.token == "cat's phone"]
    assert [(it.body, it.badge, it.collapse_id) for it in pushes] == [
        ("ann: one", 1, "g"),
        ("ann: two", 2, "g"),
    ]
    assert pushes[0].id != pushes[1].id


async def test_the_badge_counts_all_conversations_that_are_not_muted(world: World) -> None:
    await world.single("s", "ann", "cat")
    await world.group("h", "ann", "cat")
    await world.do(base.Mute("h", "cat", CLOCK.now_ms() + 10**7))
    for name in ("s", "s", "h", "g"):
        await world.send(name, "ann", "hello")
    await world.work()

    pushes = [push for _, push in world.provider.sent if push.token == "cat's phone"]
    assert {it.badge for it in pushes} == {3}
    assert sorted((it.conversation_id, it.title, it.body) for it in pushes) == [
        ("g", "Team", "ann: hello"),
        ("s", "ann", "hello"),
    ]


async def test_a_muted_conversation_is_quiet_until_then(world: World) -> None:
    await world.do(base.Mute("g", "cat", CLOCK.now_ms() + 60_000))
    await world.send("g", "ann", "one")
    await world.work(61)
    assert "cat's phone" not in [push.token for _, push in world.provider.sent]
    await world.send("g", "ann", "two")
    await world.work()

    assert [it for it in world.provider.shown() if it[0] == "cat's phone"] == [
        ("cat's phone", "Team", "ann: two", 2)
    ]


async def test_a_mention_wakes_who_muted_the_rest_and_says_so(world: World) -> None:
    await world.do(base.Mute("g", "cat", CLOCK.now_ms() + 10**7, but_mentions=True))
    await world.do(base.Mute("g", "bob", CLOCK.now_ms() + 10**7))
    await world.send("g", "ann", "quiet")
    await world.work()
    assert world.provider.sent == []
    sent = mentioning("g", "ann", "cat!", "cat", "bob", at_ms=CLOCK.now_ms())
    await world.do(sent)
    await world.send("g", "ann", "quiet again")
    await world.work()

    ((_, push),) = world.provider.sent
    assert (push.token, push.body, push.badge, push.mentioned) == ("cat's phone", "ann: cat!", 1, True)
    await world.do(base.Mute("g", "cat", 0))
    await world.send("g", "ann", "loud")
    await world.work()
    assert [(it.token, it.body, it.badge, it.mentioned) for _, it in world.provider.sent[1:]] == [
        ("cat's phone", "ann: loud", 4, True)
    ]


@pytest.mark.parametrize("mutes", [True, False])
async def test_a_message_is_told_however_many_reactions_follow(world: World, mutes: bool) -> None:
    if mutes:
        await world.do(base.Mute("g", "cat", CLOCK.now_ms() + 10**7, but_mentions=True))
    await world.do(mentioning("g", "ann", "cat!", "cat", at_ms=CLOCK.now_ms()))
    (entry,) = await world.store.entries("g", 1, 1)
    for number in range(2 * ENTRIES_MAX):
        is_removed = number % 2 == 1
        await world.do(reacted("g", "bob", entry.message_id, "+1", removed=is_removed, key=f"r{number}"))
    await world.work()

    assert ("cat's phone", "Team", "ann: cat!", 1) in world.provider.shown()


async def test_a_mention_is_told_however_many_messages_follow(world: World) -> None:
    await world.do(base.Mute("g", "cat", CLOCK.now_ms() + 10**7, but_mentions=True))
    await world.do(base.Mute("g", "bob", CLOCK.now_ms() + 10**7))
    await world.do(mentioning("g", "ann", "cat!", "cat", at_ms=CLOCK.now_ms()))
    for number in range(2 * ENTRIES_MAX):
        await world.send("g", "bob", f"{number}")
    await world.work()

    ((_, push),) = [it for it in world.provider.sent if it[1].token == "cat's phone"]
    assert (push.body, push.badge, push.mentioned) == ("ann: cat!", 1, True)


async def test_a_recalled_mention_wakes_nobody(world: World) -> None:
    await world.do(base.Mute("g", "cat", CLOCK.now_ms() + 10**7, but_mentions=True))
    await world.do(base.Mute("g", "bob", CLOCK.now_ms() + 10**7))
    await world.do(mentioning("g", "ann", "cat!", "cat", at_ms=CLOCK.now_ms()))
    (entry,) = await world.store.entries("g", 1, 1)
    await world.do(base.Recall(entry.message_id, "ann", 10**6, CLOCK.now_ms()))
    await world.work()

    assert world.provider.sent == []


async def test_who_was_removed_is_told_nothing(world: World) -> None:
    await world.send("g", "ann", "hello")
    await world.do(base.RemoveMember("g", "ann", "cat", CLOCK.now_ms()))
    await world.work()

    assert "cat's phone" not in [push.token for _, push in world.provider.sent]


async def test_who_joined_later_is_told_nothing_of_before(world: World) -> None:
    await world.device("dan")
    await world.send("g", "ann", "before")
    await world.do(base.AddMembers("g", "ann", ("dan",), 9, CLOCK.now_ms()))
    await world.work()
    assert "dan's phone" not in [push.token for _, push in world.provider.sent]
    await world.send("g", "ann", "after")
    await world.work()

    assert ("dan's phone", "Team", "ann: after", 1) in world.provider.shown()


async def test_changes_of_members_wake_nobody(world: World) -> None:
    await world.do(base.AddMembers("g", "ann", ("dan",), 9, CLOCK.now_ms()))
    await world.do(base.UpdateConversation("g", "ann", title_entry("new"), None, CLOCK.now_ms()))
    await world.work()

    assert world.provider.sent == []
    assert (await world.store.deliveries.lag()).waiting == 0


# --- words ---


async def test_words_are_hidden_where_a_device_asks_for_it(world: World) -> None:
    await world.device("cat", hide_body=True)
    message_id = await world.send("g", "ann", "secret")
    await world.work()

    (push,) = [push for _, push in world.provider.sent if push.token == "cat's phone"]
    assert (push.title, push.body, push.message_id) == ("Team", None, message_id)
    assert "secret" in str(world.provider.shown())


async def test_words_are_hidden_everywhere_where_the_host_says_so(world: World) -> None:
    notices: list[Notice] = []

    async def compose(notice: Notice) -> PushText:
        notices.append(notice)
        return PushText("News")

    world.worker = world.another_worker(hide_body=True)
    await world.send("g", "ann", "secret")
    await world.work()
    world.worker = world.another_worker(hide_body=True, compose=compose)
    await world.send("g", "ann", "secret")
    await world.work()

    assert "secret" not in str(world.provider.shown())
    assert {str(it.payload) for it in notices} == {"{'type': 'TEXT'}"}


async def test_words_that_fail_are_one_devices_dead_letter(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def compose(notice: Notice) -> PushText:
        if notice.user_id == "cat":
            raise KeyError("name of cat")
        return PushText(notice.title)

    world.worker = world.another_worker(compose=compose)
    await world.send("g", "ann", "hello")
    await world.work()

    assert {push.token for _, push in world.provider.sent} == {"bob's phone", "bob's tablet"}
    (dead,) = await world.store.deliveries.dead_letters(9)
    assert (dead.user_id, dead.device_id, dead.reason) == ("cat", "phone", "its words failed: KeyError")
    assert "no push to a device of cat: its words failed" in caplog.text


async def test_words_that_take_too_long_are_tried_again(world: World) -> None:
    slow = True

    async def compose(notice: Notice) -> PushText:
        if notice.user_id == "cat" and slow:
            await anyio.sleep_forever()
        return PushText(notice.title)

    world.worker = world.another_worker(compose=compose)
    await world.send("g", "ann", "hello")
    await world.work(20)
    assert "cat's phone" not in [push.token for _, push in world.provider.sent]
    slow = False
    await world.work(300)

    assert [push.token for _, push in world.provider.sent].count("cat's phone") == 1


# --- recalls ---


async def test_a_recalled_body_is_in_no_push(world: World) -> None:
    message_id = await world.send("g", "ann", "secret")
    await world.recall(message_id, "ann")
    await world.work()

    assert world.provider.sent == []


async def test_what_was_pushed_and_recalled_is_replaced(world: World) -> None:
    await world.send("g", "ann", "first")
    message_id = await world.send("g", "ann", "secret")
    await world.work()
    await world.recall(message_id, "ann")
    await world.work()

    assert [it for it in world.provider.shown() if it[0] == "cat's phone"] == [
        ("cat's phone", "Team", "ann: secret", 2),
        ("cat's phone", "Team", "ann: first", 1),
    ]


async def test_where_nothing_is_left_the_recall_itself_is_told(world: World) -> None:
    message_id = await world.send("g", "ann", "secret")
    await world.work()
    await world.recall(message_id, "ann")
    await world.work()
    await world.work(1000)

    assert [it for it in world.provider.shown() if it[0] == "cat's phone"] == [
        ("cat's phone", "Team", "ann: secret", 1),
        ("cat's phone", "Team", "A message was withdrawn", 0),
    ]


async def test_a_recall_of_what_was_read_tells_nobody(world: World) -> None:
    message_id = await world.send("g", "ann", "secret")
    await world.work()
    for user in ("bob", "cat"):
        await world.read("g", user, 2)
    await world.recall(message_id, "ann")
    before = len(world.provider.sent)
    await world.work()

    assert len(world.provider.sent) == before


async def test_what_left_without_an_answer_and_is_recalled_is_replaced(world: World) -> None:
    answering(world, "cat's phone", Unknown("no answer"), Unknown("cut", 300.0))
    message_id = await world.send("g", "ann", "secret")
    await world.work(60)
    await world.recall(message_id, "ann")
    await world.work(1_000)

    bodies = [push.body for _, push in world.provider.sent if push.token == "cat's phone"]
    assert bodies == ["ann: secret", "ann: secret", "A message was withdrawn"]
    assert await world.store.deliveries.lag() == base.DeliveryLag(0, None, 0)


async def test_what_a_worker_pushed_before_it_died_and_is_recalled_is_replaced(world: World) -> None:
    async def never(push: Push) -> Result:
        await anyio.sleep_forever()
        raise AssertionError

    world.provider.answer = never
    message_id = await world.send("g", "ann", "secret")
    await world.work(10)  # and is cancelled in the middle
    world.provider.answer = world.provider.delivered
    await world.recall(message_id, "ann")
    world.worker = world.another_worker(2)
    await world.work(1_000)

    assert [push.body for _, push in world.provider.sent if push.token == "cat's phone"] == [
        "ann: secret",
        "A message was withdrawn",
    ]


async def test_what_was_recalled_before_it_was_due_is_withdrawn_by_no_later_try(world: World) -> None:
    answering(world, "cat's phone", Retry(40.0, "busy"))
    await world.send("g", "ann", "first")
    message_id = await world.send("g", "ann", "secret")
    await world.recall(message_id, "ann")
    await world.work(10)
    await world.read("g", "cat", 2)
    await world.work(1_000)

    assert [it for it in world.provider.shown() if it[0] == "cat's phone"] == [
        ("cat's phone", "Team", "ann: first", 1)
    ]


@pytest.mark.parametrize("what", ["recall", "read", "confirm", "mute", "remove", "unregister", "revoke"])
async def test_what_changes_while_the_words_are_made_is_seen(world: World, what: str) -> None:
    message_id = await world.send("g", "ann", "secret")
    changes: dict[str, base.Command] = {
        "recall": base.Recall(message_id, "ann", 10**9, CLOCK.now_ms()),
        "read": base.AdvanceRead("g", "cat", 2, CLOCK.now_ms()),
        "confirm": base.AdvanceDelivered("g", "cat", "phone", 2, CLOCK.now_ms()),
        "mute": base.Mute("g", "cat", CLOCK.now_ms() + 10**6),
        "remove": base.RemoveMember("g", "ann", "cat", CLOCK.now_ms()),
        "unregister": base.UnregisterPush("cat", "phone"),
        "revoke": base.Revoke("REVOKED", "cat", "phone", b"", None, CLOCK.now_ms()),
    }

    async def compose(notice: Notice) -> PushText:
        if what in changes:
            await world.do(changes.pop(what))
        return PushText(notice.payload.get("text", "withdrawn"))

    world.worker = world.another_worker(compose=compose)
    await world.work()
    if what == "recall":
        assert "secret" not in str(world.provider.shown())
        return

    tokens = {push.token for _, push in world.provider.sent}
    assert "cat's phone" not in tokens
    assert tokens == {"bob's phone", "bob's tablet"}
    assert world.worker.counts["cancelled"] == 1


# --- what becomes of a push ---


class Busy(Retry, frozen=True):
    """A provider's own kind of `Retry`."""


class Taken(Delivered, frozen=True):
    """A provider's own kind of `Delivered`."""


def answering(world: World, token: str, *results: Result) -> None:
    """The next pushes to a device get these answers, all others are delivered."""
    todo = list(results)

    async def answer(push: Push) -> Result:
        return todo.pop(0) if push.token == token and todo else Delivered("id")

    world.provider.answer = answer


async def test_a_push_that_was_not_taken_is_tried_again_and_keeps_nobody_waiting(world: World) -> None:
    answering(world, "cat's phone", Retry(40.0, "busy"), Unknown("no answer"))
    await world.send("g", "ann", "hello")
    await world.work(200)

    at = [(at_ms, push.id) for at_ms, push in world.provider.sent if push.token == "cat's phone"]
    assert len(at) == 3
    assert at[1][0] - at[0][0] >= 40_000
    assert len({push_id for _, push_id in at}) == 1, "the provider knows it again"
    others = [push.token for _, push in world.provider.sent if push.token != "cat's phone"]
    assert others == ["bob's phone", "bob's tablet"]
    assert await world.store.deliveries.lag() == base.DeliveryLag(0, None, 0)
    assert world.worker.counts == Counter(pushed=3, retried=2)


async def test_what_is_tried_again_says_what_is_new_by_then(world: World) -> None:
    answering(world, "cat's phone", Retry(40.0))
    await world.send("g", "ann", "one")
    await world.work(10)
    await world.send("g", "ann", "two")
    await world.work(200)

    bodies = [push.body for _, push in world.provider.sent if push.token == "cat's phone"]
    assert bodies == ["ann: one", "ann: two"]


async def test_what_was_read_before_the_next_try_is_not_tried(world: World) -> None:
    answering(world, "cat's phone", Retry(40.0))
    await world.send("g", "ann", "one")
    await world.work(10)
    await world.read("g", "cat", 2)
    await world.work(200)

    assert [push.token for _, push in world.provider.sent].count("cat's phone") == 1
    assert await world.store.deliveries.lag() == base.DeliveryLag(0, None, 0)


async def test_what_fails_for_as_long_as_it_may_be_shown_is_given_up(world: World) -> None:
    world.worker = world.another_worker(ttl_s=100.0)
    answering(world, "cat's phone", *[Retry(30.0, "busy")] * 99)
    await world.send("g", "ann", "hello")
    await world.work(2000)

    tries = [push.token for _, push in world.provider.sent].count("cat's phone")
    assert 2 <= tries <= 5
    (dead,) = [*await world.store.deliveries.dead_letters(9)] or [None]
    assert dead is None or (dead.user_id, dead.reason.partition(":")[2]) == ("cat", " busy")
    assert (await world.store.deliveries.lag()).waiting == 0


async def test_an_outage_of_hours_loses_nothing_that_may_still_be_shown(world: World) -> None:
    answering(world, "cat's phone", *[Retry(600.0, "busy")] * 30)
    await world.send("g", "ann", "hello")
    await world.work(30_000)

    assert [push.token for _, push in world.provider.sent].count("cat's phone") == 31
    assert (await world.store.deliveries.lag()).dead == 0


async def test_what_is_too_old_to_be_shown_is_not_sent(world: World) -> None:
    await world.send("g", "ann", "hello")
    await anyio.sleep(90_000)
    await world.work()

    assert world.provider.sent == []
    assert await world.store.deliveries.lag() == base.DeliveryLag(0, None, 0)


async def test_a_dead_token_is_dropped_and_a_newer_one_is_kept(world: World) -> None:
    answering(world, "cat's phone", Dead("gone"))
    await world.send("g", "ann", "one")
    await world.work()
    await world.send("g", "ann", "two")
    await world.work()
    assert [push.token for _, push in world.provider.sent].count("cat's phone") == 1

    await world.device("cat")
    answering(world, "cat's phone", Dead("gone", since_ms=CLOCK.now_ms() - 1))
    for words in ("three", "four"):
        await world.send("g", "ann", words)
        await world.work()
    assert [push.token for _, push in world.provider.sent].count("cat's phone") == 3, (
        "it was registered after that"
    )
    assert world.worker.counts["dropped"] == 2


async def test_what_is_refused_for_good_is_a_dead_letter(world: World) -> None:
    answering(world, "cat's phone", Refused("too large"))
    await world.send("g", "ann", "hello")
    await world.work(2000)

    assert [push.token for _, push in world.provider.sent].count("cat's phone") == 1
    (dead,) = await world.store.deliveries.dead_letters(9)
    assert (dead.conversation_id, dead.user_id, dead.reason) == ("g", "cat", "too large")


async def test_what_comes_while_an_earlier_push_is_refused_is_pushed_all_the_same(world: World) -> None:
    tries = 0

    async def answer(push: Push) -> Result:
        nonlocal tries
        if push.token != "cat's phone":
            return Delivered("id")
        tries += 1
        if tries == 1:
            return Retry(1.0, "busy")
        if tries == 2:
            await world.send("g", "ann", "two")
            await anyio.sleep(15)
            return Refused("too large")
        return Delivered("id")

    world.provider.answer = answer
    await world.send("g", "ann", "one")
    await world.work(1_000)

    bodies = [push.body for _, push in world.provider.sent if push.token == "cat's phone"]
    assert bodies == ["ann: one", "ann: one", "ann: two"]
    assert await world.store.deliveries.lag() == base.DeliveryLag(0, None, 0)


async def test_dead_letters_are_kept_for_so_long(world: World) -> None:
    world.worker = world.another_worker(dead_letters_s=10_000.0)
    answering(world, "cat's phone", Refused("too large"))
    await world.send("g", "ann", "hello")
    await world.work(9_000)
    assert (await world.store.deliveries.lag()).dead == 1
    await world.work(6_000)

    assert (await world.store.deliveries.lag()).dead == 0


async def test_a_provider_that_is_not_here_may_be_at_another_worker(world: World) -> None:
    here = DeliveryWorker(world.store, {}, ports=Ports(CLOCK))
    await world.send("g", "ann", "hello")
    with anyio.move_on_after(10):
        await here.run()
    assert here.counts["retried"] >= 3
    await world.work(100)

    assert len(world.provider.sent) == 3


async def test_a_worker_that_dies_leaves_its_work_to_others(world: World) -> None:
    async def never(push: Push) -> Result:
        await anyio.sleep_forever()
        raise AssertionError

    world.provider.answer = never
    await world.send("g", "ann", "hello")
    await world.work(10)  # and is cancelled in the middle
    world.provider.answer = world.provider.delivered
    world.provider.sent.clear()
    world.worker = world.another_worker(2)
    await world.work(100)
    assert world.provider.sent == []
    await world.work(100)

    assert len(world.provider.sent) == 3, "after the lease"


async def test_a_provider_that_hangs_keeps_nobody_else_waiting(world: World) -> None:
    """Pushes of another provider leave at once, and its own are tried again."""
    other = ScriptedProvider()
    hang = True

    async def answer(push: Push) -> Result:
        if hang:
            await anyio.sleep_forever()
        return Delivered("id")

    world.provider.answer = answer
    world.worker = world.another_worker(providers={"other": other})
    await world.do(base.RegisterPush("cat", "phone", "other", "cat's other", False, CLOCK.now_ms()))
    await world.send("g", "ann", "hello")
    await world.work(60)
    assert [push.token for _, push in other.sent] == ["cat's other"]
    await anyio.sleep(200)  # the worker was ended in the middle: its lease ends
    hang = False
    world.provider.sent.clear()
    await world.work(300)

    assert {push.token for _, push in world.provider.sent} == {"bob's phone", "bob's tablet"}
    assert len(other.sent) == 1


@pytest.mark.parametrize("batch", [1, 50])
async def test_a_bug_of_a_provider_costs_its_own_pushes(
    world: World, batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    other = ScriptedProvider()

    async def answer(push: Push) -> Result:
        raise RuntimeError("a bug")

    world.worker = world.another_worker(batch=batch, providers={"other": other}, ttl_s=500.0)
    world.provider.answer = answer
    await world.do(base.RegisterPush("cat", "phone", "other", "cat's other", False, CLOCK.now_ms()))
    await world.send("g", "ann", "hello")
    await world.work(5_000)

    assert [push.token for _, push in other.sent] == ["cat's other"]
    assert "a bug" in caplog.text
    assert (await world.store.deliveries.lag()).waiting == 0


async def test_results_that_do_not_fit_are_no_answer(world: World) -> None:
    async def too_few(batch: Sequence[Push]) -> list[Result]:
        return []

    world.provider.send = too_few  # type: ignore[method-assign]
    await world.send("g", "ann", "hello")
    await world.work(10)
    assert world.worker.counts["retried"] >= 3


async def test_what_is_no_result_costs_its_own_push_and_no_other_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    other, seen = ScriptedProvider(), Recorder()
    answers: list[Any] = [None, "taken", Delivered, Busy(1.0), Taken("id")]

    async def answer(push: Push) -> Result:
        result: Result = answers.pop(0)
        return result

    other.answer = answer
    world.instruments = [seen]
    world.worker = world.another_worker(providers={"other": other})
    await world.do(base.RegisterPush("cat", "phone", "other", "cat's other", False, CLOCK.now_ms()))
    await world.send("g", "ann", "hello")
    await world.work(1_000)

    assert {push.token for _, push in world.provider.sent} == {"bob's phone", "bob's tablet"}
    assert len(world.provider.sent) == 2, "once each"
    assert len(other.sent) == 5 and answers == []
    assert caplog.text.count("the provider other gave no result") == 3
    kinds = [it.kind for batch in seen.named("pushed") if batch.provider == "other" for it in batch.outcomes]
    assert kinds == ["unknown", "unknown", "unknown", "retry", "delivered"]


@pytest.mark.parametrize("name", ["targets", "newest", "unread"])
async def test_a_conversation_that_cannot_be_looked_at_costs_no_other_one(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await world.group("h", "ann", "cat")
    bad = world.store.deliveries
    inner = getattr(bad, name)
    keys: set[int] = set()

    async def call(*args: Any) -> Any:
        found = await inner(*args)
        keys.update(it.conversation_key for it in args[0] if getattr(it, "conversation_id", "") == "h")
        if any(getattr(it, "conversation_id", "") == "h" or it == "cat" for it in args[0]):
            raise RuntimeError("a row that cannot be read")
        return found

    monkeypatch.setattr(bad, name, call)
    world.worker = world.another_worker(attempts_max=3, lease_s=60.0)
    await world.send("h", "ann", "hello")
    if name != "unread":
        await world.send("g", "ann", "hello")
    else:
        await world.single("s", "ann", "bob")
        await world.send("s", "ann", "hello")
    await world.work(2_000)

    assert len([push for _, push in world.provider.sent if push.conversation_id != "h"]) == (
        2 if name == "unread" else 3
    )
    (dead,) = await world.store.deliveries.dead_letters(9)
    assert (dead.conversation_id, dead.user_id) == ("h", "")
    assert dead.reason == "given out 3 times and never finished"
    assert (await world.store.deliveries.lag()).waiting == 0


async def test_a_large_group_at_a_slow_provider_is_told_once(world: World) -> None:
    users = [f"u{number:03}" for number in range(400)]
    for user in users:
        await world.device(user)

    async def slowly(batch: Sequence[Push]) -> list[Result]:
        world.provider.sent += [(CLOCK.now_ms(), push) for push in batch]
        await anyio.sleep(15)
        return [Delivered()] * len(batch)

    world.provider.send = slowly  # type: ignore[method-assign]
    await world.group("big", "ann", *users)
    await world.send("big", "ann", "hello")
    await world.work(1_000)

    told = [push.token for _, push in world.provider.sent if push.conversation_id == "big"]
    assert sorted(told) == [f"{user}'s phone" for user in users]


async def test_words_that_hang_for_many_cost_nobody_else_theirs(world: World) -> None:
    users = [f"u{number:03}" for number in range(300)]
    for user in users:
        await world.device(user)

    async def compose(notice: Notice) -> PushText:
        if notice.user_id != "u299":
            await anyio.sleep_forever()
        return PushText("hello")

    world.worker = world.another_worker(compose=compose)
    await world.group("big", "ann", *users)
    await world.send("big", "ann", "hello")
    await world.work(400)

    assert [push.token for _, push in world.provider.sent] == ["u299's phone"]


async def test_a_finish_that_is_refused_once_pushes_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, refused = world.store.deliveries.finish, []

    async def finish(*args: Any) -> int:
        if not refused:
            refused.append(args)
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        return await inner(*args)

    monkeypatch.setattr(world.store.deliveries, "finish", finish)
    await world.send("g", "ann", "hello")
    await world.work(1_000)

    assert refused and len(world.provider.sent) == 3


async def test_a_second_look_that_is_refused_is_taken_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inner, looks = world.store.deliveries.targets, 0

    async def targets(*args: Any) -> list[base.PushTarget]:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        return await inner(*args)

    monkeypatch.setattr(world.store.deliveries, "targets", targets)
    await world.send("g", "ann", "hello")
    await world.work(20)

    assert looks > 2 and len(world.provider.sent) == 3
    assert world.worker.counts["retried"] == 3
    assert "Traceback" not in caplog.text


async def test_a_token_that_cannot_be_dropped_now_pushes_nobody_else_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = world.store.commit
    answering(world, "cat's phone", Dead("gone"))
    await world.send("g", "ann", "hello")

    async def refuse(commands: Sequence[base.Command]) -> list[base.Outcome]:
        raise UnavailableError("the disk refuses", retry_after_s=0.5)

    monkeypatch.setattr(world.store, "commit", refuse)
    await world.work(1_000)
    monkeypatch.setattr(world.store, "commit", commit)

    assert len(world.provider.sent) == 3


async def test_the_push_that_replaces_recalled_words_has_an_id_of_its_own(world: World) -> None:
    await world.send("g", "ann", "first")
    await world.work()
    message_id = await world.send("g", "ann", "secret")
    await world.work()
    await world.recall(message_id, "ann")
    await world.work()

    ids = [push.id for _, push in world.provider.sent if push.token == "cat's phone"]
    assert len(ids) == len({*ids}) == 3


async def test_a_message_is_found_behind_many_changes_of_members(world: World) -> None:
    await world.send("g", "ann", "hello")
    for number in range(60):
        await world.do(base.AddMembers("g", "ann", (f"new {number}",), 999, CLOCK.now_ms()))
    await world.work()

    assert len(world.provider.sent) == 3


async def test_who_asks_meanwhile_for_pushes_without_words_gets_none_with(world: World) -> None:
    async def compose(notice: Notice) -> PushText:
        if notice.user_id == "cat" and not notice.hide_body:
            await world.device("cat", hide_body=True)
        return PushText("title", notice.payload.get("text"))

    world.worker = world.another_worker(compose=compose)
    await world.send("g", "ann", "secret")
    await world.work(100)

    assert [it[2] for it in world.provider.shown() if it[0] == "cat's phone"] in ([], [None])


async def test_it_ends_when_what_is_under_way_is_noted(world: World) -> None:
    async def slowly(push: Push) -> Result:
        await anyio.sleep(3)
        return Delivered()

    world.provider.answer = slowly
    await world.send("g", "ann", "hello")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.worker.run)
        await anyio.sleep(7)
        await world.send("g", "ann", "later")
        world.worker.stop()
        await world.worker.ended()
    assert world.worker.counts["pushed"] == 3
    assert (await world.store.deliveries.lag()).waiting == 1, "what came later is for another one"


async def test_a_store_that_refuses_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def refuse(name: str, times: int) -> None:
        inner = getattr(world.store.deliveries, name)

        async def call(*args: Any) -> Any:
            if refused.count(name) < times:
                refused.append(name)
                raise UnavailableError("the disk refuses", retry_after_s=0.5)
            return await inner(*args)

        monkeypatch.setattr(world.store.deliveries, name, call)

    for name in ("claim", "targets", "finish"):
        refuse(name, 2)
    await world.send("g", "ann", "hello")
    await world.work(2_000)

    assert sorted(set(refused)) == ["claim", "finish", "targets"]
    assert {push.token for _, push in world.provider.sent} == {"bob's phone", "bob's tablet", "cat's phone"}
    assert len({push.id for _, push in world.provider.sent}) == 3, "a push whose finish failed is known again"
    assert (await world.store.deliveries.lag()).waiting == 0


# --- several workers ---


async def test_two_workers_share_and_do_nothing_twice(world: World) -> None:
    for number in range(150):
        await world.single(f"s{number}", f"from {number}", f"to {number}")
        await world.device(f"to {number}")
        await world.send(f"s{number}", f"from {number}", "hello")

    async def slowly(push: Push) -> Result:
        await anyio.sleep(0.01)
        return Delivered("id")

    world.provider.answer = slowly
    workers = [world.another_worker(seed, batch=10) for seed in (1, 2)]
    with anyio.move_on_after(100):
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(worker.run)

    assert sorted(push.token for _, push in world.provider.sent) == sorted(
        f"to {number}'s phone" for number in range(150)
    )
    assert all(worker.counts["pushed"] > 20 for worker in workers)
    assert (await world.store.deliveries.lag()).waiting == 0


def test_wrong_arguments_are_refused() -> None:
    store = MemoryStore(ids=SystemIds())

    class Other:
        async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
            return []

    wrong: list[tuple[Any, Any, dict[str, Any]]] = [
        (None, {}, {}),
        (Other(), {}, {}),
        (store, [], {}),
        (store, {"log": None}, {}),
        (store, {"Big Letters": ScriptedProvider()}, {}),
        (store, {1: ScriptedProvider()}, {}),
        (store, {}, {"compose": "words"}),
        (store, {}, {"config": {}}),
    ]
    for parts, providers, more in wrong:
        with pytest.raises(ConfigurationError):
            DeliveryWorker(parts, providers, **more)
