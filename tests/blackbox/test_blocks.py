"""Blocks: who is blocked reaches the blocker by no request, and is not told more than that."""

from __future__ import annotations

from .peer import send_msg
from .world import World, fresh, ok, refused


def block(world: World, user: str, other: str) -> None:
    answer = world.api(user).post(f"/v1/blocks/{other}")
    assert (answer.status_code, answer.content) == (204, b"")


def test_who_is_blocked_reaches_the_blocker_by_no_request(world: World) -> None:
    ann, eve, cat = world.users(3)
    pair, shared = world.single(ann, eve), world.group(eve, cat)
    phone = world.peer(ann)
    stranger = world.peer(eve)
    block(world, ann, eve)

    stranger.send(send_msg(pair, "hello", "k1"))
    error = stranger.expect("ERROR", clientMsgId="k1")
    assert (error["code"], error["retryable"]) == ("FORBIDDEN", False)
    problem = refused(world.api(eve).say(pair, "hello", "k2"), "FORBIDDEN")
    assert "block" not in problem["detail"]
    refused(world.api(eve).create("GROUP", [eve, ann], fresh("g")), "FORBIDDEN")
    refused(world.api(eve).create("GROUP", [eve, cat, ann], fresh("g")), "FORBIDDEN")
    refused(world.add(eve, shared, ann), "FORBIDDEN")
    assert ok(world.api(eve).create("SINGLE", [ann], fresh("c")), 200)["conversationId"] == pair
    assert len(world.api(ann).log(pair)) == 1
    phone.ping()
    assert phone.inbox == []


def test_the_answer_to_a_stored_message_stays(world: World) -> None:
    ann, eve = world.users(2)
    pair = world.single(ann, eve)
    first = ok(world.api(eve).say(pair, "hello", "k"))
    block(world, ann, eve)

    assert ok(world.api(eve).say(pair, "hello", "k")) == first
    refused(world.api(eve).say(pair, "other", "k"), "CONFLICT")


def test_no_single_begins_with_who_blocked(world: World) -> None:
    ann, eve = world.users(2)
    block(world, ann, eve)
    refused(world.api(eve).create("SINGLE", [ann]), "FORBIDDEN")

    pair = world.single(ann, eve)
    refused(world.api(eve).say(pair, "hello", "k"), "FORBIDDEN")
    ok(world.api(ann).say(pair, "hello", "k"))


def test_blocks_are_listed_in_pages_and_end(world: World) -> None:
    ann, *others = sorted(world.users(4))
    for other in others * 2:
        block(world, ann, other)
    rows = world.api(ann).pages("/v1/blocks", "blocks", limit=2)
    assert [row["userId"] for row in rows] == others
    assert all(isinstance(row["sinceTs"], int) for row in rows)
    assert ok(world.api(others[0]).get("/v1/blocks")) == {"blocks": [], "nextCursor": None}

    for _ in range(2):
        assert world.api(ann).delete(f"/v1/blocks/{others[0]}").status_code == 204
    assert [row["userId"] for row in world.api(ann).pages("/v1/blocks", "blocks")] == others[1:]
    ok(world.api(others[0]).create("SINGLE", [ann]), 201)


def test_wrong_blocks_are_refused(world: World) -> None:
    ann = world.user()
    refused(world.api(ann).post(f"/v1/blocks/{ann}"), "BAD_REQUEST")
    refused(world.api(ann).post("/v1/blocks/a%20b"), "BAD_REQUEST")
    refused(world.api(ann).get("/v1/blocks", params={"limit": "x"}), "BAD_REQUEST")


def test_after_leaving_a_block_keeps_the_owner_from_adding_again(world: World) -> None:
    eve, ann = world.users(2)
    crowd = world.group(eve, ann)
    ok(world.remove(ann, crowd, ann))
    block(world, ann, eve)

    refused(world.add(eve, crowd, ann), "FORBIDDEN")
    refused(world.api(ann).get(f"/v1/conversations/{crowd}"), "NOT_FOUND")
