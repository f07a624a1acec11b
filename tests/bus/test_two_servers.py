"""Two chat servers on one log, joined by a real bus: what is sent at one reaches who is online at the other."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit import ConfigurationError, open_bus
from chatkit.bus._remote import RemoteMember
from tests.server.harness import HarnessServer, Peer, group, login, text
from tests.server.nodes import SharedStore, make_store, node, seqs
from tests.servers.nats import nats_process
from tests.servers.process import ServerProcess, running
from tests.servers.redis import redis_process

from .remote import WAIT_S, anyio_backend, nothing_left, until

__all__ = ["anyio_backend"]

NEVER_S = 3_600.0
SOON_S = 0.2

Make = Callable[[Path], ServerProcess]


@pytest.fixture(params=[("nats", nats_process), ("redis", redis_process)], ids=["nats", "redis"])
def bus_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ServerProcess]]:
    """The scheme, and a server of the test's own."""
    scheme, make = request.param
    with running(make(tmp_path)) as server:
        yield scheme, server


@asynccontextmanager
async def two_servers(
    bus_server: tuple[str, ServerProcess], **config: Any
) -> AsyncIterator[tuple[HarnessServer, HarnessServer]]:
    scheme, process = bus_server
    store = SharedStore(make_store("memory"))

    def joined() -> HarnessServer:
        member = open_bus(f"{scheme}://127.0.0.1:{process.port}?prefix=shop")
        assert isinstance(member, RemoteMember)
        return node(store, member, **config)

    async with nothing_left():
        async with joined() as a, joined() as b:
            yield a, b
        await store.inner.aclose()


def bus_of(server: HarnessServer) -> RemoteMember:
    assert isinstance(server._bus, RemoteMember)
    return server._bus


async def talk(speaker: Peer, hearer: Peer, conversation: str) -> list[dict[str, Any]]:
    """Send until something is heard: a subscription takes effect soon after a login, not at once."""
    heard: list[dict[str, Any]] = []
    with anyio.fail_after(WAIT_S):
        for number in itertools.count():
            speaker.say(text(conversation, f"talk{number}"))
            await speaker.hear("MSG_ACK")
            await anyio.sleep(0.01)
            heard += hearer.read()
            if seqs(heard, conversation):
                break
    return heard


async def test_a_message_is_pushed_to_who_is_online_at_the_other_server(
    bus_server: tuple[str, ServerProcess],
) -> None:
    """By the bus: neither server compares anything with the log by itself."""
    async with two_servers(bus_server, heads_check_s=NEVER_S) as (a, b):
        conversation = await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        await talk(ann, ben, conversation)
        ann.say(text(conversation, "k1"))
        (ack,) = await ann.hear("MSG_ACK")
        (pushed,) = await ben.hear("NEW_MSG")
        ben.say(text(conversation, "k2", "hello back"))
        (back,) = await ann.hear("NEW_MSG")
        ben.say({"event": "TYPING", "conversationId": conversation})
        await ann.hear("TYPING")

        assert (pushed["seq"], pushed["senderId"]) == (ack["seq"], "ann")
        assert (back["seq"], back["payload"]["text"]) == (ack["seq"] + 1, "hello back")


async def test_many_messages_from_both_arrive_in_order(bus_server: tuple[str, ServerProcess]) -> None:
    async with two_servers(bus_server, heads_check_s=SOON_S) as (a, b):
        conversation = await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        watch_a, watch_b = await login(a, "ann", "tablet"), await login(b, "ben", "tablet")
        for number in range(200):
            ann.say(text(conversation, f"a{number}"))
            ben.say(text(conversation, f"b{number}"))
        heard: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}

        def everything() -> bool:
            heard["a"] += watch_a.read()
            heard["b"] += watch_b.read()
            return all(len(seqs(events, conversation)) >= 400 for events in heard.values())

        await until(everything)
        assert seqs(heard["a"], conversation) == seqs(heard["b"], conversation) == list(range(2, 402))


async def test_what_the_bus_loses_arrives_all_the_same(bus_server: tuple[str, ServerProcess]) -> None:
    """The bus is gone: messages come with the next look at the log; it comes back, and they come by it again."""
    _, process = bus_server
    async with two_servers(bus_server, heads_check_s=SOON_S) as (a, b):
        conversation = await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        process.kill()
        await until(lambda: not bus_of(a).connected and not bus_of(b).connected)
        for number in range(3):
            ann.say(text(conversation, f"k{number}"))
            await ann.hear("MSG_ACK")
        lost = await ben.hear("NEW_MSG", "NEW_MSG", "NEW_MSG")
        process.start()
        await until(lambda: bus_of(a).connected and bus_of(b).connected)
        ann.say(text(conversation, "later"))
        (later,) = await ben.hear("NEW_MSG")

        assert [event["seq"] for event in [*lost, later]] == [2, 3, 4, 5]


async def test_after_the_bus_was_gone_everything_is_looked_at(bus_server: tuple[str, ServerProcess]) -> None:
    """`Lost` is enough: no look at the log comes by itself."""
    _, process = bus_server
    async with two_servers(bus_server, heads_check_s=NEVER_S) as (a, b):
        conversation = await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        process.kill()
        await until(lambda: not bus_of(a).connected and not bus_of(b).connected)
        ann.say(text(conversation, "k1"))
        await ann.hear("MSG_ACK")
        assert seqs(ben.read(), conversation) == []
        process.start()
        (late,) = await ben.hear("NEW_MSG")

        assert late["seq"] == 2


async def test_another_logs_servers_on_the_same_bus_are_not_heard(
    bus_server: tuple[str, ServerProcess],
) -> None:
    """By their prefix: a conversation of the same id with the same next seq would be shown otherwise."""
    scheme, process = bus_server
    async with two_servers(bus_server, heads_check_s=NEVER_S) as (a, b):
        other_bus = open_bus(f"{scheme}://127.0.0.1:{process.port}")
        assert other_bus is not None
        async with node(SharedStore(make_store("memory")), other_bus) as other:
            for server in (a, other):
                await group(server, "ann", "ben", conversation_id="general")
            ben, eve = await login(b, "ben"), await login(other, "ann")
            eve.say(text("general", "k1", "not for ben"))
            await eve.hear("MSG_ACK")
            heard = await talk(await login(a, "ann"), ben, "general")

            assert {it["payload"]["text"] for it in heard if it["event"] == "NEW_MSG"} == {"hello"}


async def test_a_server_does_not_start_without_its_bus(bus_server: tuple[str, ServerProcess]) -> None:
    scheme, process = bus_server
    process.kill()
    async with nothing_left():
        store = make_store("memory")
        server = node(SharedStore(store), open_bus(f"{scheme}://127.0.0.1:{process.port}"))  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="cannot be reached"):
            async with server:
                pass
        await store.aclose()
    process.start()


async def test_alone_is_no_bus() -> None:
    assert open_bus("local://") is None
