"""SIGKILL in the middle of senders at full speed, then the proof that no acknowledgement was a lie.

Shared by `test_kill.py` (light rounds) and `tests/soak.py` (heavy ones, and more of the light ones). Every text equals
its clientMsgId, so that a stored row names the attempt it came from whoever reads it. After each restart must hold:

- the log of each conversation has the seqs 1..head, each once, and no row that nobody attempted;
- every acknowledged message is there once, with the seq and messageId of its acknowledgement;
- of one sender in one conversation the stored messages are a prefix of those attempted, in order;
- every attempted message sent again is answered; the acknowledged ones by the identical bytes, the stored ones by
  their row, the lost ones by a new row; nothing is there twice afterwards;
- recalls, members, read cursors and confirmations are as they were acknowledged (`careful.py`, in the same load).
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from .careful import CarefulClient
from .peer import Event, parse, send_msg
from .server_process import ServerProcess
from .tokens import token
from .world import World, fresh

CONVERSATIONS = 4
CAREFUL = 3
WINDOW = 32
"""Unanswered messages of a sender that sends again."""
DELAY_MAX_S = 0.03
"""The kill falls somewhere in this time after enough acknowledgements: inside a commit, before or after one."""
ANSWER_S = 30.0

Key = tuple[str, str, str]
"""Conversation, sender, clientMsgId."""
Row = tuple[int, str, str]
"""seq, messageId, text."""


@dataclass(frozen=True)
class Load:
    """How much goes on in one round.

    Attributes:
        senders: At full speed, beside the careful clients.
        windows: Least and most unanswered messages of a sender; unequal ones, so that they do not move in step.
        acks: Least and most acknowledgements of them all before the kill.
    """

    senders: int
    windows: tuple[int, int]
    acks: tuple[int, int]


HEAVY = Load(senders=20, windows=(8, 48), acks=(200, 1500))
LIGHT = Load(senders=6, windows=(4, 24), acks=(10, 150))


@dataclass
class Attempts:
    """What the senders tried in one round and what they were told."""

    sent: list[Key] = field(default_factory=list)
    acked: dict[Key, Event] = field(default_factory=dict)
    refused: list[Event] = field(default_factory=list)

    def take(self, events: list[Event], waiting: dict[str, Key]) -> None:
        """Note the answers among these events."""
        for event in events:
            if event.name == "MSG_ACK":
                self.acked[waiting.pop(event["clientMsgId"])] = event
            elif event.name == "ERROR":
                self.refused.append(event)


@dataclass
class Storm:
    """One round's sending; `delay_s` after `target` acknowledgements a thread of its own kills the server."""

    number: int
    target: int
    delay_s: float
    kill: Callable[[], None]
    killer: threading.Timer | None = None
    attempts: Attempts = field(default_factory=Attempts)

    def check(self) -> None:
        """Set the kill going once there is enough, or at once if something was refused."""
        if self.attempts.refused:
            self.kill()
        if self.killer is None and len(self.attempts.acked) >= self.target:
            self.killer = threading.Timer(self.delay_s, self.kill)
            self.killer.start()


@dataclass
class Totals:
    """Sums over all rounds."""

    rounds: int = 0
    sent: int = 0
    acked: int = 0
    unknown_stored: int = 0
    unknown_lost: int = 0
    careful: int = 0


