"""Bad input at the codec: typed refusals, neighbours untouched, nothing else ever raised."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from chatkit.errors import BadRequestError, ProtocolError, TooLargeError
from chatkit.wire import events as ev
from chatkit.wire.codec import CODECS, JSON, MSGPACK, BadItem, Codec, plain_words
from chatkit.wire.http import CreateBody
from chatkit.wire.payload import canonical
from tests.wire.golden import cases, compact

CODEC_IDS = ["json", "msgpack"]
both_codecs = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=CODEC_IDS)
CLIENT = [case["json"] for _, case in cases("client")]
RECURSION_DEPTH = 100_000


def send(data: str) -> str:
    """A JSON SEND_MSG with `data` pasted in as it is."""
    return (
        '{"event":"SEND_MSG","ref":"r","conversationId":"c","clientMsgId":"k","payload":'
        '{"type":"CUSTOM","schema":"s","fallbackText":"","data":' + data + "}}"
    )


def packed_send(data: bytes) -> bytes:
    """The MessagePack twin of `send`."""
    head = {"event": "SEND_MSG", "ref": "r", "conversationId": "c", "clientMsgId": "k"}
    encode = msgspec.msgpack.encode
    body = b"\x84" + encode(CUSTOM)[1:] + encode("data") + data
    return b"\x85" + encode(head)[1:] + encode("payload") + body


CUSTOM = {"type": "CUSTOM", "schema": "s", "fallbackText": ""}


def bad_item(codec: Codec, frame: bytes | str) -> BadItem:
    (item,) = codec.client_events(frame)
    assert isinstance(item, BadItem), item
    return item


def refused(codec: Codec, frame: bytes | str) -> str:
    """The refusal of a frame with one event: by the codec, or by the payload rules behind it."""
    try:
        (item,) = codec.client_events(frame)
        if isinstance(item, BadItem):
            return item.message
        assert isinstance(item, ev.SendMsg)
        canonical(item.payload)
    except BadRequestError as error:
        return str(error)
    pytest.fail(f"{item} was taken")


# --- values that JSON or MessagePack can say and a payload must not hold ---------------------------------

JSON_VALUES = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "1e999": "1e999",
    "2^53": str(2**53),
    "-2^53": str(-(2**53)),
    "2^63": str(2**63),
    "2^64, which MessagePack cannot say": str(2**64),
    "10^30": str(10**30),
    "5,000 digits": "9" * 5_000,
    "-5,000 digits": "-" + "9" * 5_000,
    "lone high surrogate": '"\\ud800"',
    "lone high surrogate before text": '"\\ud800 and more text"',
    "lone low surrogate": '"\\udc00"',
    "lone surrogate as a key": '{"\\ud800":1}',
    "NUL": '"\\u0000"',
    "NUL in a key": '{"a\\u0000":1}',
    "raw control character": '"\x01"',
    "nested 100,000 deep": "[" * RECURSION_DEPTH + "]" * RECURSION_DEPTH,
    "opened 100,000 times": "[" * RECURSION_DEPTH,
    "objects 100,000 deep": '{"a":' * RECURSION_DEPTH + "1" + "}" * RECURSION_DEPTH,
    "nothing": "",
    "hexadecimal": "0x10",
    "leading zero": "01",
    "single quotes": "'a'",
    "comment": "/**/1",
}


@pytest.mark.parametrize("value", list(JSON_VALUES.values()), ids=list(JSON_VALUES))
def test_json_value_outside_i_json_is_refused(value: str) -> None:
    assert refused(JSON, send(value))
    assert refused(JSON, send(value).encode())


PACKED_VALUES = {
    "bin": b"\xc4\x01a",
    "ext": b"\xd4\x05a",
    "timestamp 32": b"\xd6\xff\x00\x00\x00\x01",
    "timestamp 64 out of range": b"\xd7\xff" + b"\xff" * 8,
    "timestamp 96 out of range": b"\xc7\x0c\xff" + b"\xff" * 12,
    "int key": b"\x81\x01\x02",
    "nil key": b"\x81\xc0\x02",
    "bool key": b"\x81\xc3\x02",
    "float key": b"\x81\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x02",
    "bin key": b"\x81\xc4\x01a\x02",
    "array key": b"\x81\x91\x01\x02",
    "map key": b"\x81\x80\x02",
    "ext key": b"\x81\xd4\x05a\x02",
    "timestamp key": b"\x81\xd6\xff\x00\x00\x00\x01\x02",
    "NaN 64": b"\xcb\x7f\xf8" + b"\x00" * 6,
    "NaN 32": b"\xca\x7f\xc0\x00\x00",
    "Infinity": b"\xcb\x7f\xf0" + b"\x00" * 6,
    "2^53": b"\xcf\x00\x20" + b"\x00" * 6,
    "2^64-1": b"\xcf" + b"\xff" * 8,
    "-2^63": b"\xd3\x80" + b"\x00" * 7,
    "text that is not UTF-8": b"\xa1\xff",
    "surrogate in UTF-8": b"\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\xa2\xc0\x80",
    "NUL": b"\xa1\x00",
    "nested 100,000 deep": b"\x91" * RECURSION_DEPTH + b"\xc0",
    "array of 2^32-1": b"\xdd\xff\xff\xff\xff",
    "map of 2^32-1": b"\xdf\xff\xff\xff\xff",
    "text of 2^32-1 bytes": b"\xdb\xff\xff\xff\xff",
    "never used opcode": b"\xc1",
}


@pytest.mark.parametrize("value", list(PACKED_VALUES.values()), ids=list(PACKED_VALUES))
def test_msgpack_value_outside_i_json_is_refused(value: bytes) -> None:
    assert refused(MSGPACK, packed_send(value))


def test_value_that_json_takes_and_msgpack_does_not_never_reaches_the_log() -> None:
    """2^64 decodes from JSON; were it stored, no MessagePack reader could be sent it."""
    (event,) = JSON.client_events(send(str(2**64)))
    assert isinstance(event, ev.SendMsg)
    with pytest.raises(OverflowError):
        msgspec.msgpack.encode(event.payload)
    with pytest.raises(BadRequestError, match="integer"):
        canonical(event.payload)


# --- one bad item among good ones ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["1e999", '"\\ud800"', '"\\ud800 and more"', '{"\\udc00":1}', "NaN", "Infinity", "9" * 4_200],
    ids=lambda value: value[:20],
)
def test_bad_value_costs_only_its_own_item(value: str) -> None:
    frame = f'[{{"event":"PING","ref":"1"}},{send(value)},{{"event":"PING","ref":"2"}}]'
    first, bad, last = JSON.client_events(frame)
    assert (first, last) == (ev.Ping("1"), ev.Ping("2"))
    if isinstance(bad, BadItem):
        assert (bad.ref, bad.client_msg_id, bad.conversation_id) == ("r", "k", "c")
    else:
        assert isinstance(bad, ev.SendMsg)
        with pytest.raises(BadRequestError):
            canonical(bad.payload)


@pytest.mark.parametrize(
    "name", ["bin key", "text that is not UTF-8", "map key", "timestamp 96 out of range"]
)
def test_bad_packed_value_costs_only_its_own_item(name: str) -> None:
    ping = MSGPACK.encode(ev.Ping("1"))
    first, bad, last = MSGPACK.client_events(b"\x93" + ping + packed_send(PACKED_VALUES[name]) + ping)
    assert (first, last) == (ev.Ping("1"), ev.Ping("1"))
    if isinstance(bad, BadItem):
        assert (bad.client_msg_id, bad.conversation_id) == ("k", "c")
    else:
        assert isinstance(bad, ev.SendMsg)
        with pytest.raises(BadRequestError):
            canonical(bad.payload)


@both_codecs
def test_items_of_every_wrong_kind_stand_in_their_place(codec: Codec) -> None:
    wrong = [
        1,
        None,
        "PING",
        [],
        {},
        {"event": 5},
        {"event": "NOPE", "ref": "x"},
        {"event": "NEW_MSG"},
        0.5,
        True,
    ]
    items = codec.client_events(codec.encode([{"event": "PING", "ref": "a"}, *wrong, {"event": "PING"}]))
    assert items[0] == ev.Ping("a")
    assert items[-1] == ev.Ping()
    assert [type(item) for item in items[1:-1]] == [BadItem] * len(wrong)
    assert items[7] == BadItem("`$.event` is not a known event", ref="x")


def test_bad_utf8_in_one_item() -> None:
    items = JSON.client_events(b'[{"event":"PING","ref":"\xff"},{"event":"PING"}]')
    assert items == [BadItem("text is not valid UTF-8"), ev.Ping()]


# --- frames ----------------------------------------------------------------------------------------------

UNPARSABLE = [b"", b" ", b"[", b'[{"event":"PING"}', b'[{"event":"PING"},]', b"\xff\xfe", b"\x00", b"[1] 2"]


@pytest.mark.parametrize("frame", UNPARSABLE)
def test_frame_that_cannot_be_parsed_is_one_refusal(frame: bytes) -> None:
    assert refused(JSON, frame)


def test_utf16_is_not_taken_for_json() -> None:
    assert refused(JSON, '[{"event":"PING"}]'.encode("utf-16"))
    assert refused(JSON, '[{"event":"PING"}]'.encode("utf-16-le"))
    assert refused(JSON, '\ufeff{"event":"PING"}')


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x92\x81", b"\xdc\xff\xff", b"\x91" * RECURSION_DEPTH])
def test_packed_frame_that_cannot_be_parsed_is_one_refusal(frame: bytes) -> None:
    assert refused(MSGPACK, frame)


@both_codecs
def test_empty_array_is_nothing(codec: Codec) -> None:
    assert list(codec.client_events(codec.encode([]))) == []


@both_codecs
@pytest.mark.parametrize("bad", [0, 1])
def test_256_items_are_taken_and_257_refused_whole(codec: Codec, bad: int) -> None:
    good = [{"event": "PING"}] * (256 - bad)
    wrong = [{"event": "NOPE"}] * bad
    assert len(codec.client_events(codec.encode([*good, *wrong]))) == 256
    with pytest.raises(BadRequestError, match="257"):
        codec.client_events(codec.encode([*good, *wrong, {"event": "PING"}]))


def test_array_of_257_with_a_surrogate_is_refused_whole() -> None:
    with pytest.raises(BadRequestError, match="257"):
        JSON.client_events("[" + ",".join(['{"event":"PING","ref":"\\ud800"}'] * 257) + "]")


FILLINGS = {
    "one-byte characters": "a" * 999_977,
    "two-byte characters": "é" * 499_988 + "a",
    "four-byte characters": "😀" * 249_994 + "a",
}


@pytest.mark.parametrize("filling", list(FILLINGS.values()), ids=list(FILLINGS))
def test_frame_of_exactly_the_limit_is_taken_and_one_more_is_not(filling: str) -> None:
    at_limit, above = (f'{{"event":"PING","x":"{text}"}}' for text in (filling, filling + "a"))
    assert (len(at_limit.encode()), len(above.encode())) == (1_000_000, 1_000_001)
    for frame in (at_limit, at_limit.encode()):
        assert list(JSON.client_events(frame)) == [ev.Ping()]
    for frame in (above, above.encode()):
        with pytest.raises(TooLargeError):
            JSON.client_events(frame)


def test_packed_frame_of_exactly_the_limit() -> None:
    head = b"\x82\xa5event\xa4PING\xa1x\xdb"
    body_bytes = ev.FRAME_BYTES_MAX - len(head) - 4
    frame = head + body_bytes.to_bytes(4, "big") + b"a" * body_bytes
    assert list(MSGPACK.client_events(frame)) == [ev.Ping()]
    with pytest.raises(TooLargeError):
        MSGPACK.client_events(head + (body_bytes + 1).to_bytes(4, "big") + b"a" * (body_bytes + 1))


def test_size_is_checked_before_decoding() -> None:
    with pytest.raises(TooLargeError):
        JSON.client_events(b"[" * (ev.FRAME_BYTES_MAX + 1))
    with pytest.raises(TooLargeError):
        JSON.client_events("\ud800" * 400_000)


# --- fields ----------------------------------------------------------------------------------------------

WRONG_TYPES: tuple[Any, ...] = (None, True, False, 1, -1, 1.0, 0.5, "1", "", [], [1], {}, {"$gt": ""})


def _required_and_optional() -> list[tuple[dict[str, Any], str]]:
    """For each field of each client event, one good example that has it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for example_event in CLIENT:
        for name in example_event:
            found.setdefault((example_event["event"], name), example_event)
    return [(whole, name) for (_, name), whole in found.items()]


