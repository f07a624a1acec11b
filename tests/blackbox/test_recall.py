"""Recall: the author's, idempotent, a tombstone everywhere, and the body in no byte after it."""

from __future__ import annotations

from .peer import Peer
from .world import World, ok, refused

RECALLED = {"type": "RECALLED"}


def recall(peer: Peer, message_id: str) -> dict[str, object]:
    """The answer without the ref."""
    answer = peer.ask("RECALL", messageId=message_id)
    return {name: value for name, value in answer.items() if name != "ref"}


def test_recall_takes_its_own_entry_and_is_pushed(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    ack = alices.say(made, "oops-canary")
    bobs.expect("NEW_MSG", seq=2)
    mark = len(bobs.frames)
    answer = recall(alices, ack["messageId"])
    assert answer["event"] == "MSG_ACK"
    assert "clientMsgId" not in answer
    assert (answer["seq"], answer["status"], answer["conversationId"]) == (3, "SENT", made)
    assert answer["messageId"] != ack["messageId"]
    pushed = bobs.expect("NEW_MSG", seq=3)
    assert pushed["payload"] == {"type": "RECALL", "messageId": ack["messageId"], "seq": 2, "by": alice}
    assert pushed["senderId"] == alice
    assert "clientMsgId" not in pushed
    page = bobs.sync(made, 1)
    slot = page["messages"][0]
    assert (slot["seq"], slot["messageId"], slot["payload"]) == (2, ack["messageId"], RECALLED)
    assert slot["senderId"] == alice
    assert b"oops-canary" not in bobs.bytes_since(mark)


def test_recall_reaches_the_authors_other_devices(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    phone, pad = world.peer(alice, "phone"), world.peer(alice, "pad")
    ack = phone.say(made, "x")
    recall(phone, ack["messageId"])
    assert pad.expect("NEW_MSG", seq=3)["payload"]["messageId"] == ack["messageId"]


def test_tombstone_everywhere_and_the_body_in_no_byte_after(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    canary = "sehr-geheim-canary"
    sender = world.peer(alice)
    ack = sender.say(made, canary, "recall-key")
    ok(world.api(alice).post(f"/v1/messages/{ack['messageId']}/recall"))
    peers = [world.peer(user, device, codec) for user in (alice, bob) for device, codec in
             (("a", "json"), ("b", "msgpack"))]  # fmt: skip
    mark = len(sender.frames)
    answers: list[bytes] = []
    for user in (alice, bob):
        api = world.api(user)
        for path in (
            f"/v1/conversations/{made}/messages?fromSeq=1&limit=50",
            f"/v1/conversations/{made}/messages?fromSeq=2&limit=1",
            f"/v1/sync?conversationId={made}&lastSeq=1",
            f"/v1/conversations/{made}",
            "/v1/conversations",
            f"/v1/messages/{ack['messageId']}/status",
        ):
            answers.append(api.get(path).content)
    sender.send({"event": "SEND_MSG", "conversationId": made, "clientMsgId": "recall-key",
                 "payload": {"type": "TEXT", "text": "another"}, "ref": "conflict"})  # fmt: skip
    assert sender.expect("ERROR", ref="conflict")["code"] == "CONFLICT"
    answers.append(sender.bytes_since(mark))
    for peer in peers:
        (slot,) = [entry for entry in peer.sync(made, 0)["messages"] if entry["seq"] == 2]
        assert slot["payload"] == RECALLED
        answers.append(peer.bytes_since(0))
    assert not [answer for answer in answers if canary.encode() in answer]


def test_recall_is_idempotent_over_every_way(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    json_peer, pack_peer = world.peer(alice, "a"), world.peer(alice, "b", "msgpack")
    ack = json_peer.say(made, "x")
    first = recall(json_peer, ack["messageId"])
    assert recall(json_peer, ack["messageId"]) == first
    assert recall(pack_peer, ack["messageId"]) == first
    by_http = ok(world.api(alice).post(f"/v1/messages/{ack['messageId']}/recall"))
    assert by_http == {name: first[name] for name in ("messageId", "seq", "serverTs", "status")}
    again = world.api(alice).post(f"/v1/messages/{ack['messageId']}/recall")
    assert again.content == world.api(alice).post(f"/v1/messages/{ack['messageId']}/recall").content
    assert len(world.api(bob).log(made)) == 3


def test_recall_is_for_the_author_and_for_who_runs_the_group(world: World) -> None:
    alice, bob, carol, dora = world.users(4)
    made = world.group(alice, bob, dora)
    ack = world.peer(bob).say(made, "of bob")
    message_id = ack["messageId"]
    doras, carols = world.peer(dora), world.peer(carol)
    assert recall(doras, message_id)["code"] == "FORBIDDEN"
    refused(world.api(dora).post(f"/v1/messages/{message_id}/recall"), "FORBIDDEN")
    assert recall(carols, message_id)["code"] == "NOT_FOUND"
    refused(world.api(carol).post(f"/v1/messages/{message_id}/recall"), "NOT_FOUND")
    assert world.api(bob).log(made)[1]["payload"] == {"type": "TEXT", "text": "of bob"}


def test_entries_of_the_server_cannot_be_recalled(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    ack = alices.say(made, "x")
    answer = recall(alices, ack["messageId"])
    created = world.api(alice).log(made)[0]
    assert recall(alices, str(answer["messageId"]))["code"] in ("FORBIDDEN", "BAD_REQUEST")
    assert recall(alices, created["messageId"])["code"] in ("FORBIDDEN", "BAD_REQUEST")
    assert len(world.api(alice).log(made)) == 3


def test_recalled_message_still_answers_its_status(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    ack = alices.say(made, "x")
    recall(alices, ack["messageId"])
    world.api(bob).post(f"/v1/conversations/{made}/read", params={"upToSeq": 3})
    assert world.api(alice).status(ack["messageId"])["status"] == "READ"


def test_author_who_left_cannot_recall(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice, bob)
    bobs = world.peer(bob)
    ack = bobs.say(made, "stays")
    world.remove(bob, made, bob)
    assert recall(bobs, ack["messageId"])["code"] == "NOT_FOUND"
    assert world.api(alice).log(made)[1]["payload"]["text"] == "stays"
