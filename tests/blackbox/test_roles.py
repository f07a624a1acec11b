"""Roles, silence, bans and histories, through real sockets: who may, what holds from the answer on, who hears of it."""

from __future__ import annotations

import time
from typing import Any

import httpx

from .world import Api, World, fresh, ok, refused

CANARY = "said-before-you-came"


def put(api: Api, path: str, body: Any = None) -> httpx.Response:
    return api.request("PUT", path, **({} if body is None else {"json": body}))


def make(world: World, by: str, conversation: str, user: str, role: str) -> httpx.Response:
    return put(world.api(by), f"/v1/conversations/{conversation}/members/{user}/role", {"role": role})


def silence(world: World, by: str, conversation: str, user: str, until: int | None = None) -> httpx.Response:
    path = f"/v1/conversations/{conversation}/members/{user}/silence"
    return put(world.api(by), path, {"until": until})


def ban(world: World, by: str, conversation: str, user: str) -> httpx.Response:
    return put(world.api(by), f"/v1/conversations/{conversation}/bans/{user}")


def members(world: World, user: str, conversation: str) -> dict[str, tuple[str, str]]:
    rows = world.api(user).pages(f"/v1/conversations/{conversation}/members", "members")
    return {row["userId"]: (row["role"], row.get("memberRole", "MEMBER")) for row in rows}


def reason(answer: httpx.Response) -> Any:
    refused(answer, "FORBIDDEN")
    return answer.json().get("reason")


def test_roles_in_lists_and_what_an_admin_does(world: World) -> None:
    ann, ben, cat, dan = world.users(4)
    crowd = world.group(ann, ben, cat)
    phone = world.peer(cat)
    assert make(world, ann, crowd, ben, "ADMIN").status_code == 204

    phone.expect("CONVERSATION", conversationId=crowd, change="UPDATED")
    assert members(world, cat, crowd) == {
        ann: ("CREATOR", "OWNER"),
        ben: ("MEMBER", "ADMIN"),
        cat: ("MEMBER", "MEMBER"),
    }
    assert world.api(ben).row(crowd)["memberRole"] == "ADMIN"
    assert "memberRole" not in world.api(cat).row(crowd)
    ok(world.add(ben, crowd, dan))
    assert reason(make(world, ben, crowd, dan, "ADMIN")) == "ROLE"
    assert reason(make(world, cat, crowd, dan, "GUEST")) == "ROLE"
    assert make(world, ben, crowd, dan, "GUEST").status_code == 204
    assert reason(world.remove(ben, crowd, ann)) == "ROLE"
    ok(world.remove(ben, crowd, dan))
    refused(make(world, ann, crowd, ben, "OWNER"), "BAD_REQUEST")
    refused(make(world, ann, crowd, dan, "GUEST"), "NOT_FOUND")
    ok(world.remove(ann, crowd, ann))
    assert members(world, cat, crowd)[ben] == ("CREATOR", "OWNER")


def test_who_is_added_as_something_else(world: World) -> None:
    ann, ben, cat = world.users(3)
    crowd = world.group(ann, ben)
    path = f"/v1/conversations/{crowd}/members"
    ok(world.api(ann).post(path, json={"userIds": [cat], "role": "GUEST"}))

    assert members(world, cat, crowd)[cat] == ("MEMBER", "GUEST")
    refused(world.api(ann).post(path, json={"userIds": [ben], "role": "OWNER"}), "BAD_REQUEST")


def test_a_silenced_member_is_refused_at_once_and_old_keys_are_answered(world: World) -> None:
    ann, ben = world.users(2)
    crowd = world.group(ann, ben)
    phone = world.peer(ben)
    first = phone.say(crowd, "before", "k")
    assert silence(world, ann, crowd, ben).status_code == 204

    refusal = phone.ask(
        "SEND_MSG", conversationId=crowd, clientMsgId="k2", payload={"type": "TEXT", "text": "x"}
    )
    assert (refusal["code"], refusal["reason"], refusal["retryable"]) == ("FORBIDDEN", "SILENCED", False)
    assert reason(world.api(ben).say(crowd, "x", "k3")) == "SILENCED"
    assert phone.say(crowd, "before", "k")["messageId"] == first["messageId"]
    assert world.api(ben).row(crowd)["silencedUntil"] == 2**53 - 1
    world.peer(ann).say(crowd, "you still read")
    phone.expect("NEW_MSG", conversationId=crowd)

    ok(world.remove(ben, crowd, ben))
    ok(world.add(ann, crowd, ben))
    assert reason(world.api(ben).say(crowd, "x", "k4")) == "SILENCED"
    path = f"/v1/conversations/{crowd}/members/{ben}/silence"
    assert reason(world.api(ben).delete(path)) == "ROLE"
    assert world.api(ann).delete(path).status_code == 204
    ok(world.api(ben).say(crowd, "again", "k5"))


