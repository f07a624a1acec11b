"""A bot that takes orders, as one writes it first: it confirms each order, and when no answer comes it sends once more.

It works, until the network fails while it confirms, or it is started again. `test_orders.py` finds both.

Run: `BOT=first_bot python -m pytest` in a copy of this folder.
"""

from __future__ import annotations

import anyio

from chatkit import ChatClient, Message, MessageReceived, SendOutcomeUnknownError


async def run(client: ChatClient) -> None:
    """Confirm every order until cancelled."""
    async with client as chat:
        async for event in chat.events():
            match event:
                case MessageReceived(message=order) if (
                    order.type == "TEXT" and order.sender_id != chat.user_id
                ):
                    await confirm(chat, order)


async def confirm(chat: ChatClient, order: Message) -> None:
    """Answer an order with its number."""
    text = f"Order {order.seq}: {order.text}"
    await enter_in_the_books(order)
    while True:
        try:
            await chat.send(order.conversation_id, text, timeout=5)
            return
        except SendOutcomeUnknownError:
            continue  # no answer: send it once more


async def enter_in_the_books(order: Message) -> None:
    """What the bot is for; it takes a moment."""
    await anyio.sleep(0.5)
