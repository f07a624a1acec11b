"""Who is not a member learns nothing: the same bytes as for a conversation or message that does not exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from .peer import Peer, send_msg
from .world import Api, World, fresh


@dataclass
class Scene:
    """A conversation with a message in it, one who left, and one who never was there."""

    world: World
    owner: str
    conversation: str
    message_id: str
    outsiders: dict[str, str]

    def missing_message(self) -> str:
        """A message id of the right form that names nothing the outsider could see."""
        last = self.message_id[-1]
        return self.message_id[:-1] + ("1" if last != "1" else "2")


@pytest.fixture(scope="module")
def scene(module_world: World) -> Scene:
    owner, leaver, stranger = module_world.users(3)
    conversation = module_world.group(owner, leaver)
    ack = module_world.peer(owner).say(conversation, "secret-canary")
    left = module_world.remove(leaver, conversation, leaver)
    assert left.status_code == 200
    return Scene(module_world, owner, conversation, ack["messageId"], {"left": leaver, "never": stranger})


HTTP: dict[str, tuple[str, str, Any]] = {
    "send": (
        "POST",
        "/v1/messages/send",
        {"conversationId": "{c}", "clientMsgId": "k", "type": "TEXT", "content": "x"},
    ),
    "history": ("GET", "/v1/conversations/{c}/messages", None),
    "history from": ("GET", "/v1/conversations/{c}/messages?fromSeq=2&limit=1", None),
    "read": ("POST", "/v1/conversations/{c}/read?upToSeq=1", None),
    "read above head": ("POST", "/v1/conversations/{c}/read?upToSeq=999", None),
    "sync": ("GET", "/v1/sync?conversationId={c}&lastSeq=0", None),
    "conversation": ("GET", "/v1/conversations/{c}", None),
    "members": ("GET", "/v1/conversations/{c}/members", None),
    "receipts": ("GET", "/v1/conversations/{c}/receipts", None),
    "add": ("POST", "/v1/conversations/{c}/members", {"userIds": ["u-9"]}),
    "remove": ("DELETE", "/v1/conversations/{c}/members/u-9", None),
    "remove oneself": ("DELETE", "/v1/conversations/{c}/members/{me}", None),
    "remove the owner": ("DELETE", "/v1/conversations/{c}/members/{owner}", None),
    "role": ("PUT", "/v1/conversations/{c}/members/{owner}/role", {"role": "GUEST"}),
    "silence": ("PUT", "/v1/conversations/{c}/members/{owner}/silence", {"until": None}),
    "unsilence": ("DELETE", "/v1/conversations/{c}/members/{owner}/silence", None),
    "bans": ("GET", "/v1/conversations/{c}/bans", None),
    "ban": ("PUT", "/v1/conversations/{c}/bans/{owner}", None),
    "ban a stranger": ("PUT", "/v1/conversations/{c}/bans/u-9", None),
    "unban": ("DELETE", "/v1/conversations/{c}/bans/{owner}", None),
    "open the history": ("PATCH", "/v1/conversations/{c}", {"history": "FROM_START"}),
    "mute": ("PUT", "/v1/conversations/{c}/mute", {"until": None}),
    "unmute": ("DELETE", "/v1/conversations/{c}/mute", None),
    "delivered": ("POST", "/v1/messages/{m}/delivered", None),
    "status": ("GET", "/v1/messages/{m}/status", None),
    "recall": ("POST", "/v1/messages/{m}/recall", None),
}

EVENTS: dict[str, dict[str, Any]] = {
    "send": send_msg("{c}", "x", "k"),
    "delivered": {"event": "DELIVERED_ACK", "conversationId": "{c}", "upToSeq": 1},
    "delivered above head": {"event": "DELIVERED_ACK", "conversationId": "{c}", "upToSeq": 999},
    "delivered one": {"event": "DELIVERED_ACK", "conversationId": "{c}", "messageId": "{m}"},
    "read": {"event": "READ", "conversationId": "{c}", "upToSeq": 1},
    "read above head": {"event": "READ", "conversationId": "{c}", "upToSeq": 999},
    "sync": {"event": "SYNC", "conversationId": "{c}", "lastSeq": 0},
    "sync with history": {"event": "SYNC", "conversationId": "{c}", "lastSeq": 0, "history": True},
    "sync with epoch": {"event": "SYNC", "conversationId": "{c}", "lastSeq": 0, "epoch": "e"},
    "recall": {"event": "RECALL", "messageId": "{m}"},
    "typing": {"event": "TYPING", "conversationId": "{c}"},
}


def fill(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], value)
    if isinstance(value, dict):
        return {key: fill(item, names) for key, item in value.items()}
    return [fill(item, names) for item in value] if isinstance(value, list) else value


def blind(content: bytes, names: dict[str, str]) -> bytes:
    """The bytes without the ids the caller himself named."""
    for name in ("c", "m"):
        content = content.replace(names[name].encode(), b"?")
    return content


@pytest.mark.parametrize("outsider", ["left", "never"])
@pytest.mark.parametrize("request_name", HTTP)
def test_http_answers_a_hidden_thing_like_a_missing_one(
    scene: Scene, request_name: str, outsider: str
) -> None:
    api = scene.world.api(scene.outsiders[outsider])
    real = {"c": scene.conversation, "m": scene.message_id}
    missing = {"c": fresh("g"), "m": scene.missing_message()}
    hidden, absent = ask(api, scene, request_name, real), ask(api, scene, request_name, missing)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json()["code"] == "NOT_FOUND"
    assert blind(hidden.content, real) == blind(absent.content, missing)
    assert set(hidden.headers) == set(absent.headers)
    assert b"secret-canary" not in hidden.content


def ask(api: Api, scene: Scene, request_name: str, names: dict[str, str]) -> httpx.Response:
    method, path, body = HTTP[request_name]
    every = names | {"me": api.user, "owner": scene.owner}
    return api.request(method, fill(path, every), **({} if body is None else {"json": fill(body, every)}))


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("outsider", ["left", "never"])
@pytest.mark.parametrize("event_name", EVENTS)
def test_events_answer_a_hidden_thing_like_a_missing_one(
    scene: Scene, event_name: str, outsider: str, codec: str
) -> None:
    peer: Peer = scene.world.peer(scene.outsiders[outsider], fresh("d"), codec)
    real = {"c": scene.conversation, "m": scene.message_id}
    missing = {"c": fresh("g"), "m": scene.missing_message()}
    answers = []
    for names in (real, missing):
        peer.send({**fill(EVENTS[event_name], names), "ref": "same"})
        answer = peer.expect(None, ref="same")
        assert (answer.name, answer["code"], answer["retryable"]) == ("ERROR", "NOT_FOUND", False)
        answers.append(blind(answer.raw, names))
    assert answers[0] == answers[1]
    assert b"secret-canary" not in peer.bytes_since(0)
    peer.close()


def test_nothing_of_all_that_left_a_trace(scene: Scene) -> None:
    log = scene.world.api(scene.owner).log(scene.conversation)
    kinds = [(entry["seq"], entry["payload"]["type"]) for entry in log]
    assert kinds == [(1, "MEMBER"), (2, "TEXT"), (3, "MEMBER")]
    assert scene.world.api(scene.owner).status(scene.message_id)["deliveries"] == []
