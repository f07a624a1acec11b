"""Servers under faults, on virtual time, and what is scraped of them meanwhile: what the alerts are tried on.

Each story begins with minutes in which all is well. `python -m tests.observability.faults` writes `recordings/` anew,
with the names of stories only those; each run writes the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from msgspec.structs import replace

from chatkit.bus.base import Bus
from chatkit.observability.metrics import Metrics
from chatkit.observability.prometheus import RULES
from chatkit.ports import Ports, SystemIds
from chatkit.push.base import Delivered, Push, Refused, Result, Retry
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.storage.base import Append, Appended, Command, Done, EndLogins, Outcome, RegisterPush, Store
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.faulty_store import FaultyStore, StoreFaults
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import VirtualClock, VirtualLoop, run_virtual

from ..server.harness import HarnessServer, Peer, by_name, login, text
from ..server.nodes import FatefulBus, SharedStore, never
from .recording import Recording

WELL_S = 360
PAIRS = 4
EVERY_S = 1.0

Story = Callable[[Recording], Awaitable[None]]


class Provider:
    """Takes every push, or answers as told."""

    def __init__(self) -> None:
        self.answer: Result = Delivered("id")

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        return [self.answer] * len(batch)

    async def aclose(self) -> None: ...


class Town:
    """A server with pairs of users who write to each other, one of each pair on either server if there are two."""

    def __init__(self, servers: Sequence[HarnessServer]) -> None:
        self.servers = servers
        self.keys = count(1)
        self.pairs: list[tuple[Peer, Peer, str]] = []
        self.slow_s = 0.0
        self.unanswered: dict[str, str] = {}
        self.tokens: dict[str, str] = {}

    async def move_in(self, pairs: int = PAIRS) -> None:
        """Everybody logs in."""
        for number in range(pairs):
            name = f"c-{number}"
            users = [f"a{number}", f"b{number}"]
            await self.servers[0].create_conversation("SINGLE", users[0], users, conversation_id=name)
            here, there = self.servers[0], self.servers[-1]
            self.pairs.append((await login(here, users[0]), await login(there, users[1]), name))

    async def talk(self, seconds: float, each: Callable[[], Awaitable[None]] | None = None) -> None:
        """One message a turn in each pair; whoever gets one confirms it, and whoever is refused sends again."""
        until_s = anyio.current_time() + seconds
        while anyio.current_time() < until_s:
            for sender, _, name in self.pairs:
                key = next((it for it, place in self.unanswered.items() if place == name), None)
                sender.say(text(name, key or f"k{next(self.keys)}"))
            await anyio.sleep(EVERY_S / 2 + self.slow_s)
            for sender, receiver, name in self.pairs:
                self._read(sender, name)
                self._confirm(receiver, name)
            if each is not None:
                await each()
            await anyio.sleep(EVERY_S / 2)

    def _read(self, sender: Peer, name: str) -> None:
        for event in sender.read():
            if event["event"] == "ERROR" and event["retryable"]:
                self.unanswered[event["clientMsgId"]] = name
            elif event["event"] == "MSG_ACK":
                self.unanswered.pop(event["clientMsgId"], None)

    def _confirm(self, receiver: Peer, name: str) -> None:
        seqs = [event["seq"] for event in receiver.read() if event["event"] == "NEW_MSG"]
        if seqs:
            receiver.say({"event": "DELIVERED_ACK", "conversationId": name, "upToSeq": max(seqs)})


@asynccontextmanager
async def town(
    recording: Recording,
    store: Store | None = None,
    *,
    buses: Sequence[Bus | None] = (None,),
    push: Provider | None = None,
    **config: Any,
) -> AsyncIterator[Town]:
    """Servers that are scraped, with everybody logged in, after some minutes in which all was well."""
    shared: Any = SharedStore(store or MemoryStore(ids=SystemIds()))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(shared.inner.aclose)
        servers = []
        for number, bus in enumerate(buses):
            metrics = Metrics()
            server = HarnessServer(
                store=shared,
                authenticate=by_name,
                config=ServerConfig(**{"limits": Limits.unlimited(), **config}),
                ports=Ports(VirtualClock()),
                bus=bus,
                push=None if push is None else {"scripted": push},
                instruments=[metrics],
            )
            servers.append(await stack.enter_async_context(server))
            recording.watch(f"node-{number + 1}", metrics)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        there = Town(servers)
        await there.move_in()
        tasks.start_soon(recording.run)
        await there.talk(WELL_S)
        yield there
        tasks.cancel_scope.cancel()


async def write_to_the_absent(there: Town, seconds: float, *, new_every_s: float = 1.0) -> None:
    """Ever more conversations get a message that somebody who is not online misses; their device has a token."""
    server = there.servers[0]
    for number in range(round(seconds / new_every_s)):
        absent, name = f"away-{next(there.keys)}", f"n-{next(there.keys)}"
        await server.create_conversation("SINGLE", "a0", ["a0", absent], conversation_id=name)
        command = RegisterPush(absent, "phone", "scripted", f"{absent}'s token", False, 1)
        await server.engine.execute(command, Done)
        await server.send(name, "a0", "hello", client_msg_id=f"away-{number}")
        await there.talk(new_every_s)


# --- stories ---


async def all_is_well(recording: Recording) -> None:
    """Traffic, people who come back, people who are away and get a push, for half an hour."""
    async with town(recording, push=Provider()) as there:
        for _ in range(12):
            await write_to_the_absent(there, 60, new_every_s=20)
            await come_back(there)
            await there.talk(60)


async def storage_is_slow(recording: Recording) -> None:
    """Each commit takes 0.6 to 1.2 s."""
    faults = StoreFaults()
    async with town(recording, await faulty(faults)) as there:
        faults.latency_s = (0.6, 1.2)
        await there.talk(900)


async def storage_refuses(recording: Recording) -> None:
    """Each commit is refused."""
    faults = StoreFaults()
    async with town(recording, await faulty(faults)) as there:
        faults.busy_probability = 1.0
        await there.talk(600)
        faults.busy_probability = 0.0


async def storage_refuses_now_and_then(recording: Recording) -> None:
    """One commit in a hundred is refused, for hours."""
    faults = StoreFaults()
    async with town(recording, await faulty(faults)) as there:
        faults.busy_probability = 0.007
        await there.talk(6 * 3600)
        faults.busy_probability = 0.0


async def workers_stop(recording: Recording) -> None:
    """The worker has stopped, and people who are away get messages."""
    async with town(recording, push=Provider()) as there:
        await write_to_the_absent(there, 60)
        worker = there.servers[0]._worker
        assert worker is not None
        worker.stop()
        await there.talk(10)
        reports, server = there.servers[0]._lag_reports, there.servers[0]
        server._background.start(reports.run)  # as a server beside the workers does
        await write_to_the_absent(there, 1500, new_every_s=3)


async def a_node_is_lost(recording: Recording) -> None:
    """One of two servers does not answer any more."""
    async with anyio.create_task_group() as tasks:
        bus = FatefulBus(tasks)
        async with town(recording, buses=[bus.join(), bus.join()]) as there:
            recording.lose("node-2")
            await there.talk(240)
        tasks.cancel_scope.cancel()


class TwiceNumbered(MemoryStore):
    """Planted: gives the number of the message before to some."""

    broken = False

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().commit(commands)
        return [self._again(*it) for it in zip(commands, outcomes, strict=True)]

    def _again(self, command: Command, outcome: Outcome) -> Outcome:
        if not (self.broken and isinstance(command, Append) and isinstance(outcome, Appended)):
            return outcome
        self.broken = False
        return replace(outcome, entry=replace(outcome.entry, seq=outcome.entry.seq - 1))


async def a_number_is_given_twice(recording: Recording) -> None:
    """Once, and the minutes after it."""
    store = TwiceNumbered(ids=SystemIds())
    async with town(recording, store) as there:
        store.broken = True
        await there.talk(120)


async def devices_are_slow(recording: Recording) -> None:
    """Devices confirm after some seconds, as on a bad line."""
    async with town(recording) as there:
        there.slow_s = 4.0
        await there.talk(900)


async def answers_are_lost(recording: Recording) -> None:
    """Every few seconds a line breaks while an answer is on its way, and the message comes again."""
    async with town(recording) as there:

        async def lose() -> None:
            sender, receiver, name = there.pairs.pop(0)
            key = f"k{next(there.keys)}"
            sender.say(text(name, key))
            await anyio.sleep(0.01)
            sender.leave()
            sender = await login(there.servers[0], sender.session.user_id)
            sender.say(text(name, key))
            there.pairs.append((sender, receiver, name))

        await there.talk(1200, lose)


async def readers_are_slow(recording: Recording) -> None:
    """A member of a busy group does not read as fast as it is written."""
    async with town(recording, send_buffer_bytes=20_000) as there:
        server = there.servers[0]
        await server.create_conversation("GROUP", "a0", ["a0", "z"], conversation_id="busy")
        slow = await login(server, "z")

        async def flood() -> None:
            for _ in range(100):
                await server.send("busy", "a0", "x" * 500, client_msg_id=f"k{next(there.keys)}")
            slow.read()

        await there.talk(600, flood)


async def come_back(there: Town) -> None:
    """Everybody's connection breaks, and they come back by their resume tokens, or log in anew."""
    server = there.servers[0]
    for number, (sender, receiver, name) in enumerate(there.pairs):
        sender.leave()
        again = Peer(server)
        token = there.tokens.get(sender.session.user_id)
        user_id = sender.session.user_id
        hello = {"resumeToken": token} if token else {"token": user_id}
        again.say({"event": "HELLO", "deviceId": "phone", **hello})
        await anyio.sleep(0.1)
        if again.session.close_code is not None:
            again.leave()
            again = Peer(server)
            again.say({"event": "HELLO", "deviceId": "phone", "token": user_id})
        (welcome,) = await again.hear("WELCOME")
        there.tokens[user_id] = welcome["resumeToken"]
        there.pairs[number] = (again, receiver, name)


