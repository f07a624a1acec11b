"""Search through all layers: the verb of hosts, the HTTP request, the SDK, and what the log says meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from chatkit import (
    BadRequestError,
    ChatApi,
    ChatClient,
    ChatServer,
    ConfigurationError,
    ForbiddenError,
    Limits,
    NotFoundError,
    Rate,
    ServerConfig,
    asgi_app,
)
from chatkit.archive.directory import DirectoryArchive
from chatkit.ports import SystemIds
from chatkit.server.archiving.config import ArchiveConfig
from chatkit.server.searching import EXAMINED_MAX, PAGE_BYTES_MAX
from chatkit.storage.base import Store
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.types import Identity

from .test_mounting import running

SOON_S = 20.0


async def by_name(token: str) -> Identity:
    return Identity(token)


class World:
    """A server with search, and its users' ways to it."""

    def __init__(self, server: ChatServer, stack: AsyncExitStack) -> None:
        self.server = server
        self._stack = stack
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(asgi_app(server)), base_url="http://chat.test"
        )

    async def api(self, user: str) -> ChatApi:
        return await self._stack.enter_async_context(
            ChatApi("http://chat.test", token=user, client=self.http)
        )

    async def get(self, user: str, **params: Any) -> httpx.Response:
        return await self.http.get("/v1/search", params=params, headers={"authorization": f"Bearer {user}"})

    async def send(self, user: str, *texts: str, where: str = "g-1") -> list[str]:
        """Send these, and wait until they can be found; returns their ids."""
        ids = [
            (await self.server.send(where, user, text, client_msg_id=f"k-{n}-{text[:20]}")).message_id
            for n, text in enumerate(texts)
        ]
        with anyio.fail_after(SOON_S):
            while not (await self.server.search(user, "x")).up_to_date:
                await checkpoint()
        return ids


@asynccontextmanager
async def world(store: Store | None = None, **options: Any) -> AsyncIterator[World]:
    store = store or SqliteStore(":memory:", ids=SystemIds(), threads=False)
    options.setdefault("config", ServerConfig(search=True))
    server = ChatServer(store=store, authenticate=by_name, **options)
    async with server, AsyncExitStack() as stack:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        it = World(server, stack)
        yield it
        await it.http.aclose()


async def texts(api: ChatApi, query: str, **where: Any) -> list[str]:
    return [it.text for it in (await api.search(query, **where)).hits]


async def test_a_user_finds_what_they_may_read_with_the_places_of_the_words() -> None:
    async with world() as it:
        await it.send("ann", "good morning", "今日は東京都へ", "Tomorrow, MORNING!")
        api = await it.api("ben")
        page = await api.search("morning")

        assert [hit.text for hit in page.hits] == ["Tomorrow, MORNING!", "good morning"]
        assert page.hits[0].highlights == ((10, 17),)
        assert page.hits[0].snippet == (0, 18)
        assert (page.hits[0].message.sender_id, page.hits[0].field) == ("ann", "text")
        assert page.hits[0].message.client_msg_id is None
        assert (page.next_cursor, page.up_to_date) == (None, True)
        assert await texts(api, "東京") == ["今日は東京都へ"]
        assert await texts(await it.api("zoe"), "morning") == []
        own = (await (await it.api("ann")).search("good")).hits[0].message
        assert own.client_msg_id == "k-0-good morning"
        assert (await it.server.search("ben", "morning")) == page


async def test_pages_lead_on_and_filters_hold() -> None:
    async with world() as it:
        await it.send("ann", *(f"word {n}" for n in range(5)))
        await it.send("ben", "word of ben")
        api = await it.api("ann")
        found, cursor = [], None
        for _ in range(4):
            page = await api.search("word", cursor=cursor, limit=2)
            found += [hit.text for hit in page.hits]
            cursor = page.next_cursor
            if cursor is None:
                break

        assert found == ["word of ben", "word 4", "word 3", "word 2", "word 1", "word 0"]
        assert cursor is None
        assert await texts(api, "word", sender_id="ben", conversation_id="g-1") == ["word of ben"]
        first = (await api.search("word", limit=50)).hits[-1].message.server_ts
        assert await texts(api, "word", before=first) == []
        assert len(await texts(api, "word", after=first)) == 6


