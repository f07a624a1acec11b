"""What a store does with entries of another log. Subclass it beside `StoreContract`."""

from __future__ import annotations

import pytest

from ...errors import BadRequestError, ConflictError, NotFoundError
from ...storage import base
from .storage_commands import NOW, TOMBSTONE, delivered, device, do, group, one, read, send, text

OLD = NOW - 900_000


def message(sender: str, key: str, at_ms: int = OLD, words: str | None = None) -> base.ImportedEntry:
    """A user's message of another log."""
    payload = text(words or key)
    return base.ImportedEntry("USER", sender, at_ms, payload, key, b"mac " + payload)


def change(op: str, sender: str, *users: str) -> base.ImportedEntry:
    """A change of members of another log."""
    return base.ImportedEntry("MEMBER", sender, OLD, op=op, user_ids=users)  # type: ignore[arg-type]


def imported(
    conversation_id: str, *entries: base.ImportedEntry, after: int | None = 0, unread: bool = False
) -> base.ImportEntries:
    """Into a group of ann and bob, which is made with the first of them."""
    new = base.CreateConversation(
        conversation_id, "GROUP", "ann", ("ann", "bob"), "Old", "e1", 100, OLD - 1, by_host=True
    )
    return base.ImportEntries(conversation_id, entries, after, NOW, new, unread)


