"""Every operation and event, with every foreign id, by every kind of outsider: what was found that must not be."""

from __future__ import annotations

import re
import typing
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import msgspec

from chatkit.gateway.admin_api import AdminApi
from chatkit.gateway.http_api import HttpApi
from chatkit.gateway.openapi import Operation
from chatkit.gateway.origins import Origins
from chatkit.server.server import ChatServer
from chatkit.storage.base import Store
from chatkit.wire.events import ClientEvent

from .rows import EVENTS, HTTP, Ask
from .scene import CANARY, INSIDER, OUTSIDERS, PUSH_TOKEN, TITLE, Line, Outsider, Scene, staged

PATH_IDS = {
    "conversation_id": "{c}",
    "message_id": "{m}",
    "user_id": "{u}",
    "device_id": "{d}",
    "held_id": "1",
    "blob_id": "{b}",
}
_NO_PATH = "/v1/no/such/path"


def operations(server: ChatServer) -> list[Operation]:
    """Every HTTP operation that the code lists, those of administrators too."""
    api = HttpApi(server, Origins([], cookies=False))
    found: list[Operation] = [*api._operations]
    (admin,) = [it for it in vars(api).values() if isinstance(it, AdminApi)] or [
        AdminApi(server, api._responder)
    ]
    return [*found, *admin._list_operations()]


def event_names() -> list[str]:
    """Every event that a client may send."""
    return [str(it.__struct_config__.tag) for it in typing.get_args(ClientEvent)]


def name_of(operation: Operation) -> str:
    """The key of its row."""
    return f"{operation.method} {operation.path}"


async def findings(store: Store, *, most: int | None = None) -> list[str]:
    """What an outsider learned or changed, the first few or all of it; nothing if all is well."""
    async with staged(store) as scene:
        before, found = await scene.dump(), []
        async for words in _all(scene):
            found.append(words)
            if len(found) == most:
                return found
        if await scene.dump() != before:
            found.append("something was changed by somebody who may not")
        return found


async def _all(scene: Scene) -> AsyncIterator[str]:
    for outsider in (*OUTSIDERS, INSIDER):
        for operation in operations(scene.server):
            for ask in HTTP.get(name_of(operation), ()):
                if _concerns(operation, ask, outsider):
                    for words in await _by_http(scene, outsider, operation, ask):
                        yield f"{outsider.name}: {name_of(operation)} {ask.query or ask.body or ''}: {words}"
        if outsider.may_log_in and outsider is not INSIDER:
            async for words in _by_events(scene, outsider):
                yield f"{outsider.name}: {words}"


def _concerns(operation: Operation, ask: Ask, outsider: Outsider) -> bool:
    """Members change what is theirs; what they read must not hold the message that is hidden from them."""
    if outsider is INSIDER:
        return ask.answer == "NO_PATH"
    return not outsider.is_member or ask.insiders or operation.method == "GET"


async def _by_http(scene: Scene, outsider: Outsider, operation: Operation, ask: Ask) -> list[str]:
    answers = []
    for real in (True,) if ask.answer == "REFUSED" else (True, False):
        names = scene.names(outsider.user, real=real)
        path = ask.path or re.sub(r"\{(\w+)\}", lambda found: PATH_IDS[found[1]], operation.path)
        target = fill(f"{path}?{ask.query}" if ask.query else path, names)
        answer = await scene.ask(outsider.user, operation.method, target, fill(ask.body, names))
        answers.append((answer, _blind(answer.content, names)))
    (hidden, seen), (absent, expected) = answers[0], answers[-1]
    if not outsider.may_log_in and not operation.public and hidden.status_code < 400:
        return [f"a banned user is answered {hidden.status_code}"]
    if outsider.is_member and not ask.insiders and ask.answer != "NO_PATH":
        return _told(hidden.content, outsider)
    missing = (
        await scene.ask(outsider.user, operation.method, _NO_PATH) if ask.answer == "NO_PATH" else absent
    )
    return [*_told(hidden.content, outsider), *_compared(ask, outsider, hidden, missing, seen, expected)]


