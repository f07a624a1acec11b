"""The log of a store: messages and their keys, pages, ids, recalls. Part of `StoreContract`."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from ...errors import ConflictError, ForbiddenError, NotFoundError, RecallWindowPassedError
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    EPOCH,
    NOW,
    TOMBSTONE,
    add,
    confirm,
    delivered,
    device,
    do,
    group,
    one,
    read,
    recall,
    refused,
    remove,
    resume,
    send,
    seqs,
    single,
    snapshot,
    text,
    texts,
)


class AppendContract:
    """Idempotency, order and refusals of messages."""

    async def test_a_message_gets_the_next_seq_and_is_read_back(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k1", "hi", at_ms=NOW + 5), base.Appended)

        assert not sent.repeat
        assert (sent.entry.seq, sent.entry.server_ts, sent.entry.epoch) == (2, NOW + 5, EPOCH)
        assert (sent.entry.sender_id, sent.entry.client_msg_id) == ("ann", "k1")
        page = await store.page("g", "ann", 1, 10, 1000)
        assert page.entries == (sent.entry,)

    async def test_the_key_is_shown_to_its_author_only(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k1"))

        assert (await store.page("g", "bob", 1, 10, 1000)).entries[0].client_msg_id is None

    async def test_the_same_key_gets_the_first_answer_in_later_and_in_the_same_batch(
        self, store: Store
    ) -> None:
        first, twice = (
            await do(store, group("g", "ann", "bob"), send("g", "ann", "k"), send("g", "ann", "k"))
        )[1:]
        later = await one(store, send("g", "ann", "k", at_ms=NOW + 99), base.Appended)

        assert isinstance(first, base.Appended)
        assert isinstance(twice, base.Appended)
        assert (first.repeat, twice.repeat, later.repeat) == (False, True, True)
        assert first.entry == twice.entry == later.entry
        assert await seqs(store, "g", "bob") == [1, 2]

    async def test_the_same_key_of_another_sender_is_another_message(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"), send("g", "bob", "k", "other"))

        assert await seqs(store, "g", "ann") == [1, 2, 3]

    async def test_the_same_key_in_another_conversation_is_another_message(self, store: Store) -> None:
        await do(store, group("g", "ann"), group("h", "ann"), send("h", "ann", "before"))
        for name, seq in (("g", 2), ("h", 3)):
            sent = await one(store, send(name, "ann", "k", f"in {name}"), base.Appended)
            assert (sent.repeat, sent.entry.conversation_id, sent.entry.seq) == (False, name, seq)

    async def test_the_same_key_with_another_payload_is_a_conflict(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k", "one"))

        await refused(store, send("g", "ann", "k", "two"), ConflictError)

    async def test_a_repeat_is_answered_after_leaving_and_a_new_key_is_not(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        first = await one(store, send("g", "bob", "k"), base.Appended)
        await do(store, remove("g", "bob", "bob"))

        again = await one(store, send("g", "bob", "k"), base.Appended)
        assert (again.entry, again.repeat) == (first.entry, True)
        await refused(store, send("g", "bob", "k", "other"), ConflictError)
        await refused(store, send("g", "bob", "new"), NotFoundError)

    async def test_a_repeat_after_a_recall_has_the_old_place_and_no_body(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        first = await one(store, send("g", "ann", "k", "secret"), base.Appended)
        await do(store, recall(first.entry.message_id, "ann"))

        again = await one(store, send("g", "ann", "k", "secret"), base.Appended)
        assert again.entry == msgspec.structs.replace(first.entry, payload=TOMBSTONE)

    async def test_strangers_and_missing_conversations_read_the_same(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))

        stranger = await refused(store, send("g", "eve", "k"), NotFoundError)
        missing = await refused(store, send("nowhere", "eve", "k"), NotFoundError)
        assert str(stranger) == str(missing)

    async def test_seqs_are_dense_over_batches_with_refusals_between(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
        for turn in range(5):
            batch: list[base.Command] = []
            for number in range(10):
                batch.append(send("gh"[number % 2], "ann", f"{turn}-{number}"))
                batch.append(send("g", "eve", f"{turn}-{number}"))
                batch.append(send("g", "ann", "0-0", "conflict"))
            await store.commit(batch)

        assert await seqs(store, "g", "bob") == list(range(1, 27))
        assert await seqs(store, "h", "bob") == list(range(1, 27))

    async def test_a_refusal_leaves_its_neighbours_alone_and_no_trace(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("bob"))
        before = await snapshot(store, ["g"], ["ann", "bob", "eve"])
        first = (await store.entries("g", 0, 1))[0].message_id
        bad: list[base.Command] = [
            send("g", "eve", "k"),
            delivered("g", "bob", 9),
            delivered("g", "bob", 9, "unknown"),
            base.ConfirmMessage(first, "bob", "unknown", NOW, "another"),
            read("g", "bob", 9),
            delivered("g", "eve", 1),
            read("nowhere", "bob", 0),
            confirm("1-zz-1", "bob"),
            recall("nonsense", "ann"),
            add("g", "bob", "eve"),
            remove("g", "bob", "ann"),
            single("g", "ann", "eve"),
            resume(b"unknown"),
            base.RenewEpoch("nowhere", "e2", NOW),
        ]
        outcomes = await store.commit(bad)

        errors = [outcome.error for outcome in outcomes if isinstance(outcome, base.Refused)]
        assert len(errors) == len(bad) == len({id(error) for error in errors})
        assert await snapshot(store, ["g"], ["ann", "bob", "eve"]) == before
        assert [it.device_id for it in (await store.status(first, "ann", None, 9)).deliveries] == ["phone"]
        mixed = await store.commit([bad[0], send("g", "ann", "k1"), bad[1], send("g", "ann", "k2")])
        assert [type(outcome) for outcome in mixed] == [
            base.Refused,
            base.Appended,
            base.Refused,
            base.Appended,
        ]
        assert await seqs(store, "g", "bob") == [1, 2, 3]

    async def test_an_empty_batch_is_nothing(self, store: Store) -> None:
        assert await store.commit([]) == []
        assert store.healthy

    async def test_as_many_batches_at_once_as_it_takes_make_whole_logs(self, store: Store) -> None:
        """No two of them name one conversation alike; a recall names it by an entry."""
        others = store.commits_in_flight_max - 1
        assert others >= 0
        names = [f"g{number}" for number in range(max(others, 1))]
        await do(store, *(group(name, "ann") for name in names))
        first = (await one(store, send(names[0], "ann", "first"), base.Appended)).entry

        async def send_some(name: str) -> None:
            for turn in range(5):
                await do(store, send(name, "ann", f"{turn} a"), send(name, "ann", f"{turn} b"))

        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(send_some, name)
            if others:
                tasks.start_soon(do, store, recall(first.message_id, "ann"))

        for name in names:
            entries = await store.entries(name, 0, 100)
            assert [it.seq for it in entries] == list(range(1, len(entries) + 1))
            keys = [it.client_msg_id for it in entries if it.client_msg_id not in (None, "first")]
            assert keys == [f"{turn} {half}" for turn in range(5) for half in "ab"]

    async def test_texts_of_every_kind_come_back_byte_for_byte(self, store: Store) -> None:
        await do(store, single("s", "ann", "bob"))
        words = ["", "你好 👋", "'; DROP TABLE message; --", "a" * 60_000]
        for number, word in enumerate(words):
            await do(store, send("s", "ann", f"k'{number}\"", word))

        assert (await texts(store, "s", "bob"))[1:] == [text(word) for word in words]


class PageContract:
    """Pages and lists: bounds and order."""

    async def test_pages_follow_each_other_without_gap_or_double(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), *(send("g", "ann", str(n)) for n in range(9)))
        covered, after, turns = [], 0, 0
        while True:
            page = await store.page("g", "bob", after, 3, 10_000)
            covered += [entry.seq for entry in page.entries]
            after, turns = page.up_to_seq, turns + 1
            assert page.head_seq == 10
            if not page.more:
                break

        assert (covered, after, turns) == (list(range(1, 11)), 10, 4)

    async def test_bytes_end_a_page_but_one_entry_always_fits(self, store: Store) -> None:
        await do(store, group("g", "ann"), *(send("g", "ann", str(n), "x" * 100) for n in range(5)))

        page = await store.page("g", "ann", 1, 200, 300)
        assert [entry.seq for entry in page.entries] == [2, 3]
        assert (page.up_to_seq, page.more) == (3, True)
        tiny = await store.page("g", "ann", 1, 200, 1)
        assert ([entry.seq for entry in tiny.entries], tiny.more) == ([2], True)

    async def test_at_and_beyond_the_head_there_is_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        for after in (1, 2, 2**53 - 1):
            page = await store.page("g", "ann", after, 200, 1000)
            assert (page.entries, page.up_to_seq, page.more) == ((), 1, False)

    async def test_a_page_reaches_over_what_is_not_visible(self, store: Store) -> None:
        await do(store, group("g", "ann"), add("g", "ann", "bob"), remove("g", "ann", "bob"))
        await do(store, *(send("g", "ann", str(n)) for n in range(3)), add("g", "ann", "bob"))

        first = await store.page("g", "bob", 0, 1, 1000)
        assert ([it.seq for it in first.entries], first.up_to_seq, first.more) == ([2], 2, True)
        second = await store.page("g", "bob", 2, 1, 1000)
        assert ([it.seq for it in second.entries], second.up_to_seq, second.more) == ([7], 7, False)

    async def test_conversations_are_listed_by_id_in_pages(self, store: Store) -> None:
        await do(store, *(group(f"g{n}", "ann", "bob") for n in (3, 1, 2)), group("x", "bob"))

        first = await store.conversations("ann", None, None, 2)
        second = await store.conversations("ann", None, first[-1].head.conversation_id, 2)
        assert [it.head.conversation_id for it in first + second] == ["g1", "g2", "g3"]
        assert [it.title for it in first] == ["title", "title"]

    async def test_a_list_shows_the_cursor_of_a_device_or_of_the_user(self, store: Store) -> None:
        await do(
            store, group("g", "ann", "bob"), device("ann"), device("ann", "tablet"), send("g", "bob", "k")
        )
        await do(store, delivered("g", "ann", 2), delivered("g", "ann", 1, "tablet"))
        for device_id, seq in ((None, 2), ("phone", 2), ("tablet", 1)):
            (row,) = await store.conversations("ann", device_id, None, 9)
            assert row.head.delivered_seq == seq

    async def test_heads_name_what_a_device_misses_first_then_the_newest(self, store: Store) -> None:
        await do(store, device("ann"), *(group(f"g{n}", "ann", "bob", at_ms=NOW + n) for n in range(4)))
        await do(store, delivered("g3", "ann", 1), delivered("g1", "ann", 1))

        assert [it.conversation_id for it in await store.heads("ann", "phone")] == ["g2", "g0", "g3", "g1"]
        await do(store, send("g1", "bob", "k", at_ms=NOW + 9))
        assert [it.conversation_id for it in await store.heads("ann", "phone")] == ["g1", "g2", "g0", "g3"]

    async def test_heads_say_what_a_list_shows(self, store: Store) -> None:
        await do(
            store, group("g", "ann", "bob"), group("h", "ann", "bob"), send("g", "bob", "k", at_ms=NOW + 3)
        )
        await do(store, base.Mute("g", "ann", NOW + 99))
        shown = {it.conversation_id: it for it in await store.heads("ann", "phone")}
        assert [(it.title, it.last_activity_ms, it.muted_until_ms) for it in (shown["g"], shown["h"])] == [
            ("title", NOW + 3, NOW + 99),
            ("title", NOW, 0),
        ]

    async def test_unread_counts_what_others_wrote_and_did_not_recall(self, store: Store) -> None:
        async def unread() -> int:
            ((found),) = await store.conversations("ann", None, None, 1)
            return found.unread

        await do(store, group("g", "bob", "ann", "cat"))
        assert await unread() == 0
        sent = [await one(store, send("g", "bob", str(n)), base.Appended) for n in range(3)]
        await do(store, send("g", "ann", "own"))
        assert await unread() == 3
        await do(store, recall(sent[0].entry.message_id, "bob"))
        assert await unread() == 2
        await do(store, read("g", "ann", sent[1].entry.seq))
        assert await unread() == 1
        await do(store, *(send("g", "bob", f"many-{n}") for n in range(1200)))
        assert await unread() == 999
        await do(store, remove("g", "bob", "ann"), *(send("g", "bob", f"away-{n}") for n in range(5)))
        await do(store, add("g", "bob", "ann"), read("g", "ann", 1206), send("g", "bob", "last"))
        assert await unread() == 1

    async def test_the_log_itself_is_read_by_nobody_in_particular(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "a"), send("g", "bob", "b"))
        (third,) = await store.entries("g", 2, 10)
        await do(store, recall(third.message_id, "bob"), remove("g", "ann", "ann"), send("g", "bob", "c"))

        log = await store.entries("g", 0, 100)
        assert [entry.seq for entry in log] == [1, 2, 3, 4, 5, 6]
        assert [entry.client_msg_id for entry in log] == [None, "a", "b", None, None, "c"]
        assert (log[2].payload, log[2].message_id) == (TOMBSTONE, third.message_id)
        assert [entry.seq for entry in await store.entries("g", 1, 2)] == [2, 3]
        assert await store.entries("g", 6, 10) == []
        assert await store.entries("nowhere", 0, 10) == []

    async def test_head_seqs_pass_over_what_is_missing(self, store: Store) -> None:
        await do(store, group("g", "ann"), send("g", "ann", "k"))

        assert await store.head_seqs(["nowhere", "g"]) == {"g": (EPOCH, 2)}
        assert await store.head_seqs([]) == {}


def aliases(name: str) -> list[str]:
    """Other spellings of the numbers in an id that ends with `a`, as a lenient parser reads them."""
    key, epoch, _ = name.split("-")
    keys = [f"0x{key}", f"0{key}", f"+{key}", f" {key}", f"0_{key}", "\uff11"]
    seqs = ["A", "0xa", "0X0A", "0a", "+a", "a ", "a\n", "0_a"]
    return [f"{it}-{epoch}-a" for it in keys] + [f"{key}-{epoch}-{it}" for it in seqs]


class IdContract:
    """A message has one id."""

    async def test_other_spellings_of_an_id_are_no_ids(self, store: Store) -> None:
        await do(
            store, group("g", "ann", "bob"), device("bob"), *(send("g", "ann", f"{n}") for n in range(8))
        )
        sent = await one(store, send("g", "ann", "the tenth"), base.Appended)
        name = sent.entry.message_id
        assert name == base.message_id(1, EPOCH, 10)

        for alias in aliases(name):
            assert base.message_place(alias) is None
            with pytest.raises(NotFoundError):
                await store.status(alias, "ann", None, 10)
            for command in (recall(alias, "ann"), confirm(alias, "bob")):
                (outcome,) = await store.commit([command])
                assert isinstance(outcome, base.Refused)
                assert type(outcome.error) is NotFoundError
        assert (await store.status(name, "ann", None, 10)).status == "SENT"
        await one(store, confirm(name, "bob"), base.Advanced)
        await one(store, recall(name, "ann"), base.Recalled)


class RecallContract:
    """Withdrawing a message."""

    async def test_a_recalled_body_is_gone_everywhere(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k", "secret"), base.Appended)
        gone = await one(store, recall(sent.entry.message_id, "ann"), base.Recalled)

        assert (gone.repeat, gone.entry.seq, gone.entry.client_msg_id) == (False, 3, None)
        assert gone.entry.payload == (
            b'{"by":"ann","messageId":"%s","seq":2,"type":"RECALL"}' % sent.entry.message_id.encode()
        )
        for user in ("ann", "bob"):
            assert (await texts(store, "g", user))[1:] == [TOMBSTONE, gone.entry.payload]
        assert "secret" not in repr(await snapshot(store, ["g"], ["ann", "bob"]))
        rows = await store.audit("g")
        assert [(row.action, row.actor_id, row.seq, row.subject) for row in rows[1:]] == [
            ("RECALLED", "ann", 3, sent.entry.message_id)
        ]

    async def test_a_second_recall_gets_the_first_answer_even_after_the_window(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        first = await one(store, recall(sent.entry.message_id, "ann"), base.Recalled)
        again = await one(store, recall(sent.entry.message_id, "ann", at_ms=NOW + 10**9), base.Recalled)

        assert (again.entry, again.repeat) == (first.entry, True)
        assert len(await store.audit("g")) == 2
        assert await seqs(store, "g", "bob") == [1, 2, 3]

    async def test_a_second_recall_gets_the_first_answer_even_after_leaving(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "bob", "k"), base.Appended)
        other = await one(store, send("g", "bob", "k2"), base.Appended)
        first = await one(store, recall(sent.entry.message_id, "bob"), base.Recalled)
        await do(store, remove("g", "ann", "bob"))
        again = await one(store, recall(sent.entry.message_id, "bob"), base.Recalled)

        assert (again.entry, again.repeat) == (first.entry, True)
        await refused(store, recall(sent.entry.message_id, "cat"), NotFoundError)
        await refused(store, recall(other.entry.message_id, "bob"), NotFoundError)

    async def test_who_may_recall_and_when(self, store: Store) -> None:
        made = await one(store, group("g", "ann", "bob", "cat"), base.Created)
        sent = await one(store, send("g", "bob", "k"), base.Appended)
        name = sent.entry.message_id
        assert made.entry is not None

        await refused(store, recall(name, "cat"), ForbiddenError)
        await refused(store, recall(made.entry.message_id, "ann"), ForbiddenError)
        await refused(store, recall(name, "eve"), NotFoundError)
        await refused(store, recall(name, "bob", at_ms=NOW + 101, window_ms=100), RecallWindowPassedError)
        await do(store, remove("g", "bob", "bob"))
        await refused(store, recall(name, "bob"), NotFoundError)
        await do(store, add("g", "ann", "bob"), recall(name, "bob", at_ms=NOW + 100, window_ms=100))

    async def test_ids_that_name_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        key, epoch, seq = sent.entry.message_id.split("-")

        others = [
            "",
            "x",
            "--",
            f"{key}-other-{seq}",
            f"{key}-{epoch}-ff",
            f"ff-{epoch}-{seq}",
            f"-{key}-{seq}",
        ]
        others += [
            f"{'f' * 30}-{epoch}-{seq}",
            f"{key}-{epoch}-{'f' * 30}",
            f"0-{epoch}-0",
            f"{key}-{epoch}-0",
        ]
        for name in others:
            await refused(store, recall(name, "ann"), NotFoundError)
            await refused(store, confirm(name, "ann"), NotFoundError)
            with pytest.raises(NotFoundError):
                await store.status(name, "ann", None, 10)

    async def test_what_a_member_does_not_see_cannot_be_named(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        await do(store, add("g", "ann", "bob"))

        await refused(store, recall(sent.entry.message_id, "bob"), NotFoundError)
        await refused(store, confirm(sent.entry.message_id, "bob"), NotFoundError)
