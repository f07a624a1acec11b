"""Every read that somebody outside asks for waits for its turn, so that nobody holds all readers of the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

from chatkit import asgi_app
from chatkit.core.rate_limit import Rate
from chatkit.server.limits import Limits
from chatkit.storage.base import KeptLogin
from chatkit.types import Identity

from .harness import GatedStore, HarnessServer, Peer, group, login, serving

READS = [
    "/v1/blocks",
    "/v1/conversations",
    "/v1/conversations/g-1",
    "/v1/conversations/g-1/members",
    "/v1/conversations/g-1/receipts",
    "/v1/conversations/g-1/messages",
    "/v1/sync?conversationId=g-1&lastSeq=0",
]


class CountingStore(GatedStore):
    """Notes which reads are made, and holds look-ups of resume tokens back until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []
        self.looking_up = 0
        self.most_at_once = 0
        self.go_on = anyio.Event()

    def __getattribute__(self, name: str) -> Any:
        if name in ("conversation", "resume_hashes"):
            self.noted.append(name)
        return super().__getattribute__(name)

    async def kept_login(self, token_hash: bytes) -> KeptLogin | None:
        self.looking_up += 1
        self.most_at_once = max(self.most_at_once, self.looking_up)
        await self.go_on.wait()
        self.looking_up -= 1
        return await super().kept_login(token_hash)


def one_at_once() -> Limits:
    return Limits(reads_in_flight_per_user=1, new_devices_per_user=Rate(1, 9))


async def waits(server: HarnessServer, ask: Callable[[], Awaitable[Any]]) -> bool:
    """Whether something of ann's waits for as long as her only turn is taken, and is done then."""
    done = anyio.Event()

    async def asking() -> None:
        await ask()
        done.set()

    async with anyio.create_task_group() as tasks:
        async with server.reads.turn("ann"):
            tasks.start_soon(asking)
            await anyio.wait_all_tasks_blocked()
            waited = not done.is_set()
        with anyio.fail_after(5):
            await done.wait()
    return waited


@pytest.mark.parametrize("path", READS)
async def test_a_request_that_reads_waits_for_its_turn(path: str) -> None:
    async with serving(limits=one_at_once()) as server:
        await group(server, "ann", "ben")
        transport = httpx.ASGITransport(asgi_app(server))
        headers = {"Authorization": "Bearer ann"}
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as http:

            async def ask() -> None:
                assert (await http.get(path)).status_code == 200

            assert await waits(server, ask)


async def test_the_look_up_of_an_unknown_conversation_waits_for_its_turn() -> None:
    store = CountingStore()
    async with serving(store, limits=one_at_once()) as server:
        ann = await login(server, "ann")
        store.noted.clear()
        async with server.reads.turn("ann"):
            ann.say({"event": "SYNC", "conversationId": "nowhere", "lastSeq": 0})
            await anyio.wait_all_tasks_blocked()
            assert store.noted == []
        (error,) = await ann.hear("ERROR")

    assert error["code"] == "NOT_FOUND"


async def test_the_look_up_of_a_device_waits_for_its_turn() -> None:
    store = CountingStore()
    async with serving(store, limits=one_at_once()) as server:
        peer = Peer(server)
        async with server.reads.turn("ann"):
            peer.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
            await anyio.wait_all_tasks_blocked()
            assert store.noted == []
        await peer.hear("WELCOME", "HEADS")


async def test_resume_tokens_are_looked_up_two_at_a_time() -> None:
    async def still_holds(identity: Identity) -> Identity:
        return identity

    store = CountingStore()
    async with serving(store, authorize_resume=still_holds) as server:
        strangers = [Peer(server) for _ in range(9)]
        for number, peer in enumerate(strangers):
            peer.say({"event": "HELLO", "resumeToken": f"guess-{number}", "deviceId": "phone"})
        await anyio.wait_all_tasks_blocked()
        store.go_on.set()
        codes = [await peer.closed() for peer in strangers]

    assert codes == [4101] * 9
    assert store.most_at_once == 2
