"""Group commit: one transaction for what waits, one answer each, and order kept under refusal."""

from __future__ import annotations

import anyio
import pytest

from chatkit.errors import OverloadedError, UnavailableError
from chatkit.storage.base import Created

from .harness import GatedStore, group, keys, login, serving, text


async def test_sends_that_arrive_during_a_commit_share_the_next_one() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.batches.clear()
        store.hold()
        ann.say(text(conversation, "k0"))
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 6):
            ann.say(text(conversation, f"k{number}"))
        store.release()
        acks = await ann.hear(*["MSG_ACK"] * 6)

        assert [keys(batch) for batch in store.batches] == [["k0"], ["k1", "k2", "k3", "k4", "k5"]]
        assert [ack["seq"] for ack in acks] == [2, 3, 4, 5, 6, 7]


async def test_a_failing_item_does_not_fail_its_neighbours() -> None:
    async with serving() as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say(
            text(conversation, "a"),
            text("not-there", "b"),
            {
                "event": "SEND_MSG",
                "conversationId": conversation,
                "clientMsgId": "c",
                "payload": {"type": "?"},
            },
            text(conversation, "d"),
        )
        events = []
        with anyio.fail_after(5):
            while len(events) < 4:
                events += ann.read()
                await anyio.lowlevel.checkpoint()

        by_key = {event["clientMsgId"]: event for event in events}
        assert by_key["a"]["seq"] == 2
        assert by_key["b"]["code"] == "NOT_FOUND"
        assert by_key["c"]["code"] == "BAD_REQUEST"
        assert by_key["d"]["seq"] == 3


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    store = GatedStore()
    async with serving(store, commit_queue_max=4) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text(conversation, "running"))
        await anyio.wait_all_tasks_blocked()
        ann.say(*(text(conversation, f"k{number}") for number in range(6)))
        refused = [event for event in ann.read() if event["event"] == "ERROR"]
        store.release()
        acks = await ann.hear(*["MSG_ACK"] * 5)

        assert [event["clientMsgId"] for event in refused] == ["k4", "k5"]
        assert {event["code"] for event in refused} == {"OVERLOADED"}
        assert all(event["retryable"] and event["retryAfterMs"] > 0 for event in refused)
        assert [ack["clientMsgId"] for ack in acks] == ["running", "k0", "k1", "k2", "k3"]


async def test_the_earliest_refused_send_is_the_one_that_must_come_again() -> None:
    store = GatedStore()
    async with serving(store, commit_queue_max=1) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        store.failures = 1
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text(conversation, "k2"), text(conversation, "k3"))  # k2 waits, k3 does not fit
        store.release()
        refused = await ann.hear("ERROR", "ERROR", "ERROR")
        ann.say(text(conversation, "k3"))
        (early,) = await ann.hear("ERROR")
        ann.say(text(conversation, "k1"))
        (ack,) = await ann.hear("MSG_ACK")

        assert [event["clientMsgId"] for event in refused] == ["k3", "k1", "k2"]
        assert early["clientMsgId"] == "k3"
        assert (ack["clientMsgId"], ack["seq"]) == ("k1", 2)


async def test_after_a_retryable_refusal_later_sends_wait_for_the_refused_one() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        store.failures = 1
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text(conversation, "k2"))  # already waiting for the next transaction when k1 is refused
        store.release()
        first, second = await ann.hear("ERROR", "ERROR")
        ann.say(text(conversation, "k3"))
        (third,) = await ann.hear("ERROR")
        ann.say(*(text(conversation, key) for key in ("k1", "k2", "k3")))
        acks = await ann.hear("MSG_ACK", "MSG_ACK", "MSG_ACK")

        assert (first["code"], first["clientMsgId"]) == ("UNAVAILABLE", "k1")
        assert (second["code"], second["clientMsgId"]) == ("UNAVAILABLE", "k2")
        assert (third["code"], third["clientMsgId"]) == ("OVERLOADED", "k3")
        assert [(ack["clientMsgId"], ack["seq"]) for ack in acks] == [("k1", 2), ("k2", 3), ("k3", 4)]


