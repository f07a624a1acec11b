"""Owners: what they change, who follows them, and who hears of it."""

from __future__ import annotations

from typing import Any

import httpx

from .world import World, ok, refused


def patch(world: World, user: str, conversation: str, **body: Any) -> httpx.Response:
    return world.api(user).request("PATCH", f"/v1/conversations/{conversation}", json=body)


def owners(world: World, user: str, conversation: str) -> list[str]:
    rows = world.api(user).pages(f"/v1/conversations/{conversation}/members", "members")
    return [row["userId"] for row in rows if row["role"] == "CREATOR"]


def test_a_group_goes_on_when_its_owner_leaves(world: World) -> None:
    alice, bob, carol = world.users(3)
    crowd = world.group(alice, bob)
    ok(world.add(alice, crowd, carol))
    phone = world.peer(carol)
    ok(world.remove(alice, crowd, alice))

    assert owners(world, carol, crowd) == [bob]
    phone.expect("CONVERSATION", conversationId=crowd, change="UPDATED")
    refused(world.add(carol, crowd, alice), "FORBIDDEN")
    ok(world.add(bob, crowd, alice))
    refused(world.remove(alice, crowd, carol), "FORBIDDEN")
    assert owners(world, alice, crowd) == [bob]


def test_a_title_changes_and_the_members_hear_of_it(world: World) -> None:
    alice, bob = world.users(2)
    crowd = world.group(alice, bob, title="old")
    phone, before = world.peer(bob), len(world.api(bob).log(crowd))
    changed = ok(patch(world, alice, crowd, title="今晚"))

    assert (changed["title"], changed["headSeq"]) == ("今晚", 2)
    event = phone.expect("CONVERSATION", conversationId=crowd)
    assert (event["change"], event["type"]) == ("UPDATED", "GROUP")
    assert world.api(bob).row(crowd)["title"] == "今晚"
    log = world.api(bob).log(crowd)
    assert (len(log), log[-1]["payload"]) == (before + 1, {"type": "TITLE", "title": "今晚"})
    assert ok(patch(world, alice, crowd, title="今晚")) == changed
    assert ok(patch(world, alice, crowd)) == changed
    phone.ping()
    assert not phone.seen("CONVERSATION")


def test_who_may_change_a_conversation(world: World) -> None:
    alice, bob, carol = world.users(3)
    crowd, pair = world.group(alice, bob), world.single(alice, bob)
    refused(patch(world, bob, crowd, title="mine"), "FORBIDDEN")
    refused(patch(world, bob, crowd, ownerId=bob), "FORBIDDEN")
    refused(patch(world, carol, crowd, title="mine"), "NOT_FOUND")
    refused(patch(world, alice, crowd, ownerId=carol), "NOT_FOUND")
    refused(patch(world, alice, pair, title="us"), "FORBIDDEN")
    refused(patch(world, alice, crowd, title="x" * 257), "BAD_REQUEST")
    refused(patch(world, alice, crowd, title=None), "BAD_REQUEST")
    refused(patch(world, alice, crowd, ownerId=7), "BAD_REQUEST")
    assert owners(world, bob, crowd) == [alice]


def test_a_transfer_can_be_repeated(world: World) -> None:
    alice, bob, carol = world.users(3)
    crowd = world.group(alice, bob)
    first = ok(patch(world, alice, crowd, ownerId=bob))

    assert ok(patch(world, alice, crowd, ownerId=bob)) == first
    assert owners(world, alice, crowd) == [bob]
    refused(world.add(alice, crowd, carol), "FORBIDDEN")
    ok(world.add(bob, crowd, carol))


def test_reading_an_unknown_conversation_is_refused(world: World) -> None:
    alice = world.user()
    phone = world.peer(alice)
    answer = phone.ask("READ", conversationId="no-such", upToSeq=7)
    assert (answer.name, answer["code"], answer["conversationId"]) == ("ERROR", "NOT_FOUND", "no-such")
    refused(world.api(alice).post("/v1/conversations/no-such/read", params={"upToSeq": 7}), "NOT_FOUND")
