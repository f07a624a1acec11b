"""Texts as typed arguments: what people write on phones works, and what is wrong is said in their words."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit import ConfigurationError
from chatkit.bots.arguments import INT_MAX, ArgumentsError, next_word, parameters_of, parsed

OPEN, CLOSE = "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"
LOW = "\N{DOUBLE LOW-9 QUOTATION MARK}"


async def order(
    message: Any,
    count: int,
    size: Literal["small", "large"] = "small",
    price: float | None = None,
    *,
    note: str = "",
) -> None:
    """Order something."""


async def every(
    message: Any, text: str, whole: int, number: float, sure: bool, choice: Literal[1, "two"]
) -> None:
    """One of each."""


async def rest(message: Any, *, what: str) -> None:
    """All of it."""


def args(handler: Any, text: str) -> Any:
    values, kept = parsed(text, parameters_of(handler))
    return (*values, kept) if kept else tuple(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", (3, "small", None, {"note": ""})),
        ("3 large", (3, "large", None, {"note": ""})),
        ("  3   LARGE  2.5  no  sugar,  please ", (3, "large", 2.5, {"note": "no  sugar,  please"})),
        ("3\nlarge\n1\ntwo\nlines", (3, "large", 1.0, {"note": "two\nlines"})),
        ('3 small 1 "quoted" rest', (3, "small", 1.0, {"note": '"quoted" rest'})),
        ("3 small 1e3 don't", (3, "small", 1000.0, {"note": "don't"})),
    ],
)
def test_words_become_values(text: str, expected: Any) -> None:
    assert args(order, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"two words" -7 .5 yes 1', ("two words", -7, 0.5, True, 1)),
        (
            f"{OPEN}phones do{CLOSE} +7 -1.25 OFF TWO",
            ("phones do", 7, -1.25, False, "two"),
        ),
        (
            f"{LOW}wie hier{OPEN} 0 0 n 1",
            ("wie hier", 0, 0.0, False, 1),
        ),
        ('"" 1 1 1 1', ("", 1, 1.0, True, 1)),
        (f"x {INT_MAX} 1 true two", ("x", INT_MAX, 1.0, True, "two")),
    ],
)
def test_every_kind(text: str, expected: Any) -> None:
    assert args(every, text) == expected
    assert [type(each) for each in args(every, text)] == [type(each) for each in expected]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "count is missing"),
        ("three", "count must be a whole number, not 'three'"),
        ("1.5", "count must be a whole number, not '1.5'"),
        ("1_000", "a whole number"),
        ("9007199254740992", "a whole number"),
        ("9" * 5000, "a whole number, not '" + "9" * 40 + "...'"),
        ("\u0663", "a whole number"),
        ("3 huge", "size must be small or large, not 'huge'"),
        ("3 small nan", "price must be a number, not 'nan'"),
        ("3 small inf", "a number"),
        ("3 small 1e999", "a number"),
        ("3 small 1__0", "a number"),
        ('3 "small', "the quotation that begins with '\"small' does not end"),
        ("3\x00\x1b[31m", "not '3  [31m'"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        args(order, text)
    assert said in str(caught.value)


def test_too_much_and_too_little() -> None:
    with pytest.raises(ArgumentsError, match="'more' is too much"):
        args(every, "a 1 1 yes 1 more")
    with pytest.raises(ArgumentsError, match="sure must be yes or no, not 'perhaps'"):
        args(every, "a 1 1 perhaps 1")
    with pytest.raises(ArgumentsError, match="choice must be 1 or two"):
        args(every, "a 1 1 yes 3")
    with pytest.raises(ArgumentsError, match="what is missing"):
        args(rest, "   ")
    assert args(rest, " all of  it ") == ({"what": "all of  it"},)


def test_usage() -> None:
    assert [each.usage for each in parameters_of(order)] == [
        "<count>",
        "[size: small|large]",
        "[price]",
        "[note...]",
    ]
    assert [each.usage for each in parameters_of(rest)] == ["<what...>"]


async def no_type(message: Any, count) -> None:  # type: ignore[no-untyped-def]
    """Not known."""


async def a_list(message: Any, items: list[str]) -> None:
    """None of the kinds."""


async def either(message: Any, value: int | str) -> None:
    """Which?"""


async def stars(message: Any, *items: str) -> None:
    """How many?"""


async def two_rests(message: Any, *, one: str, two: str) -> None:
    """Where does the first end?"""


async def a_rest_of_numbers(message: Any, *, one: int) -> None:
    """No text."""


async def floats(message: Any, value: Literal[b"x"]) -> None:
    """No text either."""


async def nobody() -> None:
    """No message."""


async def unknown(message: Any, value: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """A type that is nowhere."""


@pytest.mark.parametrize(
    "handler", [no_type, a_list, either, stars, two_rests, a_rest_of_numbers, floats, nobody, unknown]
)
def test_what_no_text_can_be_made_into_is_refused_by_name(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match=handler.__name__):
        parameters_of(handler)


def test_a_partial_has_the_arguments_that_are_left() -> None:
    async def handler(shop: str, message: Any, count: int) -> None: ...

    assert [each.name for each in parameters_of(partial(handler, "shop"))] == ["count"]


@given(st.text(), st.sampled_from([order, every, rest]))
def test_any_text_is_taken_or_refused_in_words(text: str, handler: Any) -> None:
    said = "taken"
    try:
        args(handler, text)
    except ArgumentsError as error:
        said = str(error)
    assert said
    assert said.isprintable()
    assert len(said) < 200


@given(st.text())
def test_words_use_up_the_text(text: str) -> None:
    words = []
    try:
        while (found := next_word(text))[0] is not None:
            assert len(found[1]) < len(text)
            words.append(found[0])
            text = found[1]
    except ArgumentsError:
        return
    assert text.strip() == ""
