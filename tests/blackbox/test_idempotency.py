"""The sender's own key: the same answer for ever, over every way in; another payload is a CONFLICT."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from .peer import Event, Peer, send_msg
from .server_process import ServerProcess
from .world import World, ok, refused

FACTS = ("messageId", "seq", "serverTs", "status")


def facts(answer: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(answer[name] for name in FACTS)


def test_same_key_gives_the_same_bytes(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    first = alices.say(made, "once", "key")
    alices.say(made, "between", "other")
    assert alices.say(made, "once", "key").raw == first.raw
    assert len(world.api(bob).log(made)) == 3


def test_same_key_over_other_device_http_and_messagepack(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    phone, pad, pack = world.peer(alice, "phone"), world.peer(alice, "pad"), world.peer(alice, "p", "msgpack")
    first = phone.say(made, "ünïcode 到了吗？ \U0001f642", "key")
    assert pad.say(made, "ünïcode 到了吗？ \U0001f642", "key").raw == first.raw
    packed = pack.say(made, "ünïcode 到了吗？ \U0001f642", "key")
    assert dict(packed) == dict(first)
    api = world.api(alice)
    by_http = api.say(made, "ünïcode 到了吗？ \U0001f642", "key")
    assert facts(ok(by_http)) == facts(first)
    assert api.say(made, "ünïcode 到了吗？ \U0001f642", "key").content == by_http.content
    assert len(api.log(made)) == 2


def test_first_sent_by_http_or_messagepack_and_repeated_by_json(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, pack = world.peer(alice), world.peer(alice, "p", "msgpack")
    payload = {"type": "CUSTOM", "schema": "s", "data": {"b": [1, 2.5, -0.0, None, True], "a": "é"},
               "fallbackText": "f"}  # fmt: skip
    content = {name: payload[name] for name in ("fallbackText", "data", "schema")}
    by_http = ok(world.api(alice).say(made, content, "http-first", "CUSTOM"))
    assert facts(alices.say(made, payload, "http-first")) == facts(by_http)
    assert facts(pack.say(made, payload, "http-first")) == facts(by_http)
    by_pack = pack.say(made, payload, "pack-first")
    assert facts(alices.say(made, payload, "pack-first")) == facts(by_pack)
    assert facts(ok(world.api(alice).say(made, content, "pack-first", "CUSTOM"))) == facts(by_pack)


def test_order_of_fields_and_spaces_is_not_another_payload(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    first = alices.say(made, "same", "key")
    alices.send_raw(
        '{ "payload" : {"text":"\\u0073ame", "type":"TEXT"}, "clientMsgId":"key",'
        f'"conversationId":"{made}" ,"event":"SEND_MSG"}}'
    )
    assert alices.expect("MSG_ACK").raw == first.raw


@pytest.mark.parametrize("way", ["json", "msgpack", "http"])
def test_same_key_with_another_payload_is_a_conflict(world: World, way: str) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    first = world.peer(alice).say(made, "canary-original", "key")
    if way == "http":
        answer = world.api(alice).say(made, "different", "key")
        refused(answer, "CONFLICT")
        assert b"canary-original" not in answer.content
    else:
        peer = world.peer(alice, "other", way)
        peer.send(send_msg(made, "different", "key", ref="r"))
        error = peer.expect("ERROR", ref="r")
        assert (error["code"], error["retryable"]) == ("CONFLICT", False)
        assert (error["conversationId"], error["clientMsgId"]) == (made, "key")
        assert b"canary-original" not in error.raw
        assert peer.say(made, "canary-original", "key")["seq"] == first["seq"]
    assert len(world.api(bob).log(made)) == 2


def test_a_conflict_does_not_hold_up_what_follows(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    alices.say(made, "one", "key")
    alices.send(send_msg(made, "other", "key"), send_msg(made, "two", "next"))
    assert alices.expect("ERROR")["code"] == "CONFLICT"
    assert alices.expect("MSG_ACK", clientMsgId="next")["seq"] == 3


def test_keys_belong_to_one_sender_and_one_conversation(world: World) -> None:
    alice, bob = world.users(2)
    one, two = world.single(alice, bob), world.group(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    seqs = [
        alices.say(one, "a", "key")["seq"],
        bobs.say(one, "b", "key")["seq"],
        alices.say(two, "c", "key")["seq"],
    ]
    assert seqs == [2, 3, 2]


def test_concurrent_sends_of_one_key_make_one_message(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    peers = [world.peer(alice, f"d{number}", ("json", "msgpack")[number % 2]) for number in range(6)]
    answers: dict[int, list[Event]] = {number: [] for number in range(len(peers))}
    http_answers: list[dict[str, Any]] = []
    start = threading.Barrier(len(peers) + 2)

    def by_socket(number: int, peer: Peer) -> None:
        start.wait()
        for key in range(10):
            peer.send(send_msg(made, f"text {key}", f"key {key}"))
        answers[number] = [peer.expect("MSG_ACK", clientMsgId=f"key {key}") for key in range(10)]

    def by_http() -> None:
        start.wait()
        http_answers.extend(ok(world.api(alice).say(made, f"text {key}", f"key {key}")) for key in range(10))

    threads = [threading.Thread(target=by_socket, args=item) for item in enumerate(peers)]
    threads += [threading.Thread(target=by_http) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({facts(acks[key]) for acks in answers.values() for key in range(10)}) == 10
    assert {facts(answer) for answer in http_answers} == {facts(ack) for ack in answers[0]}
    json_bytes = [[ack.raw for ack in answers[number]] for number in (0, 2, 4)]
    assert json_bytes[0] == json_bytes[1] == json_bytes[2]
    assert [entry["seq"] for entry in world.api(bob).log(made)] == list(range(1, 12))


def test_of_concurrent_sends_of_one_key_with_other_payloads_one_wins(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    peers = [world.peer(alice, f"d{number}") for number in range(5)]
    start = threading.Barrier(len(peers))
    answers: list[tuple[str, Event]] = []

    def send(number: int, peer: Peer) -> None:
        start.wait()
        peer.send(send_msg(made, f"variant {number}", "key", ref="r"))
        answers.append((f"variant {number}", peer.expect(None, ref="r")))

    threads = [threading.Thread(target=send, args=item) for item in enumerate(peers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [words for words, answer in answers if answer.name == "MSG_ACK"]
    assert [answer["code"] for words, answer in answers if words != winner] == ["CONFLICT"] * 4
    assert [entry["payload"].get("text") for entry in world.api(bob).log(made)] == [None, winner]


def test_same_key_twice_in_one_frame(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    alices.send(send_msg(made, "x", "key"), send_msg(made, "x", "key"), send_msg(made, "y", "key"))
    first, second = alices.expect("MSG_ACK"), alices.expect("MSG_ACK")
    assert first.raw == second.raw
    assert alices.expect("ERROR")["code"] == "CONFLICT"
    assert len(world.api(alice).log(made)) == 2


def test_same_answer_after_recall(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    first = alices.say(made, "to be recalled", "key")
    by_http = world.api(alice).say(made, "to be recalled", "key").content
    assert alices.ask("RECALL", messageId=first["messageId"]).name == "MSG_ACK"
    assert alices.say(made, "to be recalled", "key").raw == first.raw
    assert world.api(alice).say(made, "to be recalled", "key").content == by_http
    refused(world.api(alice).say(made, "x", "key"), "CONFLICT")
    assert len(world.api(bob).log(made)) == 3


def test_same_answer_after_leaving(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice, bob)
    bobs = world.peer(bob)
    first = bobs.say(made, "bye", "key")
    by_http = world.api(bob).say(made, "bye", "key").content
    assert world.remove(bob, made, bob).status_code == 200
    assert bobs.say(made, "bye", "key").raw == first.raw
    assert world.api(bob).say(made, "bye", "key").content == by_http
    bobs.send(send_msg(made, "new", "new key", ref="n"))
    assert bobs.expect(None, ref="n")["code"] == "NOT_FOUND"
    refused(world.api(bob).say(made, "new", "new key"), "NOT_FOUND")
    assert len(world.api(alice).log(made)) == 3


def test_same_answer_after_a_restart_of_the_server(own_server: ServerProcess) -> None:
    before = World(own_server.http_url, own_server.ws_url)
    alice, bob = before.users(2)
    made = before.group(alice, bob)
    alices, bobs = before.peer(alice), before.peer(bob)
    kept = alices.say(made, "kept", "kept")
    recalled = alices.say(made, "recalled", "recalled")
    left = bobs.say(made, "left", "left")
    by_http = before.api(alice).say(made, "kept", "kept").content
    answer = dict(alices.ask("RECALL", messageId=recalled["messageId"], ref="same"))
    before.remove(bob, made, bob)
    log = before.api(alice).log(made)
    before.close()
    own_server.kill()
    own_server.start()
    after = World(own_server.http_url, own_server.ws_url)
    alices, bobs = after.peer(alice), after.peer(bob)
    assert alices.say(made, "kept", "kept").raw == kept.raw
    assert alices.say(made, "recalled", "recalled").raw == recalled.raw
    assert bobs.say(made, "left", "left").raw == left.raw
    assert after.api(alice).say(made, "kept", "kept").content == by_http
    again = dict(alices.ask("RECALL", messageId=recalled["messageId"], ref="same"))
    assert again == answer
    alices.send(send_msg(made, "other", "kept", ref="c"))
    assert alices.expect(None, ref="c")["code"] == "CONFLICT"
    assert after.api(alice).log(made) == log
    after.close()
