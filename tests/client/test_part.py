"""What lies beside the target of a download."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatkit.client._part import Part
from chatkit.drivers.file_lock import lock_handle

BLOB_ID = "0" * 32


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # with files, whose threads virtual time does not see


def kill(part: Part) -> None:
    """What the system does for a process that is killed: its files are closed, and nothing else."""
    assert part._handle is not None
    os.close(part._handle)
    part._handle = None


async def opened(target: Path, data: bytes) -> Part:
    part = Part(target, BLOB_ID)
    await part.open()
    await part.begin(100)
    await part.write(data)
    return part


async def test_own_parts_of_killed_processes_go_and_those_under_way_stay(tmp_path: Path) -> None:
    target = tmp_path / "got"
    shared, *own = [await opened(target, bytes([n])) for n in range(4)]
    assert len(list(tmp_path.iterdir())) == 4
    for part in (shared, own[0], own[2]):
        kill(part)
    kill(await opened(tmp_path / "other", b"x"))

    again = Part(target, BLOB_ID)
    await again.open()
    await again.begin(100)

    assert again.received == 1
    left = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert sorted(left) == [b"\x00", b"\x02", b"x"]
    await again.done()
    await own[1].done()
    assert target.read_bytes() == b"\x02"


async def test_a_new_part_that_was_taken_for_one_of_a_killed_process_is_made_again(tmp_path: Path) -> None:
    target = tmp_path / "got"
    shared = await opened(target, b"a")
    own = Part(target, BLOB_ID)
    first = tmp_path / own._named(".1").name
    first.touch()
    with first.open("rb") as file:
        assert lock_handle(file.fileno())
        await own.open()

    assert own._path.name == own._named(".2").name
    own.close(forget=True)
    shared.close(forget=True)
    assert list(tmp_path.iterdir()) == [first]
