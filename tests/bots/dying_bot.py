"""A child process for the tests that kill or stop it: a bot that counts in its state, and says what it does.

python -m tests.bots.dying_bot [SECONDS]    set up by the environment
"""

from __future__ import annotations

import sys

import anyio

from chatkit import Connected, MessageReceived
from chatkit.bots import Bot, EventContext, MessageContext

bot = Bot()
seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.002


@bot.on(Connected)
async def ready(context: EventContext[Connected]) -> None:
    print("connected", flush=True)


@bot.on(MessageReceived)
async def answer(message: MessageContext) -> None:
    print("begun", message.text, flush=True)
    message.state["count"] = message.state.get("count", 0) + 1
    await message.reply(f"{message.state['count']}. {message.text}")
    print("answered", message.text, flush=True)
    await anyio.sleep(seconds)
    print("handled", message.text, flush=True)


if __name__ == "__main__":
    bot.run()
    print("ended", flush=True)
