"""Instruments are tried on virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.testing.backends import VIRTUAL


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL
