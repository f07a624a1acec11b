"""What a host does on its own authority."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.errors import BadRequestError, ConflictError, NotFoundError

from .harness import login, serving


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