def _compared(
    ask: Ask,
    outsider: Outsider,
    hidden: httpx.Response,
    missing: httpx.Response,
    seen: bytes,
    expected: bytes,
) -> list[str]:
    status = hidden.status_code
    if ask.answer == "NO_PATH":
        same = (status, hidden.content, _headers(hidden)) == (
            missing.status_code,
            missing.content,
            _headers(missing),
        )
        return [] if same else [f"{status} and not as a path that does not exist"]
    if ask.answer == "REFUSED":
        return [] if status >= 400 else [f"{status} and not refused"]
    if not outsider.may_log_in or ask.answer in ("SAME", "OWN"):
        same = (status, seen, _headers(hidden)) == (missing.status_code, expected, _headers(missing))
        return (
            []
            if same
            else [f"{status} {seen[:80]!r}, and without it {missing.status_code} {expected[:80]!r}"]
        )
    if (status, _code(hidden.content)) != (404, "NOT_FOUND"):
        return [f"{status} {_code(hidden.content)} and not NOT_FOUND"]
    same = seen == expected and missing.status_code == 404 and _headers(hidden) == _headers(missing)
    return [] if same else [f"{seen[:120]!r} and not {expected[:120]!r}"]


async def _by_events(scene: Scene, outsider: Outsider) -> AsyncIterator[str]:
    for name in event_names():
        for ask in EVENTS.get(name, ()):
            if not outsider.is_member or ask.insiders or name == "SYNC":
                for words in await _by_event(scene, outsider, name, ask):
                    yield f"{name} {ask.body}: {words}"


async def _by_event(scene: Scene, outsider: Outsider, name: str, ask: Ask) -> list[str]:
    answers, words = [], []
    for real in (True, False):
        line, names = Line(scene.server), scene.names(outsider.user, real=real)
        if name != "HELLO":
            await line.answer({"event": "HELLO", "token": outsider.user, "deviceId": "pad"}, "HEADS")
        event = {"event": name, "ref": "same", **fill(ask.body, names)}
        if ask.answer == "OWN":
            await line.answer({**event, "event": name}, "PONG") if name == "PING" else line.session.received(
                msgspec.json.encode(event).decode(), scene.server.ports.clock.now_s()
            )
        else:
            answer = await line.answer(event, "WELCOME", "MSG_ACK", "SYNC_PAGE", "AUTH_OK")
            answers.append((_code(answer), _blind(answer, names)))
        await line.answer({"event": "PING"}, "PONG")
        line.leave()
        words += _told(line.heard, outsider)
    return words if outsider.is_member and not ask.insiders else words + _event_faults(ask, answers)


def _event_faults(ask: Ask, answers: Sequence[tuple[str, bytes]]) -> list[str]:
    if ask.answer == "OWN":
        return []
    (code, seen), (_, expected) = answers
    if ask.answer == "NOT_FOUND" and code != "NOT_FOUND":
        return [f"{code or seen[:60]!r} and not NOT_FOUND"]
    if not code and seen:  # without an answer the connection was closed
        return [f"{seen[:80]!r} and not refused"]
    return [] if seen == expected else [f"{seen[-120:]!r} and not {expected[-120:]!r}"]


def _told(content: bytes, outsider: Outsider) -> list[str]:
    """What of the secrets is in an answer."""
    secrets = () if outsider is INSIDER else (CANARY,) if outsider.is_member else (CANARY, TITLE, PUSH_TOKEN)
    return [f"the answer holds {it}" for it in secrets if it.encode() in content]


def _code(content: bytes) -> str:
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return ""
    return str(found.get("code", "")) if isinstance(found, dict) else ""


def _headers(answer: httpx.Response) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in answer.headers.items() if name != "date")


def _blind(content: bytes, names: dict[str, str]) -> bytes:
    """Without the ids that the asker named: an answer may repeat those."""
    for name in ("c", "m", "u", "d", "b"):
        content = content.replace(names[name].encode(), b"?")
    return content


def fill(value: Any, names: dict[str, str]) -> Any:
    """An ask with ids in it."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], value)
    if isinstance(value, dict):
        return {key: fill(item, names) for key, item in value.items()}
    return [fill(item, names) for item in value] if isinstance(value, list) else value
