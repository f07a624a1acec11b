"""Test clients of frameworks enter and leave a host's app as often as its tests like: it works, or says what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from litestar import Litestar, asgi
from litestar.exceptions import WebSocketDisconnect as LitestarDisconnect
from litestar.testing import TestClient as LitestarClient
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.websockets import WebSocketDisconnect

from chatkit import ChatServer, ConfigurationError, asgi_app, open_store
from tests.server.harness import by_name

AS_ANN = {"Authorization": "Bearer ann"}
GROUP = {"type": "GROUP", "conversationId": "g-1", "memberIds": ["ben"]}
HELLO = {"event": "HELLO", "token": "ben", "deviceId": "phone"}


def parts(folder: Path) -> tuple[Any, Any]:
    """The chat, and the lifespan of its host."""
    server = ChatServer(store=open_store(f"sqlite:///{folder}/chat.db"), authenticate=by_name)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with server:
            yield

    return asgi_app(server), lifespan


def in_starlette(folder: Path) -> Any:
    chat, lifespan = parts(folder)
    return lambda: TestClient(Starlette(lifespan=lifespan, routes=[Mount("/chat", chat)]))


def in_fastapi(folder: Path) -> Any:
    chat, lifespan = parts(folder)
    app = FastAPI(lifespan=lifespan)
    app.mount("/chat", chat)
    return lambda: TestClient(app)


def in_litestar(folder: Path) -> Any:
    chat, lifespan = parts(folder)

    @asgi("/chat", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["path"].rstrip("/") or "/"
        scope["root_path"] = "/chat"
        await chat(scope, receive, send)

    app = Litestar([mounted], lifespan=[lifespan], logging_config=None)
    return lambda: LitestarClient(app)


HOSTS: dict[str, Callable[[Path], Any]] = {
    "starlette": in_starlette,
    "fastapi": in_fastapi,
    "litestar": in_litestar,
}


@pytest.fixture(params=HOSTS)
def new_client(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A maker of test clients on one app."""
    return HOSTS[request.param](tmp_path)


def send(client: Any, key: str) -> int:
    body = {"conversationId": "g-1", "clientMsgId": key, "type": "TEXT", "content": "hi"}
    answer = client.post("/chat/v1/messages/send", json=body, headers=AS_ANN)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["seq"])


def heard(client: Any, until: str) -> dict[str, Any]:
    """What a device of ben is told up to an event."""
    with client.websocket_connect("/chat/v1/ws", subprotocols=["chatkit.v1.json"]) as socket:
        socket.send_json(HELLO)
        while True:
            said = socket.receive_json()
            for event in [said] if isinstance(said, dict) else said:
                if event["event"] == until:
                    return dict(event)


def test_one_client_after_the_other_finds_the_log_of_the_one_before(new_client: Any) -> None:
    with new_client() as client:
        assert client.post("/chat/v1/conversations", json=GROUP, headers=AS_ANN).status_code == 201
        assert send(client, "k1") == 2
        assert heard(client, "HEADS")["conversations"][0]["headSeq"] == 2
    with new_client() as client:
        assert send(client, "k1") == 2, "the same key is the same message"
        assert send(client, "k2") == 3
        assert heard(client, "HEADS")["conversations"][0]["headSeq"] == 3


@pytest.mark.filterwarnings(  # Litestar's client leaves its streams open where any lifespan fails
    "ignore:Exception ignored .* <function MemoryObject:pytest.PytestUnraisableExceptionWarning"
)
def test_a_second_client_beside_the_first_is_told_that_it_may_not(new_client: Any) -> None:
    with new_client() as client:
        with pytest.raises(BaseException) as refusal, new_client():  # noqa: PT011 -- some come as a group
            raise AssertionError("it was entered twice")
        assert "entered" in str(_first(refusal.value))
        assert client.get("/chat/readyz").status_code == 200, "the first goes on"


def test_a_client_that_was_not_entered_is_told_what_to_do(new_client: Any) -> None:
    client = new_client()
    refused = client.get("/chat/v1/conversations", headers=AS_ANN)
    assert refused.status_code == 503
    assert "async with server" in refused.json()["detail"]
    with pytest.raises((WebSocketDisconnect, LitestarDisconnect)) as closed:
        heard(client, "WELCOME")
    assert closed.value.code == 1011
    with new_client() as entered:
        assert entered.get("/chat/readyz").status_code == 200


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ConfigurationError)
    return error
