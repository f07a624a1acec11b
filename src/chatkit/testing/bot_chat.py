"""A user who talks to a bot in a test: `async with chat_bot(bot) as ann: assert await ann.ask("/help") == "..."`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from .._event_loop import OwnerTask
from ..bots.bot import Bot
from ..client.client import ChatClient
from ..client.events import MessageEdited, MessageRecalled, MessageReceived
from ..server.server import ChatServer
from ..types import Message, Sent
from .devices import Devices

ANSWER_S = 60.0
"""So long an answer is waited for: of virtual time where the test runs in it."""


class BotChat:
    """One user in a conversation with a bot.

    Attributes:
        client: The user's client.
        conversation_id: Where they talk.
    """

    def __init__(
        self, bot: Bot, devices: Devices, client: ChatClient, conversation_id: str, bot_id: str
    ) -> None:
        self.client = client
        self.conversation_id = conversation_id
        self._bot = bot
        self._bot_id = bot_id
        self._devices = devices
        self._running = anyio.CancelScope()
        self._restarts = False
        self._not_given: list[int] = []

    async def send(self, text: str) -> Sent:
        """Say something."""
        return await self.client.send(self.conversation_id, text)

    async def ask(self, text: str) -> str:
        """Say something. Returns the bot's first message after it, as it reads now; one that grows once it has ended.

        Raises:
            TimeoutError: None came within a minute; of virtual time, where the test runs in it.
        """
        sent = await self.send(text)
        return await self._next(sent.seq)

    async def next_text(self) -> str:
        """The bot's next message, in the order of the log, that `ask` and this have not given yet; one that grows once
        it has ended. Raises TimeoutError, as `ask`."""
        return await self._next(0)

    async def texts(self) -> list[str]:
        """All messages of the bot here as they read now, in order: without what it recalled, and without its edits,
        reactions and pins. Of the newest 200 entries."""
        entries = await self.client.history(self.conversation_id, limit=200)
        return [message.text for message in entries if self._is_answer(message, 0)]

    async def restart(self) -> None:
        """Cut the bot off in whatever it does, and start it again with the same local store."""
        self._restarts = True
        self._running.cancel()
        await anyio.wait_all_tasks_blocked()

    async def _next(self, after_seq: int) -> str:
        self._not_given = [seq for seq in self._not_given if seq > after_seq]
        with anyio.move_on_after(ANSWER_S):
            if (text := await self._first_that_ended()) is not None:
                return text
            async for event in self.client.events():
                if isinstance(event, MessageReceived) and self._is_answer(event.message, after_seq):
                    self._not_given.append(event.message.seq)
                elif not isinstance(event, MessageEdited | MessageRecalled):
                    continue
                if (text := await self._first_that_ended()) is not None:
                    return text
        raise TimeoutError(f"the bot has not answered within {ANSWER_S:g} s")

    async def _first_that_ended(self) -> str | None:
        """The first that was not given yet, past those that were recalled; None while it grows, or if none is there."""
        while self._not_given:
            message = await self._message(self._not_given[0])
            if message.is_open:
                return None
            self._not_given.pop(0)
            if _is_message(message):
                return message.text
        return None

    async def _message(self, seq: int) -> Message:
        """It, as it reads now."""
        return (await self.client.history(self.conversation_id, before_seq=seq + 1, limit=1))[-1]

    def _is_answer(self, message: Message, after_seq: int) -> bool:
        here = message.conversation_id == self.conversation_id and message.sender_id == self._bot_id
        return here and message.seq > after_seq and _is_message(message)

    async def run_bot(self) -> None:
        """Run the bot, again after each `restart`."""
        self._restarts = True
        while self._restarts:
            self._restarts = False
            with anyio.CancelScope() as self._running:
                await self._bot.serve(self._devices(self._bot_id))


def _is_message(entry: Message) -> bool:
    return entry.is_user_message and entry.type != "RECALLED"


class BotChats:
    """Makes them: `async with bot_chats(bot) as ann`.

    Args:
        server: Where they meet.
        devices: Makes the clients.
    """

    def __init__(self, server: ChatServer, devices: Devices) -> None:
        self._server = server
        self._devices = devices

    @asynccontextmanager
    async def __call__(
        self, bot: Bot, user_id: str = "ann", *, bot_id: str = "bot", conversation_id: str = "c-bot"
    ) -> AsyncIterator[BotChat]:
        """Run a bot, and a user who talks to it, for as long as `async with` lasts.

        Args:
            bot: As the program has it; its connection is the test's.
            user_id: Who talks to it.
            bot_id: Who the bot is.
            conversation_id: Where.

        Raises:
            Exception: What ended the bot, if something did.
        """
        await self._server.create_conversation("SINGLE", user_id, [bot_id], conversation_id=conversation_id)
        runner = OwnerTask()  # a task group would wrap what a test raises
        async with self._devices(user_id) as client:
            chat = BotChat(bot, self._devices, client, conversation_id, bot_id)
            runner.start(chat.run_bot)
            try:
                yield chat
            finally:
                runner.cancel()
                with anyio.CancelScope(shield=True):
                    await runner.wait()
