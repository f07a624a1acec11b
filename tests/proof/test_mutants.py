"""The catalogue of planted bugs: it fits the source, it is large enough, and hunts find what they should."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from .checker import INVARIANTS
from .mutants.__main__ import Catch, catch_of, hunt_apart
from .mutants.catalogue import MUTANTS, client, core, moderation, provers, server, storage
from .mutants.plant import Edit, Mutant, mutated, plant

WANTED_LEAST = 25
SELF_CHECKS = {"alarm", "rehearsal", "no effect", "no facts"}


def source_of(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_planted_bug_fits_the_source(mutant: Mutant) -> None:
    for module in {edit.module for edit in mutant.edits}:
        edits = [edit for edit in mutant.edits if edit.module == module]
        source = source_of(module)
        changed = mutated(source, edits)

        assert changed != source
        compile(changed, module, "exec", dont_inherit=True)


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    every = [
        mutant.name
        for area in (storage, server, client, core, moderation, provers)
        for mutant in area.MUTANTS
    ]

    assert [name for name, count in Counter(every).items() if count > 1] == []
    assert sorted(every) == sorted(MUTANTS)
    assert len(MUTANTS) >= WANTED_LEAST


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_planted_bug_says_what_somebody_thought_and_what_may_catch_it(mutant: Mutant) -> None:
    assert mutant.edits
    assert mutant.story.endswith(".")
    assert mutant.caught_by
    assert set(mutant.caught_by) <= (SELF_CHECKS if mutant.of_prover else {*INVARIANTS, "alarm"})


def test_a_piece_of_source_that_is_gone_or_there_twice_is_an_error() -> None:
    with pytest.raises(LookupError, match="0 times"):
        mutated("one = 1\n", [Edit("m", "two", "three")])
    with pytest.raises(LookupError, match="2 times"):
        mutated("one = one\n", [Edit("m", "one", "two")])


def test_a_bug_cannot_be_planted_in_what_is_imported_already() -> None:
    late = Mutant("late", "Too late.", (Edit("tests.proof.checker", "Index", "index"),), ("S1",))

    with pytest.raises(RuntimeError, match=r"tests\.proof\.checker"):
        plant(late)


@pytest.mark.parametrize(
    "name", ["unread-counts-own", "queue-bytes-never-subtracted", "silent-alarms", "checker-finds-nothing"]
)
def test_a_hunt_finds_its_bug(name: str) -> None:
    catch = hunt_apart(MUTANTS[name], 8)

    assert catch.invariant in MUTANTS[name].caught_by
    assert 1 <= catch.seeds <= 8
    assert catch.story


def test_a_hunt_that_is_killed_has_caught_nothing_and_one_that_breaks_has() -> None:
    mutant = MUTANTS["unread-counts-own"]
    killed = subprocess.CompletedProcess(["hunt"], -9, stdout="", stderr="")
    broken = subprocess.CompletedProcess(["hunt"], 1, stdout="", stderr="Traceback\nKeyError: 7\n")

    assert catch_of(mutant, killed) == Catch(mutant.name, story="the hunt was killed by signal 9")
    assert catch_of(mutant, broken) == Catch(mutant.name, 1, "alarm", "KeyError: 7")


def test_a_hunt_of_the_true_code_finds_nothing() -> None:
    hunted = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.proof.mutants.__main__ import hunt; from tests.proof.mutants.plant import Mutant\n"
            "print(hunt(Mutant('none', '', (), ()), 3))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert hunted.stdout == "Catch(name='none', seeds=3, invariant='', story='')\n"
