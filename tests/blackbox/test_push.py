"""Who gets which push: every connection of every member except the one that sent it."""

from __future__ import annotations

import threading

from .peer import Peer, send_msg
from .world import World, ok


def test_push_reaches_all_connections_but_the_sending_one(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    phone, pad = world.peer(alice, "phone"), world.peer(alice, "pad", "msgpack")
    others = [world.peer(bob, "phone"), world.peer(bob, "pad", "msgpack")]
    ack = phone.say(made, "to all", "the-key")
    assert pad.expect("NEW_MSG", seq=ack["seq"])["clientMsgId"] == "the-key"
    for peer in others:
        assert "clientMsgId" not in peer.expect("NEW_MSG", seq=ack["seq"])
    back = others[0].say(made, "back")
    phone.expect("NEW_MSG", seq=back["seq"])
    assert not phone.seen("NEW_MSG", seq=ack["seq"]), "the sending connection learns it by MSG_ACK only"
    assert not phone.seen("BEHIND")


def test_message_sent_by_http_reaches_all_connections_of_the_sender_too(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    peers = [world.peer(alice, "phone"), world.peer(alice, "pad")]
    bobs = world.peer(bob)
    sent = ok(world.api(alice, "phone").say(made, "by http", "http-key"))
    for peer in peers:
        pushed = peer.expect("NEW_MSG", seq=sent["seq"])
        assert (pushed["clientMsgId"], pushed["messageId"]) == ("http-key", sent["messageId"])
    assert "clientMsgId" not in bobs.expect("NEW_MSG", seq=sent["seq"])


def test_recall_by_socket_reaches_all_but_that_connection_and_by_http_all(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    phone, pad, bobs = world.peer(alice, "phone"), world.peer(alice, "pad"), world.peer(bob)
    one, two = phone.say(made, "one"), phone.say(made, "two")
    by_socket = phone.ask("RECALL", messageId=one["messageId"])
    by_http = ok(world.api(alice).post(f"/v1/messages/{two['messageId']}/recall"))
    for peer in (pad, bobs):
        for recalled in (by_socket, by_http):
            assert peer.expect("NEW_MSG", seq=recalled["seq"])["payload"]["type"] == "RECALL"
    phone.expect("NEW_MSG", seq=by_http["seq"])
    assert not phone.seen("NEW_MSG", seq=by_socket["seq"])


def test_member_entries_reach_the_one_who_caused_them_too(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice)
    alices = world.peer(alice)
    world.add(alice, made, bob)
    assert alices.expect("NEW_MSG", conversationId=made, seq=2)["payload"]["op"] == "ADDED"


def test_reading_by_http_reaches_the_author_and_all_of_the_readers_devices(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, phone, pad = world.peer(alice), world.peer(bob, "phone"), world.peer(bob, "pad")
    seq = alices.say(made, "x")["seq"]
    ok(world.api(bob, "web").post(f"/v1/conversations/{made}/read", params={"upToSeq": seq}))
    for peer in (alices, phone, pad):
        peer.expect("RECEIPT", conversationId=made, userId=bob, readSeq=seq)


def test_resend_pushes_nothing_again(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    for _ in range(3):
        alices.say(made, "once", "same-key")
    last = alices.say(made, "last", "last-key")
    bobs.expect("NEW_MSG", seq=last["seq"])
    assert last["seq"] == 3
    assert len(bobs.seen("NEW_MSG", seq=2)) == 1


def test_a_member_gets_every_seq_in_order_from_many_senders(world: World) -> None:
    users = world.users(5)
    made = world.group(*users)
    reader = world.peer(users[0], "reader")
    peers = [world.peer(user) for user in users[1:]]
    threads = [threading.Thread(target=send_100, args=(peer, made)) for peer in peers]
    for thread in threads:
        thread.start()
    seqs = [reader.expect("NEW_MSG", conversationId=made)["seq"] for _ in range(400)]
    for thread in threads:
        thread.join()
    assert seqs == list(range(2, 402))


def send_100(peer: Peer, conversation: str) -> None:
    for start in range(0, 100, 20):
        keys = [f"{peer.user}-{start + number}" for number in range(20)]
        peer.send(*[send_msg(conversation, key, key) for key in keys])
        for key in keys:
            peer.expect("MSG_ACK", clientMsgId=key)


def test_one_frame_is_handled_in_order(world: World) -> None:
    alice, bob = world.users(2)
    one, two = world.single(alice, bob), world.group(alice, bob)
    alices = world.peer(alice)
    alices.send(*[send_msg(one if n % 2 else two, f"{n}", f"k{n}") for n in range(256)])
    acks = [alices.expect("MSG_ACK", clientMsgId=f"k{n}") for n in range(256)]
    for conversation in (one, two):
        seqs = [ack["seq"] for ack in acks if ack["conversationId"] == conversation]
        assert seqs == list(range(2, 130))


def test_strangers_sockets_get_nothing(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.single(alice, bob)
    alices, bobs, carols = world.peer(alice), world.peer(bob), world.peer(carol)
    alices.say(made, "private-canary")
    bobs.expect("NEW_MSG", seq=2)
    bobs.send({"event": "READ", "conversationId": made, "upToSeq": 2})
    alices.expect("RECEIPT", readSeq=2)
    carols.ping()
    received = carols.bytes_since(0)
    assert b"private-canary" not in received
    assert made.encode() not in received
