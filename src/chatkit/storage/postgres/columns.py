"""Rows as arrays, one for each column: how a set of them is given to a statement, by `unnest`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def columns(rows: Collection[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """The columns of rows of this width; as many empty ones if there is no row."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
