"""The stream and the consumer of a queue on JetStream, as the server takes them."""

from __future__ import annotations

from typing import Any

import msgspec

DEDUP_WINDOW_S = 120.0
"""How long the server knows an id that was put, so that a repetition of a put adds nothing."""

DURABLE = "workers"
NS = 1_000_000_000


class StreamConfig(msgspec.Struct, frozen=True):
    """The stream and its consumer.

    Attributes:
        prefix: What names begin with.
        items_max: The bound of the stream.
        visibility_s: How long a message is left to its worker.
        replicas: On how many servers of a cluster.
    """

    prefix: str
    items_max: int
    visibility_s: float
    replicas: int

    @property
    def stream(self) -> str:
        """Its name."""
        return f"{self.prefix}-queue"

    @property
    def subjects(self) -> str:
        """What its subjects begin with."""
        return f"{self.prefix}.queue."

    def of_stream(self) -> dict[str, Any]:
        """As the server takes it."""
        return {
            "name": self.stream,
            "subjects": [f"{self.subjects}*"],
            "retention": "workqueue",
            "storage": "file",
            "discard": "new",
            "max_msgs": self.items_max,
            "max_bytes": -1,
            "max_age": 0,
            "num_replicas": self.replicas,
            "duplicate_window": int(DEDUP_WINDOW_S * NS),
        }

    def of_consumer(self) -> dict[str, Any]:
        """As the server takes it.

        What is to be retried later counts as being worked on. A bound below that of the stream would let retries that
        wait hold up everything else.
        """
        return {
            "durable_name": DURABLE,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(self.visibility_s * NS),
            "max_deliver": -1,
            "max_ack_pending": self.items_max,
        }
