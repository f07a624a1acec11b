"""S25b and S25c: what is held in memory keeps within its bounds, and is let go of when nobody needs it any more."""

from __future__ import annotations

from ..held import Count
from .index import Index
from .verdict import Breach, Findings


def bounded_memory(index: Index) -> Findings:
    """No queue and no buffer was ever seen above its bound."""
    yield from (_judged(it) for it in index.history.counts if it.moment == "peak")


def nothing_left_over(index: Index) -> Findings:
    """At rest there is what must be there; once everybody has left, there is nothing."""
    if index.quiescent:
        yield from (_judged(it) for it in index.history.counts if it.moment in ("at rest", "left"))


def _judged(it: Count) -> Breach | None:
    if it.right:
        return None
    wanted = f"at most {it.most:g}" if it.moment == "peak" else f"{it.least:g}"
    return Breach(what=f"{it.where}, {it.moment}: {it.count:g} {it.what}, and there must be {wanted}")
