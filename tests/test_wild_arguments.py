"""Every public call with every argument wrong in turn: a typed refusal by chatkit, and never a raw error of Python."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest

from chatkit import (
    ChatApi,
    ChatClient,
    ChatkitError,
    ChatServer,
    ClientConfig,
    Identity,
    Limits,
    MemoryConnector,
    ServerConfig,
    open_store,
    sign_token,
    user_id_from,
)
from chatkit.errors import BadRequestError, ConfigurationError

WILD: list[Any] = [None, 7, -1, 10**400, "x y", "ben", "\ud800", b"x", [], {}, 1.5, True, "", object()]
GOOD: dict[str, Any] = {
    "type": "GROUP",
    "kind": "GROUP",
    "creator_id": "ann",
    "member_ids": ["ben"],
    "user_ids": ["ben"],
    "conversation_id": "g",
    "by": "ann",
    "user_id": "ann",
    "sender_id": "ann",
    "blocked_id": "ben",
    "content": "hi",
    "client_msg_id": "k",
    "message_id": "m-1",
    "seq": 1,
    "up_to_seq": 1,
    "last_seq": 0,
    "title": "t",
    "provider": "apns",
    "token": "t",
    "handler": None,
    "held_id": 1,
    "reason": "SPAM",
    "resolution": "DISMISSED",
    "role": "ADMIN",
    "history": "FROM_START",
    "keep_s": 60.0,
    "what": "audit",
    "query": "",
}
"""What the arguments are that a call needs and that are not the wrong one."""

LEFT_OUT = {"aclose", "drain", "events", "connect", "disconnected"}
"""What ends the object or its events, and what only a gateway calls."""


async def by_name(token: str) -> Identity:
    return Identity(token)


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with ChatServer(store=open_store("memory://"), authenticate=by_name) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        yield server


def wild_calls(of: object) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each public call with each of its arguments wrong, in turn."""
    for name in dir(type(of)):
        function = getattr(type(of), name)
        if name.startswith("_") or name in LEFT_OUT or not inspect.isfunction(function):
            continue
        parameters = list(inspect.signature(function).parameters.values())[1:]
        needed = {it.name: GOOD.get(it.name) for it in parameters if it.default is it.empty}
        for parameter in parameters:
            for value in WILD:
                arguments = needed | {parameter.name: value}
                yield f"{name}({parameter.name}={value!r})", lambda f=function, a=arguments: f(of, **a)


async def only_refused(of: object) -> int:
    """Make each call. Returns how many were refused; anything but a refusal or an answer is raised."""
    refused, raw = 0, []
    for said, call in wild_calls(of):
        try:
            with anyio.fail_after(60):
                answer = call()
                if inspect.isawaitable(answer):
                    await answer
                elif isinstance(answer, AsyncIterator):
                    async for _ in answer:
                        pass
        except ChatkitError:
            refused += 1
        except Exception as error:
            raw.append(f"{said}: {error!r}")
    assert raw == []
    return refused


def answering(asked: list[httpx.Request]) -> httpx.AsyncClient:
    """A server that knows nothing, and what it was asked."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        problem = {"title": "no", "status": 404, "detail": "no", "code": "NOT_FOUND", "retryable": False}
        return httpx.Response(404, json=problem)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


async def test_a_client_refuses_wrong_arguments(server: ChatServer) -> None:
    connector = MemoryConnector(server)
    async with ChatClient("ws://chat.test", token="ann", device_id="d", connector=connector) as chat:
        await chat.wait_connected()
        chat._entered_runtime().api = ChatApi("http://chat.test", token="t", client=answering([]))
        assert await only_refused(chat) > 50
        assert chat.stopped is None


async def test_an_api_refuses_wrong_arguments_before_it_asks_anybody() -> None:
    asked: list[httpx.Request] = []
    async with ChatApi("http://chat.test", token="t", client=answering(asked)) as api:
        assert await only_refused(api) > 50
        asked.clear()
        for wrong in ("ben", None, 7, [7]):
            with pytest.raises(BadRequestError):
                await api.create_conversation("GROUP", wrong)  # type: ignore[arg-type]
            with pytest.raises(BadRequestError):
                await api.add_members("g", wrong)  # type: ignore[arg-type]
    assert asked == []


async def test_a_server_refuses_wrong_arguments(server: ChatServer) -> None:
    assert await only_refused(server) > 50
    with pytest.raises(BadRequestError, match="list of ids"):
        await server.add_members("g", None, "cat")
    made = await server.create_conversation("GROUP", "ann", iter(["cat", "dan"]))  # type: ignore[arg-type]
    members = await server.store.members(made.conversation_id, "ann", None, 10)
    assert {it.member.user_id for it in members} == {"ann", "cat", "dan"}


@pytest.mark.parametrize("wrong", [{"user_id": "x y"}, {"user_id": None}, {"user_id": "a", "device_id": "ü"}])
def test_no_token_is_signed_for_an_id_that_no_server_takes(wrong: Any) -> None:
    with pytest.raises(BadRequestError, match="must be 1-128 characters"):
        sign_token("s" * 32, **wrong)


@pytest.mark.parametrize("wrong", [None, 7, "short", "\ud800" * 40])
def test_a_secret_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="the JWT secret"):
        sign_token(wrong, user_id="ann")


@pytest.mark.parametrize("config", [ClientConfig, ServerConfig, Limits])
def test_a_number_that_nothing_holds_is_refused_by_its_name(config: Any) -> None:
    for name in config.__struct_fields__:
        with pytest.raises(ConfigurationError, match=name):
            config(**{name: 10**400})


@pytest.mark.parametrize("wrong", [None, 1, b"ann"])
def test_a_user_id_is_made_of_a_text(wrong: Any) -> None:
    with pytest.raises(BadRequestError):
        user_id_from(wrong)
