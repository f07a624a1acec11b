"""Virtual time for anyio's pytest plugin: in asyncio's order, or in one that hangs on the seed alone."""

from __future__ import annotations

import random

import anyio
import pytest

from chatkit.testing import VIRTUAL, virtual_backend


def run(backend: tuple[str, dict[str, object]], program: object, *arguments: object) -> list[int]:
    name, options = backend
    return anyio.run(program, *arguments, backend=name, backend_options=options)  # type: ignore[arg-type]


async def started(count: int) -> list[int]:
    """The order in which tasks begin."""
    order: list[int] = []

    async def begin(number: int) -> None:
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(begin, number)
    return order


async def cancelled(count: int, layout: int) -> list[int]:
    """The order in which the tasks of a cancelled scope end; `layout` decides where in memory they are."""
    order: list[int] = []
    chance, kept = random.Random(layout), list[bytes]()

    async def wait(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            kept += [bytes(chance.randrange(100, 500)) for _ in range(chance.randrange(60))]
            tasks.start_soon(wait, number)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    return order


def test_without_a_seed_the_first_in_is_the_first_out() -> None:
    assert run(VIRTUAL, started, 20) == list(range(20))


def test_a_seed_draws_the_order() -> None:
    orders = [run(virtual_backend(seed), started, 20) for seed in (1, 2, 1)]

    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(20))


@pytest.mark.parametrize("seed", range(3))
def test_where_tasks_are_in_memory_decides_nothing(seed: int) -> None:
    orders = [run(virtual_backend(seed), cancelled, 40, layout) for layout in range(5)]

    assert orders == [orders[0]] * 5
    assert orders[0] != list(range(40))
