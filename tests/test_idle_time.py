"""The clock of `IdleLoop`: work takes no time, waits do."""

from __future__ import annotations

import time

import anyio

from .idle_time import IdleLoop


def test_work_takes_no_time_and_a_wait_takes_its_own() -> None:
    async def main() -> tuple[float, float, float]:
        began_s = anyio.current_time()
        time.sleep(0.05)  # as a process that gets no core
        worked_s = anyio.current_time()
        with anyio.move_on_after(0.02) as scope:
            time.sleep(0.05)
            for _ in range(10):
                await anyio.sleep(0)
        assert not scope.cancelled_caught
        await anyio.sleep(0.02)
        return began_s, worked_s, anyio.current_time()

    began_s, worked_s, slept_s = anyio.run(main, backend_options={"loop_factory": IdleLoop})

    assert worked_s == began_s
    assert 0.02 <= slept_s - worked_s < 0.03