FIELDS = _required_and_optional()


def _same_kind(good: Any, wrong: Any) -> bool:
    return type(good) is type(wrong)


@both_codecs
@pytest.mark.parametrize(("whole", "name"), FIELDS, ids=[f"{w['event']}.{n}" for w, n in FIELDS])
def test_wrong_types_for_every_field(codec: Codec, whole: dict[str, Any], name: str) -> None:
    for wrong in WRONG_TYPES:
        if not _same_kind(whole[name], wrong):
            item = bad_item(codec, codec.encode({**whole, name: wrong}))
            assert 0 < len(item.message) < 200


@both_codecs
@pytest.mark.parametrize("event_class", get_args(ev.ClientEvent))
def test_every_required_field_is_required(codec: Codec, event_class: type[msgspec.Struct]) -> None:
    tag = event_class.__struct_config__.tag
    whole = next(event for event in CLIENT if event["event"] == tag)
    required = [field.encode_name for field in msgspec.structs.fields(event_class) if field.required]
    for name in ["event", *required]:
        item = bad_item(codec, codec.encode({key: whole[key] for key in whole if key != name}))
        assert f"`{name}`" in item.message


GOOD_IDS = ["a", "a" * 128, "...", "A.z_0:9@-", "-", "a."]
BAD_IDS = [
    "",
    "a" * 129,
    ".",
    "..",
    "a/b",
    "a\n",
    "\n",
    "a\r\n",
    " a",
    "a b",
    "é",
    "a\x00",
    "%2e",
    "a\\b",
    "..\n",
]


