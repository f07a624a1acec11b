"""The test files that the documentation shows are run by pytest as it says, and pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..docs.snippets import ROOT, blocks

pytest_plugins = ["pytester"]

ONE_OF_THE_CONTRACT = "test_a_message_gets_the_next_seq"
"""The store of the page is held to all of it in `tests/storage`."""

JUDGED = '\n\npytest_plugins = ["tests.proof.judging"]\n'
"""For the end of a page's conftest: what passes is held against the invariants."""

INI = "[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider\n"


def files(page: Path) -> dict[str, str]:
    """The blocks of a page that begin with the name of a file."""
    named = [(re.match(r"# (\w+)\.py\n", block.text), block.text) for block in blocks(page, "python")]
    return {found[1]: text for found, text in named if found is not None}


def test_the_page_on_testing(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    shown = files(ROOT / "docs" / "testing.md")
    pytester.makepyfile(**shown | {"conftest": shown["conftest"] + JUDGED})

    result = pytester.runpytest_inprocess("-k", f"not TestMyStore or {ONE_OF_THE_CONTRACT}")

    assert {"conftest", "test_echo", "test_cuts", "test_many_stories", "test_my_store"} <= set(shown)
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed", "deselected"}, result.stdout.str()
    result.stdout.fnmatch_lines(["test_my_store.py . *"])


def test_the_page_on_bots(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    shown = files(ROOT / "docs" / "bots.md")
    pytester.makepyfile(**shown | {"conftest": shown["conftest"] + JUDGED})

    pytester.runpytest_inprocess("--chat-seeds", "5").assert_outcomes(passed=10)


def test_the_tutorial_of_a_bot(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    shown = files(ROOT / "docs" / "bot-tutorial.md")
    pytester.makepyfile(**shown | {"conftest": shown["conftest"] + JUDGED})

    assert set(shown) == {"shop", "talk", "conftest", "test_shop"}
    pytester.runpytest_inprocess("--chat-seeds", "5").assert_outcomes(passed=15)
