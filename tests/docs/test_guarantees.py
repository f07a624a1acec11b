"""The page on guarantees is true: what it names is there, and every invariant is on it."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.proof.checker import INVARIANTS
from tests.proof.mutants.catalogue import MUTANTS
from tests.proof.scenarios import SCENARIOS
from tests.proof.simulation.plan import FAULTS

from .snippets import ROOT

TEXT: Final = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
PACKAGE: Final = ROOT / "src" / "chatkit"
OF_CRASH_STATES: Final = "S12"
"""Not judged by the checker: each crash state is a history of its own."""

NUMBERS: Final = {*INVARIANTS, OF_CRASH_STATES}

_PROMISE = re.compile(
    r"^### (.+?)$.*?^- \*\*Kept in\*\* (.+?)\n- \*\*Attacked by\*\* (.+?)\n\n", flags=re.M | re.S
)
_ROW = re.compile(r"^\| ([SL]\d+[a-z]?) \| .+? \| .+? \| (.*)\|$", flags=re.M)


class Promise(NamedTuple):
    """One promise of the page; the parts of its two lines are separated by semicolons."""

    title: str
    kept_in: list[str]
    attacked_by: list[str]


def _promises() -> list[Promise]:
    promised = TEXT.split("\n## Promised\n")[1].split("\n## ")[0] + "\n"
    return [
        Promise(title, _parts(kept), _parts(attacked)) for title, kept, attacked in _PROMISE.findall(promised)
    ]


def _parts(lines: str) -> list[str]:
    return [part.strip() for part in " ".join(lines.split()).split(";")]


def _named(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


PROMISES = _promises()
ROWS = dict(_ROW.findall(TEXT))
each_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.title)


def test_every_promise_says_where_it_is_kept_and_what_attacks_it() -> None:
    assert [promise.title for promise in PROMISES] == re.findall(r"^### (.+)$", TEXT, flags=re.M)


# --- kept in ---


@each_promise
def test_what_keeps_it_is_there(promise: Promise) -> None:
    for part in promise.kept_in:
        file, *names = _named(part)
        assert names, part
        assert [name for name in names if not _is_in(PACKAGE / file, name)] == [], file


def _is_in(file: Path, name: str) -> bool:
    return name in (_definitions(file) if file.suffix == ".py" else file.read_text(encoding="utf-8"))


@cache
def _definitions(module: Path) -> Collection[str]:
    """What a module defines, and what its classes do, as `Class.name`."""
    found: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        found |= _names(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for member in node.body for name in _names(member)}
    return found


def _names(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


# --- attacked by ---


@each_promise
def test_what_attacks_it_is_there(promise: Promise) -> None:
    known: dict[str, Collection[str]] = {"faults": FAULTS, "scenarios": SCENARIOS, "planted": MUTANTS}
    for part in promise.attacked_by:
        kind = part.split()[0]
        if kind == "tests":
            assert [name for name in _named(part) if not _is_test(name)] == []
        elif kind == "programs":
            assert [name for name in _named(part) if find_spec(name) is None] == []
        elif kind in known:
            assert set(_named(part)) <= set(known[kind]), kind
        else:
            assert set(part.split(", ")) <= NUMBERS, part


def _is_test(name: str) -> bool:
    """A file, or a module of the package."""
    return (ROOT / name).exists() if "/" in name else find_spec(name) is not None


def test_every_fault_of_the_simulator_attacks_some_promise() -> None:
    attacks = "; ".join(part for promise in PROMISES for part in promise.attacked_by)
    assert [fault for fault in FAULTS if f"`{fault}`" not in attacks] == []


# --- the rest of the page ---


def test_every_path_on_the_page_exists() -> None:
    paths = [name for name in _named(TEXT) if re.match(r"(src|tests)/", name)]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_make_word_on_the_page_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    named = [name.removeprefix("make ") for name in _named(TEXT) if name.startswith("make ")]
    assert named
    assert set(named) <= set(targets)


def test_every_invariant_has_its_row() -> None:
    assert ROWS.keys() == NUMBERS
    assert len(_ROW.findall(TEXT)) == len(ROWS), "one is there twice"


@pytest.mark.parametrize("number", ROWS)
def test_a_planted_bug_stands_where_it_is_caught(number: str) -> None:
    planted = _named(ROWS[number])
    assert [name for name in planted if name not in MUTANTS] == []
    assert [name for name in planted if number not in MUTANTS[name].caught_by] == []
