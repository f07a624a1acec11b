"""`python -m tests.proof.fuzz --count N --seed S`: mutated frames and requests against a real server.

Nine in ten are frames of both codecs for sessions without sockets, of strangers and of a user who is logged in; the
rest are requests and WebSocket bytes over real sockets, by our protocols of uvicorn. A crash is an exception that
nobody caught, an answer of 500, an ERROR with INTERNAL, a frame of the server that is none, or an ERROR in the log. A
leak is a session, an address, a task or a descriptor that is left at the end. The inputs depend on the seed alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import msgspec
import uvicorn

from chatkit import ChatServer, Identity, ServerConfig, asgi_app
from chatkit.core.connection import State
from chatkit.errors import ChatkitError, UnauthenticatedError
from chatkit.gateway.admin_api import ADMIN_SCOPE
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol
from chatkit.ports import SystemIds
from chatkit.server.limits import Limits
from chatkit.server.session import Session
from chatkit.storage.memory import MemoryStore
from chatkit.wire.codec import JSON, MSGPACK, Codec
from chatkit.wire.events import CloseCode
from tests.attacks.matrix import PATH_IDS, fill
from tests.attacks.rows import HTTP
from tests.idle_time import IdleLoop

ANSWER_S = 0.05
WORKERS = 8
_OVER_SOCKETS = 10  # one in so many
_MEANT = ("501", "503")
"""Of the answers that begin with 5: a transfer coding that nobody knows (RFC 9112 section 6.1), and OVERLOADED."""
_GROUP = "g-1"

VALUES: list[Any] = [
    *(None, True, -1, 0, 1.5, 2**31, 2**53, 2**53 + 1, 2**63, -(2**63), 1e300),
    *("", "x", "..", "a/b", "x" * 129, "x" * 20_000, "\x00", "\u202e", "😀" * 70, "*", "1"),
    *([], {}, [[]], [None] * 300, {"": ""}, {"event": "PING"}, {"__proto__": 1}),
]
PIECES = [
    *(
        b"\x00",
        b"\xff",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\x00\x00\x01\x00",
        b"\xd9\xff",
        b"\x81\x01\x02",
    ),
    *(
        b"[" * 60,
        b"{",
        b"}",
        b'"',
        b"\\ud800",
        b"NaN",
        b"1e999",
        b"9" * 400,
        b",",
        b"null",
        b"\r\n",
        b"%2F",
        b"%00",
    ),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"0\r\n\r\n", b" "),
]
EVENTS: list[dict[str, Any]] = [
    {
        "event": "HELLO",
        "deviceId": "d-9",
        "token": "ann",
        "client": {"name": "n", "version": "1"},
        "ref": "1",
    },
    {"event": "HELLO", "deviceId": "d-9", "resumeToken": "00ff"},
    {
        "event": "SEND_MSG",
        "conversationId": _GROUP,
        "clientMsgId": "k-1",
        "payload": {"type": "TEXT", "text": "到了吗？"},
        "ref": "2",
    },
    {
        "event": "SEND_MSG",
        "conversationId": _GROUP,
        "clientMsgId": "k-2",
        "payload": {"type": "CUSTOM", "schema": "s", "data": {"a": [1, {"b": None}]}, "fallbackText": "f"},
    },
    {
        "event": "SEND_MSG",
        "conversationId": _GROUP,
        "clientMsgId": "k-3",
        "payload": {"type": "IMAGE", "url": "https://x/y", "mime": "image/png", "bytes": 5, "width": 3},
    },
    {"event": "DELIVERED_ACK", "conversationId": _GROUP, "upToSeq": 1, "ref": "3"},
    {"event": "READ", "conversationId": _GROUP, "upToSeq": 1},
    {"event": "SYNC", "conversationId": _GROUP, "lastSeq": 0, "limit": 5, "epoch": "e", "ref": "4"},
    {"event": "RECALL", "messageId": "1-a-2", "ref": "5"},
    {
        "event": "SEND_MSG",
        "conversationId": _GROUP,
        "clientMsgId": "k-4",
        "payload": {"type": "STREAM", "text": "a", "fallbackText": "b"},
    },
    {
        "event": "STREAM_PART",
        "conversationId": _GROUP,
        "messageId": "1-a-2",
        "part": 1,
        "text": "x",
        "ref": "7",
    },
    {"event": "TYPING", "conversationId": _GROUP},
    {"event": "PRESENCE", "state": "AWAY"},
    {"event": "AUTH_REFRESH", "token": "ann"},
    {"event": "PING", "ref": "6"},
]
_NAMES = {
    "me": "ann",
    "u": "ben",
    "x": "cleo",
    "c": _GROUP,
    "m": "1-a-2",
    "d": "d-9",
    "b": "0f" * 16,
    "resume": "00ff",
}
_KEPT = 0.4
"""The part of the values that stay as they are: what is all wrong is refused at the door."""

_UNSEEN_MAX = 0.02
"""The part of the inputs that may be refused unseen, for somebody was too quick; beyond it the fuzzer is blind."""


def _bases() -> list[tuple[str, str, Any]]:
    """(method, target, body) of good requests: those that the attacks make, of every operation there is."""
    found: list[tuple[str, str, Any]] = [("GET", "/v1/ws", None), ("GET", "/v1/openapi.json", None)]
    for name, asks in HTTP.items():
        method, _, path = name.partition(" ")
        for ask in asks:
            own = ask.path or re.sub(r"\{(\w+)\}", lambda part: PATH_IDS[part[1]], path)
            target = fill(f"{own}?{ask.query}" if ask.query else own, _NAMES)
            found.append((method, target, fill(ask.body, _NAMES)))
    return found


_BASES = _bases()


class Mutator:
    """Makes bad input of good."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def frame(self, codec: Codec) -> bytes | str:
        """A frame that is mutated, in its values or in its bytes."""
        events = [self._event() for _ in range(self._rng.choice([1, 1, 1, 2, 5, 30]))]
        frame = codec.encode(events[0] if len(events) == 1 else events)
        if self._rng.random() < 0.5:
            frame = self.spoilt(frame)
        return frame if codec.binary else frame.decode(errors="surrogateescape")

    def request(self) -> bytes:
        """A request that is mutated."""
        method, target, body = self._rng.choice(_BASES)
        content = b"" if body is None else msgspec.json.encode(self._changed(body))
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: x",
            "Authorization: Bearer ann",
            "X-Device-Id: d-9",
            f"Content-Length: {len(content)}",
        ]
        request = "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + content
        return self.spoilt(request) if self._rng.random() < 0.7 else request

    def websocket(self) -> bytes:
        """The bytes of a WebSocket from its upgrade on, mutated."""
        head = (
            b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        frames = b"".join(self._masked(json.dumps(event).encode()) for event in (EVENTS[0], self._event()))
        return head + self.spoilt(frames) if self._rng.random() < 0.8 else self.spoilt(head + frames)

    def spoilt(self, data: bytes) -> bytes:
        """A few bytes changed, lost, doubled, cut or put in."""
        changed = bytearray(data)
        for _ in range(self._rng.choice([1, 1, 2, 4])):
            at = self._rng.randrange(len(changed) + 1)
            end = min(len(changed), at + self._rng.choice([1, 1, 2, 8, 40]))
            match self._rng.randrange(5):
                case 0:
                    changed[at:end] = self._rng.randbytes(end - at)
                case 1:
                    del changed[at:end]
                case 2:
                    changed[at:at] = changed[at:end]
                case 3:
                    changed[at:at] = self._rng.choice(PIECES)
                case 4 if self._rng.random() < 0.3:
                    del changed[at:]
        return bytes(changed)

    def _event(self) -> Any:
        return self._changed(self._rng.choice(EVENTS))

    def _changed(self, value: Any) -> Any:
        """The same with one value, key or item changed, or as it was."""
        if isinstance(value, dict) and value and self._rng.random() < 0.9:
            key = self._rng.choice(list(value))
            if self._rng.random() < 0.1:
                return {name: it for name, it in value.items() if name != key}
            return {**value, key: self._changed(value[key])}
        if isinstance(value, list) and value and self._rng.random() < 0.7:
            return [self._changed(value[0]), *value[1:]]
        return value if self._rng.random() < _KEPT else self._rng.choice(VALUES)

    def _masked(self, data: bytes) -> bytes:
        size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        return (
            bytes((self._rng.choice([0x81, 0x81, 0x81, 0x82, 0x89, 0x01, 0x80, 0x88]),))
            + size
            + b"\0\0\0\0"
            + data
        )


class Findings(logging.Handler):
    """What went wrong, and how often what came."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.crashes: list[str] = []
        self.leaks: list[str] = []
        self.counts: Counter[str] = Counter()

    @property
    def unseen(self) -> int:
        """Inputs that nobody looked at, for a limit closed the connection or refused the request."""
        return self.counts[f"close {CloseCode.OVERLOADED}"] + self.counts["status 429"]

    def emit(self, record: logging.LogRecord) -> None:
        """An ERROR in the log is a crash."""
        self.crash(f"{record.name}: {record.getMessage()}", record.exc_info[1] if record.exc_info else None)

    def crash(self, words: str, error: BaseException | None = None) -> None:
        """Note a crash."""
        self.crashes.append(words if error is None else f"{words}: {error!r}")


class SessionFuzz:
    """Frames for two sessions without sockets, which are opened again when they are closed."""

    def __init__(self, server: ChatServer, mutator: Mutator, findings: Findings) -> None:
        self._server = server
        self._mutator = mutator
        self._findings = findings
        self._sessions: dict[tuple[str, bool], Session] = {}

    async def run(self, count: int, rng: random.Random) -> None:
        """Send so many frames."""
        for number in range(count):
            codec = rng.choice((JSON, MSGPACK))
            session = await self._session(codec, logged_in=rng.random() < 0.8)
            frame = self._mutator.frame(codec)
            try:
                session.received(frame, self._server.ports.clock.now_s())
            except Exception as error:
                self._findings.crash(f"frame {number}: {frame[:200]!r}", error)
            self._read(session)
            if number % 20 == 0:
                await anyio.sleep(0)
        for session in self._sessions.values():
            self._server.disconnected(session)

    async def _session(self, codec: Codec, *, logged_in: bool) -> Session:
        place = (codec.name, logged_in)
        session = self._sessions.get(place)
        if session is None or session.close_code is not None:
            if session is not None:
                self._findings.counts[f"close {session.close_code}"] += 1
                self._server.disconnected(session)
            session = self._sessions[place] = self._server.connect(codec, lambda: None)
            if logged_in:
                await self._log_in(session)
        return session

    async def _log_in(self, session: Session) -> None:
        codec = session.codec
        hello = codec.encode({"event": "HELLO", "token": "ann", "deviceId": codec.name})
        session.received(hello if codec.binary else hello.decode(), self._server.ports.clock.now_s())
        while session.state is State.LOGGING_IN:
            await anyio.sleep(0)
        self._read(session)

    def _read(self, session: Session) -> None:
        while (frame := session.next_frame()) is not None:
            try:
                events = session.codec.own_server_events(frame)
            except ChatkitError as error:
                self._findings.crash("the server sent what is no event", error)
                continue
            for event in events:
                code = getattr(event, "code", type(event).__name__)
                self._findings.counts[code] += 1
                if code == "INTERNAL":
                    self._findings.crash(f"INTERNAL: {event}")


async def _sockets(port: int, inputs: list[bytes], findings: Findings) -> None:
    """Send each over a connection of its own."""

    async def work() -> None:
        while inputs:
            request = inputs.pop()
            status = await _ask(port, request)
            findings.counts[f"status {status}"] += 1
            if status.startswith("5") and status not in _MEANT:
                findings.crash(f"{status} for {request[:300]!r}")

    await asyncio.gather(*(work() for _ in range(WORKERS)))


async def _ask(port: int, request: bytes) -> str:
    """The status of the first answer; `none` where none came: it waits for more, or is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(ANSWER_S):
            first = await reader.readline()
        return first.split()[1].decode() if first.startswith(b"HTTP/1.1 ") else "none"
    except (OSError, TimeoutError):
        return "none"
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def by_name(token: str) -> Identity:
    """The token is the name; an administrator's, so that every request there is can be reached."""
    if token != "ann":
        raise UnauthenticatedError("nobody")
    return Identity(token, scope=ADMIN_SCOPE)


def new_server() -> ChatServer:
    """A server that limits nobody: what it would refuse unseen is to be looked at."""
    store = MemoryStore(ids=SystemIds())
    return ChatServer(store=store, authenticate=by_name, config=ServerConfig(limits=Limits.unlimited()))


@contextlib.asynccontextmanager
async def listening(server: ChatServer) -> AsyncIterator[int]:
    """The server on a port, by our protocols."""
    config = uvicorn.Config(
        asgi_app(server),
        port=0,
        log_config=None,
        http=ChatHttpProtocol,
        ws=ChatWebSocketProtocol,
        ws_max_size=1_000_000,
        ws_ping_interval=None,
    )
    web = uvicorn.Server(config)
    web.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]  # whoever runs this keeps theirs
    serving = asyncio.create_task(web.serve())
    while not web.started:
        await asyncio.sleep(0.001)
    try:
        yield web.servers[0].sockets[0].getsockname()[1]
    finally:
        web.should_exit = True
        await serving


