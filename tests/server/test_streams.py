"""Streamed messages at the server: who gets parts, what is answered, and what ends a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from chatkit.core.rate_limit import Rate
from chatkit.errors import ConflictError
from chatkit.server.limits import Limits
from chatkit.server.moderation.config import ModerationConfig
from chatkit.storage.base import Appended, Command, EndStream, IdleStream, Outcome
from chatkit.wire.codec import MSGPACK
from chatkit.wire.events import STREAM_AGE_MAX_S

from .harness import GatedStore, HarnessServer, Peer, group, login, serving, text
from .nodes import after, at_once, cluster
from .test_moderation import ByWord

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[HarnessServer]:
    async with serving() as server:
        yield server


def stream(key: str = "s", words: str = "", conversation_id: str = "g-1") -> dict[str, Any]:
    return {**text(conversation_id, key), "payload": {"type": "STREAM", "text": words}}


def part(name: str, number: int, words: str, conversation_id: str = "g-1", **more: Any) -> dict[str, Any]:
    place = {"conversationId": conversation_id, "messageId": name}
    return {"event": "STREAM_PART", **place, "part": number, "text": words, **more}


def end(name: str, words: str, ends: str = "WHOLE", seq: int = 2) -> dict[str, Any]:
    final = {"type": "TEXT", "text": words}
    payload = {"type": "EDIT", "messageId": name, "seq": seq, "ends": ends, "payload": final}
    return {**text("g-1", f"end {words}"), "payload": payload}


async def begun(peer: Peer, words: str = "") -> str:
    peer.say(stream(words=words))
    (ack,) = await peer.hear("MSG_ACK")
    return str(ack["messageId"])


async def shown(peer: Peer, seq: int = 2) -> dict[str, Any]:
    """The entry at a seq, as a page shows it."""
    peer.say({"event": "SYNC", "conversationId": "g-1", "lastSeq": seq - 1, "limit": 1})
    (page,) = await peer.hear("SYNC_PAGE")
    (entry,) = page["messages"]
    return dict(entry)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [it["event"] for it in events]


async def test_parts_reach_all_others_in_order_and_the_end_is_an_entry(server: HarnessServer) -> None:
    await group(server, "ann", "ben")
    ann, tablet, ben = (
        await login(server, "ann"),
        await login(server, "ann", "tablet"),
        await login(server, "ben"),
    )
    packed = await login(server, "ben", "tv", MSGPACK)
    name = await begun(ann, "H")
    ann.say(part(name, 1, "e", ref="1"), part(name, 2, "llo", ref="2"))
    first, second = await ann.hear("STREAM_ACK", "STREAM_ACK")
    assert first == {
        "event": "STREAM_ACK", "conversationId": "g-1", "messageId": name, "seq": 2, "part": 1, "ref": "1",
    }  # fmt: skip
    assert second["part"] == 2
    for peer in (tablet, ben, packed):
        _, one, two = await peer.hear("NEW_MSG", "STREAM_PART", "STREAM_PART")
        assert (one["part"], one["text"], two["part"], two["text"]) == (1, "e", 2, "llo")
        assert (one["messageId"], one["seq"]) == (name, 2)
    assert kinds(ann.read()) == [], "who sent it knows it"
    assert (await shown(ben))["stream"] == {"parts": 2, "text": "Hello"}

    ann.say(end(name, "Hello!"))
    await ann.hear("MSG_ACK")
    (told,) = await ben.hear("NEW_MSG")
    assert told["payload"]["ends"] == "WHOLE"
    entry = await shown(ben)
    assert "stream" not in entry
    assert entry["edit"]["payload"] == {"type": "TEXT", "text": "Hello!"}


async def test_what_is_wrong_with_a_part_is_said(server: HarnessServer) -> None:
    await group(server, "ann", "ben")
    ann, ben = await login(server, "ann"), await login(server, "ben")
    name = await begun(ann)

    async def refusal(peer: Peer, event: dict[str, Any]) -> dict[str, Any]:
        peer.say({**event, "ref": "r"})
        (error,) = await peer.hear("ERROR")
        assert error["ref"] == "r"
        return error

    gap = await refusal(ann, part(name, 2, "x"))
    assert (gap["code"], gap["expectedPart"], gap["retryable"]) == ("PART_OUT_OF_ORDER", 1, False)
    assert (await refusal(ann, part(name, 1, "")))["code"] == "BAD_REQUEST"
    assert (await refusal(ann, part(name, 0, "x")))["code"] == "BAD_REQUEST"
    assert (await refusal(ann, part(name, 1, "a\x00")))["code"] == "BAD_REQUEST"
    assert (await refusal(ann, part(name, -1, "x")))["code"] == "BAD_REQUEST"
    assert (await refusal(ann, part(name, 1, "x" * 8193)))["code"] == "TOO_LARGE"
    assert (await refusal(ben, part(name, 1, "x")))["code"] == "NOT_FOUND"
    assert (await refusal(ann, part(name, 1, "x", "other")))["code"] == "NOT_FOUND"
    assert "STREAM_PART" not in kinds(ben.read())
    ann.say({"event": "RECALL", "messageId": name})
    await ann.hear("MSG_ACK")
    assert (await refusal(ann, part(name, 1, "x")))["code"] == "STREAM_ENDED"


async def test_who_was_not_shown_the_message_gets_no_parts(server: HarnessServer) -> None:
    await group(server, "ann", "ben")
    ann = await login(server, "ann")
    name = await begun(ann, "a")
    ben = await login(server, "ben")
    eve = await login(server, "eve")
    await server.add_members("g-1", "ann", ["eve"])
    await eve.hear("NEW_MSG")
    ann.say(part(name, 1, "b"))
    await ann.hear("STREAM_ACK")
    assert "STREAM_PART" not in kinds(await after(0.1, ben)), "ben may see it, and has to ask for it first"
    assert (await shown(ben))["stream"] == {"parts": 1, "text": "ab"}
    eve.say({"event": "SYNC", "conversationId": "g-1", "lastSeq": 0})
    (page,) = await eve.hear("SYNC_PAGE")
    assert [it["seq"] for it in page["messages"]] == [3]

    ann.say(part(name, 2, "c"))
    (told,) = await ben.hear("STREAM_PART")
    assert told["part"] == 2
    await server.remove_member("g-1", "ann", "ben")
    ann.say(part(name, 3, "d"))
    await ann.hear("STREAM_ACK")
    assert "STREAM_PART" not in kinds(await after(0.1, ben))
    assert "STREAM_PART" not in kinds(await after(0.1, eve))


async def test_a_silent_author_is_cut_off_and_may_still_send_the_whole() -> None:
    async with serving(stream_idle_s=60) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        name = await begun(ann)
        ann.say(part(name, 1, "half"))
        await ann.hear("STREAM_ACK")
        await ben.hear("NEW_MSG", "STREAM_PART")
        await anyio.sleep(50)
        ann.say({"event": "PING"}, part(name, 0, "", ref="alive"))
        ben.say({"event": "PING"})
        (alive,) = await ann.hear("STREAM_ACK")
        assert (alive["part"], alive["ref"]) == (1, "alive")
        for _ in range(5):
            assert "NEW_MSG" not in kinds(await after(10, ben))
            ann.say({"event": "PING"})
            ben.say({"event": "PING"})
        await anyio.sleep(30)
        (told,) = await ben.hear("NEW_MSG")
        assert (told["payload"]["ends"], told["payload"]["payload"]["text"]) == ("CUT_OFF", "half")
        (own,) = await ann.hear("NEW_MSG")
        assert own["senderId"] == "ann"

        ann.say(part(name, 2, "x"))
        (error,) = await ann.hear("ERROR")
        assert error["code"] == "STREAM_ENDED"
        ann.say(end(name, "half and half"))
        await ann.hear("MSG_ACK")
        assert (await shown(ben))["edit"]["payload"]["text"] == "half and half"


async def test_where_a_moderator_is_set_nobody_reads_what_it_has_not_seen() -> None:
    async with serving(moderator=ByWord(), stream_idle_s=60) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        name = await begun(ann, "well")
        ann.say(part(name, 1, "rude", ref="1"), part(name, 0, "", ref="2"))
        (error,) = await ann.hear("ERROR")
        assert error["code"] == "FORBIDDEN"
        await ann.hear("STREAM_ACK")
        ann.say(end(name, "well rude"))
        (error,) = await ann.hear("ERROR")
        assert error["code"] == "CONTENT_REFUSED"
        assert (await shown(ben))["stream"] == {"parts": 0, "text": "well"}
        ann.say({"event": "PING"})
        ben.say({"event": "PING"})
        await anyio.sleep(40)
        ann.say({"event": "PING"})
        ben.say({"event": "PING"})
        await anyio.sleep(40)
        assert (await shown(ben))["edit"]["payload"]["text"] == "well"


async def test_a_host_may_let_parts_pass_unseen_and_only_what_was_seen_lasts() -> None:
    moderation = ModerationConfig(parts_unseen=True)
    async with serving(moderator=ByWord(), moderation=moderation, stream_idle_s=60) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        name = await begun(ann)
        ann.say(part(name, 1, "shown"))
        await ben.hear("NEW_MSG", "STREAM_PART")
        ann.say(end(name, "rude"))
        (error,) = await ann.hear("ERROR")
        assert error["code"] == "CONTENT_REFUSED"
        for _ in range(3):
            ann.say({"event": "PING"})
            ben.say({"event": "PING"})
            await anyio.sleep(40)
        assert (await shown(ben))["edit"]["payload"]["text"] == "", "not what was refused"

        ann.say(stream("again"))
        (ack,) = await ann.hear("MSG_ACK")
        ann.say(end(ack["messageId"], "I swear", seq=4))
        (ack,) = await ann.hear("MSG_ACK")
        assert ack["payload"]["payload"]["text"] == "I *****"
        assert (await shown(ben, 4))["edit"]["payload"]["text"] == "I *****"


async def stay(peers: tuple[Peer, ...], for_s: int, *events: dict[str, Any]) -> list[dict[str, Any]]:
    """The first of the peers says these events every 10 s; what it hears. All stay connected."""
    heard = []
    for _ in range(for_s // 10):
        for peer in peers:
            peer.say({"event": "PING"})
        peers[0].say(*events) if events else None
        await anyio.sleep(10)
        heard += peers[0].read()
    return heard


@pytest.mark.parametrize("held", [False, True])
async def test_a_stream_whose_end_was_refused_is_ended_though_its_author_is_there(held: bool) -> None:
    moderation = ModerationConfig(parts_unseen=True)
    async with serving(moderator=ByWord(), moderation=moderation, stream_idle_s=60) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        name = await begun(ann)
        ann.say(part(name, 1, "rude"))
        await ann.hear("STREAM_ACK")
        ann.say(end(name, "a link" if held else "rude"))
        (error,) = await ann.hear("ERROR")
        assert error["code"] == ("HELD" if held else "CONTENT_REFUSED")
        if held:
            (it,) = await server.held_messages()
            await server.refuse_held(it.held_id, "no")
        heard = await stay((ann, ben), 20, part(name, 0, ""), part(name, 2, " again"))
        assert {it["code"] for it in heard if it["event"] == "ERROR" and it.get("reason") != "REVIEWED"} == {
            "STREAM_ENDED"
        }
        assert (await shown(ben))["edit"]["payload"]["text"] == ""


async def test_a_stream_has_a_greatest_age() -> None:
    async with serving(stream_idle_s=60) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        name = await begun(ann)
        ann.say(part(name, 1, "half"))
        assert "ERROR" not in kinds(await stay((ann, ben), STREAM_AGE_MAX_S - 10, part(name, 0, "")))
        assert "ERROR" in kinds(await stay((ann, ben), 100, part(name, 0, "")))
        assert (await shown(ben))["edit"]["payload"]["text"] == "half"


class EndsRefused(GatedStore):
    """A store that refuses to end the streams of one author."""

    author_id = "ann"

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        ends = [it for it in commands if isinstance(it, EndStream)]
        self.poisoned = {it.client_msg_id for it in ends if it.author_id == self.author_id}
        return await super().commit(commands)


async def test_a_stream_that_cannot_be_ended_keeps_no_other_one_open() -> None:
    store = EndsRefused()
    async with serving(store, stream_idle_s=60) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        await begun(ann)
        await anyio.sleep(1)
        await begun(ben)
        await anyio.sleep(1)
        await stay((ann, ben), 90)
        assert "edit" not in await shown(ann, 2)
        assert (await shown(ann, 3))["edit"]["ends"] == "CUT_OFF"
        store.author_id = ""
        await stay((ann, ben), 20)
        assert (await shown(ann, 2))["edit"]["ends"] == "CUT_OFF"


async def test_an_end_whose_key_is_taken_gets_another_key() -> None:
    async with serving() as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        name = await begun(ann)
        idle = IdleStream("g-1", name, 2, "ann", server.ports.clock.now_ms(), 0, "")
        first = server.engine.end_stream(idle)
        ann.say(text("g-1", first.client_msg_id))
        await ann.hear("MSG_ACK")
        with pytest.raises(ConflictError):
            await server.engine.execute(first, Appended)
        await anyio.sleep(1)
        ended = await server.engine.execute(server.engine.end_stream(idle), Appended)
        assert ended.entry.seq == 4


async def test_the_rate_of_parts_has_a_bound() -> None:
    limits = Limits.unlimited()
    async with serving(limits=type(limits)(stream_parts_per_user=Rate(1, 2))) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        name = await begun(ann)
        ann.say(*(part(name, it, "x", ref=str(it)) for it in (1, 2, 3)))
        (error,) = await ann.hear("ERROR")
        assert (error["code"], error["ref"], error["retryable"]) == ("RATE_LIMITED", "3", True)
        await anyio.sleep(error["retryAfterMs"] / 1000)
        ann.say(part(name, 3, "x"))
        acks = await ann.hear("STREAM_ACK", "STREAM_ACK", "STREAM_ACK")
        assert [it["part"] for it in acks] == [1, 2, 3]


async def test_the_parts_in_a_conversation_have_a_bound_of_which_strangers_take_nothing() -> None:
    limits = Limits.unlimited()
    async with serving(limits=type(limits)(stream_parts_per_conversation=Rate(0.001, 2))) as server:
        await group(server, "ann", "ben")
        ann, ben, eve = await login(server, "ann"), await login(server, "ben"), await login(server, "eve")
        first = await begun(ann)
        second = await begun(ben)
        for _ in range(3):
            eve.say(part(first, 1, "x"))
            (error,) = await eve.hear("ERROR")
            assert error["code"] == "NOT_FOUND"
        ann.say(part(first, 1, "x"))
        await ann.hear("STREAM_ACK")
        ben.say(part(second, 1, "x"))
        await ben.hear("STREAM_ACK")
        for peer, name in ((ann, first), (ben, second)):
            peer.say(part(name, 2, "x"))
            (error,) = await peer.hear("ERROR")
            assert (error["code"], error["retryable"]) == ("RATE_LIMITED", True)


async def test_storage_that_refuses_a_part_loses_none() -> None:
    store = GatedStore()
    async with serving(store) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        name = await begun(ann)
        store.break_for(1)
        ann.say(part(name, 1, "a", ref="1"))
        (error,) = await ann.hear("ERROR")
        assert (error["code"], error["retryable"], error["ref"]) == ("UNAVAILABLE", True, "1")
        ann.say(part(name, 1, "a"))
        await ann.hear("STREAM_ACK")
        (told,) = await ben.hear("STREAM_PART")
        assert told["text"] == "a"


async def test_a_full_buffer_drops_parts_says_so_and_a_page_has_them() -> None:
    async with serving(send_buffer_bytes=4_000) as small:
        await group(small, "ann", "ben")
        ann, ben = await login(small, "ann"), await login(small, "ben")
        name = await begun(ann)
        for number in range(1, 11):
            ann.say(part(name, number, "x" * 1_000))
            await ann.hear("STREAM_ACK")
        heard = ben.read()
        told = [it["part"] for it in heard if it["event"] == "STREAM_PART"]
        assert told == list(range(1, len(told) + 1))
        assert len(told) < 10
        (behind,) = [it for it in [*heard, *ben.read()] if it["event"] == "BEHIND"]
        assert (behind["conversationId"], behind["headSeq"]) == ("g-1", 2), "though no entry was dropped"
        assert (await shown(ben))["stream"] == {"parts": 10, "text": "x" * 10_000}


async def test_parts_cross_nodes() -> None:
    async with cluster("memory") as two:
        a, b = two.nodes
        await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        name = await begun(ann)
        await ben.hear("NEW_MSG")
        ann.say(part(name, 1, "far"))
        (told,) = await ben.hear("STREAM_PART")
        assert (told["text"], told["seq"]) == ("far", 2)
        ann.say(end(name, "far away"))
        (ended,) = await ben.hear("NEW_MSG")
        assert ended["payload"]["ends"] == "WHOLE"


async def test_another_node_shows_no_part_to_whom_it_does_not_know_to_be_removed() -> None:
    async with cluster("memory") as two:
        a, b = two.nodes
        await group(a, "ann", "ben", "cat")
        ann, ben, cat = await login(a, "ann"), await login(b, "ben"), await login(b, "cat")
        name = await begun(ann)
        await ben.hear("NEW_MSG")
        two.bus.fate = lambda member, message: ()  # the removal is lost
        await a.remove_member("g-1", "ann", "ben")
        await anyio.sleep(0.01)
        two.bus.fate = at_once
        ann.say(part(name, 1, "secret"))
        heard = kinds(await after(1.0, ben))
        assert "STREAM_PART" not in heard
        assert "CONVERSATION" in heard, "the part has the log asked, which says who was removed"
        ann.say(part(name, 2, " more"))
        assert [it["part"] for it in await after(1.0, cat) if it["event"] == "STREAM_PART"] == [2]


@pytest.mark.parametrize("how", ["RECALL", "EDIT"])
async def test_another_node_shows_no_part_after_the_end(how: str) -> None:
    async with cluster("memory") as two:
        a, b = two.nodes
        await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        name = await begun(ann)
        await ben.hear("NEW_MSG")
        two.bus.fate = lambda member, message: (0.5,)
        ann.say(part(name, 1, "late"))
        await anyio.sleep(0.01)
        two.bus.fate = at_once
        ann.say({"event": "RECALL", "messageId": name} if how == "RECALL" else end(name, "whole"))
        assert kinds(await after(1.0, ben)) == ["NEW_MSG"]
