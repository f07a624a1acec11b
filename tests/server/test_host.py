"""What a host does on its own authority."""

from __future__ import annotations

import pytest

from chatkit.errors import ConfigurationError, ConflictError, NotFoundError

from .harness import GatedStore, HarnessServer, by_name, login, serving


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


async def test_a_server_is_entered_once() -> None:
    server = HarnessServer(store=GatedStore(), authenticate=by_name)
    async with server:
        assert server.ready
    with pytest.raises(ConfigurationError):
        async with server:
            pass