async def test_what_is_recalled_is_gone_at_once() -> None:
    async with world() as it:
        _, secret = await it.send("ann", "a word", "a secret word")
        api = await it.api("ann")
        assert len(await texts(api, "word")) == 2
        await api.recall(secret)

        assert await texts(api, "word") == ["a word"]
        assert "secret" not in (await it.get("ben", q="word")).text


async def test_an_edited_message_is_found_as_it_reads_now() -> None:
    async with world() as it:
        api = await it.api("ann")
        sent = await api.send("g-1", "the first version")
        named = {"messageId": sent.message_id, "seq": sent.seq}
        await api.send(
            "g-1", {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": "its second version"}}
        )
        await api.send("g-1", {"type": "REACTION", **named, "reaction": "+1"})
        await it.send("ann", "another")
        (hit,) = (await (await it.api("ben")).search("version")).hits

        assert (hit.text, hit.message.text) == ("its second version", "its second version")
        assert hit.message.payload == {"type": "TEXT", "text": "the first version"}
        assert hit.highlights == ((11, 18),)
        assert [row.reaction for row in hit.message.reactions] == ["+1"]
        (found,) = (await it.server.search("ben", "version")).hits
        assert found == hit
        assert await texts(api, "first") == []


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({}, 400, "BAD_REQUEST"),
        ({"q": ""}, 400, "BAD_REQUEST"),
        ({"q": "..."}, 400, "BAD_REQUEST"),
        ({"q": "x" * 257}, 400, "BAD_REQUEST"),
        ({"q": "x", "limit": "0"}, 400, "BAD_REQUEST"),
        ({"q": "x", "cursor": "g"}, 400, "BAD_REQUEST"),
        ({"q": "x", "cursor": "f" * 16}, 400, "BAD_REQUEST"),
        ({"q": "x", "cursor": "1" * 17}, 400, "BAD_REQUEST"),
        ({"q": "x", "before": "soon"}, 400, "BAD_REQUEST"),
        ({"q": "x", "senderId": ""}, 400, "BAD_REQUEST"),
        ({"q": "x", "conversationId": "nowhere"}, 404, "NOT_FOUND"),
        ({"q": "x", "conversationId": "g-1"}, 404, "NOT_FOUND"),
    ],
)
async def test_what_is_refused(params: dict[str, str], status: int, code: str) -> None:
    async with world() as it:
        answer = await it.get("zoe", **params)

        assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "query", ["'; DROP TABLE", '"', "NEAR(a b)", "a OR b", "{x y}:", "x*", "^a", "a:b", "\\", "%", "𝒳"]
)
async def test_no_query_is_a_program(query: str) -> None:
    async with world() as it:
        await it.send("ann", f"hello {query} there")
        answer = await it.get("ann", q=query)

        assert answer.status_code in (200, 400)
        if answer.status_code == 200:
            assert [row["message"]["payload"]["text"] for row in answer.json()["results"]] == [
                f"hello {query} there"
            ]


async def test_a_user_has_so_many_searches() -> None:
    limits = Limits(searches_per_user=Rate(0.001, 2))
    async with world(config=ServerConfig(search=True, limits=limits)) as it:
        answers = [(await it.get(user, q="x")).json().get("code") for user in ("ann", "ann", "ann", "ben")]

        assert answers == [None, None, "RATE_LIMITED", None]


async def test_the_sdk_refuses_what_the_server_would() -> None:
    async with world() as it:
        api = await it.api("ann")
        for arguments in ({"query": "x" * 257}, {"query": 1}, {"query": "x", "sender_id": "a b"}):
            with pytest.raises(BadRequestError):
                await api.search(**arguments)
        with pytest.raises(NotFoundError):
            await api.search("x", conversation_id="nowhere")
        for options in ({"limit": 0}, {"after_ms": -1}, {"cursor": 5}, {"conversation_id": 5}):
            with pytest.raises(BadRequestError):
                await it.server.search("ann", "x", **options)


async def test_a_page_of_more_than_there_may_be_is_the_longest_for_the_host_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatkit.server.search_verbs.SEARCH_LIMIT_MAX", 2)
    monkeypatch.setattr("chatkit.gateway.search_api.SEARCH_LIMIT_MAX", 2)
    async with world() as it:
        await it.send("ann", "word 1", "word 2", "word 3")
        api = await it.api("ann")
        assert len((await api.search("word", limit=3)).hits) == 2
        assert len((await it.server.search("ann", "word", limit=3)).hits) == 2


