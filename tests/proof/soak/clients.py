"""One process of clients of a soak: they come and go, send, are slow, and their lines break.

`python -m tests.proof.soak.clients PLAN.json` says `sent` once all its messages are answered, waits for a line, and
prints one line of JSON at its end: what was sent, and what each device holds.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from chatkit import ChatClient, ClientConfig, sign_token
from chatkit.client.events import MessageReceived
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import ChatkitError
from chatkit.storage.base import Entry
from chatkit.types import Message

from ..proxy import FaultyProxy
from ..toxics import Bandwidth, Freeze, Slicer, Toxic
from .server import SECRET

CONFIG: Final = ClientConfig(backoff_base_s=0.2, backoff_max_s=5.0, send_timeout_s=120.0)
_STAY_S = (20.0, 120.0)
_AWAY_S = (1.0, 15.0)
_FAULT_EVERY_S = (5.0, 20.0)
_FAULT_S = (2.0, 20.0)
_UNANSWERED_MAX = 1_000
_CAUGHT_UP_WITHIN_S = 180.0
_LAST_PUSH_S = 5.0
_PART = 50  # entries in one digest: a difference is told to this number


class Plan(msgspec.Struct, frozen=True):
    """What one process does.

    Attributes:
        devices: (user, device) of each of its clients.
        conversations: By user, those they send to.
        rate: Messages a second, of all its clients together.
        seconds: How long it sends; then everybody comes back, and catches up.
    """

    port: int
    seed: int
    devices: list[tuple[str, str]]
    conversations: dict[str, list[str]]
    rate: float
    seconds: float


class Held(msgspec.Struct, frozen=True):
    """What a device holds of a conversation: (floor, prefix], with the digests of its parts."""

    device: str
    conversation_id: str
    floor: int
    prefix: int
    digests: dict[int, str]


class Report(msgspec.Struct):
    """What became of it.

    Attributes:
        acked: Of each acknowledged message, its conversation, key and seq.
        wrong: What must not happen: an event told twice or out of order, a client that stopped.
    """

    attempted: int = 0
    unanswered: int = 0
    acked: list[tuple[str, str, int]] = []
    held: list[Held] = []
    wrong: list[str] = []
    faults: dict[str, int] = {}
    starts: int = 0


def digests_of_messages(messages: Iterable[Message]) -> dict[int, str]:
    """Of what a device holds: by the first seq of each part."""
    return _digests((it.seq, f"{it.seq} {it.message_id} {_plain(it.payload)}") for it in messages)


def digests_of_entries(entries: Iterable[Entry]) -> dict[int, str]:
    """The same of a log."""
    return _digests(
        (it.seq, f"{it.seq} {it.message_id} {_plain(msgspec.json.decode(it.payload))}") for it in entries
    )


def _digests(lines: Iterable[tuple[int, str]]) -> dict[int, str]:
    parts: dict[int, list[str]] = {}
    for seq, line in lines:
        parts.setdefault(seq - seq % _PART, []).append(line)
    return {
        first: f"{len(part)} entries, {hashlib.sha256(chr(10).join(part).encode()).hexdigest()[:16]}"
        for first, part in parts.items()
    }


def _plain(payload: Any) -> str:
    return msgspec.json.encode(payload, order="sorted").decode()


class SoakDevice:
    """A device whose app is started again and again over a store that stays."""

    def __init__(self, user_id: str, device_id: str, rng: random.Random, report: Report) -> None:
        self.user_id = user_id
        self.name = f"{user_id}/{device_id}"
        self.client: ChatClient | None = None
        self._device_id = device_id
        self._rng = rng
        self._report = report
        self._store = MemoryStore(2_000)
        self._told: dict[str, int] = {}

    async def live(self, url: str, stay_s: float) -> None:
        """Run the app for so long, or until cancelled."""
        client = ChatClient(
            url,
            token=sign_token(SECRET, user_id=self.user_id, ttl_s=86_400),
            device_id=self._device_id,
            store=self._store,
            config=CONFIG,
        )
        self._report.starts += 1
        slow_s = self._rng.choice((0.0,) * 9 + (0.05,))
        try:
            with anyio.move_on_after(stay_s):
                async with client:
                    self.client = client
                    async for event in client.events():
                        self._take(event)
                        if slow_s:
                            await anyio.sleep(slow_s)
        finally:
            self.client = None

    def _take(self, event: object) -> None:
        if not isinstance(event, MessageReceived):
            return
        message = event.message
        last_seq = self._told.get(message.conversation_id, 0)
        if message.seq <= last_seq:
            self._report.wrong.append(
                f"{self.name} was told seq {message.seq} of {message.conversation_id} after {last_seq}"
            )
        self._told[message.conversation_id] = message.seq

    def held(self) -> list[Held]:
        """What its store holds."""
        found = []
        for record in self._store.records():
            name = record.conversation_id
            floor, stored = self._store.floor(name), self._store.messages(name, 2**53, 2**31)
            messages = (it for it in stored if floor < it.seq <= record.prefix)
            found.append(Held(self.name, name, floor, record.prefix, digests_of_messages(messages)))
        return found


class Clients:
    """All clients of this process."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rng = random.Random(plan.seed)
        self.report = Report()
        self._devices = [SoakDevice(*it, self._rng, self.report) for it in plan.devices]
        self._count = 0
        self._unanswered = 0
        self._over = False
        self._faults = Counter[str]()

    async def run(self) -> None:
        """Come, go and send for the plan's seconds; then stay until everybody has everything."""
        async with FaultyProxy("127.0.0.1", self._plan.port, seed=self._plan.seed) as proxy:
            urls = (f"ws://127.0.0.1:{self._plan.port}", proxy.url("ws"))
            async with anyio.create_task_group() as apps:
                for number, device in enumerate(self._devices):
                    apps.start_soon(self._come_and_go, device, urls[number % 2])
                async with anyio.create_task_group() as sends:
                    sends.start_soon(self._break, proxy, sends.cancel_scope)
                    await self._send(sends)
                self._over = True
                await self._all(_has_sent, "sent everything")
                await _wait_for_others(min(_LAST_PUSH_S, self._plan.seconds))
                await self._all(_has_everything, "caught up")
                apps.cancel_scope.cancel()
        self.report.faults = dict(self._faults)
        self.report.held = [held for device in self._devices for held in device.held()]

    async def _come_and_go(self, device: SoakDevice, url: str) -> None:
        await anyio.sleep(self._rng.uniform(0, min(10.0, self._plan.seconds)))
        while True:
            try:
                await device.live(url, self._rng.uniform(*_STAY_S))
            except ChatkitError as error:
                self.report.wrong.append(f"{device.name} stopped: {error!r}")
            await anyio.sleep(0 if self._over else self._rng.uniform(*_AWAY_S))

    async def _send(self, sends: TaskGroup) -> None:
        """At an even rate; what is not answered is bounded, and counted as a pause."""
        ends_s = anyio.current_time() + self._plan.seconds
        next_s = anyio.current_time()
        while (now_s := anyio.current_time()) < ends_s:
            next_s = max(
                next_s + 1 / self._plan.rate, now_s - 1.0
            )  # a stopped process does not make up for it all
            here = [it for it in self._devices if it.client is not None]
            if here and self._unanswered < _UNANSWERED_MAX:
                sends.start_soon(self._send_one, self._rng.choice(here))
            await anyio.sleep_until(next_s)

    async def _send_one(self, device: SoakDevice) -> None:
        client, self._count = device.client, self._count + 1
        if client is None:
            return
        name = self._rng.choice(self._plan.conversations[device.user_id])
        self.report.attempted += 1
        self._unanswered += 1
        try:
            sent = await client.send(name, f"message {self._count} of {device.name}")
            self.report.acked.append((name, sent.client_msg_id, sent.seq))
        except ChatkitError:
            self.report.unanswered += 1  # it stays in the device's store, and goes out with its next start
        finally:
            self._unanswered -= 1

    async def _break(self, proxy: FaultyProxy, scope: anyio.CancelScope) -> None:
        """Faults on the lines through the proxy, one after the other, while messages are sent."""
        ends_s = anyio.current_time() + self._plan.seconds - _FAULT_S[1]
        while anyio.current_time() < ends_s:
            await anyio.sleep(self._rng.uniform(*_FAULT_EVERY_S))
            name = self._rng.choice(("cut", "half-open", "one-way", "slow", "sliced"))
            self._faults[name] += 1
            if name == "cut":
                await proxy.cut_all(reset=True)
            else:
                await self._hold(proxy, name)

    async def _hold(self, proxy: FaultyProxy, name: str) -> None:
        toxics: dict[str, list[tuple[Toxic, str]]] = {
            "half-open": [(Freeze(), "up"), (Freeze(), "down")],
            "one-way": [(Freeze(), "down")],
            "slow": [(Bandwidth(20_000), "down")],
            "sliced": [(Slicer(average_bytes=50), "up"), (Slicer(average_bytes=50), "down")],
        }
        added = [proxy.add(toxic, where, toxicity=0.3) for toxic, where in toxics[name]]  # type: ignore[arg-type]
        await anyio.sleep(self._rng.uniform(*_FAULT_S))
        for fault in added:
            proxy.remove(fault)

    async def _all(self, done: Callable[[SoakDevice], bool], what: str) -> None:
        """Until it is true of every device."""
        with anyio.move_on_after(_CAUGHT_UP_WITHIN_S) as scope:
            while not all(map(done, self._devices)):
                await anyio.sleep(0.2)
        if scope.cancelled_caught:
            late = [it.name for it in self._devices if not done(it)]
            self.report.wrong.append(f"not {what} within {_CAUGHT_UP_WITHIN_S:g} s: {', '.join(late[:10])}")


async def _wait_for_others(last_push_s: float) -> None:
    """Say that all is sent here; return a moment after it is sent everywhere, when the last push has come."""
    print("sent", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    await anyio.sleep(last_push_s)


def _has_sent(device: SoakDevice) -> bool:
    return device.client is not None and device.client.pending_count == 0


def _has_everything(device: SoakDevice) -> bool:
    heads = device.client.heads.values() if device.client is not None else ()
    return bool(heads) and all(it.delivered_seq >= it.head_seq for it in heads)


def main(path: str) -> None:
    """Run a plan."""
    plan = msgspec.json.decode(Path(path).read_bytes(), type=Plan)
    clients = Clients(plan)
    anyio.run(clients.run)
    sys.stdout.write(msgspec.json.encode(clients.report).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
