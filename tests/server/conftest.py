"""Server tests run on virtual time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ..virtual_time import VIRTUAL


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, Mapping[str, object]]:
    return VIRTUAL
