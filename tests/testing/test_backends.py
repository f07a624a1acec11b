"""Virtual time for anyio's pytest plugin: in asyncio's order, or in one that hangs on the seed alone."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref

import anyio
import pytest
import trio._core._run as trio_run

from chatkit import ConfigurationError
from chatkit.testing import VIRTUAL, VirtualLoop, run_virtual, virtual_backend
from chatkit.testing.virtual_time import Backend


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
    rng, kept = random.Random(layout), list[bytes]()

    async def wait(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            kept += [bytes(rng.randrange(100, 500)) for _ in range(rng.randrange(60))]
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


def test_a_virtual_backend_has_the_seed_0_unless_another_is_given() -> None:
    default, named, unseeded = (
        run(backend, started, 20)
        for backend in (virtual_backend(), virtual_backend(0), virtual_backend(None))
    )

    assert default == named == run_virtual(started, 20)
    assert unseeded == run(VIRTUAL, started, 20) == list(range(20)) != default


@pytest.mark.parametrize("seed", range(3))
def test_where_tasks_are_in_memory_decides_nothing(seed: int) -> None:
    orders = [run(virtual_backend(seed), cancelled, 40, layout) for layout in range(5)]

    assert orders == [orders[0]] * 5
    assert orders[0] != list(range(40))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_seeds_are_two_orders(backend: Backend) -> None:
    orders = [run_virtual(started, 20, seed=seed, backend=backend) for seed in (1, 2, 1)]

    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_seed_is_0_unless_another_is_given(backend: Backend) -> None:
    assert run_virtual(started, 20, backend=backend) == run_virtual(started, 20, seed=0, backend=backend)


def test_no_seed_leaves_the_order_to_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_virtual(started, 20, seed=None) == list(range(20))
    assert trio_order(monkeypatch, 0.0) != trio_order(monkeypatch, 1.0)


def trio_order(monkeypatch: pytest.MonkeyPatch, drawn: float) -> list[int]:
    """Without a seed, when trio's own generator always draws this number: it turns a batch round below 0.5."""
    trios_own = random.Random()
    monkeypatch.setattr(trios_own, "random", lambda: drawn)
    monkeypatch.setattr(trio_run, "_r", trios_own)
    return run_virtual(started, 20, seed=None, backend="trio")


@pytest.mark.parametrize("seed", [7, None])
def test_trio_is_left_as_it_was(seed: int | None) -> None:
    async def fail() -> None:
        raise ValueError("the program failed")

    def private() -> tuple[object, object]:
        return trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r

    before = private()
    with pytest.raises(ValueError, match="the program failed"):
        run_virtual(fail, seed=seed, backend="trio")

    assert private() == before


def test_an_unknown_trio_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trio_run, "_r")

    with pytest.raises(ConfigurationError, match="trio cannot be seeded"):
        run_virtual(started, 1, seed=1, backend="trio")


@pytest.mark.parametrize("kind", ["tasks cannot be told", "another order", "nothing is run"])
def test_an_unknown_asyncio_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_once = asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]  # private to asyncio

    def run_backwards(loop: VirtualLoop) -> None:
        loop._ready.reverse()
        run_once(loop)

    match kind:
        case "tasks cannot be told":
            monkeypatch.setattr("chatkit.testing.virtual_time._task_number", lambda handle: 0)
        case "another order":
            monkeypatch.setattr(asyncio.BaseEventLoop, "_run_once", run_backwards)
        case _:
            monkeypatch.delattr(asyncio.BaseEventLoop, "_run_once")

    with pytest.raises(ConfigurationError, match="asyncio cannot be seeded"):
        VirtualLoop(1)


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


async def knotted(count: int) -> tuple[weakref.ref[Knot], bool]:
    """Make much garbage; whether the first of it was still there at the end."""
    first = weakref.ref(Knot())
    for _ in range(count):
        Knot()
    return first, first() is not None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_garbage_of_a_seeded_run_is_collected_after_it(backend: Backend) -> None:
    first, kept = run_virtual(knotted, 5000, seed=1, backend=backend)

    assert kept
    assert first() is None
    assert gc.isenabled()


def test_collection_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        first, _ = run_virtual(knotted, 5, seed=1)
        assert not gc.isenabled()
        assert first() is not None
    finally:
        gc.enable()


def test_without_a_seed_garbage_is_collected_at_any_time() -> None:
    _, kept = run_virtual(knotted, 5000, seed=None)

    assert not kept
