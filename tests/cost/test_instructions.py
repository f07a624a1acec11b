"""Instructions that a real server runs for a message, counted by callgrind: no machine is too slow or busy for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator

import pytest
from benchmarks.instructions import WORKLOADS, CountedNode, Return, Workload, counted, counted_node
from benchmarks.lockstep import Lockstep
from benchmarks.tree import HERE, Tree

from .ceilings import INSTRUCTIONS

WARM_UP_TURNS, TURNS = 2, 3
RETURN = Return(clients=40)

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        sys.version_info[:2] != (3, 11),
        reason="the ceilings are of CPython 3.11; others run other instructions",
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[CountedNode]:
    """One for all: it takes seconds to start."""
    if shutil.which("callgrind_control") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no valgrind, and CI has one: scripts/valgrind")
        pytest.skip("no valgrind: scripts/valgrind")
    with counted_node(Tree(HERE), prepare=RETURN.prepare) as started:
        yield started


async def instructions(server: CountedNode, name: str) -> float:
    """For each message or delivery; or for each client that comes back."""
    if name == "return":
        return (await RETURN.measured(server, window=16)).each
    workload = WORKLOADS[name]
    assert isinstance(workload, Workload)
    load = Lockstep(server.inner, workload.conversations, workload.members, 16, tag=name)
    await load.connect()
    await load.send(WARM_UP_TURNS)
    found = await counted(server, lambda: load.send(TURNS))
    await load.close()
    return found.each


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_a_message_takes_no_more_instructions_than_it_did(name: str, server: CountedNode) -> None:
    assert 0 < asyncio.run(instructions(server, name)) <= INSTRUCTIONS[name]