async def test_without_search_it_is_forbidden_and_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with world(SqliteStore(path, ids=SystemIds())) as it:
        await it.send("ann", "word")
    assert list(tmp_path.glob("*-search"))
    async with world(SqliteStore(path, ids=SystemIds()), config=ServerConfig()) as it:
        with pytest.raises(ForbiddenError, match="switched off"):
            await (await it.api("ann")).search("word")
        assert it.server.searching.lag_s is None

    assert not list(tmp_path.glob("*-search*"))
    async with world(SqliteStore(path, ids=SystemIds())) as it:
        await it.send("ann", "another")
        assert await texts(await it.api("ann"), "word") == ["word"]


async def test_a_store_that_cannot_be_searched_is_refused() -> None:
    store = MemoryStore(ids=SystemIds())
    del store.search
    with pytest.raises(ConfigurationError, match="not Searchable"):
        ChatServer(store=store, authenticate=by_name, config=ServerConfig(search=True))
    ChatServer(store=store, authenticate=by_name)


async def test_a_page_is_bounded_in_bytes_and_in_what_is_looked_at() -> None:
    async with world() as it:
        await it.send("ann", *(f"{n} word {'long ' * 10_000}" for n in range(12)))
        page = await it.server.search("ann", "word", limit=50)

        assert sum(len(hit.text) for hit in page.hits) <= PAGE_BYTES_MAX + 64 * 1024
        assert page.next_cursor is not None
        rest = await it.server.search("ann", "word", limit=50, cursor=page.next_cursor)
        assert len(page.hits) + len(rest.hits) == 12


async def test_a_search_that_looks_at_much_says_where_to_go_on() -> None:
    async with world() as it:
        await it.server.send("g-1", "ann", "alpha beta", client_msg_id="first")
        async with anyio.create_task_group() as tasks:
            for n in range(EXAMINED_MAX + 50):
                tasks.start_soon(_send, it.server, n)
        await it.send("ann", "x")
        page = await it.server.search("ann", '"alpha beta"')

        assert (page.hits, page.next_cursor is None) == ((), False)
        rest = await it.server.search("ann", '"alpha beta"', cursor=page.next_cursor)
        assert [hit.text for hit in rest.hits] == ["alpha beta"]


async def _send(server: ChatServer, number: int) -> None:
    await server.send("g-1", "ann", "beta alpha", client_msg_id=f"n{number}")


async def test_archived_messages_are_found_with_their_words(tmp_path: Path) -> None:
    archive = DirectoryArchive(tmp_path / "archive")
    archiving = ArchiveConfig(after_s=0.001, keep_entries=1, interval_s=3600.0)
    async with world(
        SqliteStore(tmp_path / "chat.db", ids=SystemIds()), archive=archive, archiving=archiving
    ) as it:
        await it.send("ann", "an old word", "a newer word", "last")
        await it.server._archiving.run()
        assert (await it.server.store.entries("g-1", 1, 1))[0].payload == b""

        assert await texts(await it.api("ben"), "word") == ["a newer word", "an old word"]


async def test_a_client_asks_over_http_beside_its_socket() -> None:
    config = ServerConfig(search=True)
    server = ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=by_name, config=config)
    async with running(asgi_app(server)) as port:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        async with ChatClient(f"http://127.0.0.1:{port}", token="ann", device_id="phone") as ann:
            sent = await ann.send("g-1", "where is the parcel")
            page = await ann.search("parcel", conversation_id="g-1", limit=5)

            assert [it.message.message_id for it in page.hits] == [sent.message_id]
            with pytest.raises(NotFoundError):
                await ann.search("parcel", conversation_id="g-2")
            with pytest.raises(BadRequestError, match="nothing to search for"):
                await ann.search("...")


async def test_the_request_is_described() -> None:
    async with world() as it:
        described = (await it.http.get("/v1/openapi.json")).json()["paths"]["/v1/search"]["get"]

        assert {row["name"]: row.get("required", False) for row in described["parameters"]} == {
            "q": True,
            "conversationId": False,
            "senderId": False,
            "after": False,
            "before": False,
            "cursor": False,
            "limit": False,
        }
