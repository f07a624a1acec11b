"""What a store promises to delivery workers: claims, whom to push to, mutes and push tokens. Used by `storage`."""

from __future__ import annotations

from typing import Any

from ...errors import BannedError, NotFoundError, TokenRevokedError
from ...storage import base
from ...storage.base import Claim, ClaimTerms, Finished, LaterDelivery, PushTarget, Store
from .storage_commands import (
    NOW,
    add,
    ban,
    confirm,
    delivered,
    device,
    do,
    edited,
    group,
    one,
    pinned,
    reacted,
    read,
    recall,
    refused,
    remove,
    revoke,
    send,
    single,
    text,
    title_entry,
)

AFTER = 5_000
LEASE = 60_000


def terms(at_ms: int, ticket: int = 1) -> ClaimTerms:
    """What a worker asks for at a time."""
    return ClaimTerms(at_ms, AFTER, LEASE, ticket)


def reached(user: str, device_id: str = "phone", by: str | None = None, **more: object) -> base.RegisterPush:
    """A device says by which token it is reached; by itself that one says whose it is."""
    name = by or f"token of {user}'s {device_id}"
    return base.RegisterPush(user, device_id, "log", name, False, NOW, **more)  # type: ignore[arg-type]


def muted(conversation_id: str, user: str, until_ms: int) -> base.Mute:
    """A member is not to be woken."""
    return base.Mute(conversation_id, user, until_ms)


async def claimed(store: Store, at_ms: int, ticket: int = 1, limit: int = 10) -> dict[str, Claim]:
    """What a worker is given, by conversation."""
    return {it.conversation_id: it for it in await store.deliveries.claim(terms(at_ms, ticket), limit)}


async def whom(store: Store, *claims: Claim, now_ms: int = NOW) -> list[tuple[str, str]]:
    """Whom to push to."""
    return [(it.user_id, it.device_id) for it in await store.deliveries.targets(claims, now_ms)]


async def handled(store: Store, at_ms: int, ticket: int = 1) -> None:
    """A worker takes everything that is due, and is done with it."""
    claims = await store.deliveries.claim(terms(at_ms, ticket), 100)
    assert await store.deliveries.finish(ticket, [Finished(it, at_ms) for it in claims]) == len(claims)


