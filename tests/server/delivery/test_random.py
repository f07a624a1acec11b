"""Random histories with workers that die, providers that fail and a store that refuses.

S21: no push goes to who should not get it, or says what was recalled before. L3: in the end nothing waits. L4: whoever
lacks a message at the end was pushed to about it, or the push was given up.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from chatkit.errors import UnavailableError
from chatkit.ports import SystemIds
from chatkit.push.base import Dead, Delivered, Push, Refused, Result, Retry, Unknown
from chatkit.server.delivery.config import DeliveryConfig
from chatkit.server.delivery.notices import Notice, PushText
from chatkit.server.delivery.worker import DeliveryWorker
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.testing.contracts.storage_commands import text
from chatkit.testing.rng import Rng

from .world import CLOCK

USERS = ("ann", "bob", "cat", "dan")
CONVERSATIONS = ("g", "h", "s")
AFTER_S = 5.0


class Chaos:
    """A store with a history that is made up as it goes, and what is known of its pushes."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = MemoryStore(ids=SystemIds())
        self.tables = self.store._tables
        self.calm = False
        self.wrong: list[str] = []
        self.pushed: dict[tuple[str, str], tuple[int, int]] = {}
        self.count = 0

    # --- what happens ---

    async def begin(self) -> None:
        await self.store.migrate()
        for user in USERS:
            for device_id in ("phone", "tablet")[: self.rng.choice([1, 2])]:
                await self.do(self.registration(user, device_id))
        for name in ("g", "h"):
            await self.do(base.CreateConversation(name, "GROUP", "ann", USERS, name, "e1", 9, CLOCK.now_ms()))
        await self.do(
            base.CreateConversation("s", "SINGLE", "ann", ("ann", "bob"), "", "e1", 9, CLOCK.now_ms())
        )

    def registration(self, user: str, device_id: str) -> base.RegisterPush:
        self.count += 1
        return base.RegisterPush(
            user, device_id, "p", f"{user}/{device_id}/{self.count}", False, CLOCK.now_ms()
        )

    async def do(self, command: base.Command) -> None:
        await self.store.commit([command])

    async def live(self, seconds: float) -> None:
        until_s = anyio.current_time() + seconds
        while anyio.current_time() < until_s:
            await self.do(self.command())
            await anyio.sleep(self.rng.choice([0.01, 0.5, 3.0]))

    def command(self) -> base.Command:
        rng, now_ms = self.rng, CLOCK.now_ms()
        where, user, device_id = rng.choice(CONVERSATIONS), rng.choice(USERS), rng.choice(["phone", "tablet"])
        log = self.tables.by_id[where]
        seq = rng.randint(1, log.head_seq)
        row = log.rows[seq - 1]
        name = base.message_id(log.key, row.epoch, seq)
        self.count += 1
        payload = text(f"secret {where} {log.head_seq + 1}")
        send = base.Append(where, user, f"k{self.count}", payload, payload, now_ms)
        others: list[base.Command] = [
            base.Recall(name, row.sender_id, 10**9, now_ms),
            base.AdvanceRead(where, user, seq, now_ms),
            base.AdvanceDelivered(where, user, device_id, seq, now_ms),
            base.ConfirmMessage(name, user, device_id, now_ms),
            base.Mute(where, user, rng.choice([0, now_ms + 20_000])),
            base.RemoveMember(rng.choice("gh"), None, user, now_ms),
            base.AddMembers(rng.choice("gh"), None, (user,), 9, now_ms),
            self.registration(user, device_id),
            base.UnregisterPush(user, device_id),
        ]
        return send if rng.random() < 0.5 else rng.choice(others)

    # --- the provider ---

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        for push in batch:
            self.judge(push)
        return [await self.answer(push) for push in batch]

    async def aclose(self) -> None: ...

    def judge(self, push: Push) -> None:
        """S21, in the moment in which a push leaves."""
        user, device_id, _ = push.token.split("/")
        log = self.tables.by_id[push.conversation_id]
        registered = self.tables.push_tokens.get((user, device_id))
        cursors, device = log.cursors.get(user), log.devices.get(user, {}).get(device_id)
        place = base.message_place(push.message_id)
        assert place is not None and cursors is not None
        row = log.rows[place[2] - 1]
        checks = {
            "another token": registered is not None and registered.token == push.token,
            "no member": log.is_member(user),
            "muted": log.muted.get(user, 0) <= CLOCK.now_ms(),
            "read": cursors.read_seq < row.seq,
            "confirmed": row.seq > (cursors.device_seq if device is None else device.delivered_seq),
            "confirmed singly": device is None or row.seq not in device.exact,
            "their own": row.sender_id != user,
            "before they joined": row.seq >= log.members[user][-1].join_seq,
            "too early": CLOCK.now_ms() >= row.server_ts + AFTER_S * 1000,
            "recalled": row.kind == "RECALL" or row.seq not in log.recalled,
            "another id": push.collapse_id == push.conversation_id,
        }
        self.wrong += [f"{name}: {push!r}" for name, holds in checks.items() if not holds]
        for seq in log.recalled:
            if f"secret {push.conversation_id} {seq}." in f"{push.body}.":
                self.wrong.append(f"a recalled body: {push!r}")

    async def answer(self, push: Push) -> Result:
        await anyio.sleep(0.01)
        fate = 1.0 if self.calm else self.rng.random()
        if fate < 0.1:
            await anyio.sleep_forever()
        if fate < 0.3:
            return self.rng.choice(
                [Retry(self.rng.choice([0.0, 5.0])), Unknown("lost"), Refused("too large")]
            )
        user, device_id, _ = push.token.split("/")
        if fate < 0.33:
            return Dead("gone")
        place = base.message_place(push.message_id)
        assert place is not None
        known = self.pushed.get((user + "/" + device_id, push.conversation_id), (0, 0))
        self.pushed[user + "/" + device_id, push.conversation_id] = max(known, (place[2], CLOCK.now_ms()))
        return Delivered()

    # --- the workers ---

    def worker(self, number: int) -> DeliveryWorker:
        async def compose(notice: Notice) -> PushText:
            await anyio.sleep(self.rng.choice([0, 0, 1.0]))
            return PushText("title", notice.payload.get("text", "withdrawn"))

        config = DeliveryConfig(
            push_after_s=AFTER_S, lease_s=20.0, batch=3, retry_max_s=20.0, attempts_max=10_000
        )
        return DeliveryWorker(
            self.store, {"p": self}, compose=compose, config=config, ports=Rng(number).ports("w", CLOCK)
        )

    async def keep_working(self, number: int) -> None:
        """A worker that dies now and then, and is started again."""
        while True:
            with anyio.move_on_after(10**6 if self.calm else self.rng.uniform(1, 40)):
                await self.worker(number).run()
            number += 10

    def break_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One call in ten is refused, before it is done or after it."""
        for name in ("claim", "targets", "newest", "payloads", "unread", "finish"):
            inner = getattr(self.store.deliveries, name)

            async def call(*args: Any, inner: Any = inner) -> Any:
                fate = 1.0 if self.calm else self.rng.random()
                if fate < 0.05:
                    raise UnavailableError("the disk refuses", retry_after_s=0.1)
                result = await inner(*args)
                if fate < 0.1:
                    raise UnavailableError("the answer is lost", retry_after_s=0.1)
                return result

            monkeypatch.setattr(self.store.deliveries, name, call)

    # --- the end ---

    async def judge_end(self) -> None:
        lag = await self.store.deliveries.lag()
        if lag.waiting:
            self.wrong.append(f"something waits: {lag}")  # L3
        dead = {
            (it.conversation_id, it.user_id, it.device_id)
            for it in await self.store.deliveries.dead_letters(999)
        }
        for (user, device_id), row in self.tables.push_tokens.items():
            for log in self.tables.of_user(user):
                lacking = self.lacking(log, user, device_id, row.at_ms)
                known = self.pushed.get((f"{user}/{device_id}", log.conversation_id), (0, 0))[0]
                if lacking > known and (log.conversation_id, user, device_id) not in dead:
                    self.wrong.append(
                        f"never pushed: {log.conversation_id} {lacking} to {user} {device_id}"
                    )  # L4

    def lacking(self, log: Any, user: str, device_id: str, registered_ms: int) -> int:
        """The newest message that a device lacks, which came while it could be pushed to; 0 for none."""
        device = log.devices.get(user, {}).get(device_id)
        cursors = log.cursors[user]
        after = max(cursors.read_seq, cursors.device_seq if device is None else device.delivered_seq)
        found = [
            row.seq
            for row in log.rows
            if row.kind == "USER" and row.sender_id != user and row.seq > after
            if row.seq not in log.recalled and (device is None or row.seq not in device.exact)
            if row.seq >= log.members[user][-1].join_seq and row.server_ts > registered_ms
        ]
        return (
            0 if user in log.muted else max(found, default=0)
        )  # what came while it was muted is told nobody


@pytest.mark.parametrize("seed", range(30))
async def test_pushes_go_to_whom_they_should_and_nothing_is_left(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    chaos = Chaos(seed)
    await chaos.begin()
    chaos.break_store(monkeypatch)
    async with anyio.create_task_group() as tasks:
        for number in (1, 2):
            tasks.start_soon(chaos.keep_working, number)
        await chaos.live(300)
        chaos.calm = True
        await anyio.sleep(400)
        tasks.cancel_scope.cancel()
    await chaos.judge_end()

    assert chaos.wrong == []
    assert chaos.pushed


def test_payloads_hold_the_words_that_are_looked_for() -> None:
    assert msgspec.json.decode(text("secret g 7"))["text"] == "secret g 7"
