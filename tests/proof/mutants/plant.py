"""Put one bug into a module while it is imported: a piece of its source is replaced, nothing on disk changes."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType


@dataclass(frozen=True)
class Edit:
    """One replacement in one module; `old` must be there exactly once."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A planted bug.

    Attributes:
        name: What it is called on the command line.
        story: What a programmer could have thought.
        edits: What is changed.
        caught_by: Invariants that may find it first; `alarm` for a run that does not converge or breaks loudly. A bug
            in the proof is caught by what the proof asks of itself: `rehearsal`, `no effect`, `no facts`.
    """

    name: str
    story: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]

    @property
    def of_prover(self) -> bool:
        """Whether the bug is in the proof itself."""
        modules = [edit.module for edit in self.edits]
        return bool(modules) and all(it.startswith(("tests.", "chatkit.testing.")) for it in modules)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, edits: Sequence[Edit]) -> None:
        super().__init__(name, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        """Always compiled from the changed source; caches of the true one are passed by."""
        path = self.get_filename(fullname)
        source = mutated(self.get_data(path).decode(), self._edits)
        code: CodeType = compile(source, path, "exec", dont_inherit=True)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        edits = [edit for edit in self._edits if edit.module == fullname]
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if edits else None
        if spec is None or spec.origin is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, spec.origin, loader=_Loader(fullname, spec.origin, edits)
        )


def mutated(source: str, edits: Sequence[Edit]) -> str:
    """The source with these edits.

    Raises:
        LookupError: A piece to replace is not there exactly once: the code has moved on, so must the mutant.
    """
    for edit in edits:
        if source.count(edit.old) != 1:
            raise LookupError(f"{edit.module}: {source.count(edit.old)} times in the source: {edit.old!r}")
        source = source.replace(edit.old, edit.new)
    return source


def plant(mutant: Mutant) -> None:
    """From here on imports bring the bug.

    Raises:
        RuntimeError: A module that is to be changed was imported already.
    """
    early = [edit.module for edit in mutant.edits if edit.module in sys.modules]
    if early:
        raise RuntimeError(f"imported before the bug was planted: {', '.join(early)}")
    sys.meta_path.insert(0, _Finder(mutant.edits))
