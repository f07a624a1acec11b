"""An SDK client whose events are all consumed: what it was told, in order, and waits for what it is to be told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskStatus

from chatkit import ChatClient, ClientConfig
from chatkit.client.events import (
    CaughtUp,
    ChatEvent,
    Connected,
    Disconnected,
    MessageRecalled,
    MessageReceived,
    MessageSent,
)

from .tokens import token
from .world import Values

SOON_S = 30.0
QUICK = ClientConfig(
    backoff_base_s=0.02, backoff_max_s=0.2, connect_timeout_s=2.0, hello_timeout_s=2.0, stable_after_s=0.0
)

Row = tuple[int, str, Any]
"""seq, messageId, text."""


class Phone:
    """One device.

    Attributes:
        chat: The client.
        events: All that it told so far.
    """

    def __init__(self, chat: ChatClient) -> None:
        self.chat = chat
        self.events: list[ChatEvent] = []
        self._told = anyio.Event()

    async def consume(self) -> None:
        async for event in self.chat.events():
            self.events.append(event)
            told, self._told = self._told, anyio.Event()
            told.set()

    async def until(self, condition: Callable[[Phone], bool], timeout_s: float = SOON_S) -> None:
        """Wait for events until they fulfil a condition."""
        with anyio.fail_after(timeout_s):
            while not condition(self):
                await self._told.wait()

    def count(self, kind: type[ChatEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    @property
    def recalls(self) -> int:
        """How many messages were recalled, as it was told."""
        return self.count(MessageRecalled)

    def received(self, conversation: str) -> list[int]:
        """The seqs of the entries told, in the order of their telling."""
        told = [event.message for event in self.events if isinstance(event, MessageReceived)]
        return [message.seq for message in told if message.conversation_id == conversation]

    def sent(self, conversation: str) -> list[int]:
        told = [event.sent for event in self.events if isinstance(event, MessageSent)]
        return [sent.seq for sent in told if sent.conversation_id == conversation]

    def codes(self) -> list[int]:
        """The close codes of the connections that ended."""
        return [event.code for event in self.events if isinstance(event, Disconnected)]

    async def until_head(self, conversation: str, head: int, timeout_s: float = SOON_S) -> None:
        """Wait until everything up to `head` was told, once, and the others' messages in order."""
        await self.until(
            lambda phone: len(phone.received(conversation) + phone.sent(conversation)) >= head, timeout_s
        )
        received = self.received(conversation)
        assert received == sorted(set(received)), f"{self.chat}: doubled or out of order: {received}"
        assert sorted(received + self.sent(conversation)) == list(range(1, head + 1)), self.chat

    async def log(self, conversation: str) -> list[Row]:
        """The whole conversation as this device shows it."""
        rows: list[Row] = []
        before: int | None = None
        while page := await self.chat.history(conversation, before_seq=before, limit=200):
            rows = [(entry.seq, entry.message_id, entry.payload.get("text")) for entry in page] + rows
            before = page[0].seq
            if before == 1:
                break
        return rows


@asynccontextmanager
async def phone(url: str, user: str, device: str = "phone", **options: Any) -> AsyncIterator[Phone]:
    """A device that is connected and has caught up."""
    options = {"config": QUICK} | options
    chat = ChatClient(url, token=token(user, device), device_id=device, **options)
    async with chat, anyio.create_task_group() as tasks:
        made = Phone(chat)
        tasks.start_soon(made.consume)
        await made.until(lambda phone: phone.count(Connected) > 0 and phone.count(CaughtUp) > 0)
        yield made
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def phones(url: str, users: Sequence[str], **options: Any) -> AsyncIterator[list[Phone]]:
    """A device for each user; each lives in a task of its own, so that they may be many."""
    left = anyio.Event()

    async def hold(user: str, *, task_status: TaskStatus[Phone]) -> None:
        async with phone(url, user, **options) as made:
            task_status.started(made)
            await left.wait()

    async with anyio.create_task_group() as tasks:
        yield [await tasks.start(hold, user) for user in users]
        left.set()


def rows(log: list[Values]) -> list[Row]:
    """A log as the server gives it, as `Phone.log` does; its seqs are 1..head."""
    assert [entry["seq"] for entry in log] == list(range(1, len(log) + 1))
    return [(entry["seq"], entry["messageId"], entry["payload"].get("text")) for entry in log]
