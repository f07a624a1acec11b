"""One session at its limits: full buffers, missed pushes, silence, and the order of events."""

from __future__ import annotations

import anyio
import pytest

from chatkit.wire.codec import JSON, MSGPACK

from .harness import GatedStore, Peer, group, login, serving, text


async def test_welcome_comes_before_any_push_and_heads_follow() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ben = Peer(server)
        store.hold()
        ben.say({"event": "HELLO", "token": "ben", "deviceId": "phone"})
        await anyio.wait_all_tasks_blocked()
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        store.release()
        await ann.hear("MSG_ACK")
        kinds = []
        with anyio.fail_after(5):
            while len(kinds) < 3:
                kinds += [event["event"] for event in ben.read()]
                await anyio.lowlevel.checkpoint()

        assert kinds[0] == "WELCOME"
        assert sorted(kinds[1:]) == ["HEADS", "NEW_MSG"]


async def test_a_user_without_conversations_gets_an_empty_heads() -> None:
    async with serving() as server:
        ann = Peer(server)
        ann.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        _, heads = await ann.hear("WELCOME", "HEADS")

        assert heads == {"event": "HEADS", "conversations": [], "more": False}


@pytest.mark.parametrize(
    ("count", "pages"),
    [
        (199, [(199, False)]),
        (200, [(200, False)]),
        (201, [(200, True), (1, False)]),
        (401, [(200, True), (200, True), (1, False)]),
    ],
)
async def test_heads_come_in_pages_of_200(count: int, pages: list[tuple[int, bool]]) -> None:
    async with serving() as server:
        for number in range(count):
            await group(server, "ann", "ben", conversation_id=f"g-{number}")
        ann = Peer(server)
        ann.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        _, *heard = await ann.hear("WELCOME", *["HEADS"] * len(pages))

        assert [(len(page["conversations"]), page["more"]) for page in heard] == pages
        assert ann.read() == []


async def test_typing_is_limited_for_each_conversation_by_itself() -> None:
    async with serving(typing_interval_s=3.0) as server:
        for name in ("g-1", "g-2"):
            await group(server, "ann", "ben", conversation_id=name)
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(*({"event": "TYPING", "conversationId": name} for name in ("g-1", "g-2", "g-1")))
        await anyio.sleep(3.0)
        ann.say({"event": "TYPING", "conversationId": "g-1"})

        assert [it["conversationId"] for it in ben.read()] == ["g-1", "g-2", "g-1"]
        assert [(it["event"], it["code"]) for it in ann.read()] == [("ERROR", "RATE_LIMITED")]


async def test_receipts_of_one_batch_reach_the_authors_of_all_of_them() -> None:
    async with serving() as server:
        conversation = await group(server, "ann", "ben", "cat")
        ann, ben, cat = [await login(server, name) for name in ("ann", "ben", "cat")]
        for peer in (ann, cat):
            peer.say(text(conversation, "k"))
            await peer.hear("MSG_ACK")
        for seq in (2, 3):
            ben.say({"event": "READ", "conversationId": conversation, "upToSeq": seq})
        (anns,) = await ann.hear("RECEIPT")
        (cats,) = await cat.hear("RECEIPT")

        assert [(it["userId"], it["readSeq"]) for it in (anns, cats)] == [("ben", 3)] * 2


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
async def test_a_full_buffer_drops_pushes_and_tells_behind_once_it_drains(codec) -> None:
    async with serving(send_buffer_bytes=2_000) as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben", codec=codec)
        for number in range(50):
            ann.say(text(conversation, f"k{number}", "x" * 100))
            await ann.hear("MSG_ACK")
        events = ben.read()
        pushed = [event["seq"] for event in events if event["event"] == "NEW_MSG"]
        (behind,) = [event for event in events if event["event"] == "BEHIND"]
        ben.say({"event": "SYNC", "conversationId": conversation, "lastSeq": pushed[-1]})
        (page,) = await ben.hear("SYNC_PAGE")

        assert pushed == list(range(2, 2 + len(pushed)))
        assert len(pushed) < 50
        assert (behind["conversationId"], behind["headSeq"]) == (conversation, 51)
        assert [entry["seq"] for entry in page["messages"]] == list(range(pushed[-1] + 1, 52))


