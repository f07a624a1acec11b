"""Presence on a real server that has it switched on by its settings, and on one that has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server_process import ServerProcess
from .world import World, ok, refused


@pytest.fixture
def social(tmp_path: Path) -> Iterator[World]:
    """A world whose server tells contacts of each other."""
    process = ServerProcess(tmp_path, "--set", "presence=true")
    process.start()
    made = World(process.http_url, process.ws_url)
    try:
        yield made
    finally:
        made.close()
        process.stop()


def test_contacts_see_each_other_come_and_go_away(social: World) -> None:
    ann, ben, eve = social.users(3)
    social.group(ann, ben)
    anns, eves = social.peer(ann), social.peer(eve)
    bens = social.peer(ben, codec="msgpack")
    pushed = anns.expect("PRESENCE", userId=ben)
    assert pushed == {"event": "PRESENCE", "userId": ben, "state": "ONLINE"}
    bens.send({"event": "PRESENCE", "state": "AWAY"})
    anns.expect("PRESENCE", userId=ben, state="AWAY")

    asked = {"users": f"{ben},{eve},{ann}"}
    found = ok(social.api(ann).get("/v1/presence", params=asked))
    assert found == {"presence": [{"userId": ben, "state": "AWAY", "lastSeenTs": None}]}
    assert ok(social.api(eve).get("/v1/presence", params=asked)) == {"presence": []}
    eves.ping()
    assert not eves.seen("PRESENCE")


def test_where_nobody_switched_it_on_it_is_forbidden(world: World) -> None:
    ann, ben = world.users(2)
    world.group(ann, ben)
    phone = world.peer(ann)
    phone.send({"event": "PRESENCE", "state": "AWAY", "ref": "p"})
    assert phone.expect("ERROR", ref="p")["code"] == "FORBIDDEN"
    refused(world.api(ann).get("/v1/presence", params={"users": ben}), "FORBIDDEN")
