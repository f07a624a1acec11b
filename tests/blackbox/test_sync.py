"""SYNC, its HTTP twin, history and HEADS: pages that leave no gap."""

from __future__ import annotations

import pytest

from .peer import Peer, send_msg
from .tokens import token
from .world import World


def fill(peer: Peer, conversation: str, count: int) -> list[int]:
    """`count` messages in frames of 200; their seqs."""
    seqs: list[int] = []
    for start in range(0, count, 200):
        numbers = range(start, min(start + 200, count))
        peer.send(*[send_msg(conversation, f"message {number}", f"fill-{number}") for number in numbers])
        seqs += [peer.expect("MSG_ACK", clientMsgId=f"fill-{number}")["seq"] for number in numbers]
    return seqs


def test_pages_of_at_most_200_until_no_more(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    assert fill(world.peer(alice), made, 450) == list(range(2, 452))
    bobs = world.peer(bob)
    last, seqs, more = 0, [], True
    while more:
        page = bobs.sync(made, last)
        assert page["headSeq"] == 451
        assert 0 < len(page["messages"]) <= 200
        assert last < page["upToSeq"] <= 451
        listed = [entry["seq"] for entry in page["messages"]]
        assert all(last < seq <= page["upToSeq"] for seq in listed)
        seqs += listed
        last, more = page["upToSeq"], page["more"]
    assert seqs == list(range(1, 452))
    assert last == 451
    by_http = world.api(bob).sync(made, 0)
    assert len(by_http["messages"]) <= 200
    assert by_http["more"] is True
    assert [entry["seq"] for entry in world.api(bob).log(made)] == seqs


@pytest.mark.parametrize("limit", [1, 2, 200])
def test_sync_limit(world: World, limit: int) -> None:
    alice = world.user()
    made = world.group(alice)
    alices = world.peer(alice)
    fill(alices, made, 3)
    page = alices.sync(made, 0, limit=limit)
    assert len(page["messages"]) == min(limit, 4)
    assert page["more"] is (limit < 4)
    assert page["upToSeq"] == min(limit, 4)


def test_sync_limit_above_200_gives_200(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    alices = world.peer(alice)
    fill(alices, made, 210)
    page = alices.sync(made, 0, limit=201)
    assert len(page["messages"]) == 200
    history = world.api(alice).history(made, limit=1_000_000_000)
    assert len(history["messages"]) == 200
    assert history["more"] is True


def test_last_seq_at_or_above_the_head_gives_an_empty_page(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    alices = world.peer(alice)
    for last in (1, 2, 2**53 - 1):
        page = alices.sync(made, last)
        assert (page["messages"], page["more"], page["headSeq"]) == ([], False, 1)
        assert page["upToSeq"] in (1, last), "never behind what the client has"
        by_http = world.api(alice).sync(made, last)
        assert (by_http["messages"], by_http["more"]) == ([], False)


def test_large_messages_make_shorter_pages_and_none_is_lost(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    alices = world.peer(alice)
    for number in range(30):
        alices.say(made, f"{number:02d}" + "x" * 60_000)
    last, seqs, more = 0, [], True
    while more:
        page = alices.sync(made, last)
        assert len(page.raw) <= 1_000_000
        seqs += [entry["seq"] for entry in page["messages"]]
        assert page["upToSeq"] > last
        last, more = page["upToSeq"], page["more"]
    assert seqs == list(range(1, 32))
    assert [entry["seq"] for entry in world.api(alice).log(made)] == seqs


def test_history_is_ascending_from_seq_with_limits(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    fill(world.peer(alice), made, 70)
    api = world.api(alice)
    assert [entry["seq"] for entry in api.history(made)["messages"]] == list(range(1, 51))
    assert api.history(made)["more"] is True
    tail = api.history(made, fromSeq=60, limit=50)
    assert [entry["seq"] for entry in tail["messages"]] == list(range(60, 72))
    assert (tail["upToSeq"], tail["headSeq"], tail["more"]) == (71, 71, False)
    assert [entry["seq"] for entry in api.history(made, fromSeq=10, limit=3)["messages"]] == [10, 11, 12]
    beyond = api.history(made, fromSeq=72)
    assert (beyond["messages"], beyond["more"]) == ([], False)


def test_epoch_of_another_log_is_a_conflict(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    alices = world.peer(alice)
    epoch = alices.sync(made)["epoch"]
    assert alices.sync(made, 0, epoch=epoch)["epoch"] == epoch
    error = alices.ask("SYNC", conversationId=made, lastSeq=0, epoch=epoch + "x")
    assert (error["event"], error["code"], error["retryable"]) == ("ERROR", "CONFLICT", False)
    assert error["conversationId"] == made
    alices.ping()


def test_sync_gives_back_the_senders_own_keys_only_to_him(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    alices.say(made, "one", "key-of-alice")
    assert alices.sync(made, 1)["messages"][0]["clientMsgId"] == "key-of-alice"
    assert world.peer(alice, "pad").sync(made, 1)["messages"][0]["clientMsgId"] == "key-of-alice"
    assert "clientMsgId" not in bobs.sync(made, 1)["messages"][0]
    bobs.expect("NEW_MSG", seq=2)
    assert b"key-of-alice" not in bobs.bytes_since(0)
    assert b"key-of-alice" not in world.api(bob).get(f"/v1/conversations/{made}/messages").content


def test_many_syncs_at_once_are_each_answered_or_refused(world: World) -> None:
    alice = world.user()
    made = world.group(alice)
    alices = world.peer(alice)
    fill(alices, made, 20)
    asked = [{"event": "SYNC", "conversationId": made, "lastSeq": 0, "ref": f"s{n}"} for n in range(10)]
    alices.send(*asked)
    answers = [alices.expect(None, ref=event["ref"]) for event in asked]
    assert any(answer.name == "SYNC_PAGE" for answer in answers)
    for answer in answers:
        assert answer.name == "SYNC_PAGE" or answer["code"] in (
            "BAD_REQUEST",
            "RATE_LIMITED",
            "OVERLOADED",
        ), answer
    alices.ping()


def test_heads_pages_behind_first_then_newest_activity_and_last_says_no_more(world: World) -> None:
    alice = world.user()
    api = world.api(alice)
    made = [world.group(alice) for _ in range(205)]
    phone = world.peer(alice)
    behind = made[3::40]
    current = [conversation for conversation in made if conversation not in behind]
    acks = [
        {"event": "DELIVERED_ACK", "conversationId": conversation, "upToSeq": 1, "ref": "a"}
        for conversation in current
    ]
    phone.send(*acks)
    phone.ping()
    activity = {
        row["conversationId"]: row["lastActivityTs"]
        for row in api.pages("/v1/conversations", "conversations", limit=200)
    }

    def order(device: str) -> list[str]:
        peer = world.raw_peer()
        peer.hello(token(alice, device), device)
        pages = [peer.expect("HEADS")]
        while pages[-1]["more"]:
            pages.append(peer.expect("HEADS"))
        assert all(len(page["conversations"]) <= 200 for page in pages)
        assert len(pages) >= 2
        rows = [row for page in pages for row in page["conversations"]]
        flags = [row["deliveredSeq"] < row["headSeq"] for row in rows]
        assert flags == sorted(flags, reverse=True), "those behind come first"
        assert sum(flags) == len(behind)
        for flag in (True, False):
            times = [activity[r["conversationId"]] for r, f in zip(rows, flags, strict=True) if f is flag]
            assert times == sorted(times, reverse=True), "newest activity first"
        return [row["conversationId"] for row in rows]

    seen = order("phone")
    assert set(seen[: len(behind)]) == set(behind)
    assert sorted(seen) == sorted(made)
    assert set(order("pad")) == set(made), "a new device starts where the user's other devices are"


def test_heads_of_a_user_without_conversations_is_sent_empty(world: World) -> None:
    peer = world.raw_peer()
    peer.hello(token(world.user(), "phone"), "phone")
    page = peer.expect("HEADS")
    assert (page["conversations"], page["more"]) == ([], False)


def test_new_device_starts_its_cursor_at_the_greatest_of_the_others(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    first = world.peer(bob, "phone")
    fill(alices, made, 5)
    first.send({"event": "DELIVERED_ACK", "conversationId": made, "upToSeq": 4})
    alices.expect("RECEIPT", userId=bob, deliveredSeq=4)
    second = world.raw_peer()
    second.hello(token(bob, "pad"), "pad")
    (row,) = second.heads()
    assert (row["deliveredSeq"], row["headSeq"]) == (4, 6)


def test_heads_carry_the_other_members_cursors(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob, carol)
    alices = world.peer(alice)
    fill(alices, made, 4)
    for user, delivered, read in ((bob, 5, 3), (carol, 4, 2)):
        peer = world.peer(user)
        peer.send(
            {"event": "DELIVERED_ACK", "conversationId": made, "upToSeq": delivered},
            {"event": "READ", "conversationId": made, "upToSeq": read},
        )
        alices.expect("RECEIPT", userId=user, deliveredSeq=delivered, readSeq=read)
    again = world.raw_peer()
    again.hello(token(alice, "pad"), "pad")
    (row,) = again.heads()
    assert (row["othersDeliveredSeq"], row["othersReadSeq"]) == (4, 2)
