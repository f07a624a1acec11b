"""Bad HTTP requests: problem documents, never a 500, and the server goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest

from .server_process import ServerProcess
from .values import ABSENT, BAD_IDS, BAD_KEYS, BAD_PAYLOADS, HUGE, nested, sized, without_absent
from .world import Api, World, fresh, ok, refused


@dataclass
class Desk:
    """A user's HTTP and the conversation it may write to."""

    api: Api
    conversation: str
    world: World

    def sound_send(self) -> dict[str, Any]:
        body = {"conversationId": self.conversation, "clientMsgId": "never-stored", "type": "TEXT"}
        return {**body, "content": "x", "senderId": self.api.user}


@pytest.fixture(scope="module")
def module_desk(module_world: World) -> Desk:
    alice, bob = module_world.users(2)
    return Desk(module_world.api(alice), module_world.group(alice, bob), module_world)


@pytest.fixture
def desk(module_desk: Desk) -> Iterator[Desk]:
    yield module_desk
    page = module_desk.api.sync(module_desk.conversation, 0)
    assert page["headSeq"] == 1, "something was stored"


def post_json(desk: Desk, path: str, body: Any) -> httpx.Response:
    return desk.api.post(
        path, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
    )


SEND = [("conversationId", BAD_IDS), ("clientMsgId", BAD_KEYS)]
SEND += [("senderId", {name: value for name, value in BAD_IDS.items() if name not in ("absent", "null")})]
SEND += [
    (
        "type",
        {"absent": ABSENT, "null": None, "int": 1, "list": [], "unknown": "HOLOGRAM", "RECALL": "RECALL"},
    )
]
SEND += [("type", {"MEMBER": "MEMBER", "RECALLED": "RECALLED", "IMAGE with text": "IMAGE", "empty": ""})]
SEND += [("content", {"absent": ABSENT, "null": None, "int": 1, "list": [], "object": {}, "NUL": "a\x00b"})]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{name}")
        for field, cases in SEND
        for name, value in cases.items()
    ],
)
def test_send_with_a_wrong_value(desk: Desk, field: str, value: Any) -> None:
    answer = post_json(desk, "/v1/messages/send", without_absent(desk.sound_send() | {field: value}))
    refused(answer, "BAD_REQUEST", *(["FORBIDDEN"] if field == "senderId" else []))


CONTENTS = {
    name: payload
    for name, payload in BAD_PAYLOADS.items()
    if isinstance(payload, dict) and payload.get("type") in ("IMAGE", "VOICE", "FILE", "CUSTOM")
}


@pytest.mark.parametrize("name", CONTENTS)
def test_send_with_wrong_content(desk: Desk, name: str) -> None:
    content = {field: value for field, value in CONTENTS[name].items() if field != "type"}
    body = desk.sound_send() | {"type": CONTENTS[name]["type"], "content": content}
    refused(post_json(desk, "/v1/messages/send", body), "BAD_REQUEST")


def test_send_as_somebody_else(desk: Desk) -> None:
    body = desk.sound_send() | {"senderId": "somebody-else"}
    refused(post_json(desk, "/v1/messages/send", body), "FORBIDDEN", "BAD_REQUEST")


def test_send_too_deep_or_too_large(desk: Desk) -> None:
    deep = {name: value for name, value in nested(33).items() if name not in ("type", "text")}
    custom = {"schema": "s", "fallbackText": "f", "data": deep["x"]}
    assert post_json(desk, "/v1/messages/send", desk.sound_send() | {"type": "CUSTOM", "content": custom})
    refused(
        post_json(desk, "/v1/messages/send", desk.sound_send() | {"type": "CUSTOM", "content": custom}),
        "BAD_REQUEST",
    )
    body = desk.sound_send() | {"content": sized(65_537)["text"]}
    refused(post_json(desk, "/v1/messages/send", body), "TOO_LARGE", "BAD_REQUEST")


