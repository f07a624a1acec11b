"""Streamed messages: parts in order, what a page shows of them, and what ends them. Part of `StoreContract`."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from ..._abilities import offers
from ...core.log.outcomes import message_place
from ...core.log.stream_rows import OPEN_MAX
from ...errors import (
    BadRequestError,
    ConflictError,
    EditWindowPassedError,
    ForbiddenError,
    NotFoundError,
    PartOutOfOrderError,
    RateLimitedError,
    RecallWindowPassedError,
    StreamEndedError,
    TooLargeError,
)
from ...storage import base
from ...storage.base import Store, Streamed
from ...wire.events import STREAM_BYTES_MAX, STREAM_PARTS_MAX
from ...wire.payload import canonical
from .storage_commands import NOW, TOMBSTONE, add, do, edited, group, one, recall, refused, remove, send, text
from .storage_references import shown


def begun(words: str = "", sender: str = "ann", key: str = "s", conversation_id: str = "g") -> base.Append:
    """A message that takes parts."""
    payload = canonical({"type": "STREAM", "text": words})
    return base.Append(conversation_id, sender, key, payload, hashlib.sha256(payload).digest(), NOW)


def part(
    name: str, number: int, words: str, at_ms: int = NOW, sender: str = "ann", conversation_id: str = "g"
) -> base.AppendPart:
    """A part of it."""
    return base.AppendPart(conversation_id, name, sender, number, words, len(words), at_ms)


def ended(name: str, words: str, sender: str = "ann", at_ms: int = NOW, ends: str = "WHOLE") -> base.Append:
    """Its end by its author."""
    seq = int(name.rsplit("-", 1)[-1], 16)
    final = {"type": "TEXT", "text": words}
    payload = canonical({"type": "EDIT", "messageId": name, "seq": seq, "ends": ends, "payload": final})
    mac = hashlib.sha256(payload).digest()
    return base.Append("g", sender, f"end {name} {words}", payload, mac, at_ms, edit_window_ms=1_000)


def cut_off(it: base.IdleStream, at_ms: int = NOW) -> base.EndStream:
    """Its end by the server."""
    command = ended(it.message_id, it.text, ends="CUT_OFF")
    place = (it.conversation_id, it.message_id, it.author_id, it.at_ms, it.parts)
    return base.EndStream(*place, f"end-{it.message_id}", command.payload, command.payload_mac, at_ms)


async def stream(store: Store, words: str = "") -> str:
    """A group of two, and a message at seq 2 that takes parts; its id."""
    await do(store, group("g", "ann", "bob"))
    return (await one(store, begun(words), base.Appended)).entry.message_id


async def idle(
    store: Store, before_ms: int, after_ms: int = NOW + 1_000_000, *, parts: bool = True
) -> list[base.IdleStream]:
    """What the server would end."""
    assert offers(store, base.StreamReader)
    return await store.idle_streams(before_ms, after_ms, 100, parts=parts)


class StreamContract:
    """Parts are kept beside the log until the message ends; then its text is an entry like any other."""

    async def test_parts_are_shown_in_order_until_the_end(self, store: Store) -> None:
        name = await stream(store, "a")
        assert (await shown(store, "bob", 2)).stream == Streamed(0, "a")
        first, second = await do(store, part(name, 1, "b"), part(name, 2, "\N{GRINNING FACE}"))
        assert first == base.PartAppended("g", "e1", name, 2, 1, 2, False)
        assert second == base.PartAppended("g", "e1", name, 2, 2, 2, False)

        entry = await shown(store, "bob", 2)
        assert (entry.stream, entry.edit) == (Streamed(2, "ab\N{GRINNING FACE}"), None)
        made = await one(store, ended(name, "final"), base.Appended)
        entry = await shown(store, "bob", 2)
        assert entry.stream is None
        assert entry.edit == base.StoredEdit(made.entry.seq, NOW, text("final"), "WHOLE")
        assert await idle(store, NOW) == []
        assert (await store.entries("g", 1, 1))[0].stream is None, "the log itself is as it was written"

    async def test_what_is_pushed_is_how_messages_read_now(self, store: Store) -> None:
        name = await stream(store)
        typo = (await one(store, send("g", "ann", "typo"), base.Appended)).entry.message_id
        key, _, _ = message_place(name) or (0, "", 0)
        places = [(key, 2), (key, 3)]
        untold = canonical({"type": "STREAM", "text": ""})
        assert await store.deliveries.payloads(places) == {places[0]: untold, places[1]: text("typo")}
        await do(store, edited("g", "ann", typo, "rihgt"), edited("g", "ann", typo, "right"))
        await do(store, part(name, 1, 'Lima "is" '), part(name, 2, "the"))
        so_far = canonical({"type": "STREAM", "text": 'Lima "is" the'})
        assert await store.deliveries.payloads(places) == {places[0]: so_far, places[1]: text("right")}
        await do(store, ended(name, "Lima is the capital."))
        final = text("Lima is the capital.")
        assert await store.deliveries.payloads(places) == {places[0]: final, places[1]: text("right")}
        await do(store, recall(name, "ann"))
        assert await store.deliveries.payloads(places) == {places[1]: text("right")}

    async def test_a_part_is_taken_once_and_in_its_turn(self, store: Store) -> None:
        name = await stream(store)
        await do(store, part(name, 1, "a"), part(name, 2, "b"))
        again = await one(store, part(name, 1, "other"), base.PartAppended)
        assert (again.parts, again.repeat) == (2, True)
        asked = await one(store, part(name, 0, ""), base.PartAppended)
        assert (asked.parts, asked.repeat) == (2, True)
        error = await refused(store, part(name, 4, "d"), PartOutOfOrderError)
        assert isinstance(error, PartOutOfOrderError)
        assert error.expected_part == 3
        assert (await shown(store, "bob", 2)).stream == Streamed(2, "ab")

    async def test_only_the_author_adds_parts_and_only_as_a_member(self, store: Store) -> None:
        name = await stream(store)
        await do(store, group("h", "ann", "eve"))
        await refused(store, part(name, 1, "x", sender="bob"), NotFoundError)
        await refused(store, part(name, 1, "x", sender="eve"), NotFoundError)
        await refused(store, part(name, 1, "x", conversation_id="h"), NotFoundError)
        await refused(store, part(name, 1, "x", conversation_id="none"), NotFoundError)
        await refused(store, part(name[:-1] + "f", 1, "x"), NotFoundError)
        await do(store, remove("g", None, "ann"))
        await refused(store, part(name, 1, "x"), NotFoundError)
        assert (await shown(store, "bob", 2)).stream == Streamed(0, "")

    async def test_an_ended_stream_takes_no_parts(self, store: Store) -> None:
        name = await stream(store)
        plain = (await one(store, send("g", "ann", "k"), base.Appended)).entry.message_id
        await refused(store, part(plain, 1, "x"), StreamEndedError)
        await do(store, ended(name, "done"))
        await refused(store, part(name, 1, "x"), StreamEndedError)

    async def test_a_recall_ends_it_and_takes_its_text(self, store: Store) -> None:
        name = await stream(store)
        await do(store, part(name, 1, "secret"))
        await do(store, recall(name, "ann"))
        await refused(store, part(name, 2, "x"), StreamEndedError)
        await refused(store, ended(name, "late"), StreamEndedError)
        entry = await shown(store, "bob", 2)
        assert (entry.payload, entry.stream, entry.edit) == (TOMBSTONE, None, None)
        assert await idle(store, NOW) == []

    async def test_its_author_may_recall_it_while_it_is_open_and_for_a_while_after_its_end(
        self, store: Store
    ) -> None:
        name = await stream(store)
        late = recall(name, "ann", at_ms=NOW + 50_101, window_ms=100)
        await do(
            store, ended(name, "whole", at_ms=NOW + 50_000), edited("g", "ann", name, at_ms=NOW + 50_001)
        )
        await refused(store, late, RecallWindowPassedError)
        await do(store, recall(name, "ann", at_ms=NOW + 50_100, window_ms=100))

        for key, more in (("open", []), ("just ended", [50_000])):
            name = (await one(store, begun(key=key), base.Appended)).entry.message_id
            ends = [ended(name, key, at_ms=NOW + at_ms) for at_ms in more]
            *_, recalled = await do(store, *ends, recall(name, "ann", at_ms=NOW + 50_050, window_ms=100))
            assert isinstance(recalled, base.Recalled)
            assert (await shown(store, "bob", recalled.entry.seq)).sender_id == "ann"

    async def test_its_first_edit_is_its_end_however_late(self, store: Store) -> None:
        name = await stream(store)
        plain = (await one(store, send("g", "ann", "k"), base.Appended)).entry.message_id
        await refused(store, edited("g", "ann", name), ForbiddenError)
        await refused(store, ended(name, "x", sender="bob"), ForbiddenError)
        await refused(store, ended(plain, "x"), BadRequestError)
        await do(store, ended(name, "whole", at_ms=NOW + 100_000))
        entry = await shown(store, "bob", 2)
        assert entry.edit is not None
        assert entry.edit.payload == text("whole")

    async def test_it_may_be_edited_for_a_while_after_its_end_however_long_it_took(
        self, store: Store
    ) -> None:
        """The window is a minute: who was cut off can still send the whole."""
        name = await stream(store, "a")
        (found,) = await idle(store, NOW)
        await do(store, cut_off(found, at_ms=NOW + 1_000_000))
        late = replace(ended(name, "late", at_ms=NOW + 1_060_001), edit_window_ms=60_000)
        await refused(store, late, EditWindowPassedError)
        await do(store, replace(ended(name, "whole", at_ms=NOW + 1_060_000), edit_window_ms=60_000))
        assert (await shown(store, "bob", 2)).edit == base.StoredEdit(
            4, NOW + 1_060_000, text("whole"), "WHOLE"
        )

        name = (await one(store, begun(key="in one batch"), base.Appended)).entry.message_id
        ends = ended(name, "end", at_ms=NOW + 2_000_000)
        _, corrected = await do(store, ends, edited("g", "ann", name, at_ms=NOW + 2_000_001))
        assert isinstance(corrected, base.Appended)

    async def test_the_server_ends_what_is_silent_and_its_author_may_correct_it(self, store: Store) -> None:
        name = await stream(store, "a")
        await do(store, part(name, 1, "b", NOW + 10))
        assert await idle(store, NOW + 9) == []
        assert await idle(store, NOW + 9, NOW + 10) == []
        assert await idle(store, NOW + 10) == await idle(store, NOW - 10, NOW + 9), (
            "a clock that was set back"
        )
        (found,) = await idle(store, NOW + 10)
        assert found == base.IdleStream("g", name, 2, "ann", NOW + 10, 1, "ab")
        assert [it.text for it in await idle(store, NOW + 10, parts=False)] == ["a"]

        await do(store, part(name, 2, "c", NOW + 20))
        await refused(store, cut_off(found), ConflictError)
        await do(store, part(name, 0, "", NOW + 30))
        (found,) = await idle(store, NOW + 30)
        made = await one(store, cut_off(found), base.Appended)
        assert (made.entry.sender_id, made.entry.seq, made.repeat) == ("ann", 3, False)
        await refused(store, cut_off(found), ConflictError)
        await refused(store, part(name, 3, "d"), StreamEndedError)
        entry = await shown(store, "bob", 2)
        assert entry.edit is not None
        assert entry.edit.payload == text("abc")
        await do(store, ended(name, "abcd", at_ms=NOW + 500))
        assert (await shown(store, "bob", 2)).edit == base.StoredEdit(4, NOW + 500, text("abcd"), "WHOLE")

    async def test_no_part_that_was_answered_is_missing_where_clocks_differ(self, store: Store) -> None:
        name = await stream(store)
        await do(store, part(name, 1, "a", NOW + 100))
        (found,) = await idle(store, NOW - 50, NOW + 50)  # as a node sees it whose clock is behind
        await do(store, part(name, 2, "b", NOW))
        await refused(store, cut_off(found), ConflictError)
        assert (await shown(store, "bob", 2)).stream == Streamed(2, "ab")
        (found,) = await idle(store, NOW - 50, NOW + 50, parts=False)
        assert (found.parts, found.text) == (2, ""), "those that are not shown count too"
        (found,) = await idle(store, NOW - 50, NOW + 50)
        await one(store, cut_off(found), base.Appended)
        entry = await shown(store, "bob", 2)
        assert entry.edit is not None
        assert entry.edit.payload == text("ab")

    async def test_the_server_ends_it_though_its_author_has_left(self, store: Store) -> None:
        name = await stream(store)
        await do(store, part(name, 1, "a"), remove("g", None, "ann"))
        (found,) = await idle(store, NOW)
        await one(store, cut_off(found), base.Appended)
        entry = await shown(store, "bob", 2)
        assert entry.edit is not None
        assert entry.edit.payload == text("a")

    async def test_bounds(self, store: Store) -> None:
        name = await stream(store, "a")
        room = STREAM_BYTES_MAX - 1
        await do(store, *(part(name, it, "b" * 8192) for it in range(1, room // 8192 + 1)))
        last = room // 8192 + 1
        await refused(store, part(name, last, "b" * (room % 8192 + 1)), TooLargeError)
        await do(store, part(name, last, "b" * (room % 8192)))
        await refused(store, part(name, last + 1, "b"), TooLargeError)
        await do(store, ended(name, "a" + "b" * room))

        many = (await one(store, begun(key="many"), base.Appended)).entry.message_id
        await do(store, *(part(many, it, "b") for it in range(1, STREAM_PARTS_MAX + 1)))
        await refused(store, part(many, STREAM_PARTS_MAX + 1, "b"), TooLargeError)
        found = (await shown(store, "bob", 4)).stream
        assert found == Streamed(STREAM_PARTS_MAX, "b" * STREAM_PARTS_MAX)

    async def test_so_many_are_open_at_once(self, store: Store) -> None:
        name = await stream(store)
        await do(store, *(begun(key=f"k{it}") for it in range(1, OPEN_MAX)))
        await refused(store, begun(key="more"), RateLimitedError)
        await one(store, begun(key="k1"), base.Appended)  # a repeat is none more
        await one(store, begun(sender="bob", key="his"), base.Appended)
        await do(store, ended(name, "done"))
        await one(store, begun(key="more"), base.Appended)

    async def test_pages_and_lists_count_what_they_show_of_it(self, store: Store) -> None:
        name = await stream(store)
        await do(store, send("g", "bob", "after"), part(name, 1, "b" * 1_000))
        page = await store.page("g", "bob", 1, 10, 900)
        assert [it.seq for it in page.entries] == [2], "an entry always fits, and nothing beside this one"
        assert page.more
        other = (await one(store, begun("x", key="t"), base.Appended)).entry.message_id
        await do(store, part(other, 1, "y"))
        listed = await store.recent("bob", None, None, 10, 100_000)
        last = listed.rows[0].last
        assert last is not None
        assert last.stream == Streamed(1, "xy")

    async def test_an_expired_message_is_no_open_stream(self, store: Store) -> None:
        name = await stream(store)
        await do(store, part(name, 1, "old"), send("g", "bob", "new"))
        await do(store, base.Expire("g", 2, None, NOW))
        await refused(store, part(name, 2, "x"), StreamEndedError)
        assert await idle(store, NOW) == []

    async def test_who_comes_later_gets_the_whole(self, store: Store) -> None:
        name = await stream(store, "a")
        await do(store, part(name, 1, "b"), add("g", "ann", "eve"))
        page = await store.page("g", "eve", 0, 10, 100_000)
        assert [it.seq for it in page.entries] == [3], "what was before them is not theirs"
        await do(store, part(name, 2, "c"), ended(name, "abc"))
        page = await store.page("g", "eve", 0, 10, 100_000)
        assert [it.seq for it in page.entries] == [3, 4]

    async def test_begun_and_ended_in_one_batch(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        name = (await one(store, send("g", "ann", "x"), base.Appended)).entry.message_id
        following = f"{name.rsplit('-', 1)[0]}-3"
        outcomes = await store.commit([begun("a"), part(following, 1, "b"), ended(following, "ab")])
        assert [type(it) for it in outcomes] == [base.Appended, base.PartAppended, base.Appended]
        entry = await shown(store, "bob", 3)
        assert entry.stream is None
        assert entry.edit is not None

    async def test_a_repeat_of_its_beginning_is_answered_as_before(self, store: Store) -> None:
        name = await stream(store)
        await do(store, part(name, 1, "a"))
        again = await one(store, begun(), base.Appended)
        assert (again.repeat, again.entry.message_id) == (True, name)
        assert (await shown(store, "bob", 2)).stream == Streamed(1, "a")
        other = replace(begun("other"), client_msg_id="s")
        await refused(store, other, ConflictError)
