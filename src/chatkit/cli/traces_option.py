"""`--traces RATIO`: spans of OpenTelemetry of what a server or a worker does. Its SDK is set up around the command."""

from __future__ import annotations

import click

from ..observability.instrument import Instrument

traces_option = click.option(
    "--traces",
    type=click.FloatRange(0, 1),
    metavar="RATIO",
    help="The part of the messages that spans of OpenTelemetry follow, such as 0.01: docs/observability.md.",
)


def traces_of(ratio: float | None) -> list[Instrument]:
    """The instrument, if it is asked for. Raises ConfigurationError: the extra `otel` is missing."""
    if ratio is None:
        return []
    from ..observability.traces import Traces

    return [Traces(ratio=ratio)]