async def resume_tokens_end(recording: Recording) -> None:
    """Somebody ends the resume tokens again and again."""
    async with town(recording) as there:
        await come_back(there)
        await come_back(there)
        for _ in range(30):
            await there.servers[0].engine.execute(EndLogins(there.servers[0].engine._now_ms()), Done)
            await come_back(there)
            await there.talk(60)


async def a_bus_loses(recording: Recording) -> None:
    """Nothing that one node says reaches the other."""
    async with anyio.create_task_group() as tasks:
        bus = FatefulBus(tasks)
        async with town(recording, buses=[bus.join(), bus.join()]) as there:
            bus.fate = never
            await there.talk(1200)
            bus.fate = lambda member, message: (0.0,)
        tasks.cancel_scope.cancel()


async def the_loop_is_blocked(recording: Recording) -> None:
    """Something of the host keeps the event loop for 0.6 s, every few seconds."""
    async with town(recording) as there:

        async def block() -> None:
            _loop()._jumping.now_s += 0.6  # nothing else runs meanwhile

        await there.talk(900, block)


async def a_reader_holds_the_log(recording: Recording) -> None:
    """Another program has a read transaction open for ever."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/chat.db"
        store = SqliteStore(path, ids=SystemIds(), threads=False)
        async with town(recording, store) as there:
            holder = sqlite3.connect(path)
            holder.execute("BEGIN")
            holder.execute("SELECT count(*) FROM sqlite_master").fetchone()
            await fill(there, Path(path + "-wal"), 260 * 2**20)
            await there.talk(420)
            holder.close()


async def fill(there: Town, log: Path, size: int) -> None:
    """Write until the log has this size."""
    server = there.servers[0]
    body = "x" * 60_000
    await server.create_conversation("GROUP", "nobody", ["nobody"], conversation_id="heavy")
    while log.stat().st_size < size:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(_send, server, body, f"k{next(there.keys)}")


async def _send(server: HarnessServer, body: str, key: str) -> None:
    await server.send("heavy", "nobody", body, client_msg_id=key)


async def a_provider_fails(recording: Recording) -> None:
    """Every push is refused for now."""
    provider = Provider()
    async with town(recording, push=provider) as there:
        await write_to_the_absent(there, 60, new_every_s=20)
        provider.answer = Retry(30.0, "too many")
        await write_to_the_absent(there, 1200, new_every_s=20)


async def a_provider_takes_nothing(recording: Recording) -> None:
    """Every push is refused for good, as with a wrong certificate."""
    provider = Provider()
    async with town(recording, push=provider) as there:
        await write_to_the_absent(there, 60, new_every_s=20)
        provider.answer = Refused("BadCertificate")
        await write_to_the_absent(there, 1200, new_every_s=20)


async def faulty(faults: StoreFaults) -> Store:
    """A store with these faults."""
    inner = MemoryStore(ids=SystemIds())
    secret = await inner.migrate()
    found: Any = FaultyStore(inner, secret, faults, Rng(1).stream("storage"))
    return found  # type: ignore[no-any-return]


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


STORIES: dict[Story, set[str]] = {
    all_is_well: set(),
    storage_is_slow: {"ChatkitSendToAckSlow", "ChatkitDeliverySlow"},
    storage_refuses: {"ChatkitStorageRefuses", "ChatkitErrorBudgetFast"},
    storage_refuses_now_and_then: {"ChatkitErrorBudgetSlow"},
    workers_stop: {"ChatkitQueueLag", "ChatkitOfflineQueueRising"},
    a_node_is_lost: {"ChatkitNodeDown"},
    a_number_is_given_twice: {"ChatkitSeqInvariantViolated"},
    devices_are_slow: {"ChatkitDeliverySlow"},
    answers_are_lost: {"ChatkitRepeats"},
    readers_are_slow: {"ChatkitSlowReaders"},
    resume_tokens_end: {"ChatkitResumeFallback"},
    a_bus_loses: {"ChatkitBusLoses", "ChatkitDeliverySlow"},
    the_loop_is_blocked: {"ChatkitLoopLate"},
    a_reader_holds_the_log: {"ChatkitLogGrows"},
    a_provider_fails: {"ChatkitPushFails"},
    a_provider_takes_nothing: {"ChatkitPushFails", "ChatkitDeadLetters"},
}
"""And the alerts that fire at the end of each; none does before the fault."""


def file_of(story: Story) -> Path:
    """Where its recording is kept."""
    return Path(__file__).with_name("recordings") / f"{story.__name__}.json"


def written(recording: Recording) -> str:
    """A recording as it is kept: only what the rules look at."""
    names = set(re.findall(r"chatkit_[a-z_]+|up(?=\{)", RULES.read_text()))
    series = [it for it in recording.for_promtool() if it["series"].partition("{")[0] in names]
    return json.dumps(
        {"every_s": recording.every_s, "seconds": recording.seconds, "series": series}, indent=0
    )


def recorded(story: Story) -> Recording:
    """What was scraped while it was played; every time the same."""
    recording = Recording(60 if story is storage_refuses_now_and_then else 15)
    run_virtual(story, recording, seed=None)
    return recording


def main(names: Sequence[str]) -> None:
    """Write the recordings of these stories, or of all."""
    for story in STORIES:
        if not names or story.__name__ in names:
            file_of(story).write_text(written(recorded(story)))
            print(story.__name__, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