@both_codecs
@pytest.mark.parametrize("field", ["conversationId", "deviceId"])
def test_ids(codec: Codec, field: str) -> None:
    whole = {"event": "HELLO", "token": "t"} if field == "deviceId" else {"event": "TYPING"}
    for good in GOOD_IDS:
        assert not isinstance(codec.client_events(codec.encode({**whole, field: good}))[0], BadItem), good
    for bad in BAD_IDS:
        assert (
            bad_item(codec, codec.encode({**whole, field: bad})).message == f"`$.{field}` is not a valid id"
        )


TEXT_BOUNDS = [
    ({"event": "PING"}, "ref", ["", "a" * 64, "😀" * 64, "a\n"], ["a" * 65, "a\x00", "\x00"]),
    ({"event": "RECALL"}, "messageId", ["2a-9f-1", "a" * 64], ["", "a" * 65, "a\n", "a/b", "a_b", "."]),
    ({"event": "AUTH_REFRESH"}, "token", ["t", "t" * 16_384], ["", "t" * 16_385]),
    ({"event": "SYNC", "conversationId": "c", "lastSeq": 0}, "epoch", ["e", "e" * 64], ["", "e" * 65]),
    (
        {"event": "SEND_MSG", "conversationId": "c", "payload": {}},
        "clientMsgId",
        ["k", "k" * 128, "😀" * 128, "a b/c\n"],
        ["", "k" * 129, "k\x00"],
    ),
]


