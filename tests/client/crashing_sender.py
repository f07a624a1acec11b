"""A child process for the kill test: sends texts from a file store as fast as it can and says what was acknowledged.

python -m tests.client.crashing_sender URL TOKEN STORE CONVERSATION FIRST COUNT
"""

from __future__ import annotations

import sys

import anyio

from chatkit import ChatClient
from chatkit.client.events import MessageSent
from chatkit.errors import SendOutcomeUnknownError


async def main(url: str, token: str, store: str, conversation_id: str, first: int, count: int) -> None:
    async with (
        ChatClient(url, token=token, device_id="phone", store=store) as chat,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_tell, chat)
        for number in range(first, first + count):
            await _queue(chat, conversation_id, f"k{number}")
        await anyio.sleep_forever()


async def _queue(chat: ChatClient, conversation_id: str, key: str) -> None:
    try:
        await chat.send(conversation_id, key, client_msg_id=key, timeout=0)
    except SendOutcomeUnknownError:
        print(f"queued {key}", flush=True)


async def _tell(chat: ChatClient) -> None:
    async for event in chat.events():
        if isinstance(event, MessageSent):
            print(f"acked {event.sent.client_msg_id} {event.sent.seq}", flush=True)


if __name__ == "__main__":
    address, login, path, conversation, start, total = sys.argv[1:]
    anyio.run(main, address, login, path, conversation, int(start), int(total))
