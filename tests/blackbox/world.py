"""What a test works with: fresh users and conversations on a running server, closed again at its end."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import httpx

from .cells import NODES
from .peer import Peer
from .tokens import token

Values = dict[str, Any]


def fresh(prefix: str) -> str:
    """An id nobody used before."""
    return f"{prefix}-{secrets.token_hex(6)}"


class Api:
    """HTTP as one user on one device."""

    def __init__(self, http: httpx.Client, user: str, device: str | None, signed: str | None = None) -> None:
        self.http = http
        self.user = user
        self.headers = {"Authorization": f"Bearer {signed or token(user, device)}"}

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        return self.http.request(method, path, headers={**self.headers, **(headers or {})}, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def create(
        self, kind: str, members: list[str], conversation: str | None = None, **fields: Any
    ) -> httpx.Response:
        body: Values = {"type": kind, "memberIds": members, **fields}
        if conversation is not None:
            body["conversationId"] = conversation
        return self.post("/v1/conversations", json=body)

    def say(
        self, conversation: str, content: Any, key: str, kind: str = "TEXT", **fields: Any
    ) -> httpx.Response:
        body = {
            "conversationId": conversation,
            "clientMsgId": key,
            "type": kind,
            "content": content,
            **fields,
        }
        return self.post("/v1/messages/send", json=body)

    def sync(self, conversation: str, last_seq: int = 0) -> Values:
        return ok(self.get("/v1/sync", params={"conversationId": conversation, "lastSeq": last_seq}))

    def history(self, conversation: str, **params: Any) -> Values:
        return ok(self.get(f"/v1/conversations/{conversation}/messages", params=params))

    def status(self, message_id: str, **params: Any) -> Values:
        return ok(self.get(f"/v1/messages/{message_id}/status", params=params))

    def log(self, conversation: str) -> list[Values]:
        """Everything visible, by sync pages."""
        entries: list[Values] = []
        last = 0
        while True:
            page = self.sync(conversation, last)
            entries += page["messages"]
            assert page["upToSeq"] >= last, page
            last = page["upToSeq"]
            if not page["more"]:
                return entries

    def pages(self, path: str, field: str, **params: Any) -> list[Values]:
        """All rows of a list that goes on by `nextCursor`."""
        rows: list[Values] = []
        cursor: str | None = None
        while True:
            query = params if cursor is None else {**params, "cursor": cursor}
            page = ok(self.get(path, params=query))
            rows += page[field]
            cursor = page.get("nextCursor")
            if not cursor:
                return rows

    def row(self, conversation: str) -> Values:
        """This conversation's row in the user's list."""
        rows = self.pages("/v1/conversations", "conversations", limit=200)
        return next(row for row in rows if row["conversationId"] == conversation)


class World:
    """A running server seen by one test."""

    def __init__(self, http_url: str, ws_url: str) -> None:
        self.http_url = http_url
        self.ws_url = ws_url
        limits = httpx.Limits(max_keepalive_connections=None if NODES == 1 else 0)
        self.http = httpx.Client(base_url=http_url, trust_env=False, verify=False, timeout=20, limits=limits)
        self._peers: list[Peer] = []

    def user(self, prefix: str = "u") -> str:
        return fresh(prefix)

    def users(self, count: int) -> list[str]:
        return [fresh(f"u{number}") for number in range(count)]

    def api(self, user: str, device: str | None = "http") -> Api:
        return Api(self.http, user, device)

    def raw_peer(self, codec: str = "json", **options: Any) -> Peer:
        """Connected, nothing sent."""
        peer = Peer(self.ws_url, codec, **options)
        self._peers.append(peer)
        return peer

    def peer(self, user: str, device: str = "phone", codec: str = "json", **options: Any) -> Peer:
        """Logged in, its HEADS read."""
        peer = self.raw_peer(codec, **options)
        peer.hello(token(user, device), device)
        peer.heads()
        return peer

    def group(self, creator: str, *others: str, title: str = "a group") -> str:
        made = self.api(creator).create("GROUP", [creator, *others], fresh("g"), title=title)
        assert made.status_code == 201, made.text
        conversation: str = made.json()["conversationId"]
        return conversation

    def single(self, one: str, other: str) -> str:
        made = self.api(one).create("SINGLE", [one, other], fresh("c"))
        assert made.status_code == 201, made.text
        conversation: str = made.json()["conversationId"]
        return conversation

    def add(self, creator: str, conversation: str, *users: str) -> httpx.Response:
        path = f"/v1/conversations/{conversation}/members"
        return self.api(creator).post(path, json={"userIds": list(users)})

    def remove(self, actor: str, conversation: str, user: str) -> httpx.Response:
        return self.api(actor).delete(f"/v1/conversations/{conversation}/members/{user}")

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self.http.close()


def ok(response: httpx.Response, status: int = 200) -> Values:
    """The JSON of an answer that must have this status."""
    assert response.status_code == status, (
        f"{response.request.method} {response.request.url}: {response.text}"
    )
    assert response.headers["content-type"].split(";")[0] == "application/json", response.headers
    body: Values = response.json()
    return body


STATUS_OF = {
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "TOKEN_EXPIRED": 401,
    "TOKEN_REVOKED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "RECALL_WINDOW_PASSED": 409,
    "TOO_LARGE": 413,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "OVERLOADED": 503,
    "UNAVAILABLE": 503,
}
RETRYABLE = {"RATE_LIMITED", "INTERNAL", "OVERLOADED", "UNAVAILABLE"}


def refused(response: httpx.Response, *codes: str) -> Values:
    """The problem document of a refusal with one of these codes."""
    where = f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:400]}"
    assert response.headers.get("content-type", "").split(";")[0] == "application/problem+json", where
    problem: Values = response.json()
    assert problem["code"] in codes, where
    assert response.status_code == STATUS_OF[problem["code"]], where
    assert problem["retryable"] is (problem["code"] in RETRYABLE), where
    assert problem.get("status", response.status_code) == response.status_code, where
    return problem