async def test_what_waits_behind_one_refused_item_is_refused_with_it() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        store.poisoned = {"k1"}
        store.hold()
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text(conversation, "k2"))
        ben.say(text(conversation, "of-ben"))
        store.release()
        first, second = await ann.hear("ERROR", "ERROR")
        store.poisoned = set()
        ann.say(text(conversation, "k1"), text(conversation, "k2"))
        acks = await ann.hear("MSG_ACK", "MSG_ACK")
        await ben.hear("MSG_ACK")

        assert [(event["code"], event["clientMsgId"]) for event in (first, second)] == [
            ("INTERNAL", "k1"),
            ("OVERLOADED", "k2"),
        ]
        assert [ack["clientMsgId"] for ack in acks] == ["k1", "k2"]


async def test_large_commands_count_by_the_rows_they_write() -> None:
    store = GatedStore()
    async with serving(store, commit_queue_max=100) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text("g-1", "running"))
        await anyio.wait_all_tasks_blocked()
        names = [f"u-{number}" for number in range(150)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.create_conversation, "GROUP", "ann", names)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(OverloadedError):
                await server.create_conversation("GROUP", "ann", names)
            store.release()


async def test_a_refusal_holds_back_one_conversation_of_one_session_only() -> None:
    store = GatedStore()
    async with serving(store) as server:
        await group(server, "ann", "ben", conversation_id="g-1")
        await group(server, "ann", "ben", conversation_id="g-2")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        store.failures = 1
        ann.say(text("g-1", "k1"))
        await ann.hear("ERROR")
        ann.say(text("g-2", "k2"))
        ben.say(text("g-1", "k3"))
        (other_conversation,) = await ann.hear("MSG_ACK")
        (other_sender,) = await ben.hear("MSG_ACK")

        assert other_conversation["clientMsgId"] == "k2"
        assert other_sender["clientMsgId"] == "k3"


async def test_reads_go_on_while_storage_refuses_to_write() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        ann.say({"event": "SYNC", "conversationId": conversation, "lastSeq": 0})
        (page,) = await ann.hear("SYNC_PAGE")
        store.release()

        assert [entry["seq"] for entry in page["messages"]] == [1]


async def test_typing_is_shed_before_receipts_and_receipts_before_sends() -> None:
    store = GatedStore()
    async with serving(store, commit_queue_max=8) as server:
        conversation = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        store.hold()
        ann.say(text(conversation, "running"))
        await anyio.wait_all_tasks_blocked()
        ann.say(*(text(conversation, f"k{number}") for number in range(2)))
        ben.say({"event": "TYPING", "conversationId": conversation, "ref": "typing"})
        ben.say({"event": "READ", "conversationId": conversation, "upToSeq": 1, "ref": "receipt-kept"})
        ann.say(text(conversation, "k2"))
        ben.say({"event": "READ", "conversationId": conversation, "upToSeq": 1, "ref": "receipt-shed"})
        ann.say(text(conversation, "k3"))
        refused = [event for event in ben.read() if event["event"] == "ERROR"]
        store.release()
        acks = await ann.hear(*["MSG_ACK"] * 5)

        assert [(event["ref"], event["code"]) for event in refused] == [
            ("typing", "OVERLOADED"),
            ("receipt-shed", "OVERLOADED"),
        ]
        assert [ack["clientMsgId"] for ack in acks] == ["running", "k0", "k1", "k2", "k3"]


async def test_a_store_that_hangs_is_answered_unavailable_in_time() -> None:
    store = GatedStore()
    async with serving(store, request_timeout_s=0.01) as server:
        store.hold()
        with pytest.raises(UnavailableError):
            await server.engine.execute(server.engine.create("GROUP", "ann", ("ben",)), Created)
        store.release()


async def test_drain_answers_what_was_accepted_and_sends_everybody_away() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            (away,) = await ann.hear("GOAWAY")
            store.release()
            (ack,) = await ann.hear("MSG_ACK")
            code = await ann.closed()
            ann.leave()

        assert away["reconnectAfterMs"] > 0
        assert ack["clientMsgId"] == "k1"
        assert code == 1001
        assert not server.ready
