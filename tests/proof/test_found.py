"""Seeds at which bugs show that were real once: each is in the catalogue of planted bugs, as its own return.

The seed is one at which the planted bug of this name is caught; on the mended code it holds.
"""

from __future__ import annotations

import pytest

from .simulation.run import simulate

FOUND = {
    "shown-message-not-sent-again": 10,
    "log-resolves-by-key-alone": 5,
    "late-receipt-falls": 49,
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name: str) -> None:
    outcome = simulate(FOUND[name])

    assert outcome.good, (outcome.alarms, [str(violation) for violation in outcome.violations])


@pytest.mark.parametrize("seed", [241])
def test_what_the_checker_took_for_a_fault_is_none(seed: int) -> None:
    """241: refused for good while out of the group, by an answer that was lost; sent again when back."""
    outcome = simulate(seed)

    assert outcome.good, (outcome.alarms, [str(violation) for violation in outcome.violations])