def test_largest_payload_is_taken_by_http(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    words = sized(65_536, "到")["text"]
    ok(world.api(alice).say(made, words, "largest"))
    assert world.api(bob).log(made)[1]["payload"]["text"] == words


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "word": b"hello",
    "half": b'{"conversationId":"c',
    "null": b"null",
    "number": b"5",
    "text": b'"x"',
    "list": b"[]",
    "list of one": b'[{"type":"GROUP","memberIds":[]}]',
    "NaN": b'{"type":"GROUP","memberIds":[],"title":NaN}',
    "surrogate": b'{"type":"GROUP","memberIds":[],"title":"\\ud800"}',
    "no utf-8": b'{"type":"GROUP","memberIds":[],"title":"\xff"}',
    "utf-16": '{"type":"GROUP","memberIds":[]}'.encode("utf-16"),
    "nested": b"[" * 100_000,
    "nested and closed": b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
}


WITH_BODIES = [
    ("POST", "/v1/messages/send"),
    ("POST", "/v1/conversations"),
    ("POST", "/v1/conversations/{c}/members"),
    ("PUT", "/v1/conversations/{c}/mute"),
    ("POST", "/v1/devices"),
]


@pytest.mark.parametrize(("method", "path"), WITH_BODIES)
@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_object_of_json(desk: Desk, method: str, path: str, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    url = path.replace("{c}", desk.conversation)
    answer = desk.api.request(method, url, content=BODIES[name], headers=headers)
    refused(answer, "BAD_REQUEST")


@pytest.mark.parametrize("name", HUGE)
def test_huge_integers_in_a_body(desk: Desk, name: str) -> None:
    number = b"1" + b"0" * 4999 if name == "5000 digits" else str(HUGE[name]).encode()
    body = msgspec.json.encode(desk.sound_send() | {"type": "CUSTOM", "content": "@"})
    body = body.replace(b'"@"', b'{"schema":"s","fallbackText":"f","data":' + number + b"}")
    answer = desk.api.post("/v1/messages/send", content=body, headers={"Content-Type": "application/json"})
    refused(answer, "BAD_REQUEST")


@pytest.mark.parametrize("path", ["/v1/messages/send", "/v1/conversations", "/v1/conversations/{c}/members"])
def test_body_too_large(desk: Desk, path: str) -> None:
    body = b'{"x":"' + b"x" * 1_100_000 + b'"}'
    answer = desk.api.post(
        path.replace("{c}", desk.conversation), content=body, headers={"Content-Type": "application/json"}
    )
    refused(answer, "TOO_LARGE")


def test_chunked_body_too_large(desk: Desk) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 10_000

    headers = {"Content-Type": "application/json"}
    try:
        answer = desk.api.post("/v1/messages/send", content=chunks(), headers=headers)
    except httpx.TransportError:
        return  # refused while it still came, and hung up on
    refused(answer, "TOO_LARGE")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/msgpack",
    ],
)
def test_body_of_another_content_type(desk: Desk, content_type: str) -> None:
    body = msgspec.json.encode(desk.sound_send())
    answer = desk.api.post("/v1/messages/send", content=body, headers={"Content-Type": content_type})
    refused(answer, "BAD_REQUEST")


def test_content_type_with_charset_is_taken(world: World) -> None:
    alice = world.user()
    body = msgspec.json.encode({"type": "GROUP", "memberIds": [alice]})
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert world.api(alice).post("/v1/conversations", content=body, headers=headers).status_code == 201


