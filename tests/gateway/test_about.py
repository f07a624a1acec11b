"""What a group is called, what it is for and what is pinned, through all layers: moderator, log, HTTP and sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from chatkit import ChatApi, ChatServer, Identity, asgi_app
from chatkit.archive.directory import DirectoryArchive
from chatkit.errors import ContentRefusedError, ForbiddenError, HeldError, NotFoundError
from chatkit.ports import SystemIds
from chatkit.server.archiving.config import ArchiveConfig
from chatkit.server.moderation.verdicts import Allow, Hold, ModeratorVerdict, Refuse, Rewrite, Submission
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


async def by_name(token: str) -> Identity:
    return Identity(token)


async def moderator(submissions: Sequence[Submission]) -> list[ModeratorVerdict]:
    return [
        Refuse("be kind")
        if "rude" in it.text
        else Hold("look")
        if "link" in it.text
        else Rewrite(it.text.replace("heck", "h***"))
        if "heck" in it.text
        else Rewrite("[removed]")
        if "vile" in it.text
        else Rewrite("two\nlines")
        if "line" in it.text
        else Allow()
        for it in submissions
    ]


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    store = MemoryStore(ids=SystemIds())
    async with ChatServer(store=store, authenticate=by_name, moderator=moderator) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1", title="Tea")
        yield server


@pytest.fixture
async def http(server: ChatServer) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(asgi_app(server))
    async with httpx.AsyncClient(transport=transport, base_url="http://chat.test") as client:
        yield client


def api(http: httpx.AsyncClient, user: str) -> ChatApi:
    return ChatApi("http://chat.test", token=user, client=http)


async def test_a_title_goes_past_the_moderator(server: ChatServer, http: httpx.AsyncClient) -> None:
    async with api(http, "ann") as ann, api(http, "ben") as ben:
        with pytest.raises(ContentRefusedError, match="be kind"):
            await ann.set_title("g-1", "rude")
        with pytest.raises(ContentRefusedError):
            await ann.set_description("g-1", "not rude at all")
        payload = {"type": "TITLE", "title": "heck", "description": "what the\nheck"}
        sent = await ann.send("g-1", payload)
        assert sent.payload == {"type": "TITLE", "title": "h***", "description": "what the\nh***"}
        assert (await ann.set_title("g-1", "oh heck")).title == "oh h***"
        with pytest.raises(HeldError):
            await ann.set_title("g-1", "a link")
        assert (await ben.conversation("g-1")).title == "oh h***"

        (held,) = await server.held_messages()
        await server.release_held(held.held_id)
        assert (await ben.conversation("g-1")).title == "a link"


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ({"title": "Team", "description": "vile\nwords"}, {"title": "[removed]", "description": ""}),
        ({"title": "vile", "description": ""}, {"title": "[removed]", "description": ""}),
        ({"title": "", "description": "vile"}, {"title": "", "description": "[removed]"}),
        ({"description": "vile"}, {"description": "[removed]"}),
        ({"title": "a line"}, {"title": "two lines"}),
        ({"title": "a line", "description": "below"}, {"title": "two", "description": "lines"}),
    ],
)
async def test_nothing_stays_of_a_title_and_a_description_that_the_moderator_rewrote(
    said: dict[str, str], stored: dict[str, str], http: httpx.AsyncClient
) -> None:
    async with api(http, "ann") as ann:
        sent = await ann.send("g-1", {"type": "TITLE", **said})
        assert sent.payload == {"type": "TITLE", **stored}
        found = await ann.conversation("g-1")
        assert (found.title, found.description) == (stored.get("title", "Tea"), stored.get("description", ""))


async def test_what_is_so_already_adds_nothing(server: ChatServer, http: httpx.AsyncClient) -> None:
    async with api(http, "ann") as ann, api(http, "ben") as ben, api(http, "eve") as eve:
        made = await ann.set_description("g-1", "at four")
        again = await ben.set_description("g-1", "at four")
        assert (made.description, made.head_seq, again.head_seq) == ("at four", 2, 2)
        with pytest.raises(ForbiddenError):
            await ben.set_title("g-1", "Mine")
        with pytest.raises(NotFoundError):
            await eve.set_title("g-1", "Theirs")
        found = await server.set_title("g-1", "rude")
        assert (found.title, found.head_seq) == ("rude", 3), "what a host says is not moderated"
        found = await server.set_description("g-1", "", by="ann")
        entries = (await ben.history("g-1", 2)).messages
        assert [(it.sender_id, it.payload) for it in entries] == [
            ("ann", {"type": "TITLE", "description": "at four"}),
            ("ann", {"type": "TITLE", "title": "rude"}),
            ("ann", {"type": "TITLE", "description": ""}),
        ]


async def test_pins_read_as_pages_do(
    server: ChatServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(http, "ann") as ann, api(http, "ben") as ben, api(http, "eve") as eve:
        first, second = [await ann.send("g-1", text) for text in ("helo", "two")]
        named = {"messageId": first.message_id, "seq": first.seq}
        await ann.send("g-1", {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": "hello"}})
        for sent in (first, second):
            pin = {"type": "PINNED", "messageId": sent.message_id, "seq": sent.seq, "pinned": True}
            await ann.send("g-1", pin)
        await ben.send("g-1", {"type": "REACTION", **named, "reaction": "+1"})

        with monkeypatch.context() as patched:
            patched.setattr(server.sync, "_log", None)  # no page is read for any of them
            pins = await ben.pins("g-1")
        assert [it.message and it.message.text for it in pins] == ["two", "hello"]
        assert pins[1].message is not None
        assert [it.reaction for it in pins[1].message.reactions] == ["+1"]
        await ann.recall(second.message_id)
        assert [it.seq for it in await ben.pins("g-1")] == [first.seq]
        await server.add_members("g-1", None, ["zoe"])
        async with api(http, "zoe") as zoe:
            assert await zoe.pins("g-1") == []
        with pytest.raises(NotFoundError):
            await eve.pins("g-1")


async def test_a_pinned_message_of_the_archive_is_listed_with_its_words(tmp_path: Path) -> None:
    store, archive = (
        SqliteStore(tmp_path / "chat.db", ids=SystemIds()),
        DirectoryArchive(tmp_path / "archive"),
    )
    archiving = ArchiveConfig(after_s=0.001, keep_entries=1, interval_s=3600.0)
    async with ChatServer(store=store, authenticate=by_name, archive=archive, archiving=archiving) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        old = await server.send("g-1", "ann", "an old word", client_msg_id="old")
        await server._archiving.run()
        await server.send("g-1", "ann", "new", client_msg_id="new")
        pin = {"type": "PINNED", "messageId": old.message_id, "seq": old.seq, "pinned": True}
        await server.send("g-1", "ann", pin, client_msg_id="pin")
        await server._archiving.run()
        assert (await store.entries("g-1", 1, 1))[0].payload == b""

        transport = httpx.ASGITransport(asgi_app(server))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://chat.test") as http,
            api(http, "ben") as ben,
        ):
            assert [it.message and it.message.text for it in await ben.pins("g-1")] == ["an old word"]
