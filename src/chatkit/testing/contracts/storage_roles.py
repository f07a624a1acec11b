"""Roles, silence, bans and histories in a store. Part of `StoreContract`."""

from __future__ import annotations

from msgspec.structs import replace

from ...core.log import rules
from ...core.policy import GROUP_ACTIONS, RolePolicy
from ...errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from ...storage import base
from ...storage.base import Store
from ...types import GrantedRole, History
from ...wire.http import FOR_EVER_MS
from .storage_commands import (
    NOW,
    TOMBSTONE,
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
    seqs,
    single,
    texts,
)
from .storage_ownership import owner_of, sender_of_last, update


def set_role(conversation_id: str, by: str | None, user: str, role: GrantedRole) -> base.SetRole:
    """Another role for a member; None is the host."""
    return base.SetRole(conversation_id, by, user, role, NOW)


def silence(
    conversation_id: str, by: str | None, user: str, until_ms: int = FOR_EVER_MS
) -> base.SilenceMember:
    """A member may not write until then."""
    return base.SilenceMember(conversation_id, by, user, until_ms, NOW)


def ban_member(conversation_id: str, by: str | None, user: str) -> base.BanMember:
    """A user is kept out of a group."""
    return base.BanMember(conversation_id, by, user, NOW)


def unban_member(conversation_id: str, by: str | None, user: str) -> base.UnbanMember:
    """A user may be added again."""
    return base.UnbanMember(conversation_id, by, user, NOW)


def open_group(conversation_id: str, *members: str) -> base.CreateConversation:
    """A group whose history is open to who joins."""
    return replace(group(conversation_id, *members), history="FROM_START")


def set_history(conversation_id: str, by: str | None, history: History) -> base.UpdateConversation:
    """Another history for a group."""
    return base.UpdateConversation(conversation_id, by, None, None, NOW, history)


async def roles_of(store: Store, conversation_id: str, member: str) -> dict[str, str]:
    """What each member is."""
    rows = await store.members(conversation_id, member, None, 100)
    return {it.member.user_id: it.member.role for it in rows}


async def banned(store: Store, conversation_id: str) -> list[str]:
    """Who is banned, as the host sees it."""
    return [it.user_id for it in await store.bans(conversation_id, None, RolePolicy(), None, 100)]


async def read_seqs(
    store: Store, conversation_id: str, user: str, after: int = 0, limit: int = 200
) -> list[int]:
    """The seqs of one page with the history."""
    page = await store.page(conversation_id, user, after, limit, 1_000_000, history=True)
    return [entry.seq for entry in page.entries]


