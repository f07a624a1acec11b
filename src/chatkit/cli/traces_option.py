"""`--traces RATIO`: spans of OpenTelemetry of what a server or a worker does. Its SDK is set up around the command."""

from __future__ import annotations

import logging

import click

from ..observability.instrument import Instrument

logger = logging.getLogger(__name__)

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


def traces_that_leave(ratio: float | None) -> list[Instrument]:
    """`traces_of`, with a warning if nothing takes the spans that it makes."""
    found = traces_of(ratio)
    if found:
        _warn_without_sdk()
    return found


def _warn_without_sdk() -> None:
    from opentelemetry import trace

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        logger.warning(
            "no SDK of OpenTelemetry is set up, so no span leaves: run this by `opentelemetry-instrument --`"
        )
