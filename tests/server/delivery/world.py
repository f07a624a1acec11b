"""A store, a worker and a provider that does as it is told, on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import anyio

from chatkit.observability.instrument import Instrument
from chatkit.push.base import Delivered, Push, PushProvider, Result
from chatkit.server.delivery.config import DeliveryConfig
from chatkit.server.delivery.notices import Compose
from chatkit.server.delivery.worker import DeliveryWorker
from chatkit.storage import base
from chatkit.storage.base import Store
from chatkit.testing.contracts.storage_commands import do, text
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import VirtualClock

CLOCK = VirtualClock()


class ScriptedProvider:
    """Keeps every push and answers as told; `answer` may also wait, or raise."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Push]] = []
        self.answer: Callable[[Push], Awaitable[Result]] = self.delivered

    async def delivered(self, push: Push) -> Result:
        return Delivered("id")

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        self.sent += [(CLOCK.now_ms(), push) for push in batch]
        return [await self.answer(push) for push in batch]

    async def aclose(self) -> None: ...

    def shown(self) -> list[tuple[str, str | None, str | None, int | None]]:
        """(token, title, body, badge) of every push."""
        return [(push.token, push.title, push.body, push.badge) for _, push in self.sent]


class World:
    """Users with devices in a store, and a worker beside it."""

    def __init__(self, store: Store, *, instruments: Sequence[Instrument] = (), **settings: Any) -> None:
        self.store = store
        self.provider = ScriptedProvider()
        self.settings = settings
        self.instruments = instruments
        self.worker = self.another_worker()
        self._keys = 0

    def another_worker(
        self,
        seed: int = 1,
        *,
        providers: Mapping[str, PushProvider] = MappingProxyType({}),
        compose: Compose | None = None,
        **more: Any,
    ) -> DeliveryWorker:
        ports = Rng(seed).ports("worker", CLOCK)
        config = DeliveryConfig(**{**self.settings, **more})
        every = {"scripted": self.provider, **providers}
        return DeliveryWorker(
            self.store, every, compose=compose, config=config, ports=ports, instruments=self.instruments
        )

    async def do(self, *commands: base.Command) -> list[base.Outcome]:
        return await do(self.store, *commands)

    async def device(self, user: str, device_id: str = "phone", *, hide_body: bool = False) -> None:
        now_ms = CLOCK.now_ms()
        token = f"{user}'s {device_id}"
        await self.do(base.RegisterPush(user, device_id, "scripted", token, hide_body, now_ms))

    async def group(self, name: str, *members: str, title: str = "Team") -> None:
        made = base.CreateConversation(name, "GROUP", members[0], members, title, "e1", 1000, CLOCK.now_ms())
        await self.do(made)

    async def single(self, name: str, *members: str) -> None:
        made = base.CreateConversation(name, "SINGLE", members[0], members, "", "e1", 2, CLOCK.now_ms())
        await self.do(made)

    async def send(self, name: str, sender: str, words: str) -> str:
        """Returns the message's id."""
        self._keys += 1
        payload = text(words)
        command = base.Append(name, sender, f"k{self._keys}", payload, payload, CLOCK.now_ms())
        (outcome,) = await self.do(command)
        assert isinstance(outcome, base.Appended)
        return outcome.entry.message_id

    async def recall(self, message_id: str, user: str) -> None:
        await self.do(base.Recall(message_id, user, 10**9, CLOCK.now_ms()))

    async def read(self, name: str, user: str, seq: int) -> None:
        await self.do(base.AdvanceRead(name, user, seq, CLOCK.now_ms()))

    async def confirm(self, name: str, user: str, seq: int, device_id: str = "phone") -> None:
        await self.do(base.AdvanceDelivered(name, user, device_id, seq, CLOCK.now_ms()))

    async def work(self, seconds: float = 30.0) -> None:
        """Let the worker run for a while."""
        with anyio.move_on_after(seconds):
            await self.worker.run()
