"""The code blocks of the documentation, and how a page's Python blocks are run."""

from __future__ import annotations

import ast
import codeop
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:8080"
"""What pages call their server; replaced by the address of a real one."""

_FENCE = re.compile(
    r"^(?:<!-- run: (?P<note>.*?) -->\n)?^```(?P<kind>\w+)[^\n]*\n(?P<text>.*?)^```$", flags=re.M | re.S
)


_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Block(NamedTuple):
    """One fenced block; `note` is what the comment line before it says."""

    kind: str
    text: str
    line: int
    note: str | None

    @property
    def skipped(self) -> bool:
        """Whether the page says, with a reason, that the block is not run."""
        return self.note is not None


def pages() -> list[Path]:
    """Every page whose snippets must run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, kind: str) -> list[Block]:
    """The blocks of a kind, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(kind, match["text"], text.count("\n", 0, match.start("text")), match["note"])
        for match in _FENCE.finditer(text)
        if match["kind"] == kind
    ]


def output_of(page: Path, block: Block) -> list[str] | None:
    """The lines that the page says a block prints: those of a `text` block right behind it; None if there is none."""
    end = block.line + block.text.count("\n") + 1
    after = next((it for it in blocks(page, "text") if end < it.line <= end + 3), None)
    return None if after is None or after.skipped else after.text.splitlines()


def has_top_level_await(block: Block) -> bool:
    """Whether it is for `python -m asyncio`, or the body of an `async def`."""
    return bool(compile(block.text, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT).co_flags & _ASYNC)


def unpasteable(block: Block) -> str | None:
    """The line at which `python -m asyncio` of 3.11 and 3.12 refuses a pasted block; None if it takes all of it.

    That prompt reads line by line, and an empty line ends an indented block.
    """
    compiled = codeop.CommandCompiler()
    compiled.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    typed: list[str] = []
    for line in [*block.text.splitlines(), ""]:
        typed.append(line)
        try:
            if compiled("\n".join(typed), "<stdin>", "single") is not None:
                typed = []
        except SyntaxError:
            return line
    return typed[0] if any(typed) else None


async def run_python(page: Path, block: Block, namespace: dict[str, Any], address: str) -> None:
    """Run a block as the body of an async module, in the page's namespace; line numbers are the page's."""
    source = "\n" * block.line + block.text.replace(ADDRESS, address)
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        await result
