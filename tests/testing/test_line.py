"""One direction of a line: order, delay, bandwidth, window, and the ways to break it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from chatkit.errors import ConfigurationError
from chatkit.testing.line import Conditions, Line, Way
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import Backend, run_virtual


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param  # type: ignore[no-any-return]


class Net:
    """Conditions that can be changed, and ways under them."""

    def __init__(self, seed: int = 1, *, window_bytes: int = 1000, **conditions: Any) -> None:
        self.conditions = Conditions(**conditions)
        self.rng = Rng(seed).stream("net")
        self.window_bytes = window_bytes

    def way(self) -> Way:
        return Way(lambda: self.conditions, self.rng, self.window_bytes)

    def line(self) -> Line:
        return Line(
            1,
            "n",
            "alice",
            "phone",
            "chatkit.v1.json",
            conditions=lambda: self.conditions,
            rng=self.rng,
            window_bytes=self.window_bytes,
        )


async def arrivals(way: Way) -> list[tuple[str, float]]:
    """What arrives until the end, each with its time."""
    found = []
    while (content := await way.get()) is not None:
        found.append((str(content), anyio.current_time()))
    return found


async def contents(way: Way) -> list[str]:
    return [content for content, _ in await arrivals(way)]


async def arrives_within(way: Way, wait_s: float) -> Any:
    """What arrives next; "nothing" if nothing does in time."""
    with anyio.move_on_after(wait_s):
        return await way.get()
    return "nothing"


async def waits(act: Callable[[], Awaitable[Any]], wait_s: float = 60.0) -> bool:
    """Whether it is still waiting after this time."""
    with anyio.move_on_after(wait_s) as scope:
        await act()
    return scope.cancelled_caught


def test_what_is_pushed_arrives_in_order_each_after_its_delay(backend: Backend) -> None:
    async def main() -> list[tuple[str, float]]:
        way = Net(latency_s=(1.0, 5.0)).way()
        for number in range(50):
            way.push(str(number), 1)
        way.finish()
        return await arrivals(way)

    found = run_virtual(main, backend=backend)
    times = [at_s for _, at_s in found]
    assert [content for content, _ in found] == [str(number) for number in range(50)]
    assert times == sorted(times)
    assert 1.0 <= times[0] < 5.0 and times[0] < times[-1] <= 5.001


@pytest.mark.parametrize("latency_s", [0.0, 0.01, 0.3])
def test_a_fixed_delay_is_kept(latency_s: float) -> None:
    async def main() -> float:
        way = Net(latency_s=(latency_s, latency_s)).way()
        way.push("a", 1)
        await way.get()
        return anyio.current_time()

    assert run_virtual(main) == pytest.approx(latency_s)


def test_bandwidth_sends_one_parcel_after_the_other() -> None:
    async def main() -> list[tuple[str, float]]:
        way = Net(latency_s=(0, 0), bytes_per_s=10.0).way()
        way.push("a", 10)
        way.push("b", 20)
        way.finish()
        return await arrivals(way)

    (first, first_s), (second, second_s) = run_virtual(main)
    assert (first, second) == ("a", "b")
    assert (first_s, second_s) == pytest.approx((1.0, 3.0))


def test_new_conditions_hold_for_what_is_under_way() -> None:
    async def main() -> tuple[str, Any, float]:
        net = Net(latency_s=(0, 0), bytes_per_s=1.0)
        way = net.way()
        way.push("slow", 900)
        before = await arrives_within(way, 10.0)
        net.conditions = Conditions(latency_s=(0, 0))
        way.conditions_changed()
        return before, await way.get(), anyio.current_time()

    assert run_virtual(main) == ("nothing", "slow", 10.0)


def test_a_waiting_receiver_hears_of_new_conditions() -> None:
    async def main() -> float:
        net = Net(latency_s=(500.0, 500.0))
        way = net.way()
        way.push("late", 1)
        async with anyio.create_task_group() as group:
            group.start_soon(way.get)
            await anyio.sleep(1)
            net.conditions = Conditions(latency_s=(0, 0))
            way.conditions_changed()
        return anyio.current_time()

    assert run_virtual(main) == 1.0


def test_a_sender_waits_for_room_until_something_arrived(backend: Backend) -> None:
    async def main() -> None:
        way = Net(window_bytes=100, latency_s=(1, 1)).way()
        way.push("a", 60)
        await way.room(40)
        assert await waits(lambda: way.room(41))
        assert await way.get() == "a"
        await way.room(41)

    run_virtual(main, backend=backend)


def test_what_is_larger_than_the_window_travels_alone() -> None:
    async def main() -> None:
        way = Net(window_bytes=100).way()
        await way.room(5000)
        way.push("large", 5000)
        assert await waits(lambda: way.room(1))

    run_virtual(main)


def kept_after_cut(seed: int) -> tuple[list[str], float]:
    async def main() -> tuple[list[str], float]:
        way = Net(seed, latency_s=(50.0, 60.0)).way()
        for number in range(4):
            way.push(str(number), 1)
        way.cut()
        way.push("after", 1)
        return await contents(way), anyio.current_time()

    return run_virtual(main)


def test_a_cut_loses_what_is_under_way_from_a_random_point_on_and_is_seen_at_once() -> None:
    found = [kept_after_cut(seed) for seed in range(60)]
    assert {at_s for _, at_s in found} == {0.0}
    prefixes = [[str(number) for number in range(count)] for count in range(5)]
    assert sorted({tuple(kept) for kept, _ in found}) == sorted(map(tuple, prefixes))


def test_a_stalled_direction_gives_nothing_until_it_is_released(backend: Backend) -> None:
    async def main() -> list[Any]:
        way = Net(window_bytes=10).way()
        way.push("before", 3)
        way.stall()
        way.push("during", 3)
        way.finish()
        heard: list[Any] = [await arrives_within(way, 1000.0)]
        way.release()
        return heard + await contents(way)

    assert run_virtual(main, backend=backend) == ["nothing", "before", "during"]


@pytest.mark.parametrize(
    ("directions", "heard"),
    [
        ({"up": True}, ["nothing", "down"]),
        ({"down": True}, ["up", "nothing"]),
        ({"up": True, "down": True}, ["nothing", "nothing"]),
        ({"up": False, "down": False}, ["up", "down"]),
    ],
)
def test_a_line_is_stalled_in_the_directions_that_are_named(
    directions: dict[str, bool], heard: list[Any]
) -> None:
    async def main() -> list[Any]:
        line = Net().line()
        line.stall(**directions)
        line.up.push("up", 2)
        line.down.push("down", 4)
        return [await arrives_within(way, 1000.0) for way in (line.up, line.down)]

    assert run_virtual(main) == heard


def test_a_stall_without_a_direction_is_refused() -> None:
    async def main() -> Any:
        line = Net().line()
        with pytest.raises(ConfigurationError, match="direction"):
            line.stall()
        line.up.push("through", 7)
        return await line.up.get()

    assert run_virtual(main) == "through"


def test_a_stalled_direction_fills_its_window_even_when_nobody_receives_any_more() -> None:
    async def main() -> None:
        way = Net(window_bytes=10).way()
        way.stall()
        way.push("a", 10)
        way.abandon()
        assert await way.get() is None
        assert await waits(lambda: way.room(1))
        way.release()
        await way.room(10)

    run_virtual(main)


def test_an_abandoned_direction_swallows_without_a_bound() -> None:
    async def main() -> None:
        way = Net(window_bytes=10).way()
        way.push("a", 10)
        way.abandon()
        for _ in range(100):
            await way.room(10)
            way.push("b", 10)
        assert await way.get() is None

    run_virtual(main)


def test_the_end_wakes_a_sender_that_waits_for_room(backend: Backend) -> None:
    async def main() -> None:
        for end in (Way.finish, Way.abort, Way.cut, Way.abandon):
            way = Net(window_bytes=10, latency_s=(1000.0, 1000.0)).way()
            way.push("a", 10)
            async with anyio.create_task_group() as group:
                group.start_soon(way.room, 10)
                await anyio.sleep(1)
                end(way)
        assert anyio.current_time() == 4.0

    run_virtual(main, backend=backend)


def test_an_abort_is_not_seen_through_a_stall() -> None:
    async def main() -> Any:
        way = Net().way()
        way.push("held", 1)
        way.stall()
        way.abort()
        return await arrives_within(way, 100.0)

    assert run_virtual(main) == "nothing"


def test_a_cut_is_seen_through_a_stall_and_what_hung_is_lost() -> None:
    async def main() -> list[list[str]]:
        ways = [Net(seed).way() for seed in range(10)]
        for way in ways:
            way.push("held", 1)
            way.stall()
            way.cut()
        return [await contents(way) for way in ways]

    assert run_virtual(main) == 10 * [[]]


def test_cutting_after_a_close_still_ends() -> None:
    async def main() -> list[list[str]]:
        found = []
        for seed in range(10):
            way = Net(seed).way()
            way.push("last", 1)
            way.finish()
            way.cut()
            way.stall()  # too late
            found.append(await contents(way))
        return found

    found = run_virtual(main)
    assert [] in found and ["last"] in found
    assert all(kept in ([], ["last"]) for kept in found)


def test_a_line_is_cut_with_the_probability_of_the_conditions() -> None:
    async def main() -> int:
        cuts = 0
        net = Net(cut_probability=0.2)
        for _ in range(200):
            line = net.line()
            line.strike()
            line.up.push("a", 1)
            cuts += await line.up.get() is None
        return cuts

    assert 20 <= run_virtual(main) <= 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_s": (-1, 0)},
        {"latency_s": (2, 1)},
        {"latency_s": (0, float("inf"))},
        {"bytes_per_s": 0},
        {"refuse_probability": 1.1},
        {"cut_probability": -0.1},
    ],
)
def test_conditions_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Conditions(**wrong)
