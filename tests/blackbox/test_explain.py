"""An administrator asks what became of a message; for everybody else there is no such path."""

from __future__ import annotations

import json

import httpx

from .tokens import token
from .world import Api, Values, World, ok


def administrator(world: World) -> Api:
    """Somebody whose token says so."""
    user = world.user("adm")
    return Api(world.http, user, None, token(user, scope="chat chat:admin"))


def events(explained: Values, user: str) -> set[str]:
    """What is said of a user."""
    return {fact["event"] for fact in explained["facts"] if fact["userId"] == user}


def test_a_message_from_its_sender_to_its_readers(world: World) -> None:
    ann, bob, cat = world.users(3)
    made = world.group(ann, bob, cat)
    bobs = world.peer(bob)
    ack = world.peer(ann).say(made, "canary-of-explain", "the-key")
    bobs.expect("NEW_MSG", seq=ack["seq"])
    world.peer(ann, "pad")
    ok(world.api(bob, "phone").post(f"/v1/conversations/{made}/read?upToSeq={ack['seq']}"))
    assert world.api(bob, "phone").post(f"/v1/messages/{ack['messageId']}/delivered").status_code == 204
    path = f"/v1/admin/messages/{ack['messageId']}"

    found = ok(administrator(world).get(path))
    assert (found["conversationId"], found["seq"], found["clientMsgId"]) == (made, ack["seq"], "the-key")
    stored = found["facts"][0]
    assert (stored["event"], stored["atMs"], stored["time"]) == ("STORED", ack["serverTs"], "EXACT")
    assert {"READ", "CONFIRMED"} <= events(found, bob)
    assert "PENDING" in events(found, cat)
    assert "canary-of-explain" not in json.dumps(found)
    alone = ok(administrator(world).get(path, params={"user": cat, "limit": 1}))
    assert events(alone, bob) == set()
    assert alone["readerCount"] == 1


def test_its_recall_and_who_was_added(world: World) -> None:
    ann, bob, cat = world.users(3)
    made = world.group(ann, bob)
    peer = world.peer(ann)
    ack = peer.say(made, "gone")
    recall = peer.ask("RECALL", messageId=ack["messageId"])
    world.add(ann, made, cat)
    entry = peer.expect("NEW_MSG", conversationId=made, seq=recall["seq"] + 1)
    admin = administrator(world)

    found = ok(admin.get(f"/v1/admin/messages/{ack['messageId']}"))
    assert {"RECALLED", "STORED"} <= events(found, ann)
    of_recall = ok(admin.get(f"/v1/admin/messages/{recall['messageId']}"))
    assert ack["messageId"] in of_recall["facts"][0]["words"]
    of_adding = ok(admin.get(f"/v1/admin/messages/{entry['messageId']}"))
    assert f"ADDED {cat}" in of_adding["facts"][0]["words"]


def test_what_is_no_message(world: World) -> None:
    admin = administrator(world)
    for name in ("m-1", "ffffff-e-1"):
        missing = admin.get(f"/v1/admin/messages/{name}")
        assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
        assert "no " in missing.json()["detail"]
    for query in ("limit=0", "limit=1001", "limit=x", "user=a%20b"):
        assert admin.get(f"/v1/admin/messages/1-e-1?{query}").status_code == 400
    assert admin.get("/v1/admin/messages/a%00b").status_code == 400


def test_for_others_there_is_no_such_path(world: World) -> None:
    ann, bob = world.users(2)
    made = world.group(ann, bob)
    ack = world.peer(ann).say(made, "hidden")
    path = f"/v1/admin/messages/{ack['messageId']}"
    unknown = shown(world.api(ann).get("/v1/no/such/path"))

    assert shown(world.api(ann).get(path)) == unknown, "also for its author"
    assert shown(world.http.get(path)) == unknown
    assert shown(world.api(ann).delete(path)) == unknown


def shown(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of a response but its time."""
    headers = [it for it in response.headers.multi_items() if it[0] != "date"]
    return response.status_code, response.content, headers


def test_who_asked_is_in_the_audit(world: World) -> None:
    ann, bob = world.users(2)
    made = world.group(ann, bob)
    ack = world.peer(ann).say(made, "asked about")
    admin = administrator(world)
    ok(admin.get(f"/v1/admin/messages/{ack['messageId']}?user={bob}"))
    assert admin.get("/v1/admin/messages/%00%1b[31m%0a?user=%00").status_code == 400

    acts = ok(admin.get("/v1/admin/audit", params={"actor": admin.user, "action": "READ"}))["acts"]
    subjects = [act["subject"] for act in acts]
    assert f"messages/{ack['messageId']}" in subjects
    assert "messages/%00%1B%5B31m%0A" in subjects, "also what it could not have been"
