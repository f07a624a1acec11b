"""Whose turn it is to read: a few at once for each user, some that wait, and nobody behind another user."""

from __future__ import annotations

import anyio
import pytest

from chatkit.errors import RateLimitedError
from chatkit.server.limits import Limits
from chatkit.server.read_gate import ReadGate


class Readers:
    """Reads that last until `done` is set."""

    def __init__(self, gate: ReadGate) -> None:
        self.gate = gate
        self.reading: list[str] = []
        self.refused: list[tuple[str, float | None]] = []
        self.done = anyio.Event()

    async def read(self, user_id: str) -> None:
        try:
            async with self.gate.turn(user_id):
                self.reading.append(user_id)
                await self.done.wait()
        except RateLimitedError as error:
            self.refused.append((user_id, error.retry_after_s))


async def test_each_user_has_so_many_turns_and_nobody_waits_for_another_one() -> None:
    readers = Readers(ReadGate(Limits(reads_in_flight_per_user=2, reads_waiting_per_user=3)))
    async with anyio.create_task_group() as tasks:
        for user_id in ["mallory"] * 8 + ["ann"]:
            tasks.start_soon(readers.read, user_id)
        await anyio.wait_all_tasks_blocked()
        reading = list(readers.reading)
        readers.done.set()

    assert sorted(reading) == ["ann", "mallory", "mallory"]
    assert readers.refused == [("mallory", 1.0)] * 3
    assert len(readers.reading) == 6
    assert len(readers.gate) == 0


async def test_who_gives_up_waiting_leaves_no_trace() -> None:
    gate = ReadGate(Limits(reads_in_flight_per_user=1, reads_waiting_per_user=1))
    async with gate.turn("ann"):
        with anyio.move_on_after(1) as scope:
            async with gate.turn("ann"):
                pytest.fail("it is not its turn")
        assert scope.cancelled_caught
    async with gate.turn("ann"):
        pass

    assert len(gate) == 0


async def test_a_read_that_fails_gives_its_turn_back() -> None:
    gate = ReadGate(Limits(reads_in_flight_per_user=1, reads_waiting_per_user=1))
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            async with gate.turn("ann"):
                raise ValueError("broken")

        assert len(gate) == 0
