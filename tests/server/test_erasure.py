"""A host erases a user: nothing of theirs stays that can go, the others go on, and a killed one is gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit.errors import BadRequestError, ConfigurationError, ForbiddenError, UnavailableError
from chatkit.ports import SystemIds
from chatkit.server.erasure import AT_ONCE, Erased
from chatkit.server.person import lines_of
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report

from .harness import GatedStore, HarnessServer, Peer, login, serving, text

MESSAGES = 2 * AT_ONCE + 7


async def a_life(server: HarnessServer) -> None:
    """Ben owns a group, writes there and in a SINGLE, left another group, blocks eve, and is muted somewhere."""
    await server.create_conversation("GROUP", "ben", ["ann", "cat"], conversation_id="g")
    await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="h")
    await server.create_conversation("SINGLE", "ann", ["ben"], conversation_id="s")
    for number in range(MESSAGES):
        await server.send("g", "ben", f"body {number}", client_msg_id=f"k{number}")
    await server.send("g", "ann", "of ann", client_msg_id="k")
    await server.send("h", "ben", "body in h", client_msg_id="k")
    await server.send("s", "ben", "body in s", client_msg_id="k")
    await server.remove_member("h", "ben", "ben")
    await server.block("ben", "eve")


async def bodies(server: HarnessServer, conversation_id: str) -> list[str]:
    entries = await server.store.entries(conversation_id, 0, 1_000)
    return [payload["text"] for it in entries if (payload := json.loads(it.payload)).get("type") == "TEXT"]


async def test_what_there_is_of_a_user_goes_and_the_others_go_on() -> None:
    async with serving() as server:
        await a_life(server)
        ann, ben = await login(server, "ann"), await login(server, "ben")
        erased = await server.erase_user("ben", bodies="erase", by="adm")

        assert erased == Erased(3, MESSAGES + 2)
        assert await ben.closed() == 4202
        assert [await bodies(server, it) for it in "ghs"] == [["of ann"], [], []]
        recalled = [it for it in ann.read() if it["event"] == "NEW_MSG" and it["payload"]["type"] == "RECALL"]
        assert len(recalled) == MESSAGES + 2
        assert (await server.store.conversation("g", "ann")).member_ids == ("ann", "cat")
        assert (await server.store.conversation("s", "ann")).member_ids == ("ann", "ben")
        assert await server.store.blocks("ben", None, 9) == []
        store: Any = server.store
        assert await store.devices_of("ben") == await store.erasures() == []
        again = Peer(server)
        again.say({"event": "HELLO", "token": "ben", "deviceId": "phone"})
        assert await again.closed() == 4202


async def test_bodies_stay_where_the_host_says_so() -> None:
    async with serving() as server:
        await a_life(server)
        assert await server.erase_user("ben") == Erased(3, 0)
        assert len(await bodies(server, "g")) == MESSAGES + 1
        acts = await server.store.acts(base.AuditFilter(user_id="ben", actor_id=""), 0, 1_000)
        assert [it.action for it in acts] == ["ERASURE_BEGAN", "BANNED", "REMOVED", "ERASED"]


async def test_a_second_time_does_nothing_more() -> None:
    async with serving() as server:
        await a_life(server)
        await server.erase_user("ben", bodies="erase")
        heads = await server.store.head_seqs(["g", "h", "s"])
        assert await server.erase_user("ben", bodies="erase") == Erased(3, 0)
        assert await server.store.head_seqs(["g", "h", "s"]) == heads
        assert await server.erase_user("never-here", bodies="erase") == Erased(0, 0)


async def test_who_edited_reacted_pinned_named_and_streamed_is_erased_to_the_end() -> None:
    async with serving() as server:
        await server.create_conversation("GROUP", "ben", ["ann"], conversation_id="g")
        await server.create_conversation("GROUP", "ben", ["ann"], conversation_id="h")
        sent = await server.send("g", "ben", "first", client_msg_id="k")
        named = {"messageId": sent.message_id, "seq": sent.seq}
        of_ben: list[dict[str, Any]] = [
            {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": "edited"}},
            {"type": "REACTION", **named, "reaction": "+1"},
            {"type": "PINNED", **named, "pinned": True},
            {"type": "TITLE", "title": "of ben"},
            {"type": "STREAM", "text": "streamed"},
        ]
        for number, payload in enumerate(of_ben):
            await server.send("g", "ben", payload, client_msg_id=f"k{number}")
        await server.send("h", "ben", "body in h", client_msg_id="k")
        ann = await login(server, "ann")

        assert await server.erase_user("ben", bodies="erase") == Erased(2, 3)
        store: Any = server.store
        assert await store.erasures() == []
        for conversation_id in "gh":
            assert (await server.store.conversation(conversation_id, "ann")).member_ids == ("ann",)
        ann.say(*({"event": "SYNC", "conversationId": it, "lastSeq": 0} for it in "gh"))
        pages = await ann.hear("SYNC_PAGE", "SYNC_PAGE")
        words = json.dumps([it["messages"] for it in pages])
        assert [it in words for it in ("first", "edited", "streamed", "body in h")] == [False] * 4
        assert [it in words for it in ("+1", "of ben")] == [True] * 2, "docs/privacy.md says so"


async def test_of_what_has_expired_no_row_holds_a_word(tmp_path: Path) -> None:
    """The message is below the floor, with no archiver to take its body out; one of its edits is above."""
    path = str(tmp_path / "chat.db")
    store: Any = SqliteStore(path, ids=SystemIds(), threads=False)
    async with serving(store) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        sent = await server.send("g", "ben", "TOPSECRET", client_msg_id="k")
        named = {"messageId": sent.message_id, "seq": sent.seq}
        for key in ("early", "late"):
            edit = {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": f"{key} TOPSECRET"}}
            await server.send("g", "ben", edit, client_msg_id=key)
        await server.send("g", "ann", "of ann", client_msg_id="k")
        await server.delete_history("g", 3)
        exported = b"".join([line async for line in server.export_user("ben")])
        assert (b'"TOPSECRET"' in exported, b"late TOPSECRET" in exported) == (False, True)

        assert await server.erase_user("ben", bodies="erase") == Erased(1, 1)
        ann = await login(server, "ann")
        ann.say({"event": "SYNC", "conversationId": "g", "lastSeq": 0})
        assert "TOPSECRET" not in json.dumps(await ann.hear("SYNC_PAGE"))
        assert await server.erase_user("ben", bodies="erase") == Erased(1, 0)
    assert b"TOPSECRET" not in b"".join(it.read_bytes() for it in tmp_path.iterdir())
    assert full_report(path).findings == []


async def test_a_message_that_is_refused_keeps_no_other_back() -> None:
    class Refusing(GatedStore):
        refuses = ""

        async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
            refused = [isinstance(it, base.Recall) and it.message_id == self.refuses for it in commands]
            rest = [it for it, no in zip(commands, refused, strict=True) if not no]
            outcomes = iter(await super().commit(rest))
            no_more = base.Refused(ForbiddenError("not this one"))
            return [no_more if no else next(outcomes) for no in refused]

    store = Refusing()
    async with serving(store) as server:
        await a_life(server)
        (first,) = await store.messages_of("g", "ben", "", 1)
        store.refuses = first.message_id
        with pytest.raises(ForbiddenError, match="not this one"):
            await server.erase_user("ben", bodies="erase")
        assert [await bodies(server, it) for it in "ghs"] == [["body 0", "of ann"], [], []]
        assert [it.user_id for it in await store.erasures()] == ["ben"], "it is tried again"
        store.refuses = ""
        with anyio.fail_after(60):
            while await store.erasures():
                await anyio.sleep(0.5)
        assert await bodies(server, "g") == ["of ann"]


async def test_what_was_cut_off_the_next_server_goes_on_with(tmp_path: Path) -> None:
    """After each number of commits, until one erasure needs no more."""
    path = str(tmp_path / "chat.db")
    store = CuttingStore(path)
    async with serving(store) as server:  # type: ignore[arg-type]
        await a_life(server)
    for commits in range(1, 40):
        store = CuttingStore(path)
        async with serving(store) as server:  # type: ignore[arg-type]
            store.left = commits
            with suppress(UnavailableError):
                await server.erase_user("ben", bodies="erase")
                break
    assert commits > 3, "it was cut off"
    assert full_report(path).findings == []
    store = CuttingStore(path)
    async with serving(store) as server:  # type: ignore[arg-type]
        assert [await bodies(server, it) for it in "ghs"] == [["of ann"], [], []]


class CuttingStore(SqliteStore):
    """After so many commits none is taken any more."""

    def __init__(self, path: str) -> None:
        super().__init__(path, ids=SystemIds(), threads=False)
        self.left = 10**9

    async def commit(self, commands: Any) -> list[base.Outcome]:
        if commands:
            self.left -= 1
        if self.left < 0:
            raise UnavailableError("cut off", retry_after_s=1.0)
        return await super().commit(commands)


async def test_the_next_server_goes_on_by_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.db")
    store = CuttingStore(path)
    async with serving(store) as server:  # type: ignore[arg-type]
        await a_life(server)
        store.left = 1
        with anyio.move_on_after(5):
            await server.erase_user("ben", bodies="erase", by="adm")
        assert [it.user_id for it in await store.erasures()] == ["ben"]

    store = CuttingStore(path)
    async with serving(store) as server:  # type: ignore[arg-type]
        with anyio.fail_after(60):
            while await store.erasures():
                await anyio.sleep(0.5)
        assert [await bodies(server, it) for it in "ghs"] == [["of ann"], [], []]
        (ended,) = await store.acts(base.AuditFilter(action="ERASED"), 0, 9)
        assert (ended.actor_id, ended.detail["messages"]) == ("adm", str(MESSAGES + 2))


async def test_who_is_erased_while_they_write_leaves_nothing() -> None:
    async with serving() as server:
        await a_life(server)
        ben = await login(server, "ben")

        async def write() -> None:
            for number in range(50):
                if ben.session.close_code is None:
                    ben.say(text("s", f"late{number}"))
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.sleep(0.1)
            await server.erase_user("ben", bodies="erase")
        assert await bodies(server, "s") == []


async def test_who_asks_for_more_meanwhile_gets_it() -> None:
    async with serving() as server:
        await a_life(server)
        results: list[Erased] = []

        async def erase(bodies: Any, after_s: float) -> None:
            await anyio.sleep(after_s)
            results.append(await server.erase_user("ben", bodies=bodies))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(erase, "keep", 0)
            tasks.start_soon(erase, "erase", 1)
            tasks.start_soon(erase, "keep", 1)
        assert sorted(it.messages for it in results) == [0, 0, MESSAGES + 2]
        assert await bodies(server, "g") == ["of ann"]


async def test_what_another_node_ended_meanwhile_has_ended() -> None:
    async with serving() as server:
        await a_life(server)
        store: Any = server.store
        read = store.erasures

        async def too_late() -> Any:
            for it in await read():
                end = base.EndErasure(it.user_id, it.erases_bodies, None, 0, 0, 1)
                await server.engine.execute(end, base.Done)
            return await read()

        store.erasures = too_late
        with anyio.fail_after(60):
            assert await server.erase_user("ben") == Erased(0, 0)


async def test_who_waits_when_the_server_stops_is_told_so() -> None:
    async with serving() as server:
        await a_life(server)
        refusals: list[Exception] = []

        async def erase() -> None:
            try:
                await server.erase_user("ben")
            except UnavailableError as error:
                refusals.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(erase)
            await anyio.sleep(0.5)
            await server.__aexit__(None, None, None)
        assert [str(it) for it in refusals] == ["the server stops; it is gone on with at its next start"]
        await server.__aenter__()


@pytest.mark.parametrize("arguments", [{"user_id": "no id"}, {"bodies": "some"}, {"by": "a|b"}])
async def test_what_is_no_erasure_is_refused(arguments: dict[str, Any]) -> None:
    async with serving() as server:
        with pytest.raises(BadRequestError):
            await server.erase_user(**{"user_id": "ben", **arguments})
        assert await server.store.audit_end() == 0


async def test_a_copy_has_all_there_is_and_is_audited() -> None:
    async with serving() as server:
        await a_life(server)
        await login(server, "ben")
        lines = [json.loads(line) async for line in server.export_user("ben", by="adm")]

        kinds = [next(iter(line)) for line in lines]
        assert kinds[:3] == ["export", "device", "block"]
        assert kinds.count("conversation") == 3
        assert kinds.count("message") == MESSAGES + 2
        assert lines[0]["export"]["userId"] == "ben"
        message = next(line["message"] for line in lines if "message" in line)
        assert message["payload"]["type"] == "TEXT"
        assert {"conversationId", "messageId", "clientMsgId", "seq", "serverTs"} < set(message)
        acts = [line["act"] for line in lines if "act" in line]
        assert (acts[-1]["action"], acts[-1]["actorId"]) == ("EXPORTED", "adm")
        assert "of ann" not in json.dumps(lines)


async def test_a_store_without_the_ability_says_so() -> None:
    class Plain:
        """Not even empty."""

    with pytest.raises(ConfigurationError):
        [line async for line in lines_of(Plain(), Plain(), "ben", 0)]  # type: ignore[arg-type]
