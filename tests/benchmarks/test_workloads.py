"""The works of the table, small, on a real server: each message comes to everybody it is for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from benchmarks.measured import Talker
from benchmarks.node import Node, node
from benchmarks.rivals.servers import SocketioTalker
from benchmarks.talker import ConfirmingTalker
from benchmarks.tree import CannotMeasureError
from benchmarks.wire_client import WireClient
from benchmarks.workloads import AT_ONCE, Group, Pairs, Turns, idle


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    with node() as running:
        yield running


def test_pairs_talk_at_full_speed(server: Node) -> None:
    pairs = Pairs(server, 2, 4, "p")
    found = asyncio.run(pairs.run(0.05, 0.2))
    assert found["messages_per_s"] > 0
    assert 0 < pairs.reads <= pairs.delivered
    assert len(pairs.waits_ms) <= pairs.acked
    assert set(found["layers_us"]) == {
        "loop_user",
        "loop_kernel",
        "threads_user",
        "threads_kernel",
        "database",
    }


async def test_a_later_load_on_the_same_conversations_sends_new_messages() -> None:
    keys: list[str] = []
    for _ in range(2):
        talker = ConfirmingTalker(Heard())
        talker.client = WireClient(talker.heard)
        talker.client.send = lambda events: keys.extend(it["clientMsgId"] for it in events)  # type: ignore[method-assign]
        talker.send("c", 3)
    assert len(set(keys)) == 6


def test_conversations_that_are_there_are_written_to(server: Node) -> None:
    server.create("again", "SINGLE", ["again-a", "again-b"])
    pairs = Pairs(server, 1, 4, "", existing=[("again", "again-a", "again-b")])
    asyncio.run(pairs.run(0.05, 0.1))
    assert 0 < pairs.delivered <= pairs.acked + 4


def test_a_load_whose_server_ends_is_told_so() -> None:
    async def load(running: Node) -> None:
        pairs = Pairs(running, 2, 4, "p")
        pairs.on_delivered = lambda *_: running.process.kill()  # type: ignore[method-assign]
        await pairs.run(0.2, 0.3)

    with node() as running, pytest.raises(CannotMeasureError, match="the server closed a connection"):
        asyncio.run(load(running))


def test_a_load_that_is_refused_is_told_so(server: Node) -> None:
    pairs = Pairs(server, 1, 4, "", existing=[("no-such", "ann", "ben")])
    with pytest.raises(CannotMeasureError, match="the server refused"):
        asyncio.run(pairs.run(0.1, 0.1))


def test_every_member_of_a_group_hears_every_message(server: Node) -> None:
    group = Group(server, 5, "g")
    asyncio.run(group.run(20, 4))
    assert (group.acked, group.delivered) == (1 + 20, 4 * (1 + 20))


def test_the_last_member_of_a_group_is_waited_for(server: Node) -> None:
    group = Group(server, 5, "paced")
    found = asyncio.run(group.run_paced(5, 0.001))
    assert 0 < found["last_member_ms_p50"] <= found["last_member_ms_p99"]
    assert group.delivered == 4 * (1 + 5)


def test_all_write_in_turn(server: Node) -> None:
    for number in range(4):
        server.create(f"t{number}", "SINGLE", [f"ta{number}", f"tb{number}"])
    turns = Turns(
        server, {f"t{it}": f"ta{it}" for it in range(4)}, [f"tb{it}" for it in range(4)], in_flight=2
    )
    found = asyncio.run(turns.run(0.05, 0.2))
    assert found["connections"] == 8
    assert found["messages_per_s"] > 0


def test_idle_connections_are_counted_beside_those_that_warm_up(
    server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, users = server.connect, list[str]()

    async def noted(user_id: str, *more: Any) -> Talker:
        users.append(user_id)
        return await connect(user_id, *more)

    monkeypatch.setattr(server, "connect", noted)
    memory = iter([1_000, 1_600])
    monkeypatch.setattr(server, "pss_kib", lambda: next(memory))
    assert asyncio.run(idle(server, 60)) == {"kib_per_idle_connection": 10.0}
    assert len(users) == len(set(users)) == AT_ONCE + 60


class Heard:
    """What a talker says that it heard."""

    def __init__(self) -> None:
        self.acked: list[tuple[str, int]] = []
        self.delivered = 0

    def on_acked(self, talker: Talker, conversation_id: str, waits_ms: list[float]) -> None:
        self.acked.append((conversation_id, len(waits_ms)))

    def on_delivered(self, talker: Talker, count: int) -> None:
        self.delivered += count


async def test_a_talker_of_socketio_speaks_as_its_protocol_says() -> None:
    heard, written = Heard(), list[bytes]()
    talker = SocketioTalker({"user": "ann"}, {"c": "user:ben"}, heard)
    talker.write = lambda *texts: written.extend(texts)  # type: ignore[method-assign] -- it is not connected

    talker.received([b'0{"sid":"x"}', b'40{"sid":"y"}', b"2"])
    assert talker.let_in.done()
    assert written == [b'40{"user": "ann"}', b"3"]
    written.clear()

    talker.send("c", 2)
    assert [it[:3] for it in written] == [b"420", b"421"]
    event, room, text, offset = json.loads(written[0][3:])
    assert (event, room, len(text)) == ("send", "user:ben", 100)
    assert offset != json.loads(written[1][3:])[3]

    talker.received([b"431[8]", b'42["message","user:ann","ben","hi",9]', b"430[7]", b'42["caught-up",1]'])
    assert (heard.acked, heard.delivered) == ([("c", 2)], 1)
    assert talker.caught_up.done()

    refused = SocketioTalker({"user": "eve"}, {}, heard)
    refused.received([b'44{"message":"unauthorized"}'])
    with pytest.raises(ConnectionError, match="unauthorized"):
        await refused.let_in
