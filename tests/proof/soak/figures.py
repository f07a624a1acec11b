"""What the samples of a soak come to: slopes by the hour, and whether anything grew or did not come back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

RSS_GROWTH_MAX = 5.0
"""Percent an hour, after the warm-up."""

SQLITE_MIB_MAX = 5 * 8 + 8.0
"""Five connections with a cache of 8 MiB each, and what they need beside it."""

JUDGED_FROM_S = 1200.0
"""A slope of a shorter time says nothing about an hour."""

COME_BACK = ("descriptors", "tasks", "sessions", "audiences", "queue_bytes")
"""What must be as before the first client once the last one has left."""

Numbers = dict[str, float]


class Sample(msgspec.Struct, frozen=True):
    """What a server held at a moment, in seconds since its start."""

    at_s: float
    held: Numbers


def slope_an_hour(samples: Sequence[Sample], name: str) -> float:
    """The growth of a number in an hour, by least squares; 0 for fewer than two samples."""
    if len(samples) < 2:
        return 0.0
    middle_s = sum(it.at_s for it in samples) / len(samples)
    mean = sum(it.held[name] for it in samples) / len(samples)
    spread = sum((it.at_s - middle_s) ** 2 for it in samples)
    return 3600 * sum((it.at_s - middle_s) * (it.held[name] - mean) for it in samples) / spread


def table(samples: Sequence[Sample], rows: int = 15) -> str:
    """About so many of the samples, evenly spread, and the last one."""
    names = list(samples[0].held)
    lines = [f"{'second':>8}" + "".join(f"{name:>13}" for name in names)]
    step = max(1, len(samples) // rows)
    for it in [*samples[:-1:step], samples[-1]]:
        lines.append(f"{it.at_s:8.0f}" + "".join(f"{it.held[name]:>13g}" for name in names))
    return "\n".join(lines)


def growth(steady: Sequence[Sample]) -> dict[str, float]:
    """By name, the growth in percent of the mean in an hour."""
    names = list(steady[0].held) if steady else []
    means = {name: sum(it.held[name] for it in steady) / len(steady) for name in names}
    return {name: 100 * slope_an_hour(steady, name) / means[name] for name in names if means[name]}


def findings(before: Numbers, steady: Sequence[Sample], after: Numbers) -> list[str]:
    """What is wrong, in words.

    Args:
        before: Before the first client.
        steady: Under load, after the warm-up.
        after: Once all clients have left.
    """
    wrong = [
        f"{name}: {before[name]:g} before, {after[name]:g} after everybody has left"
        for name in COME_BACK
        if after[name] > before[name]
    ]
    lasted_s = steady[-1].at_s - steady[0].at_s if steady else 0.0
    rss = growth(steady).get("rss_mib", 0.0)
    if lasted_s >= JUDGED_FROM_S and rss > RSS_GROWTH_MAX:
        wrong.append(f"the memory grew by {rss:.1f} % an hour, and {RSS_GROWTH_MAX:g} % is the most")
    if (sqlite := max((it.held["sqlite_mib"] for it in steady), default=0.0)) > SQLITE_MIB_MAX:
        wrong.append(f"SQLite held {sqlite:.0f} MiB, and {SQLITE_MIB_MAX:g} is the most")
    return wrong