async def test_more_than_200_conversations_behind_are_told_by_heads() -> None:
    async with serving(send_buffer_bytes=1_000) as server:
        names = [await group(server, "ann", "ben", conversation_id=f"g-{number}") for number in range(230)]
        ann, ben = await login(server, "ann"), await login(server, "ben")
        await ben.hear("HEADS")  # the second page of the first listing
        for name in names:
            ann.say(text(name, "k", "x" * 100))
            await ann.hear("MSG_ACK")
        pages = await ben.hear("HEADS", "HEADS")

        assert sum(len(page["conversations"]) for page in pages) == 230
        assert {head["headSeq"] for page in pages for head in page["conversations"]} == {2}


async def test_answers_that_are_never_read_close_the_session() -> None:
    async with serving(send_buffer_bytes=1_000) as server:
        ann = await login(server, "ann")
        while ann.session.close_code is None:
            ann.say({"event": "PING"})

        assert ann.session.close_code == 4000
        assert ann.read() == []


async def test_a_congested_session_asks_its_road_to_stop_reading() -> None:
    async with serving(send_buffer_bytes=1_000) as server:
        ann = await login(server, "ann")
        while not ann.session.congested:
            ann.say({"event": "PING"})
        ann.read()

        assert ann.session.close_code is None
        assert not ann.session.congested


async def test_everything_of_one_commit_leaves_in_one_frame() -> None:
    async with serving() as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(*(text(conversation, f"k{number}") for number in range(5)))
        await ann.hear("MSG_ACK")
        frame = ben.session.next_frame()

        assert frame is not None
        assert frame.count(b'"NEW_MSG"') == 5
        assert ben.session.next_frame() is None


async def test_frames_stay_below_the_limit_and_hold_at_most_256_events() -> None:
    async with serving(send_buffer_bytes=4_000_000) as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        for number in range(40):
            ann.say(text(conversation, f"big{number}", "x" * 60_000))
        for number in range(2):
            ann.say(*(text(conversation, f"small{number}-{item}") for item in range(200)))
        await ann.hear(*["MSG_ACK"] * 440)
        frames = []
        while (frame := ben.session.next_frame()) is not None:
            frames.append(frame)

        assert max(map(len, frames)) <= 1_000_000
        assert max(frame.count(b'"NEW_MSG"') for frame in frames) <= 256
        assert sum(frame.count(b'"NEW_MSG"') for frame in frames) == 440


async def test_silence_for_two_heartbeats_closes_4001() -> None:
    async with serving(heartbeat_s=25.0) as server:
        ann, ben = await login(server, "ann"), await login(server, "ben")
        await anyio.sleep(49)
        before = ann.session.close_code
        ben.say({"event": "PING"})
        await anyio.sleep(3)

        assert (before, ann.session.close_code) == (None, 4001)
        assert ben.session.close_code is None


async def test_no_hello_in_time_closes_4200() -> None:
    async with serving(hello_timeout_s=10.0) as server:
        silent = Peer(server)
        await anyio.sleep(9)
        before = silent.session.close_code
        await anyio.sleep(3)

        assert (before, silent.session.close_code) == (None, 4200)


async def test_a_login_that_storage_delays_is_no_missing_hello() -> None:
    store = GatedStore()
    async with serving(store, hello_timeout_s=10.0) as server:
        ann = Peer(server)
        store.hold()
        ann.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        await anyio.sleep(15)
        store.release()
        await ann.hear("WELCOME")


async def test_a_push_that_was_lost_is_found_within_a_heartbeat() -> None:
    store = GatedStore()
    async with serving(store, heartbeat_s=25.0) as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        command = server.engine.append(conversation, "ann", "k1", {"type": "TEXT", "text": "unseen"})
        await store.commit([command])  # as another process on the same log would: no push from here
        await anyio.sleep(27)
        (missed,) = await ben.hear("NEW_MSG")
        await ann.hear("NEW_MSG")
        ben.say({"event": "PING"})
        await anyio.sleep(27)

        assert (missed["seq"], missed["payload"]["text"]) == (2, "unseen")
        assert [event["event"] for event in ben.read()] == ["PONG"], "what was told is not told again"


async def test_pulls_wait_while_their_answers_do_not_drain() -> None:
    async with serving(send_buffer_bytes=20_000) as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        for number in range(20):
            ann.say(text(conversation, f"k{number}", "x" * 1_000))
        await ann.hear(*["MSG_ACK"] * 20)
        ben.read()
        sync = {"event": "SYNC", "conversationId": conversation, "lastSeq": 0}
        ben.say(*({**sync, "ref": str(number)} for number in range(60)))
        await anyio.wait_all_tasks_blocked()
        buffered = ben.session._buffer_bytes
        pages = await ben.hear(*["SYNC_PAGE"] * 60)

        assert buffered < 100_000
        assert [page["ref"] for page in pages] == [str(number) for number in range(60)]
        assert ben.session.close_code is None


