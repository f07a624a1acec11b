"""The list of conversations of a client: what is held, what is asked for, and what comes after it."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from msgspec.structs import replace

from chatkit import (
    BadRequestError,
    ChatApi,
    ChatClient,
    ConversationChanged,
    ConversationListChanged,
    ConversationSummary,
    EpochChanged,
    MessageReceived,
    ReceiptChanged,
)
from chatkit.client.events import CaughtUp, ChatEvent
from chatkit.errors import ConnectionLostError, ProtocolError
from chatkit.wire import events as ev

from .fake_server import FakeServer, Line, ack, client, head, new, recall, until
from .foretold import foretold_ports


def listed(head_: ev.Head, title: str = "", activity: int = 1, muted: int = 0) -> ev.Head:
    """A head as servers send it."""
    fields = {name: getattr(head_, name) for name in head_.__struct_fields__}
    return ev.Head(**{**fields, "title": title, "last_activity_ts": activity, "muted_until": muted})


def row(
    head_seq: int, *, id_: str = "c-1", read: int = 0, unread: int = 0, last: int | None = None, **more: Any
) -> dict[str, Any]:
    """A row of the server's list; `last` is the seq of the last message."""
    found = {
        "conversationId": id_,
        "type": "GROUP",
        "epoch": "e1",
        "headSeq": head_seq,
        "firstSeq": 1,
        "deliveredSeq": 0,
        "readSeq": read,
        "othersDeliveredSeq": 0,
        "othersReadSeq": 0,
        "title": "Tea",
        "unread": unread,
        "lastActivityTs": 1000 + head_seq,
        **more,
    }
    if last is not None:
        found["lastMessage"] = {
            "conversationId": id_,
            "epoch": "e1",
            "messageId": f"m-{last}",
            "seq": last,
            "senderId": "u-2",
            "serverTs": 1000 + last,
            "payload": {"type": "TEXT", "text": f"t{last}"},
        }
    return found


class Http:
    """The HTTP side of the fake server: answers in order, the last one again and again."""

    def __init__(self, chat: ChatClient, *answers: Any) -> None:
        self.requests: list[dict[str, str]] = []
        self._answers = deque(answers)
        self.meanwhile: Any = None
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        runtime = chat._entered_runtime()
        runtime.api = ChatApi(
            "http://chat.test", token="t", client=http, attempts_max=1, ports=foretold_ports()
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(dict(request.url.params))
        if self.meanwhile is not None:
            await self.meanwhile()
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        rows, cursor = answer
        return httpx.Response(200, json={"conversations": rows, "nextCursor": cursor})


def shown(conversations: list[ConversationSummary]) -> list[tuple[str, int, str | None]]:
    """Id, unread count and last message."""
    return [
        (
            it.conversation_id,
            it.unread,
            None if it.last_message is None else it.last_message.text or it.last_message.type,
        )
        for it in conversations
    ]


async def held(server: FakeServer, chat: ChatClient, *pushed: Any, heads: tuple[ev.Head, ...] = ()) -> Line:
    """A line whose client has everything that was pushed."""
    line = await server.accept()
    await line.log_in(*(heads or (listed(head(0)),)))
    await until(chat, CaughtUp)
    if pushed:
        line.push(*pushed)
        await anyio.sleep(1)
    return line


async def test_the_newest_activity_comes_first_with_its_last_message_and_what_is_unread() -> None:
    server = FakeServer()
    async with client(server) as chat:
        heads = tuple(listed(head(0, id_=id_), title=id_.upper()) for id_ in ("c-1", "c-2", "c-3"))
        await held(server, chat, new(1, id_="c-2"), new(2, id_="c-2"), new(1, id_="c-1"), heads=heads)

        found = await chat.conversations()
        assert shown(found) == [("c-2", 2, "t2"), ("c-1", 1, "t1"), ("c-3", 0, None)]
        assert found[0] == ConversationSummary("c-2", "GROUP", "C-2", 2, 0, 1002, found[0].last_message, 2, 0)
        assert shown(await chat.conversations(limit=1)) == [("c-2", 2, "t2")]


async def test_own_messages_what_was_read_and_what_the_server_wrote_are_not_unread() -> None:
    server = FakeServer()
    async with client(server) as chat:
        member = {"type": "MEMBER", "op": "ADDED", "userIds": ["u-3"]}
        custom = {"type": "CUSTOM", "schema": "poll", "data": 1, "fallbackText": "a poll"}
        line = await held(
            server, chat, new(1), new(2, sender="u-1"), new(3, payload=custom), new(4, payload=member)
        )
        assert shown(await chat.conversations()) == [("c-1", 2, "a poll")]

        await chat.mark_read("c-1", 1)
        assert shown(await chat.conversations()) == [("c-1", 1, "a poll")]
        line.push(ev.ReceiptPush("c-1", user_id="u-1", delivered_seq=4, read_seq=4))
        await until(chat, ReceiptChanged)
        assert shown(await chat.conversations()) == [("c-1", 0, "a poll")]


async def test_an_answered_send_is_the_last_message_and_not_unread() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, new(1))
        await line.expect(ev.DeliveredAck)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(chat.send, "c-1", "mine")
            line.push(ack(await line.expect(ev.SendMsg), 2))
        assert shown(await chat.conversations()) == [("c-1", 1, "mine")]


