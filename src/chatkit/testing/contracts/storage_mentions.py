"""Mentions, pins, titles and descriptions. Part of `StoreContract`."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ..._abilities import offers
from ...core.log.reads import UNREAD_ENTRIES_MAX
from ...core.log.references import PINS_MAX
from ...errors import BadRequestError, ForbiddenError, NotFoundError
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    NOW,
    add,
    device,
    do,
    edited,
    group,
    mentioning,
    one,
    pinned,
    reacted,
    read,
    recall,
    refused,
    remove,
    retitled,
    send,
    single,
    title_entry,
)
from .storage_delivery import AFTER, claimed, reached, whom
from .storage_references import said


async def unread(store: Store, user: str, conversation_id: str = "g") -> tuple[int, int]:
    """Messages and mentions that a member has not read, as both lists say."""
    rows = await store.conversations(user, None, None, 50)
    recent = await store.recent(user, None, None, 50, 1_000_000)
    found = {
        (it.unread, it.unread_mentions)
        for it in (*rows, *recent.rows)
        if it.head.conversation_id == conversation_id
    }
    (counts,) = found
    return counts


class MentionContract:
    """What mentions a member is counted apart from what is unread, and may wake them where the rest does not."""

    async def test_a_mention_is_counted_until_it_is_read(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), send("g", "ann", "k"))
        sent = mentioning("g", "ann", "m", "bob", "bob", "ann", "eve")
        first = await one(store, sent, base.Appended)
        again = await one(store, sent, base.Appended)

        assert (first.repeat, again.repeat, again.entry) == (False, True, first.entry)
        assert [await unread(store, it) for it in ("ann", "bob", "cat")] == [(0, 0), (2, 1), (2, 0)]
        await do(store, read("g", "bob", 2))
        assert await unread(store, "bob") == (1, 1)
        await do(store, read("g", "bob", 3))
        assert await unread(store, "bob") == (0, 0)

    async def test_nobody_is_mentioned_who_is_no_member_then(self, store: Store) -> None:
        await do(store, replace(group("g", "ann", "bob"), history="FROM_START"))
        await do(store, mentioning("g", "ann", "m", "cat"), add("g", "ann", "cat"))
        assert await unread(store, "cat") == (0, 0)
        await do(store, mentioning("g", "ann", "n", "cat"), remove("g", "ann", "cat"))
        await do(store, mentioning("g", "ann", "o", "cat"), add("g", "ann", "cat"))
        assert await unread(store, "cat") == (1, 1), "what was said to them before they went still is"

    async def test_a_recalled_mention_is_none(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, mentioning("g", "ann", "m", "bob"), base.Appended)
        await do(store, edited("g", "ann", sent.entry.message_id, mentions=["bob"]))
        await do(store, recall(sent.entry.message_id, "ann"))

        assert await unread(store, "bob") == (0, 0)

    async def test_an_edit_that_adds_a_mention_counts_once(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        sent = await one(store, mentioning("g", "ann", "m", "bob"), base.Appended)
        name = sent.entry.message_id
        await do(store, read("g", "bob", 2), read("g", "cat", 2))
        await do(store, edited("g", "ann", name, "one", mentions=["bob", "cat"]))
        await do(store, edited("g", "ann", name, "two", mentions=["cat"]), edited("g", "ann", name, "three"))

        assert [await unread(store, it) for it in ("bob", "cat")] == [(0, 0), (0, 1)]
        await do(store, read("g", "cat", 3))
        assert await unread(store, "cat") == (0, 0)
        await do(store, recall(name, "ann"))
        assert await unread(store, "cat") == (0, 0)

    async def test_by_name_and_with_everybody_are_two_mentions(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        sent = await one(store, mentioning("g", "ann", "m", "bob"), base.Appended)
        name = sent.entry.message_id
        await do(store, edited("g", "ann", name, "one", mentions=["*"]))
        await do(store, edited("g", "ann", name, "two", mentions=["*", "bob"]))

        assert [await unread(store, it) for it in ("bob", "cat")] == [(1, 2), (1, 1)]
        await do(store, edited("g", "ann", name, "three", mentions=["cat"]))
        assert [await unread(store, it) for it in ("bob", "cat")] == [(1, 2), (1, 2)]

    async def test_who_may_mentions_everybody(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), single("s", "ann", "bob"))
        error = await refused(store, mentioning("g", "bob", "m", "*"), ForbiddenError)
        assert error.reason == "ROLE"
        await refused(store, mentioning("s", "bob", "m", "*"), ForbiddenError)
        await do(store, mentioning("g", "ann", "m", "*", "bob"), add("g", "ann", "dan"))

        assert [await unread(store, it) for it in ("ann", "bob", "cat", "dan")] == [
            (0, 0),
            (1, 1),
            (1, 1),
            (0, 0),
        ]

    async def test_an_edit_keeps_everybody_mentioned_whoever_may(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, mentioning("g", "ann", "m", "*"), base.Appended)
        await do(store, base.UpdateConversation("g", "ann", None, "bob", NOW))
        await do(store, edited("g", "ann", sent.entry.message_id, mentions=["*"]))
        plain = await said(store, "plain")

        await refused(store, edited("g", "ann", plain, mentions=["*"]), ForbiddenError)
        assert await unread(store, "bob") == (2, 1)

    async def test_a_mention_wakes_whoever_muted_the_rest(self, store: Store) -> None:
        await do(store, *(device(it) for it in ("bob", "cat")), reached("bob"), reached("cat"))
        await do(store, group("g", "ann", "bob", "cat"), send("g", "ann", "k"))
        await do(store, base.Mute("g", "bob", NOW + 100, True), base.Mute("g", "cat", NOW + 100))
        sent = await one(store, mentioning("g", "ann", "m", "bob", "cat"), base.Appended)
        claims = await claimed(store, NOW + AFTER)
        (target,) = await store.deliveries.targets([claims["g"]], NOW)

        assert (target.user_id, target.only_mentions, target.mentioned) == ("bob", True, (3,))
        assert await store.deliveries.unread(["bob", "cat"], NOW) in ({"bob": 1}, {"bob": 1, "cat": 0})
        rows = [it for user in ("bob", "cat") for it in await store.conversations(user, None, None, 9)]
        assert [(it.muted_until_ms, it.but_mentions) for it in rows] == [
            (NOW + 100, True),
            (NOW + 100, False),
        ]
        heads = [it for user in ("bob", "cat") for it in await store.heads(user, "phone")]
        assert [it.but_mentions for it in heads] == [True, False]
        assert await whom(store, claims["g"], now_ms=NOW + 100) == [("bob", "phone"), ("cat", "phone")]
        if offers(store, base.TrailReader):  # an ability beside `Store`
            trail = await store.trail(sent.entry.message_id, None, 9)
            assert [it.muted_until_ms for it in trail.readers] == [0, 0, NOW + 100]
        await do(store, base.Mute("g", "bob", NOW + 200))
        assert await whom(store, claims["g"], now_ms=NOW + 100) == [("cat", "phone")]

    async def test_what_mentions_is_counted_however_much_followed(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), mentioning("g", "ann", "all", "*"))
        sent = await one(store, mentioning("g", "ann", "m", "bob"), base.Appended)
        name = sent.entry.message_id
        for start in range(0, UNREAD_ENTRIES_MAX, 500):
            keys = range(start, start + 500)
            await do(store, *(reacted("g", "ann", name, removed=n % 2 == 1, key=f"r{n}") for n in keys))

        assert await unread(store, "bob") == (0, 2), "messages are counted among the newest entries"
        assert await unread(store, "ann") == (0, 0)
        await do(store, read("g", "bob", 2))
        assert await unread(store, "bob") == (0, 1)

    async def test_what_mentions_is_told_however_much_followed(self, store: Store) -> None:
        await do(store, device("bob"), reached("bob"), group("g", "ann", "bob", "cat"))
        await do(store, mentioning("g", "ann", "m", "bob"), mentioning("g", "ann", "all", "*"))
        for start in range(0, 1000, 100):
            await do(store, *(mentioning("g", "ann", f"k{start + n}", "cat") for n in range(100)))
        claims = await claimed(store, NOW + AFTER)
        (target,) = await store.deliveries.targets([claims["g"]], NOW)

        assert target.mentioned == (2, 3)
        await do(store, *(mentioning("g", "ann", f"m{n}", "bob") for n in range(base.MENTIONED_MAX)))
        (target,) = await store.deliveries.targets([claims["g"]], NOW)
        named = range(1004, 1004 + base.MENTIONED_MAX)
        assert target.mentioned == (3, *named), "the newest, by name and with everybody"
        await do(store, read("g", "bob", 1010))
        (target,) = await store.deliveries.targets([claims["g"]], NOW)
        assert target.mentioned == (*named[7:],)


class PinContract:
    """What is pinned is a small list beside the log, of what its reader may see."""

    async def test_a_pin_that_begins_and_ends_at_once_fails_no_batch(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        await do(store, group("g", "ann", "bob"))
        names = [await said(store, it) for it in ("one", "two")]
        await do(store, pinned("g", "ann", names[0]), pinned("g", "ann", names[0], unpin=True))
        assert await store.pins("g", "bob", 0) == []

        await do(store, *(pinned("g", "ann", it, key=f"again {it}") for it in names))
        unpin, again = (
            pinned("g", "ann", names[0], unpin=True, key="2nd"),
            pinned("g", "ann", names[0], key="3rd"),
        )
        await do(store, unpin, again)
        assert [(it.seq, it.pinned_by_seq) for it in await store.pins("g", "bob", 0)] == [(2, 9), (3, 7)]
        assert [it for it in caplog.records if it.exc_info] == []

    async def test_a_pin_is_an_entry_and_is_listed(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        names = [await said(store, it) for it in ("one", "two", "three")]
        await do(store, *(pinned("g", "ann", it) for it in (names[1], names[0])))
        await do(store, pinned("g", "ann", names[1], key="again"))

        assert await store.pins("g", "bob", 0) == [
            base.PinRow(2, 6, "ann", NOW),
            base.PinRow(3, 5, "ann", NOW),
        ]
        await do(store, pinned("g", "ann", names[1], unpin=True))
        assert [it.seq for it in await store.pins("g", "bob", 0)] == [2]
        assert await unread(store, "bob") == (3, 0)
        await do(store, recall(names[0], "ann"))
        assert await store.pins("g", "ann", 0) == []
        acts = [(row.action, row.actor_id, row.seq, row.subject) for row in await store.audit("g")]
        assert acts[1:4] == [
            ("PINNED", "ann", 5, names[1]),
            ("PINNED", "ann", 6, names[0]),
            ("UNPINNED", "ann", 8, names[1]),
        ]

    async def test_pinned_messages_come_along_as_pages_show_them(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), add("g", "ann", "cat"))
        names = [await said(store, it) for it in ("one", "two", "three")]
        await do(store, *(pinned("g", "ann", it) for it in (names[2], names[0])))
        await do(store, edited("g", "ann", names[0], "better"), reacted("g", "bob", names[0], "+1"))
        page = await store.page("g", "bob", 0, 200, 1_000_000)
        shown = {it.message_id: it for it in page.entries}

        assert [it.entry for it in await store.pins("g", "bob", 1_000_000)] == [
            shown[names[0]],
            shown[names[2]],
        ]
        assert [it.entry for it in await store.pins("g", "bob", 1)] == [shown[names[0]], None]
        assert [it.entry for it in await store.pins("g", "bob", 0)] == [None, None]

    async def test_who_may_not_see_it_gets_none(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), single("s", "ann", "bob"))
        name = await said(store)
        other = await said(store, conversation_id="s")
        await do(store, pinned("g", "ann", name), add("g", "ann", "cat"), pinned("s", "bob", other))

        assert [it.by_id for it in await store.pins("s", "ann", 0)] == ["bob"]
        assert await store.pins("g", "cat", 0) == []
        for outsider in ("dan", "eve"):
            try:
                await store.pins("g", outsider, 0)
            except NotFoundError:
                continue
            raise AssertionError("an outsider was told what is pinned")
        await refused(store, pinned("g", "cat", name), BadRequestError)
        error = await refused(store, pinned("g", "bob", name), ForbiddenError)
        assert error.reason == "ROLE"
        await refused(store, pinned("g", "ann", other), BadRequestError)

    async def test_pins_are_bounded(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), *(send("g", "ann", str(n)) for n in range(PINS_MAX + 1)))
        names = [it.message_id for it in await store.entries("g", 1, PINS_MAX + 1)]
        await do(store, *(pinned("g", "ann", it) for it in names[:-1]))

        await refused(store, pinned("g", "ann", names[-1]), BadRequestError)
        await do(store, pinned("g", "ann", names[0], key="again"), recall(names[0], "ann"))
        await do(store, pinned("g", "ann", names[-1], key="now"))
        await refused(store, pinned("g", "ann", names[0], key="recalled"), ForbiddenError)
        assert len(await store.pins("g", "bob", 0)) == PINS_MAX


class TitleContract:
    """The log tells who called a group what; the lists show it at once."""

    async def test_a_title_is_an_entry_and_is_shown_at_once(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        made = await one(store, retitled("g", "ann", "Tea", "at four", NOW + 5), base.Appended)
        await do(store, retitled("g", "ann", None, "at five"))

        found = await store.conversation("g", "bob")
        assert (found.title, found.description, found.head_seq) == ("Tea", "at five", 3)
        (row,) = await store.conversations("bob", None, None, 9)
        assert (row.title, row.description, row.last_activity_ms) == ("Tea", "at five", NOW + 5)
        assert [it.payload for it in await store.entries("g", 1, 1)] == [made.entry.payload]
        assert await unread(store, "bob") == (0, 0)
        acts = [(row.action, row.seq, row.subject) for row in await store.audit("g")]
        assert acts[1:] == [
            ("TITLE_CHANGED", 2, "Tea"),
            ("DESCRIPTION_CHANGED", 2, "at four"),
            ("DESCRIPTION_CHANGED", 3, "at five"),
        ]

    async def test_who_may_not_changes_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), single("s", "ann", "bob"))
        error = await refused(store, retitled("g", "bob", "mine"), ForbiddenError)
        assert error.reason == "ROLE"
        await refused(store, retitled("s", "ann", "ours"), ForbiddenError)
        await refused(store, retitled("g", "cat", "theirs"), NotFoundError)

        assert (await store.conversation("g", "ann")).title == "title"

    async def test_the_host_describes_a_group_under_the_owners_name(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        command = base.UpdateConversation("g", None, title_entry(None, "for all"), None, NOW)
        done = await one(store, command, base.Updated)
        again = await one(
            store,
            base.UpdateConversation("g", "bob", title_entry(None, "for all"), None, NOW),
            base.Updated,
        )

        assert done.entry is not None
        assert (done.entry.seq, done.entry.sender_id, done.conversation.description) == (2, "ann", "for all")
        assert (again.changed, again.entry, again.conversation.head_seq) == (False, None, 2)