def test_a_silence_ends_by_its_time(world: World) -> None:
    ann, ben = world.users(2)
    crowd = world.group(ann, ben)
    assert silence(world, ann, crowd, ben, int(time.time() * 1000) - 1).status_code == 204
    ok(world.api(ben).say(crowd, "x", "k"))
    assert "silencedUntil" not in world.api(ben).row(crowd)
    refused(silence(world, ann, crowd, ben, 0), "BAD_REQUEST")


def test_a_ban_ends_a_membership_on_the_live_socket_and_nobody_adds_again(world: World) -> None:
    ann, ben, cat, eve = world.users(4)
    crowd = world.group(ann, ben, cat)
    phone = world.peer(ben)
    assert ban(world, ann, crowd, ben).status_code == 204

    phone.expect("CONVERSATION", conversationId=crowd, change="LEFT")
    world.peer(ann).say(crowd, "after the ban")
    phone.ping()
    assert not phone.seen("NEW_MSG", conversationId=crowd)
    refused(world.api(ben).say(crowd, "x", "k"), "NOT_FOUND")
    assert reason(world.add(ann, crowd, ben)) is None
    assert ban(world, ann, crowd, eve).status_code == 204
    path = f"/v1/conversations/{crowd}/bans"
    rows = world.api(ann).pages(path, "bans", limit=1)
    assert sorted((row["userId"], row["byId"]) for row in rows) == sorted([(ben, ann), (eve, ann)])
    assert reason(world.api(cat).get(path)) == "ROLE"
    refused(world.api(ben).get(path), "NOT_FOUND")
    assert reason(ban(world, cat, crowd, eve)) == "ROLE"
    assert world.api(ann).delete(f"{path}/{ben}").status_code == 204
    ok(world.add(ann, crowd, ben))


def test_whoever_runs_a_group_recalls_and_a_removed_body_is_gone(world: World) -> None:
    ann, ben, cat = world.users(3)
    crowd = world.group(ann, ben, cat)
    ok_made = make(world, ann, crowd, ben, "ADMIN")
    assert ok_made.status_code == 204
    name = world.peer(cat).say(crowd, "rude words")["messageId"]
    phone = world.peer(cat)
    answer = ok(world.api(ben).post(f"/v1/messages/{name}/recall"))

    entry = phone.expect("NEW_MSG", conversationId=crowd)
    assert (entry["senderId"], entry["payload"]["by"], entry["seq"]) == (ben, ben, answer["seq"])
    assert b"rude words" not in world.api(ann).get(f"/v1/conversations/{crowd}/messages").content
    owners = world.peer(ann).say(crowd, "mine")["messageId"]
    assert reason(world.api(ben).post(f"/v1/messages/{owners}/recall")) == "ROLE"


def test_an_open_history_is_read_and_not_delivered(world: World) -> None:
    ann, ben, cat, dan = world.users(4)
    answer = ok(world.api(ann).create("GROUP", [ben], fresh("g"), history="FROM_START"), 201)
    crowd = answer["conversationId"]
    assert answer["history"] == "FROM_START"
    world.peer(ann).say(crowd, CANARY)
    phone = world.peer(cat)
    ok(world.add(ann, crowd, cat))

    phone.expect("CONVERSATION", conversationId=crowd, change="JOINED")
    assert [it["seq"] for it in phone.sync(crowd)["messages"]] == [3]
    assert [it["seq"] for it in phone.sync(crowd, history=True)["messages"]] == [1, 2, 3]
    assert [it["seq"] for it in world.api(cat).history(crowd)["messages"]] == [1, 2, 3]
    assert [it["seq"] for it in world.api(cat).log(crowd)] == [3]
    row = world.api(cat).row(crowd)
    assert (row["firstSeq"], row["unread"], row["history"]) == (1, 0, "FROM_START")

    path = f"/v1/conversations/{crowd}"
    assert reason(world.api(ben).request("PATCH", path, json={"history": "FROM_JOIN"})) == "ROLE"
    refused(world.api(ann).request("PATCH", path, json={"history": "ALWAYS"}), "BAD_REQUEST")
    changed = ok(world.api(ann).request("PATCH", path, json={"history": "FROM_JOIN"}))
    assert changed.get("history", "FROM_JOIN") == "FROM_JOIN"
    ok(world.add(ann, crowd, dan))
    for page in (world.api(dan).get(f"{path}/messages"), world.api(dan).get(f"{path}/messages?fromSeq=2")):
        assert CANARY.encode() not in page.content
    assert CANARY in world.api(cat).get(f"{path}/messages").text
    ok(world.remove(ann, crowd, cat))
    refused(world.api(cat).get(f"{path}/messages"), "NOT_FOUND")


def test_a_single_has_none_of_it(world: World) -> None:
    ann, ben = world.users(2)
    pair = world.single(ann, ben)
    for answer in (
        make(world, ann, pair, ben, "ADMIN"),
        silence(world, ann, pair, ben),
        ban(world, ann, pair, ben),
        world.api(ann).request("PATCH", f"/v1/conversations/{pair}", json={"history": "FROM_START"}),
    ):
        refused(answer, "FORBIDDEN")
    assert set(members(world, ann, pair).values()) == {("MEMBER", "MEMBER")}
