"""The matrix finds planted holes: a sample here, all of them by `python -m tests.attacks.holes`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.proof.mutants.plant import mutated

from .holes import HOLES, found_apart

SAMPLE = (
    "one read without its check",
    "the scope is not asked for",
    "seqs beyond the leave",
    "anybody's sender",
)


@pytest.mark.parametrize("name", HOLES)
def test_each_hole_still_fits_the_code(name: str) -> None:
    for edit in HOLES[name].edits:
        spec = importlib.util.find_spec(edit.module)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).read_text("utf-8")
        assert mutated(source, [edit]) != source


@pytest.mark.parametrize("name", SAMPLE)
def test_a_hole_is_found(name: str) -> None:
    assert found_apart(name) != []
