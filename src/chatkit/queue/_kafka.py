"""What the queue on Kafka asks of librdkafka, whose calls block: each method here runs in a worker thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

import msgspec

from ..errors import ConfigurationError

try:
    from confluent_kafka import (
        Consumer,
        ConsumerGroupTopicPartitions,
        KafkaError,
        KafkaException,
        Message,
        TopicPartition,
    )
    from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
except ImportError:
    raise ConfigurationError(
        'a queue on Kafka needs confluent-kafka: pip install "chatkit-engine[kafka]"'
    ) from None

logger = logging.getLogger(__name__)

library_logger = logging.getLogger("chatkit.queue.librdkafka")
"""What librdkafka says itself; while a broker is away, a line for each try."""

_ALREADY_THERE = {KafkaError.TOPIC_ALREADY_EXISTS}
_NO_RIGHT_TO_CREATE = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
_KEEP_MS = 7 * 86_400_000
_COMMIT_MS = 1_000
_HEARTBEATS_PER_SESSION = 4
_READ_AHEAD_KBYTES = 1_024
_MOMENT_S = 0.02
_LEAVING_S = 0.1
"""For the last message to the group, which says that we leave; nobody answers it to us."""


class NoAnswerError(Exception):
    """The cluster does not answer, or refuses; the message says why."""


class TopicConfig(msgspec.Struct, frozen=True):
    """The topic and who reads it.

    Attributes:
        topic: Its name.
        group: The consumer group that all workers share.
        partitions: Made with it, if it is not there.
        replicas: Of each partition, likewise.
        session_s: How long a worker may be silent before its partitions are given to others.
        wait_s: How long an answer may take.
    """

    topic: str
    group: str
    partitions: int
    replicas: int
    session_s: float
    wait_s: float


class Topic:
    """The topic as an administrator sees it.

    Args:
        connection: librdkafka's settings that say where the cluster is.
        config: The topic.
    """

    def __init__(self, connection: Mapping[str, Any], config: TopicConfig) -> None:
        self._config = config
        self._admin = AdminClient(dict(connection), logger=library_logger)

    def make_sure(self) -> None:
        """The topic is there, made if it was not. Raises NoAnswerError."""
        config = self._config
        new = NewTopic(
            config.topic,
            num_partitions=config.partitions,
            replication_factor=config.replicas,
            config={"cleanup.policy": "delete", "retention.ms": str(_KEEP_MS)},
        )
        with translated(_ALREADY_THERE | _NO_RIGHT_TO_CREATE):
            self._admin.create_topics([new], request_timeout=config.wait_s)[config.topic].result(
                config.wait_s
            )

    def ends(self) -> dict[int, int]:
        """The next offset of each partition. Raises NoAnswerError."""
        return self._offsets(self._partitions(), OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def done_to(self, partitions: list[int]) -> dict[int, int]:
        """Up to where the group is done: its committed offsets, else where a partition begins. Raises NoAnswerError."""
        config = self._config
        asked = ConsumerGroupTopicPartitions(
            config.group, [TopicPartition(config.topic, partition) for partition in partitions]
        )
        with translated():
            answers = self._admin.list_consumer_group_offsets([asked], request_timeout=config.wait_s)
            found = answers[config.group].result(config.wait_s).topic_partitions
        committed = {it.partition: it.offset for it in found if it.offset >= 0}
        others = [it for it in partitions if it not in committed]
        beginning = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        return self._offsets(others, beginning) | committed

    def _partitions(self) -> list[int]:
        config = self._config
        with translated():
            return list(
                self._admin.list_topics(config.topic, timeout=config.wait_s).topics[config.topic].partitions
            )

    def _offsets(self, partitions: list[int], which: OffsetSpec) -> dict[int, int]:
        config = self._config
        asked = {TopicPartition(config.topic, partition): which for partition in partitions}
        if not asked:
            return {}
        with translated():
            answers = self._admin.list_offsets(asked, request_timeout=config.wait_s)
            return {it.partition: answer.result(config.wait_s).offset for it, answer in answers.items()}


class Reader:
    """A member of the consumer group.

    Attributes:
        taken_away: Partitions that were given to others since this was last emptied.
    """

    def __init__(self, connection: Mapping[str, Any], config: TopicConfig) -> None:
        self._topic = config.topic
        self._paused: set[int] = set()
        self.taken_away: list[int] = []
        self._is_committed = False
        session_ms = int(config.session_s * 1000)
        settings = {
            "group.id": config.group,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,  # only what is done is stored; it is committed every second,
            "auto.commit.interval.ms": _COMMIT_MS,  # and before a partition is given to another member
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": session_ms // _HEARTBEATS_PER_SESSION,
            "queued.max.messages.kbytes": _READ_AHEAD_KBYTES,
            "on_commit": self._on_committed,
        }
        self._consumer = Consumer({**connection, **settings}, logger=library_logger)
        self._consumer.subscribe([self._topic], on_revoke=self._on_taken_away, on_lost=self._on_taken_away)

    def read(self, limit: int, wait_s: float) -> list[Message]:
        """What is there, else the next one; after a while none. Errors are among it. Raises NoAnswerError."""
        with translated():
            first = self._consumer.poll(wait_s)
            if first is None:
                return []
            return [first, *(self._consumer.consume(limit - 1, 0) if limit > 1 else [])]

    def done(self, done_to: Mapping[int, int]) -> None:
        """Have these committed soon, except for partitions that are somebody else's now. Does not block."""
        for partition, offset in done_to.items():
            try:
                self._consumer.store_offsets(offsets=[TopicPartition(self._topic, partition, offset)])
            except KafkaException as error:
                logger.debug("partition %d is another worker's: %s", partition, error)

    def pace(self, partition: int, is_full: bool) -> None:
        """Read no more of a partition, or go on with it. Does not block."""
        if is_full == (partition in self._paused):
            return
        change = self._consumer.pause if is_full else self._consumer.resume
        try:
            change([TopicPartition(self._topic, partition)])
        except KafkaException as error:
            logger.debug("partition %d is another worker's: %s", partition, error)
        (self._paused.add if is_full else self._paused.discard)(partition)

    def close(self, wait_s: float) -> None:
        """Commit what is stored and leave the group, if the cluster answers in time.

        librdkafka's own `close` waits for ever for a broker that is gone. Where a consumer is only dropped, its threads
        end at once, and the group learns of it by its silence.
        """
        consumer = self._consumer
        try:
            self._is_committed = False
            consumer.commit(asynchronous=True)
            self._poll_until(lambda: self._is_committed, wait_s / 2)
        except KafkaException as error:
            logger.debug("nothing is committed at the end: %s", error)
        self.taken_away.clear()
        has_partitions = bool(consumer.assignment())
        consumer.unsubscribe()
        self._poll_until(lambda: not has_partitions or bool(self.taken_away), wait_s / 2)
        self._poll_until(lambda: False, _LEAVING_S)
        del self._consumer

    def _poll_until(self, true: Callable[[], bool], wait_s: float) -> None:
        for _ in range(max(1, round(wait_s / _MOMENT_S))):
            if true():
                return
            self._consumer.poll(_MOMENT_S)

    def _on_committed(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        self._is_committed = True
        if error is not None:
            logger.debug("a commit failed, and is repeated with the next: %s", error)

    def _on_taken_away(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.taken_away += [it.partition for it in partitions]
        self._paused.difference_update(it.partition for it in partitions)


@contextmanager
def translated(accepted: Set[int] = frozenset()) -> Iterator[None]:
    """Failures of librdkafka as NoAnswerError; those with an accepted code are none."""
    try:
        yield
    except KafkaException as error:
        if error.args[0].code() not in accepted:
            raise NoAnswerError(str(error.args[0])) from None
    except (TimeoutError, KeyError) as error:
        raise NoAnswerError(f"no answer: {error!r}") from None
