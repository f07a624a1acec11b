"""SIGKILL in the middle of senders at full speed, ten times; `make soak` does it many times under two loads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from .careful import FIRST, RECALLED, CarefulClient, Facts
from .cells import MakeServer
from .kill_harness import CAREFUL, LIGHT, Attempts, Harness, Row, Totals
from .peer import Event
from .server_process import ServerProcess
from .world import World

ROUNDS = 5
SEEDS = (20261123, 20261124)
"""One log each, at the same time: most of a round is the start of a server."""


def kills(server: ServerProcess, seed: int) -> Totals:
    """All rounds on one log; each says how it went."""
    lines: list[str] = []
    totals = Harness(server, seed, lines.append, LIGHT).run(ROUNDS)
    assert len(lines) == ROUNDS + 1
    return totals


@pytest.mark.timeout(300)
def test_sigkill_under_load_ten_times(tmp_path: Path, make_server: MakeServer) -> None:
    folders = [tmp_path / str(seed) for seed in SEEDS]
    for folder in folders:
        folder.mkdir()
    servers = [make_server(folder) for folder in folders]
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        under_way = [pool.submit(kills, *each) for each in zip(servers, SEEDS, strict=True)]
    for totals in (future.result() for future in under_way):
        assert totals.rounds == ROUNDS
        assert totals.acked >= ROUNDS * LIGHT.acks[0]
        assert totals.sent > totals.acked, "every kill hit messages in flight"
        assert totals.careful >= ROUNDS * CAREFUL * FIRST


def one_round(folder: Path) -> tuple[Harness, Attempts, list[Row]]:
    """A harness, five attempts of which three were acknowledged, and the log that agrees with them."""
    harness = Harness(ServerProcess(folder), seed=1)
    harness.conversations = ["c"]
    keys = [("c", "s", f"k{number}") for number in range(5)]
    rows = [(1, "m1", "")] + [(2 + number, f"m{2 + number}", f"k{number}") for number in range(4)]
    acks = {
        key: Event({"seq": row[0], "messageId": row[1]}, b"")
        for key, row in zip(keys[:3], rows[1:], strict=False)
    }
    return harness, Attempts(keys, acks), rows


def test_the_check_passes_what_is_right(tmp_path: Path) -> None:
    harness, attempts, rows = one_round(tmp_path)
    harness.check_logs({"c": rows})
    assert harness.check_attempts(attempts, {"c": rows}) == 1


SPOILT: dict[str, Callable[[list[Row]], list[Row]]] = {
    "acknowledged one lost": lambda rows: [*rows[:3], (4, "m9", "k3")],
    "log ends too early": lambda rows: rows[:2],
    "hole": lambda rows: [*rows[:2], *rows[3:]],
    "stored twice": lambda rows: [*rows, (6, "m6", "k1")],
    "messageId twice": lambda rows: [*rows[:4], (5, "m2", "k3")],
    "seq twice": lambda rows: [*rows[:4], (4, "m5", "k3")],
    "nobody sent it": lambda rows: [*rows, (6, "m6", "ghost")],
    "another messageId": lambda rows: [*rows[:2], (3, "other", "k1"), *rows[3:]],
    "two swapped": lambda rows: [*rows[:2], (3, "m3", "k2"), (4, "m4", "k1"), rows[4]],
    "later overtook lost": lambda rows: [*rows[:4], (5, "m5", "k4")],
}


@pytest.mark.parametrize("name", SPOILT)
def test_the_check_finds_what_is_wrong(tmp_path: Path, name: str) -> None:
    harness, attempts, rows = one_round(tmp_path)
    spoilt = {"c": SPOILT[name](rows)}
    with pytest.raises(AssertionError):
        check(harness, attempts, spoilt)


def check(harness: Harness, attempts: Attempts, logs: dict[str, list[Row]]) -> None:
    harness.check_logs(logs)
    harness.check_attempts(attempts, logs)


def test_the_check_finds_an_old_row_that_changed(tmp_path: Path) -> None:
    harness, _, rows = one_round(tmp_path)
    harness.stored = {"c": rows}
    with pytest.raises(AssertionError):
        harness.check_logs({"c": [*rows[:2], (3, "m3", "changed"), *rows[3:]]})
    with pytest.raises(AssertionError):
        harness.check_logs({"c": rows[:-1]})


def careful_client(world: World, requests: int = 30) -> CarefulClient:
    """One that has done this much, every kind of request among it."""
    client = CarefulClient("a seed")
    client.create(world)
    for _ in range(requests):
        client.cut = client.next_request()
        client.finish(world)
    return client


def test_the_careful_check_passes_what_is_right(world: World) -> None:
    client = careful_client(world)
    kinds = {str(payload.get("op", payload["type"])) for payload in client.facts.payloads}
    assert kinds == {"CREATED", "TEXT", "RECALLED", "RECALL", "ADDED", "REMOVED"}
    assert client.facts.read and client.facts.confirmed
    before = client.facts
    client.cut = client.next_request()
    client.check(world)
    assert client.facts != before, "what was cut was done again"


UNTRUE: dict[str, Callable[[Facts, set[str]], Facts]] = {
    "21 entries, acknowledged 22": lambda facts, _: facts.appended({"type": "TEXT", "text": "never said"}),
    "21 entries, acknowledged 20": lambda facts, _: replace(facts, payloads=facts.payloads[:-1]),
    "is .*RECALLED.*, acknowledged": lambda facts, _: replace(
        facts, payloads=tuple({"type": "TEXT"} if it == RECALLED else it for it in facts.payloads)
    ),
    "members .*, acknowledged": lambda facts, _: replace(facts, members=facts.members | {"somebody"}),
    "read .*, acknowledged": lambda facts, _: replace(facts, read=facts.read + 1),
    "confirmed .*, acknowledged": lambda facts, said: replace(facts, confirmed=facts.confirmed | said),
}


@pytest.mark.parametrize("finding", UNTRUE)
def test_the_careful_check_finds_what_is_wrong(world: World, finding: str) -> None:
    client = careful_client(world)
    client.facts = UNTRUE[finding](client.facts, set(client.recent))
    with pytest.raises(AssertionError, match=finding):
        client.check(world)


def test_cursors_members_and_recalls_survive_a_sigkill(own_server: ServerProcess) -> None:
    before = World(own_server.http_url, own_server.ws_url)
    alice, bob, carol = before.users(3)
    made = before.group(alice, bob)
    alices = before.peer(alice)
    acks = [alices.say(made, f"canary-{number}", f"k{number}") for number in range(4)]
    assert before.api(bob).post(f"/v1/conversations/{made}/read", params={"upToSeq": 4}).status_code == 200
    assert before.api(bob, "pad").post(f"/v1/messages/{acks[3]['messageId']}/delivered").status_code == 204
    assert before.api(alice).post(f"/v1/messages/{acks[1]['messageId']}/recall").status_code == 200
    assert before.add(alice, made, carol).status_code == 200
    facts = [before.api(user).log(made) for user in (alice, bob, carol)]
    rows = [before.api(user).row(made) for user in (alice, bob, carol)]
    states = [before.api(alice).status(ack["messageId"]) for ack in acks]
    own_server.kill()
    before.close()
    own_server.start()
    after = World(own_server.http_url, own_server.ws_url)
    assert [after.api(user).log(made) for user in (alice, bob, carol)] == facts
    assert [after.api(user).row(made) for user in (alice, bob, carol)] == rows
    assert [after.api(alice).status(ack["messageId"]) for ack in acks] == states
    assert facts[0][2]["payload"] == {"type": "RECALLED"}
    after.close()
