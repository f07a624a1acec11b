"""The same bot, mended: whatever fails, each order is confirmed exactly once.

- The key of a confirmation is made from its order. So "once more" means the same message, not another one.
- Whenever it has caught up, it looks for orders without a confirmation: what it was told just before it died, it is not
  told again.

Run: `python -m pytest` in a copy of this folder.
"""

from __future__ import annotations

import anyio

from chatkit import CaughtUp, ChatClient, Message, MessageReceived, SendOutcomeUnknownError


async def take_orders(chat: ChatClient) -> None:
    """Confirm every order until cancelled."""
    async for event in chat.events():
        match event:
            case CaughtUp():
                await confirm_what_was_left(chat)
            case MessageReceived(message=order) if is_order(chat, order):
                await confirm(chat, order)


async def confirm_what_was_left(chat: ChatClient) -> None:
    """Confirm the orders among the newest 200 entries of each conversation that have no confirmation."""
    for conversation_id in chat.conversations:
        written = await chat.history(conversation_id, limit=200)
        confirmed = {message.client_msg_id for message in written}
        for order in written:
            if is_order(chat, order) and key_of(order) not in confirmed:
                await confirm(chat, order)


async def confirm(chat: ChatClient, order: Message) -> None:
    """Answer an order with its number; harmless if it was answered before."""
    text = f"Order {order.seq}: {order.text}"
    await enter_in_the_books(order)
    while True:
        try:
            await chat.send(order.conversation_id, text, client_msg_id=key_of(order), timeout=5)
            return
        except SendOutcomeUnknownError:
            continue  # it stays queued; this waits for the same message


async def enter_in_the_books(order: Message) -> None:
    """What the bot is for; it takes a moment. The books know an order by its messageId, so twice is once."""
    await anyio.sleep(0.5)


def is_order(chat: ChatClient, message: Message) -> bool:
    """Whether somebody else wrote it."""
    return message.type == "TEXT" and message.sender_id != chat.user_id


def key_of(order: Message) -> str:
    """The key of an order's confirmation: one for ever."""
    return f"confirm-{order.message_id}"