class RoleContract:
    """What members are, and what follows from it."""

    async def test_everybody_is_a_member_at_first_but_the_owner(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), single("s", "ann", "bob"))

        assert await roles_of(store, "g", "ann") == {"ann": "OWNER", "bob": "MEMBER"}
        assert await roles_of(store, "s", "ann") == {"ann": "MEMBER", "bob": "MEMBER"}

    async def test_a_role_lasts_as_long_as_the_membership(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), set_role("g", "ann", "bob", "ADMIN"))
        await do(store, set_role("g", "bob", "cat", "GUEST"))
        assert await roles_of(store, "g", "cat") == {"ann": "OWNER", "bob": "ADMIN", "cat": "GUEST"}

        await do(store, remove("g", "bob", "bob"), add("g", "ann", "bob"))
        assert (await roles_of(store, "g", "ann"))["bob"] == "MEMBER"
        await do(store, remove("g", "bob", "bob"), replace(add("g", "ann", "bob", "dan"), role="ADMIN"))
        assert await roles_of(store, "g", "ann") == {
            "ann": "OWNER",
            "bob": "ADMIN",
            "cat": "GUEST",
            "dan": "ADMIN",
        }
        rows = [(it.action, it.actor_id, it.subject, it.detail) for it in await store.audit("g")]
        assert ("ROLE_CHANGED", "bob", "cat", {"role": "GUEST"}) in rows
        assert ("ROLE_CHANGED", "ann", "dan", {"role": "ADMIN"}) in rows

    async def test_what_is_so_already_any_member_may_ask_for_and_nobody_else(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        same = await one(store, set_role("g", "cat", "bob", "MEMBER"), base.Updated)

        assert not same.changed
        assert [it.action for it in await store.audit("g")] == ["CREATED"]
        await refused(store, set_role("g", "eve", "bob", "MEMBER"), NotFoundError)
        await refused(store, set_role("g", "ann", "eve", "MEMBER"), NotFoundError)
        await refused(store, set_role("none", None, "bob", "MEMBER"), NotFoundError)

    async def test_nobody_does_anything_to_their_own_rank_or_above(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat", "dan"))
        await do(store, set_role("g", "ann", "bob", "ADMIN"), set_role("g", "ann", "cat", "ADMIN"))
        acts: list[base.Command] = []
        for user in ("ann", "cat", "bob"):
            acts += [
                set_role("g", "bob", user, "GUEST"),
                silence("g", "bob", user),
                ban_member("g", "bob", user),
            ]
        acts += [remove("g", "bob", "ann"), remove("g", "bob", "cat"), set_role("g", "bob", "dan", "ADMIN")]
        acts += [update("g", "bob", owner="bob"), set_history("g", "bob", "FROM_START")]
        acts += [replace(add("g", "bob", "eve"), role="ADMIN")]

        for act in acts:
            assert (await refused(store, act, ForbiddenError)).reason == "ROLE"
        assert await roles_of(store, "g", "dan") == {
            "ann": "OWNER",
            "bob": "ADMIN",
            "cat": "ADMIN",
            "dan": "MEMBER",
        }

    async def test_an_admin_runs_a_group(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), set_role("g", "ann", "bob", "ADMIN"))
        await do(
            store,
            add("g", "bob", "dan"),
            update("g", "bob", "Title"),
            silence("g", "bob", "cat", NOW + 9),
            remove("g", "bob", "dan"),
            ban_member("g", "bob", "cat"),
        )

        assert await roles_of(store, "g", "ann") == {"ann": "OWNER", "bob": "ADMIN"}
        assert await banned(store, "g") == ["cat"]

    async def test_the_owner_is_no_role_to_give_and_comes_back_to_what_they_were(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), set_role("g", None, "bob", "ADMIN"))
        await refused(store, set_role("g", None, "ann", "ADMIN"), ForbiddenError)
        await do(store, update("g", "ann", owner="bob"))
        assert await roles_of(store, "g", "ann") == {"ann": "MEMBER", "bob": "OWNER"}
        await do(store, update("g", "bob", owner="ann"))
        assert await roles_of(store, "g", "ann") == {"ann": "OWNER", "bob": "ADMIN"}

    async def test_an_admin_follows_an_owner_and_a_guest_comes_last(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat", "dan"))
        await do(store, set_role("g", "ann", "bob", "GUEST"), set_role("g", "ann", "dan", "ADMIN"))
        await do(store, remove("g", "ann", "ann"))
        assert await owner_of(store, "g", "bob") == ["dan"]
        await do(store, remove("g", None, "dan"))
        assert await owner_of(store, "g", "bob") == ["cat"]
        await do(store, remove("g", "cat", "cat"))
        assert await owner_of(store, "g", "bob") == ["bob"]

    async def test_in_one_batch_roles_count_for_who_follows(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat", "dan"), set_role("g", "ann", "bob", "ADMIN"))
        outcomes = await do(
            store,
            set_role("g", "ann", "bob", "GUEST"),
            set_role("g", "ann", "dan", "ADMIN"),
            remove("g", "ann", "ann"),
            set_role("g", "dan", "cat", "GUEST"),
            remove("g", "dan", "dan"),
        )

        assert [it.new_owner_id for it in outcomes if isinstance(it, base.MembersChanged)] == ["dan", "bob"]
        assert await roles_of(store, "g", "cat") == {"bob": "OWNER", "cat": "GUEST"}

    async def test_the_hosts_policy_decides(self, store: Store) -> None:
        policy = RolePolicy(
            {**GROUP_ACTIONS, "MEMBER": {"SEND_MESSAGES", "ADD_MEMBERS"}, "GUEST": set()},
            single={"SEND_MESSAGES", "RECALL_MESSAGES"},
        )
        await do(store, group("g", "ann", "bob", "cat"), single("s", "ann", "bob"))
        await do(store, set_role("g", "ann", "cat", "GUEST"))
        await do(store, replace(add("g", "bob", "dan"), policy=policy))

        refusal = await refused(store, replace(send("g", "cat", "k"), policy=policy), ForbiddenError)
        assert refusal.reason == "ROLE"
        await refused(store, replace(add("g", "cat", "eve"), policy=policy), ForbiddenError)
        await do(store, send("g", "cat", "k"))
        again = await one(store, replace(send("g", "cat", "k"), policy=policy), base.Appended)
        assert again.repeat
        sent = await one(store, send("s", "ann", "k"), base.Appended)
        await refused(store, recall(sent.entry.message_id, "bob"), ForbiddenError)
        await do(store, replace(recall(sent.entry.message_id, "bob"), policy=policy))

    async def test_a_single_has_no_roles(self, store: Store) -> None:
        await do(store, single("s", "ann", "bob"))
        acts: list[base.Command] = []
        for by in ("ann", None):
            acts += [
                set_role("s", by, "bob", "ADMIN"),
                silence("s", by, "bob"),
                set_history("s", by, "FROM_START"),
            ]
            acts += [ban_member("s", by, "bob"), unban_member("s", by, "bob")]

        for act in acts:
            await refused(store, act, ForbiddenError)

    async def test_a_list_says_what_its_user_is(self, store: Store) -> None:
        await do(
            store,
            open_group("g", "ann", "bob"),
            silence("g", "ann", "bob", NOW + 5),
            single("s", "bob", "ann"),
        )
        rows = await store.conversations("bob", None, None, 10)

        shown = [(it.member.role, it.member.silenced_until_ms, it.history) for it in rows]
        assert shown == [("MEMBER", NOW + 5, "FROM_START"), ("MEMBER", 0, "FROM_JOIN")]
        (own,) = [it for it in await store.conversations("ann", "phone", None, 10) if it.head.type == "GROUP"]
        assert (own.member.user_id, own.member.role, own.member.joined_seq) == ("ann", "OWNER", 1)


class RecallByOthersContract:
    """Who withdraws what somebody else wrote."""

    async def test_whoever_runs_a_group_recalls_what_others_wrote_however_old(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), set_role("g", "ann", "bob", "ADMIN"))
        sent = await one(store, send("g", "cat", "k"), base.Appended)
        name = sent.entry.message_id
        first = await one(store, recall(name, "bob", at_ms=NOW + 10**9, window_ms=1), base.Recalled)

        assert (first.entry.sender_id, first.repeat) == ("bob", False)
        assert (await texts(store, "g", "cat"))[1] == TOMBSTONE
        for user in ("cat", "bob", "ann"):
            again = await one(store, recall(name, user), base.Recalled)
            assert (again.entry, again.repeat) == (first.entry, True)
        await do(store, remove("g", "ann", "bob"))
        assert (await one(store, recall(name, "bob"), base.Recalled)).entry == first.entry
        assert (await store.audit("g"))[-2].action == "RECALLED"

    async def test_not_what_somebody_of_their_rank_or_above_wrote(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), set_role("g", "ann", "bob", "ADMIN"))
        await do(store, set_role("g", "ann", "cat", "ADMIN"))
        names = [
            (await one(store, send("g", user, "k"), base.Appended)).entry.message_id
            for user in ("ann", "cat")
        ]
        for name in names:
            assert (await refused(store, recall(name, "bob"), ForbiddenError)).reason == "ROLE"
        await do(store, remove("g", "ann", "cat"))  # who is no member has no rank
        await do(store, recall(names[1], "bob"))

    async def test_the_host_recalls_anything_in_the_name_of_a_member(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), single("s", "ann", "bob"))
        names = [
            (await one(store, send(place, "bob", "k"), base.Appended)).entry.message_id
            for place in ("g", "s")
        ]
        for place, name in zip("gs", names, strict=True):
            await do(store, base.Recall(name, None, 1, NOW + 10**9))
            assert await sender_of_last(store, place) == "bob"
            assert [(it.action, it.actor_id) for it in await store.audit(place)][-1] == ("RECALLED", "")
        later = await one(store, send("g", "bob", "k2"), base.Appended)
        await do(store, remove("g", "bob", "bob"), base.Recall(later.entry.message_id, None, 1, NOW))
        assert await sender_of_last(store, "g") == "ann"
        made = await store.entries("g", 0, 1)
        await refused(store, base.Recall(made[0].message_id, None, 1, NOW), ForbiddenError)

    async def test_who_may_not_read_a_message_cannot_recall_it(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "bob", "k"), base.Appended)
        await do(store, replace(add("g", "ann", "cat"), role="ADMIN"))

        await refused(store, recall(sent.entry.message_id, "cat"), NotFoundError)


