"""A host that runs no lifespan: its program enters the server around it, again in the next event loop."""

from __future__ import annotations

from pathlib import Path

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from chatkit import ChatApi, ChatClient, ChatServer, asgi_app, open_store
from tests.gateway.test_mounting import running
from tests.server.harness import by_name


def test_a_program_enters_the_server_around_uvicorn_once_for_each_event_loop(tmp_path: Path) -> None:
    server = ChatServer(store=open_store(f"sqlite:///{tmp_path}/chat.db"), authenticate=by_name)
    app = Starlette(routes=[Mount("/chat", asgi_app(server))])

    async def main(text: str) -> int:
        config = uvicorn.Config(app, port=0, lifespan="off", log_config=None)
        async with server, running(config) as port:
            url = f"http://127.0.0.1:{port}/chat"
            async with ChatApi(url, token="ann") as api:
                await api.create_conversation("GROUP", ["ben"], conversation_id="g-1")
            async with ChatClient(url, token="ben", device_id="phone") as chat:
                return (await chat.send("g-1", text)).seq

    assert [anyio.run(main, text) for text in ("one", "two")] == [2, 3]
