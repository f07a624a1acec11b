"""The figures as Prometheus reads them: parsed back from their text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from chatkit.observability.metrics import Metrics


def shown(metrics: Metrics) -> dict[str, float]:
    """Every sample, by `name{label="value"}`."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def risen(metrics: Metrics) -> dict[str, float]:
    """Samples that are not 0, without the buckets of histograms."""
    return {name: value for name, value in shown(metrics).items() if value and "_bucket" not in name}
