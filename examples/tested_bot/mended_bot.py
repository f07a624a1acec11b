"""The same bot, mended: whatever fails, each order is confirmed exactly once.

- `reply` makes the key of a confirmation from its order. So "once more" means the same message, not another one.
- An order is taken once it is confirmed, and until then it comes again at each start.

Run: `python -m pytest` in a copy of this folder.
"""

from __future__ import annotations

import anyio

from chatkit import ChatClient, MessageReceived
from chatkit.bots import Bot, MessageContext

bot = Bot()


@bot.on(MessageReceived, types=["TEXT"])
async def confirm(order: MessageContext) -> None:
    """Answer an order with its number; harmless if it was answered before."""
    await enter_in_the_books(order)
    await order.reply(f"Order {order.message.seq}: {order.text}")


async def enter_in_the_books(order: MessageContext) -> None:
    """What the bot is for; it takes a moment. The books know an order by its messageId, so twice is once."""
    await anyio.sleep(0.5)


async def run(client: ChatClient) -> None:
    """Confirm every order until cancelled."""
    await bot.serve(client)
