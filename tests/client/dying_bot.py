"""A child process for the kill test: a bot that says what it handles, and takes its time over it.

python -m tests.client.dying_bot URL TOKEN STORE
"""

from __future__ import annotations

import sys

import anyio

from chatkit import ChatClient, Delivery, MessageReceived


async def main(url: str, token: str, store: str) -> None:
    async with ChatClient(url, token=token, device_id="bot", store=store) as chat:
        await chat.consume(handle)


async def handle(delivery: Delivery) -> None:
    match delivery.event:
        case MessageReceived(message=message) if message.type == "TEXT":
            print(f"begun {message.text} {delivery.attempt}", flush=True)
            await anyio.sleep(0.005)
            print(f"handled {message.text}", flush=True)


if __name__ == "__main__":
    address, login, path = sys.argv[1:]
    anyio.run(main, address, login, path)
