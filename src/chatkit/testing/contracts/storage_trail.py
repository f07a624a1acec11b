"""What a store keeps of one message, for operators: `TrailReader`, and the record of pushes. Beside `storage`."""

from __future__ import annotations

from typing import Any

import pytest

from ..._abilities import offers
from ...errors import NotFoundError
from ...storage import base
from ...storage.base import Finished, LaterDelivery, MessageTrail, OpenWork, PushRecord, RecallMark, Store
from .storage_commands import NOW, add, confirm, delivered, device, do, group, one, read, recall, remove, send
from .storage_delivery import AFTER, claimed, muted, reached

LIMIT = 100


async def sent(store: Store, sender: str = "ann", key: str = "k", at_ms: int = NOW) -> str:
    """The id of a message to the group."""
    return (await one(store, send("g", sender, key, at_ms=at_ms), base.Appended)).entry.message_id


async def trail_of(store: Store, name: str, user: str | None = None, limit: int = LIMIT) -> MessageTrail:
    """What became of a message."""
    assert offers(store, base.TrailReader)
    return await store.trail(name, user, limit)


async def pushed(store: Store, *pushes: PushRecord, at_ms: int, later: tuple[LaterDelivery, ...] = ()) -> int:
    """A worker takes the group, and notes these; returns whether the claim was its own."""
    claim = (await claimed(store, at_ms))["g"]
    return await store.deliveries.finish(1, [Finished(claim, at_ms, later, pushes)])


def push(user: str, seq: int, device_id: str = "phone", at_ms: int = NOW + AFTER, **more: Any) -> PushRecord:
    """What a provider said of a push; it took it."""
    return PushRecord(user, device_id, seq, "apns", at_ms, **{"answer": "TAKEN", **more})


class PushRecordContract:
    """What providers said of pushes is kept for some time, for the newest few of each device."""

    async def test_a_push_is_noted_with_its_claim(self, store: Store) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        name = await sent(store)
        noted = push("bob", 2, provider_id="p-1")
        assert await pushed(store, noted, at_ms=NOW + AFTER) == 1

        (found,) = (await trail_of(store, name)).pushes
        assert found == PushRecord("bob", "phone", 2, "apns", NOW + AFTER, "TAKEN", "p-1", "", 1, NOW + AFTER)
        assert (await trail_of(store, name, "ann")).pushes == ()

    async def test_what_was_sent_is_noted_whosever_the_claim_is_by_now(self, store: Store) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        name = await sent(store)
        claim = (await claimed(store, NOW + AFTER))["g"]

        assert await store.deliveries.finish(7, [Finished(claim, NOW, (), (push("bob", 2),))]) == 0
        assert len((await trail_of(store, name)).pushes) == 1

    async def test_another_try_takes_the_place_of_the_last_and_is_counted(self, store: Store) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        name = await sent(store)
        failed = push("bob", 2, answer="RETRY", reason="503")
        await pushed(store, failed, at_ms=NOW + AFTER)
        await sent(store, key="l", at_ms=NOW + AFTER)
        await pushed(store, push("bob", 2, at_ms=NOW + 9 * AFTER), at_ms=NOW + 9 * AFTER)

        (found,) = (await trail_of(store, name)).pushes
        assert (found.answer, found.reason, found.tries) == ("TAKEN", "", 2)
        assert (found.first_ms, found.at_ms) == (NOW + AFTER, NOW + 9 * AFTER)

    async def test_of_pushes_about_later_entries_the_first_is_there_and_the_recalls(
        self, store: Store
    ) -> None:
        await do(store, device("bob"), device("bob", "tablet"), group("g", "ann", "bob"))
        await sent(store)
        name = await sent(store, key="l")
        await do(store, *(send("g", "ann", key) for key in "mn"), recall(name, "ann"), send("g", "ann", "o"))
        phone = [push("bob", seq) for seq in range(2, 8)]
        await pushed(store, *phone, push("bob", 5, "tablet"), push("bob", 7, "tablet"), at_ms=NOW + AFTER)

        found = [(it.device_id, it.seq) for it in (await trail_of(store, name)).pushes]
        assert found == [("phone", 3), ("phone", 4), ("phone", 6), ("tablet", 5)]

    async def test_of_a_device_the_newest_few_are_kept(self, store: Store) -> None:
        await do(store, device("bob"), device("bob", "tablet"), group("g", "ann", "bob"))
        name = await sent(store)
        last = 1 + base.PUSHES_PER_DEVICE_MAX + 3
        await do(store, *(send("g", "ann", f"k{seq}") for seq in range(3, last + 1)))
        pushes = [push("bob", seq) for seq in range(2, last + 1)]
        await pushed(store, push("bob", 2, "tablet"), *reversed(pushes), at_ms=NOW + AFTER)

        found = (await trail_of(store, name)).pushes
        assert [(it.device_id, it.seq) for it in found] == [("phone", 5), ("tablet", 2)]

    async def test_old_ones_are_discarded(self, store: Store) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        name = await sent(store)
        await sent(store, key="l")
        await pushed(store, push("bob", 2, at_ms=NOW), push("bob", 3, at_ms=NOW + 1), at_ms=NOW + AFTER)

        assert await store.deliveries.discard_pushes(NOW) == 0
        assert await store.deliveries.discard_pushes(NOW + 1) == 1
        assert [it.seq for it in (await trail_of(store, name)).pushes] == [3]

    async def test_what_waits_and_what_was_given_up(self, store: Store) -> None:
        await do(store, device("bob"), device("cat"), group("g", "ann", "bob", "cat"))
        name = await sent(store)
        waits = LaterDelivery("bob", "phone", NOW + 99_000, "503")
        given_up = LaterDelivery("cat", "phone", None, "too large")
        await pushed(store, at_ms=NOW + AFTER, later=(waits, given_up))
        later = await sent(store, key="l")

        assert (await trail_of(store, name)).deliveries == (
            base.OpenDelivery("bob", "phone", 0, NOW + 99_000, 1, NOW + AFTER, "503"),
            base.OpenDelivery("cat", "phone", 0, None, 1, NOW + AFTER, "too large"),
        )
        assert len((await trail_of(store, later, "bob")).deliveries) == 1