async def test_a_recalled_message_is_not_unread_and_shown_as_recalled() -> None:
    server = FakeServer()
    async with client(server) as chat:
        await held(server, chat, new(1), new(2), recall(3, 2))

        (found,) = await chat.conversations()
        assert shown([found]) == [("c-1", 1, "RECALLED")]
        assert found.last_activity_ts == 1002, "a recall is no activity"


async def test_what_was_read_and_who_reads_is_known_after_a_restart_too(tmp_path: Path) -> None:
    server, path = FakeServer(), tmp_path / "store.db"
    async with client(server, store=path) as chat:
        heads = (head(4, delivered=0, read=1), head(2, id_="c-2", delivered=2))
        line = await server.accept()
        await line.log_in(*heads)
        line.push(new(1), new(2), new(3, sender="u-1"), new(4), new(3, id_="c-2"))
        line.push(ev.ReceiptPush("c-2", user_id="u-1", delivered_seq=3, read_seq=3))
        await until(chat, ReceiptChanged)
        before = await chat.conversations(fetch=False)
        assert [(it.conversation_id, it.read_seq, it.unread) for it in before] == [
            ("c-1", 1, 2),
            ("c-2", 3, 0),
        ]
        line.close(1006)

    async with client(FakeServer(), store=path) as chat:
        again = await chat.conversations(fetch=False)
        assert [(it.conversation_id, it.read_seq, it.unread) for it in again] == [
            ("c-1", 1, 2),
            ("c-2", 3, 0),
        ]
        assert chat.user_id == "u-1"


async def test_it_is_there_without_a_connection_and_after_a_restart(tmp_path: Path) -> None:
    server, path = FakeServer(), tmp_path / "store.db"
    async with client(server, store=path) as chat:
        tea = replace(listed(head(0), "Tea", muted=2**53 - 1), notify="MENTIONS")
        heads = (tea, listed(head(0, id_="c-2"), activity=5))
        line = await held(server, chat, new(1), heads=heads)
        before = await chat.conversations()
        line.close(1006)
        await chat.mark_read("c-1", 1)
    server.refusals.clear()
    async with client(FakeServer(), store=path) as chat:
        found = await chat.conversations()
        assert shown(found) == [("c-1", 0, "t1"), ("c-2", 0, None)]
        assert (found[0].title, found[0].muted_until, found[0].notify) == ("Tea", 2**53 - 1, "MENTIONS")
        assert found[0].last_message == before[0].last_message
        assert [it.last_activity_ts for it in found] == [1001, 5]


async def test_a_new_device_asks_once_and_goes_on_by_itself() -> None:
    server = FakeServer()
    async with client(server) as chat:
        heads = (
            listed(head(10, delivered=10, read=4), "Tea", 1010),
            listed(head(3, id_="c-2", delivered=3, read=3), "", 9),
        )
        line = await held(server, chat, heads=heads)
        http = Http(chat, ([row(10, read=4, unread=6, last=10), row(3, id_="c-2", read=3, last=2)], None))
        assert shown(await chat.conversations(fetch=False)) == [("c-1", 0, None), ("c-2", 0, None)]
        assert shown(await chat.conversations()) == [("c-1", 6, "t10"), ("c-2", 0, "t2")]
        assert http.requests == [{"order": "activity", "limit": "50"}]

        line.push(new(11), new(4, id_="c-2"))
        await until(chat, MessageReceived)
        assert shown(await chat.conversations()) == [("c-1", 7, "t11"), ("c-2", 1, "t4")]
        await chat.mark_read("c-1", 11)
        assert shown(await chat.conversations())[0] == ("c-1", 0, "t11")
        assert len(http.requests) == 1


