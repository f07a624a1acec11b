"""The contract of every store. A subclass overrides the fixture `store` with an opened one.

Only the port is used here (`chatkit.storage.base`), so that any implementation can be held to it.
"""

from __future__ import annotations

import msgspec
import pytest

from chatkit.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RecallWindowPassedError,
    TokenExpiredError,
    TokenRevokedError,
)
from chatkit.storage import base
from chatkit.storage.base import Store

from .commands import (
    EPOCH,
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
    resume,
    send,
    seqs,
    single,
    snapshot,
    text,
    texts,
)

TOMBSTONE = b'{"type":"RECALLED"}'


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

        assert isinstance(first, base.Appended) and isinstance(twice, base.Appended)
        assert (first.repeat, twice.repeat, later.repeat) == (False, True, True)
        assert first.entry == twice.entry == later.entry
        assert await seqs(store, "g", "bob") == [1, 2]

    async def test_the_same_key_of_another_sender_is_another_message(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"), send("g", "bob", "k", "other"))

        assert await seqs(store, "g", "ann") == [1, 2, 3]

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
        bad: list[base.Command] = [
            send("g", "eve", "k"),
            delivered("g", "bob", 9),
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

    async def test_texts_of_every_kind_come_back_byte_for_byte(self, store: Store) -> None:
        await do(store, single("s", "ann", "bob"))
        words = ["", "你好 👋", "'; DROP TABLE message; --", "a" * 60_000]
        for number, word in enumerate(words):
            await do(store, send("s", "ann", f"k'{number}\"", word))

        assert (await texts(store, "s", "bob"))[1:] == [text(word) for word in words]


class MembershipContract:
    """Who sees what: creation, joining, leaving, coming back."""

    async def test_creation_is_seq_one_and_names_the_members(self, store: Store) -> None:
        made = await one(store, group("g", "bob", "ann", "cat"), base.Created)

        assert made.created
        assert made.entry is not None and made.entry.seq == 1
        assert msgspec.json.decode(made.entry.payload) == {
            "type": "MEMBER",
            "op": "CREATED",
            "userIds": ["ann", "bob", "cat"],
        }
        assert made.conversation == base.Conversation(
            "g", "GROUP", "title", EPOCH, 1, 3, ("ann", "bob", "cat")
        )
        assert await store.conversation("g", "cat") == made.conversation
        roles = {it.member.user_id: it.member.role for it in await store.members("g", "ann", None, 10)}
        assert roles == {"ann": "MEMBER", "bob": "CREATOR", "cat": "MEMBER"}

    async def test_a_creation_names_all_members_however_many(self, store: Store) -> None:
        users = tuple(f"u{number:03}" for number in range(250))
        made = await one(store, group("g", *reversed(users)), base.Created)
        again = await one(store, group("g", *users), base.Created)

        assert made.member_ids == users
        assert made.conversation.member_ids == users[:200]
        assert (again.created, again.member_ids) == (False, ())

    async def test_ids_with_spaces_and_quotes_make_different_pairs(self, store: Store) -> None:
        pairs = [("ann b", "c"), ("ann", "b c"), ('"', '","'), ("\\", "u 1")]
        for number, pair in enumerate(pairs):
            made = await one(store, single(f"s{number}", *pair), base.Created)
            assert made.created
            await do(store, send(f"s{number}", pair[1], "k"))

        for number, (first, second) in enumerate(pairs):
            again = await one(store, single("other", second, first), base.Created)
            assert again.conversation.conversation_id == f"s{number}"
            assert (await one(store, read(f"s{number}", first, 2), base.Advanced)).authors == (second,)

    async def test_a_group_is_created_once_for_the_same_members(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"))
        again = await one(store, group("g", "bob", "ann"), base.Created)

        assert (again.created, again.entry, again.conversation.head_seq) == (False, None, 2)
        await refused(store, group("g", "ann", "bob", "cat"), ConflictError)
        await refused(store, group("g", "eve"), ConflictError)
        await refused(store, single("g", "ann", "bob"), ConflictError)

    async def test_a_pair_has_one_single_whatever_the_id(self, store: Store) -> None:
        first = await one(store, single("s", "ann", "bob"), base.Created)
        second = await one(store, single("other", "bob", "ann"), base.Created)

        assert (second.created, second.conversation) == (False, first.conversation)
        assert await store.head_seqs(["other", "s"]) == {"s": (EPOCH, 1)}
        await refused(store, single("s", "ann", "cat"), ConflictError)
        await refused(store, group("s", "ann", "bob"), ConflictError)

    async def test_a_single_has_two_members_and_keeps_them(self, store: Store) -> None:
        await refused(store, single("s", "ann"), BadRequestError)
        await refused(store, single("s", "ann", "bob", "cat"), BadRequestError)
        await do(store, single("s", "ann", "bob"))
        await refused(store, add("s", "ann", "cat"), ForbiddenError)
        await refused(store, remove("s", "ann", "ann"), ForbiddenError)
        await refused(store, remove("s", "ann", "bob"), ForbiddenError)

    async def test_adding_names_only_who_is_new(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        changed = await one(store, add("g", "ann", "dan", "bob", "cat", "cat"), base.MembersChanged)

        assert (changed.added, changed.removed) == (("cat", "dan"), ())
        assert changed.conversation.member_count == 4
        assert changed.entry is not None
        assert msgspec.json.decode(changed.entry.payload)["userIds"] == ["cat", "dan"]
        again = await one(store, add("g", "ann", "cat"), base.MembersChanged)
        assert (again.added, again.entry, again.conversation.head_seq) == ((), None, 2)

    async def test_who_may_add(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))

        await refused(store, add("g", "bob", "cat"), ForbiddenError)
        await refused(store, add("g", "eve", "cat"), NotFoundError)
        await refused(store, add("nowhere", "ann", "cat"), NotFoundError)
        await refused(store, add("g", "ann", "cat", "dan", members_max=3), BadRequestError)
        await do(store, add("g", "ann", "cat", members_max=3))

    async def test_who_may_remove(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))

        await refused(store, remove("g", "bob", "cat"), ForbiddenError)
        await refused(store, remove("g", "eve", "cat"), NotFoundError)
        await refused(store, remove("g", "ann", "eve"), NotFoundError)
        gone = await one(store, remove("g", "ann", "cat"), base.MembersChanged)
        assert (gone.removed, gone.conversation.member_ids) == (("cat",), ("ann", "bob"))
        assert gone.entry is not None and msgspec.json.decode(gone.entry.payload)["op"] == "REMOVED"
        left = await one(store, remove("g", "bob", "bob"), base.MembersChanged)
        assert left.entry is not None and msgspec.json.decode(left.entry.payload)["op"] == "LEFT"
        await refused(store, remove("g", "bob", "bob"), NotFoundError)

    async def test_late_join_leave_and_return_show_exactly_the_own_times(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "before"))
        await do(store, add("g", "ann", "cat"), send("g", "ann", "during"))  # 3, 4
        await do(store, remove("g", "ann", "cat"), send("g", "ann", "away"))  # 5, 6
        for reading in (store.page("g", "cat", 0, 10, 1000), store.conversation("g", "cat")):
            with pytest.raises(NotFoundError):
                await reading
        await do(store, add("g", "ann", "cat"), send("g", "ann", "back"))  # 7, 8

        assert await seqs(store, "g", "cat") == [3, 4, 7, 8]
        assert await seqs(store, "g", "ann") == list(range(1, 9))
        assert (await head(store, "cat", "g")).first_seq == 3
        joined = {it.member.user_id: it.member.joined_seq for it in await store.members("g", "cat", None, 9)}
        assert joined == {"ann": 1, "bob": 1, "cat": 7}

    async def test_who_left_is_in_no_list(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), device("bob"), remove("g", "bob", "bob"))

        assert await store.heads("bob", "phone") == []
        assert await store.conversations("bob", None, None, 10) == []
        opened = await one(store, device("bob", at_ms=NOW + 1), base.SessionOpened)
        assert opened.conversations == ()

    async def test_the_last_member_may_leave(self, store: Store) -> None:
        await do(store, group("g", "ann"), device("ann"), remove("g", "ann", "ann"))

        assert await store.head_seqs(["g"]) == {"g": (EPOCH, 2)}
        assert await store.outbox(10) == []
        await refused(store, send("g", "ann", "k"), NotFoundError)

    async def test_a_group_of_500(self, store: Store) -> None:
        users = [f"u{number:03}" for number in range(500)]
        made = await one(store, group("g", *users), base.Created)
        await do(store, *(device(user) for user in users), send("g", "u007", "k"))

        assert made.conversation.member_count == 500
        assert made.conversation.member_ids == tuple(users[:200])
        assert await store.outbox(9) == [base.OutboxEntry("g", 1, 2, NOW)]
        outcomes = await do(store, *(delivered("g", user, 2) for user in users[:-1]))
        assert all(isinstance(it, base.Advanced) and it.authors == () and it.moved for it in outcomes)
        assert await store.outbox(9) == [base.OutboxEntry("g", 1, 2, NOW)]
        await do(store, delivered("g", users[-1], 2), read("g", "u001", 2))
        assert await store.outbox(9) == []
        assert await store.read_counts("g", 0, 2, users) == [base.ReadCounts("u007", 2, 499, 1, 499)]
        listed: list[str] = []
        while page := await store.members("g", "u000", listed[-1] if listed else None, 150):
            listed += [it.member.user_id for it in page]
        assert listed == users


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

    async def test_heads_name_what_a_device_misses_first_then_the_newest(self, store: Store) -> None:
        await do(store, device("ann"), *(group(f"g{n}", "ann", "bob", at_ms=NOW + n) for n in range(4)))
        await do(store, delivered("g3", "ann", 1), delivered("g1", "ann", 1))

        assert [it.conversation_id for it in await store.heads("ann", "phone")] == ["g2", "g0", "g3", "g1"]
        await do(store, send("g1", "bob", "k", at_ms=NOW + 9))
        assert [it.conversation_id for it in await store.heads("ann", "phone")] == ["g1", "g2", "g0", "g3"]

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
                assert isinstance(outcome, base.Refused) and type(outcome.error) is NotFoundError
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

    async def test_who_may_recall_and_when(self, store: Store) -> None:
        made = await one(store, group("g", "ann", "bob"), base.Created)
        sent = await one(store, send("g", "bob", "k"), base.Appended)
        name = sent.entry.message_id
        assert made.entry is not None

        await refused(store, recall(name, "ann"), ForbiddenError)
        await refused(store, recall(made.entry.message_id, "ann"), ForbiddenError)
        await refused(store, recall(name, "eve"), NotFoundError)
        await refused(store, recall(name, "bob", at_ms=NOW + 101, window_ms=100), RecallWindowPassedError)
        await do(store, remove("g", "bob", "bob"))
        await refused(store, recall(name, "bob"), NotFoundError)
        await do(store, add("g", "ann", "bob"), recall(name, "bob", at_ms=NOW + 100))

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

        stands = [(await head(store, "bob", "g", name)).delivered_seq for name in ("phone", "tablet", "pc")]
        assert stands == [3, 2, 3]
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

    async def test_a_worker_closes_it(self, store: Store) -> None:
        await do(store, group("g", "ann"), send("g", "ann", "2", at_ms=NOW + 2), send("g", "ann", "3"))
        for _ in range(2):
            await do(store, base.CloseOutbox("g", 1))
            assert await store.outbox(9) == [base.OutboxEntry("g", 2, 3, NOW + 2)]
        for _ in range(2):
            await do(store, base.CloseOutbox("g", 99), base.CloseOutbox("nowhere", 1))
            assert await store.outbox(9) == []

    async def test_oldest_first_and_bounded(self, store: Store) -> None:
        await do(store, group("g", "ann", at_ms=NOW + 2), group("h", "ann", at_ms=NOW + 1), group("i", "ann"))

        assert [it.conversation_id for it in await store.outbox(2)] == ["i", "h"]

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