async def fuzz(count: int, seed: int) -> Findings:
    """Send so many mutated inputs, and look for what is left afterwards."""
    findings, server = Findings(), new_server()
    logging.getLogger().addHandler(findings)
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: findings.crash(context["message"], context.get("exception"))
    )
    before = _alive()
    mutator, over_sockets = Mutator(seed), count // _OVER_SOCKETS
    try:
        async with server:
            await server.create_conversation("GROUP", "ann", ["ben"], conversation_id=_GROUP)
            async with listening(server) as port:
                await SessionFuzz(server, mutator, findings).run(count - over_sockets, random.Random(seed))
                makers: list[Callable[[], bytes]] = [mutator.request, mutator.request, mutator.websocket]
                await _sockets(port, [makers[n % 3]() for n in range(over_sockets)], findings)
            _look_for_leaks(server, findings)
    finally:
        logging.getLogger().removeHandler(findings)
    await asyncio.sleep(0)
    after = _alive()
    findings.leaks += [
        f"{name}: {before[name]} before, {after[name]} after" for name in before if after[name] > before[name]
    ]
    return findings


def _look_for_leaks(server: ChatServer, findings: Findings) -> None:
    left = {
        "sessions": len(list(server._sessions)),
        "addresses": len(server._sessions._admission),
        "online": len(server._hub.presence.all_sessions()),
        "audiences": len(server._hub._audiences),
    }
    findings.leaks += [f"{name}: {number} left" for name, number in left.items() if number]


def _alive() -> dict[str, int]:
    return {"tasks": len(asyncio.all_tasks()), "descriptors": len(os.listdir("/proc/self/fd"))}


def fuzzed(count: int, seed: int) -> Findings:
    """`fuzz` in a loop of its own, where the wait for an answer is not used up by a busy machine."""
    with asyncio.Runner(loop_factory=IdleLoop) as runner:
        return runner.run(fuzz(count, seed))


def main() -> int:
    """Fuzz as the command line asks. Returns 1 if anything was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    findings = fuzzed(asked.count, asked.seed)
    for kind, number in findings.counts.most_common():
        print(f"{number:8} {kind}")
    for line in [*findings.crashes[:20], *findings.leaks]:
        print(line)
    print(
        f"{asked.count} inputs of seed {asked.seed}: {len(findings.crashes)} crashes, {len(findings.leaks)} leaks"
    )
    if findings.unseen > _UNSEEN_MAX * asked.count:
        print(f"{findings.unseen} of them were refused unseen, by a limit: nothing is proved")
        return 1
    return 1 if findings.crashes or findings.leaks else 0


if __name__ == "__main__":
    sys.exit(main())
