"""The replay of the demo: a group chat of real people, every line from the client of the one who wrote it.

Each nick is a user with a client and a socket of its own, all members of one GROUP from the start. The lines go out
in the order of the file, at most `WINDOW` of them unanswered: each nick's lines are stored in the order of the file,
and lines of different nicks, which come by different sockets, may pass each other inside the window. (One line at a
time would keep the whole order and takes three times as long.) What each line becomes is in `irc`. At the end every
member's log, as its events gave it, must be the server's. Called by `main`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from chatkit.client.api import ChatApi
from chatkit.client.client import ChatClient
from chatkit.client.events import CaughtUp, ChatEvent, MessageReceived
from chatkit.errors import ConfigurationError
from chatkit.types import Message, Payload

from .console import Console, counted, expect, within
from .irc import KINDS, LOG_USER_ID, Line, user_id_to_nick
from .node import NodeProcess

CONVERSATION_ID = "replay"
CLIENTS_MAX = 800
"""Most nicks in one replay: each is a socket of this process and of the server."""

WINDOW = 32
"""Most lines on their way at once."""

_CONNECT_AT_ONCE = 16
_CATCH_UP_S = 120.0
_MARKS = 5
_DEVICE_ID = "client"

Row = tuple[int, str, Payload]
"""(seq, sender, payload): what two logs are compared by."""


class ReplayResult(msgspec.Struct, frozen=True, rename="camel"):
    """What the replay ended with.

    Attributes:
        lines: Messages sent, one per line of the file.
        kinds: Lines by what they were taken for.
        members: Members of the group, each with a client.
        deliveries: Messages that reached a client that had not sent them.
        connect_s: Seconds until all clients were online.
        send_s: Seconds from the first line to the last delivery.
    """

    lines: int
    kinds: dict[str, int]
    members: int
    deliveries: int
    connect_s: float
    send_s: float
    deliveries_per_s: int


def check_log(lines: Sequence[Line]) -> None:
    """Refuse what is no IRC log, and what one process should not connect.

    Raises:
        ConfigurationError: No line was understood, or there are more than `CLIENTS_MAX` nicks.
    """
    if all(line.kind == "unknown" for line in lines):
        raise ConfigurationError(
            "there is nothing to replay: no line of the file reads like one of an IRC log, such as [12:18] <nick> text"
        )
    count = len(_user_ids(lines))
    if count > CLIENTS_MAX:
        raise ConfigurationError(f"{count} nicks are more than {CLIENTS_MAX}; use --limit")


async def replay(node: NodeProcess, lines: Sequence[Line], console: Console) -> ReplayResult:
    """Play the lines and compare the logs.

    Raises:
        ExpectationError: A member's log is not the server's, or the server's is not the file.
    """
    members = _members(lines)
    console.heading("6. A group chat is replayed, every nick with a client of its own")
    _tell_kinds(lines, console)
    async with ChatApi(node.http_url, token=node.token(LOG_USER_ID)) as api:
        created = await api.create_conversation(
            "GROUP", sorted(members), conversation_id=CONVERSATION_ID, title="Replay"
        )
        console.saw("server", f"the group has {counted(created.member_count, 'member')}")
        async with anyio.create_task_group() as tasks:
            result = await _play(node, lines, members, tasks, console)
            await _compare(api, lines, members, console)
            tasks.cancel_scope.cancel()
    return result


class Member:
    """One nick: its client, and its log as the events give it."""

    def __init__(self, user_id: str, line_count: int) -> None:
        self.user_id = user_id
        self.chat: ChatClient
        self.received: dict[int, Row] = {}
        self.online = anyio.Event()
        self.complete = anyio.Event()
        self._entries = line_count + 1  # the creation of the group is seq 1
        self._last_seq = 0

    async def run(self, node: NodeProcess, limiter: anyio.CapacityLimiter) -> None:
        """Be online until cancelled."""
        token = node.token(self.user_id, _DEVICE_ID)
        async with AsyncExitStack() as stack:
            async with limiter:
                chat = ChatClient(node.ws_url, token=token, device_id=_DEVICE_ID)
                self.chat = await stack.enter_async_context(chat)
                events = aiter(chat.events())
                while not self.online.is_set():
                    self._take(await anext(events))
            async for event in events:
                self._take(event)

    async def say(self, number: int, payload: Payload) -> None:
        """Send one line. Returns once it is durable."""
        sent = await self.chat.send(CONVERSATION_ID, payload, client_msg_id=f"line-{number}")
        self._add((sent.seq, self.user_id, payload))

    def rows(self) -> list[Row]:
        """The log as this member saw it."""
        return [self.received[seq] for seq in sorted(self.received)]

    def _take(self, event: ChatEvent) -> None:
        match event:
            case MessageReceived(message=message):
                expect(message.seq > self._last_seq, f"a seq above {self._last_seq}", message.seq)
                self._last_seq = message.seq
                self._add(_row(message))
            case CaughtUp():
                self.online.set()
            case _:
                pass

    def _add(self, row: Row) -> None:
        self.received[row[0]] = row
        if len(self.received) == self._entries:
            self.complete.set()


async def _play(
    node: NodeProcess, lines: Sequence[Line], members: dict[str, Member], tasks: TaskGroup, console: Console
) -> ReplayResult:
    started_s = console.elapsed_s()
    limiter = anyio.CapacityLimiter(_CONNECT_AT_ONCE)
    for member in members.values():
        tasks.start_soon(member.run, node, limiter)
    with within("every client to be online", _CATCH_UP_S):
        for member in members.values():
            await member.online.wait()
    online_s = console.elapsed_s()
    console.saw("clients", f"all {len(members)} are online after {online_s - started_s:.1f} s")
    with _progress(console) as progress:
        await _send_all(lines, members, progress, console)
    with within("every line at every client", _CATCH_UP_S):
        for member in members.values():
            await member.complete.wait()
    return _result(lines, len(members), online_s - started_s, console.elapsed_s() - online_s)


async def _send_all(
    lines: Sequence[Line], members: dict[str, Member], progress: Progress, console: Console
) -> None:
    """Every line from its member, in the order of the file, at most `WINDOW` unanswered at once."""
    window = anyio.Semaphore(WINDOW)
    bar = progress.add_task("lines", total=len(lines))
    durable = 0

    async def send(number: int, line: Line, *, task_status: TaskStatus[None]) -> None:
        nonlocal durable
        task_status.started()  # whoever waits for this goes on once the line is queued in its client
        with within(f"line {number} to be durable"):
            await members[line.user_id].say(number, line.payload)
        window.release()
        durable += 1
        _advance(progress, bar, durable, len(lines), console)

    async with anyio.create_task_group() as tasks:
        for number, line in enumerate(lines, 1):
            await window.acquire()
            await tasks.start(send, number, line)


def _advance(progress: Progress, bar: TaskID, durable: int, total: int, console: Console) -> None:
    progress.update(bar, completed=durable)
    if not console.output.is_terminal and durable % max(1, total // _MARKS) == 0:
        console.saw("clients", f"{durable} of {total} lines are durable")


async def _compare(api: ChatApi, lines: Sequence[Line], members: dict[str, Member], console: Console) -> None:
    log = [_row(message) async for message in api.messages(CONVERSATION_ID)]
    expect(
        [row[0] for row in log] == list(range(1, len(lines) + 2)), "each line once, without a hole", len(log)
    )
    said, written = _by_sender(log[1:]), _by_sender((0, line.user_id, line.payload) for line in lines)
    expect(said == written, "what each nick wrote, in the order of the file", "another order")
    console.saw("server", f"the log holds the {len(lines)} lines once, each nick's in the order of the file")
    for member in members.values():
        difference = _difference(log, member.rows())
        expect(difference is None, f"the server's log at {member.user_id}", difference)
    console.saw("clients", f"the logs of all {len(members)} members are the same as the server's")


def _by_sender(rows: Iterable[Row]) -> dict[str, list[Payload]]:
    payloads: dict[str, list[Payload]] = {}
    for _, sender_id, payload in rows:
        payloads.setdefault(sender_id, []).append(payload)
    return payloads


def _difference(expected: list[Row], found: list[Row]) -> Any:
    """The first place where two logs differ; None if they are the same."""
    if expected == found:
        return None
    pairs = zip(expected, found, strict=False)
    return next((pair for pair in pairs if pair[0] != pair[1]), f"{len(found)} of {len(expected)} entries")


def _members(lines: Sequence[Line]) -> dict[str, Member]:
    return {user_id: Member(user_id, len(lines)) for user_id in sorted(_user_ids(lines))}


def _user_ids(lines: Sequence[Line]) -> set[str]:
    return {line.user_id for line in lines} | {LOG_USER_ID}


def _tell_kinds(lines: Sequence[Line], console: Console) -> None:
    counts = _kinds(lines)
    console.say(
        f"{len(lines)} lines: {counts['text']} messages, {counts['action']} actions, "
        f"{counts['event']} joins, leaves and renames, {counts['unknown']} others (sent by `{LOG_USER_ID}`)"
    )
    busiest = Counter(line.user_id for line in lines if line.user_id != LOG_USER_ID).most_common(3)
    console.say("most lines by " + ", ".join(f"{user_id_to_nick(id_)} ({count})" for id_, count in busiest))


def _kinds(lines: Sequence[Line]) -> dict[str, int]:
    counts = Counter(line.kind for line in lines)
    return {kind: counts[kind] for kind in KINDS}


def _result(lines: Sequence[Line], member_count: int, connect_s: float, send_s: float) -> ReplayResult:
    deliveries = len(lines) * (member_count - 1)
    return ReplayResult(
        len(lines),
        _kinds(lines),
        member_count,
        deliveries,
        round(connect_s, 2),
        round(send_s, 2),
        round(deliveries / send_s) if send_s else 0,
    )


def _row(message: Message) -> Row:
    return message.seq, message.sender_id, message.payload


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("        {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console.output,
        disable=not console.output.is_terminal,
    )