CREATE: list[tuple[str, dict[str, Any]]] = [
    ("conversationId", {name: value for name, value in BAD_IDS.items() if name not in ("absent", "null")}),
    ("type", {"absent": ABSENT, "null": None, "int": 1, "lower case": "group", "unknown": "CHANNEL", "list": []}),
    ("memberIds", {"absent": ABSENT, "null": None, "text": "u-1", "int": 1, "object": {}, "list of int": [1],
                   "list of null": [None], "nested": [["u-1"]], "bad id": ["a b"], "dots": [".."], "empty id": [""]}),
    ("title", {"int": 1, "list": [], "object": {}, "NUL": "a\x00b"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{name}")
        for field, cases in CREATE
        for name, value in cases.items()
    ],
)
def test_create_with_a_wrong_value(desk: Desk, field: str, value: Any) -> None:
    sound = {"conversationId": fresh("g"), "type": "GROUP", "memberIds": [desk.api.user], "title": "t"}
    refused(post_json(desk, "/v1/conversations", without_absent(sound | {field: value})), "BAD_REQUEST")


@pytest.mark.parametrize(
    "value",
    [ABSENT, None, "u-1", 1, {}, [1], [None], ["a b"], ["x" * 129], [["u"]], [""]],
    ids=str,
)
def test_add_members_with_a_wrong_value(desk: Desk, value: Any) -> None:
    path = f"/v1/conversations/{desk.conversation}/members"
    refused(post_json(desk, path, without_absent({"userIds": value})), "BAD_REQUEST")


def test_add_nobody(desk: Desk) -> None:
    answer = post_json(desk, f"/v1/conversations/{desk.conversation}/members", {"userIds": []})
    assert answer.status_code in (200, 400), answer.text


NO_NUMBERS = ["", "1.0", "abc", "1e3", " ", "0x1", "1,5", "null", "true", "\u0661", "--1", "1\x00", "1'"]
OUT_OF_RANGE = ["-1", str(2**53), str(2**53 + 1), str(2**63), str(10**30), "-" + str(10**30), "9" * 5000]
QUERIES = [
    ("GET", "/v1/conversations/{c}/messages", "fromSeq"),
    ("GET", "/v1/conversations/{c}/messages", "limit"),
    ("GET", "/v1/sync?conversationId={c}", "lastSeq"),
    ("POST", "/v1/conversations/{c}/read", "upToSeq"),
    ("GET", "/v1/conversations", "limit"),
    ("GET", "/v1/conversations/{c}/members", "limit"),
    ("GET", "/v1/conversations/{c}/receipts", "limit"),
]


def ask(desk: Desk, method: str, path: str, name: str, value: str) -> httpx.Response:
    url = httpx.URL(path.replace("{c}", desk.conversation))
    return desk.api.request(method, str(url.copy_merge_params({name: value})))


@pytest.mark.parametrize(("method", "path", "name"), QUERIES, ids=lambda part: part.split("/")[-1])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_query_that_is_no_number(desk: Desk, method: str, path: str, name: str, value: str) -> None:
    refused(ask(desk, method, path, name, value), "BAD_REQUEST")


@pytest.mark.parametrize(("method", "path", "name"), QUERIES, ids=lambda part: part.split("/")[-1])
@pytest.mark.parametrize("value", OUT_OF_RANGE, ids=lambda value: value[:20])
def test_query_out_of_range_is_refused_or_clamped(
    desk: Desk, method: str, path: str, name: str, value: str
) -> None:
    answer = ask(desk, method, path, name, value)
    if name == "limit" and answer.status_code == 200:
        assert not value.startswith("-")
        return
    refused(answer, "BAD_REQUEST")


@pytest.mark.parametrize(("method", "path", "name"), QUERIES, ids=lambda part: part.split("/")[-1])
def test_query_of_zero(desk: Desk, method: str, path: str, name: str) -> None:
    answer = ask(desk, method, path, name, "0")
    if name in ("lastSeq", "upToSeq"):
        ok(answer)
    elif answer.status_code != 200:
        refused(answer, "BAD_REQUEST")


@pytest.mark.parametrize(
    "path",
    ["/v1/sync", "/v1/sync?lastSeq=0", "/v1/sync?conversationId={c}", "/v1/sync?conversationId=a%20b&lastSeq=0",
     "/v1/sync?conversationId=&lastSeq=0", "/v1/sync?conversationId=a%00b&lastSeq=0"],
)  # fmt: skip
def test_sync_with_missing_or_bad_query(desk: Desk, path: str) -> None:
    answer = desk.api.get(path.replace("{c}", desk.conversation))
    if path == "/v1/sync?conversationId={c}" and answer.status_code == 200:
        return
    refused(answer, "BAD_REQUEST")


def test_read_without_query(desk: Desk) -> None:
    refused(desk.api.post(f"/v1/conversations/{desk.conversation}/read"), "BAD_REQUEST")


BAD_PATH_IDS = ["a%20b", "%00", "%C3%BC", "x" * 129, "%FF", "a%2Fb", "%2E%2E", "a%0Ab", "*", "'%20OR%201=1"]


@pytest.mark.parametrize("bad", BAD_PATH_IDS, ids=lambda value: value[:12])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/conversations/{}"), ("GET", "/v1/conversations/{}/messages"), ("GET", "/v1/conversations/{}/members"),
     ("GET", "/v1/conversations/{}/receipts"), ("POST", "/v1/conversations/{}/read?upToSeq=0"),
     ("POST", "/v1/messages/{}/delivered"), ("GET", "/v1/messages/{}/status"), ("POST", "/v1/messages/{}/recall"),
     ("DELETE", "/v1/conversations/{c}/members/{}"), ("DELETE", "/v1/conversations/{}/mute"),
     ("DELETE", "/v1/devices/{}/push")],
)  # fmt: skip
def test_bad_ids_in_the_path(desk: Desk, method: str, path: str, bad: str) -> None:
    answer = desk.api.request(method, path.replace("{c}", desk.conversation).replace("{}", bad))
    refused(answer, "BAD_REQUEST", "NOT_FOUND")


