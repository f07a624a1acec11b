"""The same bot, mended: whatever fails, each order is confirmed exactly once.

- The key of a confirmation is made from its order. So "once more" means the same message, not another one.
- It consumes its events: an order is taken once it is confirmed, and until then it comes again at each start.

Run: `python -m pytest` in a copy of this folder.
"""

from __future__ import annotations

from functools import partial

import anyio

from chatkit import ChatClient, Delivery, Message, MessageReceived, SendOutcomeUnknownError


async def take_orders(chat: ChatClient) -> None:
    """Confirm every order until cancelled."""
    await chat.consume(partial(take, chat))


async def take(chat: ChatClient, delivery: Delivery) -> None:
    """Confirm what is an order."""
    match delivery.event:
        case MessageReceived(message=order) if is_order(chat, order):
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
