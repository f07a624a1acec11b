"""Each numbered attack is held by tests that exist, or says why by none."""

from __future__ import annotations

import ast
from functools import cache

from tests.docs.snippets import ROOT

from .cases import NOT_HERE, TESTS

NUMBERS = {
    *(1, 2, 4, *range(6, 18), 19, 20, 21, *range(23, 29), *range(30, 40)),
    *(41, 42, 43, 44, *range(46, 53), 56, 58, 61, 62, 63, *range(66, 71)),
} - {29}
"""As the programme of proof has them."""


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return frozenset(
        it.name
        for it in ast.walk(tree)
        if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef) and it.name.startswith("test_")
    )


def test_every_number_has_tests_or_a_reason() -> None:
    assert TESTS.keys() | NOT_HERE.keys() == NUMBERS
    assert TESTS.keys() & NOT_HERE.keys() == set()
    assert all(TESTS.values()) and all(len(reason) > 20 for reason in NOT_HERE.values())


def test_every_named_test_is_there() -> None:
    named = {name for names in TESTS.values() for name in names}
    gone = [
        name for name in sorted(named) if name.partition("::")[2] not in names_in(name.partition("::")[0])
    ]
    assert gone == []
