"""Delivered and read: who hears of it, what moves, what is refused, and the status of a message."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .peer import Event, Peer, Values, send_msg
from .tokens import token
from .world import World, ok, refused


def delivered(conversation: str, seq: int) -> dict[str, object]:
    return {"event": "DELIVERED_ACK", "conversationId": conversation, "upToSeq": seq}


def read(conversation: str, seq: int) -> dict[str, object]:
    return {"event": "READ", "conversationId": conversation, "upToSeq": seq}


def test_receipts_reach_the_author_and_the_users_other_devices(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    phone, pad = world.peer(bob, "phone"), world.peer(bob, "pad")
    seq = alices.say(made, "hello")["seq"]
    phone.send(read(made, seq))
    for peer in (alices, pad):
        receipt = peer.expect("RECEIPT", conversationId=made, userId=bob, readSeq=seq)
        assert receipt["deliveredSeq"] >= receipt["readSeq"]


def test_receipts_do_not_reach_members_who_wrote_nothing_of_it(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob, carol)
    alices, bobs, carols = (world.peer(user) for user in (alice, bob, carol))
    first = alices.say(made, "by alice")["seq"]
    bobs.send(read(made, first))
    alices.expect("RECEIPT", userId=bob, readSeq=first)
    carols.ping()
    assert not carols.seen("RECEIPT", userId=bob)


def test_cursors_never_go_back(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    for number in range(3):
        alices.say(made, f"{number}")
    bobs.send(read(made, 4), read(made, 2), delivered(made, 1), read(made, 0), delivered(made, 0))
    alices.expect("RECEIPT", userId=bob, readSeq=4)
    answer = world.api(bob).post(f"/v1/conversations/{made}/read", params={"upToSeq": 1})
    assert ok(answer) == {"readSeq": 4}
    rows = world.api(alice).pages(f"/v1/conversations/{made}/receipts", "receipts")
    (row,) = [row for row in rows if row["userId"] == bob]
    assert (row["deliveredSeq"], row["readSeq"]) == (4, 4), "delivered is never below read"


def test_zero_is_accepted_everywhere(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    alices = world.peer(alice)
    alices.send({**delivered(made, 0), "ref": "d"}, {**read(made, 0), "ref": "r"})
    alices.ping()
    assert ok(world.api(alice).post(f"/v1/conversations/{made}/read", params={"upToSeq": 0})) == {
        "readSeq": 0
    }
    assert not alices.seen("ERROR")


@pytest.mark.parametrize("event", ["DELIVERED_ACK", "READ"])
def test_above_the_head_is_a_bad_request(world: World, event: str) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    bobs = world.peer(bob)
    for above in (2, 1000, 2**53 - 1):
        error = bobs.ask(event, conversationId=made, upToSeq=above)
        assert (error["event"], error["code"], error["retryable"]) == ("ERROR", "BAD_REQUEST", False)
    refused(world.api(bob).post(f"/v1/conversations/{made}/read", params={"upToSeq": 2}), "BAD_REQUEST")
    assert world.api(bob).row(made)["readSeq"] == 0
    assert world.api(bob).row(made)["headSeq"] == 1


def test_own_messages_are_acked_like_others(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    alices, again = world.peer(alice, "phone"), world.peer(alice, "pad")
    seq = alices.say(made, "note to self")["seq"]
    alices.send(delivered(made, seq))
    again.expect("RECEIPT", userId=alice, deliveredSeq=seq)
    third = world.raw_peer()
    third.hello(token(alice, "phone"), "phone")
    (row,) = third.heads()
    assert row["deliveredSeq"] == seq


def test_one_message_acked_out_of_order_is_kept_exactly(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    acks = [alices.say(made, f"{number}") for number in range(3)]  # 2, 3, 4
    bobs.send({"event": "DELIVERED_ACK", "conversationId": made, "messageId": acks[2]["messageId"]})
    bobs.ping()
    api = world.api(alice)
    wait_status(api.status, bobs, acks[2]["messageId"], "DELIVERED")
    assert api.status(acks[0]["messageId"])["status"] == "SENT"
    assert api.status(acks[1]["messageId"])["status"] == "SENT"
    bobs.send(delivered(made, 3))
    alices.expect("RECEIPT", userId=bob, where=lambda event: event["deliveredSeq"] >= 3)
    assert [api.status(ack["messageId"])["status"] for ack in acks] == ["DELIVERED"] * 3


def wait_status(status: Callable[[str], Values], peer: Peer, message_id: str, wanted: str) -> None:
    """Acks are answered by nothing; a bounded number of round trips stands for the wait."""
    for _ in range(200):
        if status(message_id)["status"] == wanted:
            return
        peer.ping()
    raise AssertionError(f"{message_id} did not become {wanted}: {status(message_id)}")


def test_status_per_user_and_device(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob, carol)
    alices, phone, pad = world.peer(alice), world.peer(bob, "phone"), world.peer(bob, "pad")
    carols = world.peer(carol, "phone")
    ack = alices.say(made, "who has it?")
    api = world.api(alice)
    fresh_status = api.status(ack["messageId"])
    assert {"status", "memberCount", "deliveredCount", "readCount", "deliveries", "nextCursor"} <= set(
        fresh_status
    )
    assert (fresh_status["status"], fresh_status["memberCount"]) == ("SENT", 2)
    assert (fresh_status["deliveredCount"], fresh_status["readCount"]) == (0, 0)
    phone.send(delivered(made, ack["seq"]))
    alices.expect("RECEIPT", userId=bob, deliveredSeq=ack["seq"])
    partly = api.status(ack["messageId"])
    assert (partly["status"], partly["deliveredCount"], partly["readCount"]) == ("SENT", 1, 0)
    states = {(row["userId"], row["deviceId"]): row["state"] for row in partly["deliveries"]}
    assert states[bob, "phone"] == "DELIVERED"
    assert states.get((bob, "pad"), "PENDING") == "PENDING"
    assert alice not in {user for user, _ in states}
    carols.send(read(made, ack["seq"]))
    alices.expect("RECEIPT", userId=carol, readSeq=ack["seq"])
    assert api.status(ack["messageId"])["status"] == "DELIVERED"
    pad.send(read(made, ack["seq"]))
    alices.expect("RECEIPT", userId=bob, readSeq=ack["seq"])
    whole = api.status(ack["messageId"])
    assert (whole["status"], whole["deliveredCount"], whole["readCount"]) == ("READ", 2, 2)
    for row in whole["deliveries"]:
        assert {"userId", "deviceId", "state", "updatedTs"} <= set(row)
        assert row["state"] in ("PENDING", "DELIVERED", "READ")


def test_status_is_for_the_sender_only(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    ack = world.peer(alice).say(made, "mine")
    path = f"/v1/messages/{ack['messageId']}/status"
    member = refused(world.api(bob).get(path), "NOT_FOUND")
    stranger = refused(world.api(world.user()).get(path), "NOT_FOUND")
    assert member == stranger


def test_status_counts_who_still_is_a_member_and_could_see_it(world: World) -> None:
    alice, bob, carol, dave = world.users(4)
    made = world.group(alice, bob, carol)
    alices = world.peer(alice)
    ack = alices.say(made, "before dave, before carol leaves")
    world.add(alice, made, dave)
    world.remove(alice, made, carol)
    bobs = world.peer(bob)
    bobs.send(delivered(made, ack["seq"]))
    alices.expect("RECEIPT", userId=bob, where=lambda event: event["deliveredSeq"] >= ack["seq"])
    status = world.api(alice).status(ack["messageId"])
    assert (status["memberCount"], status["status"]) == (1, "DELIVERED")
    assert {row["userId"] for row in status["deliveries"]} == {bob}


def test_status_pages_by_cursor(world: World) -> None:
    alice = world.user()
    others = world.users(7)
    made = world.group(alice, *others)
    ack = world.peer(alice).say(made, "page me")
    for user in others:
        peer = world.peer(user)
        peer.send(delivered(made, ack["seq"]))
        peer.ping()
    rows = world.api(alice).pages(f"/v1/messages/{ack['messageId']}/status", "deliveries", limit=3)
    assert sorted({row["userId"] for row in rows}) == sorted(others)
    assert len(rows) == len({(row["userId"], row["deviceId"]) for row in rows})


def test_the_device_of_the_token_beats_the_one_of_the_header(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    ack = world.peer(alice).say(made, "to your phone")
    world.peer(bob, "tablet").ping()
    path = f"/v1/messages/{ack['messageId']}/delivered"
    assert world.api(bob, "phone").post(path, headers={"X-Device-Id": "tablet"}).status_code == 204
    rows = world.api(alice).status(ack["messageId"])["deliveries"]
    states = {row["deviceId"]: row["state"] for row in rows}
    assert states["phone"] == "DELIVERED"
    assert states["tablet"] != "DELIVERED"


def test_delivered_by_http_uses_the_device_of_token_or_header(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    first, second = (world.peer(alice).say(made, f"{number}") for number in range(2))
    without_device = world.api(bob, None)
    path = f"/v1/messages/{first['messageId']}/delivered"
    refused(without_device.post(path), "BAD_REQUEST")
    refused(without_device.post(path, headers={"X-Device-Id": "a b"}), "BAD_REQUEST")
    assert without_device.post(path, headers={"X-Device-Id": "tablet"}).status_code == 204
    states = {
        row["deviceId"]: row["state"] for row in world.api(alice).status(first["messageId"])["deliveries"]
    }
    assert states["tablet"] == "DELIVERED"
    assert world.api(bob, "phone").post(f"/v1/messages/{second['messageId']}/delivered").status_code == 204
    states = {
        row["deviceId"]: row["state"] for row in world.api(alice).status(second["messageId"])["deliveries"]
    }
    assert states["phone"] == "DELIVERED"
    assert world.api(alice).status(second["messageId"])["status"] == "DELIVERED"


def test_receipts_list_pages_over_all_members(world: World) -> None:
    alice = world.user()
    others = world.users(5)
    made = world.group(alice, *others)
    rows = world.api(others[0]).pages(f"/v1/conversations/{made}/receipts", "receipts", limit=2)
    assert {"userId", "deliveredSeq", "readSeq"} <= set(rows[0])
    assert set(others) <= {row["userId"] for row in rows} <= {alice, *others}
    assert len(rows) == len({row["userId"] for row in rows})


def test_groups_over_100_give_counts_without_names(world: World) -> None:
    alice = world.user()
    others = world.users(110)
    made = world.group(alice, *others)
    alices = world.peer(alice)
    seq = alices.say(made, "how many?")["seq"]
    readers = [world.peer(user) for user in others[:3]]
    for reader in readers:
        reader.send(read(made, seq))

    def all_three(event: Event) -> bool:
        return event.get("readCount") == 3

    receipt = alices.expect("RECEIPT", all_three, conversationId=made, seq=seq)
    assert "userId" not in receipt
    assert receipt["deliveredCount"] == 3
    status = world.api(alice).status(message_at(alices, made, seq))
    assert receipt["memberCount"] in (status["memberCount"], status["memberCount"] + 1)
    assert not [event for event in alices.seen("RECEIPT") if "userId" in event]


def message_at(peer: Peer, conversation: str, seq: int) -> str:
    """The messageId at a seq."""
    page = peer.sync(conversation, seq - 1)
    message_id: str = page["messages"][0]["messageId"]
    return message_id


def test_typing_reaches_members_at_most_once_in_three_seconds(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob)
    alices, bobs, strangers = world.peer(alice), world.peer(bob), world.peer(carol)
    typing = {"event": "TYPING", "conversationId": made}
    alices.send(typing, typing, typing)
    alices.ping()
    last = alices.say(made, "done")
    bobs.expect("NEW_MSG", seq=last["seq"])
    assert len(bobs.seen("TYPING", conversationId=made, userId=alice)) == 1
    error = strangers.ask("TYPING", conversationId=made)
    assert (error["event"], error["code"]) == ("ERROR", "NOT_FOUND")
    assert len(world.api(alice).log(made)) == 2, "typing is never stored"


def test_no_typing_in_groups_over_100(world: World) -> None:
    alice = world.user()
    others = world.users(100)
    made = world.group(alice, *others)
    alices, bobs = world.peer(alice), world.peer(others[0])
    alices.send({"event": "TYPING", "conversationId": made})
    alices.ping()
    last = alices.say(made, "done")
    bobs.expect("NEW_MSG", seq=last["seq"])
    assert not bobs.seen("TYPING")


def test_typing_in_a_group_of_exactly_100(world: World) -> None:
    alice = world.user()
    others = world.users(99)
    made = world.group(alice, *others)
    alices, bobs = world.peer(alice), world.peer(others[0])
    alices.send({"event": "TYPING", "conversationId": made})
    bobs.expect("TYPING", conversationId=made, userId=alice)


def test_a_batch_of_messages_can_be_acked_cumulatively(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    alices.send(*[send_msg(made, f"{number}", f"k{number}") for number in range(50)])
    for number in range(50):
        bobs.expect("NEW_MSG", seq=2 + number)
    bobs.send(delivered(made, 51))
    alices.expect("RECEIPT", userId=bob, deliveredSeq=51)