class Harness:
    """One file, many kills."""

    def __init__(
        self,
        server: ServerProcess,
        seed: int,
        report: Callable[[str], None] = lambda line: None,
        load: Load = HEAVY,
    ) -> None:
        self.server = server
        self.load = load
        self.random = random.Random(seed)
        self.report = report
        self.totals = Totals()
        self.senders = [fresh(f"s{number}") for number in range(load.senders)]
        self.careful = [CarefulClient(f"{seed} {number}") for number in range(CAREFUL)]
        self.conversations: list[str] = []
        self.answered: dict[Key, Event] = {}
        self.stored: dict[str, list[Row]] = {}

    def run(self, rounds: int) -> Totals:
        """All rounds, and at the end every message of all rounds once more."""
        self.server.start()
        try:
            self._create()
            for number in range(1, rounds + 1):
                self._round(number)
            self._everything_again()
        finally:
            self.server.stop()
        assert "Traceback" not in self.server.log, self.server.log[-4000:]
        return self.totals

    def _create(self) -> None:
        world = self._world()
        for _ in range(CONVERSATIONS):
            self.conversations.append(world.group(self.senders[0], *self.senders[1:]))
        for client in self.careful:
            client.create(world)
        world.close()

    def _world(self) -> World:
        return World(self.server.http_url, self.server.ws_url)

    def _round(self, number: int) -> None:
        target = self.random.randint(*self.load.acks)
        attempts = asyncio.run(self._storm(number, target))
        self.server.start()
        self._check_careful()
        before = self._logs()
        self.check_logs(before)
        survived = self.check_attempts(attempts, before)
        self._resend(attempts, before)
        after = self._logs()
        self.check_logs(after)
        self.check_nothing_doubled(attempts, before, after)
        self.stored = after
        lost = len(attempts.sent) - len(attempts.acked) - survived
        self._count(attempts, survived, lost)
        self.report(
            f"round {number}: {len(attempts.sent)} sent, {len(attempts.acked)} acknowledged when killed, "
            f"{survived} stored without an answer, {lost} not stored and sent again; all hold"
        )

    def _check_careful(self) -> None:
        world = self._world()
        try:
            for client in self.careful:
                client.check(world)
        finally:
            world.close()

    def _count(self, attempts: Attempts, survived: int, lost: int) -> None:
        self.totals.rounds += 1
        self.totals.sent += len(attempts.sent)
        self.totals.acked += len(attempts.acked)
        self.totals.unknown_stored += survived
        self.totals.unknown_lost += lost
        self.totals.careful = sum(client.done for client in self.careful)

    # -- the storm

    async def _storm(self, number: int, target: int) -> Attempts:
        storm = Storm(number, target, delay_s=self.random.uniform(0, DELAY_MAX_S), kill=self.server.kill)
        begun = asyncio.Barrier(CAREFUL + 1)
        careful = [client.act_until_cut(self.server.http_url, begun) for client in self.careful]
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*careful, self._senders(storm, begun))
        finally:
            self.server.kill()
        assert not storm.attempts.refused, f"refused at full speed: {storm.attempts.refused[:3]}"
        return storm.attempts

    async def _senders(self, storm: Storm, begun: asyncio.Barrier) -> None:
        """All at full speed, once the careful clients have begun."""
        links = [await self._login(user) for user in self.senders]
        await begun.wait()
        pairs = zip(self.senders, links, strict=True)
        await asyncio.gather(*[self._send_until_cut(storm, user, link) for user, link in pairs])

    async def _login(self, user: str) -> ClientConnection:
        link = await connect(
            self.server.ws_url, subprotocols=[Subprotocol("chatkit.v1.json")], compression=None, proxy=None,
            ping_interval=None, max_size=2_000_000, close_timeout=1,
        )  # fmt: skip
        await link.send(f'{{"event":"HELLO","token":"{token(user, "phone")}","deviceId":"phone"}}')
        while True:
            frame = await link.recv(decode=False)
            if any(event.name == "HEADS" and not event["more"] for event in parse(frame, "json")):
                return link

    async def _send_until_cut(self, storm: Storm, user: str, link: ClientConnection) -> None:
        """Keeps a window of messages unanswered until the connection breaks."""
        order = random.Random(f"{storm.number} {user}")
        window = order.randint(*self.load.windows)
        waiting: dict[str, Key] = {}
        count = 0
        try:
            while True:
                batch: list[Key] = []
                while len(waiting) < window:
                    key = (order.choice(self.conversations), user, f"{user}-{storm.number}-{count}")
                    waiting[key[2]] = key
                    batch.append(key)
                    count += 1
                storm.attempts.sent += batch
                if batch:
                    await link.send(encode(batch), text=True)
                storm.attempts.take(parse(await receive(link), "json"), waiting)
                storm.check()
        except (ConnectionClosed, OSError):
            return

    # -- the proof

    def _logs(self) -> dict[str, list[Row]]:
        """Each conversation's whole log, read as one member; the unchanged beginning is read again too."""
        world = self._world()
        try:
            api = world.api(self.random.choice(self.senders))
            return {
                conversation: [
                    (entry["seq"], entry["messageId"], entry["payload"].get("text", ""))
                    for entry in api.log(conversation)
                ]
                for conversation in self.conversations
            }
        finally:
            world.close()

    def check_logs(self, logs: dict[str, list[Row]]) -> None:
        for conversation, rows in logs.items():
            assert [row[0] for row in rows] == list(range(1, len(rows) + 1)), (
                f"{conversation}: seqs are not 1..head"
            )
            texts = [row[2] for row in rows[1:]]
            assert len(set(texts)) == len(texts), f"{conversation}: a message is there twice"
            assert len({row[1] for row in rows}) == len(rows), f"{conversation}: a messageId is there twice"
            known = self.stored.get(conversation, [])
            assert rows[: len(known)] == known, f"{conversation}: an old row changed or is gone"

    def check_attempts(self, attempts: Attempts, logs: dict[str, list[Row]]) -> int:
        """Returns how many were stored without having been acknowledged."""
        attempted = {key[2]: key for key in attempts.sent}
        found: dict[Key, Row] = {}
        for conversation, rows in logs.items():
            known = max(len(self.stored.get(conversation, [])), 1)  # seq 1 is the server's MEMBER entry
            for row in rows[known:]:
                assert row[2] in attempted, f"{conversation}: nobody attempted {row}"
                assert attempted[row[2]][0] == conversation, f"{row} is in the wrong conversation"
                found[attempted[row[2]]] = row
        for key, ack in attempts.acked.items():
            assert key in found, f"acknowledged and gone: {dict(ack)}"
            assert found[key][:2] == (ack["seq"], ack["messageId"]), f"{dict(ack)} is stored as {found[key]}"
        self._check_prefixes(attempts, found)
        return len(found) - len(attempts.acked)

    def _check_prefixes(self, attempts: Attempts, found: dict[Key, Row]) -> None:
        lanes: dict[tuple[str, str], list[Key]] = defaultdict(list)
        for key in attempts.sent:
            lanes[key[0], key[1]].append(key)
        for lane, keys in lanes.items():
            stored = [key in found for key in keys]
            assert stored == sorted(stored, reverse=True), f"{lane}: a later message overtook a lost one"
            seqs = [found[key][0] for key in keys if key in found]
            assert seqs == sorted(seqs), f"{lane}: out of order"

    def _resend(self, attempts: Attempts, before: dict[str, list[Row]]) -> None:
        answers = asyncio.run(self._send_again(attempts.sent))
        rows = {row[2]: row for log in before.values() for row in log[1:]}
        for key in attempts.sent:
            answer = answers[key]
            if key in attempts.acked:
                assert answer.raw == attempts.acked[key].raw, (
                    f"{answer.raw!r} was {attempts.acked[key].raw!r}"
                )
            if key[2] in rows:
                assert (answer["seq"], answer["messageId"]) == rows[key[2]][:2], dict(answer)
        self.answered |= answers

    async def _send_again(self, keys: list[Key]) -> dict[Key, Event]:
        lanes: dict[str, list[Key]] = {user: [] for user in self.senders}
        for key in keys:
            lanes[key[1]].append(key)
        answers: dict[Key, Event] = {}
        async with asyncio.timeout(60 + len(keys) / 200):
            await asyncio.gather(*[self._lane(user, lane, answers) for user, lane in lanes.items()])
        return answers

    async def _lane(self, user: str, keys: list[Key], answers: dict[Key, Event]) -> None:
        link = await self._login(user)
        for start in range(0, len(keys), WINDOW):
            waiting = {key[2]: key for key in keys[start : start + WINDOW]}
            await link.send(encode(list(waiting.values())), text=True)
            while waiting:
                for event in parse(await receive(link), "json"):
                    assert event.name != "ERROR", dict(event)
                    if event.name == "MSG_ACK":
                        answers[waiting.pop(event["clientMsgId"])] = event
        await link.close()

    def check_nothing_doubled(
        self, attempts: Attempts, before: dict[str, list[Row]], after: dict[str, list[Row]]
    ) -> None:
        attempted = {key[2] for key in attempts.sent}
        for conversation in self.conversations:
            old, new = before[conversation], after[conversation]
            assert new[: len(old)] == old, f"{conversation}: resending changed an old row"
            assert {row[2] for row in new[len(old) :]} <= attempted
        texts = [row[2] for rows in after.values() for row in rows]
        assert len(set(texts)) == len(texts) - len(self.conversations) + 1, "a message is there twice"
        assert attempted <= set(texts), "an attempted message is missing although it was sent again"

    def _everything_again(self) -> None:
        keys = list(self.answered)
        answers = asyncio.run(self._send_again(keys))
        for key in keys:
            assert answers[key].raw == self.answered[key].raw, (
                f"{answers[key].raw!r} was {self.answered[key].raw!r}"
            )
        assert self._logs() == self.stored
        self.report(
            f"all {len(keys)} messages of all rounds sent once more: identical answers, nothing doubled"
        )


def encode(batch: list[Key]) -> bytes:
    """One frame that sends these; the text is the clientMsgId."""
    return msgspec.json.encode([send_msg(conversation, name, name) for conversation, _, name in batch])


async def receive(link: ClientConnection) -> bytes:
    """The next frame; a server that says nothing for long is a failure, not a wait."""
    async with asyncio.timeout(ANSWER_S):
        return await link.recv(decode=False)
