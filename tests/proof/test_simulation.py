"""The simulator: a short run of it, and that it is the same each time, says what is wrong, and counts what it tried."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from chatkit.server.limits import Limits
from chatkit.testing.history import Incident

from .checker import INVARIANTS, Violation
from .checker.verdict import Breach
from .dumps import CompleteHistory
from .simulation import __main__ as command
from .simulation.coverage import IN_FLIGHT, OPERATIONS, Coverage
from .simulation.plan import FAULTS, draw_plan
from .simulation.run import simulate

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_holds(seed: int) -> None:
    outcome = simulate(seed)

    assert outcome.alarms == []
    assert [str(violation) for violation in outcome.violations] == []
    assert outcome.converged_s is not None


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
    history.incidents.append(Incident(5.5, "server crash"))
    coverage = Coverage()
    coverage.add(history)

    assert coverage.struck == Counter({("cut", "recall"): 1, ("server crash", "recall"): 1})
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
    assert "never tried in 1 seeds: " in capsys.readouterr().out
    assert set(INVARIANTS) <= set(command.untried(command.Totals()))


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
