"""How far everybody has got, as a store keeps it. Part of `StoreContract`."""

from __future__ import annotations

import pytest

from ...errors import BadRequestError, NotFoundError
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    NOW,
    add,
    confirm,
    delivered,
    device,
    do,
    group,
    head,
    one,
    read,
    recall,
    refused,
    remove,
    send,
    single,
    snapshot,
)


class CursorContract:
    """Delivered and read."""

    async def test_cursors_only_rise_and_stop_at_the_head(self, store: Store) -> None:
        await do(
            store, group("g", "ann", "bob"), device("bob"), *(send("g", "ann", str(n)) for n in range(4))
        )
        moved = await one(store, delivered("g", "bob", 4), base.Advanced)
        assert (moved.delivered_seq, moved.read_seq, moved.moved, moved.authors) == (4, 0, True, ("ann",))
        for seq in (0, 3, 4):
            same = await one(store, delivered("g", "bob", seq), base.Advanced)
            assert (same.delivered_seq, same.moved, same.authors) == (4, False, ())
        await refused(store, delivered("g", "bob", 6), BadRequestError)
        await refused(store, read("g", "bob", 6), BadRequestError)
        await refused(store, delivered("g", "bob", 2**53), BadRequestError)

        reading = await one(store, read("g", "bob", 5), base.Advanced)
        assert (reading.delivered_seq, reading.read_seq, reading.device_id) == (5, 5, None)
        assert not (await one(store, read("g", "bob", 2), base.Advanced)).moved
        row = await head(store, "bob", "g")
        assert (row.delivered_seq, row.read_seq) == (4, 5)  # of this device; of the user

    async def test_lower_or_equal_changes_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), *(send("g", "ann", str(n)) for n in range(4)))
        await do(store, device("bob"), delivered("g", "bob", 4), read("g", "bob", 3))
        names = [entry.message_id for entry in await store.entries("g", 0, 4)]
        before = await snapshot(store, ["g"], ["ann", "bob"])
        for seq in (0, 2, 3):
            await do(store, delivered("g", "bob", seq, at_ms=NOW + 9), read("g", "bob", seq, at_ms=NOW + 9))
        await do(store, delivered("g", "bob", 4, at_ms=NOW + 9))
        await do(store, *(base.ConfirmMessage(name, "bob", "phone", NOW + 9) for name in names))

        assert await snapshot(store, ["g"], ["ann", "bob"]) == before

    async def test_cursors_of_strangers_are_refused(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        for name in ("g", "nowhere"):
            await refused(store, delivered(name, "eve", 0), NotFoundError)
            await refused(store, read(name, "eve", 0), NotFoundError)

    async def test_single_confirmations_wait_for_the_gap(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("bob"), delivered("g", "bob", 1))
        sent = [await one(store, send("g", "ann", str(n)), base.Appended) for n in range(4)]  # 2..5
        names = [it.entry.message_id for it in sent]

        for name in (names[3], names[2], names[2]):
            early = await one(store, confirm(name, "bob"), base.Advanced)
            assert (early.delivered_seq, early.moved, early.authors) == (1, False, ())
        for name, state in zip(names, ["PENDING", "PENDING", "DELIVERED", "DELIVERED"], strict=True):
            status = await store.status(name, "ann", None, 10)
            assert (status.deliveries[0].state, status.delivered_count) == (state, int(state == "DELIVERED"))
        await do(store, delivered("g", "bob", 2))
        closing = await one(store, confirm(names[1], "bob"), base.Advanced)
        assert (closing.delivered_seq, closing.moved, closing.authors) == (5, True, ("ann",))
        assert (await head(store, "bob", "g")).delivered_seq == 5
        assert await store.outbox(9) == [base.OutboxEntry("g", 1, 5, NOW)]  # ann has no device

    async def test_a_confirmation_names_the_right_conversation(self, store: Store) -> None:
        await do(store, group("g", "ann"), group("h", "ann"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        wrong = base.ConfirmMessage(sent.entry.message_id, "ann", "phone", NOW, "h")
        right = base.ConfirmMessage(sent.entry.message_id, "ann", "phone", NOW, "g")

        await refused(store, wrong, BadRequestError)
        await do(store, right)

    async def test_single_confirmations_are_bounded(self, store: Store) -> None:
        await do(store, group("g", "ann"), device("ann"))
        sent = await do(store, *(send("g", "ann", str(n)) for n in range(1002)))  # 2..1003
        names = [it.entry.message_id for it in sent if isinstance(it, base.Appended)]
        await do(store, *(confirm(name, "ann") for name in names[1:1001]))

        await refused(store, confirm(names[1001], "ann"), BadRequestError)
        await do(store, delivered("g", "ann", 1))
        moved = await one(store, confirm(names[0], "ann"), base.Advanced)
        assert moved.delivered_seq == 1002
        assert (await one(store, confirm(names[1001], "ann"), base.Advanced)).delivered_seq == 1003

    async def test_a_new_device_starts_where_the_farthest_other_stands(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), *(send("g", "ann", str(n)) for n in range(4)))
        await do(store, device("bob", "phone"), device("bob", "tablet"), delivered("g", "bob", 3, "phone"))
        await do(store, delivered("g", "bob", 2, "tablet"), device("bob", "pc"), read("g", "bob", 5))

        positions = [
            (await head(store, "bob", "g", name)).delivered_seq for name in ("phone", "tablet", "pc")
        ]
        assert positions == [3, 2, 3]
        first = await one(store, device("cat"), base.SessionOpened)
        assert first.conversations == ()
        await do(store, add("g", "ann", "cat"))
        assert (await head(store, "cat", "g")).delivered_seq == 5  # what was before is not his

    async def test_a_device_may_first_be_seen_by_a_confirmation(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"), send("g", "ann", "k"))
        await do(store, delivered("g", "bob", 2, "web"))

        assert (await head(store, "bob", "g", "web")).delivered_seq == 2
        assert (await head(store, "bob", "h", "web")).delivered_seq == 0

    async def test_coming_back_does_not_hold_others_back(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("bob"), device("ann"), delivered("g", "bob", 1))
        await do(store, remove("g", "bob", "bob"), *(send("g", "ann", str(n)) for n in range(5)))  # 2, 3..7
        await do(store, device("bob", "tablet"), add("g", "ann", "bob"))  # 8

        row = await head(store, "ann", "g")
        assert (row.others_delivered_seq, row.others_read_seq) == (7, 0)
        for name in ("phone", "tablet"):
            assert (await head(store, "bob", "g", name)).delivered_seq == 7

    async def test_coming_back_moves_the_read_cursor_over_the_time_away(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), read("g", "bob", 1), remove("g", "bob", "bob"))  # 2
        await do(store, *(send("g", "ann", str(n)) for n in range(5)), add("g", "ann", "bob"))  # 3..7, 8

        (_, bob) = await store.members("g", "ann", None, 9)
        assert (bob.delivered_seq, bob.read_seq) == (7, 7)
        assert (await head(store, "ann", "g")).others_read_seq == 7

    async def test_what_was_missed_before_leaving_stays_missed(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("bob"), send("g", "ann", "missed"))
        await do(store, remove("g", "bob", "bob"), send("g", "ann", "away"), add("g", "ann", "bob"))

        assert (await head(store, "bob", "g")).delivered_seq == 0
        assert (await one(store, delivered("g", "bob", 2), base.Advanced)).delivered_seq == 4

    async def test_least_of_the_others(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), *(send("g", "ann", str(n)) for n in range(3)))
        await do(
            store,
            delivered("g", "bob", 4),
            delivered("g", "cat", 3),
            read("g", "cat", 2),
            read("g", "bob", 1),
        )

        row = await head(store, "ann", "g")
        assert (row.others_delivered_seq, row.others_read_seq) == (3, 1)
        await do(store, remove("g", "ann", "cat"), remove("g", "bob", "bob"))
        assert (await head(store, "ann", "g")).others_delivered_seq == 0  # nobody else is left

    async def test_authors_of_what_is_newly_covered(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), send("g", "bob", "2"), send("g", "cat", "3"))
        await do(store, send("g", "ann", "4"), send("g", "bob", "5"))

        assert (await one(store, delivered("g", "ann", 3), base.Advanced)).authors == ("bob", "cat")
        assert (await one(store, delivered("g", "ann", 5), base.Advanced)).authors == ("bob",)
        assert (await one(store, read("g", "ann", 3), base.Advanced)).authors == ("bob", "cat")
        assert (await one(store, read("g", "ann", 4), base.Advanced)).authors == ()

    async def test_authors_are_searched_among_the_newest_thousand(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), send("g", "bob", "old"))
        await do(store, *(send("g", "cat", str(n)) for n in range(1000)))

        assert (await one(store, delivered("g", "ann", 1002), base.Advanced)).authors == ("cat",)

    async def test_the_author_in_a_single_is_the_other(self, store: Store) -> None:
        await do(store, single("s", "ann", "bob"), send("s", "ann", "k"))

        assert (await one(store, read("s", "bob", 2), base.Advanced)).authors == ("ann",)


