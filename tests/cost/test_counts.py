"""What a real server does for a message, counted: none of it depends on time or on the machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from benchmarks.lockstep import Lockstep
from benchmarks.node import Node, node
from benchmarks.tree import HERE

from .ceilings import PAIRS

SERVE = Path(__file__).with_name("counting_serve.py")
TURNS = 10

Counts = dict[str, float]


async def counts_of(server: Node, file: Path) -> Counts:
    """What it has done so far."""
    file.unlink(missing_ok=True)
    os.kill(server.process.pid, signal.SIGUSR1)
    async with asyncio.timeout(30):
        while not file.exists():
            await asyncio.sleep(0.01)
    found: Counts = json.loads(file.read_text())
    return found


async def cost_of_pairs(server: Node, file: Path) -> Counts:
    """For each message."""
    load = Lockstep(server, conversations=20, members=2, window=16)
    await load.connect()
    await load.send(2)
    before = await counts_of(server, file)
    messages = await load.send(TURNS)
    after = await counts_of(server, file)
    await load.close()
    found = {name: (after[name] - before[name]) / messages for name in after}
    found["kept blocks"] = found.pop("blocks")
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    """What one run cost."""
    file = tmp_path_factory.mktemp("cost") / "counts.json"
    environment = {"COUNTS": str(file), "PYTHONPATH": f"{HERE / 'src'}:{HERE}", "PYTHONHASHSEED": "0"}
    with node(script=SERVE, environment=environment) as server:
        return asyncio.run(cost_of_pairs(server, file))


@pytest.mark.parametrize("what", PAIRS)
def test_a_message_costs_no_more_than_it_did(what: str, found: Counts) -> None:
    assert found[what] <= PAIRS[what]


@pytest.mark.parametrize("what", ["statements", "transactions", "encodes", "socket writes"])
def test_what_is_counted_is_seen_at_all(what: str, found: Counts) -> None:
    """A ceiling over something that is not looked at any more would hold for ever: move the look, then."""
    assert found[what] > 0