class SessionContract:
    """Devices, resume tokens, epochs and audit."""

    async def test_a_session_starts_with_the_users_conversations(self, store: Store) -> None:
        await do(
            store,
            group("h", "ann", "bob"),
            single("g", "bob", "ann"),
            group("x", "bob"),
            send("h", "bob", "k"),
        )
        opened = await one(
            store, base.OpenSession("ann", "phone", b"t", 9, 7, "all", NOW), base.SessionOpened
        )

        assert (opened.user_id, opened.device_id) == ("ann", "phone")
        assert (opened.identity_expires_ms, opened.scope) == (7, "all")
        assert opened.conversations == (
            base.Joined("g", "SINGLE", EPOCH, 1, 2),
            base.Joined("h", "GROUP", EPOCH, 2, 2),
        )

    async def test_a_resume_token_works_once_and_hands_the_login_on(self, store: Store) -> None:
        await do(
            store, group("g", "ann"), base.OpenSession("ann", "phone", b"t1", NOW + 10, NOW + 77, "all", NOW)
        )
        resumed = await one(
            store, resume(b"t1", following=b"t2", until_ms=NOW + 20, at_ms=NOW + 10), base.SessionOpened
        )

        assert (resumed.user_id, resumed.identity_expires_ms, resumed.scope) == ("ann", NOW + 77, "all")
        assert [it.conversation_id for it in resumed.conversations] == ["g"]
        await refused(store, resume(b"t1", following=b"t3"), TokenRevokedError)
        again = await one(store, resume(b"t2", following=b"t4"), base.SessionOpened)
        assert (again.identity_expires_ms, again.scope) == (NOW + 77, "all")

    async def test_a_resume_token_is_bound_and_ends_and_a_failed_try_spends_nothing(
        self, store: Store
    ) -> None:
        await do(store, base.OpenSession("ann", "phone", b"t1", NOW + 10, None, "", NOW))
        foreign = resume(b"t1", "tablet")
        late = resume(b"t1", until_ms=NOW + 20, at_ms=NOW + 11)

        await refused(store, foreign, TokenRevokedError)
        await refused(store, late, TokenRevokedError)
        await do(store, resume(b"t1"))

    async def test_a_resume_token_does_not_outlive_its_login(self, store: Store) -> None:
        await do(
            store, group("g", "ann"), base.OpenSession("ann", "phone", b"t1", NOW + 99, NOW + 10, "", NOW)
        )
        for leeway_ms, at_ms in ((0, NOW + 10), (5, NOW + 15), (5, NOW + 40)):
            late = resume(b"t1", leeway_ms=leeway_ms, at_ms=at_ms)
            error = await refused(store, late, TokenExpiredError)
            assert str(error) == "the login has expired"
        await refused(store, resume(b"t1", "tablet", at_ms=NOW + 40), TokenRevokedError)
        assert (await head(store, "ann", "g", "tablet")).delivered_seq == 0

        in_time = resume(b"t1", following=b"t2", until_ms=NOW + 99, leeway_ms=5, at_ms=NOW + 14)
        await do(store, in_time)
        await refused(store, resume(b"t2", at_ms=NOW + 14), TokenExpiredError)

    async def test_a_renewed_login_goes_with_the_resume_token(self, store: Store) -> None:
        await do(store, base.OpenSession("ann", "phone", b"t1", NOW + 99, NOW + 10, "old", NOW))
        await do(store, base.OpenSession("ann", "tablet", b"t2", NOW + 99, NOW + 10, "old", NOW))
        await do(store, base.RenewLogin("ann", "phone", NOW + 50, "new", NOW + 5))

        resumed = await one(
            store, resume(b"t1", following=b"t3", until_ms=NOW + 99, at_ms=NOW + 49), base.SessionOpened
        )
        assert (resumed.identity_expires_ms, resumed.scope) == (NOW + 50, "new")
        await refused(store, resume(b"t2", "tablet", at_ms=NOW + 49), TokenExpiredError)
        await do(store, base.RenewLogin("ann", "phone", None, "", NOW + 50))
        for_ever = await one(store, resume(b"t3", at_ms=NOW + 90), base.SessionOpened)
        assert (for_ever.identity_expires_ms, for_ever.scope) == (None, "")

    async def test_renewing_a_login_neither_makes_a_device_nor_extends_a_token(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"))
        await do(store, base.OpenSession("ann", "phone", b"t1", NOW + 20, None, "", NOW))
        await do(
            store, base.RenewLogin("bob", "phone", None, "", NOW), base.RenewLogin("ann", "pc", 1, "", NOW)
        )
        await do(store, base.RenewLogin("ann", "phone", NOW + 500, "all", NOW))

        name = (await store.page("g", "ann", 1, 1, 1000)).entries[0].message_id
        assert (await store.status(name, "ann", None, 10)).deliveries == ()
        await refused(store, resume(b"t1", at_ms=NOW + 21), TokenRevokedError)

    async def test_a_new_login_replaces_the_devices_token_only(self, store: Store) -> None:
        await do(store, base.OpenSession("ann", "phone", b"p1", NOW + 9, None, "", NOW))
        await do(store, base.OpenSession("ann", "tablet", b"t1", NOW + 9, None, "", NOW))
        await do(store, base.OpenSession("ann", "phone", b"p2", NOW + 9, None, "", NOW))

        await refused(store, resume(b"p1"), TokenRevokedError)
        await do(store, resume(b"t1", "tablet"))

    async def test_a_new_epoch_keeps_old_answers(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        old = await one(store, send("g", "ann", "old"), base.Appended)
        await do(store, base.RenewEpoch("g", "e2", NOW + 1))
        new = await one(store, send("g", "ann", "new"), base.Appended)

        assert (new.entry.seq, new.entry.epoch) == (3, "e2")
        assert "-e2-" in new.entry.message_id
        again = await one(store, send("g", "ann", "old"), base.Appended)
        assert (again.entry, again.repeat) == (old.entry, True)
        page = await store.page("g", "bob", 1, 10, 1000)
        assert [it.epoch for it in page.entries] == ["e2", "e2"]
        assert [it.message_id for it in page.entries] == [old.entry.message_id, new.entry.message_id]
        assert page.epoch == (await head(store, "bob", "g")).epoch == "e2"
        await do(store, recall(old.entry.message_id, "ann"))
        key, _, seq = old.entry.message_id.split("-")
        await refused(store, confirm(f"{key}-e2-{seq}", "bob"), NotFoundError)
        await refused(store, base.RenewEpoch("nowhere", "e2", NOW), NotFoundError)

    async def test_privileged_changes_are_audited_in_order(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), add("g", "ann", "dan", "cat"), remove("g", "ann", "bob"))
        sent = await one(store, send("g", "cat", "k", "secret"), base.Appended)
        await do(store, recall(sent.entry.message_id, "cat"), remove("g", "cat", "cat"))
        await do(store, base.RenewEpoch("g", "e2", NOW), group("h", "ann"))
        rows = await store.audit("g")

        assert [(row.action, row.actor_id, row.seq, row.subject) for row in rows] == [
            ("CREATED", "ann", 1, "g"),
            ("ADDED", "ann", 2, "cat"),
            ("ADDED", "ann", 2, "dan"),
            ("REMOVED", "ann", 3, "bob"),
            ("RECALLED", "cat", 5, sent.entry.message_id),
            ("LEFT", "cat", 6, "cat"),
            ("EPOCH_RENEWED", "", 6, "e2"),
        ]
        assert [row.audit_id for row in rows] == sorted(row.audit_id for row in rows)
        assert await store.audit("nowhere") == []


class DeviceContract:
    """How many devices of a user are kept."""

    async def devices(self, store: Store, name: str) -> list[str]:
        """Bob's devices, from the status of one of ann's messages."""
        return [it.device_id for it in (await store.status(name, "ann", None, 200)).deliveries]

    async def full(self, store: Store) -> tuple[list[str], str]:
        """Bob with as many devices as are kept, seen one after the other, and a message of ann's."""
        names = [f"d{number:02}" for number in range(base.DEVICES_MAX)]
        await do(store, group("g", "ann", "bob"), device("ann"))
        await do(store, *(device("bob", name, NOW + turn) for turn, name in enumerate(names)))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        assert await self.devices(store, sent.entry.message_id) == names
        return names, sent.entry.message_id

    async def test_one_more_forgets_the_longest_unseen(self, store: Store) -> None:
        names, sent = await self.full(store)
        await do(store, device("bob", names[0], NOW + 100))
        renewed = base.RenewLogin("bob", names[2], None, "", NOW + 101)
        resumed = resume(b"bob/d03/%d" % (NOW + 3), names[3], b"d03", until_ms=NOW + 999, at_ms=NOW + 102)
        await do(store, renewed, resumed)
        await do(store, device("bob", "new", NOW + 103), device("bob", "other", NOW + 104))

        kept = [name for name in names if name not in ("d01", "d04")]
        assert await self.devices(store, sent) == [*kept, "new", "other"]
        for number in (1, 4):
            used = b"bob/%s/%d" % (names[number].encode(), NOW + number)
            await refused(store, resume(used, names[number]), TokenRevokedError)
        await do(store, resume(b"bob/d05/%d" % (NOW + 5), "d05"))

    async def test_who_registers_stays_though_its_clock_was_behind(self, store: Store) -> None:
        names, sent = await self.full(store)
        await do(store, device("bob", "early", NOW - 5))

        assert await self.devices(store, sent) == [*names[1:], "early"]

    async def test_a_confirmation_from_an_unknown_device_counts(self, store: Store) -> None:
        names, sent = await self.full(store)
        await do(store, base.ConfirmMessage(sent, "bob", "web", NOW + 100))
        await do(store, delivered("g", "bob", 2, "web2", at_ms=NOW + 101))

        assert await self.devices(store, sent) == [*names[2:], "web", "web2"]

    async def test_other_users_keep_theirs(self, store: Store) -> None:
        await self.full(store)
        await do(store, add("g", "ann", "cat"), device("cat", "old", NOW - 1000))
        await do(store, device("bob", "new", NOW + 100), send("g", "cat", "k"))
        await do(store, delivered("g", "ann", 4))

        name = (await store.page("g", "cat", 3, 1, 1000)).entries[0].message_id
        found = (await store.status(name, "cat", None, 200)).deliveries
        assert [it.user_id for it in found] == ["ann"] + ["bob"] * base.DEVICES_MAX

    async def test_the_outbox_closes_over_what_only_a_forgotten_one_missed(self, store: Store) -> None:
        names, _ = await self.full(store)
        await do(store, delivered("g", "ann", 2), *(delivered("g", "bob", 2, name) for name in names[2:]))
        await do(store, delivered("g", "bob", 1, names[1]))
        assert await store.outbox(9) == [base.OutboxEntry("g", 1, 2, NOW)]
        await do(store, device("bob", "new", NOW + 100))
        assert await store.outbox(9) == [base.OutboxEntry("g", 2, 2, NOW)]
        await do(store, delivered("g", "bob", 2, "newer", at_ms=NOW + 101))
        assert await store.outbox(9) == []

    async def test_it_comes_back_as_a_new_one(self, store: Store) -> None:
        names, first = await self.full(store)
        second = await one(store, send("g", "ann", "k2"), base.Appended)
        await do(store, base.ConfirmMessage(second.entry.message_id, "bob", names[0], NOW))
        await do(store, delivered("g", "bob", 1, names[1]))
        assert (await store.status(second.entry.message_id, "ann", None, 10)).delivered_count == 1
        await do(store, device("bob", "new", NOW + 100))
        assert (await store.status(second.entry.message_id, "ann", None, 10)).delivered_count == 0
        await do(store, device("bob", names[0], NOW + 101))

        assert (await head(store, "bob", "g", names[0])).delivered_seq == 1  # as the farthest other one
        await do(store, base.ConfirmMessage(first, "bob", names[0], NOW + 102))
        assert (await head(store, "bob", "g", names[0])).delivered_seq == 2  # the single confirmation is gone

    async def test_it_is_forgotten_where_its_user_has_left(self, store: Store) -> None:
        names, _ = await self.full(store)
        await do(store, delivered("g", "bob", 2, names[1]), remove("g", "ann", "bob"))
        await do(store, device("bob", "new", NOW + 100), add("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k2"), base.Appended)

        assert await self.devices(store, sent.entry.message_id) == [*names[1:], "new"]

    async def test_one_batch_forgets_as_many_transactions_would(self, store: Store) -> None:
        names, sent = await self.full(store)
        unknown = [f"x{number}" for number in range(base.DEVICES_MAX + 3)]
        await do(
            store,
            *(delivered("g", "bob", 1, name) for name in names),
            *(base.ConfirmMessage(sent, "bob", name, NOW + 100 + turn) for turn, name in enumerate(unknown)),
            delivered("g", "bob", 2, names[7], at_ms=NOW + 999),
        )

        assert await self.devices(store, sent) == [names[7], *sorted(unknown[4:])]


class StoreContract(
    AppendContract,
    MembershipContract,
    PageContract,
    IdContract,
    RecallContract,
    CursorContract,
    StatusContract,
    OutboxContract,
    SessionContract,
    DeviceContract,
):
    """All of it."""

    @pytest.fixture
    def store(self) -> Store:
        """Override: a store on which `migrate` was awaited."""
        raise NotImplementedError
