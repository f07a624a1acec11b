"""Tokens that prove nothing, over HTTP and in HELLO."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import jwt
import pytest
from websockets.exceptions import ConnectionClosed

from .tokens import ABSENT, SECRET, token
from .world import World, refused

Make = Callable[[str], str]


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(user: str, algorithm: str) -> str:
    header, claims = (
        {"alg": algorithm, "typ": "JWT"},
        {"sub": user, "dev": "phone", "exp": int(time.time()) + 600},
    )
    return f"{part(header)}.{part(claims)}."


def other_algorithm(user: str) -> str:
    claims = {"sub": user, "dev": "phone", "exp": int(time.time()) + 600, "scope": "chat"}
    return jwt.encode(claims, SECRET, algorithm="HS512")


def tampered(user: str) -> str:
    head, claims, signature = token(user, "phone").split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "=="))
    changed["sub"] = user + "x"
    return f"{head}.{part(changed)}.{signature}"


def critical(user: str) -> str:
    claims = {"sub": user, "dev": "phone", "exp": int(time.time()) + 600, "scope": "chat"}
    return jwt.encode(claims, SECRET, algorithm="HS256", headers={"crit": ["x-unknown"], "x-unknown": 1})


FORGED: dict[str, Make] = {
    "alg none": lambda user: unsigned(user, "none"),
    "alg None": lambda user: unsigned(user, "None"),
    "no signature": lambda user: unsigned(user, "HS256"),
    "wrong secret": lambda user: token(user, "phone", secret="another-secret-of-more-than-thirty-two-bytes"),
    "empty": lambda user: "",
    "HS512": other_algorithm,
    "tampered": tampered,
    "unknown crit": critical,
    "not yet valid": lambda user: token(user, "phone", nbf=int(time.time()) + 600),
    "no sub": lambda user: token(user, "phone", sub=ABSENT),
    "sub null": lambda user: token(user, "phone", sub=None),
    "sub int": lambda user: token(user, "phone", sub=7),
    "sub list": lambda user: token(user, "phone", sub=[user]),
    "sub object": lambda user: token(user, "phone", sub={"$ne": ""}),
    "sub empty": lambda user: token(user, "phone", sub=""),
    "sub dots": lambda user: token(user, "phone", sub=".."),
    "sub with space": lambda user: token(user, "phone", sub=f"{user} x"),
    "sub with newline": lambda user: token(user, "phone", sub=f"{user}\n"),
    "sub too long": lambda user: token(user, "phone", sub="u" * 129),
    "dev int": lambda user: token(user, dev=7),
    "dev list": lambda user: token(user, dev=["phone"]),
    "dev bool": lambda user: token(user, dev=True),
    "dev empty": lambda user: token(user, dev=""),
    "dev with slash": lambda user: token(user, dev="a/b"),
    "exp text": lambda user: token(user, "phone", exp="tomorrow"),
    "exp list": lambda user: token(user, "phone", exp=[1]),
    "exp bool": lambda user: token(user, "phone", exp=True),
    "exp null": lambda user: token(user, "phone", exp=None),
    "nbf text": lambda user: token(user, "phone", nbf="now"),
    "scope int": lambda user: token(user, "phone", scope=5),
    "scope object": lambda user: token(user, "phone", scope={}),
    "garbage": lambda user: "garbage",
    "three garbage parts": lambda user: "a.b.c",
    "many dots": lambda user: "." * 20_000,
}


@pytest.mark.parametrize("name", [name for name in FORGED if name != "empty"])  # no client writes "Bearer "
def test_forged_token_is_refused_over_http(world: World, name: str) -> None:
    headers = {"Authorization": f"Bearer {FORGED[name](world.user())}"}
    answer = world.http.get("/v1/conversations", headers=headers)
    # "exp": true is the number 1, a date in the past
    refused(answer, "UNAUTHENTICATED", *(["TOKEN_EXPIRED"] if name == "exp bool" else []))


@pytest.mark.parametrize("name", FORGED)
def test_forged_token_is_refused_in_hello(world: World, name: str) -> None:
    peer = world.raw_peer()
    peer.send({"event": "HELLO", "token": FORGED[name](world.user()), "deviceId": "phone"})
    try:
        answer = peer.expect(None)
        assert answer.name == "ERROR", answer
        assert answer["code"] in ("UNAUTHENTICATED", "TOKEN_EXPIRED", "BAD_REQUEST"), answer
        if answer["code"] == "BAD_REQUEST":
            return  # not a token in form: answered like any malformed event
    except ConnectionClosed:
        pass
    assert peer.close_code() in (4100, 4101)


def test_expired_token_is_refused_by_name(world: World) -> None:
    headers = {"Authorization": f"Bearer {token(world.user(), 'phone', ttl_s=-600)}"}
    refused(world.http.get("/v1/conversations", headers=headers), "TOKEN_EXPIRED")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Basic dTpw", "Token x", "Bearer a b", "x" * 5000],
    ids=lambda header: str(header)[:20],
)
def test_authorization_header_of_wrong_form(world: World, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    refused(world.http.get("/v1/conversations", headers=headers), "UNAUTHENTICATED")


REQUESTS = [
    ("POST", "/v1/messages/send"),
    ("GET", "/v1/conversations/c-1/messages"),
    ("POST", "/v1/messages/m-1/delivered"),
    ("POST", "/v1/conversations/c-1/read?upToSeq=1"),
    ("GET", "/v1/sync?conversationId=c-1&lastSeq=0"),
    ("GET", "/v1/messages/m-1/status"),
    ("POST", "/v1/messages/m-1/recall"),
    ("POST", "/v1/conversations"),
    ("GET", "/v1/conversations"),
    ("GET", "/v1/conversations/c-1"),
    ("GET", "/v1/conversations/c-1/members"),
    ("GET", "/v1/conversations/c-1/receipts"),
    ("POST", "/v1/conversations/c-1/members"),
    ("DELETE", "/v1/conversations/c-1/members/u-1"),
    ("PUT", "/v1/conversations/c-1/mute"),
    ("DELETE", "/v1/conversations/c-1/mute"),
    ("POST", "/v1/devices"),
    ("DELETE", "/v1/devices/m-1/push"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS, ids=lambda value: value)
def test_every_request_needs_a_token(world: World, method: str, path: str) -> None:
    refused(world.http.request(method, path), "UNAUTHENTICATED")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/openapi.json", "/v1/push"])
def test_health_and_description_need_none(world: World, path: str) -> None:
    assert world.http.get(path).status_code == 200


def test_openapi_describes_every_request(world: World) -> None:
    document = world.http.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), "/".join("{}" if "{" in part else part for part in path.split("/")))
        for path, methods in document["paths"].items()
        for method in methods
    }
    for method, path in REQUESTS:
        bare = path.split("?")[0].replace("c-1", "{}").replace("m-1", "{}").replace("u-1", "{}")
        assert (method, bare) in described
