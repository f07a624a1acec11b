"""An event that unsets itself: nothing that is set is lost, however many wait."""

from __future__ import annotations

import anyio

from chatkit._auto_reset_event import AutoResetEvent


async def test_what_is_set_before_the_wait_is_not_lost_and_used_up_by_it() -> None:
    event = AutoResetEvent()
    event.set()
    await event.wait()

    with anyio.move_on_after(0.01) as waited:
        await event.wait()
    assert waited.cancelled_caught


async def test_a_wait_ends_after_its_time() -> None:
    event = AutoResetEvent()
    await event.wait(0.01)
    event.set()

    with anyio.fail_after(1):
        await event.wait()


async def test_each_of_several_waiters_goes_on_at_every_set() -> None:
    event, woken = AutoResetEvent(), [0, 0, 0]

    async def wait_often(number: int, timeout_s: float | None) -> None:
        while woken[number] < 3:
            await event.wait(timeout_s)
            woken[number] += 1

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number, timeout_s in enumerate((None, None, 60.0)):
                group.start_soon(wait_often, number, timeout_s)
            for _ in range(3):
                await anyio.wait_all_tasks_blocked()
                event.set()
    assert woken == [3, 3, 3]


async def test_one_whose_time_is_over_takes_the_event_from_nobody() -> None:
    event, went_on = AutoResetEvent(), anyio.Event()

    async def wait() -> None:
        await event.wait()
        went_on.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await event.wait(0.01)
        event.set()
        with anyio.fail_after(1):
            await went_on.wait()
