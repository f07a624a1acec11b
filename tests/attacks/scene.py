"""One server with a conversation, a secret message in it, and everybody who must not learn of it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any, NamedTuple

import anyio
import httpx
import msgspec

from chatkit import ChatServer, Identity, Limits, ServerConfig, asgi_app
from chatkit.archive.memory import MemoryArchive
from chatkit.ports import Ports, SystemClock
from chatkit.push.log import LogPushProvider
from chatkit.storage.base import Store
from chatkit.storage.sqlite import SqliteStore
from chatkit.wire.codec import JSON
from tests.proof.dumps import dump_store

CANARY = "canary-7d1f-words"
"""In the message."""

TITLE, PUSH_TOKEN = "canary-90aa-title", "canary-44c2-token"
"""What members may know, and nobody else."""

CONVERSATION, NO_CONVERSATION = "g-hidden-1", "g-hidden-9"
OWNER, MEMBER, NOBODY = "owner-1", "member-1", "owner-9"
DEVICE, NO_DEVICE = "phone-1", "phone-9"
ADMIN_SCOPE = "chat chat:admin"
_TABLES = [
    "conversation",
    "conversation_member",
    "message",
    "recall",
    "member_cursor",
    "push_token",
    "mute",
    "block",
]


class Outsider(NamedTuple):
    """Somebody who must not learn of the secret message.

    Attributes:
        name: What they are to the conversation.
        is_member: Whether they are in it now, and only the message is hidden from them.
        may_log_in: Whether the server lets them in.
    """

    name: str
    is_member: bool = False
    may_log_in: bool = True

    @property
    def user(self) -> str:
        """Their id."""
        return f"{self.name}-1"


OUTSIDERS = (
    Outsider("never"),
    Outsider("left"),
    Outsider("removed"),
    Outsider("expelled"),
    Outsider("blocked"),
    Outsider("banned", may_log_in=False),
    Outsider("late", is_member=True),
    Outsider("gap", is_member=True),
)
"""Never a member; left; removed by the owner; banned from the group; blocked by the owner; banned by the host; joined
after the message; left before the message and came back after it."""

INSIDER = Outsider("member", is_member=True)
"""A member to whom nothing of the conversation is hidden: for what only administrators may."""


async def authenticate(token: str) -> Identity:
    """`USER` or `USER/DEVICE`, with `!` behind it for an administrator."""
    name, _, device = token.removesuffix("!").partition("/")
    return Identity(name, device or None, scope=ADMIN_SCOPE if token.endswith("!") else "chat")


SILENCE = b"no answer"
"""What an event is answered with that is not answered."""

_ANSWER_S = 10.0
"""How long an answer is waited for; every event that is refused has one."""


class StillClock(SystemClock):
    """Stamps are all alike, so that answers can be compared to the byte."""

    def now_ms(self) -> int:
        return 1_800_000_000_000


class Scene:
    """The server and its secret.

    Attributes:
        message_id: Of the message that nobody but owner and member may learn of.
        blob_id: Of the file in another such message.
        resume_token: Of the member, for their own device.
    """

    def __init__(self, server: ChatServer, http: httpx.AsyncClient) -> None:
        self.server, self.http = server, http
        self.message_id = self.blob_id = self.resume_token = ""

    async def ask(
        self, user: str, method: str, path: str, body: Any = None, *, device: str = "pad", admin: bool = False
    ) -> httpx.Response:
        """One request."""
        token = f"{user}/{device}{'!' if admin else ''}"
        content = None if body is None else msgspec.json.encode(body)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return await self.http.request(method, path, content=content, headers=headers)

    async def done(self, user: str, method: str, path: str, body: Any = None) -> Any:
        """A request that must succeed."""
        answer = await self.ask(user, method, path, body, device=DEVICE)
        assert answer.is_success, (method, path, answer.text)
        return answer.json() if answer.content else None

    async def set_up(self) -> None:
        """Everybody comes, and some go; the owner stays online."""
        leaving = ["left-1", "removed-1", "gap-1", "banned-1", "expelled-1"]
        body = {
            "type": "GROUP",
            "memberIds": [MEMBER, *leaving],
            "conversationId": CONVERSATION,
            "title": TITLE,
        }
        await self.done(OWNER, "POST", "/v1/conversations", body)
        group = f"/v1/conversations/{CONVERSATION}"
        await self.done(OWNER, "POST", "/v1/messages/send", self._text("hello", "k0"))
        for user in ("left-1", "gap-1"):
            await self.done(user, "DELETE", f"{group}/members/{user}")
        await self.done(OWNER, "DELETE", f"{group}/members/removed-1")
        await self.done(OWNER, "PUT", f"{group}/bans/expelled-1")
        await self.server.ban("banned-1")
        await self.done(OWNER, "POST", "/v1/blocks/blocked-1")
        self.blob_id = await self._send_file()
        sent = await self.done(OWNER, "POST", "/v1/messages/send", self._text(CANARY, "k1"))
        self.message_id = sent["messageId"]
        await self.server.add_members(CONVERSATION, None, ["late-1", "gap-1"])
        await self.done(OWNER, "PUT", f"{group}/members/{MEMBER}/silence", {"until": None})
        push = {"provider": "log", "token": PUSH_TOKEN, "deviceId": DEVICE}
        await self.done(MEMBER, "POST", "/v1/devices", push)
        self.resume_token = await self._log_in_member()
        await Line(self.server).answer({"event": "HELLO", "token": OWNER, "deviceId": DEVICE}, "HEADS")

    async def _log_in_member(self) -> str:
        line = Line(self.server)
        welcome = await line.answer({"event": "HELLO", "token": MEMBER, "deviceId": DEVICE}, "WELCOME")
        line.leave()
        return str(msgspec.json.decode(welcome)["resumeToken"])

    async def _send_file(self) -> str:
        size = len(CANARY)
        reserved = await self.done(
            OWNER, "POST", "/v1/blobs", {"key": "k", "bytes": size, "mime": "text/plain"}
        )
        uploaded = await self.http.put(reserved["url"], content=CANARY.encode())
        assert uploaded.json()["state"] == "READY", uploaded.text
        content = {"blobId": reserved["blobId"], "mime": "text/plain", "bytes": size, "name": "x"}
        message = {"conversationId": CONVERSATION, "clientMsgId": "k2", "type": "FILE", "content": content}
        await self.done(OWNER, "POST", "/v1/messages/send", message)
        return str(reserved["blobId"])

    def _text(self, content: str, key: str) -> dict[str, str]:
        return {"conversationId": CONVERSATION, "clientMsgId": key, "type": "TEXT", "content": content}

    def names(self, user: str, *, real: bool) -> dict[str, str]:
        """What the ids of an ask are filled with. The message that is missing would be the fifteenth."""
        return {
            "me": user,
            "x": "nobody-7",
            "c": CONVERSATION if real else NO_CONVERSATION,
            "m": self.message_id if real else self.message_id[:-1] + "f",
            "b": self.blob_id if real else self.blob_id[::-1],
            "u": OWNER if real else NOBODY,
            "d": DEVICE if real else NO_DEVICE,
            "resume": self.resume_token if real else self.resume_token[::-1],
        }

    async def dump(self) -> str:
        """All that the store holds of the conversation; on SQLite also its rows as they are."""
        dump = await dump_store(self.server.store, [CONVERSATION])
        return repr(dump) + _rows(self.server.store)


class Line:
    """A connection without sockets, whose frames are kept as they came."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._woken = anyio.Event()
        self._events: list[bytes] = []
        self.heard = b""
        self.session = server.connect(JSON, self._wake)

    def _wake(self) -> None:
        self._woken.set()

    async def answer(self, event: dict[str, Any], *kinds: str) -> bytes:
        """The answer to an event: one of these kinds, or an ERROR; b"" if the connection ends, SILENCE without one."""
        self.session.received(JSON.encode(event).decode(), self._server.ports.clock.now_s())
        with anyio.move_on_after(_ANSWER_S):
            while (found := self._next((*kinds, "ERROR"))) is None and self.session.close_code is None:
                await self._woken.wait()
            return found or b""
        return SILENCE

    def _next(self, kinds: tuple[str, ...]) -> bytes | None:
        self._woken = anyio.Event()
        self._read()
        events, self._events = self._events, []
        return next((it for it in events if msgspec.json.decode(it)["event"] in kinds), None)

    def _read(self) -> None:
        while (frame := self.session.next_frame()) is not None:
            self.heard += frame
            decoded = msgspec.json.decode(frame, type=msgspec.Raw)
            if bytes(decoded).startswith(b"["):
                self._events += [bytes(it) for it in msgspec.json.decode(frame, type=list[msgspec.Raw])]
            else:
                self._events.append(bytes(decoded))

    def leave(self) -> None:
        """Cut the connection."""
        self._server.disconnected(self.session)


@asynccontextmanager
async def staged(store: Store) -> AsyncIterator[Scene]:
    """The scene on a store of its own."""
    server = ChatServer(
        store=store,
        authenticate=authenticate,
        config=ServerConfig(
            limits=Limits.unlimited(),
            presence=True,
            search=True,
            drain_timeout_s=0.01,  # at the end nobody reads what the lines are still sent
        ),
        push={"log": LogPushProvider()},
        blobs=MemoryArchive(),
        ports=Ports(StillClock()),
        drain_on_signals=False,
    )
    async with server:
        transport = httpx.ASGITransport(asgi_app(server))
        async with httpx.AsyncClient(transport=transport, base_url="http://chat.test") as http:
            scene = Scene(server, http)
            await scene.set_up()
            yield scene


def _rows(store: Store) -> str:
    if not isinstance(store, SqliteStore):
        return ""
    with closing(sqlite3.connect(f"file:{store._path}?mode=ro", uri=True)) as database:
        return repr({name: sorted(map(repr, database.execute(f"SELECT * FROM {name}"))) for name in _TABLES})
