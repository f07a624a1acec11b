"""`python -m benchmarks.house [TREE ...]`: how large the house is, and how many rooms a message walks through.

Of each tree: what its wheel holds, the files and floors of `client/` and `server/`, and the rooms that one message from
ann to ben visits (recorded by `walk`, with the tree's own interpreter). Nothing here depends on the speed of a machine:
two runs print the same. Building the wheel may fetch hatchling from the package index.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from .tree import HERE, CannotMeasureError, Tree

SIDES = ("client", "server")
_WALK = Path(__file__).with_name("walk.py")
_WALK_TIMEOUT_S = 60
_BUILD_TIMEOUT_S = 180


# --- the wheel ---


def wheel(tree: Tree) -> dict[str, Any]:
    """Lines that a wheel built from the tree installs: Python, in all and by top folder, and others (scripts, SQL)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
        subprocess.run(
            [*command, "--no-deps", "--wheel-dir", folder, str(tree.path)],
            check=True,
            timeout=_BUILD_TIMEOUT_S,
        )
        (built,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(built) as archive:
            names = [name for name in archive.namelist() if name.startswith("chatkit/")]
            texts = {name: archive.read(name).decode() for name in names if name.endswith(".py")}
            other = [len(archive.read(name).splitlines()) for name in names if name not in texts]
    return {**size(texts), "other_files": len(other), "other_lines": sum(other)}


def size(texts: dict[str, str]) -> dict[str, Any]:
    """Files, lines and lines of code of `chatkit/...` paths; what lies in no folder is `.`."""
    lines, code = Counter[str](), Counter[str]()
    for name, text in texts.items():
        top = name.split("/")[1] if name.count("/") > 1 else "."
        lines[top] += len(text.splitlines())
        code[top] += code_lines(text)
    return {
        "files": len(texts),
        "lines": lines.total(),
        "code_lines": code.total(),
        "by_folder": {top: {"lines": count, "code_lines": code[top]} for top, count in sorted(lines.items())},
    }


def code_lines(text: str) -> int:
    """Lines that are neither blank nor only a comment; docstrings count."""
    return sum(1 for line in map(str.strip, text.splitlines()) if line and not line.startswith("#"))


# --- files and floors ---


def floors(package: Path, side: str) -> dict[str, Any]:
    """Files of one top folder, and its longest chain of imports: a module stands one floor above what it imports.

    Modules that import each other stand on one floor; they are listed as cycles. An empty `__init__` is no file.
    """
    folder = package / side
    files = {
        _module_name(package, path): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))
    }
    files = {name: text for name, text in files.items() if _says_something(text)}
    graph = {name: _imports(name, text, files) for name, text in files.items()}
    largest = max(files, key=lambda name: len(files[name].splitlines()))
    chain, cycles = longest_chain(graph)
    prefix = f"chatkit.{side}."
    return {
        "files": len(files),
        "lines": sum(len(text.splitlines()) for text in files.values()),
        "floors": len(chain),
        "chain": [name.replace(prefix, "") for name in chain],
        "cycles": [[name.removeprefix(prefix) for name in cycle] for cycle in cycles],
        "largest": {"module": largest.removeprefix(prefix), "lines": len(files[largest].splitlines())},
    }


def longest_chain(graph: dict[str, set[str]]) -> tuple[list[str], list[list[str]]]:
    """The longest path through a graph whose cycles count as one step each, and those cycles."""

    @cache
    def reached(name: str) -> frozenset[str]:
        found, waiting = set[str](), [name]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting.extend(new)
        return frozenset(found)

    @cache
    def chain(name: str) -> tuple[str, ...]:
        together = {name} | {other for other in reached(name) if name in reached(other)}
        below = {other for member in together for other in graph[member]} - together
        longest = max((chain(other) for other in sorted(below)), key=len, default=())
        return (" = ".join(sorted(together)), *longest)

    cycles = {tuple(sorted(m for m in reached(name) if name in reached(m))) for name in graph}
    return list(max(map(chain, sorted(graph)), key=len)), sorted(map(list, filter(None, cycles)))


