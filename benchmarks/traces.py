"""What traces cost: `python -m benchmarks.traces`.

Two things are measured in turn, in the same run: the CPU of a server for one message (durable, pushed, confirmed), and
the CPU that the instrument takes for one message in a batch as that server makes them. It prints the second as a part
of the first: for a message that is not followed, and for one that is, with OpenTelemetry's SDK and its batches, of
which nothing is sent anywhere. The exporter's own work is not in it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from chatkit import Traces
from chatkit.core.log.commands import Append
from chatkit.core.log.outcomes import Appended, Entry, message_id
from chatkit.observability.instrument import CommittedBatch

from .node import node
from .workloads import Pairs

PAIRS, WINDOW = 50, 16
BATCH = 64
MESSAGES = 6_400
ROUNDS = 5


class Nowhere(SpanExporter):
    """Takes every span."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """They are gone."""
        return SpanExportResult.SUCCESS


async def main() -> None:
    """Alternate, and say the ratios of the medians."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    instruments = {"not followed": Traces(provider, ratio=0.0), "followed": Traces(provider, ratio=1.0)}
    whole: list[float] = []
    parts: dict[str, list[float]] = {name: [] for name in instruments}
    with node() as server:
        for number in range(ROUNDS):
            found = await Pairs(server, PAIRS, WINDOW, f"r{number}").run(0.5, 2.0)
            whole.append(found["server_cpu_us_per_message"])
            for name, traces in instruments.items():
                parts[name].append(cost_us(traces))
    provider.shutdown()
    message_us = statistics.median(whole)
    for name, costs in parts.items():
        took_us = statistics.median(costs)
        share = {
            "message": name,
            "us": round(took_us, 2),
            "part of a message": round(took_us / message_us, 4),
        }
        print(json.dumps({**share, "message_us": message_us}))


def cost_us(traces: Traces) -> float:
    """Microseconds of CPU of the instrument for one message."""
    batches = [batch(first) for first in range(1, MESSAGES, BATCH)]
    before = time.process_time_ns()
    for it in batches:
        traces.on_committed(it)
    return (time.process_time_ns() - before) / 1_000 / MESSAGES


def batch(first: int) -> CommittedBatch:
    """Messages of one transaction."""
    commands = [Append("c-1", "u-1", f"k{seq}", b"{}", b"", 0) for seq in range(first, first + BATCH)]
    entries = [
        Entry(
            "c-1", "9d79d6b75e", message_id(7, "9d79d6b75e", seq), seq, "u-1", 1_700_000_000_000, b"{}", None
        )
        for seq in range(first, first + BATCH)
    ]
    outcomes = [Appended(it, False) for it in entries]
    return CommittedBatch(
        commands=commands,
        outcomes=outcomes,
        received_s=[1.0] * BATCH,
        offered=[2] * BATCH,
        new_received_s={1.0: BATCH},
        others=[],
        delivery_s={},
        began_s=1.1,
        durable_s=1.2,
        published_s=1.3,
        published_ms=1_700_000_000_000,
    )


if __name__ == "__main__":
    asyncio.run(main())
