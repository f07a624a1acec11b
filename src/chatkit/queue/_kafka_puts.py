"""Putting work on a topic: librdkafka's producer, whose answers have to be fetched from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from confluent_kafka import KafkaError, Message, Producer

from ..errors import OverloadedError
from ._kafka import NoAnswerError, TopicConfig, library_logger

_PENDING_MAX = 10_000
_FULL_RETRY_S = 1.0
_POLL_S = 0.1


class Puts:
    """A producer of one topic.

    Args:
        connection: librdkafka's settings that say where the cluster is.
        config: The topic.
        limiter: For the thread that waits for answers.
    """

    def __init__(
        self, connection: Mapping[str, Any], config: TopicConfig, limiter: anyio.CapacityLimiter
    ) -> None:
        self._config, self._limiter = config, limiter
        self._polling = anyio.Lock()
        settings = {
            "acks": "all",
            "partitioner": "murmur2_random",  # as Java's; librdkafka's own default puts a key elsewhere
            "enable.idempotence": False,  # with it a producer is of no use any more when the cluster forgot it
            "max.in.flight.requests.per.connection": 1,  # so a repetition overtakes nothing
            "linger.ms": 0,
            "delivery.timeout.ms": int(config.wait_s * 1000),
            "request.timeout.ms": int(config.wait_s * 500),
            "queue.buffering.max.messages": _PENDING_MAX,
        }
        self._producer = Producer({**connection, **settings}, logger=library_logger)

    async def put(self, data: bytes, key: bytes) -> None:
        """Returns when all replicas that are in step have it.

        Raises:
            OverloadedError: Too much waits here for the cluster.
            NoAnswerError: The cluster did not answer in time; it may have it all the same.
        """
        delivery = _Delivery()
        try:
            self._producer.produce(self._config.topic, data, key, on_delivery=delivery.on_delivery)
        except BufferError:
            raise OverloadedError("too much waits for Kafka", retry_after_s=_FULL_RETRY_S) from None
        with anyio.move_on_after(self._config.wait_s):
            await self._delivered(delivery)
        if not delivery.is_over:
            raise NoAnswerError(f"no answer within {self._config.wait_s:g} s")
        if delivery.error is not None:
            raise NoAnswerError(str(delivery.error))

    def close(self) -> None:
        """Forget what was not answered; those who wait for it get a NoAnswerError."""
        self._producer.purge()

    async def _delivered(self, delivery: _Delivery) -> None:
        """Wait for an answer. Whoever waits first has librdkafka hand out the answers to all."""
        while not delivery.is_over:
            async with self._polling:
                if not delivery.is_over:
                    await anyio.to_thread.run_sync(
                        partial(self._producer.poll, _POLL_S), limiter=self._limiter
                    )


class _Delivery:
    """What becomes of one put. Written in librdkafka's callback, in a worker thread, and read in the event loop."""

    def __init__(self) -> None:
        self.is_over = False
        self.error: KafkaError | None = None

    def on_delivery(self, error: KafkaError | None, _: Message) -> None:
        self.error = error
        self.is_over = True
