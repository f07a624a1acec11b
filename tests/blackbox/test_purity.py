"""The suite stays outside: no file of it imports chatkit, but for those that hold the SDK against a bad network."""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).parent
WITH_SDK = {"conftest.py", "hosted.py", "phone.py", "test_devices.py", "test_network.py"}
"""The proxy between real processes, the real client in front of it, and a server with a test's own push providers."""

FILES = [*(path for path in sorted(HERE.glob("*.py")) if path.name not in WITH_SDK), HERE.parent / "soak.py"]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "__import__",
            "import_module",
        ):
            names.add(ast.unparse(node.args[0]).strip("'\""))
    return names


def test_no_file_of_the_suite_imports_chatkit() -> None:
    assert len(FILES) > 10
    offenders = {
        path.name: name for path in FILES for name in imported(path) if name.split(".")[0] == "chatkit"
    }
    assert offenders == {}
