"""`chatkit metrics`: what Prometheus and Grafana take, printed."""

from __future__ import annotations

import click

from ..observability.prometheus import DASHBOARD, RULES


@click.group(short_help="Rules for Prometheus and a dashboard for Grafana.")
def metrics() -> None:
    """Print what Prometheus and Grafana take (docs/metrics.md). The figures are at `chatkit serve --metrics`."""


@metrics.command()
def rules() -> None:
    """Print recording rules and alerts: a rule file of Prometheus."""
    click.echo(RULES.read_text("utf-8"), nl=False)


@metrics.command()
def dashboard() -> None:
    """Print a dashboard, to be imported into Grafana."""
    click.echo(DASHBOARD.read_text("utf-8"), nl=False)
