"""What was seen around a fault, as a picture: figures over time, when the fault was, and which alerts fired."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from .watch import Prometheus


class Mark(msgspec.Struct, frozen=True):
    """A fault, in Unix seconds."""

    name: str
    began_s: float
    ended_s: float


Series = dict[str, list[list[float]]]
"""By its name in the picture: [Unix seconds, value]."""

_RATE = "[10s]"
_PANELS: dict[str, dict[str, str]] = {
    "a second": {
        "sent": f'sum(rate(chatkit_sends_total{{result="stored"}}{_RATE}))',
        "offered": f"sum(rate(chatkit_deliveries_total{_RATE}))",
        "confirmed": f"sum(rate(chatkit_acks_total{_RATE}))",
    },
    "send to ack, s": {
        f"P{part}": f"histogram_quantile(0.{part}, sum by (le) (rate(chatkit_send_to_ack_seconds_bucket{_RATE})))"
        for part in (50, 95, 99)
    },
    "delivery, s": {
        f"P{part}": "histogram_quantile("
        f"0.{part}, sum by (le) (rate(chatkit_delivery_latency_seconds_bucket{_RATE})))"
        for part in (50, 95, 99)
    },
    "waiting for a push": {"conversations and devices": "max(chatkit_offline_queue_depth)"},
    "queue lag, s": {"oldest push was due": "max(chatkit_queue_lag_seconds)"},
    "refused a second": {
        "sessions": f"sum(rate(chatkit_refusals_total{_RATE}))",
        "storage": f"sum(rate(chatkit_storage_refusals_total{_RATE}))",
        "read from the log": f"sum(rate(chatkit_reconciled_entries_total{_RATE}))",
    },
    "there": {"nodes and workers": "sum(up)", "sessions": "sum(chatkit_sessions)"},
}


def samples_of(prometheus: Prometheus, start_s: float, end_s: float) -> dict[str, Series]:
    """What the pictures show, by panel; and the alerts, by name, as 1 while they fire."""
    found = {
        panel: {name: _first(prometheus.range(query, start_s, end_s)) for name, query in queries.items()}
        for panel, queries in _PANELS.items()
    }
    firing = prometheus.range('max by (alertname) (ALERTS{alertstate="firing"})', start_s, end_s)
    return {**found, "alerts": {labels["alertname"]: values for labels, values in firing}}


def draw(samples: dict[str, Series], marks: Sequence[Mark], title: str, out: Path) -> list[str]:
    """Write the samples and a PNG into a folder. Returns the alerts that fired, in order."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    out.mkdir(parents=True, exist_ok=True)
    name = title.replace(" ", "-")
    kept = {"title": title, "marks": [msgspec.to_builtins(it) for it in marks], "samples": samples}
    (out / f"{name}.json").write_text(json.dumps(kept))
    begin_s = min(values[0][0] for panel in samples.values() for values in panel.values() if values)
    figure, axes = pyplot.subplots(len(samples), 1, figsize=(11, 2 * len(samples)), sharex=True)
    for axis, (panel, series) in zip(axes, samples.items(), strict=True):
        (_draw_alerts if panel == "alerts" else _draw_lines)(axis, series, begin_s)
        axis.set_ylabel(panel, fontsize=8)
        for mark in marks:
            axis.axvspan(mark.began_s - begin_s, mark.ended_s - begin_s, color="tab:red", alpha=0.12)
    axes[0].set_title(" / ".join(dict.fromkeys([title, *(it.name for it in marks)])))
    axes[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(out / f"{name}.png", dpi=90)
    pyplot.close(figure)
    return sorted(samples["alerts"], key=lambda it: samples["alerts"][it][0])


def _draw_lines(axis: Any, series: Series, begin_s: float) -> None:
    for name, values in series.items():
        axis.plot([at - begin_s for at, _ in values], [value for _, value in values], label=name, linewidth=1)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7, loc="upper left")


def _draw_alerts(axis: Any, series: Series, begin_s: float) -> None:
    for row, values in enumerate(series.values()):
        axis.plot([at - begin_s for at, _ in values], [row] * len(values), "s", markersize=4, color="tab:red")
    axis.set_yticks(range(len(series)), list(series), fontsize=7)
    axis.set_ylim(-0.5, max(len(series), 1) - 0.5)


def _first(found: list[tuple[dict[str, str], list[list[float]]]]) -> list[list[float]]:
    return [it for it in found[0][1] if it[1] == it[1]] if found else []  # without what is no number
