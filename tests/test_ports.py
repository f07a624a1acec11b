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
EXCEPTIONS: dict[Path, set[str]] = {
    # which loop runs, a task of its own in it, and whether the running one is cancelled
    SOURCE / "_event_loop.py": {"asyncio", "asyncio.current_task", "asyncio.get_running_loop"},
    # the loop's own ways to signals; it is the main thread's affair, and a thread is only recognized here
    SOURCE / "server/signals.py": {
        "asyncio",
        "asyncio.AbstractEventLoop",
        "asyncio.Task",
        "asyncio.TimerHandle",
        "asyncio.gather",
        "asyncio.get_running_loop",
        "threading",
        "threading.current_thread",
        "threading.main_thread",
    },
    # a bot that is the whole process looks for signals, which only the main thread can
    SOURCE / "bots/_process.py": {"threading", "threading.current_thread", "threading.main_thread"},
    # real sockets of uvicorn, whose protocols are asyncio's; a buffer for each thread that runs a loop
    SOURCE / "gateway/strangers.py": {"asyncio", "asyncio.AbstractEventLoop", "asyncio.Transport"},
    SOURCE / "gateway/fair_connection.py": {
        "asyncio",
        "asyncio.BufferedProtocol",
        "asyncio.TimerHandle",
        "asyncio.Transport",
        "asyncio.get_running_loop",
        "threading",
        "threading.local",
    },
    SOURCE / "gateway/websocket_protocol.py": {"asyncio", "asyncio.TimerHandle", "asyncio.Transport"},
    SOURCE / "gateway/websocket_session.py": {
        "asyncio",
        "asyncio.AbstractEventLoop",
        "asyncio.BufferedProtocol",
        "asyncio.TimerHandle",
        "asyncio.Transport",
        "asyncio.get_running_loop",
    },
    # which loop runs: asyncpg is made for asyncio
    SOURCE / "drivers/postgres.py": {"asyncio", "asyncio.get_running_loop"},
    # what an app may hand in for a moment; nobody is asked what time it is
    SOURCE / "client/validate.py": {"datetime.datetime"},
    SOURCE / "server/member_verbs.py": {"datetime.datetime"},
    # dates of times that somebody else read, for people
    SOURCE / "cli/utc.py": {"datetime.UTC", "datetime.datetime"},
    # times that other systems wrote down
    SOURCE / "terminal/words.py": {"datetime.UTC", "datetime.datetime"},
    SOURCE / "importing/times.py": {"datetime.datetime", "datetime.timedelta", "datetime.timezone"},
    # how long obstore may try
    SOURCE / "archive/s3.py": {"datetime.timedelta"},
    # real sockets of websockets, which is made for asyncio
    SOURCE / "transport/websocket.py": {
        "asyncio",
        "asyncio.BaseEventLoop",
        "asyncio.get_running_loop",
        "asyncio.timeout",
    },
}
"""What a module takes of the forbidden ones, name by name: no clock, no random number, no thread that is started."""

FILES = [
    *sorted(path for path in SOURCE.rglob("*.py") if path not in MAKES_TIME_OR_RANDOM),
    *sorted(DEMO.glob("*.py")),
    *sorted(path for part in PARTS for path in (PROOF / part).rglob("*.py")),
    *(PROOF / f"{name}.py" for name in SINGLE),
]


def asked(tree: ast.Module) -> list[str]:
    """What a module asks the system for: what it imports, and what it takes of that."""
    found: list[str] = []
    taken: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                forbidden = [it for it in names if it.name.split(".")[0] in FORBIDDEN_MODULES]
                found += [f"{it.name} as {it.asname}" if it.asname else it.name for it in forbidden]
            case ast.ImportFrom(module=str(module), level=0, names=names):
                found += [f"{module}.{it.name}" for it in names if module.split(".")[0] in FORBIDDEN_MODULES]
                found += [f"{module}.{it.name}" for it in names if (module, it.name) in FORBIDDEN_CALLS]
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in FORBIDDEN_CALLS:
                found.append(f"{module}.{name}")
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                taken.append((module, name))
    return found + [f"{module}.{name}" for module, name in taken if module in found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_ports_asks_for_time_or_random_numbers(path: Path) -> None:
    assert set(asked(ast.parse(path.read_text()))) == EXCEPTIONS.get(path, set())


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "from random import choice",
        "import os\nos.urandom(3)",
        "from os import urandom",
        "import uuid",
        "import threading as t",
        "import asyncio.events",
    ],
)
def test_the_search_finds_a_planted_one(planted: str) -> None:
    assert asked(ast.parse(planted)) != []
