"""Nothing in the package but `ports` asks the system for time or chance: the simulator depends on it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import chatkit

SOURCE = Path(chatkit.__file__).parent
FORBIDDEN_MODULES = {"time", "random", "uuid", "secrets", "datetime"}
FORBIDDEN_CALLS = {("os", "urandom"), ("os", "getrandom")}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "ports.py")


def asked(tree: ast.Module) -> list[str]:
    """What a module asks the system for."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
                found.append(str(node.module))
            found += [f"os.{a.name}" for a in node.names if (node.module, a.name) in FORBIDDEN_CALLS]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in FORBIDDEN_CALLS:
                found.append(f"os.{node.attr}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_ports_asks_for_time_or_chance(path: Path) -> None:
    assert asked(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "planted",
    ["import time", "from random import choice", "import os\nos.urandom(3)", "from os import urandom", "import uuid"],
)
def test_the_search_finds_a_planted_one(planted: str) -> None:
    assert asked(ast.parse(planted)) != []