class SilenceContract:
    """Members who may not write."""

    async def test_a_silenced_member_reads_and_does_not_write(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "bob", "k"), silence("g", "ann", "bob", NOW + 10))
        assert (await refused(store, send("g", "bob", "k2"), ForbiddenError)).reason == "SILENCED"
        assert (await one(store, send("g", "bob", "k", at_ms=NOW + 1), base.Appended)).repeat
        await refused(store, send("g", "bob", "k", "other"), ConflictError)
        assert len(await texts(store, "g", "bob")) == 2

        await do(store, send("g", "bob", "k2", at_ms=NOW + 10))
        await do(store, silence("g", "ann", "bob"), silence("g", None, "bob", 0), send("g", "bob", "k3"))
        actions = [(it.action, it.actor_id, it.detail) for it in await store.audit("g")][1:]
        assert actions == [
            ("SILENCED", "ann", {"until_ms": str(NOW + 10)}),
            ("SILENCED", "ann", {"until_ms": str(FOR_EVER_MS)}),
            ("UNSILENCED", "", {}),
        ]

    async def test_it_outlives_the_membership(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), silence("g", "ann", "bob"))
        await do(store, remove("g", "bob", "bob"))
        await do(store, add("g", "ann", "bob"))
        assert (await refused(store, send("g", "bob", "k"), ForbiddenError)).reason == "SILENCED"

        await do(store, silence("g", "ann", "bob", 0), silence("g", "ann", "bob"), remove("g", "ann", "bob"))
        await do(store, add("g", "ann", "bob"), remove("g", "bob", "bob"), add("g", "ann", "bob"))
        assert (await refused(store, send("g", "bob", "k"), ForbiddenError)).reason == "SILENCED"

    async def test_it_holds_in_a_membership_that_began_in_the_same_batch(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, remove("g", "ann", "bob"), add("g", "ann", "bob"), silence("g", "ann", "bob"))
        assert (await refused(store, send("g", "bob", "k"), ForbiddenError)).reason == "SILENCED"

    async def test_only_a_member_is_silenced(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        await refused(store, silence("g", "ann", "eve"), NotFoundError)
        await refused(store, silence("g", None, "eve"), NotFoundError)
        assert (await refused(store, silence("g", "bob", "bob"), ForbiddenError)).reason == "ROLE"
        await do(store, silence("g", None, "ann"))
        await refused(store, send("g", "ann", "k"), ForbiddenError)


class BanContract:
    """Users who are kept out of a group."""

    async def test_who_is_banned_is_removed_and_not_added_again_but_by_the_host(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob", "cat"), send("g", "bob", "k"))
        gone = await one(store, ban_member("g", "ann", "bob"), base.MembersChanged)

        assert (gone.removed, gone.conversation.member_ids) == (("bob",), ("ann", "cat"))
        await refused(store, send("g", "bob", "k2"), NotFoundError)
        assert (await one(store, send("g", "bob", "k"), base.Appended)).repeat
        refusal = await refused(store, add("g", "ann", "dan", "bob"), ForbiddenError)
        assert refusal.reason is None  # as for who blocked or left: it says neither whom nor why
        again = await one(store, ban_member("g", "ann", "bob"), base.MembersChanged)
        assert (again.entry, again.removed) == (None, ())

        await do(store, add("g", None, "bob"))
        assert (await banned(store, "g"), sorted(await roles_of(store, "g", "bob"))) == (
            [],
            ["ann", "bob", "cat"],
        )
        rows = [(it.action, it.actor_id, it.subject) for it in await store.audit("g")]
        assert [it for it in rows if "BAN" in it[0]] == [
            ("MEMBER_BANNED", "ann", "bob"),
            ("MEMBER_UNBANNED", "", "bob"),
        ]

    async def test_who_was_never_there_is_kept_out_too(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), ban_member("g", "ann", "eve"), ban_member("g", None, "dan"))
        await refused(store, add("g", "ann", "eve"), ForbiddenError)
        bans = await store.bans("g", "ann", RolePolicy(), None, 10)
        assert [(it.user_id, it.by_id, it.since_ms) for it in bans] == [("dan", "", NOW), ("eve", "ann", NOW)]
        assert [it.user_id for it in await store.bans("g", "ann", RolePolicy(), "dan", 10)] == ["eve"]
        assert len(await store.bans("g", None, RolePolicy(), None, 1)) == 1

        await do(
            store, unban_member("g", "ann", "eve"), unban_member("g", "ann", "nobody"), add("g", "ann", "eve")
        )
        assert await banned(store, "g") == ["dan"]

    async def test_who_may_ban_and_look(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        for act in (
            ban_member("g", "bob", "eve"),
            unban_member("g", "bob", "eve"),
            ban_member("g", "bob", "ann"),
        ):
            assert (await refused(store, act, ForbiddenError)).reason == "ROLE"
        for act in (
            ban_member("g", "eve", "bob"),
            unban_member("g", "eve", "bob"),
            ban_member("none", None, "bob"),
        ):
            await refused(store, act, NotFoundError)
        for user, error in (("bob", ForbiddenError), ("eve", NotFoundError)):
            try:
                await store.bans("g", user, RolePolicy(), None, 10)
            except error:
                pass
            else:
                raise AssertionError(user)

    async def test_the_host_bans_an_owner_and_the_group_goes_on(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        gone = await one(store, ban_member("g", None, "ann"), base.MembersChanged)

        assert (gone.new_owner_id, await sender_of_last(store, "g")) == ("bob", "bob")
        await refused(store, add("g", "bob", "ann"), ForbiddenError)

    async def test_one_batch_bans_and_adds_in_order(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        outcomes = await store.commit(
            [
                ban_member("g", "ann", "bob"),
                add("g", "ann", "bob"),
                unban_member("g", "ann", "bob"),
                add("g", "ann", "bob"),
                ban_member("g", "ann", "bob"),
                add("g", None, "bob"),
            ]
        )

        assert [isinstance(it, base.Refused) for it in outcomes] == [False, True, False, False, False, False]
        assert (await banned(store, "g"), sorted(await roles_of(store, "g", "ann"))) == ([], ["ann", "bob"])

    async def test_bans_are_bounded(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        most = rules.BANS_MAX
        await do(store, *(ban_member("g", "ann", f"u{n}") for n in range(most)))
        await refused(store, ban_member("g", "ann", "one-more"), BadRequestError)
        await do(
            store, ban_member("g", "ann", "u1"), unban_member("g", "ann", "u1"), ban_member("g", "ann", "eve")
        )
        await refused(store, ban_member("g", "ann", "u1"), BadRequestError)

    async def test_a_mute_ends_with_the_membership(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), base.Mute("g", "bob", FOR_EVER_MS))
        await do(store, ban_member("g", "ann", "bob"), add("g", None, "bob"))
        (row,) = await store.conversations("bob", None, None, 10)
        assert row.muted_until_ms == 0


class HistoryContract:
    """What who joins may read of the time before."""

    async def test_an_open_history_is_read_from_the_start_and_not_delivered(self, store: Store) -> None:
        await do(store, open_group("g", "ann", "bob"), send("g", "ann", "k1"), send("g", "bob", "k2"))
        await do(store, device("cat"), add("g", "ann", "cat"), send("g", "ann", "k3"))

        assert await read_seqs(store, "g", "cat") == [1, 2, 3, 4, 5]
        assert await read_seqs(store, "g", "cat", 1, 2) == [2, 3]
        assert await seqs(store, "g", "cat") == [4, 5]
        found = await head(store, "cat", "g")
        assert (found.first_seq, found.delivered_seq, found.read_seq) == (1, 3, 3)
        (row,) = await store.conversations("cat", None, None, 10)
        assert row.unread == 1
        entry = (await store.entries("g", 1, 1))[0]
        status = await store.status(entry.message_id, "ann", None, 10)
        assert (status.member_count, len(status.deliveries)) == (1, 0)

    async def test_a_closed_one_is_not(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k1"), add("g", "ann", "cat"))
        sent = await one(store, send("g", "ann", "k2"), base.Appended)

        assert await read_seqs(store, "g", "cat") == await seqs(store, "g", "cat") == [3, 4]
        assert (await head(store, "cat", "g")).first_seq == 3
        hidden = (await store.entries("g", 1, 1))[0]
        for act in (recall(hidden.message_id, "cat"), confirm(hidden.message_id, "cat")):
            await refused(store, act, NotFoundError)
        await do(store, confirm(sent.entry.message_id, "cat"))

    async def test_a_change_is_for_those_who_join_from_then_on(self, store: Store) -> None:
        await do(store, group("g", "ann"), add("g", "ann", "bob"), set_history("g", "ann", "FROM_START"))
        await do(store, add("g", "ann", "cat"), set_history("g", None, "FROM_JOIN"), add("g", "ann", "dan"))

        assert await read_seqs(store, "g", "bob") == [2, 3, 4]
        assert await read_seqs(store, "g", "cat") == [1, 2, 3, 4]
        assert await read_seqs(store, "g", "dan") == [4]
        found = await store.conversation("g", "dan")
        assert found.history == "FROM_JOIN"
        rows = [(it.actor_id, it.subject) for it in await store.audit("g") if it.action == "HISTORY_CHANGED"]
        assert rows == [("ann", "FROM_START"), ("", "FROM_JOIN")]

    async def test_who_comes_back_reads_on_from_where_they_went(self, store: Store) -> None:
        await do(store, group("g", "ann"), send("g", "ann", "k1"), add("g", "ann", "bob"))  # 3
        await do(store, send("g", "ann", "k2"), remove("g", "bob", "bob"), send("g", "ann", "k3"))  # 4, 5, 6
        await do(store, set_history("g", "ann", "FROM_START"), add("g", "ann", "bob"))  # 7

        assert await read_seqs(store, "g", "bob") == [3, 4, 5, 6, 7]
        assert await seqs(store, "g", "bob") == [3, 4, 7]
        assert (await head(store, "bob", "g")).first_seq == 3
        await do(store, remove("g", "ann", "bob"))
        try:
            await store.page("g", "bob", 0, 10, 1000, history=True)
        except NotFoundError:
            pass
        else:
            raise AssertionError("who is no member reads nothing")

    async def test_what_is_read_of_the_past_moves_no_cursor(self, store: Store) -> None:
        await do(store, open_group("g", "ann", "bob"), device("bob"), delivered("g", "bob", 1))
        await do(store, remove("g", "bob", "bob"))  # 2
        away = await one(store, send("g", "ann", "k"), base.Appended)  # 3
        await do(store, add("g", "ann", "bob"), send("g", "ann", "k2"))  # 4, 5
        before = await head(store, "bob", "g")
        outcome = await one(store, confirm(away.entry.message_id, "bob"), base.Advanced)

        assert (outcome.moved, outcome.authors) == (False, ())
        assert await head(store, "bob", "g") == before
        await do(store, delivered("g", "bob", 5), read("g", "bob", 3))
        assert (await head(store, "bob", "g")).delivered_seq == 5
        status = await store.status(away.entry.message_id, "ann", None, 10)
        assert (status.status, status.member_count) == ("SENT", 0)

    async def test_a_message_of_the_past_can_be_recalled_and_reads_so(self, store: Store) -> None:
        await do(store, open_group("g", "ann", "bob"))
        sent = await one(store, send("g", "bob", "k"), base.Appended)
        await do(store, replace(add("g", "ann", "cat"), role="ADMIN"), recall(sent.entry.message_id, "cat"))

        page = await store.page("g", "cat", 1, 1, 1000, history=True)
        assert [it.payload for it in page.entries] == [TOMBSTONE]
        assert (page.up_to_seq, page.more) == (2, True)