async def test_what_was_told_is_asked_again_once_part_of_it_was_read_or_recalled() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, heads=(listed(head(10, delivered=10, read=4)),))
        told = [
            ([row(10, read=4, unread=6, last=10)], None),
            ([row(10, read=8, unread=2, last=10)], None),
            ([row(11, read=8, unread=1, last=9)], None),
        ]
        http = Http(chat, *told)
        assert shown(await chat.conversations()) == [("c-1", 6, "t10")]
        await chat.mark_read("c-1", 8)
        assert shown(await chat.conversations(fetch=False)) == [("c-1", 2, "t10")], "no more than can be left"
        assert shown(await chat.conversations()) == [("c-1", 2, "t10")]
        line.push(recall(11, 10))
        await until(chat, ConversationListChanged)
        await anyio.sleep(1)
        assert shown(await chat.conversations(fetch=False)) == [("c-1", 0, None)], "nothing recalled is shown"
        assert shown(await chat.conversations()) == [("c-1", 1, "t9")]
        assert len(http.requests) == 3


async def test_an_answer_that_may_not_know_of_a_recall_is_not_taken() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, heads=(listed(head(10, delivered=10, read=4)),))
        http = Http(chat, ([row(10, read=4, unread=6, last=10)], "1010/c-1"), ([], None))

        async def recalled() -> None:
            line.push(recall(11, 10))
            await anyio.sleep(1)

        http.meanwhile = recalled
        assert shown(await chat.conversations()) == [("c-1", 0, None)]


async def test_a_title_is_heard_or_asked_for() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, new(1), heads=(listed(head(0), "old"),))
        line.push(ev.ConversationPush("c-1", "GROUP", "UPDATED", "new"))
        await until(chat, ConversationChanged)
        assert [it.title for it in await chat.conversations()] == ["new"]

        http = Http(chat, ([row(1, title="newest")], None))
        line.push(ev.ConversationPush("c-1", "GROUP", "UPDATED"))
        await until(chat, ConversationChanged)
        assert [it.title for it in await chat.conversations()] == ["newest"]
        assert [it.title for it in await chat.conversations()] == ["newest"]
        assert len(http.requests) == 1
        assert chat.heads["c-1"].title == "newest"


async def test_a_title_is_read_in_the_log_where_nothing_else_was_heard() -> None:
    def titled(seq: int, **said: str) -> ev.NewMsg:
        return new(seq, payload={"type": "TITLE", **said})

    server = FakeServer()
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(listed(head(3), "Lunch"))
        await line.page(titled(1, title="Tea"), titled(2, title="Lunch"), new(3), up_to=3)
        await until(chat, CaughtUp)
        assert [it.title for it in await chat.conversations(fetch=False)] == ["Lunch"]

        for entry in (titled(4, title="Night shift"), titled(5, description="for us")):
            line.push(entry)
            await until(chat, MessageReceived)
        assert [it.title for it in await chat.conversations(fetch=False)] == ["Night shift"]

        http = Http(chat, ([row(3, title="Lunch")], None))
        line.push(ev.ConversationPush("c-1", "GROUP", "UPDATED"))
        await until(chat, ConversationChanged)
        assert [it.title for it in await chat.conversations()] == ["Night shift"], "older than the log here"
        assert len(http.requests) == 1
        line.push(titled(6, title=""))
        await until(chat, MessageReceived)
        assert [it.title for it in await chat.conversations()] == [""]


async def test_what_cannot_be_fetched_is_an_error_that_the_app_may_do_without() -> None:
    server = FakeServer()
    async with client(server) as chat:
        await held(server, chat, heads=(listed(head(10, delivered=10, read=4), "Tea"),))
        Http(chat, httpx.ConnectError("down"), ([row(10, read=4, unread=6, last=10)], None))
        with pytest.raises(ConnectionLostError):
            await chat.conversations()
        assert [it.title for it in await chat.conversations(fetch=False)] == ["Tea"]
        assert shown(await chat.conversations()) == [("c-1", 6, "t10")]


async def test_what_was_told_of_another_log_is_not_shown() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, heads=(listed(head(10, delivered=10, read=4)),))
        Http(chat, ([row(10, read=4, unread=6, last=10)], None), ([], None))
        assert shown(await chat.conversations()) == [("c-1", 6, "t10")]
        line.push(ev.Heads([listed(head(1, epoch="e2"))], False))
        await line.page(new(1, epoch="e2"), up_to=1, epoch="e2")
        event, _ = await until(chat, EpochChanged)
        assert event.kept_seq == 0
        await anyio.sleep(1)
        assert shown(await chat.conversations(fetch=False)) == [("c-1", 1, "t1")]


async def test_mutes_are_known_here_at_once_and_end_by_themselves() -> None:
    server = FakeServer()
    async with client(server) as chat:
        await held(server, chat, new(1), heads=(listed(head(0), muted=5),))
        assert [(it.muted_until, it.notify) for it in await chat.conversations()] == [(0, "ALL")], (
            "it is over"
        )
        Http(chat, ([], None))
        runtime = chat._entered_runtime()
        for until_ms, level in ((2**53 - 1, "MENTIONS"), (2**53 - 1, "NONE"), (0, "ALL")):
            runtime.list.muted("c-1", until_ms, level)
            assert [(it.muted_until, it.notify) for it in await chat.conversations()] == [(until_ms, level)]
            assert chat.heads["c-1"].notify == level


