"""Only `ports`, and the seeded stand-ins in `testing`, ask the system for time or chance: simulation rests on it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import chatkit

SOURCE = Path(chatkit.__file__).parent
FORBIDDEN_MODULES = {"time", "random", "uuid", "secrets", "datetime", "asyncio", "threading"}
FORBIDDEN_CALLS = {("os", "urandom"), ("os", "getrandom")}
MAKES_TIME_OR_CHANCE = {SOURCE / "ports.py", SOURCE / "testing/virtual_time.py", SOURCE / "testing/chance.py"}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path not in MAKES_TIME_OR_CHANCE)


def asked(tree: ast.Module) -> list[str]:
    """What a module asks the system for."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [it.name for it in names if it.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module), level=0, names=names):
                found += [module] * (module.split(".")[0] in FORBIDDEN_MODULES)
                found += [f"{module}.{it.name}" for it in names if (module, it.name) in FORBIDDEN_CALLS]
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in FORBIDDEN_CALLS:
                found.append(f"{module}.{name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_ports_asks_for_time_or_chance(path: Path) -> None:
    assert asked(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "from random import choice",
        "import os\nos.urandom(3)",
        "from os import urandom",
        "import uuid",
    ],
)
def test_the_search_finds_a_planted_one(planted: str) -> None:
    assert asked(ast.parse(planted)) != []
