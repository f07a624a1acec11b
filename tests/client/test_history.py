"""history(): the newest entries also while the client is behind, and never a body that was recalled meanwhile."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.conversation import Conversations
from chatkit.client.events import CaughtUp, MessageReceived
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import ClosedError, DeadlineExceededError, NotFoundError
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, Line, client, entry, head, new, recall, until, welcome


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


class Reading:
    """A history call in the background."""

    def __init__(self, group: Any, chat: Any, **options: Any) -> None:
        self.seqs: list[int] | None = None
        self.types: list[str] = []
        group.start_soon(self._run, chat, options)

    async def _run(self, chat: Any, options: dict[str, Any]) -> None:
        messages = await chat.history("c-1", **options)
        self.types = [message.type for message in messages]
        self.seqs = [message.seq for message in messages]


def answer(line: Line, sync: ev.Sync, head_seq: int, hidden: set[int] | None = None) -> None:
    limit = sync.limit if isinstance(sync.limit, int) else 200
    seqs = [seq for seq in range(sync.last_seq + 1, head_seq + 1) if seq not in (hidden or set())]
    up_to = seqs[limit - 1] if len(seqs) > limit else head_seq
    entries = [entry(new(seq)) for seq in seqs[:limit]]
    line.push(ev.SyncPage("c-1", EPOCH, head_seq, entries, up_to, up_to < head_seq, ref=sync.ref))


async def serve(line: Line, head_seq: int, hidden: set[int] | None = None) -> None:
    while True:
        event = await line._next()
        if isinstance(event, ev.Sync):
            answer(line, event, head_seq, hidden)


async def test_what_is_held_is_read_without_asking_anybody(server: FakeServer) -> None:
    async with client(server, store=MemoryStore()) as chat:
        with pytest.raises(NotFoundError):
            await chat.history("c-1", fetch=False)
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        for seq in (3, 4, 6):
            line.push(new(seq))
        await anyio.sleep(1)
        held = await chat.history("c-1", fetch=False)
        assert [message.seq for message in held] == [3, 4]  # 6 stands above a hole


async def test_an_app_that_takes_no_events_still_reads_the_newest(server: FakeServer) -> None:
    config = ClientConfig(events_max=5, events_low=2)
    store = MemoryStore()
    async with client(server, store=store, config=config) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        for seq in range(1, 21):
            line.push(new(seq))
        await anyio.sleep(5)
        group.start_soon(serve, line, 20)

        assert [message.seq for message in await chat.history("c-1")] == list(range(1, 21))
        assert [message.seq for message in await chat.history("c-1", limit=3)] == [18, 19, 20]
        assert [message.seq for message in await chat.history("c-1", before_seq=10, limit=2)] == [8, 9]
        assert (
            store.records()[0].prefix < 10
        )  # fetched for the answers alone: the events still show all of it
        shown = [(await until(chat, MessageReceived))[0].message.seq for _ in range(20)]
        assert shown == list(range(1, 21))
        group.cancel_scope.cancel()


async def test_the_newest_are_read_while_catching_up(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(100, delivered=10))
        under_way = await line.expect(ev.Sync)
        reading = Reading(group, chat, limit=3)
        await anyio.sleep(1)
        answer(line, under_way, 30)
        group.start_soon(serve, line, 100)
        await anyio.sleep(1)

        assert reading.seqs == [98, 99, 100]
        group.cancel_scope.cancel()


async def test_what_is_not_visible_above_the_prefix_leads_down_to_what_is_stored(server: FakeServer) -> None:
    config = ClientConfig(events_max=3, events_low=1)
    async with client(server, config=config) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(*(new(seq) for seq in range(1, 5)))
        await anyio.sleep(1)
        line.push(new(60))
        await anyio.sleep(1)
        group.start_soon(serve, line, 60, set(range(5, 60)))

        assert [message.seq for message in await chat.history("c-1", limit=4)] == [2, 3, 4, 60]
        group.cancel_scope.cancel()


async def test_offline_what_is_stored_is_read(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        line.push(new(1), new(2), new(9))
        await line.expect(ev.DeliveredAck)
        line.close(1006)
        await anyio.sleep(0.01)

        assert [message.seq for message in await chat.history("c-1", limit=5)] == [1, 2]


@pytest.mark.parametrize("known", [True, False])
async def test_a_conversation_that_is_not_known_yet_is_waited_for_without_asking_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    looks = 0
    get = Conversations.get

    def counted(self: Conversations, conversation_id: str) -> Any:
        nonlocal looks
        looks += 1
        return get(self, conversation_id)

    monkeypatch.setattr(Conversations, "get", counted)
    async with client(server, config=ClientConfig(gap_wait_s=0)) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        refused: list[NotFoundError] = []

        async def read() -> None:
            try:
                await chat.history("c-1", limit=1)
            except NotFoundError as error:
                refused.append(error)

        group.start_soon(read)
        hello = await line.expect(ev.Hello)
        line.push(welcome(hello.device_id))
        await anyio.sleep(5)
        assert (looks < 10, refused) == (True, [])
        line.push(ev.Heads([head(0)] if known else [], False))
        await anyio.sleep(0.1)

        assert len(refused) == (not known)


async def test_who_waits_for_a_conversation_hears_that_the_client_stopped(server: FakeServer) -> None:
    stopped: list[str] = []

    async def read(chat: Any) -> None:
        try:
            await chat.history("c-1", limit=1)
        except ClosedError:
            stopped.append("the reader")

    async def run() -> None:
        async with client(server) as chat, anyio.create_task_group() as group:
            line = await server.accept()
            hello = await line.expect(ev.Hello)
            line.push(welcome(hello.device_id))
            await anyio.sleep(0.1)
            group.start_soon(read, chat)
            await anyio.sleep(1)
            line.close(ev.CloseCode.PROTOCOL_ERROR)
            await anyio.sleep(1)
            assert stopped == ["the reader"]

    with pytest.raises(ClosedError):  # whoever leaves the client hears so too
        await run()


async def test_a_recall_while_a_page_is_under_way_wins(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(5, delivered=5))
        await until(chat, CaughtUp)
        reading = Reading(group, chat, limit=2)
        sync = await line.expect(ev.Sync)
        line.push(recall(6, 4))
        await line.expect(ev.DeliveredAck)
        line.push(ev.SyncPage("c-1", EPOCH, 5, [entry(new(4)), entry(new(5))], 5, False, ref=sync.ref))
        await anyio.sleep(0.1)

        assert (reading.seqs, reading.types) == ([4, 5], ["RECALLED", "TEXT"])


async def test_a_recall_blanks_the_store_while_the_app_takes_no_events(server: FakeServer) -> None:
    store = MemoryStore()
    config = ClientConfig(events_max=6, events_low=2)
    async with client(server, store=store, config=config):
        line = await server.accept()
        await line.log_in(head(0))
        for seq in range(1, 8):
            line.push(new(seq))
        await anyio.sleep(1)
        line.push(recall(20, 1))
        await anyio.sleep(0.1)

        assert store.messages("c-1", 2, 1)[0].payload == {"type": "RECALLED"}


@pytest.mark.parametrize("said_by", ["heads", "nobody"])
async def test_another_log_is_read_from_the_server_while_the_app_takes_no_events(
    server: FakeServer, said_by: str
) -> None:
    """Which of the two logs has what is found out only once the app has room for events."""
    asked: list[ev.Sync] = []
    async with (
        client(server, config=ClientConfig(events_max=3)) as chat,
        anyio.create_task_group() as group,
    ):
        line = await server.accept()
        await line.log_in(head(5))
        await line.page(*(new(seq) for seq in range(1, 6)), up_to=5)
        await anyio.sleep(1)
        line.push(recall(6, 3))
        await anyio.sleep(1)
        if said_by == "heads":
            line.close(1006)
            line = await server.accept()
            await line.log_in(head(8, epoch="e2"))
        await anyio.sleep(1)
        group.start_soon(serve_epochs, line, lambda: "e2", asked)

        read = await chat.history("c-1", limit=6)
        if said_by == "heads":
            read += await chat.history("c-1", before_seq=3, limit=1)
        group.cancel_scope.cancel()

    assert [(it.message_id, it.type) for it in read[:6]] == [(f"m-e2-{seq}", "TEXT") for seq in range(3, 9)]
    assert [it.message_id for it in read[6:]] == ["m-e2-2"] * (said_by == "heads")
    assert len(asked) <= 6


async def test_logs_that_never_stay_the_same_are_asked_for_ever_less_often(server: FakeServer) -> None:
    asked: list[ev.Sync] = []
    async with client(server, config=ClientConfig(events_max=3)) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(*(new(seq) for seq in range(1, 6)))
        await anyio.sleep(1)
        line.push(new(7))
        await anyio.sleep(1)
        group.start_soon(serve_epochs, line, lambda: f"e{len(asked) + 2}", asked)

        with pytest.raises(DeadlineExceededError):
            await chat.history("c-1", limit=5)
        group.cancel_scope.cancel()
    assert 6 < len(asked) < 40


async def serve_epochs(line: Line, epoch: Any, asked: list[ev.Sync]) -> None:
    """A log of 8 entries, whose epoch may be another one with each page."""
    while True:
        event = await line._next()
        if isinstance(event, ev.Sync):
            asked.append(event)
            assert len(asked) < 100, "asked in a tight loop"
            name, limit = epoch(), event.limit if isinstance(event.limit, int) else 200
            entries = [entry(new(seq, epoch=name)) for seq in range(event.last_seq + 1, 9)][:limit]
            up_to = event.last_seq + len(entries)
            line.push(ev.SyncPage("c-1", name, 8, entries, up_to, up_to < 8, ref=event.ref))
        elif isinstance(event, ev.Ping):
            line.push(ev.Pong(0))
