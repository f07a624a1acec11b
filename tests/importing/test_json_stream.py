"""JSON of any length, value by value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.errors import ImportFileError
from chatkit.importing import json_stream
from chatkit.importing.json_stream import JsonStream

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda it: st.lists(it, max_size=4) | st.dictionaries(st.text(max_size=4), it, max_size=4),
    max_leaves=12,
)


def stream(text: str, size: int = 3) -> JsonStream:
    return JsonStream((text[at : at + size] for at in range(0, len(text), size)), "f.json")


def walk(document: JsonStream) -> Any:
    """All of it, piece by piece."""
    kind = document.next_char()
    if kind == "{":
        return {key: walk(document) for key in document.fields()}
    if kind == "[":
        return [walk(document) for _ in document.items()]
    return document.value()


@given(JSON, st.integers(1, 7), st.sampled_from([None, 1]))
def test_however_it_is_cut_it_says_what_json_says(value: Any, size: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    whole, pieces, skipped = stream(text, size), stream(text, size), stream(text, size)
    skipped.skip()
    skipped.end()

    assert whole.value() == walk(pieces) == value
    whole.end()
    pieces.end()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1,\n 2", r"f.json:2: no JSON: , or \] is missing; the file may be incomplete$"),
        ("[1,\n x]", "f.json:2: no JSON: expecting value; the file may be incomplete$"),
        ('["a\n', "f.json:1: no JSON: invalid control character; the file may be incomplete$"),
        ('["a', "f.json:1: no JSON: unterminated string; the file may be incomplete$"),
        ('{"a" 1}', "f.json:1: no JSON: : is missing$"),
        ("{1: 2}", "a name in quotes is missing$"),
        ('{"a": 1,', "a name in quotes is missing; the file may be incomplete$"),
        ("[1] 2", "something follows"),
        ("[", "the file ends in the middle: it may be incomplete$"),
        ('["\\ud83', "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_an_error_that_names_the_line(text: str, words: str) -> None:
    document = stream(text, 1_000)
    with pytest.raises(ImportFileError, match=words):
        take(document)


def take(document: JsonStream) -> None:
    document.next_char() and document.skip()
    document.end()


def test_an_empty_file_is_no_array() -> None:
    with pytest.raises(ImportFileError, match=r"\[ is missing"):
        next(stream("").items())


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "VALUE_CHARS_MAX", 1_000)
    with pytest.raises(ImportFileError, match=r"1:.*more than 1000"):
        stream('"' + "x" * 5_000 + '"', 100).value()
    many = stream("[" + ",".join(["[1]"] * 5_000) + "]", 100)
    assert sum(len(many.value()) for _ in many.items()) == 5_000


def test_each_value_has_its_line() -> None:
    document = stream("[\n1,\n\n2,\n[3,\n4]\n]", 4)
    assert [(document.where(), document.next_char(), document.value()) for _ in document.items()] == [
        ("f.json:2", "1", 1),
        ("f.json:4", "2", 2),
        ("f.json:5", "[", [3, 4]),
    ]