@both_codecs
@pytest.mark.parametrize(("whole", "field", "good", "bad"), TEXT_BOUNDS, ids=[row[1] for row in TEXT_BOUNDS])
def test_bounds_of_texts(
    codec: Codec, whole: dict[str, Any], field: str, good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert not isinstance(codec.client_events(codec.encode({**whole, field: text}))[0], BadItem), text
    for text in bad:
        assert field in bad_item(codec, codec.encode({**whole, field: text})).message


@both_codecs
def test_client_info_is_bounded(codec: Codec) -> None:
    hello = {"event": "HELLO", "deviceId": "d", "token": "t"}
    for info in ({"name": "n" * 64}, {"version": "v" * 64}, {}):
        assert isinstance(codec.client_events(codec.encode({**hello, "client": info}))[0], ev.Hello)
    for info in ({"name": "n" * 65}, {"version": "v" * 65}, {"name": None}):
        assert "$.client" in bad_item(codec, codec.encode({**hello, "client": info})).message


SEQS = [("READ", "upToSeq"), ("DELIVERED_ACK", "upToSeq"), ("SYNC", "lastSeq"), ("SYNC", "limit")]


@pytest.mark.parametrize(("tag", "field"), SEQS)
def test_bounds_of_seqs(tag: str, field: str) -> None:
    whole = {"event": tag, "conversationId": "c", "lastSeq": 0}
    for good in (0, 1, 2**31, 2**53 - 1):
        assert not isinstance(JSON.client_events(compact({**whole, field: good}))[0], BadItem), good
    for bad in (-1, 2**53, 2**53 + 1, 2**63, 2**64, 10**30, -(10**30)):
        item = bad_item(JSON, compact({**whole, field: bad}))
        assert item.conversation_id == "c"
        assert f"$.{field}" in item.message
    digits = compact({**whole, field: 7})[:-2] if field == "limit" else b""
    if digits:
        assert bad_item(JSON, digits + b"9" * 5_000 + b"}").conversation_id == "c"


# --- keys ------------------------------------------------------------------------------------------------


def test_the_last_of_a_repeated_key_wins() -> None:
    frame = '{"event":"READ","conversationId":"a","upToSeq":1,"conversationId":"b","upToSeq":2}'
    assert list(JSON.client_events(frame)) == [ev.Read("b", 2)]
    packed = b"\x84\xa5event\xa4READ\xaeconversationId\xa1a\xaeconversationId\xa1b\xa7upToSeq\x02"
    assert list(MSGPACK.client_events(packed)) == [ev.Read("b", 2)]


def test_only_the_last_of_a_repeated_key_is_stored() -> None:
    (event,) = JSON.client_events(
        '{"event":"SEND_MSG","conversationId":"c","clientMsgId":"k",'
        '"payload":{"type":"TEXT","text":"first","text":"last"}}'
    )
    assert isinstance(event, ev.SendMsg)
    assert canonical(event.payload) == b'{"text":"last","type":"TEXT"}'


@pytest.mark.parametrize("frame", ['{"event":"PING","event":"NOPE"}', '{"event":"NOPE","event":"PING"}'])
def test_two_different_tags_are_refused(frame: str) -> None:
    assert bad_item(JSON, frame).message == "`$.event` is not a known event"


@both_codecs
def test_unknown_fields_are_ignored(codec: Codec) -> None:
    for name in ("x", "__proto__", "__class__", "conversation_id", "", "token\x00"):
        frame = codec.encode({"event": "PING", name: {"a": [1]}, "ref": "r"})
        assert list(codec.client_events(frame)) == [ev.Ping("r")]


# --- what is dug out of bad items ------------------------------------------------------------------------


@both_codecs
def test_ref_and_keys_are_dug_out_of_a_bad_item(codec: Codec) -> None:
    frame = codec.encode(
        {"event": "SEND_MSG", "ref": "r", "clientMsgId": "k", "conversationId": "c", "payload": 1}
    )
    item = bad_item(codec, frame)
    assert (item.ref, item.client_msg_id, item.conversation_id) == ("r", "k", "c")


@both_codecs
def test_what_cannot_be_echoed_is_left_out(codec: Codec) -> None:
    frame = codec.encode({"event": "X", "ref": "r" * 65, "clientMsgId": 5, "conversationId": "c" * 129})
    assert bad_item(codec, frame) == BadItem("`$.event` is not a known event")


@pytest.mark.parametrize("field", ["ref", "clientMsgId", "conversationId"])
def test_a_lone_surrogate_is_never_echoed(field: str) -> None:
    item = bad_item(JSON, '{"event":"PING","ref":"r","' + field + '":"\\ud800"}')
    assert item.client_msg_id is UNSET
    assert item.conversation_id is UNSET
    error = ev.ErrorEvent("BAD_REQUEST", item.message, False, ref=item.ref)
    assert msgspec.json.decode(JSON.encode(error))["code"] == "BAD_REQUEST"


@both_codecs
@pytest.mark.parametrize("field", ["event", "conversationId", "ref", "deviceId", "clientMsgId", "messageId"])
def test_messages_are_short_and_never_repeat_what_was_sent(codec: Codec, field: str) -> None:
    for tag in ("SEND_MSG", "HELLO", "RECALL", "PING", "TYPING"):
        whole = next(event for event in CLIENT if event["event"] == tag)
        if field in whole:
            item = bad_item(codec, codec.encode({**whole, field: "\x1b[31mcanary\r\n/" * 10_000}))
            assert "canary" not in item.message
            assert "regex" not in item.message
            assert item.message.isprintable()
            assert len(item.message) < 100


@pytest.mark.parametrize("field", ["type", "conversationId", "memberIds"])
def test_plain_words_of_http_bodies_repeat_nothing(field: str) -> None:
    good = {"type": "GROUP", "memberIds": ["u"], "conversationId": "c"}
    canary: Any = "canary/" * 1_000
    bad = {**good, field: [canary] if field == "memberIds" else canary}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(compact(bad), type=CreateBody)
    words = plain_words(caught.value)
    assert field in words
    assert "canary" not in words
    assert "regex" not in words


# --- the client's side -----------------------------------------------------------------------------------


@both_codecs
def test_client_passes_over_what_it_does_not_know(codec: Codec) -> None:
    frame = codec.encode(
        [
            {"event": "PONG", "serverTs": 1},
            {"event": "FROM_THE_FUTURE", "x": [1]},
            {"event": "PONG", "serverTs": 2},
        ]
    )
    assert list(codec.server_events(frame)) == [ev.Pong(1), ev.Pong(2)]
    assert (
        list(codec.server_events(codec.encode({"event": "NEWS_OF_TOMORROW", "userId": "u", "online": True})))
        == []
    )


@both_codecs
@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "PONG", "serverTs": "soon"},
        {"event": "CONVERSATION", "conversationId": "c", "type": "CHANNEL", "change": "LEFT"},
        {"event": "HEADS", "conversations": [{"conversationId": "c", "type": "CHANNEL"}], "more": False},
        {"event": 7},
        {"name": "PONG"},
        [],
        7,
    ],
)
def test_client_passes_over_no_event_that_it_knows_by_name(codec: Codec, wrong: Any) -> None:
    for frame in (codec.encode(wrong), codec.encode([{"event": "PONG", "serverTs": 1}, wrong])):
        if codec.plain(frame) != []:
            with pytest.raises(ProtocolError, match="cannot be decoded"):
                codec.server_events(frame)


