"""A device whose app comes and goes over a store that stays, and that sends while it is here."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence
from typing import Final

import anyio
from anyio.abc import TaskGroup

from chatkit import ChatClient, ClientConfig
from chatkit.client.events import MessageSent
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import ClosedError, SendOutcomeUnknownError
from chatkit.types import Message
from tests.blackbox.tokens import token

from .shown import Screen

CONFIG: Final = ClientConfig(
    backoff_base_s=0.05, backoff_max_s=0.5, connect_timeout_s=2.0, hello_timeout_s=5.0, send_timeout_s=120.0
)
_UNANSWERED_MAX: Final = 8
_KEPT_MAX: Final = 1_000_000
_SEQ_END: Final = 2**53


class Device:
    """One device.

    Args:
        user_id: Who has it.
        url: Of the server.
        conversations: Those that it sends to; the user is a member of each.
        rng: Draws what is sent where.

    Attributes:
        screen: What its app shows.
        sent: The texts that it began to send, each of them its own key, with their conversations.
        acked: When it was told (monotonic) of those that are stored, in a log that may have been lost since.
    """

    def __init__(self, user_id: str, url: str, conversations: Sequence[str], rng: random.Random) -> None:
        self.user_id = user_id
        self.screen = Screen(user_id)
        self.sent: dict[str, str] = {}
        self.acked: dict[str, float] = {}
        self.client: ChatClient | None = None
        self._url = url
        self._conversations = conversations
        self._rng = rng
        self._store = MemoryStore(_KEPT_MAX, 2**31)
        self._scope: anyio.CancelScope | None = None

    @property
    def unanswered(self) -> list[str]:
        """What it has sent, or is to send, without an answer."""
        return [it.client_msg_id for it in self._store.pending()]

    async def live(self) -> None:
        """Run the app until `leave`."""
        self.screen.open(self._own())
        client = ChatClient(
            self._url, token=token(self.user_id, "phone"), device_id="phone", store=self._store, config=CONFIG
        )
        try:
            with anyio.CancelScope() as self._scope:
                async with client:
                    self.client = client
                    async for event in client.events():
                        self.screen.take(event)
                        if isinstance(event, MessageSent):
                            self.acked[event.sent.client_msg_id] = time.monotonic()
        finally:
            self.client = None

    def _own(self) -> list[Message]:
        records = [it.conversation_id for it in self._store.records()]
        held = [it for name in records for it in self._store.messages(name, _SEQ_END, _KEPT_MAX)]
        return [it for it in held if it.sender_id == self.user_id and it.client_msg_id is not None]

    def forget(self, lost: Collection[str]) -> None:
        """These were stored in a log that is lost; should they be sent again, they are stored anew."""
        self.acked = {text: at_s for text, at_s in self.acked.items() if text not in lost}

    def leave(self) -> None:
        """The app is closed, with whatever it has not sent yet kept in its store."""
        if self._scope is not None:
            self._scope.cancel()

    async def send(self, every_s: float) -> None:
        """Send while the app is here, until cancelled; what has no answer is bounded."""
        async with anyio.create_task_group() as tasks:
            limit = anyio.Semaphore(_UNANSWERED_MAX)
            while True:
                await anyio.sleep(every_s * self._rng.uniform(0.5, 1.5))
                if self.client is not None:
                    await limit.acquire()
                    self._send_one(tasks, limit)

    def _send_one(self, tasks: TaskGroup, limit: anyio.Semaphore) -> None:
        text = f"{self.user_id}-{len(self.sent)}"
        self.sent[text] = self._rng.choice(self._conversations)

        async def send() -> None:
            try:
                if self.client is not None:
                    await self.client.send(self.sent[text], text, client_msg_id=text)
            except (SendOutcomeUnknownError, ClosedError):
                pass  # the app was closed: it goes out when it is here again
            finally:
                limit.release()

        tasks.start_soon(send)

    def is_done(self) -> bool:
        """Whether everything is sent, and the app shows as much as there is."""
        client = self.client
        if client is None or client.pending_count:
            return False
        heads = client.heads
        return set(heads) == set(self._conversations) and all(
            self.screen.count(it.conversation_id) >= it.head_seq for it in heads.values()
        )
