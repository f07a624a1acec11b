"""Ids of stores under test."""

from __future__ import annotations

import random

from chatkit.testing.rng import SeededIds


def seeded_ids(seed: int = 1) -> SeededIds:
    """Token bytes that are the same in every run."""
    return SeededIds(random.Random(seed))
