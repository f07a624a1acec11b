"""Only `ports`, and the seeded stand-ins in `testing`, ask the system for time or random numbers.

The simulation rests on it, so the proof's own modules are held to it too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import chatkit

ROOT = Path(__file__).parent.parent
SOURCE = Path(chatkit.__file__).parent
DEMO = ROOT / "examples/demo"
PROOF = ROOT / "tests/proof"
PARTS = ["checker", "power_cut", "scenarios", "simulation"]
SINGLE = ["dumps", "judging", "membership", "partial_history", "proxy", "proxy_connection", "toxics"]
FORBIDDEN_MODULES = {"time", "random", "uuid", "secrets", "datetime", "asyncio", "threading"}
FORBIDDEN_CALLS = {("os", "urandom"), ("os", "getrandom")}
MAKES_TIME_OR_RANDOM = {SOURCE / "ports.py", SOURCE / "testing/virtual_time.py", SOURCE / "testing/rng.py"}
FILES = [
    *sorted(path for path in SOURCE.rglob("*.py") if path not in MAKES_TIME_OR_RANDOM),
    *sorted(DEMO.glob("*.py")),
    *sorted(path for part in PARTS for path in (PROOF / part).rglob("*.py")),
    *(PROOF / f"{name}.py" for name in SINGLE),
]


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_ports_asks_for_time_or_random_numbers(path: Path) -> None:
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
