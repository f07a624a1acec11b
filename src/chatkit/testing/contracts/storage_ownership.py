"""Who owns a group, what the host may do, and who blocked whom in a store. Part of `StoreContract`."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from ...core.log import rules
from ...errors import BadRequestError, ForbiddenError, NotFoundError
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    NOW,
    add,
    delivered,
    device,
    do,
    group,
    one,
    read,
    refused,
    remove,
    send,
    seqs,
    single,
    title_entry,
)


def update(
    conversation_id: str, by: str | None, title: str | None = None, owner: str | None = None
) -> base.UpdateConversation:
    """Another title or owner; None is the host."""
    return base.UpdateConversation(conversation_id, by, title_entry(title), owner, NOW)


def block(user: str, blocked: str, at_ms: int = NOW) -> base.BlockUser:
    """A user blocks another one."""
    return base.BlockUser(user, blocked, at_ms)


async def owner_of(store: Store, conversation_id: str, member: str) -> list[str]:
    """Who a member list calls the owner; one user, in a group that is right."""
    rows = await store.members(conversation_id, member, None, 100)
    return [it.member.user_id for it in rows if it.member.role == "OWNER"]


async def sender_of_last(store: Store, conversation_id: str) -> str:
    """Under whose name the newest entry stands."""
    return (await store.entries(conversation_id, 0, 1_000))[-1].sender_id


class OwnershipContract:
    """Owners, titles, and the host's own authority."""

    async def test_the_member_of_longest_standing_follows_an_owner_who_leaves(self, store: Store) -> None:
        await do(store, group("g", "bob", "dan"), add("g", "bob", "cat"), add("g", "bob", "ann"))
        left = await one(store, remove("g", "bob", "bob"), base.MembersChanged)

        assert (left.new_owner_id, await owner_of(store, "g", "ann")) == ("dan", ["dan"])
        await do(store, add("g", "dan", "eve"), remove("g", "dan", "eve"))
        again = await one(store, remove("g", "dan", "dan"), base.MembersChanged)
        assert again.new_owner_id == "cat"
        assert (await one(store, remove("g", "ann", "ann"), base.MembersChanged)).new_owner_id is None
        last = await one(store, remove("g", "cat", "cat"), base.MembersChanged)
        assert (last.new_owner_id, last.conversation.member_count) == (None, 0)

    async def test_of_those_who_came_together_the_first_by_id_follows(self, store: Store) -> None:
        await do(store, group("g", "cat", "dan", "bob", "ann"))
        left = await one(store, remove("g", "cat", "cat"), base.MembersChanged)

        assert left.new_owner_id == "ann"

    async def test_who_comes_back_stands_for_less_long(self, store: Store) -> None:
        await do(store, group("g", "cat", "ann", "bob"), remove("g", "ann", "ann"), add("g", "cat", "ann"))
        left = await one(store, remove("g", "cat", "cat"), base.MembersChanged)

        assert left.new_owner_id == "bob"

    async def test_one_batch_passes_a_group_on_as_many_transactions_would(self, store: Store) -> None:
        users = tuple(f"u{n}" for n in range(9))
        leaving = [remove("g", user, user) for user in users[:8]]
        outcomes = await do(store, group("g", *users), *leaving, add("g", "u8", "new"))

        owners = [it.new_owner_id for it in outcomes if isinstance(it, base.MembersChanged)]
        assert owners == [*users[1:], None]
        assert await owner_of(store, "g", "new") == ["u8"]

    async def test_a_former_owner_has_no_rights_when_back(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), remove("g", "ann", "ann"), add("g", "bob", "ann"))

        await refused(store, add("g", "ann", "cat"), ForbiddenError)
        await refused(store, remove("g", "ann", "bob"), ForbiddenError)
        await refused(store, update("g", "ann", "mine"), ForbiddenError)

    async def test_an_owner_passes_a_group_on(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), single("s", "ann", "bob"))
        for command, error in (
            (update("g", "bob", owner="bob"), ForbiddenError),
            (update("g", "ann", owner="eve"), NotFoundError),
            (update("g", "eve", owner="eve"), NotFoundError),
            (update("nowhere", "ann", owner="ann"), NotFoundError),
            (update("s", "ann", owner="bob"), ForbiddenError),
            (update("s", None, "title"), ForbiddenError),
        ):
            await refused(store, command, error)
        before = await store.audit("g")
        assert not (await one(store, update("g", "ann", owner="ann"), base.Updated)).changed
        assert await store.audit("g") == before

        assert (await one(store, update("g", "ann", owner="bob"), base.Updated)).changed
        assert await owner_of(store, "g", "ann") == ["bob"]
        assert not (await one(store, update("g", "ann", owner="bob"), base.Updated)).changed
        await refused(store, add("g", "ann", "cat"), ForbiddenError)
        await do(store, add("g", "bob", "cat"))

    async def test_a_title_changes_without_an_entry(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        changed = await one(store, update("g", "ann", "new"), base.Updated)

        assert (changed.changed, changed.conversation.title, changed.conversation.head_seq) == (
            True,
            "new",
            2,
        )
        assert (await store.conversation("g", "bob")).title == "new"
        assert [it.title for it in await store.conversations("bob", None, None, 9)] == ["new"]
        assert not (await one(store, update("g", "ann", "new"), base.Updated)).changed
        assert (await one(store, update("g", "ann", ""), base.Updated)).conversation.title == ""
        await refused(store, update("g", "bob", "other"), ForbiddenError)

    async def test_what_changes_an_owner_or_a_title_is_audited(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), update("g", "ann", "new", "cat"))
        await do(store, update("g", None, "host's", "bob"), remove("g", "bob", "bob"))
        rows = [(row.action, row.actor_id, row.seq, row.subject) for row in await store.audit("g")]

        assert rows[1:] == [
            ("TITLE_CHANGED", "ann", 2, "new"),
            ("OWNER_CHANGED", "ann", 2, "cat"),
            ("TITLE_CHANGED", "", 3, "host's"),
            ("OWNER_CHANGED", "", 3, "bob"),
            ("LEFT", "bob", 4, "bob"),
            ("OWNER_CHANGED", "bob", 4, "ann"),
        ]

    async def test_the_host_changes_members_under_the_owners_name(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, add("g", None, "cat"), remove("g", None, "bob"))
        assert await sender_of_last(store, "g") == "ann"

        gone = await one(store, remove("g", None, "ann"), base.MembersChanged)
        assert (gone.new_owner_id, await sender_of_last(store, "g")) == ("cat", "cat")
        assert gone.entry is not None
        assert msgspec.json.decode(gone.entry.payload)["op"] == "REMOVED"
        rows = [(row.action, row.actor_id, row.subject) for row in await store.audit("g")]
        assert rows[1:] == [
            *(("ADDED", "", "cat"), ("REMOVED", "", "bob"), ("REMOVED", "", "ann")),
            ("OWNER_CHANGED", "", "cat"),
        ]
        await refused(store, remove("g", None, "ann"), NotFoundError)
        await refused(store, add("nowhere", None, "ann"), NotFoundError)
        await do(store, single("s", "ann", "bob"))
        await refused(store, add("s", None, "cat"), ForbiddenError)
        await refused(store, remove("s", None, "ann"), ForbiddenError)

    async def test_the_host_fills_a_group_that_everybody_left(self, store: Store) -> None:
        await do(store, group("g", "ann"), remove("g", "ann", "ann"))
        filled = await one(store, add("g", None, "dan", "cat"), base.MembersChanged)

        assert (filled.new_owner_id, await sender_of_last(store, "g")) == ("cat", "cat")
        assert await owner_of(store, "g", "dan") == ["cat"]
        assert await seqs(store, "g", "dan") == [3]

    async def test_who_left_comes_back_only_by_the_host_where_that_is_the_rule(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), remove("g", "bob", "bob"), remove("g", "ann", "cat"))
        strict = replace(add("g", "ann", "dan", "bob"), readd_after_leaving=False)
        await refused(store, strict, ForbiddenError)
        await do(store, replace(strict, user_ids=("cat",)))
        await do(store, replace(strict, by=None))

        assert (await store.conversation("g", "bob")).member_ids == ("ann", "bob", "cat", "dan")
        await do(store, remove("g", "ann", "bob"), replace(strict, user_ids=("bob",)))

    async def test_nobody_comes_and_goes_without_end(self, store: Store) -> None:
        """Sends and pages look at no more of the past than they need; beyond a bound there is no way in."""
        await do(store, group("g", "ann", "bob"))
        turn = (remove("g", "bob", "bob"), add("g", "ann", "bob"))
        await do(store, *(turn * (rules.MEMBERSHIPS_MAX - 1)))
        head = 2 * rules.MEMBERSHIPS_MAX - 1
        assert await seqs(store, "g", "bob", 0, 3) == [1, 3, 5]
        assert await seqs(store, "g", "bob", head - 6, 3) == [head - 4, head - 2, head]
        assert await seqs(store, "g", "bob", head - 5, 9) == [head - 4, head - 2, head]
        await do(store, send("g", "bob", "k"), remove("g", "bob", "bob"))

        await refused(store, add("g", "ann", "bob"), BadRequestError)
        await refused(store, add("g", None, "bob"), BadRequestError)

    async def test_last_activity_never_falls(self, store: Store) -> None:
        await do(store, group("g", "ann"), send("g", "ann", "k", at_ms=NOW + 50))
        back = await one(store, send("g", "ann", "k2", at_ms=NOW + 10), base.Appended)

        assert back.entry.server_ts == NOW + 10
        (row,) = await store.conversations("ann", None, None, 9)
        assert row.last_activity_ms == NOW + 50
        await do(store, send("g", "ann", "k3", at_ms=NOW + 51))
        (row,) = await store.conversations("ann", None, None, 9)
        assert row.last_activity_ms == NOW + 51