class StatusContract:
    """The state of one message."""

    async def test_counts_follow_the_others(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), device("bob"), device("cat"))
        sent = await one(store, send("g", "ann", "k", at_ms=NOW + 1), base.Appended)
        name = sent.entry.message_id

        async def counts() -> tuple[str, int, int, int]:
            it = await store.status(name, "ann", None, 10)
            return (it.status, it.member_count, it.delivered_count, it.read_count)

        assert await counts() == ("SENT", 2, 0, 0)
        await do(store, delivered("g", "bob", 2, at_ms=NOW + 2))
        assert await counts() == ("SENT", 2, 1, 0)
        await do(store, confirm(name, "cat"))
        assert await counts() == ("DELIVERED", 2, 2, 0)
        await do(store, read("g", "bob", 2, at_ms=NOW + 3), recall(name, "ann"))
        assert await counts() == ("DELIVERED", 2, 2, 1)
        assert (await store.status(name, "ann", None, 10)).deliveries == (
            base.Delivery("bob", "phone", "READ", NOW + 3),
            base.Delivery("cat", "phone", "DELIVERED", NOW),
        )
        await do(store, remove("g", "ann", "cat"))
        assert await counts() == ("READ", 1, 1, 1)
        await do(store, remove("g", "ann", "bob"))
        assert await counts() == ("SENT", 0, 0, 0)

    async def test_only_who_had_it_is_counted(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k", at_ms=NOW + 7), base.Appended)
        await do(store, add("g", "ann", "cat"), device("bob"), device("cat"))

        status = await store.status(sent.entry.message_id, "ann", None, 10)
        assert status.member_count == 1
        assert status.deliveries == (base.Delivery("bob", "phone", "PENDING", NOW + 7),)

    async def test_only_its_author_may_ask(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "bob", "k"), base.Appended)
        with pytest.raises(NotFoundError):
            await store.status(sent.entry.message_id, "ann", None, 10)
        await do(store, remove("g", "bob", "bob"))
        with pytest.raises(NotFoundError):
            await store.status(sent.entry.message_id, "bob", None, 10)

    async def test_devices_come_in_pages(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat", "dan"), send("g", "ann", "k"))
        places = [(user, name) for user in ("bob", "dan") for name in ("a", "b", "c")]
        await do(store, *(device(user, name) for user, name in reversed(places)), device("ann"))
        name = (await store.page("g", "ann", 1, 1, 1000)).entries[0].message_id
        found, after = [], None
        while True:
            page = await store.status(name, "ann", after, 4)
            found += [(it.user_id, it.device_id) for it in page.deliveries]
            after = page.next_cursor
            if after is None:
                break

        assert found == places

    async def test_counts_for_each_author_of_a_range(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        await do(store, send("g", "ann", "2"), send("g", "bob", "3"), send("g", "ann", "4"))
        await do(store, delivered("g", "cat", 4), read("g", "cat", 3), delivered("g", "ann", 3))

        ann, bob = base.ReadCounts("ann", 4, 1, 0, 2), base.ReadCounts("bob", 3, 2, 1, 2)
        everybody = ["eve", "cat", "bob", "ann", "bob"]
        assert await store.read_counts("g", 0, 4, everybody) == [ann, bob]
        assert await store.read_counts("g", 0, 4, ["bob"]) == [bob]
        assert await store.read_counts("g", 0, 4, ["cat", "eve"]) == []
        assert await store.read_counts("g", 0, 4, []) == []
        assert await store.read_counts("g", 2, 3, everybody) == [bob]
        assert await store.read_counts("g", 4, 4, everybody) == []
        assert await store.read_counts("nowhere", 0, 4, everybody) == []


class OutboxContract:
    """What not every device has confirmed."""

    async def test_it_closes_with_the_last_device_of_the_last_member(self, store: Store) -> None:
        await do(store, device("ann"), device("bob"), device("bob", "tablet"), group("g", "ann", "bob"))
        await do(store, send("g", "ann", "k", at_ms=NOW + 5))
        opened = [base.OutboxEntry("g", 1, 2, NOW)]

        await do(store, delivered("g", "ann", 2), delivered("g", "bob", 2))
        assert await store.outbox(9) == opened
        await do(store, read("g", "bob", 2))
        assert await store.outbox(9) == opened  # reading elsewhere puts nothing on the tablet
        await do(store, delivered("g", "bob", 1, "tablet"))
        assert await store.outbox(9) == [base.OutboxEntry("g", 2, 2, NOW + 5)]
        await do(store, delivered("g", "bob", 2, "tablet"))
        assert await store.outbox(9) == []
        await do(store, send("g", "bob", "k2", at_ms=NOW + 6))
        assert await store.outbox(9) == [base.OutboxEntry("g", 3, 3, NOW + 6)]

    async def test_a_member_without_a_device_keeps_it_open(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("ann"), delivered("g", "ann", 1))
        assert await store.outbox(9) == [base.OutboxEntry("g", 1, 1, NOW)]
        await do(store, device("bob"), delivered("g", "bob", 1))
        assert await store.outbox(9) == []

    async def test_leaving_closes_what_only_he_missed(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("ann"), delivered("g", "ann", 1))
        await do(store, remove("g", "bob", "bob"), delivered("g", "ann", 2))

        assert await store.outbox(9) == []

    async def test_those_of_the_oldest_conversations_first_and_bounded(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        await do(store, group("f", "ann", at_ms=NOW - 2))

        assert [it.conversation_id for it in await store.outbox(2)] == ["g", "f"]
        assert [it.conversation_id for it in await store.outbox(1)] == ["g"]

    async def test_one_batch_is_as_many_transactions_would_be(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("ann"), device("bob"))
        await do(
            store,
            *(delivered("g", user, 1) for user in ("ann", "bob")),
            send("g", "ann", "2", at_ms=NOW + 2),
            send("g", "ann", "3", at_ms=NOW + 3),
            *(delivered("g", user, 2) for user in ("ann", "bob")),
        )

        assert await store.outbox(9) == [base.OutboxEntry("g", 3, 3, NOW + 3)]