@both_codecs
def test_client_takes_known_events_with_new_fields(codec: Codec) -> None:
    frame = codec.encode({"event": "PONG", "serverTs": 1, "added": {"later": True}})
    assert list(codec.server_events(frame)) == [ev.Pong(1)]


@pytest.mark.parametrize("frame", [b"", b"[", b'[{"event":"PONG","serverTs":1}', b"[" * RECURSION_DEPTH])
def test_client_says_when_a_frame_cannot_be_parsed(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        JSON.server_events(frame)


@both_codecs
def test_client_says_when_a_payload_is_no_object(codec: Codec) -> None:
    with pytest.raises(ProtocolError, match="not an object"):
        codec.payload(msgspec.Raw(codec.encode([1])))
    with pytest.raises(ProtocolError, match="cannot be decoded"):
        codec.payload(msgspec.Raw(b"\xc1"))


def test_subprotocols() -> None:
    assert {name: codec.name for name, codec in CODECS.items()} == {
        "chatkit.v1.json": "json",
        "chatkit.v1.msgpack": "msgpack",
    }
    assert (JSON.binary, MSGPACK.binary) == (False, True)


# --- random bytes ----------------------------------------------------------------------------------------

SEEDS = [compact(case["json"]) for side in ("client", "server") for _, case in cases(side)]
PACKED_SEEDS = [bytes.fromhex(case["msgpack"]) for side in ("client", "server") for _, case in cases(side)]
Edit = tuple[int, int, bytes]
edits = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4
)


