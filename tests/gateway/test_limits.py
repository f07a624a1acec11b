"""Limits of one user over HTTP: requests, sends, conversations and members, and what is given back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from chatkit import ChatServer, Identity, Limits, Rate, ServerConfig, asgi_app, open_store

SLOW = 1 / 3600


async def by_name(token: str) -> Identity:
    return Identity(token)


@asynccontextmanager
async def client(**limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to a server with these limits."""
    config = ServerConfig(limits=Limits(**limits))
    server = ChatServer(store=open_store("memory://"), authenticate=by_name, config=config)
    transport = httpx.ASGITransport(asgi_app(server))
    async with server, httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


def as_user(user_id: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {user_id}"}


async def create(http: httpx.AsyncClient, user_id: str, name: str, *members: str) -> int:
    body = {"conversationId": name, "type": "GROUP", "memberIds": members}
    return (await http.post("/v1/conversations", json=body, headers=as_user(user_id))).status_code


async def add(http: httpx.AsyncClient, user_id: str, name: str, *members: str) -> int:
    body = {"userIds": members}
    path = f"/v1/conversations/{name}/members"
    return (await http.post(path, json=body, headers=as_user(user_id))).status_code


async def test_a_request_too_many_says_when_to_come_back() -> None:
    async with client(requests_per_user=Rate(SLOW, 2)) as http:
        answers = [await http.get("/v1/conversations", headers=as_user("ann")) for _ in range(3)]
        other = await http.get("/v1/conversations", headers=as_user("ben"))

    assert [it.status_code for it in (*answers, other)] == [200, 200, 429, 200]
    problem = answers[2].json()
    assert (problem["code"], problem["retryable"]) == ("RATE_LIMITED", True)
    assert problem["retryAfterMs"] > 3_500_000
    assert int(answers[2].headers["retry-after"]) > 3_500


async def test_sends_by_http_count_as_messages_of_their_user() -> None:
    async with client(sends_per_user=Rate(SLOW, 1)) as http:
        await create(http, "ann", "c-1", "ben")
        body = {"conversationId": "c-1", "clientMsgId": "k", "type": "TEXT", "content": "x"}
        codes = [
            (await http.post("/v1/messages/send", json=body, headers=as_user(user_id))).status_code
            for user_id in ("ann", "ann", "ben")
        ]

    assert codes == [200, 429, 200]


async def test_conversations_that_exist_and_refused_ones_are_free() -> None:
    async with client(conversations_created_per_user=Rate(SLOW, 2)) as http:
        await create(http, "ben", "taken", "cat")
        codes = [await create(http, "ann", "c-1", "ben") for _ in range(4)]
        codes += [await create(http, "ann", "taken", "ben")]
        codes += [await create(http, "ann", name, "ben") for name in ("c-2", "c-3")]

    assert codes == [201, 200, 200, 200, 409, 201, 429]


async def test_members_count_at_creation_and_later_and_who_is_one_already_is_free() -> None:
    async with client(members_added_per_user=Rate(SLOW, 3)) as http:
        codes = [await create(http, "ann", "c-1", "ben", "ann")]
        codes += [await add(http, "ann", "c-1", "ben") for _ in range(3)]
        codes += [await add(http, "ann", "c-1", "ben", "cat"), await add(http, "ben", "c-1", "zoe")]
        codes += [await add(http, "ann", "c-1", "dan", "eve"), await add(http, "ann", "c-1", "dan")]

    assert codes == [201, 200, 200, 200, 200, 403, 429, 200]


async def test_nobody_is_put_into_more_conversations_than_the_limit_says_whoever_does_it() -> None:
    async with client(added_per_user=Rate(SLOW, 2)) as http:
        codes = [await create(http, user_id, f"c-{user_id}", "victim") for user_id in ("u-1", "u-2", "u-3")]
        codes += [await create(http, "victim", "own", "u-3")]

    assert codes == [201, 201, 429, 201]
