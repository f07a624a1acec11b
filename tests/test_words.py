"""One word, one thing: words that were given up for the field's own do not come back (docs/design/0009-names.md)."""

from __future__ import annotations

import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
FOLDERS: Final = ("src", "tests", "examples", "benchmarks", "docs", "scripts")
PAGES: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "mkdocs.yml", "pyproject.toml")
HERE: Final = ("tests/test_words.py", "docs/design/0009-names.md")

NAMES: Final = {
    "Doubts": "ReconcileQueue",
    "doubts": "reconcile queue",
    "Follower": "Reconciler",
    "follower": "reconciler",
    "Relay": "ClusterBridge",
    "relay": "bridge",
    "hints": "cluster messages, frames",
    "Draft": "PendingCommand",
    "draft": "pending",
    "Settler": "CommitListener",
    "settler": "listener",
    "settle": "on_committed, resolve",
    "settled": "skip_hidden, resolved",
    "Committing": "CommandStore",
    "committing": "store",
    "Entrance": "JoinReason",
    "entrance": "reason",
    "Joined": "MembershipSnapshot",
    "Joins": "MembershipChanges",
    "Mailbox": "EventQueue",
    "mailbox": "events",
    "Pulls": "SyncQueue",
    "pulls": "sync queue",
    "Signal": "AutoResetEvent",
    "Unplaced": "UnknownConversation",
    "unplaced": "unknown",
    "Loaded": "ConversationState",
    "founders": "initial_members",
    "fitting": "last_that_fits",
    "TypingIn": "TypingCommand",
    "TypingOut": "TypingPush",
    "ReceiptOut": "ReceiptPush",
    "ConversationOut": "ConversationPush",
    "ErrorOut": "ErrorEvent",
    "Teller": "Console",
    "teller": "console",
    "Witness": "DemoDevice",
    "witness": "device",
    "hint_s": "retry_after_s",
    "Parts": "nothing: each object gets what it needs",
    "Running": "ClientRuntime",
    "Link": "Connection",
    "chance": "rng",
    "weather": "faults",
    "life": "incarnation",
    "sprung": "require",
    "road": "endpoint, protocol",
}
"""Identifiers, each with what it is called now."""

NAMES_IN_SRC: Final = NAMES | {"told": "notified", "stands": "needs_ack, positions"}
"""Those of what ships. The proof judges what an app was told, and may call it so."""

PROSE: Final = re.compile(
    r"\b(roads?|doubt(?:s|ed)?|weather|settl(?:e[sdr]?|ing)|sprung|tellers?|witness(?:ed|es)?|mailbox(?:es)?|founders?)\b",
    re.IGNORECASE,
)
"""Words that are nobody's standard for anything here, in comments, docstrings and pages."""


@cache
def _files() -> list[Path]:
    found = [ROOT / page for page in PAGES]
    for folder in FOLDERS:
        found += (path for kind in ("*.py", "*.md", "*.js") for path in (ROOT / folder).rglob(kind))
    return sorted(path for path in found if path.relative_to(ROOT).as_posix() not in HERE)


def _names_in(source: str) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def test_identifiers_are_the_fields_own() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name} is now {names[name]}"
        for path in _files()
        if path.suffix == ".py"
        for names in [NAMES_IN_SRC if path.is_relative_to(ROOT / "src") else NAMES]
        for name in _names_in(path.read_text(encoding="utf-8")) & names.keys()
    }
    assert sorted(found) == []


def test_prose_says_it_in_plain_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if PROSE.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["the road is long", "Doubts about it", "it settles", "a witnessed run"])
def test_the_check_finds_them(text: str) -> None:
    assert PROSE.search(text)


def test_an_identifier_is_found_wherever_it_stands() -> None:
    assert _names_in("def f(road): return road.chance") & NAMES.keys() == {"road", "chance"}
