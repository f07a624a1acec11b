"""What the recording client and server write down, and the devices that keep their stores: through the fixtures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from chatkit import (
    BadRequestError,
    ChatClient,
    ChatServer,
    ClientConfig,
    MessageReceived,
    NotFoundError,
    SendOutcomeUnknownError,
    UnavailableError,
)
from chatkit.client.store.memory import MemoryStore
from chatkit.storage.base import Store
from chatkit.testing import Conditions, Devices, FaultyLocalStore, History, Network
from chatkit.testing.history import Call
from chatkit.testing.recording import Recorder, RecordingClient
from chatkit.transport.base import Transport, TransportClosedError


@pytest.fixture
def anyio_backend(chat_virtual: object) -> object:
    return chat_virtual


@pytest.fixture(autouse=True)
async def conversation(chat_server: ChatServer) -> None:
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")


def calls(history: History, op: str) -> list[Call]:
    return [call for call in history.calls if call.op == op]


async def received(chat: ChatClient, text: str) -> None:
    """Consume events up to this text."""
    async for event in chat.events():
        if isinstance(event, MessageReceived) and event.message.type == "TEXT" and event.message.text == text:
            return


async def test_calls_of_an_app_are_noted_with_their_answers(
    chat_client: Devices, chat_history: History
) -> None:
    async with chat_client("ann") as ann:
        sent = await ann.send("c-1", "hello")
        await ann.send("c-1", {"type": "TEXT", "text": "again"}, client_msg_id="k")
        await ann.mark_read("c-1", 2)
        await ann.recall(sent.message_id)
        messages = await ann.history("c-1", limit=2)

    first, second = calls(chat_history, "send")
    assert (first.user_id, first.device_id, first.result) == ("ann", "phone", "ok")
    assert first.args["payload"] == {"type": "TEXT", "text": "hello"}
    assert first.args["client_msg_id"] == sent.client_msg_id == first.answer["client_msg_id"]
    assert first.answer["seq"] == sent.seq == 2
    assert second.args["client_msg_id"] == "k"
    (mark_read,), (recall,), (history,) = (
        calls(chat_history, op) for op in ("mark_read", "recall", "history")
    )
    assert (mark_read.args, mark_read.answer) == ({"conversation_id": "c-1", "up_to_seq": 2}, {})
    assert (recall.args["message_id"], recall.answer["seq"]) == (sent.message_id, 4)
    assert (history.args["limit"], history.answer["items"]) == (2, messages)


async def test_a_refusal_and_an_unknown_outcome_are_told_apart(
    chat_client: Devices, chat_history: History, chat_network: Network
) -> None:
    async with chat_client("ann") as ann:
        with pytest.raises(NotFoundError):
            await ann.send("c-nowhere", "hello")
        with pytest.raises(BadRequestError):
            await ann.mark_read("c-1", 99)
        chat_network.conditions = Conditions(latency_s=(2, 2))
        with pytest.raises(SendOutcomeUnknownError):
            await ann.send("c-1", "slow", timeout=1)
        with anyio.move_on_after(1):
            await ann.history("c-1", before_seq=1)
            await ann.send("c-1", "cancelled")
        chat_network.conditions = Conditions()

    assert [(call.result, call.error) for call in calls(chat_history, "send")] == [
        ("fail", "NotFoundError"),
        ("info", "SendOutcomeUnknownError"),
        ("info", "CancelledError"),
    ]
    assert [call.result for call in calls(chat_history, "mark_read")] == ["fail"]


async def test_unavailable_is_a_refusal_of_the_local_store_and_a_doubt_of_the_servers(
    chat_client: Devices, chat_history: History, chat_server: ChatServer, chat_store: Store
) -> None:
    full = FaultyLocalStore(MemoryStore())
    async with chat_client("ann", store=full) as ann:
        await ann.wait_connected()
        full.full = True
        with pytest.raises(UnavailableError):
            await ann.send("c-1", "no room")
        full.full = False
    await chat_store.aclose()
    with pytest.raises(UnavailableError):
        await chat_server.send("c-1", "ann", "nobody knows", client_msg_id="k")

    assert [call.result for call in calls(chat_history, "send")] == ["fail", "info"]


async def test_calls_of_the_host_are_noted_in_whose_name_they_are(
    chat_server: ChatServer, chat_history: History, chat_client: Devices
) -> None:
    await chat_server.send("c-1", "ann", "from the host", client_msg_id="k")
    await chat_server.add_members("c-1", "ann", ["cat"])
    await chat_server.remove_member("c-1", "cat", "cat")
    epoch = await chat_server.renew_epoch("c-1")

    def noted(call: Call) -> tuple[Any, ...]:
        return call.op, call.user_id, call.device_id, call.result

    assert [noted(call) for call in chat_history.calls] == [
        ("create", "ann", "", "ok"),
        ("send", "ann", "", "ok"),
        ("add", "ann", "", "ok"),
        ("remove", "cat", "", "ok"),
        ("renew_epoch", "", "", "ok"),
    ]
    assert chat_history.calls[0].args["member_ids"] == ["ann", "bob"]
    assert chat_history.calls[-1].answer == {"epoch": epoch}


async def test_a_device_keeps_its_store_and_counts_its_starts(
    chat_client: Devices, chat_history: History
) -> None:
    async with chat_client("ann") as ann:
        await ann.send("c-1", "one")
        async with chat_client("bob") as bob:
            await received(bob, "one")
        await ann.send("c-1", "two")
        async with chat_client("bob") as bob:
            await received(bob, "two")

    told = [
        (it.incarnation, it.event.message.text)
        for it in chat_history.app_events
        if it.user_id == "bob" and isinstance(it.event, MessageReceived) and it.event.message.type == "TEXT"
    ]
    assert told == [(1, "one"), (2, "two")]


async def test_each_start_makes_keys_of_its_own(chat_client: Devices) -> None:
    keys = set()
    for _ in range(3):
        async with chat_client("ann") as ann:
            keys.add((await ann.send("c-1", "hello")).client_msg_id)

    assert len(keys) == 3


async def test_frames_are_noted_at_both_ends(
    chat_client: Devices, chat_history: History, chat_network: Network
) -> None:
    async with chat_client("ann") as ann:
        await ann.send("c-1", "hello")
        (line,) = chat_network.lines
        line.cut()
        await ann.send("c-1", "again")

    sends = [frame for frame in chat_history.frames if frame.up and b"SEND_MSG" in frame.data]
    acks = [frame for frame in chat_history.frames if not frame.up and b"MSG_ACK" in frame.data]
    assert [frame.connection for frame in sends] == [1, 2] == [frame.connection for frame in acks]
    assert {(frame.user_id, frame.device_id, frame.node) for frame in chat_history.frames} == {
        ("ann", "phone", "node")
    }


async def test_what_is_noted_stays_as_it_was(chat_client: Devices, chat_history: History) -> None:
    body: dict[str, Any] = {"type": "CUSTOM", "schema": "s", "data": {"n": [0]}, "fallbackText": "one"}
    async with chat_client("ann") as ann, chat_client("bob") as bob:
        await ann.send("c-1", body)
        body["data"]["n"][0] = 1
        await ann.send("c-1", body)
        async for event in bob.events():
            if isinstance(event, MessageReceived) and event.message.type == "CUSTOM":
                event.message.payload["data"]["n"].append("by bob's app")
                break
        (message,) = await bob.history("c-1", before_seq=3, limit=1)
        message.payload["data"]["n"].append("by bob's app again")
        (again,) = await bob.history("c-1", before_seq=3, limit=1)

    assert [call.args["payload"]["data"] for call in calls(chat_history, "send")] == [{"n": [0]}, {"n": [1]}]
    (told,) = (
        it.event.message.payload
        for it in chat_history.app_events
        if it.user_id == "bob" and isinstance(it.event, MessageReceived) and it.event.message.seq == 2
    )
    (first, _) = (call.answer["items"] for call in calls(chat_history, "history"))
    assert told["data"] == first[0].payload["data"] == again.payload["data"] == {"n": [0]}


async def test_a_body_that_is_no_json_is_noted_and_judged(
    chat_client: Devices, chat_history: History
) -> None:
    endless: dict[str, Any] = {"type": "CUSTOM"}
    endless["data"] = endless
    branching: dict[str, Any] = {"type": "CUSTOM"}
    branching["data"] = [branching, branching, branching]
    bodies: list[dict[str, Any]] = [
        endless,
        branching,
        *({"type": "TEXT", "text": it} for it in (object(), 2**70, "\ud800")),
    ]
    async with chat_client("ann") as ann:
        for body in bodies:
            with pytest.raises(BadRequestError):
                await ann.send("c-1", body)

    assert [call.result for call in calls(chat_history, "send")] == ["fail"] * 5


async def test_deadlines_are_noted_in_virtual_time(
    chat_client: Devices, chat_history: History, chat_network: Network
) -> None:
    async with chat_client("ann", config=ClientConfig(send_timeout_s=7, request_timeout_s=9)) as ann:
        sent = await ann.send("c-1", "one")
        await ann.recall(sent.message_id)
        await ann.history("c-1")
        chat_network.conditions = Conditions(latency_s=(2, 2))
        with pytest.raises(SendOutcomeUnknownError):
            await ann.send("c-1", "slow", timeout=1)
        chat_network.conditions = Conditions()

    assert [call.args["timeout_s"] for call in chat_history.calls if call.device_id] == [7, 9, 9, 1]


class _Nowhere:
    async def connect(self, subprotocol: str) -> Transport:
        raise TransportClosedError(1006, "nobody is there")


def test_no_deadline_is_noted_in_real_time() -> None:
    history = History(anyio.current_time)

    async def send() -> None:
        recorder = Recorder(history, "ann", "phone")
        client = RecordingClient(recorder, 1, connector=_Nowhere(), token="ann", device_id="phone")
        async with client:
            with pytest.raises(SendOutcomeUnknownError):
                await client.send("c-1", "hello", timeout=0)
            await client.aclose(timeout=0)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(anyio.run, send).result()

    (call,) = history.calls
    assert (call.result, "timeout_s" in call.args) == ("info", False)


async def test_a_title_is_noted(chat_server: ChatServer, chat_history: History) -> None:
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-2", title="launch2026")

    assert [call.args.get("title") for call in calls(chat_history, "create")] == [None, "launch2026"]
