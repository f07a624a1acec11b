"""The simulator: a short run of it, and that it is the same each time, says what is wrong, and counts what it tried."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from chatkit.client.store.memory import MemoryStore as LocalMemoryStore
from chatkit.errors import UnavailableError
from chatkit.server import watchdog
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.server import ChatServer
from chatkit.storage.memory import MemoryStore
from chatkit.testing.faulty_bus import BusFaults
from chatkit.testing.faulty_store import FaultyStore, StoreFaults
from chatkit.testing.history import Incident
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import run_virtual
from chatkit.types import Identity

from .checker import INVARIANTS, Violation
from .checker.verdict import Breach
from .dumps import CompleteHistory
from .simulation import __main__ as command
from .simulation.coverage import IN_FLIGHT, OFTEN, OPERATIONS, Coverage
from .simulation.delays import DELAY_MAX_S
from .simulation.pages import PAGES
from .simulation.plan import FAULTS, draw_plan
from .simulation.run import simulate
from .simulation.watch import Effects, WatchedBus, WatchedLocalStore, WatchedStore, watch_drain

SEEDS = range(20)
DEAD_BUS_SEEDS = (2, 7, 10, 14, 66, 99)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_holds(seed: int) -> None:
    outcome = simulate(seed)

    assert outcome.alarms == []
    assert [str(violation) for violation in outcome.violations] == []
    assert outcome.converged_s is not None


@pytest.mark.parametrize("seed", DEAD_BUS_SEEDS)
def test_on_a_bus_that_drops_everything_each_message_comes_within_five_seconds(seed: int) -> None:
    outcome = simulate(seed, dead_bus=True)

    assert outcome.good, (outcome.alarms, outcome.violations)
    assert len(outcome.delays_s) > 20
    assert 1.0 < max(outcome.delays_s.values()) <= DELAY_MAX_S, "by a look at the log, and soon enough"


def test_a_look_that_comes_too_seldom_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_CHECK_WITH_BUS_S", 10.0)
    outcome = simulate(DEAD_BUS_SEEDS[0], dead_bus=True)

    assert outcome.alarms
    assert all(" took " in alarm for alarm in outcome.alarms)


def test_many_seeds_on_a_dead_bus_say_how_late_the_last_one_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--dead-bus", "--seeds", "2", "--first", "2", "--workers", "1"]) == 0
    assert "5 s are allowed" in capsys.readouterr().out

    assert command._unmeasured(command.Totals(seeds=2)) != []


def test_the_plans_of_many_seeds_have_every_fault_and_every_size() -> None:
    plans = [draw_plan(seed) for seed in range(300)]

    assert {fault for plan in plans for fault in plan.faults} == set(FAULTS)
    assert {plan.backend for plan in plans} == {"asyncio", "trio"}
    assert {plan.storage for plan in plans} == {"memory", "sqlite"}
    assert {plan.nodes for plan in plans} == {1, 2, 3}
    assert any(plan.faults == () for plan in plans), "calm runs too"
    assert not any(
        fault.startswith("disk") for plan in plans if plan.storage == "memory" for fault in plan.faults
    )
    assert draw_plan(7) == draw_plan(7)


def digests(hash_seed: str, seeds: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.proof.simulation", "--digests", "--seeds", str(seeds)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_seed_gives_one_trace_in_every_process() -> None:
    traces = digests("1", 4)

    assert len(set(traces[1::2])) == 4
    assert traces == digests("4242", 4)


def test_what_was_never_tried_is_named() -> None:
    coverage = Coverage()
    assert "send x fail" in coverage.empty_cells()
    assert "disk broken x recall" in coverage.empty_cells()

    coverage.results.update((op, result) for op, possible in OPERATIONS.items() for result in possible)
    coverage.struck.update(
        (fault, op) for fault in FAULTS for op in IN_FLIGHT if (fault, op) != ("cut", "send")
    )
    assert coverage.empty_cells() == ["cut x send"]


def test_a_fault_counts_for_what_is_under_way() -> None:
    times = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    history = CompleteHistory(lambda: next(times))
    early = history.invoke("u", "d", "send")
    history.ok(early)
    incident = history.happened("cut")
    late = history.invoke("u", "d", "recall")
    history.ended(incident)
    history.fail(late, ValueError())
    crash = Incident(5.5, "server crash")
    idle = Incident(5.5, "app crash")
    history.incidents += [crash, idle]
    history.effects = [(incident, 3), (crash, 1), (idle, 0)]
    coverage = Coverage()
    coverage.add(history, ["cut", "server crash", "app crash"])

    assert coverage.struck == Counter({("cut", "recall"): 1, ("server crash", "recall"): 1})
    assert coverage.incidents == Counter({"cut": 1, "server crash": 1, "app crash": 1})
    assert coverage.effects == Counter({"cut": 3, "server crash": 1, "app crash": 0})
    assert coverage.results == Counter({("send", "ok"): 1, ("recall", "fail"): 1})


def test_one_seed_tells_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seed", "2"]) == 0

    told = capsys.readouterr().out
    assert "seed: 2\n" in told
    assert told.rstrip().endswith("good")


def test_one_seed_is_written_down_whole(tmp_path: Path) -> None:
    file = tmp_path / "seed.txt"
    assert command.main(["--seed", "2", "--transcript", str(file)]) == 0

    lines = file.read_text(encoding="utf-8").splitlines()
    assert "calls create" in lines[0]
    assert any("-> n-0 HELLO" in line for line in lines)


def test_what_is_written_down_is_one_seed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--transcript", "all.txt"])
    assert "--transcript needs --seed" in capsys.readouterr().err


def test_many_seeds_fail_if_they_left_something_untried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "COVERED_FROM", 1)

    assert command.main(["--seeds", "1", "--workers", "1"]) == 1
    assert "never tried: " in capsys.readouterr().out


def test_an_invariant_without_facts_is_named() -> None:
    totals = command.Totals(seeds=command.JUDGED_FROM)
    assert [f"no facts: {name}, in {totals.seeds} seeds" for name in INVARIANTS] == command.unproven(totals)


def test_a_fault_that_changes_nothing_is_named() -> None:
    coverage = Coverage()
    coverage.planned.update({"cut": OFTEN, "half-open": OFTEN, "bus loss": OFTEN - 1})
    coverage.incidents.update({"half-open": OFTEN})
    assert coverage.without_effect() == [
        f"cut: planned in {OFTEN} runs, and never struck",
        f"half-open: struck {OFTEN} times, and changed nothing",
    ]

    coverage.effects["half-open"] = 1
    coverage.incidents["cut"] = 1
    assert coverage.without_effect() == []


@pytest.mark.parametrize(
    ("faults", "fault"),
    [
        (StoreFaults(busy_probability=1.0), "storage busy"),
        (StoreFaults(lost_answer_probability=1.0), "storage answer lost"),
        (StoreFaults(read_probability=1.0), "storage read refused"),
        (StoreFaults(latency_s=(1.0, 1.0)), "storage slow"),
        (StoreFaults(), None),
    ],
)
def test_a_store_is_watched_from_the_outside(faults: StoreFaults, fault: str | None) -> None:
    async def use() -> Effects:
        effects = Effects()
        store = MemoryStore(ids=Rng(1).ports("store").ids)
        secret = await store.migrate()
        watched = WatchedStore(
            store, lambda it: FaultyStore(it, secret, faults, Rng(1).stream("store")), effects, 0.1
        )
        for call in (watched.commit([]), watched.head_seqs([])):
            with suppress(UnavailableError):
                await call
        return effects

    assert set(run_virtual(use)) == ({fault} if fault else set())


def test_a_full_local_store_is_noticed() -> None:
    effects = Effects()
    local = WatchedLocalStore(LocalMemoryStore(), effects)
    local.bind("u", "d")
    local.full = True
    with pytest.raises(UnavailableError):
        local.want_read("c", 1)
    assert effects == Effects({"local store full": 1})

    local.die()
    with pytest.raises(UnavailableError):
        local.want_read("c", 1)
    assert effects == Effects({"local store full": 1}), "whoever is dead feels nothing"


def test_a_bus_is_watched_from_the_outside() -> None:
    effects = Effects()
    faults = BusFaults()
    bus = WatchedBus(faults, Rng(1).stream("bus"), effects=effects)
    sender, reader = bus.join(), bus.join()
    reader.subscribe("t")
    for number in range(3):
        sender.publish("t", b"%d" % number)
    bus.count_lost()
    assert effects == Effects({"bus loss": 0})

    faults.loss_probability = 1.0
    sender.publish("t", b"lost")
    faults.loss_probability, faults.repeat_probability = 0.0, 1.0
    sender.publish("t", b"twice")
    faults.repeat_probability, faults.reorder_probability = 0.0, 1.0
    sender.publish("t", b"late")
    bus.count_lost()
    assert effects == Effects({"bus loss": 1, "bus repeat": 1})

    faults.reorder_probability = 0.0
    sender.publish("t", b"in time")
    bus.release()
    assert effects == Effects({"bus loss": 1, "bus repeat": 1, "bus reorder": 1})


@pytest.mark.parametrize(("lasts_s", "told"), [(0.0, 1), (9.9, 1), (10.0, 0)])
def test_a_drain_is_judged_if_it_had_the_time_to_answer(lasts_s: float, told: int) -> None:
    async def nobody(token: str) -> Identity:
        raise UnavailableError(token)

    async def drain() -> list[ChatServer]:
        drained: list[ChatServer] = []
        store = MemoryStore(ids=Rng(1).ports("store").ids)
        server = ChatServer(store=store, authenticate=nobody, config=ServerConfig(drain_timeout_s=10.0))
        server.drain = partial(anyio.sleep, lasts_s)  # type: ignore[method-assign]
        watch_drain(server, drained.append)
        await server.drain()
        return drained

    assert len(run_virtual(drain)) == told


@pytest.mark.parametrize("seed", [3, 12])
def test_no_setting_of_a_run_is_left_behind(seed: int) -> None:
    before = [getattr(module, name) for module, name in PAGES]
    assert draw_plan(seed).page_size is not None
    simulate(seed)
    assert [getattr(module, name) for module, name in PAGES] == before


def test_many_seeds_end_with_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "3", "--workers", "1"]) == 0

    told = capsys.readouterr().out
    assert "operation x result" in told
    assert "3 seeds in" in told


def test_tight_limits_of_one_peer_are_drawn_and_met() -> None:
    usual = (Limits.unlimited(), Limits())
    seed = next(seed for seed in SEEDS if draw_plan(seed).server.limits not in usual)
    outcome = simulate(seed)

    refused = [frame for frame in outcome.history.frames if b"RATE_LIMITED" in _bytes(frame.data)]
    assert len(refused) > 5
    assert outcome.good


def _bytes(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def test_a_bad_seed_is_told_with_its_number() -> None:
    outcome = simulate(2)
    breach = Breach(what="it is gone", conversation_id="c-0", seq=1)
    spoilt = replace(outcome, violations=[Violation("S1", "no acked loss", breach)], alarms=["an error"])
    totals = command.Totals()
    totals.add(spoilt)

    assert not spoilt.good
    (bad,) = totals.bad
    assert bad.seed == 2
    assert "alarm: an error" in bad.story
    assert "S1" in bad.story and "it is gone" in bad.story
