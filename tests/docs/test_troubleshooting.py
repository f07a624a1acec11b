"""The page of troubleshooting has every code that a user can meet, and says of a retry what the code says."""

from __future__ import annotations

import re

import pytest

from chatkit import errors
from chatkit.wire import events

from .snippets import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, flags=re.M | re.S))
BASES = (errors.ChatkitError, errors.RefusedError)
"""Nobody raises these."""


def kinds(base: type[errors.ChatkitError]) -> list[type[errors.ChatkitError]]:
    """All errors of chatkit.errors below one."""
    own = [it for it in base.__subclasses__() if it.__module__ == errors.__name__]
    return [*own, *(it for kind in own for it in kinds(kind))]


CODES = {kind.code: kind for kind in kinds(errors.ChatkitError) if kind not in BASES and "code" in vars(kind)}
CODES["UNKNOWN"] = errors.UnknownRefusalError
CLOSE_CODES = {
    row[0]: row[1]
    for row in re.findall(
        r"^\| (\d{4}) \| [^|]+ \| ([^|]+) \|$",
        (ROOT / "docs" / "protocol.md").read_text("utf-8").partition("## Close codes")[2],
        flags=re.M,
    )
}


def test_every_code_is_there_and_no_other() -> None:
    assert {it for it in SECTIONS if not it.isdigit()} == {*CODES}
    assert {it for it in SECTIONS if it.isdigit()} == {*CLOSE_CODES}


def test_the_protocol_lists_every_close_code_of_the_contract() -> None:
    named = {str(value) for name, value in vars(events.CloseCode).items() if name.isupper()}
    assert named <= {*CLOSE_CODES}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_why_what_to_do_and_whether_to_try_again(name: str) -> None:
    text = SECTIONS[name]
    for label in ("Cause", "Do", "Retry"):
        assert len(re.findall(rf"^- \*\*{label}\*\*: \S", text, flags=re.M)) == 1, label
    says_yes = re.search(r"^- \*\*Retry\*\*: (yes|no)\b", text, flags=re.M)
    assert says_yes is not None
    if name in CODES:
        assert (says_yes[1] == "yes") == CODES[name].retryable
        assert f"`{CODES[name].__name__}`" in text.splitlines()[1]
    else:
        assert (says_yes[1] == "yes") == CLOSE_CODES[name].startswith("reconnect")


@pytest.mark.parametrize("kind", kinds(errors.RefusedError), ids=lambda kind: kind.__name__)
def test_every_refusal_is_named_with_its_status(kind: type[errors.RefusedError]) -> None:
    assert f"`{kind.__name__}`" in PAGE
    if kind is not errors.UnknownRefusalError:
        assert f"HTTP {kind.status}" in SECTIONS[kind.code]


def test_every_further_word_is_there() -> None:
    sources = [it.read_text("utf-8") for it in (ROOT / "src" / "chatkit").rglob("*.py")]
    said = {word for source in sources for word in re.findall(r'\breason="([A-Z]+)"', source)}
    listed = re.findall(r"^\| ([A-Z]+) \| \[", PAGE, flags=re.M)
    assert {*listed} == {*said, events.REVIEWED}


def test_every_code_that_a_page_gets_is_there() -> None:
    sources = [it.read_text("utf-8") for it in (ROOT / "src" / "chatkit" / "web" / "client").glob("*.js")]
    said = {code for source in sources for code in re.findall(r'\bnew ChatError\(\s*"([A-Z_]+)"', source)}
    assert "BAD_REQUEST" in said
    of_a_page = PAGE.partition("### In a page")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| ([A-Z_]+) \|", of_a_page, flags=re.M)
    assert {*listed} == said - {*CODES}


def test_the_words_of_unavailable_are_there() -> None:
    described = re.search(
        r"one word for figures: (.+?)\.\n", errors.UnavailableError.__doc__ or "", flags=re.S
    )
    assert described is not None
    words = re.findall(r"`(\w+)`", described[1])
    assert len(words) > 5
    assert all(f"`{word}`" in SECTIONS["UNAVAILABLE"] for word in words)
