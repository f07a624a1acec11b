"""The tables of all settings in docs/configuration.md; `python -m tests.docs.settings_table` writes them anew.

The words are those of `--help` and of the structs' docstrings.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
import msgspec

from chatkit.cli.commands import chatkit
from chatkit.cli.configured import node_options
from chatkit.cli.settings import default_of, fields, option_of, said
from chatkit.server.archiving.config import ArchiveConfig
from chatkit.server.blobs.config import BlobConfig
from chatkit.server.config import ServerConfig
from chatkit.server.delivery.config import DeliveryConfig

from .snippets import ROOT

PAGE = ROOT / "docs/configuration.md"
_ENTRY = re.compile(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", re.MULTILINE | re.DOTALL)


def options_table() -> str:
    """Options of `serve` and `worker`, with who takes them."""
    rows = ["| name | default | of | |", "|---|---|---|---|"]
    for name, option in node_options().items():
        takes = {it: p for it in ("serve", "worker") for p in chatkit.commands[it].params if p.name == name}
        defaults = dict.fromkeys(f"`{said(it.default)}`" for it in takes.values() if _has_default(it))
        words = option.help or "The secret itself: by variable and file only, never on the command line."
        rows.append(f"| `{name}` | {' / '.join(defaults)} | {' '.join(takes)} | {_cell(words)} |")
    return "\n".join(rows)


def _has_default(option: click.Parameter) -> bool:
    return isinstance(option.default, str | int | float) and not option.required


def fields_table() -> str:
    """Fields of the structs, with their paths."""
    words = dict(_words(ServerConfig)) | dict(_words(DeliveryConfig, "delivery."))
    words |= _words(ArchiveConfig, "archiving.")
    words |= _words(BlobConfig, "blob.")
    rows = ["| name | default | |", "|---|---|---|"]
    for path, _ in fields():
        name = option_of(path)
        rows.append(f"| `{name}` | `{said(default_of(path))}` | {_cell(words[name])} |")
    return "\n".join(rows)


def _words(kind: type[msgspec.Struct], above: str = "") -> Iterator[tuple[str, str]]:
    docs = inspect.cleandoc(kind.__doc__ or "")
    attributes = docs.partition("Attributes:\n")[2]
    for name, words in _ENTRY.findall(re.sub(r"^ {4}", " " * 8, attributes, flags=re.MULTILINE)):
        yield above + name, " ".join(words.split())
    for name, hint in inspect.get_annotations(kind, eval_str=True).items():
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _words(hint, f"{above}{name}.")


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


def page_with_tables(page: str) -> str:
    """The page, with the tables as the code has them now."""
    for name, table in (("options", options_table()), ("fields", fields_table())):
        begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"the page has no place for {name}"
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text("utf-8")), "utf-8")
