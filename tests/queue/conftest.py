"""Queue tests run on virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.testing.virtual_time import VirtualLoop


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": lambda: VirtualLoop(None)}