class TrailContract(PushRecordContract):
    """Everything that is stored of one message is read in one snapshot, and its body never."""

    async def test_a_message_with_its_readers_and_their_devices(self, store: Store) -> None:
        await do(store, device("bob", at_ms=NOW - 9), device("bob", "tablet"), reached("bob", "tablet"))
        await do(store, group("g", "ann", "bob"))
        name = await sent(store)
        await do(store, delivered("g", "bob", 2, at_ms=NOW + 5), read("g", "bob", 2, at_ms=NOW + 7))

        trail = await trail_of(store, name)
        assert (trail.message_id, trail.conversation_id, trail.conversation_type) == (name, "g", "GROUP")
        assert (trail.seq, trail.head_seq, trail.member_count, trail.kind) == (2, 2, 2, "USER")
        assert (trail.sender_id, trail.client_msg_id, trail.server_ts) == ("ann", "k", NOW)
        assert (trail.epoch, trail.log_epoch) == ("e1", "e1")
        assert (trail.change, trail.recalls_id, trail.recall) == (None, None, None)
        assert trail.readers == (
            base.Reader("ann", 1, None, 0, trail.readers[0].read_ms, 0),
            trail.readers[1],
        )
        assert trail.readers[1] == base.Reader("bob", 1, None, 2, NOW + 7, 0)
        phone, tablet = trail.devices
        assert phone == base.ReaderDevice("bob", "phone", NOW - 9, 2, NOW + 5, False, None, None)
        assert (tablet.device_id, tablet.delivered_seq, tablet.is_exact) == ("tablet", 0, False)
        assert (tablet.provider, tablet.registered_ms) == ("log", NOW)
        assert trail.work == OpenWork(1, 0, NOW), "ann's and the tablet's"

    async def test_a_device_without_a_cursor_is_where_the_farthest_was_when_it_came(
        self, store: Store
    ) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        name = await sent(store)
        await do(store, delivered("g", "bob", 2), device("bob", "new", NOW + 9))

        new = (await trail_of(store, name)).devices[0]
        assert new == base.ReaderDevice("bob", "new", NOW + 9, 2, None, False, None, None)

    async def test_what_was_confirmed_by_itself_is_said_to_be(self, store: Store) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        first, second = await sent(store), await sent(store, key="l")
        await do(store, confirm(second, "bob"))

        assert [(await trail_of(store, it)).devices[0].is_exact for it in (first, second)] == [False, True]

    async def test_what_everybody_confirmed_has_no_open_work(self, store: Store) -> None:
        await do(store, device("ann"), device("bob"), group("g", "ann", "bob"))
        name = await sent(store)
        await do(store, delivered("g", "ann", 2), delivered("g", "bob", 2))
        assert (await trail_of(store, name)).work is None

        await sent(store, key="l")
        work = (await trail_of(store, name)).work
        assert work is not None
        assert work.first_seq == 3

    async def test_readers_are_those_whose_membership_holds_it(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        name = await sent(store)
        await do(
            store,
            remove("g", "ann", "bob"),
            add("g", "ann", "dan"),
            muted("g", "cat", NOW + 77),
            device("bob"),
        )

        trail = await trail_of(store, name)
        assert [(it.user_id, it.leave_seq, it.muted_until_ms) for it in trail.readers] == [
            ("ann", None, 0),
            ("bob", 3, 0),
            ("cat", None, NOW + 77),
        ]
        assert [it.user_id for it in trail.devices] == ["bob"], "also of who left"

    async def test_some_of_many_readers(self, store: Store) -> None:
        await do(store, *(device(user) for user in ("ann", "bob", "cat")), group("g", "ann", "bob", "cat"))
        name = await sent(store)

        some = await trail_of(store, name, limit=2)
        assert ([it.user_id for it in some.readers], some.has_more) == (["ann", "bob"], True)
        assert [it.user_id for it in some.devices] == ["ann", "bob"]
        every = await trail_of(store, name, limit=3)
        assert ([it.user_id for it in every.readers], every.has_more) == (["ann", "bob", "cat"], False)
        single = await trail_of(store, name, "cat", limit=1)
        assert ([it.user_id for it in single.readers], single.has_more) == (["cat"], False)
        assert (await trail_of(store, name, "dan")).readers == ()

    async def test_a_recalled_message_and_its_recall(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await sent(store)
        by = (await one(store, recall(name, "ann", at_ms=NOW + 3), base.Recalled)).entry

        assert (await trail_of(store, name)).recall == RecallMark(3, by.message_id, "ann", NOW + 3)
        trail = await trail_of(store, by.message_id)
        assert (trail.kind, trail.recalls_id, trail.recall, trail.client_msg_id) == (
            "RECALL",
            name,
            None,
            None,
        )

    async def test_an_entry_about_members(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        entry = (await one(store, add("g", "ann", "cat", "dan"), base.MembersChanged)).entry
        assert entry is not None

        trail = await trail_of(store, entry.message_id)
        assert (trail.kind, trail.sender_id, trail.change) == ("MEMBER", "ann", ("ADDED", ("cat", "dan")))

    async def test_a_message_of_a_former_epoch(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await sent(store)
        await do(store, base.RenewEpoch("g", "e2", NOW))

        trail = await trail_of(store, name)
        assert (trail.message_id, trail.epoch, trail.log_epoch) == (name, "e1", "e2")

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "no message has such an id"),
            ("m-1", "no message has such an id"),
            ("1-e1-01", "no message has such an id"),
            ("77-e1-1", "no conversation with that number"),
            ("1-e1-3", "g ends at seq 2"),
            ("1-e0-2", "an entry of another epoch"),
        ],
    )
    async def test_an_id_that_names_nothing_is_not_found_and_why_is_said(
        self, store: Store, name: str, why: str
    ) -> None:
        await do(store, group("g", "ann", "bob"))
        assert (await sent(store)).startswith("1-e1"), "else these ids are none"
        with pytest.raises(NotFoundError, match=why):
            await trail_of(store, name)

    async def test_no_body_is_read(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k", "canary-7"))
        assert "canary" not in repr(await trail_of(store, "1-e1-2"))