class ImportContract:
    """Entries of another log in a store: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_entries_keep_their_authors_and_times(self, store: base.Store) -> None:
        outcome = await one(
            store, imported("g", message("bob", "k1"), message("zoe", "k2", OLD - 7)), base.Imported
        )

        assert outcome == base.Imported("g", 3, 2, 0, 0)
        entries = await store.entries("g", 0, 10)
        assert [(it.seq, it.sender_id, it.server_ts) for it in entries] == [
            (1, "ann", OLD - 1),
            (2, "bob", OLD),
            (3, "zoe", OLD - 7),
        ]
        assert (await store.conversation("g", "bob")).member_ids == ("ann", "bob")

    async def test_a_repeat_adds_nothing_and_tells_what_has_changed(self, store: base.Store) -> None:
        await do(store, imported("g", message("bob", "k1"), message("bob", "k2")))
        again = imported("g", message("bob", "k1"), message("bob", "k2", words="other"), after=3)

        assert await one(store, again, base.Imported) == base.Imported("g", 3, 0, 2, 1)

    async def test_nobody_is_woken_and_nothing_is_unread(self, store: base.Store) -> None:
        await do(store, device("bob"), imported("g", message("ann", "k1"), message("ann", "k2")))

        assert await store.outbox(10) == []
        (head,) = await store.heads("bob", "phone")
        assert (head.head_seq, head.delivered_seq, head.read_seq) == (3, 3, 3)
        assert await store.deliveries.unread(["ann", "bob"], NOW) in ({}, {"ann": 0, "bob": 0})

    async def test_what_is_left_unread_still_wakes_nobody(self, store: base.Store) -> None:
        await do(store, imported("g", message("ann", "k1"), unread=True))

        assert await store.outbox(10) == []
        assert (await store.deliveries.unread(["bob"], NOW))["bob"] == 1

    async def test_who_was_behind_stays_behind(self, store: base.Store) -> None:
        await do(store, device("ann"), device("bob"), group("g", "ann", "bob"), send("g", "ann", "live"))
        await do(store, delivered("g", "ann", 2), read("g", "ann", 2))
        await do(store, imported("g", message("zoe", "k1"), after=2))

        (ann,) = await store.heads("ann", "phone")
        (bob,) = await store.heads("bob", "phone")
        assert (ann.delivered_seq, ann.read_seq) == (3, 3)
        assert (bob.delivered_seq, bob.read_seq) == (0, 0)
        assert [it.first_seq for it in await store.outbox(10)] == [1]

    async def test_wherever_the_head_is(self, store: base.Store) -> None:
        await do(
            store, device("bob"), imported("g", message("ann", "k1"), after=None), send("g", "ann", "live")
        )
        await do(store, imported("g", message("ann", "k2"), after=None))

        (head,) = await store.heads("bob", "phone")
        assert (head.head_seq, head.delivered_seq, head.read_seq) == (4, 2, 2)
        assert [it.first_seq for it in await store.outbox(10)] == [3]

    async def test_another_head_is_refused_and_nothing_changes(self, store: base.Store) -> None:
        await do(store, imported("g", message("ann", "k1")))
        before = await store.entries("g", 0, 10)
        late = base.ImportEntries("h", (message("ann", "k1"),), 0, NOW)
        outcomes = await store.commit([imported("g", message("ann", "k2")), late])

        assert [type(it.error) for it in outcomes if isinstance(it, base.Refused)] == [
            ConflictError,
            NotFoundError,
        ]
        assert await store.entries("g", 0, 10) == before

    async def test_members_who_came_and_went(self, store: base.Store) -> None:
        await do(store, imported("g", message("ann", "k1")))
        moves = [change("ADDED", "bob", "cat"), change("LEFT", "ann", "ann"), change("REMOVED", "cat", "bob")]
        await do(store, imported("g", *moves, message("cat", "k2"), after=2))

        conversation = await store.conversation("g", "cat")
        assert (conversation.member_ids, conversation.head_seq) == (("cat",), 6)
        assert [it.sender_id for it in await store.entries("g", 2, 10)] == ["bob", "ann", "cat", "cat"]
        assert await store.outbox(10) == []

    async def test_a_message_that_was_recalled_there(self, store: base.Store) -> None:
        await do(store, imported("g", message("bob", "k1")))
        gone = base.ImportedEntry("RECALL", "bob", OLD + 5, names_seq=2)
        await do(store, imported("g", gone, after=2))
        twice = await store.commit([imported("g", gone, after=3), imported("g", gone, gone, after=3)])

        entries = await store.entries("g", 1, 10)
        assert entries[0].payload == TOMBSTONE
        assert entries[0].message_id.encode() in entries[1].payload
        assert [type(it.error) for it in twice if isinstance(it, base.Refused)] == [BadRequestError] * 2

    async def test_who_went_and_came_back_misses_nothing(self, store: base.Store) -> None:
        await do(store, device("bob"), imported("g", message("ann", "k1"), change("LEFT", "bob", "bob")))
        await do(store, imported("g", message("ann", "k2"), change("ADDED", "ann", "bob"), after=3))

        assert await store.outbox(10) == []
        (head,) = await store.heads("bob", "phone")
        assert (head.head_seq, head.delivered_seq, head.read_seq) == (5, 5, 5)

    async def test_what_is_said_of_a_message(self, store: base.Store) -> None:
        await do(store, imported("g", message("bob", "k1"), message("bob", "k2")))
        new = b'{"messageId":"x","payload":{"text":"new","type":"TEXT"},"seq":2,"type":"EDIT"}'
        edit = base.ImportedEntry("EDIT", "bob", OLD, new, "k3", b"mac", names_seq=2)
        gone = base.ImportedEntry("EDIT", "bob", OLD, new, "k4", b"mac", names_seq=3)
        react = base.ImportedEntry(
            "REACTION", "ann", OLD, b'{"type":"REACTION"}', "k5", b"", names_seq=2, reaction="+"
        )
        await do(store, imported("g", edit, gone, react, after=3))
        recalled = base.ImportedEntry("RECALL", "bob", OLD, names_seq=3)
        await do(store, imported("g", recalled, after=6))
        foreign = base.ImportedEntry("EDIT", "ann", OLD, new, "k6", b"mac", names_seq=2)
        late = base.ImportedEntry("REACTION", "ann", OLD, b"", "k7", b"", names_seq=3, reaction="+")
        refused = await store.commit([imported("g", it, after=7) for it in (foreign, late)])

        assert [type(it.error) for it in refused if isinstance(it, base.Refused)] == [BadRequestError] * 2
        page = (await store.page("g", "ann", 0, 10, 100_000)).entries
        first = page[1]
        assert first.edit is not None
        assert (first.edit.seq, first.edit.payload) == (4, b'{"text":"new","type":"TEXT"}')
        assert [(it.reaction, it.user_ids) for it in first.reactions] == [("+", ("ann",))]
        assert [it.payload == TOMBSTONE for it in page] == [False, False, True, False, True, False, False]
        assert await store.outbox(10) == []
