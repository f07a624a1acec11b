"""Messages that name an earlier one: edits, reactions, replies. Part of `StoreContract`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ...errors import BadRequestError, EditWindowPassedError, ForbiddenError
from ...storage import base
from ...storage.base import Entry, Store
from ...wire.payload import canonical
from .storage_commands import (
    NOW,
    TOMBSTONE,
    add,
    delivered,
    device,
    do,
    edited,
    group,
    one,
    reacted,
    read,
    recall,
    refused,
    remove,
    replied,
    send,
    single,
    text,
)


async def said(store: Store, words: str = "hi", sender: str = "ann", conversation_id: str = "g") -> str:
    """A message; its id."""
    sent = await one(store, send(conversation_id, sender, f"{sender} {words}", words), base.Appended)
    return sent.entry.message_id


def with_more(command: base.Append, more: dict[str, Any]) -> base.Append:
    """The same with further fields in its payload."""
    payload = canonical({**msgspec.json.decode(command.payload), **more})
    return replace(command, payload=payload, payload_mac=payload[-32:])


async def shown(store: Store, user: str, seq: int, conversation_id: str = "g") -> Entry:
    """An entry as a page shows it."""
    page = await store.page(conversation_id, user, seq - 1, 1, 1_000_000)
    assert [it.seq for it in page.entries] == [seq]
    return page.entries[0]


async def reactions(store: Store, user: str = "bob", seq: int = 2) -> list[tuple[str, int, tuple[str, ...]]]:
    """Of the entry at seq 2, where nothing else is said."""
    return [(it.reaction, it.count, it.user_ids) for it in (await shown(store, user, seq)).reactions]


class ReferenceContract:
    """What names a message stands in the log; a page shows it beside the message, which stays as it is."""

    async def test_an_edit_is_an_entry_and_is_shown_with_the_message(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        made = await one(store, edited("g", "ann", name, at_ms=NOW + 5), base.Appended)

        assert made.entry.seq == 3
        entry = await shown(store, "bob", 2)
        assert (entry.payload, entry.message_id) == (text("hi"), name)
        assert entry.edit == base.StoredEdit(3, NOW + 5, text("better"))
        assert (await shown(store, "bob", 3)).payload == made.entry.payload
        assert (await store.entries("g", 1, 1))[0].edit is None, "the log itself is as it was written"

    async def test_the_last_edit_counts_and_one_is_made_once(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        await do(store, edited("g", "ann", name, "second"), edited("g", "ann", name, "third"))
        again = await one(store, edited("g", "ann", name, "second"), base.Appended)

        assert (again.repeat, again.entry.seq) == (True, 3)
        entry = await shown(store, "ann", 2)
        assert entry.edit is not None
        assert (entry.edit.seq, entry.edit.payload) == (4, text("third"))

    async def test_what_else_a_payload_holds_changes_nothing_of_what_it_names(self, store: Store) -> None:
        """A field that means something in another type, and is odd here, hides no edit from its checks."""
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        odd: list[dict[str, Any]] = [
            {"reaction": 5},
            {"reaction": None},
            {"removed": "x"},
            {"replyTo2": 1},
            {"mime": 1},
        ]
        for number, more in enumerate(odd):
            await refused(store, with_more(edited("g", "bob", name, key=f"b{number}"), more), ForbiddenError)
            await one(store, with_more(edited("g", "ann", name, key=f"a{number}"), more), base.Appended)
        entry = await shown(store, "bob", 2)
        assert entry.edit is not None
        assert entry.edit.seq == 2 + len(odd)
        custom = {"type": "CUSTOM", "schema": "s", "data": 1, "fallbackText": "", "messageId": 5}
        target = {"messageId": name[:-1] + "f", "seq": 15}
        answer = canonical({**custom, "replyTo": target})
        await refused(store, base.Append("g", "bob", "k", answer, answer[:16], NOW), BadRequestError)

    async def test_who_may_edit_and_how_long(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
        name = await said(store)
        elsewhere = await said(store, conversation_id="h")
        made = await one(store, edited("g", "ann", name), base.Appended)

        await refused(store, edited("g", "bob", name), ForbiddenError)
        await refused(store, edited("g", "ann", name, "late", NOW + 60_001), EditWindowPassedError)
        await one(store, edited("g", "ann", name, "in time", NOW + 60_000), base.Appended)
        for nothing in (elsewhere, made.entry.message_id, name[:-1] + "1", name[:-1] + "f", "none-e1-2"):
            await refused(store, edited("g", "ann", nothing), BadRequestError)
            await refused(store, reacted("g", "bob", nothing), BadRequestError)
            await refused(store, replied("g", "bob", nothing), BadRequestError)

    async def test_of_what_one_cannot_see_nothing_is_said(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        await do(store, add("g", "ann", "cat"))

        await refused(store, replied("g", "cat", name), BadRequestError)
        await refused(store, reacted("g", "cat", name), BadRequestError)
        await do(store, remove("g", "ann", "bob"), add("g", "ann", "bob"))
        await one(store, replied("g", "bob", name), base.Appended)

    async def test_an_edit_is_shown_to_those_who_see_it(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        name = await said(store)
        await do(store, edited("g", "ann", name, "for both"), remove("g", "ann", "cat"))
        await do(store, edited("g", "ann", name, "for bob alone"), add("g", "ann", "cat"))

        of_bob, of_cat = [(await shown(store, user, 2)).edit for user in ("bob", "cat")]
        assert of_bob is not None
        assert of_cat is not None
        assert (of_bob.payload, of_cat.payload) == (text("for bob alone"), text("for both"))

    async def test_a_recall_takes_all_edits_along(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        await do(store, edited("g", "ann", name, "CANARY 1"), edited("g", "ann", name, "CANARY 2"))
        await do(store, reacted("g", "bob", name))
        recalled = await one(store, recall(name, "ann"), base.Recalled)

        assert msgspec.json.decode(recalled.entry.payload)["edits"] == [3, 4]
        for seq in (2, 3, 4):
            entry = await shown(store, "bob", seq)
            assert (entry.payload, entry.edit, entry.reactions) == (TOMBSTONE, None, ())
        again = await one(store, edited("g", "ann", name, "CANARY 1"), base.Appended)
        assert (again.repeat, again.entry.payload) == (True, TOMBSTONE)
        await refused(store, edited("g", "ann", name, "once more"), ForbiddenError)
        await refused(store, reacted("g", "bob", name, "-1"), ForbiddenError)
        await one(store, replied("g", "bob", name), base.Appended)
        assert (await one(store, recall(name, "ann"), base.Recalled)).repeat

    async def test_an_edit_and_a_reaction_are_not_recalled_by_themselves(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        for command in (edited("g", "ann", name), reacted("g", "ann", name)):
            made = await one(store, command, base.Appended)
            await refused(store, recall(made.entry.message_id, "ann"), ForbiddenError)

    async def test_reactions_are_counted_by_kind_the_oldest_first(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        name = await said(store)
        await do(store, reacted("g", "cat", name, "!"), reacted("g", "bob", name), reacted("g", "ann", name))

        assert await reactions(store) == [("!", 1, ("cat",)), ("+1", 2, ("bob", "ann"))]
        await do(store, reacted("g", "cat", name, "!", removed=True), reacted("g", "cat", name))
        assert await reactions(store) == [("+1", 3, ("bob", "ann", "cat"))]

    async def test_a_reaction_that_is_there_and_the_end_of_none_change_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        await do(store, reacted("g", "bob", name), reacted("g", "bob", name, key="another"))
        await do(store, reacted("g", "ann", name, removed=True))
        assert await reactions(store) == [("+1", 1, ("bob",))]

        ends = [reacted("g", "bob", name, removed=True), reacted("g", "bob", name, removed=True, key="2nd")]
        await do(store, *ends)
        assert await reactions(store) == []
        await do(store, reacted("g", "bob", name, key="third"))
        assert await reactions(store) == [("+1", 1, ("bob",))]

    async def test_a_reaction_that_begins_and_ends_at_once_fails_no_batch(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        await do(store, reacted("g", "bob", name), reacted("g", "bob", name, removed=True))
        assert await reactions(store) == []

        await do(store, reacted("g", "bob", name, key="once more"), reacted("g", "ann", name))
        ended, again = (
            reacted("g", "bob", name, removed=True, key="2nd"),
            reacted("g", "bob", name, key="3rd"),
        )
        await do(store, ended, again)
        assert await reactions(store) == [("+1", 2, ("ann", "bob"))], "the later one counts"
        assert [it for it in caplog.records if it.exc_info] == []

    async def test_ten_reactions_are_enough_for_one_user(self, store: Store) -> None:
        await do(store, single("g", "ann", "bob"))
        name = await said(store)
        await do(store, *(reacted("g", "bob", name, str(n)) for n in range(10)))

        await refused(store, reacted("g", "bob", name, "one more"), BadRequestError)
        await do(store, reacted("g", "bob", name, "3", key="again"), reacted("g", "ann", name, "one more"))

    async def test_neither_counts_as_unread_nor_is_either_an_authors_message(self, store: Store) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        name = await said(store)
        await do(store, delivered("g", "bob", 2), read("g", "bob", 2))
        await do(store, edited("g", "ann", name), reacted("g", "ann", name), replied("g", "ann", name))

        (row,) = await store.conversations("bob", None, None, 10)
        assert row.unread == 1, "the reply"

    async def test_a_list_shows_the_last_message_as_it_reads_now(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"), group("i", "ann", "bob"))
        names = [await said(store, conversation_id=it) for it in "gh"]
        await do(store, *(edited(it, "ann", name, f"in {it}") for it, name in zip("gh", names, strict=True)))

        page = await store.recent("bob", None, None, 10, 1_000_000)
        last = {it.head.conversation_id: it.last for it in page.rows}
        shown = {
            it: None if row is None or row.edit is None else row.edit.payload for it, row in last.items()
        }
        assert shown == {"g": text("in g"), "h": text("in h"), "i": None}

    async def test_a_list_stays_within_its_bytes_whatever_was_said_of_its_messages(
        self, store: Store
    ) -> None:
        for it in "ghi":
            await do(store, group(it, "ann", "bob"))
            name = await said(store, conversation_id=it)
            await do(store, edited(it, "ann", name, "x" * 500), reacted(it, "bob", name))

        page = await store.recent("bob", None, None, 10, 1_300)
        assert len(page.rows) == 2
        assert page.next_place is not None
        assert [it.last.reactions for it in page.rows if it.last is not None] == [(), ()], "a list shows none"

    async def test_pages_stay_within_their_bytes(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        names = [await said(store, f"hi {n}") for n in range(4)]
        await do(store, *(edited("g", "ann", name, "x" * 500) for name in names))

        page = await store.page("g", "bob", 1, 200, 1_300)
        assert [it.seq for it in page.entries] == [2, 3]
        assert page.more

    async def test_in_one_batch_each_sees_what_the_ones_before_it_did(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = await said(store)
        await do(store, edited("g", "ann", name), reacted("g", "bob", name), recall(name, "ann"))

        assert (await shown(store, "bob", 2)).payload == TOMBSTONE
        assert (await shown(store, "bob", 3)).payload == TOMBSTONE