class BlockContract:
    """Who is blocked neither adds the blocker to anything nor writes to them."""

    async def test_who_is_blocked_makes_no_conversation_with_the_blocker(self, store: Store) -> None:
        await do(store, block("ann", "eve"))

        await refused(store, single("s", "eve", "ann"), ForbiddenError)
        await refused(store, group("g", "eve", "bob", "ann"), ForbiddenError)
        assert await store.head_seqs(["s", "g"]) == {}
        await do(store, group("g", "eve", "bob"))
        await refused(store, add("g", "eve", "cat", "ann"), ForbiddenError)
        assert (await store.conversation("g", "bob")).member_count == 2
        await do(store, add("g", None, "ann"), replace(group("h", "eve", "ann"), by_host=True))

    async def test_who_is_blocked_writes_nothing_to_a_single(self, store: Store) -> None:
        await do(store, single("s", "ann", "eve"), send("s", "eve", "before"), block("ann", "eve"))
        before = await store.head_seqs(["s"])

        error = await refused(store, send("s", "eve", "k"), ForbiddenError)
        assert "block" not in str(error)
        assert await store.head_seqs(["s"]) == before
        assert (await one(store, send("s", "eve", "before"), base.Appended)).repeat
        existing = await one(store, single("other", "eve", "ann"), base.Created)
        assert (existing.created, existing.conversation.conversation_id) == (False, "s")
        await do(store, send("s", "ann", "k"), device("eve"), delivered("s", "eve", 3), read("s", "eve", 3))

    async def test_a_block_counts_in_a_single_that_is_made_later(self, store: Store) -> None:
        await do(store, block("bob", "ann"), single("s", "bob", "ann"))
        await refused(store, send("s", "ann", "k"), ForbiddenError)
        await do(store, send("s", "bob", "k"))

        await do(store, block("ann", "bob"))
        await refused(store, send("s", "bob", "k2"), ForbiddenError)
        await do(store, base.UnblockUser("bob", "ann"), send("s", "ann", "k2"))
        await refused(store, send("s", "bob", "k3"), ForbiddenError)

    async def test_a_block_of_the_same_batch_counts(self, store: Store) -> None:
        outcomes = await store.commit(
            [
                *(single("s", "ann", "eve"), block("ann", "eve"), send("s", "eve", "1")),
                *(base.UnblockUser("ann", "eve"), send("s", "eve", "2"), block("ann", "eve")),
                *(send("s", "eve", "3"), block("bob", "eve"), single("t", "eve", "bob")),
            ]
        )
        refusals = [turn for turn, it in enumerate(outcomes) if isinstance(it, base.Refused)]
        assert refusals == [2, 6, 8]

    async def test_a_group_that_both_are_in_goes_on(self, store: Store) -> None:
        await do(store, group("g", "eve", "ann"), block("ann", "eve"), send("g", "eve", "k"))

        assert await seqs(store, "g", "ann") == [1, 2]
        await do(store, remove("g", "ann", "ann"))
        await refused(store, add("g", "eve", "ann"), ForbiddenError)

    async def test_blocks_are_listed_and_end(self, store: Store) -> None:
        await do(store, block("ann", "eve", NOW + 1), block("ann", "bob"), block("bob", "ann"))
        await do(store, block("ann", "eve", NOW + 9))
        listed = [base.Block("bob", NOW), base.Block("eve", NOW + 1)]

        assert await store.blocks("ann", None, 9) == listed
        assert await store.blocks("ann", None, 1) == listed[:1]
        assert await store.blocks("ann", "bob", 9) == listed[1:]
        for _ in range(2):
            await do(store, base.UnblockUser("ann", "eve"))
            assert await store.blocks("ann", None, 9) == listed[:1]
        await do(store, single("s", "eve", "ann"))
        assert await store.blocks("eve", None, 9) == []

    async def test_blocks_are_bounded(self, store: Store) -> None:
        await refused(store, block("ann", "ann"), BadRequestError)
        await do(store, *(block("ann", f"u{n}") for n in range(rules.BLOCKS_MAX)))
        await do(store, block("ann", "u7"))

        await refused(store, block("ann", "eve"), BadRequestError)
        await do(store, base.UnblockUser("ann", "u7"), block("ann", "eve"))
