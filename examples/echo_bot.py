"""A bot that answers every text in its conversations, once, whatever breaks.

A message is taken once its answer is on its way, so a bot that crashes or is killed is given again what it had not
answered. The key of each answer is made from the message it answers, so the same answer sent twice is stored once. The
store in a file lets the bot go on where it was.

Run: `CHAT_TOKEN=$(chatkit token --user echo) python examples/echo_bot.py http://127.0.0.1:8080 echo.db`.
"""

from __future__ import annotations

import contextlib
import os
import sys

import anyio

from chatkit import ChatClient, Delivery, Message, MessageReceived, RefusedError, SendOutcomeUnknownError


async def main(url: str, store: str | None = None, *, token: str | None = None, answers: int = 0) -> None:
    """Answer until cancelled, or until so many `answers` are known to be stored if that is not 0."""
    given = 0
    async with ChatClient(url, token=token or os.environ["CHAT_TOKEN"], device_id="bot", store=store) as chat:
        with anyio.CancelScope() as scope:

            async def handle(delivery: Delivery) -> None:
                nonlocal given
                match delivery.event:
                    case MessageReceived(message=message) if message.type == "TEXT":
                        given += await answer(chat, message)
                        if answers and given >= answers:
                            scope.cancel()

            await chat.consume(handle)


async def answer(chat: ChatClient, message: Message) -> bool:
    """Read a message and answer it, unless it is the bot's own. Returns whether the answer is stored by now."""
    if message.sender_id == chat.user_id:
        return False
    try:
        await chat.mark_read(message.conversation_id, message.seq)
        key = f"echo-{message.message_id}"
        await chat.send(message.conversation_id, f"You said: {message.text}", client_msg_id=key)
    except SendOutcomeUnknownError:  # still queued: the client sends it again until the server says something
        print(f"the answer to {message.message_id} waits for the server", file=sys.stderr)
        return False
    except RefusedError as error:  # the conversation was left, or the answer is too long
        if error.retryable:
            raise  # as anything else does: the message is not taken, and comes again at the next start
        print(f"no answer to {message.message_id}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    address, *rest = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        anyio.run(main, address, rest[0] if rest else None)