class DeliveryContract:
    """Entries are given out to workers, each to one at a time, until they are done with."""

    async def test_entries_are_given_out_once_they_are_old_enough(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k", at_ms=NOW + 7))

        assert await claimed(store, NOW + AFTER - 1) == {}
        claim = (await claimed(store, NOW + AFTER))["g"]
        assert (claim.type, claim.title, claim.member_count) == ("GROUP", "title", 2)
        assert (claim.after_seq, claim.head_seq, claim.attempt) == (0, 1, 1)
        assert (claim.user_id, claim.device_id) == ("", "")

    async def test_what_one_worker_has_nobody_else_is_given_until_its_time_is_over(
        self, store: Store
    ) -> None:
        await do(store, group("g", "ann", "bob"))
        first = (await claimed(store, NOW + AFTER))["g"]

        assert await claimed(store, NOW + 2 * AFTER + LEASE - 1, ticket=2) == {}
        impatient = ClaimTerms(NOW + AFTER + LEASE - 1, 0, LEASE, 3)
        assert await store.deliveries.claim(impatient, 10) == [], "whatever its own terms are"
        second = (await claimed(store, NOW + 2 * AFTER + LEASE, ticket=2))["g"]
        assert second.attempt == 2
        assert await store.deliveries.finish(1, [Finished(first, NOW)]) == 0, "it was given to another one"
        assert await store.deliveries.finish(2, [Finished(second, NOW)]) == 1
        assert await store.deliveries.finish(2, [Finished(second, NOW)]) == 0, "twice is once"

    async def test_what_is_finished_is_given_out_again_only_with_what_is_new(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        await handled(store, NOW + AFTER)
        assert await claimed(store, NOW + 10 * LEASE) == {}
        await do(
            store, send("g", "ann", "k", at_ms=NOW + LEASE), send("g", "ann", "l", at_ms=NOW + LEASE + 1)
        )

        assert await claimed(store, NOW + LEASE + AFTER - 1) == {}
        claim = (await claimed(store, NOW + LEASE + AFTER + 1))["g"]
        assert (claim.after_seq, claim.head_seq, claim.attempt) == (1, 3, 1)

    async def test_what_came_meanwhile_is_due_by_its_own_time(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        claim = (await claimed(store, NOW + AFTER))["g"]
        await do(store, send("g", "ann", "k", at_ms=NOW + 1000), send("g", "ann", "l", at_ms=NOW + 2000))
        assert await store.deliveries.finish(1, [Finished(claim, NOW)]) == 1

        assert await claimed(store, NOW + 1000 + AFTER - 1) == {}
        claim = (await claimed(store, NOW + 1000 + AFTER))["g"]
        assert (claim.after_seq, claim.head_seq) == (1, 2)

    async def test_what_everybody_confirmed_is_not_given_out(self, store: Store) -> None:
        await do(store, device("ann"), device("bob"), group("g", "ann", "bob"), send("g", "ann", "k"))
        claim = (await claimed(store, NOW + AFTER))["g"]
        await do(store, delivered("g", "ann", 2), delivered("g", "bob", 2))

        assert await store.deliveries.finish(1, [Finished(claim, NOW)]) == 0
        assert await claimed(store, NOW + 10 * LEASE) == {}
        assert await store.deliveries.lag() == base.DeliveryLag(0, None, 0)
        await do(store, send("g", "ann", "l", at_ms=NOW + LEASE))
        claim = (await claimed(store, NOW + LEASE + AFTER, ticket=2))["g"]
        assert (claim.after_seq, claim.attempt) == (2, 1)
        late = Finished(claim, NOW)
        assert await store.deliveries.finish(1, [late]) == 0, "an old ticket is no key to a new entry"

    async def test_what_nobody_is_left_for_is_not_given_out(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        await do(store, remove("g", None, "ann"))
        await do(store, base.Recall(sent.entry.message_id, None, 0, NOW))

        assert await claimed(store, NOW + 10 * LEASE) == {}
        assert await store.deliveries.lag() == base.DeliveryLag(0, None, 0)

    async def test_what_is_confirmed_meanwhile_need_not_be_looked_at(self, store: Store) -> None:
        await do(store, device("ann"), device("bob"), group("g", "ann", "bob"))
        await do(
            store, send("g", "ann", "k", at_ms=NOW + 1000), *(delivered("g", it, 1) for it in ("ann", "bob"))
        )

        assert await claimed(store, NOW + 1000 + AFTER - 1) == {}
        claim = (await claimed(store, NOW + 1000 + AFTER))["g"]
        assert (claim.after_seq, claim.head_seq) == (1, 2)
        await do(
            store, send("g", "ann", "l", at_ms=NOW + 2000), *(delivered("g", it, 2) for it in ("ann", "bob"))
        )
        assert await claimed(store, NOW + 2000 + AFTER, ticket=2) == {}, "it is left to its worker"
        assert await store.deliveries.finish(1, [Finished(claim, NOW)]) == 1
        claim = (await claimed(store, NOW + 2000 + AFTER))["g"]
        assert (claim.after_seq, claim.head_seq) == (2, 3)

    async def test_what_is_too_new_is_left_for_later(self, store: Store) -> None:
        """In a busy group somebody is always about to confirm the newest entry."""
        await do(
            store, *(device(it) for it in ("ann", "bob")), reached("bob"), group("g", "ann", "bob", "cat")
        )
        await do(store, send("g", "ann", "k", at_ms=NOW + 4000), delivered("g", "bob", 1))
        claim = (await claimed(store, NOW + AFTER))["g"]
        assert (claim.after_seq, claim.head_seq) == (0, 1)
        later = LaterDelivery("bob", "phone", NOW + AFTER + 10, "busy")
        assert await store.deliveries.finish(1, [Finished(claim, NOW, (later,))]) == 1

        (again,) = await store.deliveries.claim(terms(NOW + AFTER + 10), 10)
        assert (again.user_id, again.head_seq) == ("bob", 1)
        claim = (await claimed(store, NOW + 4000 + AFTER))["g"]
        assert (claim.after_seq, claim.head_seq) == (1, 2)

    async def test_half_are_the_oldest_and_half_the_newest(self, store: Store) -> None:
        await do(store, *(group(f"g{n}", "ann", "bob", at_ms=NOW + n) for n in range(10)))

        assert set(await claimed(store, NOW + LEASE, limit=4)) == {"g0", "g1", "g8", "g9"}
        assert set(await claimed(store, NOW + LEASE, limit=1)) == {"g7"}
        assert set(await claimed(store, NOW + LEASE, limit=100)) == {"g2", "g3", "g4", "g5", "g6"}

    async def test_conversations_may_be_asked_for_by_name(self, store: Store) -> None:
        await do(store, *(group(f"g{n}", "ann", "bob") for n in range(4)))
        named = terms(NOW + AFTER)

        found = await store.deliveries.claim(named, 1, ["g1", "g3", "nowhere"])
        assert {it.conversation_id for it in found} == {"g1", "g3"}
        assert await store.deliveries.claim(named, 1, ["g1"]) == []
        early = terms(NOW + AFTER - 1)
        assert await store.deliveries.claim(early, 1, ["g0"]) == []
        assert set(await claimed(store, NOW + AFTER)) == {"g0", "g2"}

    async def test_pushed_to_are_devices_with_a_token_that_lack_something(self, store: Store) -> None:
        users = ("ann", "bob", "cat", "dan", "eve")
        await do(store, *(device(user) for user in users), device("bob", "tablet"), device("bob", "pc"))
        await do(store, group("g", *users[:4]), send("g", "ann", "k"), send("g", "ann", "l"))
        await do(store, *(reached(user) for user in users), reached("bob", "tablet"))
        await do(
            store, delivered("g", "bob", 2), delivered("g", "ann", 3), delivered("g", "bob", 3, "tablet")
        )
        await do(store, read("g", "cat", 3))
        claim = (await claimed(store, NOW + AFTER))["g"]

        assert await whom(store, claim) == [("bob", "phone"), ("dan", "phone")]
        (bob, dan) = await store.deliveries.targets([claim], NOW)
        assert bob == PushTarget(
            claim.conversation_key, "bob", "phone", "log", "token of bob's phone", False, NOW, 1, 0, 2, ()
        )
        assert (dan.delivered_seq, dan.read_seq) == (0, 0)

    async def test_single_confirmations_are_told(self, store: Store) -> None:
        await do(store, device("bob"), reached("bob"), group("g", "ann", "bob"))
        await do(store, delivered("g", "bob", 1), send("g", "ann", "k"))
        sent = await one(store, send("g", "ann", "l"), base.Appended)
        await do(store, confirm(sent.entry.message_id, "bob"))
        claim = (await claimed(store, NOW + AFTER))["g"]

        (bob,) = await store.deliveries.targets([claim], NOW)
        assert (bob.delivered_seq, bob.exact) == (1, (3,))

    async def test_pushed_to_are_current_members(self, store: Store) -> None:
        await do(store, *(device(it) for it in ("bob", "cat")), reached("bob"), reached("cat"))
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob", "cat"))
        await do(store, remove("g", "ann", "bob"), add("g", "ann", "cat"))
        claims = await claimed(store, NOW + AFTER)

        assert await whom(store, claims["g"]) == [("cat", "phone")]
        assert await whom(store, claims["g"], claims["h"]) == [
            ("cat", "phone"),
            ("bob", "phone"),
            ("cat", "phone"),
        ]
        (cat,) = await store.deliveries.targets([claims["g"]], NOW)
        assert cat.join_seq == 3

    async def test_a_device_that_could_not_be_pushed_to_comes_again_by_itself(self, store: Store) -> None:
        await do(store, *(device(it) for it in ("bob", "cat")), reached("bob"), reached("cat"))
        await do(store, group("g", "ann", "bob", "cat"), send("g", "ann", "k"))
        claim = (await claimed(store, NOW + AFTER))["g"]
        later = LaterDelivery("bob", "phone", NOW + 90_000, "busy")
        assert await store.deliveries.finish(1, [Finished(claim, NOW + 7, (later,))]) == 1

        assert await claimed(store, NOW + 90_000 - 1) == {}
        (again,) = await store.deliveries.claim(terms(NOW + 90_000), 10)
        assert (again.user_id, again.device_id, again.after_seq, again.head_seq) == ("bob", "phone", 0, 2)
        assert (again.attempt, again.since_ms) == (2, NOW + 7)
        assert await whom(store, again) == [("bob", "phone")]
        assert await claimed(store, NOW + 90_000 + LEASE - 1) == {}
        (once_more,) = await store.deliveries.claim(terms(NOW + 90_000 + LEASE, ticket=2), 10)
        assert once_more.attempt == 3
        assert await store.deliveries.finish(1, [Finished(again, NOW)]) == 0
        assert await store.deliveries.finish(2, [Finished(once_more, NOW)]) == 1
        assert await store.deliveries.lag() == base.DeliveryLag(0, None, 0)

    async def test_what_came_while_a_device_was_worked_on_comes_to_it_too(self, store: Store) -> None:
        """Whoever looked at all members left it out, for it was to come again anyway."""
        await do(store, *(device(it) for it in ("bob", "cat")), reached("bob"), reached("cat"))
        await do(store, group("g", "ann", "bob", "cat"))
        claim = (await claimed(store, NOW + AFTER))["g"]
        later = LaterDelivery("bob", "phone", NOW + 10_000, "busy")
        await store.deliveries.finish(1, [Finished(claim, NOW, (later,))])
        (again,) = await store.deliveries.claim(terms(NOW + 10_000, ticket=2), 10)
        await do(store, send("g", "ann", "k", at_ms=NOW + 11_000))
        claim = (await claimed(store, NOW + 11_000 + AFTER))["g"]
        assert await whom(store, claim) == [("cat", "phone")]
        await store.deliveries.finish(1, [Finished(claim, NOW)])
        assert await store.deliveries.finish(2, [Finished(again, NOW + 20_000)]) == 1

        assert await store.deliveries.lag() == base.DeliveryLag(1, NOW + 11_000 + AFTER, 0)
        assert await store.deliveries.claim(terms(NOW + 11_000 + AFTER - 1), 10) == []
        (new,) = await store.deliveries.claim(terms(NOW + 11_000 + AFTER), 10)
        assert (new.user_id, new.after_seq, new.head_seq, new.attempt) == ("bob", 1, 2, 1)
        assert await whom(store, new) == [("bob", "phone")]
        assert await store.deliveries.finish(1, [Finished(new, NOW)]) == 1
        assert await store.deliveries.lag() == base.DeliveryLag(0, None, 0)

    async def test_what_came_while_a_device_was_given_up_comes_to_it_all_the_same(self, store: Store) -> None:
        await do(store, *(device(it) for it in ("bob", "cat")), reached("bob"), reached("cat"))
        await do(store, group("g", "ann", "bob", "cat"), group("h", "ann", "bob"))
        claims = await claimed(store, NOW + AFTER)
        later = LaterDelivery("bob", "phone", NOW + 10_000, "busy")
        await store.deliveries.finish(1, [Finished(it, NOW, (later,)) for it in claims.values()])
        again = await store.deliveries.claim(terms(NOW + 10_000, ticket=2), 10)
        await do(store, send("g", "ann", "k", at_ms=NOW + 11_000))
        claim = (await claimed(store, NOW + 11_000 + AFTER))["g"]
        assert await whom(store, claim) == [("cat", "phone")]
        await store.deliveries.finish(1, [Finished(claim, NOW)])
        dead = LaterDelivery("bob", "phone", None, "too large")
        given_up = [Finished(it, NOW + 20_000, (dead,)) for it in again]
        assert await store.deliveries.finish(2, given_up) == 2

        assert await store.deliveries.lag() == base.DeliveryLag(1, NOW + 11_000 + AFTER, 1)
        (letter,) = await store.deliveries.dead_letters(10)
        assert (letter.conversation_id, letter.reason) == ("h", "too large"), "nothing came behind it"
        (new,) = await store.deliveries.claim(terms(NOW + 11_000 + AFTER), 10)
        assert (new.user_id, new.after_seq, new.head_seq, new.attempt) == ("bob", 1, 2, 1)
        assert new.since_ms == NOW + 20_000, "it is tried as long as any other"
        assert await store.deliveries.finish(1, [Finished(new, NOW + 30_000, (dead,))]) == 1
        assert [it.after_seq for it in await store.deliveries.dead_letters(10)] == [0, 1]

    async def test_it_is_told_which_conversations_wait(self, store: Store) -> None:
        await do(store, *(group(name, "ann", "bob") for name in "gh"))
        assert await store.deliveries.waiting(["g", "h", "nowhere", "g"]) == {"g", "h"}
        (claim,) = await store.deliveries.claim(terms(NOW + AFTER), 10, ["g"])
        assert await store.deliveries.waiting(["g"]) == {"g"}
        await store.deliveries.finish(1, [Finished(claim, NOW)])
        assert await store.deliveries.waiting(["g", "h"]) == {"h"}
        assert await store.deliveries.waiting([]) == set()

    async def test_who_comes_again_anyway_is_left_out_of_what_is_new(self, store: Store) -> None:
        await do(store, *(device(it) for it in ("bob", "cat")), reached("bob"), reached("cat"))
        await do(store, group("g", "ann", "bob", "cat"))
        claim = (await claimed(store, NOW + AFTER))["g"]
        later = LaterDelivery("bob", "phone", NOW + 90_000, "busy")
        await store.deliveries.finish(1, [Finished(claim, NOW, (later,))])
        await do(store, send("g", "ann", "k", at_ms=NOW + 10_000))
        claim = (await claimed(store, NOW + 10_000 + AFTER))["g"]

        assert await whom(store, claim) == [("cat", "phone")]
        (again,) = [it for it in await store.deliveries.claim(terms(NOW + 90_000), 10) if it.user_id]
        assert (again.after_seq, again.head_seq) == (0, 2), "it is pushed what is new then, too"

    async def test_what_is_given_up_is_kept_until_it_is_discarded(self, store: Store) -> None:
        await do(store, device("bob"), reached("bob"), group("g", "ann", "bob"), group("h", "ann", "bob"))
        claims = await claimed(store, NOW + AFTER)
        dead = LaterDelivery("bob", "phone", None, "too large")
        whole = LaterDelivery("", "", None, "damaged")
        await store.deliveries.finish(1, [Finished(claims["g"], NOW + 1, (dead,))])
        await store.deliveries.finish(1, [Finished(claims["h"], NOW + 2, (whole,))])

        assert await store.deliveries.lag() == base.DeliveryLag(0, None, 2)
        assert await claimed(store, NOW + 10 * LEASE) == {}
        found = await store.deliveries.dead_letters(10)
        assert found == [
            base.DeadLetter("g", "bob", "phone", 0, 1, NOW + 1, "too large"),
            base.DeadLetter("h", "", "", 0, 1, NOW + 2, "damaged"),
        ]
        assert await store.deliveries.dead_letters(1) == found[:1]
        await do(store, send("g", "ann", "k", at_ms=NOW + LEASE))
        (claim,) = (await claimed(store, NOW + LEASE + AFTER)).values()
        assert await whom(store, claim) == [("bob", "phone")], "what is new is tried"
        assert await store.deliveries.discard_dead_letters(NOW + 2) == 1
        assert await store.deliveries.dead_letters(10) == found[1:]

    async def test_the_lag_says_how_many_wait_and_since_when(self, store: Store) -> None:
        assert await store.deliveries.lag() == base.DeliveryLag(0, None, 0)
        await do(store, group("g", "ann", "bob", at_ms=NOW + 3), group("h", "ann", "bob", at_ms=NOW + 5))

        assert await store.deliveries.lag() == base.DeliveryLag(2, NOW + 3, 0)
        await handled(store, NOW + 3 + AFTER)
        assert await store.deliveries.lag() == base.DeliveryLag(1, NOW + 5, 0)


class NoticeContract:
    """What pushes are made of."""

    async def test_the_newest_entries_are_told_without_words(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann"))
        sent = await one(store, send("g", "ann", "secret", at_ms=NOW + 1), base.Appended)
        await do(store, send("g", "bob", "k"), recall(sent.entry.message_id, "ann", NOW + 2))
        claims = await claimed(store, NOW + LEASE)
        await do(store, send("g", "bob", "not asked for"))

        marks = await store.deliveries.newest([claims["g"]], 3)
        assert [(it.seq, it.kind, it.sender_id, it.is_recalled, it.recalls_seq) for it in marks] == [
            (2, "USER", "ann", True, None),
            (3, "USER", "bob", False, None),
            (4, "RECALL", "ann", False, 2),
        ]
        assert (marks[0].message_id, marks[0].server_ts) == (sent.entry.message_id, NOW + 1)
        assert "secret" not in repr(marks)
        both = await store.deliveries.newest([*claims.values()], 100)
        assert [it.seq for it in both] == [2, 3, 4], "changes of members are none of it"

    async def test_what_is_no_message_takes_no_place_among_the_newest(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = (await one(store, send("g", "ann", "k"), base.Appended)).entry.message_id
        toggled = [reacted("g", "bob", name, "+1", removed=n % 2 == 1, key=f"r{n}") for n in range(4)]
        await do(store, *toggled, edited("g", "ann", name), pinned("g", "ann", name))
        await do(store, base.UpdateConversation("g", "ann", title_entry("new"), None, NOW))
        claims = await claimed(store, NOW + LEASE)

        assert [it.seq for it in await store.deliveries.newest([claims["g"]], 1)] == [2]
        key = claims["g"].conversation_key
        found = {
            it.seq: it.kind for it in await store.deliveries.marks([(key, 7), (key, 2), (key, 2), (key, 99)])
        }
        assert found == {2: "USER", 7: "EDIT"}
        assert await store.deliveries.marks([]) == []

    async def test_payloads_are_given_but_of_what_was_recalled(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "one"))
        sent = await one(store, send("g", "ann", "two"), base.Appended)
        key = (await claimed(store, NOW + LEASE))["g"].conversation_key

        assert await store.deliveries.payloads([(key, 2), (key, 3), (key, 3)]) == {
            (key, 2): text("one"),
            (key, 3): text("two"),
        }
        await do(store, recall(sent.entry.message_id, "ann"))
        assert await store.deliveries.payloads([(key, 2), (key, 3)]) == {(key, 2): text("one")}
        await do(store, base.Expire("g", 2, None, NOW))
        assert await store.deliveries.payloads([(key, 2), (key, 3)]) == {}, "it has expired"
        assert await store.deliveries.payloads([]) == {}

    async def test_unread_messages_are_summed_over_what_is_not_muted(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), group("h", "ann", "bob"), group("i", "ann", "bob"))
        await do(store, *(send(name, "ann", key) for name in "ghi" for key in "kl"), send("g", "bob", "m"))
        await do(store, read("g", "bob", 2), muted("i", "bob", NOW + 9), remove("h", "ann", "bob"))

        async def unread(*users: str, now_ms: int = NOW) -> dict[str, int]:
            found = await store.deliveries.unread(users, now_ms)
            return {user: count for user, count in found.items() if count}

        assert await unread("ann", "bob", "cat", "nobody") == {"ann": 1, "bob": 1, "cat": 3}
        assert await unread("bob", "bob", now_ms=NOW + 9) == {"bob": 3}
        assert await unread() == {}


class PushTokenContract:
    """Where devices are reached when they sleep."""

    async def reached_by(self, store: Store) -> list[tuple[str, str, str]]:
        """Every device with a token, of the members of one conversation in which nobody has anything."""
        users = ("ann", "bob", "cat")
        await do(store, base.CreateConversation("all", "GROUP", "dan", ("dan", *users), "", "e1", 9, NOW))
        (claim,) = await store.deliveries.claim(terms(NOW + 10 * LEASE), 10, ["all"])
        found = await store.deliveries.targets([claim], NOW)
        return [(it.user_id, it.device_id, it.token) for it in found]

    async def test_a_device_has_one_token_and_a_token_one_device(self, store: Store) -> None:
        await do(store, reached("ann", by="1"), reached("bob", by="2"), reached("bob", "tablet", by="3"))
        await do(store, reached("ann", by="4"))
        await do(store, reached("cat", by="2"))

        assert await self.reached_by(store) == [
            ("ann", "phone", "4"),
            ("bob", "tablet", "3"),
            ("cat", "phone", "2"),
        ]

    async def test_one_batch_is_as_many_would_be(self, store: Store) -> None:
        await do(store, reached("ann", by="1"), reached("bob", by="1"), base.UnregisterPush("bob", "phone"))
        await do(store, base.UnregisterPush("cat", "phone"), reached("cat", by="2"))

        assert await self.reached_by(store) == [("cat", "phone", "2")]

    async def test_another_providers_token_is_another_one(self, store: Store) -> None:
        await do(store, reached("ann", by="1"))
        await do(store, base.RegisterPush("bob", "phone", "other", "1", True, NOW))
        await self.reached_by(store)
        (claim,) = await store.deliveries.claim(terms(NOW + 100 * LEASE), 10, ["all"])

        (ann, bob) = await store.deliveries.targets([claim], NOW)
        assert (ann.provider, ann.hide_body) == ("log", False)
        assert (bob.provider, bob.hide_body) == ("other", True)

    async def test_it_is_forgotten_on_request(self, store: Store) -> None:
        await do(store, reached("ann"), reached("bob", by="2"), reached("cat", by="3"))
        await do(store, base.UnregisterPush("ann", "phone"), base.UnregisterPush("ann", "never"))
        await do(store, base.UnregisterPush("bob", "phone", "another"))
        await do(store, base.UnregisterPush("cat", "phone", "3", NOW - 1))

        assert await self.reached_by(store) == [("bob", "phone", "2"), ("cat", "phone", "3")]
        await do(store, base.UnregisterPush("bob", "phone", "2", NOW))
        await do(store, base.UnregisterPush("cat", "phone", "3"))
        (claim,) = await store.deliveries.claim(terms(NOW + 100 * LEASE), 10, ["all"])
        assert await store.deliveries.targets([claim], NOW) == []

    async def test_it_goes_with_the_device(self, store: Store) -> None:
        rule = base.DeviceRule(devices_max=2)
        await do(store, reached("ann", "1"), reached("ann", "2", rule=rule))
        await do(store, reached("ann", "3", rule=rule))

        assert [it[1] for it in await self.reached_by(store)] == ["2", "3"]

    async def test_whoever_is_sent_away_is_pushed_to_no_more(self, store: Store) -> None:
        for user in ("ann", "bob", "cat"):
            await do(store, device(user), *(reached(user, it) for it in ("phone", "tablet")))
        await do(store, revoke("ann", "phone"), revoke("bob"), ban("cat"))
        await do(store, base.Revoke("DISCONNECTED", "ann", "tablet", b"", None, NOW))

        assert await self.reached_by(store) == [("ann", "tablet", "token of ann's tablet")]

    async def test_whoever_was_sent_away_meanwhile_registers_nothing(self, store: Store) -> None:
        login: dict[str, Any] = {"token_hash": b"login", "issued_ms": NOW - 1}
        await do(store, ban("ann"), revoke("bob"), revoke(token=b"login"))
        await refused(store, reached("ann"), BannedError)
        await refused(store, reached("bob", **(login | {"token_hash": b"other"})), TokenRevokedError)
        await refused(store, reached("cat", **login), TokenRevokedError)
        await do(store, reached("bob", token_hash=b"newer", issued_ms=NOW + 1))

        assert [it[0] for it in await self.reached_by(store)] == ["bob"]

    async def test_a_revoked_token_takes_what_was_registered_by_it(self, store: Store) -> None:
        """Also of somebody who came by HTTP alone, and has no resume token."""
        await do(store, reached("ann", token_hash=b"login"), reached("bob", token_hash=b"other"))
        await do(store, reached("cat", token_hash=b"login"), revoke(token=b"login"))

        assert [it[0] for it in await self.reached_by(store)] == ["bob"]

    async def test_a_revoked_login_takes_the_tokens_of_its_devices(self, store: Store) -> None:
        login = base.OpenSession("ann", "phone", b"r", NOW + 1000, None, "", NOW, token_hash=b"login")
        await do(store, login, device("bob"), reached("ann"), reached("bob"))
        await do(store, revoke(token=b"login"))

        assert [it[0] for it in await self.reached_by(store)] == ["bob"]


class MuteContract:
    """Whom a conversation does not wake."""

    async def test_a_muted_member_is_not_pushed_to_until_then(self, store: Store) -> None:
        await do(store, *(device(it) for it in ("bob", "cat")), reached("bob"), reached("cat"))
        await do(store, group("g", "ann", "bob", "cat"), single("s", "ann", "bob"))
        await do(store, muted("g", "bob", NOW + 100))
        claims = await claimed(store, NOW + AFTER)

        assert await whom(store, claims["g"], now_ms=NOW + 99) == [("cat", "phone")]
        assert await whom(store, claims["g"], now_ms=NOW + 100) == [("bob", "phone"), ("cat", "phone")]
        assert await whom(store, claims["s"], now_ms=NOW) == [("bob", "phone")]
        await do(store, muted("g", "bob", 0))
        assert await whom(store, claims["g"], now_ms=NOW) == [("bob", "phone"), ("cat", "phone")]

    async def test_the_list_says_it(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"), muted("g", "bob", NOW + 100))

        rows = await store.conversations("bob", None, None, 10)
        assert [row.muted_until_ms for row in rows] == [NOW + 100, 0]
        rows = await store.conversations("bob", "phone", None, 10)
        assert [row.muted_until_ms for row in rows] == [NOW + 100, 0]
        assert [row.muted_until_ms for row in await store.conversations("ann", None, None, 10)] == [0, 0]

    async def test_only_members_mute(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), remove("g", "ann", "bob"))

        await refused(store, muted("g", "bob", NOW), NotFoundError)
        await refused(store, muted("g", "cat", NOW), NotFoundError)
        await refused(store, muted("nowhere", "ann", NOW), NotFoundError)
