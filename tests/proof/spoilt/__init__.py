"""Ways to spoil the history of the play "office", each for one invariant that must be found first."""

from __future__ import annotations

from . import answers, convergence, deliveries, orders, stores
from .table import SPOILT as SPOILT

__all__ = ["SPOILT", "answers", "convergence", "deliveries", "orders", "stores"]
