"""An administrator erases a user: those online hear of it, those who come later find it, and the audit says who did."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx

from .peer import Event, Peer
from .phone import Row, phone
from .server_process import ServerProcess
from .tokens import token
from .world import Api, World, fresh, ok, refused

RECALLED = {"type": "RECALLED"}


def administrator(world: World) -> Api:
    name = fresh("adm")
    return Api(world.http, name, "desk", token(name, "desk", scope="chat chat:admin"))


def _recalls(message_id: str, event: Event) -> bool:
    return bool(event["payload"].get("messageId") == message_id)


def test_an_erased_user_is_gone_for_everybody(world: World) -> None:
    alice, bob, carol = world.users(3)
    made, pair = world.group(bob, alice, carol), world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob)
    said = [bobs.say(made, "leave-no-canary"), bobs.say(pair, "leave-no-canary"), bobs.say(made, "canary-2")]
    alices.say(made, "stays")
    mark = len(alices.frames)
    admin = administrator(world)
    erased = ok(admin.post(f"/v1/admin/users/{bob}/erase", json={"bodies": "erase"}))

    assert erased == {"conversations": 2, "messages": 3}
    assert bobs.close_code() == 4202
    for it in said:
        alices.expect("NEW_MSG", where=partial(_recalls, it["messageId"]))
    log = world.api(carol).log(made)
    assert [it["payload"] for it in log if it["senderId"] == bob and it["payload"]["type"] == "RECALLED"] == [
        RECALLED,
        RECALLED,
    ]
    assert [it["payload"]["text"] for it in log if it["payload"]["type"] == "TEXT"] == ["stays"]
    late = world.peer(carol)
    late.sync(made)
    assert b"canary" not in late.bytes_since(0) + alices.bytes_since(mark)
    assert ok(world.api(alice).get(f"/v1/conversations/{made}"))["memberCount"] == 2
    refused(world.api(bob).get("/v1/conversations"), "FORBIDDEN")
    again = world.raw_peer()
    again.send({"event": "HELLO", "token": token(bob, "new"), "deviceId": "new"})
    assert again.close_code() == 4202


def test_what_administrators_do_and_read_is_in_the_audit(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice, bob)
    world.peer(bob).say(made, "mine")
    admin = administrator(world)
    exported = admin.get(f"/v1/admin/users/{bob}/export")
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert (exported.status_code, exported.headers["content-type"]) == (200, "application/x-ndjson")
    assert [line["message"]["payload"]["text"] for line in lines if "message" in line] == ["mine"]
    ok(admin.post(f"/v1/admin/users/{bob}/erase", json={"bodies": "keep"}))

    acts = ok(admin.get("/v1/admin/audit", params={"actor": admin.user}))["acts"]
    assert [it["action"] for it in acts] == ["READ", "ERASED", "ERASURE_BEGAN", "EXPORTED", "READ"]
    assert acts[0]["subject"] == "audit"
    assert acts[0]["detail"]["query"] == f"actor={admin.user}"
    assert [it["subject"] for it in acts[1:4]] == [bob, bob, bob]
    following = ok(admin.get("/v1/admin/audit", params={"conversation": made, "after": 0, "limit": 1}))
    assert [it["action"] for it in following["acts"]] == ["CREATED"]
    params = {"conversation": made, "after": following["nextCursor"]}
    assert [it["action"] for it in ok(admin.get("/v1/admin/audit", params=params))["acts"]] == ["REMOVED"]


def test_wrong_requests_are_refused_and_leave_no_erasure(world: World) -> None:
    admin = administrator(world)
    refused(admin.post("/v1/admin/users/a%7Cb/erase", json={"bodies": "erase"}), "BAD_REQUEST")
    refused(admin.post("/v1/admin/users/ann/erase", json={"bodies": "some"}), "BAD_REQUEST")
    refused(admin.get("/v1/admin/users/a%7Cb/export"), "BAD_REQUEST")
    refused(admin.get("/v1/admin/audit", params={"user": "a|b"}), "BAD_REQUEST")
    refused(admin.get("/v1/admin/audit", params={"limit": "none"}), "BAD_REQUEST")
    refused(admin.get("/v1/admin/audit", params={"action": "\0"}), "BAD_REQUEST")
    plain = world.api(world.user())
    refused(plain.post("/v1/admin/users/ann/erase", json={"bodies": "erase"}), "NOT_FOUND")


async def test_devices_of_the_sdk_converge(world: World, tmp_path: Path) -> None:
    """One is online, one comes back with what it held, and one is new."""
    alice, bob = world.users(2)
    made = world.group(alice, bob)
    held = tmp_path / "pad.db"
    async with phone(world.http_url, alice) as online:
        bobs = Peer(world.ws_url)
        bobs.hello(token(bob, "phone"), "phone")
        async with phone(world.http_url, alice, "pad", store=held) as pad:
            for number in range(5):
                bobs.say(made, f"canary {number}")
            await pad.until(lambda it: len(it.received(made)) >= 5)
        bobs.close()
        before = (await online.log(made))[-1]
        ok(administrator(world).post(f"/v1/admin/users/{bob}/erase", json={"bodies": "erase"}))
        head = before[0] + 1 + 5
        await online.until(lambda it: it.recalls == 5)
        logs: list[list[Row]] = [await online.log(made)]
        async with phone(world.http_url, alice, "pad", store=held) as pad:
            await pad.until(lambda it: it.recalls == 5)
            logs.append(await pad.log(made))
        async with phone(world.http_url, alice, "new") as new:
            logs.append(await new.log(made))

    assert logs[0] == logs[1] == logs[2]
    assert len(logs[0]) == head
    assert not [row for row in logs[0] if row[2] is not None]


def _erase(world: World, user: str) -> None:
    """Ask for it, and be cut off."""
    with suppress(httpx.HTTPError):
        administrator(world).post(f"/v1/admin/users/{user}/erase", json={"bodies": "erase"})


def test_a_server_that_was_killed_goes_on_with_it(own_server: ServerProcess) -> None:
    before = World(own_server.http_url, own_server.ws_url)
    alice, bob = before.users(2)
    made = before.group(alice, bob)
    bobs = before.peer(bob)
    for number in range(20):
        bobs.say(made, f"canary {number}")
    asking = threading.Thread(target=_erase, args=(before, bob))
    asking.start()
    assert bobs.close_code() == 4202  # it has begun, and waits a moment before anything else
    own_server.kill()
    asking.join()
    own_server.start()
    after = World(own_server.http_url, own_server.ws_url)
    admin, wanted = administrator(after), {"user": bob, "action": "ERASED"}
    until = time.monotonic() + 60
    while not (acts := ok(admin.get("/v1/admin/audit", params=wanted))["acts"]):
        assert time.monotonic() < until, "nobody goes on with it"
    assert (len(acts), acts[0]["actorId"][:4]) == (1, "adm-")
    written = [it["payload"] for it in after.api(alice).log(made) if it["senderId"] == bob]
    assert [it for it in written if it["type"] not in ("RECALL", "MEMBER")] == [RECALLED] * 20
    after.close()
    before.close()