def mutated(seed: bytes, changes: list[Edit]) -> bytes:
    for place, cut, put in changes:
        at = place % (len(seed) + 1)
        seed = seed[:at] + put + seed[at + cut :]
    return seed


def nothing_but_typed_errors(codec: Codec, frame: bytes) -> None:
    """The property: events, bad items that can be answered, or a typed error; never anything else."""
    try:
        for item in codec.client_events(frame):
            if isinstance(item, BadItem):
                echo = ev.ErrorEvent(
                    "BAD_REQUEST", item.message, False, UNSET, item.ref, item.conversation_id
                )
                assert JSON.encode(echo)
                assert MSGPACK.encode(echo)
            elif isinstance(item, ev.SendMsg):
                canonical(item.payload)
    except (BadRequestError, TooLargeError):
        pass
    try:
        for event in codec.server_events(frame):
            if isinstance(event, ev.NewMsg):
                codec.payload(event.payload)
    except ProtocolError:
        pass


@both_codecs
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(frame=st.binary(max_size=200))
@example(frame=b"\x81\xa5event\xa4PING")
def test_random_bytes(codec: Codec, frame: bytes) -> None:
    nothing_but_typed_errors(codec, frame)


@both_codecs
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_damaged_events(codec: Codec, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(PACKED_SEEDS if codec.binary else SEEDS))
    nothing_but_typed_errors(codec, mutated(seed, data.draw(edits)))


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=()), max_size=60))
def test_any_text_as_a_frame_or_inside_one(text: str) -> None:
    for frame in (text, f'{{"event":"PING","ref":"{text}"}}', f'[{{"event":"PING"}},"{text}"]'):
        try:
            items = JSON.client_events(frame)
        except BadRequestError:
            continue
        assert all(isinstance(item, BadItem | ev.Event) for item in items)


