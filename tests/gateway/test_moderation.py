"""Moderation through real sockets: the SDK and the HTTP requests of users and of administrators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from chatkit import (
    ChatApi,
    ChatClient,
    ChatServer,
    ClientConfig,
    ContentRefusedError,
    HeldError,
    MessageHeld,
    MessageReceived,
    MessageSent,
    NotFoundError,
    SendFailed,
    asgi_app,
)
from chatkit.client.events import ChatEvent
from chatkit.errors import BadRequestError, RateLimitedError
from chatkit.ports import SystemIds
from chatkit.server.limits import Limits
from chatkit.storage.memory import MemoryStore
from chatkit.types import Identity
from tests.server.test_moderation import ByWord

from .test_mounting import running

SOON_S = 20.0
QUICK = ClientConfig(backoff_base_s=0.05, backoff_max_s=0.2)


async def by_name(token: str) -> Identity:
    return Identity(token, scope="chat:admin" if token == "mod" else "")


class World:
    """A moderated server on a real port, with a group of ann and ben."""

    def __init__(self, server: ChatServer, port: int, stack: AsyncExitStack) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{port}"
        self._stack = stack

    async def client(self, user: str, store: Path | None = None) -> ChatClient:
        return await self._stack.enter_async_context(
            ChatClient(self.url, token=user, device_id="phone", config=QUICK, store=store)
        )

    async def api(self, user: str) -> ChatApi:
        return await self._stack.enter_async_context(ChatApi(self.url, token=user))

    def admin(self, path: str) -> str:
        return f"{self.url}/v1/admin/moderation/{path}"


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    server = ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=by_name, moderator=ByWord())
    async with running(asgi_app(server)) as port, AsyncExitStack() as stack:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        yield World(server, port, stack)


async def hear(client: ChatClient, *kinds: type[ChatEvent]) -> list[ChatEvent]:
    """The next events of these kinds, in this order; others before each are passed over."""
    heard: list[ChatEvent] = []
    with anyio.fail_after(SOON_S):
        async for event in client.events():
            if isinstance(event, kinds[len(heard)]):
                heard.append(event)
                if len(heard) == len(kinds):
                    break
    return heard


async def all_answered(client: ChatClient) -> None:
    """Nothing of the client waits for an answer but what is held."""
    with anyio.fail_after(SOON_S):
        while any(not it.held for it in client.pending()):
            await checkpoint()


async def test_the_sender_learns_what_was_stored_instead(tmp_path: Path) -> None:
    async with world() as it:
        ann, ben = await it.client("ann", tmp_path / "ann.db"), await it.client("ben")
        sent = await ann.send("g-1", "a swear word", client_msg_id="1")
        assert sent.payload == {"type": "TEXT", "text": "a ***** word"}
        received = (await hear(ben, MessageReceived, MessageReceived))[-1]
        assert isinstance(received, MessageReceived)
        assert received.message.text == "a ***** word"
        history = await ann.history("g-1")
        assert [m.text for m in history if m.type == "TEXT"] == ["a ***** word"]
        api = await it.api("ann")
        again = await api.send("g-1", "a swear word", client_msg_id="1")
        assert (again.seq, again.payload) == (sent.seq, sent.payload)
        with pytest.raises(ContentRefusedError, match="be kind"):
            await ann.send("g-1", "rude")
        with pytest.raises(ContentRefusedError, match="be kind"):
            await api.send("g-1", "rude")


async def test_a_held_message_waits_and_comes_in_order_once_it_is_released() -> None:
    async with world() as it:
        ann, ben = await it.client("ann"), await it.client("ben")
        with pytest.raises(HeldError):
            await ann.send("g-1", "a link", client_msg_id="1")
        with pytest.raises(HeldError):
            await ann.send("g-1", "after it", client_msg_id="2")
        with pytest.raises(HeldError):
            await ann.send("g-1", "a link", client_msg_id="1")
        assert [(m.client_msg_id, m.held) for m in ann.pending()] == [("1", True), ("2", True)]
        (held,) = await it.server.held_messages()
        await it.server.release_held(held.held_id)

        events = await hear(ann, MessageHeld, MessageHeld, MessageSent, MessageSent)
        assert [e.sent.client_msg_id for e in events if isinstance(e, MessageSent)] == ["1", "2"]
        assert [e.sent.payload for e in events if isinstance(e, MessageSent)] == [None, None]
        assert ann.pending() == []
        texts = await hear(ben, MessageReceived, MessageReceived, MessageReceived)
        assert [e.message.text for e in texts[1:] if isinstance(e, MessageReceived)] == ["a link", "after it"]


async def test_a_released_message_may_come_rewritten_and_a_refused_one_fails() -> None:
    async with world() as it:
        ann = await it.client("ann")
        for key in "12":
            with pytest.raises(HeldError):
                await ann.send("g-1", "a link", client_msg_id=key)
        first, second = await it.server.held_messages()
        await it.server.release_held(first.held_id, content="no more")
        await it.server.refuse_held(second.held_id, "not again")

        *_, sent, failed = await hear(ann, MessageHeld, MessageHeld, MessageSent, SendFailed)
        assert isinstance(sent, MessageSent)
        assert isinstance(failed, SendFailed)
        assert (sent.sent.client_msg_id, sent.sent.payload) == ("1", {"type": "TEXT", "text": "no more"})
        assert (failed.client_msg_id, type(failed.error), str(failed.error)) == (
            "2",
            ContentRefusedError,
            "not again",
        )
        assert ann.pending() == []


async def test_what_was_decided_while_the_client_was_away_is_asked_for_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with world() as it:
        path = tmp_path / "ann.db"
        async with ChatClient(it.url, token="ann", device_id="phone", config=QUICK, store=path) as ann:
            for key in "123":
                with pytest.raises(HeldError):
                    await ann.send("g-1", "a link", client_msg_id=key)
        first, second, _ = await it.server.held_messages()
        await it.server.release_held(first.held_id)
        await it.server.refuse_held(second.held_id, "not again")

        ann = await it.client("ann", path)
        await all_answered(ann)
        assert [(m.client_msg_id, m.held) for m in ann.pending()] == [("3", True)]
        found: list[ChatEvent] = []
        with anyio.fail_after(SOON_S):
            async for event in ann.events():
                if isinstance(event, MessageSent | SendFailed | MessageHeld):
                    found.append(event)
                if len(found) == 3:
                    break
        kinds = {type(e): e for e in found}
        assert set(kinds) == {MessageSent, SendFailed, MessageHeld}


async def test_a_client_that_ends_does_not_wait_for_a_review() -> None:
    async with world() as it:
        patient = ClientConfig(close_timeout_s=600.0)
        with anyio.fail_after(SOON_S):
            async with ChatClient(it.url, token="ann", device_id="phone", config=patient) as ann:
                with pytest.raises(HeldError):
                    await ann.send("g-1", "a link", client_msg_id="1")


async def test_users_report_what_they_see_and_administrators_resolve_it() -> None:
    async with world() as it:
        ann, ben, eve = await it.api("ann"), await it.client("ben"), await it.api("eve")
        sent = await ann.send("g-1", "look here")
        await ben.report(sent.message_id, "SPAM", "the third time")
        await ben.report(sent.message_id, "SPAM")
        with pytest.raises(NotFoundError):
            await eve.report(sent.message_id, "SPAM")
        with pytest.raises(BadRequestError):
            await ann.report(sent.message_id, "SPAM")
        with pytest.raises(BadRequestError):
            await ann.report(sent.message_id, "x" * 65)
        await ann.recall(sent.message_id)

        async with httpx.AsyncClient(headers={"Authorization": "Bearer mod"}) as mod:
            page = (await mod.get(it.admin("reports"))).json()
            (report,) = page["reports"]
            assert (report["reporterId"], report["senderId"], report["note"]) == (
                "ben",
                "ann",
                "the third time",
            )
            assert report["payload"] == {"type": "TEXT", "text": "look here"}
            where = it.admin(f"reports/{sent.message_id}/resolve")
            assert (await mod.post(where, json={"resolution": "WARNED"})).status_code == 204
            assert (await mod.post(where, json={"resolution": "WARNED"})).status_code == 404
            assert (await mod.get(it.admin("reports"))).json() == {"reports": [], "nextCursor": None}
        rows = [row for row in await it.server.store.audit("g-1") if row.action == "REPORTS_RESOLVED"]
        assert [(row.actor_id, row.subject) for row in rows] == [("mod", sent.message_id)]


async def test_administrators_review_over_http() -> None:
    async with world() as it:
        ann = await it.api("ann")
        for key in "1234":
            with pytest.raises(HeldError):
                await ann.send("g-1", "a link", client_msg_id=key)
        async with httpx.AsyncClient(headers={"Authorization": "Bearer mod"}) as mod:
            page = (await mod.get(it.admin("held"), params={"limit": 2})).json()
            first, second = page["messages"]
            assert (first["clientMsgId"], first["senderId"], first["reason"]) == ("1", "ann", "a link")
            third, fourth = (await mod.get(it.admin("held"), params={"cursor": page["nextCursor"]})).json()[
                "messages"
            ]
            wrong = {"payload": {"type": "MEMBER"}}
            assert (
                await mod.post(it.admin(f"held/{first['heldId']}/release"), json=wrong)
            ).status_code == 400
            answers = [
                await mod.post(it.admin(f"held/{second['heldId']}/release"), json={}),
                await mod.post(it.admin(f"held/{third['heldId']}/refuse"), json={"reason": "no"}),
                await mod.post(
                    it.admin(f"held/{first['heldId']}/release"),
                    json={"payload": {"type": "TEXT", "text": "instead"}},
                ),
            ]
            assert [it.status_code for it in answers] == [200, 200, 200]
            assert [
                ([m["clientMsgId"] for m in answer.json()["stored"]], answer.json()["refused"])
                for answer in answers
            ] == [([], []), ([], ["3"]), (["1", "2"], [])]
            assert (await mod.post(it.admin(f"held/{first['heldId']}/release"), json={})).status_code == 404
            assert (await mod.post(it.admin("held/x/release"), json={})).status_code == 400
        assert [held.client_msg_id for held in await it.server.held_messages()] == [fourth["clientMsgId"]]
        page = await ann.history("g-1")
        assert [m.text for m in page.messages if m.type == "TEXT"] == ["instead", "a link"]


async def test_reports_are_limited() -> None:
    limits = Limits(reports_per_user=None)
    assert limits.reports_per_user is None
    async with world() as it:
        ann, ben = await it.api("ann"), await it.api("ben")
        sent = await ann.send("g-1", "look here")
        for _ in range(30):
            it.server.allowance.report("ben")
        with pytest.raises(RateLimitedError):
            await ben.report(sent.message_id, "SPAM")
