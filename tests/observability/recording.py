"""What Prometheus would have scraped: the figures of servers every 15 seconds of their clock, for promtool."""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from chatkit.observability.metrics import Metrics

from .shown import shown

EVERY_S = 15


class Recording:
    """Series of several instances that were scraped together.

    Args:
        every_s: Between two scrapes.

    Attributes:
        series: By `name{labels}`, one value for each scrape; None where there was none.
    """

    def __init__(self, every_s: int = EVERY_S) -> None:
        self.every_s = every_s
        self.series: dict[str, list[float | None]] = {}
        self.scrapes = 0
        self._instances: dict[str, Metrics | None] = {}

    def watch(self, instance: str, metrics: Metrics) -> None:
        """Scrape this one too from here on."""
        self._instances[instance] = metrics

    def lose(self, instance: str) -> None:
        """This one does not answer any more."""
        self._instances[instance] = None

    async def run(self) -> None:
        """Scrape until cancelled."""
        while True:
            self.scrape()
            await anyio.sleep(self.every_s)

    def scrape(self) -> None:
        """Scrape all of them once."""
        for instance, metrics in self._instances.items():
            target = f'instance="{instance}",job="chatkit"'
            self._add(f"up{{{target}}}", float(metrics is not None))
            for name, value in shown(metrics).items() if metrics is not None else ():
                base, _, labels = name.rstrip("}").partition("{")
                self._add(f"{base}{{{labels},{target}}}" if labels else f"{base}{{{target}}}", value)
        self.scrapes += 1
        for values in self.series.values():
            values += [None] * (self.scrapes - len(values))

    def _add(self, name: str, value: float) -> None:
        values = self.series.setdefault(name, [])
        values += [None] * (self.scrapes - len(values))
        values.append(value)

    @property
    def seconds(self) -> int:
        """From the first scrape to the last."""
        return (self.scrapes - 1) * self.every_s

    def for_promtool(self) -> list[dict[str, str]]:
        """The series in the notation of promtool's tests."""
        return [{"series": name, "values": " ".join(_runs(values))} for name, values in self.series.items()]


def _runs(values: list[float | None]) -> Iterator[str]:
    """Values; what rises evenly as `FIRST+STEPxMORE`, and `_` and `stale` for none."""
    start = 0
    while start < len(values):
        more = _even(values, start)
        yield _run(values, start, more)
        start += more + 1


def _even(values: list[float | None], start: int) -> int:
    """How many more values follow in even steps, or as none."""
    first = values[start]
    following = values[start + 1] if start + 1 < len(values) else None
    more = 0
    for number, value in enumerate(values[start + 1 :], 1):
        if first is None or following is None:
            even = value is None and first is None
        else:
            even = value is not None and value == first + number * (following - first)
        if not even:
            break
        more = number
    return more


def _run(values: list[float | None], start: int, more: int) -> str:
    first = values[start]
    if first is None:
        missing = f"_x{more}" if start else f"_x{more + 1}"
        return f"stale {missing}" if start and more else "stale" if start else missing
    if not more:
        return f"{first:.12g}"
    step = (values[start + 1] or 0.0) - first
    return f"{first:.12g}{step:+.12g}x{more}"
