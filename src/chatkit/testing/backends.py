"""Virtual time for pytest: what the fixture `anyio_backend` of anyio's plugin returns.

    @pytest.fixture
    def anyio_backend():
        return VIRTUAL

Outside of pytest, `run_virtual` does the same for one program.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .virtual_time import VirtualLoop


def virtual_backend(seed: int | None = 0) -> tuple[str, dict[str, Any]]:
    """An asyncio backend in virtual time.

    Args:
        seed: Draws the order in which ready tasks run; None keeps asyncio's own, first in, first out.
    """
    return ("asyncio", {"loop_factory": partial(VirtualLoop, seed)})


VIRTUAL = virtual_backend(None)
"""Virtual time in asyncio's own order."""
