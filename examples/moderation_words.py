"""A moderator with a list of words: some are masked, some keep a message out, some have it looked at first.

The list has a line for each word: `mask: darn`, `refuse: buy now`, `hold: lawyer`; `#` begins a remark. Words are found
whatever their case, accents, width and invisible characters are, and as whole words: "class" does not hold "ass". What
people write to get around a list (d a r n, other spellings) is not found: such a list keeps honest people polite.

Run: `python examples/moderation_words.py 8000 words.txt`, with `CHATKIT_JWT_SECRET` set.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import uvicorn

from chatkit import (
    Allow,
    ChatServer,
    Hold,
    ModeratorVerdict,
    Refuse,
    Rewrite,
    Submission,
    asgi_app,
    jwt_authenticator,
    open_store,
)

ACTIONS = ("mask", "hold", "refuse")
"""From the mildest: where several words are found, the strictest one counts."""

WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts that put no space between words: there a word is found wherever it stands."""


class Folded(NamedTuple):
    """A text as it is compared, and for each character of it the one of the text that it comes from."""

    text: str
    places: tuple[int, ...]


def fold(text: str) -> Folded:
    """Without case, accents, width and what nobody sees; runs of spaces are one."""
    folded: list[tuple[str, int]] = []
    for place, character in enumerate(text):
        for plain in unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", character).casefold()):
            if unicodedata.category(plain) in ("Mn", "Me", "Cf", "Cc") and not plain.isspace():
                continue
            plain = " " if plain.isspace() else plain
            if plain != " " or not folded or folded[-1][0] != " ":
                folded.append((plain, place))
    return Folded("".join(it for it, _ in folded), tuple(place for _, place in folded))


class WordList:
    """Words, and what becomes of a text that holds them.

    Args:
        lines: As in the file.

    Raises:
        ValueError: A line is none.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.words: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            said = line.partition("#")[0].strip()
            action, _, word = said.partition(":")
            folded = fold(word.strip()).text
            if said and (action.strip() not in ACTIONS or not folded):
                raise ValueError(f"line {number}: write `mask: WORD`, `hold: WORD` or `refuse: WORD`")
            if said:
                self.words[folded] = action.strip()

    def judge(self, text: str) -> ModeratorVerdict:
        """The verdict for a text."""
        folded = fold(text)
        found = {word: self._spans(folded, word) for word in self.words}
        actions = {self.words[word] for word, spans in found.items() if spans}
        if "refuse" in actions:
            return Refuse("it holds a word that is not allowed here")
        if "hold" in actions:
            return Hold("a word on the list")
        masked = {place for spans in found.values() for span in spans for place in span}
        if masked:
            return Rewrite("".join("*" if it in masked else character for it, character in enumerate(text)))
        return Allow()

    def _spans(self, folded: Folded, word: str) -> list[range]:
        """Where a word stands: places of the text itself, with what is invisible between its letters."""
        spans, start = [], folded.text.find(word)
        while start >= 0:
            end = start + len(word)
            if _is_whole(folded.text, start, end):
                spans.append(range(folded.places[start], folded.places[end - 1] + 1))
            start = folded.text.find(word, start + 1)
        return spans


def _is_whole(text: str, start: int, end: int) -> bool:
    return not (_joins(text, start - 1, start) or _joins(text, end - 1, end))


def _joins(text: str, left: int, right: int) -> bool:
    """Whether two neighbours belong to one word."""
    if left < 0 or right >= len(text):
        return False
    both = text[left], text[right]
    return all(it.isalnum() for it in both) and not any(map(_has_no_spaces, both))


def _has_no_spaces(character: str) -> bool:
    return unicodedata.name(character, "").startswith(WITHOUT_SPACES)


async def moderate(words: WordList, submissions: Sequence[Submission]) -> list[ModeratorVerdict]:
    """The verdicts of a batch. A file's name or a fallback text is refused or held, never rewritten."""
    verdicts = [words.judge(it.text) for it in submissions]
    return [
        Refuse("its name or text holds a word that is not allowed here")
        if isinstance(verdict, Rewrite) and it.payload["type"] != "TEXT"
        else verdict
        for it, verdict in zip(submissions, verdicts, strict=True)
    ]


def create_server(words: WordList, secret: str) -> ChatServer:
    """A server that is moderated by the list."""

    async def by_words(submissions: Sequence[Submission]) -> list[ModeratorVerdict]:
        return await moderate(words, submissions)

    return ChatServer(
        store=open_store("memory://"), authenticate=jwt_authenticator(secret), moderator=by_words
    )


if __name__ == "__main__":
    listed = WordList(Path(sys.argv[2]).read_text(encoding="utf-8").splitlines())
    app = asgi_app(create_server(listed, os.environ["CHATKIT_JWT_SECRET"]))
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
