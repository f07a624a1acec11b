"""A server with a store that can be held or broken, and peers that speak to its sessions without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from chatkit.errors import InternalError, UnauthenticatedError, UnavailableError
from chatkit.observability.instrument import Instrument
from chatkit.ports import Ports, SystemIds
from chatkit.server.asking import ResumeAuthorizer
from chatkit.server.auth import Authenticator
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.moderation.config import ModerationConfig
from chatkit.server.moderation.verdicts import Moderator
from chatkit.server.server import ChatServer
from chatkit.storage.base import Command, Created, Outcome, Refused
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.virtual_time import VirtualClock
from chatkit.types import Identity
from chatkit.wire.codec import JSON, Codec


class GatedStore(SqliteStore):
    """SQLite in memory, whose commits can be held back or refused, and are counted."""

    def __init__(self) -> None:
        super().__init__(":memory:", ids=SystemIds(), threads=False)
        self.batches: list[list[Command]] = []
        self.failures = 0
        self.unhealthy = False
        self.poisoned: set[str] = set()
        self._gate: anyio.Event | None = None

    def hold(self) -> None:
        """Let no commit through until `release`."""
        self._gate = anyio.Event()

    def release(self) -> None:
        """Let commits through again."""
        assert self._gate is not None
        self._gate.set()
        self._gate = None

    def break_for(self, commits: int) -> None:
        """Refuse this many commits, and be unhealthy meanwhile."""
        self.failures = commits
        self.unhealthy = True

    @property
    def healthy(self) -> bool:
        return super().healthy and not self.unhealthy

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        self.batches.append(list(commands))
        if self._gate is not None:
            await self._gate.wait()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        sound = [command for command in commands if not self.poisoned.intersection(keys([command]))]
        outcomes = iter(await super().commit(sound))
        self.unhealthy = False
        fault = Refused(InternalError("the server failed to do this"))
        return [next(outcomes) if command in sound else fault for command in commands]


class HarnessServer(ChatServer):
    """A server whose peers leave when the test is over, so that its drain waits for nobody."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.peers: list[Peer] = []

    async def __aexit__(self, *error: Any) -> bool | None:
        for peer in self.peers:
            peer.leave()
        return await super().__aexit__(*error)


class Peer:
    """The other end of one session."""

    def __init__(self, server: HarnessServer, codec: Codec = JSON) -> None:
        server.peers.append(self)
        self._server = server
        self._codec = codec
        self._woken = anyio.Event()
        self._pending: list[dict[str, Any]] = []
        self.session = server.connect(codec, lambda: self._woken.set())

    def say(self, *events: dict[str, Any]) -> None:
        """Send one frame."""
        frame = self._codec.encode(events[0] if len(events) == 1 else list(events))
        self.session.received(
            frame if self._codec.binary else frame.decode(), self._server.ports.clock.now_s()
        )

    def read(self) -> list[dict[str, Any]]:
        """Everything that waits to be read, now."""
        while (frame := self.session.next_frame()) is not None:
            decoded = (msgspec.msgpack if self._codec.binary else msgspec.json).decode(frame)
            self._pending += decoded if isinstance(decoded, list) else [decoded]
        events, self._pending = self._pending, []
        return events

    async def hear(self, *kinds: str) -> list[dict[str, Any]]:
        """The next events of these kinds, in this order; other events before each are passed over."""
        heard = []
        with anyio.fail_after(5):
            for kind in kinds:
                heard.append(await self._next(kind))
        return heard

    async def _next(self, kind: str) -> dict[str, Any]:
        while True:
            self._woken = anyio.Event()
            events = self.read()
            for index, event in enumerate(events):
                if event["event"] == kind:
                    self._pending = events[index + 1 :]
                    return event
            await self._woken.wait()

    async def closed(self) -> int:
        """The close code, once the session is to be closed."""
        with anyio.fail_after(5):
            while self.session.close_code is None:
                self._woken = anyio.Event()
                await self._woken.wait()
        assert self.session.close_code is not None
        return self.session.close_code

    def leave(self) -> None:
        """Cut the connection."""
        self._server.disconnected(self.session)


async def by_name(token: str) -> Identity:
    """A login for tests: the token is the user's name, or `USER/DEVICE`."""
    user_id, _, device_id = token.partition("/")
    if user_id == "nobody":
        raise UnauthenticatedError("no such user")
    return Identity(user_id, device_id or None)


@asynccontextmanager
async def serving(
    store: GatedStore | None = None,
    *,
    authenticate: Authenticator = by_name,
    authorize_resume: ResumeAuthorizer | None = None,
    ports: Ports | None = None,
    instruments: Sequence[Instrument] = (),
    moderator: Moderator | None = None,
    moderation: ModerationConfig | None = None,
    **config: Any,
) -> AsyncIterator[HarnessServer]:
    """An entered server on a fresh store."""
    server = HarnessServer(
        store=store or GatedStore(),
        authenticate=authenticate,
        authorize_resume=authorize_resume,
        config=ServerConfig(**{"limits": Limits.unlimited(), **config}),
        ports=ports or Ports(VirtualClock()),
        instruments=instruments,
        moderator=moderator,
        moderation=moderation,
    )
    async with server:
        yield server


async def login(server: HarnessServer, user_id: str, device_id: str = "phone", codec: Codec = JSON) -> Peer:
    """A peer whose HEADS listing is complete."""
    peer = Peer(server, codec)
    peer.say({"event": "HELLO", "token": user_id, "deviceId": device_id})
    await peer.hear("WELCOME", "HEADS")
    return peer


async def group(server: ChatServer, *user_ids: str, conversation_id: str = "g-1") -> str:
    """A group of these users; the first is its creator."""
    command = server.engine.create("GROUP", user_ids[0], user_ids, conversation_id)
    await server.engine.execute(command, Created)
    return conversation_id


def text(conversation_id: str, key: str, body: str = "hello") -> dict[str, Any]:
    """A SEND_MSG."""
    payload = {"type": "TEXT", "text": body}
    return {
        "event": "SEND_MSG",
        "conversationId": conversation_id,
        "clientMsgId": key,
        "payload": payload,
    }


def keys(commands: Sequence[Command]) -> list[str]:
    """The clientMsgIds of a batch."""
    return [command.client_msg_id for command in commands if hasattr(command, "client_msg_id")]
