"""docs/protocol.md cannot drift: its examples decode, its names are those of the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from chatkit.errors import REFUSALS
from chatkit.wire import events as ev
from chatkit.wire import http as wire
from chatkit.wire.codec import JSON, BadItem
from chatkit.wire.payload import canonical

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
SERVER_MADE = {"MEMBER", "RECALL", "RECALLED"}


def _sections() -> Iterator[tuple[str, str, str]]:
    """(heading of level 2, heading of level 3, text) of every part of the page."""
    part = ""
    for block in re.split(r"^(?=#{2,3} )", PAGE, flags=re.M):
        heading, _, text = block.partition("\n")
        if heading.startswith("## "):
            part = heading[3:]
        yield part, heading.lstrip("# "), text


def _blocks(kind: str) -> list[tuple[str, str, str]]:
    return [
        (part, heading, block)
        for part, heading, text in _sections()
        for block in re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.M | re.S)
    ]


EVENTS = [(part, block) for part, _, block in _blocks("json") if "event" in json.loads(block)]
PAYLOADS = [json.loads(block) for part, _, block in _blocks("json") if part == "Payloads"]
HTTP = [(heading, block) for part, heading, block in _blocks("http")]


def _tags(union: Any) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in get_args(union)}


def test_every_json_block_is_an_event_or_a_payload() -> None:
    assert len(_blocks("json")) == len(EVENTS) + len(PAYLOADS)


@pytest.mark.parametrize(("part", "block"), EVENTS, ids=[json.loads(block)["event"] for _, block in EVENTS])
def test_example_event_decodes_in_its_direction_and_names_no_unknown_field(part: str, block: str) -> None:
    wanted = json.loads(block)
    if part == "Client to server":
        (event,) = JSON.client_events(block)
        assert not isinstance(event, BadItem)
        if isinstance(event, ev.SendMsg):
            assert canonical(event.payload)
    else:
        assert part == "Server to client"
        (event,) = JSON.server_events(block)
    assert json.loads(JSON.encode(event)) == wanted


def test_every_event_has_an_example_in_its_direction() -> None:
    shown = {(part, json.loads(block)["event"]) for part, block in EVENTS}
    assert {tag for part, tag in shown if part == "Client to server"} == _tags(ev.ClientEvent)
    assert {tag for part, tag in shown if part == "Server to client"} == _tags(ev.ServerEvent)


def _anchors() -> set[str]:
    headings = re.findall(r"^#{1,6} (.+)$", PAGE, flags=re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_every_event_has_a_heading() -> None:
    assert {tag.lower() for tag in _tags(ev.ClientEvent) | _tags(ev.ServerEvent)} <= _anchors()


def test_every_field_of_every_event_is_named_under_its_heading() -> None:
    parts = {(part, heading): text for part, heading, text in _sections()}
    for part, union in (("Client to server", ev.ClientEvent), ("Server to client", ev.ServerEvent)):
        for kind in get_args(union):
            tag = str(kind.__struct_config__.tag)
            heading = (
                f"{tag} (pushed)" if kind in (ev.TypingPush, ev.StreamPartPush, ev.PresencePush) else tag
            )
            for field in msgspec.structs.fields(kind):
                assert field.encode_name in parts[part, heading], (tag, field.encode_name)


def test_references_in_the_code_lead_somewhere() -> None:
    sources = list((ROOT / "src").rglob("*.py"))
    named = {
        (path.name, a) for path in sources for a in re.findall(r"protocol\.md#([\w-]+)", path.read_text())
    }
    assert named
    assert {(name, anchor) for name, anchor in named if anchor not in _anchors()} == set()


@pytest.mark.parametrize("payload", PAYLOADS, ids=[payload["type"] for payload in PAYLOADS])
def test_example_payload_is_taken_if_a_client_may_send_it(payload: dict[str, Any]) -> None:
    if payload["type"] not in SERVER_MADE:
        assert json.loads(canonical(payload)) == payload


HTTP_BODIES: dict[tuple[str, str], type[wire.Body]] = {
    ("POST /v1/messages/send", "request"): wire.SendBody,
    ("POST /v1/messages/send", "answer"): wire.SendResult,
    ("GET /v1/conversations/{id}/messages", "answer"): wire.PageResult,
    ("POST /v1/conversations/{id}/read", "answer"): wire.ReadResult,
    ("GET /v1/sync", "answer"): wire.PageResult,
    ("GET /v1/messages/{messageId}/status", "answer"): wire.StatusResult,
    ("POST /v1/messages/{messageId}/recall", "answer"): wire.SendResult,
    ("POST /v1/messages/{messageId}/report", "request"): wire.ReportBody,
    ("POST /v1/conversations", "request"): wire.CreateBody,
    ("POST /v1/conversations", "answer"): wire.ConversationResult,
    ("GET /v1/conversations/{id}", "answer"): wire.ConversationResult,
    ("PATCH /v1/conversations/{id}", "request"): wire.UpdateBody,
    ("PATCH /v1/conversations/{id}", "answer"): wire.ConversationResult,
    ("GET /v1/conversations/{id}/pins", "answer"): wire.PinsResult,
    ("GET /v1/blocks", "answer"): wire.BlocksResult,
    ("POST /v1/blobs", "request"): wire.BlobBody,
    ("POST /v1/blobs", "answer"): wire.UploadResult,
    ("PUT /v1/blobs/{blobId}/content", "answer"): wire.UploadResult,
    ("GET /v1/blobs/{blobId}", "answer"): wire.BlobResult,
    ("GET /v1/presence", "answer"): wire.PresenceResult,
    ("GET /v1/search", "answer"): wire.SearchResult,
    ("GET /v1/conversations/{id}/members", "answer"): wire.MembersResult,
    ("GET /v1/conversations/{id}/receipts", "answer"): wire.ReceiptsResult,
    ("GET /v1/conversations", "answer"): wire.ConversationsResult,
    ("POST /v1/conversations/{id}/members", "request"): wire.MembersBody,
    ("POST /v1/conversations/{id}/members", "answer"): wire.MembersChangedResult,
    ("DELETE /v1/conversations/{id}/members/{userId}", "answer"): wire.MembersChangedResult,
    ("PUT /v1/conversations/{id}/mute", "request"): wire.MuteBody,
    ("PUT /v1/conversations/{id}/members/{userId}/role", "request"): wire.RoleBody,
    ("PUT /v1/conversations/{id}/members/{userId}/silence", "request"): wire.SilenceBody,
    ("GET /v1/conversations/{id}/bans", "answer"): wire.BansResult,
    ("POST /v1/devices", "request"): wire.RegisterPushBody,
    ("GET /v1/push", "answer"): wire.PushResult,
    ("GET /healthz, GET /readyz, GET /v1/openapi.json", "answer"): wire.Health,
    ("Error codes", "answer"): wire.Problem,
}


@pytest.mark.parametrize(
    ("heading", "block"), HTTP, ids=[f"{n}: {block.splitlines()[0]}" for n, (_, block) in enumerate(HTTP)]
)
def test_http_example_decodes_and_names_no_unknown_field(heading: str, block: str) -> None:
    head, _, body = block.strip().partition("\n\n")
    kind = "answer" if re.match(r"HTTP/1\.1 \d{3} ", head) else "request"
    assert kind == "answer" or re.match(r"(GET|POST|PUT|PATCH|DELETE) /", head)
    assert bool(body) == ((heading, kind) in HTTP_BODIES)
    if body:
        decoded = msgspec.json.decode(body, type=HTTP_BODIES[heading, kind])
        assert json.loads(msgspec.json.encode(decoded)) == json.loads(body)


def test_every_operation_is_on_the_page() -> None:
    shown = {heading for part, heading, _ in _sections() if part == "HTTP"}
    assert {heading for heading, _ in HTTP_BODIES} - {"Error codes"} < shown


def test_every_refusal_is_in_the_table_with_its_status() -> None:
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| (\d{3} \| (?:yes|no)) \|", PAGE, flags=re.M))
    assert rows == {
        code: f"{error.status} | {'yes' if error.retryable else 'no'}" for code, error in REFUSALS.items()
    }


def test_every_close_code_is_in_the_table() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d{4}) \|", PAGE, flags=re.M)}
    known = {value for name, value in vars(ev.CloseCode).items() if name.isupper()}
    assert listed == known | {1011, 1012}, "and what the program around a server sends"
