"""The seed's own story, literally: "到了吗？" from u-001 to u-002 in c-10086, in both codecs and by HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from .cells import MakeServer
from .peer import Peer
from .server_process import ServerProcess
from .tokens import expires_ms, token
from .world import World, ok

CONVERSATION = "c-10086"


@pytest.fixture(scope="module")
def story_server(
    make_server: MakeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    process = make_server(tmp_path_factory.mktemp("story"))
    process.start()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def story(story_server: ServerProcess) -> Iterator[World]:
    made = World(story_server.http_url, story_server.ws_url)
    body = {"conversationId": CONVERSATION, "type": "SINGLE", "memberIds": ["u-001", "u-002"]}
    created = made.api("u-001").post("/v1/conversations", json=body)
    assert created.status_code in (200, 201), created.text
    try:
        yield made
    finally:
        made.close()


def test_literal_json_frames_of_the_seed(story: World) -> None:
    sender = story.peer("u-001", "phone")
    receiver = story.peer("u-002", "phone")
    sender.send_raw(
        '{"event":"SEND_MSG","conversationId":"c-10086","clientMsgId":"literal-1",'
        '"payload":{"type":"TEXT","text":"到了吗？"}}'
    )
    ack = sender.expect("MSG_ACK")
    assert set(ack) == {
        "event", "conversationId", "epoch", "clientMsgId", "messageId", "seq", "serverTs", "status",
    }  # fmt: skip
    assert ack["conversationId"] == CONVERSATION
    assert ack["clientMsgId"] == "literal-1"
    assert ack["status"] == "SENT"
    assert isinstance(ack["messageId"], str)
    assert isinstance(ack["epoch"], str)
    assert type(ack["seq"]) is int
    assert type(ack["serverTs"]) is int

    pushed = receiver.expect("NEW_MSG", messageId=ack["messageId"])
    assert set(pushed) == {
        "event", "conversationId", "epoch", "messageId", "seq", "senderId", "serverTs", "payload",
    }  # fmt: skip
    assert pushed["payload"] == {"type": "TEXT", "text": "到了吗？"}
    assert pushed["senderId"] == "u-001"
    for field in ("conversationId", "epoch", "messageId", "seq", "serverTs"):
        assert pushed[field] == ack[field]

    seq = ack["seq"]
    receiver.send_raw(f'{{"event":"DELIVERED_ACK","conversationId":"c-10086","upToSeq":{seq}}}')
    receipt = sender.expect("RECEIPT", userId="u-002", deliveredSeq=seq)
    assert receipt["conversationId"] == CONVERSATION
    assert receipt["readSeq"] < seq
    receiver.send_raw(f'{{"event":"READ","conversationId":"c-10086","upToSeq":{seq}}}')
    assert sender.expect("RECEIPT", userId="u-002", readSeq=seq)["deliveredSeq"] == seq


def test_single_delivered_ack_by_message_id(story: World) -> None:
    sender = story.peer("u-001", "phone")
    receiver = story.peer("u-002", "phone")
    ack = sender.say(CONVERSATION, "到了吗？", "by-id-1")
    receiver.expect("NEW_MSG", seq=ack["seq"])
    receiver.send({"event": "DELIVERED_ACK", "conversationId": CONVERSATION, "messageId": ack["messageId"]})
    sender.expect("RECEIPT", userId="u-002", deliveredSeq=ack["seq"])


def test_messagepack_on_the_wire(story: World) -> None:
    sender = story.peer("u-001", "pad", codec="msgpack")
    assert sender.socket.subprotocol == "chatkit.v1.msgpack"
    receiver = story.peer("u-002", "phone")
    frame = msgspec.msgpack.encode(
        {
            "event": "SEND_MSG",
            "conversationId": CONVERSATION,
            "clientMsgId": "pack-1",
            "payload": {"type": "TEXT", "text": "到了吗？"},
        }
    )
    sender.socket.send(frame)
    ack = sender.expect("MSG_ACK", clientMsgId="pack-1")
    assert set(ack) == {
        "event", "conversationId", "epoch", "clientMsgId", "messageId", "seq", "serverTs", "status",
    }  # fmt: skip
    assert receiver.expect("NEW_MSG", seq=ack["seq"])["payload"] == {"type": "TEXT", "text": "到了吗？"}
    back = receiver.say(CONVERSATION, "刚到", "pack-back-1")
    assert sender.expect("NEW_MSG", seq=back["seq"])["payload"] == {"type": "TEXT", "text": "刚到"}
    receiver.send({"event": "READ", "conversationId": CONVERSATION, "upToSeq": back["seq"]})
    sender.expect("RECEIPT", userId="u-002", where=lambda event: event["readSeq"] >= ack["seq"])


def test_the_five_http_requests(story: World) -> None:
    receiver = story.peer("u-002", "phone")
    alice = story.api("u-001", "phone")
    bob = story.api("u-002", "phone")
    sent = ok(
        alice.post(
            "/v1/messages/send",
            content=(
                '{"conversationId":"c-10086","senderId":"u-001","clientMsgId":"http-1",'
                '"type":"TEXT","content":"到了吗？"}'
            ).encode(),
            headers={"Content-Type": "application/json"},
        )
    )
    assert set(sent) == {"messageId", "seq", "serverTs", "status"}
    assert sent["status"] == "SENT"
    pushed = receiver.expect("NEW_MSG", messageId=sent["messageId"])
    assert pushed["payload"] == {"type": "TEXT", "text": "到了吗？"}
    seq = sent["seq"]

    page = ok(bob.get(f"/v1/conversations/c-10086/messages?fromSeq={seq}&limit=50"))
    assert set(page) == {"conversationId", "epoch", "headSeq", "messages", "upToSeq", "more"}
    assert page["headSeq"] == page["upToSeq"] == seq
    assert page["more"] is False
    (entry,) = page["messages"]
    assert entry == {
        "conversationId": CONVERSATION,
        "epoch": page["epoch"],
        "messageId": sent["messageId"],
        "seq": seq,
        "senderId": "u-001",
        "serverTs": sent["serverTs"],
        "payload": {"type": "TEXT", "text": "到了吗？"},
    }

    delivered = bob.post(f"/v1/messages/{sent['messageId']}/delivered")
    assert (delivered.status_code, delivered.content) == (204, b"")
    assert alice.status(sent["messageId"])["status"] == "DELIVERED"
    assert ok(bob.post(f"/v1/conversations/c-10086/read?upToSeq={seq}")) == {"readSeq": seq}
    assert alice.status(sent["messageId"])["status"] == "READ"

    synced = ok(bob.get(f"/v1/sync?conversationId=c-10086&lastSeq={seq - 1}"))
    assert set(synced) == {"conversationId", "epoch", "headSeq", "messages", "upToSeq", "more"}
    assert synced["messages"] == [entry]
    assert (synced["upToSeq"], synced["more"]) == (seq, False)


def test_welcome_names_everything_of_the_contract(story: World) -> None:
    peer = story.raw_peer()
    signed = token("u-001", "phone")
    welcome = peer.hello(signed, "phone", client={"name": "blackbox", "version": "1"})
    fields = (
        "event userId deviceId sessionId resumeToken resumed expiresTs heartbeatMs serverTs protocol limits"
    )
    assert set(fields.split()) <= set(welcome)
    assert (welcome["userId"], welcome["deviceId"]) == ("u-001", "phone")
    assert welcome["resumed"] is False
    assert welcome["expiresTs"] == expires_ms(signed)
    assert welcome["protocol"] == "1.0"
    limits = {"frameBytes": 1_000_000, "payloadBytes": 65_536, "batch": 256, "syncPage": 200}
    assert welcome["limits"] == limits
    assert welcome["heartbeatMs"] > 0
    (row,) = [row for row in peer.heads() if row["conversationId"] == CONVERSATION]
    assert set(row) == {
        "conversationId", "type", "epoch", "headSeq", "firstSeq", "deliveredSeq", "readSeq",
        "othersDeliveredSeq", "othersReadSeq", "lastActivityTs",
    }  # fmt: skip
    assert row["type"] == "SINGLE"
    assert row["firstSeq"] == 1


PAYLOADS: list[dict[str, Any]] = [
    {"type": "IMAGE", "blobId": "b-1", "mime": "image/png", "bytes": 3, "width": 1, "height": 2},
    {"type": "VOICE", "url": "https://x.example/v", "mime": "audio/ogg", "bytes": 9, "durationMs": 5},
    {"type": "FILE", "blobId": "b-9", "mime": "text/plain", "bytes": 0, "name": "名.txt"},
    {"type": "CUSTOM", "schema": "poll/1", "data": {"q": [1, None, 2.5]}, "fallbackText": "?"},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda value: value["type"])
def test_each_payload_type_arrives_unchanged(story: World, payload: dict[str, Any]) -> None:
    sender: Peer = story.peer("u-001", "phone", codec="msgpack")
    receiver = story.peer("u-002", "phone")
    ack = sender.say(CONVERSATION, payload)
    assert receiver.expect("NEW_MSG", seq=ack["seq"])["payload"] == payload
    content = {name: value for name, value in payload.items() if name != "type"}
    by_http = ok(story.api("u-001").say(CONVERSATION, content, f"http-{ack['seq']}", payload["type"]))
    assert receiver.expect("NEW_MSG", seq=by_http["seq"])["payload"] == payload