def nested(depth: int, inner: Any) -> Any:
    """A value inside so many objects and arrays, by turns."""
    for level in range(depth):
        inner = {"d": inner} if level % 2 else [inner]
    return inner


@pytest.mark.parametrize("depth", range(0, 33))
@both_codecs
def test_payloads_of_every_depth_are_taken_up_to_the_bound(codec: Codec, depth: int) -> None:
    whole = {**CUSTOM, "data": nested(depth, "x")}
    (event,) = codec.client_events(codec.encode(send_event(whole)))
    if depth < 32:
        assert isinstance(event, ev.SendMsg)
        assert event.payload == whole
        assert codec.payload(msgspec.Raw(codec.encode(whole))) == whole
    if depth >= 32:
        assert "nested deeper than 32" in refused(codec, codec.encode(send_event(whole)))


@pytest.mark.parametrize("depth", range(0, 12))
@pytest.mark.parametrize("key", [1, 2.5, None, True, b"k", (1, 2)])
def test_a_key_that_is_no_string_is_refused_before_the_map_is_built(key: Any, depth: int) -> None:
    payload = {**CUSTOM, "data": nested(depth, {"a": 1, key: 2})}
    item = bad_item(MSGPACK, MSGPACK.encode([send_event(payload)]))
    assert item.ref == "r"
    with pytest.raises(ProtocolError):
        MSGPACK.payload(msgspec.Raw(MSGPACK.encode(payload)))
    with pytest.raises(ProtocolError):
        MSGPACK.plain(MSGPACK.encode(payload))


