"""Who sees what in a store. Part of `StoreContract`."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from ...errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    EPOCH,
    NOW,
    add,
    delivered,
    device,
    do,
    group,
    head,
    one,
    read,
    refused,
    remove,
    send,
    seqs,
    single,
    snapshot,
)


class MembershipContract:
    """Who sees what: creation, joining, leaving, coming back."""

    async def test_creation_is_seq_one_and_names_the_members(self, store: Store) -> None:
        made = await one(store, group("g", "bob", "ann", "cat"), base.Created)

        assert made.created
        assert made.entry is not None
        assert made.entry.seq == 1
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
        assert roles == {"ann": "MEMBER", "bob": "OWNER", "cat": "MEMBER"}

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

    async def test_a_group_is_not_created_above_its_bound(self, store: Store) -> None:
        await refused(store, group("g", "ann", "bob", "cat", members_max=2), BadRequestError)
        assert await store.head_seqs(["g"]) == {}
        made = await one(store, group("g", "ann", "bob", "ann", members_max=2), base.Created)
        assert made.created

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

    async def test_creating_what_exists_changes_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), single("s", "ann", "bob"))
        before = await snapshot(store, ["g", "s"], ["ann", "bob"])
        for made in (group("g", "ann", "bob"), single("s", "ann", "bob"), single("other", "bob", "ann")):
            again = replace(made, title="another", epoch="e2", at_ms=NOW + 9)
            assert not (await one(store, again, base.Created)).created

        assert await snapshot(store, ["g", "s"], ["ann", "bob"]) == before

    async def test_a_single_has_no_title_by_which_one_would_name_the_other(self, store: Store) -> None:
        titled = replace(single("s", "ann", "bob"), title="the bank")
        await refused(store, titled, BadRequestError)
        await refused(store, replace(titled, by_host=True), BadRequestError)
        await do(store, single("s", "ann", "bob"))
        assert not (await one(store, titled, base.Created)).created, "what exists is answered"
        assert (await store.conversation("s", "bob")).title == ""

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
        assert gone.entry is not None
        assert msgspec.json.decode(gone.entry.payload)["op"] == "REMOVED"
        left = await one(store, remove("g", "bob", "bob"), base.MembersChanged)
        assert left.entry is not None
        assert msgspec.json.decode(left.entry.payload)["op"] == "LEFT"
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