@pytest.mark.parametrize(
    "cursor",
    ["x", "", "-1", "\x00", "AAAA", "a" * 5000, "e30=", "\u00fc", str(10**30), "' OR 1=1"],
    ids=lambda v: v[:9],
)
@pytest.mark.parametrize(
    "path", ["/v1/conversations", "/v1/conversations/{c}/members", "/v1/conversations/{c}/receipts"]
)
def test_made_up_cursors(desk: Desk, path: str, cursor: str) -> None:
    answer = desk.api.get(path.replace("{c}", desk.conversation), params={"cursor": cursor})
    if answer.status_code != 200:
        refused(answer, "BAD_REQUEST", "NOT_FOUND")


@pytest.mark.parametrize("limit", ["201", "1000000000"])
@pytest.mark.parametrize(
    "path", ["/v1/conversations", "/v1/conversations/{c}/members", "/v1/conversations/{c}/receipts"]
)
def test_limit_above_200_is_200(desk: Desk, path: str, limit: str) -> None:
    ok(desk.api.get(path.replace("{c}", desk.conversation), params={"limit": limit}))


def test_unknown_paths_and_methods_are_refused_in_the_same_form(desk: Desk) -> None:
    for method, path in (
        ("GET", "/v1/nothing"),
        ("GET", "/v2/conversations"),
        ("GET", "/v1/messages/m/nothing"),
    ):
        refused(desk.api.request(method, path), "NOT_FOUND")
    for method, path in (("PUT", "/v1/conversations"), ("GET", "/v1/messages/send"), ("DELETE", "/v1/sync")):
        answer = desk.api.request(method, path)
        assert answer.status_code in (400, 404, 405), answer.text
        assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_message_id_that_never_was(desk: Desk) -> None:
    for method, tail in (("POST", "delivered"), ("GET", "status"), ("POST", "recall")):
        refused(desk.api.request(method, f"/v1/messages/{'9' * 20}/{tail}"), "NOT_FOUND")


def test_answers_are_not_to_be_stored_by_caches(desk: Desk) -> None:
    for path in ("/v1/conversations", f"/v1/conversations/{desk.conversation}/messages"):
        assert "no-store" in desk.api.get(path).headers.get("cache-control", "")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"POST /v1/messages/send HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/messages/send HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/messages/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"POST /v1/messages/send HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/conversations HTTP/1.1\r\nHost: x\r\n" + b"X-Many: y\r\n" * 9000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
    ],
    ids=[
        "garbage",
        "version",
        "long header",
        "length -5",
        "length abc",
        "bad chunk",
        "no key",
        "both lengths",
        "9000 headers",
        "tls",
        "zeros",
    ],
)
def test_raw_garbage_harms_nobody(world: World, server: ServerProcess, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as link:
        try:
            link.sendall(request_bytes)
            link.shutdown(socket.SHUT_WR)
            answer = link.recv(4096)
        except OSError:  # hung up on while it was still being written
            answer = b""
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:200]
    assert world.http.get("/readyz").status_code == 200


def test_get_of_the_socket_path_without_upgrade(desk: Desk) -> None:
    answer = desk.api.get("/v1/ws")
    assert 400 <= answer.status_code < 500, answer.text
