"""How far a command is, on stderr: bars for a terminal, and a line every few seconds for everybody else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from ..ports import Clock
from ..storage.verify_report import Progress

LINE_EVERY_S = 5.0


class Shown(Protocol):
    """What is told how far the command is."""

    def step(self, step: Progress) -> None:
        """It has got so far."""

    def tick(self) -> None:
        """Some milliseconds have passed; it may be in the middle of something that takes long."""


@contextmanager
def shown(clock: Clock) -> Iterator[Shown]:
    """Shows steps until the end of the block."""
    if not sys.stderr.isatty():
        yield _Lines(clock)
        return
    with _bars() as bars:
        yield _Bars(bars)


def _bars() -> Any:
    from rich.console import Console  # here: no other command waits for it to load
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<14}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Bars(*columns, console=Console(stderr=True), transient=True)


class _Bars:
    """As bars of rich, which moves them by itself."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task, self._stage = bars.add_task("", total=None), ""

    def step(self, step: Progress) -> None:
        if step.stage != self._stage:
            self._stage = step.stage
            self._bars.reset(self._task, description=step.stage)
        self._bars.update(self._task, completed=step.done, total=step.total or None)

    def tick(self) -> None:
        pass


class _Lines:
    """As a line every few seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_s = self._shown_s = clock.now_s()
        self._step = Progress("opening", 0, 1)

    def step(self, step: Progress) -> None:
        self._step = step
        self.tick()

    def tick(self) -> None:
        now_s = self._clock.now_s()
        if now_s - self._shown_s >= LINE_EVERY_S:
            self._shown_s = now_s
            step = self._step
            passed_s = now_s - self._started_s
            click.echo(f"{step.stage}: {step.done} of {step.total}, {passed_s:.0f} s", err=True)
