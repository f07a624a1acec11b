"""Counters, gauges and histograms as plain numbers, and how they are shown to prometheus-client.

The library's own counters take a lock for each change, 2 us for one observation of a histogram: as much as a tenth of a
message. These belong to one event loop, take whole batches, and become the library's families only when somebody looks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
except ModuleNotFoundError:
    raise ConfigurationError(
        'metrics need prometheus-client: pip install "chatkit-engine[metrics]"'
    ) from None

if TYPE_CHECKING:
    from prometheus_client import Metric

LABEL_VALUES_MAX: Final = 50
"""Values of a label; what comes beyond is counted as `other`, so that no peer can make figures without end."""

OTHER: Final = "other"


class Counter:
    """Something that only grows, by the value of a label or without one.

    Args:
        name: As it is shown, `_total` included.
        meaning: What it counts.
        label: The name of its label; "" for none.
        known: Values that are shown from the start, so that the first event is a rise from 0 and not a new series.
    """

    def __init__(self, name: str, meaning: str, label: str = "", known: Iterable[str] = ()) -> None:
        self.name = name
        self.meaning = meaning
        self.label = label
        self._counts = dict.fromkeys(known if label else ("",), 0.0)

    def add(self, count: float = 1, value: str = "") -> None:
        """So many more."""
        if value in self._counts:
            self._counts[value] += count
        elif len(self._counts) < LABEL_VALUES_MAX:
            self._counts[value] = count
        else:
            self._counts[OTHER] = self._counts.get(OTHER, 0.0) + count

    def raise_to(self, count: float) -> None:
        """What is counted elsewhere has got so far."""
        self._counts[""] = count

    def family(self) -> CounterMetricFamily:
        """As the library shows it."""
        labels = [self.label] if self.label else []
        family = CounterMetricFamily(self.name, self.meaning, labels=labels)
        for value, count in self._counts.items():
            family.add_metric([value] if self.label else [], count)
        return family


class Gauge:
    """Something that rises and falls; not shown before it is known."""

    def __init__(self, name: str, meaning: str, label: str = "") -> None:
        self.name = name
        self.meaning = meaning
        self.label = label
        self._values: dict[str, float] = {}

    def set(self, number: float, value: str = "") -> None:
        """It is so much now."""
        self._values[value] = number

    def family(self) -> GaugeMetricFamily:
        """As the library shows it."""
        family = GaugeMetricFamily(self.name, self.meaning, labels=[self.label] if self.label else [])
        for value, number in self._values.items():
            family.add_metric([value] if self.label else [], number)
        return family


class Histogram:
    """How often something was how large.

    Args:
        name: As it is shown, its unit included.
        meaning: What is measured.
        bounds: Upper bounds of the buckets, ascending.
    """

    def __init__(self, name: str, meaning: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.meaning = meaning
        self.label = ""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """It was so large, so many times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def family(self) -> HistogramMetricFamily:
        """As the library shows it."""
        names = [*map(str, map(float, self._bounds)), "+Inf"]
        buckets = [(name, float(count)) for name, count in zip(names, accumulate(self._counts), strict=True)]
        family = HistogramMetricFamily(self.name, self.meaning)
        family.add_metric([], buckets, self._sum)
        return family


Figure = Counter | Gauge | Histogram


class Figures:
    """All figures of something; what a registry of prometheus-client takes as a collector."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._figures = figures

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures)

    def collect(self) -> Iterable[Metric]:
        """As they are now."""
        return [figure.family() for figure in self._figures]

    def describe(self) -> Iterable[Metric]:
        """Their names: a registry takes no two collectors with the same."""
        return self.collect()