@pytest.mark.parametrize("field", ["ref", "clientMsgId", "conversationId"])
def test_nothing_is_built_in_the_place_of_a_text(field: str) -> None:
    frame = MSGPACK.encode([{**send_event(CUSTOM), field: {1: 2}}])
    item = bad_item(MSGPACK, frame)
    assert {"ref": item.ref, "clientMsgId": item.client_msg_id}.get(field, UNSET) is UNSET


def send_event(payload: Any) -> dict[str, Any]:
    return {"event": "SEND_MSG", "ref": "r", "conversationId": "c", "clientMsgId": "k", "payload": payload}


HELLO = {"event": "HELLO", "deviceId": "phone", "token": "t", "ref": "r"}
PING = {"event": "PING", "ref": "p"}


@both_codecs
def test_before_welcome_only_one_small_hello_is_decoded(codec: Codec) -> None:
    for frame in (HELLO, [HELLO]):
        (event,) = codec.hello_events(codec.encode(frame))
        assert isinstance(event, ev.Hello)
    assert list(codec.hello_events(codec.encode([]))) == []
    for frame in ([HELLO, HELLO], {"event": "PING"}, [{"event": "PING"}], 7):
        (item,) = codec.hello_events(codec.encode(frame))
        assert isinstance(item, BadItem)
    (item,) = codec.hello_events(codec.encode({**HELLO, "deviceId": "no id"}))
    assert item == BadItem("`$.deviceId` is not a valid id", ref="r")


@both_codecs
@pytest.mark.parametrize("frame", [PING, [PING], [PING, HELLO], [HELLO, PING]], ids=str)
def test_a_known_event_that_comes_before_welcome_is_not_called_unknown(codec: Codec, frame: object) -> None:
    (item,) = codec.hello_events(codec.encode(frame))
    assert isinstance(item, BadItem)
    assert item.message == "HELLO must come first, and nothing else before WELCOME"


@both_codecs
@pytest.mark.parametrize("name", ["NOPE", "WELCOME", ""])
def test_an_unknown_event_before_welcome_is_called_so(codec: Codec, name: str) -> None:
    (item,) = codec.hello_events(codec.encode({"event": name, "ref": "r"}))
    assert item == BadItem("`$.event` is not a known event", ref="r")


@both_codecs
def test_before_welcome_a_frame_has_20_kib(codec: Codec) -> None:
    longest = {**HELLO, "token": "t" * 16_384}
    (event,) = codec.hello_events(codec.encode(longest))
    assert isinstance(event, ev.Hello)
    with pytest.raises(TooLargeError, match="at most 20480"):
        codec.hello_events(codec.encode({**longest, "more": "x" * 5_000}))


def test_a_lenient_look_counts_before_it_looks() -> None:
    with pytest.raises(BadRequestError, match="257 items; at most 256"):
        JSON.client_events("[" + ",".join(["NaN"] * 257) + "]")


def test_a_large_frame_that_is_no_json_is_refused_as_a_whole() -> None:
    events = [send('"' + "x" * 60_000 + '"') for _ in range(3)]
    with pytest.raises(BadRequestError, match="cannot be parsed"):
        JSON.client_events("[" + ",".join([*events, send("NaN")]) + "]")
    good, bad = JSON.client_events("[" + events[0] + "," + send("NaN") + "]")
    assert isinstance(good, ev.SendMsg)
    assert isinstance(bad, BadItem)


@pytest.mark.parametrize("value", [r'"\ud800"', r'"x\udfffx"', "NaN", "-Infinity"])
def test_what_other_parsers_take_is_refused_in_words_that_say_why(value: str) -> None:
    assert "lone surrogate" in bad_item(JSON, "[" + send(value) + "]").message
