from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend(chat_virtual: tuple[str, dict[str, object]]) -> tuple[str, dict[str, object]]:
    return chat_virtual
