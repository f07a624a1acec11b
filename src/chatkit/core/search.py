"""What it means that a message matches what somebody searches for: the same for every store.

A text is cut into atoms: words (letters and digits in a row), single characters of scripts that put no spaces between
words (Chinese, Japanese, Korean, Thai and their like), and single symbols, such as emoji. Case, width and accents make
no difference. A query is a list of phrases, all of which must be found; a phrase is found where its atoms follow each
other. An index of a store only proposes messages, by `terms_of` and `Query.terms`; `matches` decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, Literal, NamedTuple

import msgspec

from ..errors import BadRequestError

TEXT_MAX: Final = 16_384
"""Code points of a message that are searched, its first ones."""

ATOMS_MAX: Final = 4_096
"""Atoms of a message that are searched, its first ones: a term costs an index the same in every script, and so a sender
of characters without end costs it no more than one of words."""

QUERY_ATOMS_MAX: Final = 64
"""Words of a query, and of scripts without spaces characters: so much is compared at each place of a text."""

QUERY_MAX: Final = 256
"""Code points of a query."""

TERM_MAX: Final = 40
"""Code points of a word that are in an index; longer ones are told apart by `matches`."""

HIGHLIGHTS_MAX: Final = 32
"""Places of one message that are shown, its first ones."""

SNIPPET_MAX: Final = 160
"""Code points of a snippet."""

_BEFORE_HIT: Final = 40

_ASCII_WORD = re.compile(r"[0-9a-z]+")
_PREFIX_MIN: Final = 2

_DENSE = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul, its parts
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x318F),  # kana, Bopomofo, Hangul
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
"""Scripts without spaces between words, and Hangul, whose words carry endings."""

_IGNORED = {0x00AD, *range(0x0300, 0x0370), *range(0x200B, 0x2010), *range(0xFE00, 0xFE10), 0xFEFF}
"""Accents, soft hyphens, marks of direction and of the form of a symbol."""

_EXTENDERS = {0x00AD, *range(0x1160, 0x1200), 0xFE0F, 0xFF9E, 0xFF9F}
"""Belong to the character before them, though Unicode does not call them marks."""

Kind = Literal["word", "dense", "symbol", "mark", "gap"]


class Atom(NamedTuple):
    """A word, character or symbol of a text.

    Attributes:
        text: Folded.
        start: Where it begins in the text, in code points.
        end: Where it ends, not included.
        is_dense: Whether it is a character of a script without spaces.
        is_joined: Whether it is one, and so is the one right before it.
    """

    text: str
    start: int
    end: int
    is_dense: bool = False
    is_joined: bool = False


class Term(msgspec.Struct, frozen=True, order=True):
    """What an index is asked for: a term, or all that begin with it."""

    text: str
    is_prefix: bool = False


class Phrase(msgspec.Struct, frozen=True):
    """Atoms that follow each other: (text, whether it is joined to the one before). The last may be a prefix."""

    atoms: tuple[tuple[str, bool], ...]
    is_prefix: bool = False


class Query(msgspec.Struct, frozen=True):
    """What somebody searches for.

    Attributes:
        phrases: All of them must be found.
        terms: All of them are among `terms_of` a text that matches.
    """

    phrases: tuple[Phrase, ...]
    terms: tuple[Term, ...]


class Hit(msgspec.Struct, frozen=True):
    """Where a text matches: [start, end) in code points.

    Attributes:
        highlights: Ascending, apart from each other, at most `HIGHLIGHTS_MAX`.
        snippet: The part of the text to show, with the first highlight in it; at most `SNIPPET_MAX` long.
    """

    highlights: tuple[tuple[int, int], ...]
    snippet: tuple[int, int]


def parse_query(text: str) -> Query:
    """What people typed: words and "phrases in quotes"; `wor*` finds all words that begin so.

    Nothing else has a meaning: signs between letters part words, which then must follow each other (`foo-bar`).

    Raises:
        BadRequestError: Too long, or without any letter, digit or symbol.
    """
    if len(text) > QUERY_MAX:
        raise BadRequestError(f"a query has at most {QUERY_MAX} characters")
    phrases = []
    for number, part in enumerate(text.split('"')):
        for chunk in [part] if number % 2 else part.split():
            found = atoms_of(chunk)
            if found:
                phrases.append(_phrase(found, chunk))
    if not phrases:
        raise BadRequestError("there is nothing to search for in this query")
    if sum(len(phrase.atoms) for phrase in phrases) > QUERY_ATOMS_MAX:
        raise BadRequestError(f"a query has at most {QUERY_ATOMS_MAX} words, of dense scripts characters")
    terms = {term for phrase in phrases for term in _terms_of_phrase(phrase)}
    return Query(tuple(dict.fromkeys(phrases)), tuple(sorted(terms)))


def _phrase(found: Sequence[Atom], chunk: str) -> Phrase:
    last = found[-1]
    is_prefix = chunk.rstrip().endswith("*") and not last.is_dense and len(last.text) >= _PREFIX_MIN
    return Phrase(tuple((it.text, it.is_joined) for it in found), is_prefix)


def _terms_of_phrase(phrase: Phrase) -> Iterator[Term]:
    """Pairs for characters that are joined; else the atoms themselves."""
    last = len(phrase.atoms) - 1
    for place, (text, is_joined) in enumerate(phrase.atoms):
        if is_joined:
            yield Term(phrase.atoms[place - 1][0] + text)
        elif place == last or not phrase.atoms[place + 1][1]:
            yield Term(text[:TERM_MAX], phrase.is_prefix and place == last)


def terms_of(text: str) -> set[str]:
    """What an index keeps of a text. Every term consists of letters, digits, marks and symbols."""
    terms, former = set(), ""
    for it in atoms_of(text):
        terms.add(it.text[:TERM_MAX])
        if it.is_joined:
            terms.add(former + it.text)
        former = it.text
    return terms


def matches(query: Query, text: str) -> Hit | None:
    """Where a text matches; None if it does not."""
    found = atoms_of(text)
    by_text: dict[str, list[int]] = {}
    for place, atom in enumerate(found):
        by_text.setdefault(atom.text, []).append(place)
    ranges: list[tuple[int, int]] = []
    for phrase in query.phrases:
        places = _places(phrase, found, by_text)
        if not places:
            return None
        ranges += places
    highlights = _merged(ranges)[:HIGHLIGHTS_MAX]
    return Hit(tuple(highlights), _snippet(highlights[0], min(len(text), TEXT_MAX)))


def _places(
    phrase: Phrase, found: Sequence[Atom], by_text: Mapping[str, Sequence[int]]
) -> list[tuple[int, int]]:
    """Where a phrase is, looked for where its rarest atom is: a text of one character repeated costs no more."""
    size, places = len(phrase.atoms), []
    for first in _beginnings(phrase, len(found), by_text):
        if all(_is_at(phrase, n, found[first + n]) for n in range(size)):
            places.append((found[first].start, found[first + size - 1].end))
            if len(places) == HIGHLIGHTS_MAX:
                break
    return places


def _beginnings(phrase: Phrase, count: int, by_text: Mapping[str, Sequence[int]]) -> Iterable[int]:
    """Where it may begin, ascending."""
    last = len(phrase.atoms) - 1
    exact = [n for n in range(last + 1) if not (phrase.is_prefix and n == last)]
    if not exact:
        return range(count)
    rarest = min(exact, key=lambda n: len(by_text.get(phrase.atoms[n][0], ())))
    ends = count - last + rarest
    return [it - rarest for it in by_text.get(phrase.atoms[rarest][0], ()) if rarest <= it < ends]


def _is_at(phrase: Phrase, number: int, atom: Atom) -> bool:
    text, is_joined = phrase.atoms[number]
    if is_joined and not atom.is_joined:
        return False
    if phrase.is_prefix and number == len(phrase.atoms) - 1:
        return not atom.is_dense and atom.text.startswith(text)
    return atom.text == text


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _snippet(first: tuple[int, int], size: int) -> tuple[int, int]:
    start = max(0, min(first[0] - _BEFORE_HIT, size - SNIPPET_MAX))
    return start, min(size, start + SNIPPET_MAX)


def atoms_of(text: str) -> list[Atom]:
    """The atoms of the first `TEXT_MAX` code points of a text, in order; its first `ATOMS_MAX`."""
    text = text[:TEXT_MAX]
    if text.isascii():
        words = islice(_ASCII_WORD.finditer(text.lower()), ATOMS_MAX)
        return [Atom(it.group(), it.start(), it.end()) for it in words]
    found: list[Atom] = []
    word, word_start, word_end = "", 0, 0
    dense_end = -1  # where the last dense character ended, if nothing came after it
    for start, end in _clusters(text):
        if len(found) >= ATOMS_MAX:
            return found[:ATOMS_MAX]
        for folded, kind in _folded(text[start:end]):
            if kind == "word" or (kind == "mark" and word):
                word, word_start, word_end = word + folded, word_start if word else start, end
                continue
            if word:
                found.append(Atom(word, word_start, word_end))
                word, dense_end = "", -1
            if kind == "dense":
                found.append(Atom(folded, start, end, True, dense_end in (start, end)))
                dense_end = end
            elif kind == "symbol":
                found.append(Atom(folded, start, end))
                dense_end = -1
    if word:
        found.append(Atom(word, word_start, word_end))
    return found[:ATOMS_MAX]


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Characters with the marks on them: [start, end)."""
    start = 0
    for place in range(1, len(text)):
        if not _extends(text[place]):
            yield start, place
            start = place
    yield start, len(text)


@lru_cache(4096)
def _extends(character: str) -> bool:
    return ord(character) in _EXTENDERS or unicodedata.category(character)[0] == "M"


@lru_cache(16_384)
def _folded(cluster: str) -> tuple[tuple[str, Kind], ...]:
    """What a character with its marks is when case, width and accents make no difference: one part, seldom more."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", cluster).casefold())
    plain = unicodedata.normalize("NFC", "".join(it for it in plain if ord(it) not in _IGNORED))
    parts: list[tuple[str, Kind]] = []
    for character in plain:
        kind = _kind_of(character)
        if kind == "mark" and parts and parts[-1][1] != "gap":
            parts[-1] = (parts[-1][0] + character, parts[-1][1])
        else:
            parts.append((character, kind))
    return tuple(parts)


def _kind_of(character: str) -> Kind:
    category = unicodedata.category(character)
    if category[0] == "M":
        return "mark"
    if not character.isascii() and (category in ("So", "Sc") or 0x1F3FB <= ord(character) <= 0x1F3FF):
        return "symbol"
    if not character.isalnum():
        return "gap"
    return "dense" if any(first <= ord(character) <= last for first, last in _DENSE) else "word"
