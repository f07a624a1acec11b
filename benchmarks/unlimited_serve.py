"""`python unlimited_serve.py serve ...`: as `chatkit serve`, without the limits of one peer.

A load comes from few users, so limits would be what is measured. Runs with any chatkit on the path, older ones
without limits among them. CHATKIT_BENCH_SLOWER=50: for a server under callgrind, which is so many times slower. Its
clocks show the CPU time that it would have used otherwise, and what it does once in a while comes so much later: so a
second has about as many messages as one has in life.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from chatkit.cli import main


def lift_limits() -> None:
    """Every limit of one peer is lifted by its environment variable from here on."""
    try:
        from chatkit.cli.settings import variable_of
        from chatkit.server.limits import Limits
    except ImportError:  # an older one
        return
    unlimited = Limits.unlimited()
    for name in Limits.__struct_fields__:
        value = getattr(unlimited, name)
        os.environ.setdefault(variable_of(("limits", name)), "none" if value is None else str(value))


async def _slower(sleep: Callable[..., Awaitable[Any]], factor: float, delay: float, *more: Any) -> Any:
    return await sleep(delay * factor, *more)


def slow_down(factor: float) -> None:
    """The server's clocks go by its CPU time, so many times slower, and its periods last so much longer."""
    import anyio

    from chatkit.ports import SystemClock

    for library in (anyio, asyncio):  # periods of chatkit, and of uvicorn
        library.sleep = partial(_slower, library.sleep, factor)
    began_s, began_ms = time.monotonic(), time.time_ns() // 1_000_000
    SystemClock.now_s = lambda _: began_s + time.process_time() / factor  # type: ignore[method-assign]
    SystemClock.now_ms = lambda _: began_ms + int(time.process_time() * 1000 / factor)  # type: ignore[method-assign]


if __name__ == "__main__":
    lift_limits()
    if "CHATKIT_BENCH_SLOWER" in os.environ:
        slow_down(float(os.environ["CHATKIT_BENCH_SLOWER"]))
    main()
