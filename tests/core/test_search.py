"""What matches a query, and that an index never leaves out what does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.core import search
from chatkit.core.search import (
    ATOMS_MAX,
    HIGHLIGHTS_MAX,
    QUERY_MAX,
    SNIPPET_MAX,
    TERM_MAX,
    TEXT_MAX,
    Term,
    atoms_of,
    matches,
    parse_query,
    terms_of,
)
from chatkit.errors import BadRequestError

ALPHABET = "abAB01 .,-'\"*_$éÉe\u0301ßſﬁ東京都はガｶﾞ한국각ภาษาไทยहिन्दी㍿①½😀👍🏽\u200d\ufe0f\u00ad\n\ue000"
texts = st.text(st.sampled_from(ALPHABET) | st.characters(exclude_categories=["Cs"]), max_size=40)


def found(query: str, text: str) -> list[str] | None:
    """The highlighted parts of a text."""
    hit = matches(parse_query(query), text)
    return None if hit is None else [text[start:end] for start, end in hit.highlights]


@pytest.mark.parametrize(
    ("query", "text", "highlights"),
    [
        ("hello", "Hello, HELLO!", ["Hello", "HELLO"]),
        ("cafe", "ein CAFE\u0301!", ["CAFE\u0301"]),
        ("straße", "STRASSE", ["STRASSE"]),
        ("mess*", "a message, a mess", ["message", "mess"]),
        ("m*", "message", None),
        ("東京", "今日は東京都へ", ["東京"]),
        ("東都", "東京都", None),
        ("京", "東京 京", ["京", "京"]),
        ("ガ", "ｶﾞラス", ["ｶﾞ"]),
        ("각", "각", ["각"]),
        ("คน", "สวัสดีคนไทย", ["คน"]),
        ("हिन्दी", "यह हिन्दी है", ["हिन्दी"]),
        ("株式", "㍿", ["㍿"]),
        ("👍", "👍🏽", ["👍"]),
        ("iPhone手机", "新iPhone手机", ["iPhone手机"]),
        ('"big red"', "a big, red dog", ["big, red"]),
        ('"big red', "a red big red", ["big red"]),
        ("red big", "big and red", ["big", "red"]),
        ("foo-bar", "foo bar", ["foo bar"]),
        ("foo-bar", "bar foo", None),
        ("-foo", "foo", ["foo"]),
        ("co\u00adop", "coop", ["coop"]),
        ("aa", "aaa aa", ["aa"]),
    ],
)
def test_examples(query: str, text: str, highlights: list[str] | None) -> None:
    assert found(query, text) == highlights


@pytest.mark.parametrize("query", ["", " ", '"', '""', "*", "-", "$", "\u0301", "\ue000"])
def test_a_query_of_nothing_is_refused(query: str) -> None:
    with pytest.raises(BadRequestError, match="nothing to search for"):
        parse_query(query)


def test_a_query_has_a_bound() -> None:
    parse_query("x" * QUERY_MAX)
    with pytest.raises(BadRequestError, match=str(QUERY_MAX)):
        parse_query("x" * (QUERY_MAX + 1))


def test_long_words_and_long_texts() -> None:
    word = "x" * (TERM_MAX + 5)

    assert parse_query(word).terms == (Term("x" * TERM_MAX),)
    assert found(word, word) == [word]
    assert found(word, word + "y") is None
    assert found("end", "." * (TEXT_MAX - 3) + "end") == ["end"]
    assert found("end", "." * TEXT_MAX + "end") is None


def test_a_text_has_as_many_terms_in_any_script() -> None:
    han = "".join(map(chr, range(0x4E00, 0x4E00 + TEXT_MAX)))
    words = " ".join(f"{n:x}" for n in range(TEXT_MAX // 4))
    for text, parts in ((han, list(han)), (words, words.split()), ("é " + words, ["e", *words.split()])):
        terms = terms_of(text)
        assert len(terms) <= 2 * ATOMS_MAX
        assert found(parts[min(ATOMS_MAX, len(atoms_of(text))) - 1], text)
        assert len(parts) <= ATOMS_MAX or found(parts[ATOMS_MAX], text) is None
    hit = matches(parse_query("a"), "a " * 1000)
    assert hit is not None
    assert len(hit.highlights) == HIGHLIGHTS_MAX


def test_a_snippet_holds_the_first_highlight() -> None:
    text = "x " * 500 + "word" + " y" * 500
    hit = matches(parse_query("word"), text)

    assert hit is not None
    assert hit.snippet[0] <= hit.highlights[0][0]
    assert hit.highlights[0][1] <= hit.snippet[1]
    assert hit.snippet[1] - hit.snippet[0] == SNIPPET_MAX
    short = matches(parse_query("word"), "a word")
    assert short is not None
    assert short.snippet == (0, 6)


@given(texts)
def test_atoms_are_in_order_and_in_the_text(text: str) -> None:
    former = 0
    for it in atoms_of(text):
        assert 0 <= it.start < it.end <= len(text)
        assert it.text
        assert it.start >= former
        former = it.start


@given(texts, texts)
def test_whatever_matches_has_all_terms(query: str, text: str) -> None:
    try:
        parsed = parse_query(query)
    except BadRequestError:
        return
    hit = matches(parsed, text)
    if hit is not None:
        terms = terms_of(text)
        for wanted in parsed.terms:
            assert any(it == wanted.text or (wanted.is_prefix and it.startswith(wanted.text)) for it in terms)
        assert all(0 <= start < end <= len(text) for start, end in hit.highlights)
        assert list(hit.highlights) == sorted(hit.highlights)


@given(texts, st.integers(0, 40), st.integers(1, 40))
def test_a_text_is_found_by_any_run_of_its_words(text: str, first: int, count: int) -> None:
    run = [it for it in atoms_of(text) if '"' not in text[it.start : it.end]][first : first + count]
    if run:
        part = text[run[0].start : run[-1].end].replace('"', " ")
        if len(part) <= QUERY_MAX and atoms_of(part) and len(atoms_of(part)) == len(run):
            assert matches(parse_query(f'"{part}"'), text.replace('"', " ")) is not None


@given(texts)
def test_terms_have_nothing_in_them_that_parts_words(text: str) -> None:
    for term in terms_of(text):
        assert not any(it.isascii() and not it.isalnum() for it in term)
        assert "\ue000" not in term
        assert "\ue001" not in term


@given(texts)
def test_letters_are_cut_the_same_whatever_stands_beside_them(text: str) -> None:
    ascii_text = "".join(it for it in text if it.isascii())

    assert [it[:3] for it in atoms_of(ascii_text)] == [it[:3] for it in atoms_of(ascii_text + " é")][:-1]


def test_what_repeats_costs_no_more_than_its_rarest_part() -> None:
    """Comparisons are counted, not time: one character without end, and a query that ends in another one."""
    text, query = "一" * 16_000, parse_query('"' + "一" * 63 + '二"')
    with counted_comparisons() as count:
        assert matches(query, text) is None
        assert matches(parse_query(" ".join(chr(0x1F600 + n) for n in range(60))), "😀" * 15_000) is None
    assert count() <= HIGHLIGHTS_MAX


@contextmanager
def counted_comparisons() -> Iterator[Callable[[], int]]:
    calls = 0
    inner = search._is_at

    def counted(*args: Any) -> bool:
        nonlocal calls
        calls += 1
        return inner(*args)

    search._is_at = counted  # type: ignore[assignment]
    try:
        yield lambda: calls
    finally:
        search._is_at = inner


def test_a_query_of_too_many_words_is_refused() -> None:
    assert len(parse_query("一" * 64).phrases) == 1
    with pytest.raises(BadRequestError, match="64 words"):
        parse_query("一" * 65)
    with pytest.raises(BadRequestError, match="64 words"):
        parse_query("a " * 65)