async def test_a_closed_session_gets_no_more_pushes() -> None:
    async with serving() as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ben.session.close(4100, "the login has expired")
        ann.say(text(conversation, "k1"))
        await ann.hear("MSG_ACK")

        assert ben.read() == []


async def test_everybody_of_a_large_group_hears_of_its_creation() -> None:
    async with serving() as server:
        names = [f"u-{number:03}" for number in range(250)]
        last = await login(server, names[-1])
        await group(server, *names)
        changed, first = await last.hear("CONVERSATION", "NEW_MSG")

        assert changed["change"] == "CREATED"
        assert first["seq"] == 1


@pytest.mark.parametrize(
    "event",
    [
        {"event": "PING"},
        {
            "event": "SEND_MSG",
            "conversationId": "g",
            "clientMsgId": "k",
            "payload": {"type": "TEXT", "text": ""},
        },
        {"event": "NOPE"},
        {"event": "HELLO"},
    ],
    ids=["ping", "send", "unknown", "hello without device"],
)
async def test_anything_but_hello_first_closes_4203(event) -> None:
    async with serving() as server:
        peer = Peer(server)
        peer.say(event)

        assert await peer.closed() == 4203


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
async def test_what_comes_before_hello_is_told_that_hello_comes_first(codec) -> None:
    async with serving() as server:
        peer = Peer(server, codec)
        peer.say({"event": "PING", "ref": "p"})

        (error,) = await peer.hear("ERROR")
        assert (error["code"], error["ref"]) == ("BAD_REQUEST", "p")
        assert error["message"].startswith("HELLO must come first")
        assert await peer.closed() == 4203


async def test_a_second_hello_closes_4203() -> None:
    async with serving() as server:
        ann = await login(server, "ann")
        ann.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})

        assert await ann.closed() == 4203


async def test_a_newer_session_of_the_device_replaces_the_older() -> None:
    async with serving() as server:
        conversation = await group(server, "ann", "ben")
        old, tablet = await login(server, "ann"), await login(server, "ann", "tablet")
        new = await login(server, "ann")
        ben = await login(server, "ben")
        ben.say(text(conversation, "k1"))
        await new.hear("NEW_MSG")
        await tablet.hear("NEW_MSG")

        assert await old.closed() == 4201
        assert old.read() == []


async def test_a_removed_member_hears_nothing_more_at_once() -> None:
    async with serving() as server:
        conversation = await group(server, "ann", "ben", "cat")
        ann, ben, cat = [await login(server, name) for name in ("ann", "ben", "cat")]
        await server.remove_member(conversation, "ann", "ben")
        ann.say(text(conversation, "k1", "not for ben"))
        await cat.hear("NEW_MSG", "NEW_MSG")
        events = ben.read()
        ben.say(text(conversation, "k2"), {"event": "TYPING", "conversationId": conversation})
        typing, refused = await ben.hear("ERROR", "ERROR")

        assert [(event["event"], event.get("change")) for event in events] == [("CONVERSATION", "LEFT")]
        assert {typing["code"], refused["code"]} == {"NOT_FOUND"}


async def test_more_than_the_most_connections_are_closed_4002() -> None:
    async with serving(sessions_max=2) as server:
        ann, silent, third = await login(server, "ann"), Peer(server), Peer(server)
        assert (ann.session.close_code, silent.session.close_code) == (None, None)
        assert third.session.close_code == 4002
        third.leave()
        silent.leave()
        ben = await login(server, "ben")

        assert ben.session.close_code is None


async def test_more_than_the_most_waiting_pages_are_refused() -> None:
    async with serving(sync_queue_max=2) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        sync = {"event": "SYNC", "conversationId": conversation, "lastSeq": 0}
        ann.say(*({**sync, "ref": str(number)} for number in range(4)))
        refused, refused_too, *_ = await ann.hear("ERROR", "ERROR", "SYNC_PAGE", "SYNC_PAGE")

        assert [(it["ref"], it["code"]) for it in (refused, refused_too)] == [
            ("2", "OVERLOADED"),
            ("3", "OVERLOADED"),
        ]
