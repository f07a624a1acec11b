"""Seeds at which planted bugs show that once were real ones: on the mended code they hold."""

from __future__ import annotations

import pytest

from chatkit.testing.simulation.run import simulate

FOUND = {
    "a refused message that the log then showed held its conversation back for ever": 16,
    "a task spun in a group that its host had cancelled": 24,
    "the log settled a pending message by its key alone": 8,
    "a removal whose answer was lost was not applied before later pushes": 7,
    "a receipt fell on one connection with several nodes": 33,
    "a repeated recall was judged anew after its author had left": 73,
    "a conversation whose creation was answered with a refusal was not announced": 56,
    "a read cursor stayed unsent while its user was in and out of a group": 426,
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_stays_mended(what: str) -> None:
    outcome = simulate(FOUND[what])

    assert outcome.good, (outcome.alarms, [str(violation) for violation in outcome.violations])
