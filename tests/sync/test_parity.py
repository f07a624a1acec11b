"""`chatkit.sync` is what `make sync` makes of the async classes now: the same calls, with the same arguments."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import chatkit
import chatkit.sync

ROOT = Path(__file__).parents[2]
LEFT_OUT = {"aclose", "over", "stream"}


def test_the_modules_are_those_that_make_sync_makes() -> None:
    """If this fails, run `make sync`."""
    program = (
        "from make_sync import MADE, formatted, made\n"
        "from pathlib import Path\n"
        "for name, module in MADE.items():\n"
        f"    path = Path({str(ROOT)!r}) / 'src/chatkit/sync' / f'{{module}}.py'\n"
        "    print(path.name, path.read_text() == formatted(made(name), module))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["api.py", "True", "client.py", "True"]


@pytest.mark.parametrize("name", chatkit.sync.__all__)
def test_every_public_call_is_there_with_the_same_arguments(name: str) -> None:
    plain, blocking = getattr(chatkit, name), getattr(chatkit.sync, name)
    names = {each for each in vars(plain) if not each.startswith("_")} - LEFT_OUT
    assert names == {each for each in vars(blocking) if not each.startswith("_")}
    for each in sorted(names | {"__init__"}):
        theirs, ours = vars(plain)[each], vars(blocking)[each]
        assert isinstance(theirs, property) == isinstance(ours, property)
        if not isinstance(theirs, property):
            assert _arguments(theirs) == _arguments(ours), each
        assert each == "__init__" or ours.__doc__, each


def _arguments(function: object) -> list[tuple[str, object, object]]:
    found = inspect.signature(getattr(function, "__func__", function))  # type: ignore[arg-type]
    return [(each.name, each.kind, each.default) for each in found.parameters.values()]
