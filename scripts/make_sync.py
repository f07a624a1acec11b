"""Make `chatkit.sync` of the async classes: `python scripts/make_sync.py`.

Every public method becomes one that blocks, with the same arguments, and the first line of its docstring.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "chatkit"
MADE = {"ChatApi": "api", "ChatClient": "client"}
"""Classes by the module below `client` that they are in, and below `sync` that they are made into."""

LEFT_OUT = {"over", "aclose", "stream"}
"""What only a client calls, what the end of `with` does, and what is written while others run."""

CONSUME = '''
    def consume(
        self,
        handler: Callable[[Delivery], object],
        *,
        concurrency: int = 1,
        on_error: Callable[[Delivery, Exception], float | None] | None = None,
    ) -> None:
        """Hand every event to `handler`, at least once: in a worker thread, where it may block and use this object.

        As `consume` of `chatkit.ChatClient`, which says more.
        """
        errors = None if on_error is None else in_thread(on_error)
        self._wait(self._made.consume, in_thread(handler), concurrency=concurrency, on_error=errors)
'''
EVENTS = '''
    def events(self) -> Iterator[ChatEvent]:
        """Everything that happens, for `for`: each event at most once. One consumer at a time.

        As `events` of `chatkit.ChatClient`, which says more.
        """
        return self._iterate(self._made.events())
'''
BY_HAND = {"consume": CONSUME, "events": EVENTS}


def made(name: str) -> str:
    """The text of one blocking module."""
    module = MADE[name]
    tree = ast.parse((SOURCE / "client" / f"{module}.py").read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    methods = [node for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    times = Counter(node.name for node in methods)
    body = "".join(
        _method(name, node, is_overloaded=times[node.name] > 1) for node in methods if _is_made(node)
    )
    head = (
        f'"""`{name}` without `await`. Made by `make sync`; changes belong into client/{module}.py."""\n\n'
        "from __future__ import annotations\n\n"
    )
    doc = (
        f'    """As `chatkit.{name}`, which says more, without `await`: each call blocks its thread.\n\n'
        '    Only for use inside `with`, by any number of threads.\n    """\n'
    )
    text = f"class {name}(Blocking[module.{name}]):\n{doc}{body}"
    return head + _imports(tree, module, text) + "\n\n" + text


def _is_made(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return node.name == "__init__" or not (node.name.startswith("_") or node.name in LEFT_OUT)


def _method(owner: str, node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_overloaded: bool) -> str:
    if node.name in BY_HAND:
        return BY_HAND[node.name]
    decorators = {ast.unparse(each) for each in node.decorator_list}
    given = _given(node.args)
    signature = ast.unparse(node.args)
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    if "overload" in decorators:
        return f"\n    @overload\n    def {node.name}({signature}){returns}: ...\n"
    if node.name == "__init__":
        return (
            f"\n    def __init__({signature}){returns}:\n        super().__init__(module.{owner}({given}))\n"
        )
    more = f"As `{node.name}` of `chatkit.{owner}`, which says more."
    doc = f'        """{_first_line(node)}\n\n        {more}\n        """\n'
    if "property" in decorators:
        call = f"return self._run(lambda: self._made.{node.name})"
        return f"\n    @property\n    def {node.name}({signature}){returns}:\n{doc}        {call}\n"
    if "classmethod" in decorators:
        call = (
            f"blocking = cls.__new__(cls)\n        Blocking.__init__(blocking, module.{owner}.{node.name}({given}))\n"
            "        return blocking"
        )
        return f"\n    @classmethod\n    def {node.name}({signature}){returns}:\n{doc}        {call}\n"
    if "AsyncIterator" in returns:
        returns = returns.replace("AsyncIterator", "Iterator")
        call = f"return self._iterate(self._made.{node.name}({given}))"
    else:
        how = "_wait" if isinstance(node, ast.AsyncFunctionDef) else "_run"
        comma = ", " if given else ""
        call = f"return self.{how}(self._made.{node.name}{comma}{given})"
        if is_overloaded:  # which of them is meant, only the caller's arguments say
            call += "  # type: ignore[arg-type]"
    return f"\n    def {node.name}({signature}){returns}:\n{doc}        {call}\n"


def _given(arguments: ast.arguments) -> str:
    """The arguments of a method, handed on."""
    positional = [each.arg for each in [*arguments.posonlyargs, *arguments.args][1:]]
    named = [f"{each.arg}={each.arg}" for each in arguments.kwonlyargs]
    rest = [] if arguments.kwarg is None else [f"**{arguments.kwarg.arg}"]
    return ", ".join([*positional, *named, *rest])


def _first_line(node: ast.AST) -> str:
    text = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    return " ".join(text.partition("\n\n")[0].split())


def _imports(tree: ast.Module, module: str, text: str) -> str:
    """The imports of the names that are used, as the async module has them."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    lines = [f"from ..client import {module} as module", "from ._blocking import Blocking"]
    if "in_thread" in used:
        lines.append("from ._blocking import in_thread")
    for node in tree.body:
        if isinstance(node, ast.Import):
            lines += [f"import {each.name}" for each in node.names if each.name in used]
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                if (each.asname or each.name) in used:
                    alias = f" as {each.asname}" if each.asname else ""
                    lines.append(f"from {_home(node)} import {each.name}{alias}")
        else:
            names = {getattr(node, "name", None)} | {ast.unparse(it) for it in getattr(node, "targets", [])}
            lines += [f"from ..client.{module} import {name}" for name in names & used if name not in MADE]
    lines.append("from collections.abc import Callable, Iterator")
    if "in_thread" in used:
        lines.append("from ..client.events import Delivery")
    return "\n".join(dict.fromkeys(lines))


def _home(node: ast.ImportFrom) -> str:
    """Where a name comes from, seen from `chatkit.sync`, which is beside `chatkit.client`."""
    if node.level == 1:
        return f"..client.{node.module}" if node.module else "..client"
    return "." * node.level + (node.module or "")


def formatted(text: str, module: str) -> str:
    """As ruff would have it."""
    name = str(SOURCE / "sync" / f"{module}.py")
    for command in (["check", "--fix-only", "--select", "I,F401"], ["format"]):
        text = subprocess.run(  # noqa: S603 -- our own text, to ruff
            [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", name, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


if __name__ == "__main__":
    for class_name, module_name in MADE.items():
        text = formatted(made(class_name), module_name)
        (SOURCE / "sync" / f"{module_name}.py").write_text(text, encoding="utf-8")
