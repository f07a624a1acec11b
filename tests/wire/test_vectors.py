"""The golden vectors decode, and encode to the same bytes, in both codecs."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from chatkit.wire import events as ev
from chatkit.wire.codec import JSON, MSGPACK, Codec
from chatkit.wire.payload import canonical
from tests.wire.golden import cases, compact, payload_cases

CLIENT = cases("client")
SERVER = cases("server")
PAYLOADS = payload_cases()
WITHOUT_OPTIONALS = {ev.Heads, ev.Behind, ev.TypingPush, ev.StreamPartPush, ev.TokenExpiring, ev.GoAway}


def _only(items: Any) -> Any:
    assert len(items) == 1
    return items[0]


def _tag(event: Any) -> str:
    return str(type(event).__struct_config__.tag)


@pytest.mark.parametrize("case", [c for _, c in CLIENT], ids=[name for name, _ in CLIENT])
def test_client_event_has_its_bytes_in_both_codecs(case: dict[str, Any]) -> None:
    text, packed = compact(case["json"]), bytes.fromhex(case["msgpack"])
    from_json = _only(JSON.client_events(text))
    from_msgpack = _only(MSGPACK.client_events(packed))
    assert _tag(from_json) == case["json"]["event"]
    assert from_json == from_msgpack
    assert JSON.encode(from_json) == text
    assert MSGPACK.encode(from_msgpack) == packed


@pytest.mark.parametrize("case", [c for _, c in CLIENT], ids=[name for name, _ in CLIENT])
def test_text_and_bytes_are_read_alike(case: dict[str, Any]) -> None:
    text = compact(case["json"])
    assert JSON.client_events(text.decode()) == JSON.client_events(text)


@pytest.mark.parametrize("case", [c for _, c in SERVER], ids=[name for name, _ in SERVER])
def test_server_event_has_its_bytes_in_both_codecs(case: dict[str, Any]) -> None:
    text, packed = compact(case["json"]), bytes.fromhex(case["msgpack"])
    from_json = _only(JSON.server_events(text))
    from_msgpack = _only(MSGPACK.server_events(packed))
    assert _tag(from_json) == case["json"]["event"]
    assert JSON.encode(from_json) == text
    assert MSGPACK.encode(from_msgpack) == packed


def _entries(event: Any) -> list[Any]:
    return list(event.messages) if isinstance(event, ev.SyncPage) else [event]


@pytest.mark.parametrize("tag", ["NEW_MSG", "SYNC_PAGE"])
def test_payloads_of_pushes_and_pages_are_equal_in_both_codecs(tag: str) -> None:
    for _, case in [c for c in SERVER if c[1]["json"]["event"] == tag]:
        wanted = [e["payload"] for e in case["json"].get("messages", [case["json"]]) if "payload" in e]
        for codec, frame in ((JSON, compact(case["json"])), (MSGPACK, bytes.fromhex(case["msgpack"]))):
            event = _only(codec.server_events(frame))
            assert [codec.payload(entry.payload) for entry in _entries(event)] == wanted


@pytest.mark.parametrize("case", [c for _, c in PAYLOADS], ids=[name for name, _ in PAYLOADS])
def test_payload_has_one_canonical_form(case: dict[str, Any]) -> None:
    wanted = case["canonical"].encode()
    assert canonical(msgspec.json.decode(compact(case["json"]))) == wanted
    assert canonical(msgspec.msgpack.decode(bytes.fromhex(case["msgpack"]))) == wanted
    assert canonical(msgspec.json.decode(wanted)) == wanted


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
@pytest.mark.parametrize("case", [c for _, c in PAYLOADS], ids=[name for name, _ in PAYLOADS])
def test_stored_payload_travels_unchanged(case: dict[str, Any], codec: Codec) -> None:
    """From canonical bytes through the codec's raw form to the reader, nothing is lost."""
    raw = codec.raw(case["canonical"].encode())
    event = ev.NewMsg("c", "e", "m", 1, "u", 1, raw)
    received = _only(codec.server_events(codec.encode(event)))
    assert codec.payload(received.payload) == case["json"]


@pytest.mark.parametrize("size", [1, 2, 15, 16, 200])
@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_joined_events_are_one_frame_in_order(codec: Codec, size: int) -> None:
    pongs = [ev.Pong(n) for n in range(size)]
    assert list(codec.server_events(codec.join([codec.encode(pong) for pong in pongs]))) == pongs


def test_every_event_class_has_a_vector() -> None:
    decoded_client = {type(_only(JSON.client_events(compact(c["json"])))) for _, c in CLIENT}
    decoded_server = {type(_only(JSON.server_events(compact(c["json"])))) for _, c in SERVER}
    assert decoded_client == set(get_args(ev.ClientEvent))
    assert decoded_server == set(get_args(ev.ServerEvent))


def _optional_names(event_class: type[msgspec.Struct]) -> set[str]:
    fields = msgspec.structs.fields(event_class)
    return {field.encode_name for field in fields if field.default is msgspec.UNSET}


@pytest.mark.parametrize("event_class", [*get_args(ev.ClientEvent), *get_args(ev.ServerEvent)])
def test_every_optional_field_is_seen_present_and_absent(event_class: type[msgspec.Struct]) -> None:
    side = CLIENT if event_class in get_args(ev.ClientEvent) else SERVER
    shown = [set(c["json"]) for _, c in side if c["json"]["event"] == event_class.__struct_config__.tag]
    optional = _optional_names(event_class)
    assert bool(optional) == (event_class not in WITHOUT_OPTIONALS)
    for name in optional:
        assert any(name in fields for fields in shown), name
        assert any(name not in fields for fields in shown), name


def test_every_payload_type_is_among_the_pushes() -> None:
    shown = {c["json"]["payload"]["type"] for _, c in SERVER if c["json"]["event"] == "NEW_MSG"}
    assert shown >= {"TEXT", "IMAGE", "VOICE", "FILE", "CUSTOM", "RECALL", "MEMBER", "RECALLED"}
