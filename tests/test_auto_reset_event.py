"""One event, several waiters: nobody sleeps through a `set`."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

from chatkit._auto_reset_event import AutoResetEvent


async def test_a_set_before_the_wait_is_not_lost_and_counts_once() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    await event.wait()
    with anyio.move_on_after(0.001) as waiting:
        await event.wait()

    assert waiting.cancelled_caught


async def test_each_of_several_waiters_hears_every_set() -> None:
    event, counts = AutoResetEvent(), [0, 0, 0]

    async def count(number: int) -> None:
        while counts[number] < 3:
            await event.wait()
            counts[number] += 1

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(count, number)
            for _ in range(3):
                await anyio.wait_all_tasks_blocked()
                event.set()

    assert counts == [3, 3, 3]


async def test_a_wait_that_runs_out_of_time_leaves_the_event_to_the_others() -> None:
    event, heard = AutoResetEvent(), []

    async def patient() -> None:
        await event.wait()
        heard.append("set")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(patient)
            await checkpoint()
            await event.wait(0.001)
            event.set()

    assert heard == ["set"]
