"""The list of a user's conversations by activity, of a store. Part of `StoreContract`."""

from __future__ import annotations

import msgspec

from ...core.log.reads import PREVIEW_ENTRIES_MAX
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    EPOCH,
    NOW,
    add,
    device,
    do,
    group,
    one,
    read,
    recall,
    remove,
    send,
    single,
    text,
)

_BYTES_MAX = 1_000_000


def _open_group(conversation_id: str, *members: str) -> base.CreateConversation:
    """A group whose past is open to those who join."""
    return msgspec.structs.replace(group(conversation_id, *members), history="FROM_START")


async def _recent(
    store: Store, user: str, *, device_id: str | None = None
) -> dict[str, base.ListedConversation]:
    page = await store.recent(user, device_id, None, 100, _BYTES_MAX)
    assert page.next_place is None
    return {row.head.conversation_id: row for row in page.rows}


async def _pages(store: Store, user: str, limit: int, bytes_max: int = _BYTES_MAX) -> list[list[str]]:
    """The ids of each page, to the end."""
    pages: list[list[str]] = []
    place: base.RecentPlace | None = None
    while not pages or place is not None:
        page = await store.recent(user, None, place, limit, bytes_max)
        pages.append([row.head.conversation_id for row in page.rows])
        place = page.next_place
    return pages


class RecentContract:
    """Conversations by activity, each with its last message."""

    async def test_the_newest_activity_comes_first_and_equal_ones_by_id(self, store: Store) -> None:
        await do(store, *(group(f"g{n}", "ann", "bob", at_ms=NOW) for n in (4, 1, 3, 2)), group("x", "bob"))
        await do(store, send("g3", "bob", "a", at_ms=NOW + 2), send("g4", "ann", "b", at_ms=NOW + 1))

        assert list(await _recent(store, "ann")) == ["g3", "g4", "g1", "g2"]
        assert await _pages(store, "ann", 3) == [["g3", "g4", "g1"], ["g2"]]
        assert await _pages(store, "ann", 2) == [["g3", "g4"], ["g1", "g2"]]
        assert await _pages(store, "nobody", 2) == [[]]

    async def test_pages_give_none_twice_while_activity_goes_on(self, store: Store) -> None:
        await do(store, *(group(f"g{n}", "ann", "bob", at_ms=NOW + n) for n in range(6)))
        first = await store.recent("ann", None, None, 2, _BYTES_MAX)
        assert [row.head.conversation_id for row in first.rows] == ["g5", "g4"]

        await do(
            store, send("g4", "bob", "seen", at_ms=NOW + 10), send("g1", "bob", "not seen", at_ms=NOW + 11)
        )
        second = await store.recent("ann", None, first.next_place, 9, _BYTES_MAX)
        assert [row.head.conversation_id for row in second.rows] == ["g3", "g2", "g0"]
        assert list(await _recent(store, "ann"))[:2] == ["g1", "g4"]

    async def test_only_messages_and_changes_of_members_are_activity(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k", at_ms=NOW + 5), base.Appended)
        await do(store, recall(sent.entry.message_id, "ann", at_ms=NOW + 9))
        assert (await _recent(store, "ann"))["g"].last_activity_ms == NOW + 5

        await do(store, msgspec.structs.replace(add("g", "ann", "cat"), at_ms=NOW + 11))
        assert (await _recent(store, "ann"))["g"].last_activity_ms == NOW + 11

    async def test_a_row_is_that_of_the_list_by_id_with_the_last_message(self, store: Store) -> None:
        await do(store, single("s", "ann", "bob"), device("bob"), device("bob", "tablet"))
        sent = await one(store, send("s", "ann", "k", at_ms=NOW + 5), base.Appended)
        await do(store, base.Mute("s", "bob", NOW + 99))

        for device_id in (None, "phone", "tablet"):
            row = (await _recent(store, "bob", device_id=device_id))["s"]
            (by_id,) = await store.conversations("bob", device_id, None, 9)
            assert row == msgspec.structs.replace(by_id, last=row.last)
        assert row.last == base.Entry("s", EPOCH, sent.entry.message_id, 2, "ann", NOW + 5, text("k"), None)
        own = (await _recent(store, "ann"))["s"].last
        assert own is not None
        assert own.client_msg_id == "k"

    async def test_what_the_server_wrote_is_no_preview(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("empty", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        await do(store, add("g", "ann", "cat"), remove("g", "ann", "cat"))

        rows = await _recent(store, "bob")
        assert rows["empty"].last is None
        last = rows["g"].last
        assert last is not None
        assert last.message_id == sent.entry.message_id

    async def test_a_recalled_message_is_shown_as_recalled(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "before"))
        sent = await one(store, send("g", "ann", "secret"), base.Appended)
        await do(store, recall(sent.entry.message_id, "ann"))

        row = (await _recent(store, "bob"))["g"]
        assert row.unread == 1
        assert row.last is not None
        assert (row.last.seq, msgspec.json.decode(row.last.payload)) == (3, {"type": "RECALLED"})

    async def test_the_last_message_is_one_that_the_user_may_read(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "before"))
        await do(store, add("g", "ann", "cat"))
        assert (await _recent(store, "cat"))["g"].last is None
        await do(store, send("g", "ann", "during"), remove("g", "ann", "cat"), send("g", "ann", "away"))
        assert await _recent(store, "cat") == {}
        await do(store, add("g", "ann", "cat"))

        row = (await _recent(store, "cat"))["g"]
        assert row.last is not None
        assert row.last.payload == text("during")
        assert row.unread == 1
        others = (await _recent(store, "bob"))["g"].last
        assert others is not None
        assert others.payload == text("away")

    async def test_with_history_from_the_start_it_may_be_from_before_the_user_joined(
        self, store: Store
    ) -> None:
        await do(store, _open_group("g", "ann", "bob"), send("g", "ann", "before"))
        await do(store, add("g", "ann", "cat"))

        row = (await _recent(store, "cat"))["g"]
        assert row.last is not None
        assert (row.last.payload, row.unread) == (text("before"), 0)

    async def test_a_message_below_very_many_other_entries_is_not_looked_for(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"))
        joining = [add("g", "ann", f"u{n}", members_max=5000) for n in range(PREVIEW_ENTRIES_MAX)]
        for start in range(0, len(joining) - 1, 500):
            await do(store, *joining[start : min(start + 500, len(joining) - 1)])
        lowest = (await _recent(store, "bob"))["g"].last
        assert lowest is not None
        assert lowest.payload == text("k")

        await do(store, joining[-1])
        assert (await _recent(store, "bob"))["g"].last is None

    async def test_a_page_ends_where_its_messages_have_no_room(self, store: Store) -> None:
        await do(store, *(group(f"g{n}", "ann", "bob", at_ms=NOW + n) for n in range(4)))
        await do(store, *(send(f"g{n}", "bob", "k", "x" * 1000, at_ms=NOW + 10 + n) for n in (0, 1, 3)))

        assert await _pages(store, "ann", 9, bytes_max=2100) == [["g3", "g1"], ["g0", "g2"]]
        assert await _pages(store, "ann", 9, bytes_max=1) == [["g3"], ["g1"], ["g0"], ["g2"]]

    async def test_a_list_by_activity_counts_what_is_unread(self, store: Store) -> None:
        await do(store, group("g", "bob", "ann"), group("h", "bob", "ann"))
        await do(
            store, *(send("g", "bob", str(n)) for n in range(3)), send("h", "bob", "k"), read("h", "ann", 2)
        )

        assert {name: row.unread for name, row in (await _recent(store, "ann")).items()} == {"g": 3, "h": 0}
