"""A server and two people who talk, in one process.

Run: `pip install '.[server]'`, then `python examples/quickstart.py`.
"""

from __future__ import annotations

import secrets
import socket

import anyio
import uvicorn

from chatkit import (
    ChatApi,
    ChatClient,
    ChatServer,
    MessageReceived,
    asgi_app,
    jwt_authenticator,
    open_store,
    sign_token,
)

SECRET = secrets.token_hex(32)


async def talk(url: str) -> str:
    """Lina writes to Omar. Returns what arrives at Omar."""
    lina, omar = (sign_token(SECRET, user_id=name) for name in ("lina", "omar"))
    async with ChatApi(url, token=lina) as api:
        await api.create_conversation("SINGLE", ["lina", "omar"], conversation_id="c-1")
    async with ChatClient(url, token=lina, device_id="phone") as chat:
        sent = await chat.send("c-1", "Hello Omar!")  # returns once it is durable
        print(f"sent as number {sent.seq}")
    async with ChatClient(url, token=omar, device_id="tablet") as chat:  # he was away; it waited in the log
        async for event in chat.events():
            match event:
                case MessageReceived(message=message) if message.seq == sent.seq:
                    print(f"{message.sender_id}: {message.text}")
                    return message.text
    raise RuntimeError("the client stopped before the message came")


async def main() -> str:
    """Serve on a free port, talk, stop. Returns what was received."""
    server = ChatServer(store=open_store("memory://"), authenticate=jwt_authenticator(SECRET))
    web = uvicorn.Server(uvicorn.Config(asgi_app(server), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(web.serve, [listener])
            text = await talk(f"http://127.0.0.1:{listener.getsockname()[1]}")
            web.should_exit = True
    return text


if __name__ == "__main__":
    anyio.run(main)
