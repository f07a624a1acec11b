"""Another log under the same name: nothing of the old one may reach the new one."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit.client.events import CaughtUp, EpochChanged, MessageReceived
from chatkit.client.store.memory import MemoryStore
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, client, entry, head, new, recall, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def test_a_page_of_the_old_log_that_is_under_way_is_dropped(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(5, delivered=3))
        sync = await line.expect(ev.Sync)
        line.push(ev.Heads([head(2, epoch="e2")], False))
        old = [entry(new(4)), entry(new(5))]
        line.push(ev.SyncPage("c-1", EPOCH, 5, old, 5, False, ref=sync.ref))
        again = await line.page(new(1, epoch="e2"), new(2, epoch="e2"), up_to=2, epoch="e2")

        assert (again.last_seq, again.epoch) == (0, "e2")
        assert (await until(chat, EpochChanged))[0].epoch == "e2"
        shown = [(await until(chat, MessageReceived))[0].message.seq for _ in range(2)]
        assert shown == [1, 2]
        await anyio.sleep(1)
        assert (chat.conversations["c-1"].head_seq, chat.conversations["c-1"].epoch) == (2, "e2")


async def test_a_recall_in_the_old_log_blanks_nothing_in_the_new_one(server: FakeServer) -> None:
    store = MemoryStore(messages_max=2)
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(3, delivered=3))
        await until(chat, CaughtUp)
        line.push(recall(4, 1))
        await line.expect(ev.DeliveredAck)
        line.close(1006)
        line = await server.accept()
        await line.log_in(head(5, epoch="e2"))
        await line.page(*(new(seq, epoch="e2") for seq in range(1, 6)), up_to=5, epoch="e2")
        await line.expect(ev.DeliveredAck)

        read = list[tuple[int, str]]()
        async with anyio.create_task_group() as group:
            group.start_soon(_read, chat, read)
            while not read:
                await anyio.sleep(0.01)
                if any(isinstance(event, ev.Sync) for event in line.received):
                    older = (new(seq, epoch="e2") for seq in range(1, 4))
                    await line.page(*older, up_to=3, head=5, epoch="e2")
        assert read == [(seq, "TEXT") for seq in range(1, 6)]


async def _read(chat: Any, into: list[tuple[int, str]]) -> None:
    into.extend((message.seq, message.type) for message in await chat.history("c-1"))
