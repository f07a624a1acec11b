"""The list of public names of `chatkit.testing` is true."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from chatkit import testing

SOURCE = ast.parse(Path(testing.__file__).read_text())


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(testing, name) is not None
    assert name in dir(testing)


def test_type_checkers_see_the_same_names() -> None:
    (block,) = [node for node in SOURCE.body if isinstance(node, ast.If)]
    imported = {
        node.names[0].asname: f"{node.module}" for node in block.body if isinstance(node, ast.ImportFrom)
    }

    assert imported == testing._HOMES
    assert sorted(imported) == sorted(testing.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = testing.Nothing
