"""A server that runs the delivery worker, with sessions that confirm, read, and sleep with an open socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from chatkit.errors import ConfigurationError
from chatkit.ports import Ports
from chatkit.server.config import ServerConfig
from chatkit.server.delivery.config import DeliveryConfig
from chatkit.server.limits import Limits
from chatkit.server.proof import Proof
from chatkit.server.server import ChatServer
from chatkit.storage.base import Done
from chatkit.types import Identity
from tests.server.harness import GatedStore, HarnessServer, Peer, by_name, group, login, text

from .world import CLOCK, ScriptedProvider


@asynccontextmanager
async def serving(provider: ScriptedProvider, *, heartbeat_s: float = 1000.0) -> AsyncIterator[HarnessServer]:
    server = HarnessServer(
        store=GatedStore(),
        authenticate=by_name,
        config=ServerConfig(limits=Limits.unlimited(), heartbeat_s=heartbeat_s),
        ports=Ports(CLOCK),
        push={"scripted": provider},
        delivery=DeliveryConfig(push_after_s=5.0),
    )
    async with server:
        yield server


async def register(server: HarnessServer, user: str, device_id: str) -> None:
    proof = Proof(Identity(user), b"", 0)
    command = server.engine.register_push(
        proof, device_id, "scripted", f"{user}'s {device_id}", hide_body=False
    )
    await server.engine.execute(command, Done)


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider()


async def asleep(server: HarnessServer) -> tuple[Peer, Peer, str]:
    """ann, and bob's phone whose socket is open; from here on it says nothing by itself."""
    conversation_id = await group(server, "ann", "bob")
    ann, phone = await login(server, "ann"), await login(server, "bob")
    await register(server, "bob", "phone")
    await register(server, "ann", "phone")
    for peer in (ann, phone):
        peer.say({"event": "DELIVERED_ACK", "conversationId": conversation_id, "upToSeq": 1})
    return ann, phone, conversation_id


async def test_a_phone_that_sleeps_with_an_open_socket_is_pushed_to(provider: ScriptedProvider) -> None:
    async with serving(provider) as server:
        ann, phone, conversation_id = await asleep(server)
        ann.say(text(conversation_id, "k"))
        await phone.hear("NEW_MSG")
        await anyio.sleep(20)

    assert [(push.token, push.body) for _, push in provider.sent] == [("bob's phone", "ann: hello")]


async def test_a_phone_that_confirms_is_not(provider: ScriptedProvider) -> None:
    async with serving(provider) as server:
        ann, phone, conversation_id = await asleep(server)
        ann.say(text(conversation_id, "k"))
        await phone.hear("NEW_MSG")
        phone.say({"event": "DELIVERED_ACK", "conversationId": conversation_id, "upToSeq": 2})
        await anyio.sleep(20)

    assert provider.sent == []


async def test_reading_elsewhere_cancels_the_push(provider: ScriptedProvider) -> None:
    async with serving(provider) as server:
        ann, _, conversation_id = await asleep(server)
        laptop = await login(server, "bob", "laptop")
        ann.say(text(conversation_id, "k"))
        await laptop.hear("NEW_MSG")
        await anyio.sleep(4)
        laptop.say({"event": "READ", "conversationId": conversation_id, "upToSeq": 2})
        await anyio.sleep(60)

    assert provider.sent == []


async def test_a_confirmation_by_another_device_does_not(provider: ScriptedProvider) -> None:
    """A laptop that nobody sits at confirms by itself: the phone is pushed to all the same."""
    async with serving(provider) as server:
        ann, _, conversation_id = await asleep(server)
        laptop = await login(server, "bob", "laptop")
        ann.say(text(conversation_id, "k"))
        await laptop.hear("NEW_MSG")
        laptop.say({"event": "DELIVERED_ACK", "conversationId": conversation_id, "upToSeq": 2})
        await anyio.sleep(60)

    assert [push.token for _, push in provider.sent] == ["bob's phone"]


async def test_a_recalled_body_is_in_no_push(provider: ScriptedProvider) -> None:
    async with serving(provider) as server:
        ann, _, conversation_id = await asleep(server)
        ann.say(text(conversation_id, "k", "secret"))
        (ack,) = await ann.hear("MSG_ACK")
        await anyio.sleep(4)
        ann.say({"event": "RECALL", "messageId": ack["messageId"]})
        await anyio.sleep(60)

    assert "secret" not in str(provider.shown())
    assert provider.sent == []


async def test_a_server_without_providers_runs_no_worker() -> None:
    async with HarnessServer(store=GatedStore(), authenticate=by_name, ports=Ports(CLOCK)) as server:
        await group(server, "ann", "bob")
        await anyio.sleep(60)
        assert (await server.store.deliveries.lag()).waiting == 1


def test_providers_must_be_some() -> None:
    wrong: Sequence[object] = ([], {"log": None}, "log")
    for push in wrong:
        with pytest.raises(ConfigurationError):
            ChatServer(store=GatedStore(), authenticate=by_name, push=push)  # type: ignore[arg-type]
