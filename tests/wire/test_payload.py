"""The rules of payloads: what is refused, what passes through, and one canonical form for all codecs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkit.errors import BadRequestError, TooLargeError
from chatkit.wire.events import PAYLOAD_BYTES_MAX, SEQ_MAX
from chatkit.wire.payload import DEPTH_MAX, RECALLED, canonical

TEXT = {"type": "TEXT", "text": "hello"}
MEDIA: dict[str, Any] = {"type": "IMAGE", "mime": "image/png", "bytes": 5, "url": "u"}
CUSTOM: dict[str, Any] = {"type": "CUSTOM", "schema": "s", "data": None, "fallbackText": ""}


def nested(depth: int) -> dict[str, Any]:
    """A payload with `depth` containers inside each other, itself included."""
    value: Any = 1
    for level in range(depth - 1):
        value = [value] if level % 2 else {"a": value}
    return {**TEXT, "x": value}


@pytest.mark.parametrize("payload", [None, 5, "TEXT", [], [TEXT], b"{}", True], ids=repr)
def test_payload_must_be_an_object(payload: Any) -> None:
    with pytest.raises(BadRequestError, match="object"):
        canonical(payload)


@pytest.mark.parametrize("kind", ["RECALL", "MEMBER", "RECALLED", "ROLE", "text", "", "X"])
def test_types_that_clients_may_not_send(kind: str) -> None:
    with pytest.raises(BadRequestError, match="type"):
        canonical(
            {"type": kind, "text": "", "messageId": "m", "seq": 1, "by": "u", "op": "ADDED", "userIds": []}
        )


@pytest.mark.parametrize("kind", [None, 5, True, ["TEXT"], {"TEXT": 1}, 1.5], ids=repr)
def test_type_must_be_a_string(kind: Any) -> None:
    with pytest.raises(BadRequestError):
        canonical({"type": kind, "text": ""})


def test_type_is_required() -> None:
    with pytest.raises(BadRequestError):
        canonical({"text": "hello"})


@pytest.mark.parametrize("text", [None, 5, True, ["a"], {"a": 1}, b"a"], ids=repr)
def test_text_must_be_a_string(text: Any) -> None:
    with pytest.raises(BadRequestError, match="text"):
        canonical({"type": "TEXT", "text": text})
    with pytest.raises(BadRequestError, match="text"):
        canonical({"type": "TEXT"})


MEDIA_BAD = [
    ("mime", ["", "m" * 256, None, 5, True]),
    ("bytes", [-1, SEQ_MAX + 1, 1.0, True, "5", None]),
    ("url", ["", "u" * 2049, 5, None]),
    ("blobId", ["", "b" * 2049, 5]),
    ("width", [-1, 1.5, True, "1", SEQ_MAX + 1]),
    ("height", [-1, 1.5, True, "1", SEQ_MAX + 1]),
    ("durationMs", [-1, 1.5, True, "1", SEQ_MAX + 1]),
    ("name", ["n" * 1025, 5, True, []]),
]


@pytest.mark.parametrize("kind", ["IMAGE", "VOICE", "FILE"])
@pytest.mark.parametrize(("field", "values"), MEDIA_BAD, ids=[field for field, _ in MEDIA_BAD])
def test_fields_of_media(kind: str, field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(BadRequestError, match="payload"):
            canonical({**MEDIA, "type": kind, field: value})


@pytest.mark.parametrize("field", ["mime", "bytes", "url"])
def test_required_fields_of_media(field: str) -> None:
    with pytest.raises(BadRequestError, match=field):
        canonical({key: value for key, value in MEDIA.items() if key != field})


def test_media_at_their_bounds() -> None:
    widest = {
        **MEDIA, "mime": "m" * 255, "bytes": SEQ_MAX, "url": "u" * 2048, "blobId": "b" * 2048,
        "width": 0, "height": SEQ_MAX, "durationMs": 0, "name": "n" * 1024,
    }  # fmt: skip
    assert msgspec.json.decode(canonical(widest)) == widest


@pytest.mark.parametrize("field", ["schema", "data", "fallbackText"])
def test_required_fields_of_custom(field: str) -> None:
    with pytest.raises(BadRequestError, match=field):
        canonical({key: value for key, value in CUSTOM.items() if key != field})


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema", ""), ("schema", "s" * 256), ("schema", 5), ("fallbackText", None), ("fallbackText", 5)],
)
def test_fields_of_custom(field: str, value: Any) -> None:
    with pytest.raises(BadRequestError, match=field):
        canonical({**CUSTOM, field: value})


# --- values ----------------------------------------------------------------------------------------------

BAD_VALUES = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "2^53": 2**53,
    "-2^53": -(2**53),
    "2^64": 2**64,
    "5,001 digits": 10**5_000,
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800",
    "bytes": b"a",
    "bytearray": bytearray(b"a"),
    "tuple": (1,),
    "set": {1},
    "object": object(),
    "int key": {1: 1},
    "None key": {None: 1},
    "bool key": {True: 1},
    "bytes key": {b"a": 1},
    "NUL key": {"a\x00": 1},
    "lone surrogate key": {"\udfff": 1},
    "ext": msgspec.msgpack.Ext(5, b"a"),
    "raw": msgspec.Raw(b"1"),
    "text of a subclass": type("Text", (str,), {})("a"),
}


@pytest.mark.parametrize("whole", [TEXT, MEDIA, CUSTOM], ids=lambda whole: whole["type"])
@pytest.mark.parametrize("value", list(BAD_VALUES.values()), ids=list(BAD_VALUES))
def test_values_outside_i_json_are_refused_at_any_depth(whole: dict[str, Any], value: Any) -> None:
    for place in (value, [value], {"a": [{"b": value}]}):
        with pytest.raises(BadRequestError):
            canonical({**whole, "x": place})


@pytest.mark.parametrize("whole", [TEXT, MEDIA, CUSTOM], ids=lambda whole: whole["type"])
@pytest.mark.parametrize("key", [1, None, True, b"a", "a\x00", "\ud800", (1,)], ids=ascii)
def test_bad_keys_of_the_payload_itself(whole: dict[str, Any], key: Any) -> None:
    with pytest.raises(BadRequestError):
        canonical({**whole, key: 1})


@pytest.mark.parametrize(
    "value", [None, True, False, 0, SEQ_MAX, -SEQ_MAX, 0.5, 5e-324, 1.5e308, "", [], {}], ids=repr
)
def test_values_of_i_json_pass(value: Any) -> None:
    assert msgspec.json.decode(canonical({**TEXT, "x": value})) == {**TEXT, "x": value}


def test_depth() -> None:
    assert canonical(nested(DEPTH_MAX))
    for depth in (DEPTH_MAX + 1, 500):
        with pytest.raises(BadRequestError, match="nested"):
            canonical(nested(depth))


@pytest.mark.parametrize("whole", [TEXT, MEDIA, CUSTOM], ids=lambda whole: whole["type"])
def test_nesting_100_000_deep_is_refused(whole: dict[str, Any]) -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(BadRequestError):
        canonical({**whole, "x": value})
    with pytest.raises(BadRequestError):
        canonical({**CUSTOM, "data": value})


def test_a_payload_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = dict(TEXT)
    endless["x"] = endless
    with pytest.raises(BadRequestError, match="nested"):
        canonical(endless)


@pytest.mark.parametrize(
    ("character", "size"), [("a", 1), ("é", 2), ("😀", 4), ("\n", 2), ("\x01", 6)], ids=ascii
)
def test_size_is_that_of_the_canonical_bytes(character: str, size: int) -> None:
    room = PAYLOAD_BYTES_MAX - len(canonical({"type": "TEXT", "text": ""}))
    longest = character * (room // size) + "a" * (room % size)
    assert len(canonical({"type": "TEXT", "text": longest})) == PAYLOAD_BYTES_MAX
    with pytest.raises(TooLargeError, match="65537"):
        canonical({"type": "TEXT", "text": longest + "a"})


# --- one form --------------------------------------------------------------------------------------------


def test_canonical_form_is_sorted_compact_utf8() -> None:
    assert canonical({"type": "TEXT", "text": "到了吗？", "b": {"z": 1, "a": [1, 0.5, None]}}) == (
        '{"b":{"a":[1,0.5,null],"z":1},"text":"到了吗？","type":"TEXT"}'.encode()
    )


def test_order_of_keys_does_not_matter() -> None:
    assert canonical({"text": "hello", "type": "TEXT"}) == canonical(TEXT)


def test_unknown_fields_are_kept() -> None:
    assert msgspec.json.decode(canonical({**TEXT, "mood": "m-1"})) == {**TEXT, "mood": "m-1"}


NAMED = {"messageId": "2a-9f2c4e61a0-2f0d", "seq": 7}
EDIT = {"type": "EDIT", **NAMED, "payload": TEXT}
REACTION = {"type": "REACTION", **NAMED, "reaction": "+1"}


@pytest.mark.parametrize(
    "payload",
    [
        EDIT,
        {**EDIT, "payload": {"type": "CUSTOM", "schema": "s", "data": 1, "fallbackText": "f"}},
        REACTION,
        {**REACTION, "removed": True, "more": [1]},
        {**TEXT, "replyTo": NAMED},
        {**TEXT, "replyTo": {**NAMED, "more": 1}},
        {**TEXT, "mentions": ["u-1", "*", "u-1"]},
        {**EDIT, "payload": {**TEXT, "mentions": [f"u-{n}" for n in range(50)]}},
        {"type": "PINNED", **NAMED, "pinned": False},
        {"type": "TITLE", "title": "", "more": 1},
        {"type": "TITLE", "description": "d\n" * 512},
    ],
)
def test_a_message_may_name_an_earlier_one(payload: Any) -> None:
    assert msgspec.json.decode(canonical(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({**EDIT, "payload": "better"}, "object"),
        ({**EDIT, "payload": EDIT}, "`type` must be one of TEXT"),
        ({**EDIT, "payload": REACTION}, "`type` must be one of TEXT"),
        ({**EDIT, "payload": {"type": "IMAGE", "mime": "a/b", "bytes": 1}}, "blobId"),
        ({**EDIT, "payload": {**TEXT, "replyTo": NAMED}}, "replyTo"),
        ({**EDIT, "replyTo": NAMED}, "replyTo"),
        ({**REACTION, "replyTo": NAMED}, "replyTo"),
        ({"type": "EDIT", "payload": TEXT}, "messageId"),
        ({**EDIT, "messageId": "no id!"}, "messageId"),
        ({**EDIT, "seq": 0}, "seq"),
        ({**EDIT, "seq": "7"}, "seq"),
        ({**REACTION, "reaction": ""}, "reaction"),
        ({**REACTION, "reaction": "x" * 65}, "reaction"),
        ({**REACTION, "removed": 1}, "removed"),
        ({**TEXT, "replyTo": None}, "replyTo"),
        ({**TEXT, "replyTo": "m-1"}, "replyTo"),
        ({**TEXT, "replyTo": {"messageId": "m-1"}}, "seq"),
        ({**TEXT, "mentions": []}, "mentions"),
        ({**TEXT, "mentions": "u-1"}, "mentions"),
        ({**TEXT, "mentions": ["**"]}, "mentions"),
        ({**TEXT, "mentions": ["u 1"]}, "mentions"),
        ({**TEXT, "mentions": [".."]}, "mentions"),
        ({**TEXT, "mentions": [1]}, "mentions"),
        ({**TEXT, "mentions": [f"u-{n}" for n in range(51)]}, "mentions"),
        ({**EDIT, "mentions": ["u-1"]}, "mentions"),
        ({**EDIT, "payload": {**TEXT, "mentions": [None]}}, "mentions"),
        ({"type": "PINNED", **NAMED, "pinned": 1}, "pinned"),
        ({"type": "PINNED", "pinned": True}, "messageId"),
        ({"type": "PINNED", **NAMED, "pinned": True, "replyTo": NAMED}, "replyTo"),
        ({"type": "TITLE"}, "title"),
        ({"type": "TITLE", "title": None}, "title"),
        ({"type": "TITLE", "title": "t" * 257}, "title"),
        ({"type": "TITLE", "title": "a\x00b"}, "title"),
        ({"type": "TITLE", "title": "a\nb"}, "title"),
        ({"type": "TITLE", "title": "a\r"}, "title"),
        ({"type": "TITLE", "description": "d" * 1025}, "description"),
        ({"type": "TITLE", "title": "t", "mentions": ["u-1"]}, "mentions"),
    ],
)
def test_what_names_a_message_in_a_wrong_way(payload: Any, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        canonical(payload)


def test_the_tombstone_is_canonical() -> None:
    assert msgspec.json.Encoder(order="sorted").encode({"type": "RECALLED"}) == RECALLED


words = st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=12)
numbers = st.integers(-SEQ_MAX, SEQ_MAX) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
payloads = st.one_of(
    st.builds(
        lambda extra, text: {**extra, "type": "TEXT", "text": text},
        st.dictionaries(words, values, max_size=3),
        words,
    ),
    st.builds(
        lambda extra, data: {**extra, **CUSTOM, "data": data},
        st.dictionaries(words, values, max_size=3),
        values,
    ),
)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(payload=payloads)
def test_canonical_form_is_equal_whatever_codec_it_came_by(payload: dict[str, Any]) -> None:
    wanted = canonical(payload)
    assert canonical(msgspec.json.decode(msgspec.json.encode(payload))) == wanted
    assert canonical(msgspec.msgpack.decode(msgspec.msgpack.encode(payload))) == wanted


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(payload=payloads)
def test_canonical_form_is_a_fixed_point_and_loses_nothing(payload: dict[str, Any]) -> None:
    stored = canonical(payload)
    assert msgspec.json.decode(stored) == payload
    assert canonical(msgspec.json.decode(stored)) == stored


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=4)
    | st.text(alphabet=st.characters(exclude_categories=()), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(
    extra=st.dictionaries(
        st.sampled_from(["text", "mime", "bytes", "url", "schema", "data", "fallbackText", "x"]), anything
    ),
    kind=st.sampled_from(["TEXT", "IMAGE", "CUSTOM", "NOPE"]),
)
def test_only_typed_errors_for_any_values(extra: dict[str, Any], kind: str) -> None:
    try:
        stored = canonical({**extra, "type": kind})
    except (BadRequestError, TooLargeError):
        return
    assert msgspec.msgpack.encode(msgspec.json.decode(stored))
