"""What a host does on its own authority."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError

from .harness import HarnessServer, login, serving


async def test_a_host_creates_sends_and_changes_members() -> None:
    async with serving() as server:
        ben = await login(server, "ben")
        created = await server.create_conversation("GROUP", "ann", ["ben"], title="Trip")
        first = await server.send(created.conversation_id, "ann", "welcome", client_msg_id="k1")
        again = await server.send(created.conversation_id, "ann", "welcome", client_msg_id="k1")
        with pytest.raises(ConflictError):
            await server.send(created.conversation_id, "ann", "other", client_msg_id="k1")
        grown = await server.add_members(created.conversation_id, "ann", ["cat"])
        shrunk = await server.remove_member(created.conversation_id, "ann", "ben")
        heard = [event.get("change") or event["payload"]["type"] for event in ben.read()]

        assert first == again
        assert (grown.member_count, shrunk.member_ids) == (3, ("ann", "cat"))
        assert heard == ["CREATED", "MEMBER", "TEXT", "MEMBER", "LEFT"]


async def test_a_new_epoch_reaches_everybody_online_and_old_cursors_conflict() -> None:
    async with serving() as server:
        created = await server.create_conversation("SINGLE", "ann", ["ben"])
        ben = await login(server, "ben")
        epoch = await server.renew_epoch(created.conversation_id)
        (behind,) = await ben.hear("BEHIND")
        sync = {"event": "SYNC", "conversationId": created.conversation_id, "lastSeq": 1}
        ben.say({**sync, "epoch": created.epoch}, {**sync, "epoch": epoch})
        error, page = await ben.hear("ERROR", "SYNC_PAGE")

        assert (behind["epoch"], page["epoch"]) == (epoch, epoch)
        assert error["code"] == "CONFLICT"
        with pytest.raises(NotFoundError):
            await server.renew_epoch("nothing")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "group"},
        {"kind": None},
        {"title": "\ud800"},
        {"title": "a\0b"},
        {"title": "x" * 257},
        {"title": None},
        {"member_ids": "bob"},
        {"member_ids": [5]},
        {"creator_id": "auth0|5f7c"},
        {"conversation_id": "\ud800"},
    ],
)
async def test_what_a_host_gives_is_held_to_the_contract(wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"kind": "GROUP", "creator_id": "ann", "member_ids": ["ben"], **wrong}
    async with serving() as server:
        with pytest.raises(BadRequestError):
            await server.create_conversation(**given)


async def test_one_text_is_no_list_of_members() -> None:
    async with serving() as server:
        made = await server.create_conversation("GROUP", "ann", ["ben"])
        with pytest.raises(BadRequestError, match="'cat' is one id; give a list of ids"):
            await server.add_members(made.conversation_id, "ann", "cat")
        with pytest.raises(BadRequestError, match="5 is not a valid clientMsgId"):
            await server.send(made.conversation_id, "ann", "x", client_msg_id=5)  # type: ignore[arg-type]


async def test_a_conversation_is_ensured_at_every_start() -> None:
    async with serving() as server:
        made = await server.ensure_conversation("lobby", "GROUP", "host", ["ann", "ben"], title="Lobby")
        again = await server.ensure_conversation("lobby", "GROUP", "host", ["ann", "ben"])
        assert again == made
        await server.add_members("lobby", None, ["cat"])
        await server.remove_member("lobby", "ben", "ben")
        await server.set_title("lobby", "Hall")
        await server.transfer_ownership("lobby", "cat")

        third = await server.ensure_conversation("lobby", "GROUP", "host", ["ann", "ben"], title="Lobby")
        assert third.member_ids == ("ann", "ben", "cat", "host")
        assert (third.title, await owner(server, "lobby", "ann")) == ("Hall", ["cat"])


async def test_a_conversation_of_another_kind_is_not_ensured() -> None:
    async with serving() as server:
        await server.ensure_conversation("s", "SINGLE", "ann", ["ben"])
        assert (await server.ensure_conversation("s", "SINGLE", "ben", ["ann"])).head_seq == 1
        await server.ensure_conversation("g", "GROUP", "ann", ["ben"])
        for name, kind, members in (("s", "GROUP", ["ben"]), ("g", "SINGLE", ["ben", "cat"][1:])):
            with pytest.raises(ConflictError):
                await server.ensure_conversation(name, kind, "ann", members)  # type: ignore[arg-type]
        with pytest.raises(ConflictError):
            await server.ensure_conversation("s", "SINGLE", "ann", ["cat"])


async def test_the_host_stands_above_owners_and_blocks() -> None:
    async with serving(readd_after_leaving=False) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        await server.remove_member("g", "ben", "ben")
        with pytest.raises(ForbiddenError):
            await server.add_members("g", "ann", ["ben"])
        await server.block("ben", "ann")
        with pytest.raises(ForbiddenError):
            await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="h")
        await server.add_members("g", None, ["ben"])
        await server.ensure_conversation("h", "GROUP", "ann", ["ben"])
        await server.remove_member("g", None, "ann")

        assert await owner(server, "g", "ben") == ["ben"]
        assert [row.actor_id for row in await server.store.audit("g")] == ["ann", "ben", "", "", ""]
        await server.unblock("ben", "ann")
        await server.create_conversation("SINGLE", "ann", ["ben"])


async def test_who_is_online_hears_of_a_title_and_of_an_owner() -> None:
    async with serving() as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        ben = await login(server, "ben")
        await server.set_title("g", "new", by="ann")
        await server.set_title("g", "new")
        await server.remove_member("g", "ann", "ann")
        heard = [
            event.get("change") or event["payload"].get("op") or event["payload"] for event in ben.read()
        ]

        assert heard == [{"type": "TITLE", "title": "new"}, "UPDATED", "LEFT", "UPDATED"]


@pytest.mark.parametrize("wrong", [{"title": None}, {"title": "a\0b"}, {"by": "a b"}])
async def test_a_wrong_title_or_name_is_refused(wrong: dict[str, Any]) -> None:
    async with serving() as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        with pytest.raises(BadRequestError):
            await server.set_title("g", **{"title": "x", **wrong})


async def owner(server: HarnessServer, conversation_id: str, member: str) -> list[str]:
    """Who the member list calls the owner."""
    rows = await server.store.members(conversation_id, member, None, 100)
    return [it.member.user_id for it in rows if it.member.role == "OWNER"]