async def test_who_left_has_it_in_the_list_no_more() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, heads=(listed(head(0)), listed(head(0, id_="c-2"))))
        assert len(await chat.conversations()) == 2
        line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"))
        await until(chat, ConversationListChanged)
        assert [it.conversation_id for it in await chat.conversations()] == ["c-2"]


async def test_that_the_list_changed_is_told_once_asked_for_and_waits_once() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, new(1), new(2))
        seen: list[ChatEvent] = []

        async def collect() -> None:
            async for event in chat.events():
                seen.append(event)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect)
            await anyio.sleep(1)
            assert [type(it) for it in seen] == [MessageReceived, MessageReceived]
            await chat.conversations()
            seen.clear()
            line.push(new(3))
            line.push(new(4))
            await anyio.sleep(1)
            assert [it for it in seen if isinstance(it, MessageReceived)][-1].message.seq == 4
            assert sum(isinstance(it, ConversationListChanged) for it in seen) == 1
            seen.clear()
            await chat.mark_read("c-1", 4)
            await anyio.sleep(1)
            assert [type(it) for it in seen] == [ConversationListChanged]
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": "5"},
        {"limit": True},
        {"limit": 1.5},
        {"limit": None},
        {"limit": 2**60},
        {"fetch": None},
        {"fetch": 1},
    ],
)
async def test_odd_arguments_are_refused(options: dict[str, Any]) -> None:
    async with client(FakeServer()) as chat:
        with pytest.raises(BadRequestError):
            await chat.conversations(**options)


async def test_without_any_conversation_it_is_empty() -> None:
    server = FakeServer()
    async with client(server) as chat:
        assert await chat.conversations() == []
        line = await server.accept()
        await line.log_in()
        await until(chat, CaughtUp)
        assert await chat.conversations() == []


@pytest.mark.parametrize(
    "wrong",
    [
        row(10, read=11),
        row(10, read=-1),
        row(10, unread=-1),
        row(10, last=11),
        row(10, lastMessage=row(10, id_="c-2", last=3)["lastMessage"]),
    ],
)
async def test_a_row_that_cannot_be_is_a_fault_of_the_server(wrong: dict[str, Any]) -> None:
    server = FakeServer()
    async with client(server) as chat:
        await held(server, chat, heads=(listed(head(10, delivered=10)),))
        Http(chat, ([wrong], None))
        with pytest.raises(ProtocolError):
            await chat.conversations()
        assert [it.unread for it in await chat.conversations(fetch=False)] == [0]


async def test_a_conversation_that_is_left_while_it_is_asked_for_is_passed_over() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, heads=(listed(head(10, delivered=10)),))
        http = Http(chat, ([row(10, unread=3)], None))

        async def left() -> None:
            line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"))
            await anyio.sleep(1)

        http.meanwhile = left
        assert await chat.conversations() == []


async def test_pages_that_never_end_are_not_followed_for_ever() -> None:
    server = FakeServer()
    async with client(server) as chat:
        await held(server, chat, heads=(listed(head(10, delivered=10)),))
        http = Http(chat, ([], "9/c-9"))
        assert len(await chat.conversations(limit=400)) == 1
        assert len(http.requests) == 3


async def test_a_long_list_lets_others_run() -> None:
    server = FakeServer()
    async with client(server) as chat:
        await held(server, chat, heads=tuple(listed(head(0, id_=f"c-{n}")) for n in range(200)))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            assert len(await chat.conversations(limit=200)) == 200
            tasks.cancel_scope.cancel()
        assert turns >= 3


async def test_the_past_of_a_group_that_one_joins_is_not_unread_once_it_is_fetched() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await held(server, chat, heads=(listed(head(0, id_="c-2")),))
        line.push(ev.ConversationPush("c-1", "GROUP", "JOINED", "Tea"))
        added = {"type": "MEMBER", "op": "ADDED", "userIds": ["u-1"]}
        await line.page(new(5, payload=added), new(6), up_to=6)
        await until(chat, MessageReceived)
        await line.expect(ev.DeliveredAck)

        async with anyio.create_task_group() as tasks:
            past: list[int] = []

            async def read() -> None:
                past.extend(message.seq for message in await chat.history("c-1"))

            tasks.start_soon(read)
            await line.page(*(new(seq) for seq in range(1, 5)), up_to=4, head=6)
        assert past == [1, 2, 3, 4, 5, 6]
        assert shown(await chat.conversations(fetch=False))[0] == ("c-1", 1, "t6")
