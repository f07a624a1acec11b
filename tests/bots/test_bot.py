"""Bots in virtual time, on a real server without sockets: what users see of them, whatever their handlers do."""

from __future__ import annotations

import anyio

from chatkit import MessageReceived
from chatkit.bots import Bot, MessageContext
from chatkit.testing.bot_chat import BotChats


async def test_the_first_bot(chat_bot: BotChats) -> None:
    bot = Bot()

    @bot.on(MessageReceived)
    async def echo(message: MessageContext) -> None:
        await message.reply(f"You said: {message.text}")

    async with chat_bot(bot) as ann:
        assert await ann.ask("hello") == "You said: hello"
        assert await ann.ask("hello") == "You said: hello"
        await anyio.sleep(60)
        assert await ann.texts() == ["You said: hello"] * 2