def _module_name(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _says_something(text: str) -> bool:
    """Whether there is more than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(text).body)


def _imports(module: str, text: str, known: Iterable[str]) -> set[str]:
    """The `known` modules that one imports when it runs, at its top or in a function."""
    package = module if _is_package(module, known) else module.rpartition(".")[0]
    found = {name for node in _run_nodes(ast.parse(text)) for name in _targets(node, package, known)}
    return found - {module}


def _is_package(module: str, known: Iterable[str]) -> bool:
    return any(name.startswith(f"{module}.") for name in known)


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes, but for what stands under `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from _run_nodes(child)


def _targets(node: ast.AST, package: str, known: Iterable[str]) -> Iterator[str]:
    """`from . import a` and `from .a import b` both name `a`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        source = ".".join([*parents, *([node.module] if node.module else [])])
        submodules = {f"{source}.{alias.name}" for alias in node.names} & set(known)
        yield from submodules or {source} & set(known)


# --- rooms ---


def rooms(tree: Tree) -> dict[str, Any]:
    """By phase: the modules of its side that a message visits, in order, and those of the rest of chatkit beside."""
    walked = subprocess.run(
        [tree.python, "-P", str(_WALK)],
        env=tree.environment,
        check=True,
        stdout=subprocess.PIPE,
        timeout=_WALK_TIMEOUT_S,
    )
    answer = json.loads(walked.stdout)
    assert Path(answer["package"]) == tree.package, "the tree's own interpreter imports another chatkit"
    return {phase: stays(entered, phase.partition(",")[0]) for phase, entered in answer["phases"].items()}


def stays(entered: Sequence[str], side: str) -> dict[str, Any]:
    """What was entered, as visits: the same room again, with no other one of that side in between, is one visit."""
    prefix = f"chatkit.{side}."
    own = [name.removeprefix(prefix) for name in entered if name.startswith(prefix)]
    beside = [name.removeprefix("chatkit.") for name in entered if not name.startswith(prefix)]
    path = [name for name, _ in groupby(own)]
    return {
        "path": path,
        "rooms": len(set(path)),
        "visits": len(path),
        "again": [name for name, count in Counter(path).items() if count > 1],
        "beside": sorted(set(beside)),
        "calls_across": len(entered),
    }


# --- the report ---


def measure(path: Path) -> dict[str, Any]:
    """All figures of one tree."""
    tree = Tree(path)
    return {
        "tree": str(tree.path),
        "commit": tree.commit,
        "wheel": wheel(tree),
        **{side: floors(tree.package, side) for side in SIDES},
        "rooms": rooms(tree),
    }


def table(houses: Sequence[dict[str, Any]]) -> str:
    """The figures of several trees side by side, and below the ways they come from."""
    rows: list[tuple[str, list[object]]] = [("", [house["commit"] for house in houses])]
    for name in ("files", "lines", "code_lines"):
        rows.append((f"wheel: {name.replace('_', ' ')} (.py)", [house["wheel"][name] for house in houses]))
    rows.append(("wheel: lines that are not .py", [house["wheel"]["other_lines"] for house in houses]))
    for top in sorted({top for house in houses for top in house["wheel"]["by_folder"]}):
        counts = [house["wheel"]["by_folder"].get(top, {"lines": 0})["lines"] for house in houses]
        rows.append((f"  lines in {top}", counts))
    for side in SIDES:
        for name in ("files", "lines", "floors"):
            rows.append((f"{side}/: {name}", [house[side][name] for house in houses]))
        largest = [house[side]["largest"] for house in houses]
        cells = [f"{it['lines']} {it['module']}" for it in largest]
        rows.append((f"{side}/: largest file", cells))
    for phase in houses[0]["rooms"]:
        ways = [house["rooms"][phase] for house in houses]
        rows.append((f"{phase}: rooms / visits", [f"{way['rooms']} / {way['visits']}" for way in ways]))
    return "\n".join([*_aligned(rows), *(line for house in houses for line in _ways(house))])


def _aligned(rows: Sequence[tuple[str, Sequence[object]]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    cells = max(len(str(cell)) for _, row in rows for cell in row)
    return [" ".join([name.ljust(width), *(f"{cell!s:>{cells}}" for cell in row)]) for name, row in rows]


def _ways(house: dict[str, Any]) -> Iterator[str]:
    yield f"\n{house['commit']}"
    for side in SIDES:
        yield f"  {side}/, longest chain of imports: {' > '.join(house[side]['chain'])}"
    for phase, way in house["rooms"].items():
        yield f"  {phase}: {' > '.join(way['path'])}"
        yield f"    visited again: {', '.join(way['again']) or 'none'}; beside: {', '.join(way['beside'])}"


def main() -> None:
    """Measure the trees named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house", description=__doc__)
    parser.add_argument(
        "trees", nargs="*", type=Path, default=[HERE], metavar="TREE", help="default: this one"
    )
    parser.add_argument("--json", action="store_true", help="one JSON array instead of the table")
    options = parser.parse_args()
    try:
        houses = [measure(path) for path in options.trees]
    except CannotMeasureError as error:
        parser.error(str(error))
    print(json.dumps(houses, indent=1) if options.json else table(houses))


if __name__ == "__main__":
    main()
