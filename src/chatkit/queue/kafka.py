"""The queue on Kafka: a topic that keeps what was put for a week, and one consumer group shared by all workers.

Needs confluent-kafka: `pip install "chatkit-engine[kafka]"`. Why this library: docs/design/0014-delivery-queues.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._arguments import check_kind, check_number
from ..errors import ClosedError, ConfigurationError, UnavailableError
from ..ports import Ports
from ._kafka import NoAnswerError, Reader, Topic, TopicConfig, logger
from ._kafka_progress import Progress
from ._kafka_puts import Puts
from ._work import WorkTable
from .base import Item, check_delay, check_limit, check_put

try:
    from confluent_kafka import KafkaError, KafkaException, Message
except ImportError:
    raise ConfigurationError(
        'a queue on Kafka needs confluent-kafka: pip install "chatkit-engine[kafka]"'
    ) from None

VISIBILITY_S = 30.0
WAIT_S = 5.0
SESSION_S = 10.0
UNDONE_MAX = 10_000
"""Work of one partition that a worker has in memory: waiting, held, or to be retried."""

AHEAD_MAX = 100_000
"""How far a worker reads beyond the oldest work of a partition that is not done."""

_GOOD = "a queue on Kafka has an address such as kafka://HOST:9092,HOST:9092"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_POLL_S = 0.1
_RETRY_S = 1.0
_CLOSE_S = 2.0
_THREADS = 4
_BACKOFF_MAX_MS = 1_000
_METADATA_MS = 10_000

_Result = TypeVar("_Result")


class KafkaQueue:
    """`queue.base.Queue` on a Kafka cluster.

    Kafka knows one number for each partition, below which everything is done. So each worker keeps in memory what it
    has read and not done, gives it out again in its time, and has the number of its oldest one committed, every second.
    What was done beyond it comes again when its partition is given to another worker, after a crash above all; then
    `attempt` begins at 1 again, and what was to be retried later comes at once.

    The queue is not bounded: the topic keeps what was put for seven days, unless it was made with other settings. A
    partition of which UNDONE_MAX items are not done, or whose oldest such item is AHEAD_MAX behind, is read no further.
    A worker that does not call `take` for five minutes loses its partitions to the others, until it does.

    A key goes to the partition that Java's clients choose too (murmur2); after a change of the number of partitions, to
    another one. An order of one key holds as long as that number does.

    Args:
        address: `kafka://HOST:PORT`; several brokers separated by commas.
        topic: Made if it is not there, also when it vanishes later.
        group: The consumer group of all workers.
        partitions: Of a topic that is made: at most so many workers have work at one time.
        replicas: Of each partition of a topic that is made.
        visibility_s: How long a taken item is left to its worker.
        wait_s: How long anything but `take` waits for the cluster.
        session_s: After how long without a sign of life a worker's partitions are given to others.
        options: Settings of librdkafka, such as `security.protocol`, `sasl.username` and `sasl.password`.
        ports: The clock.

    Raises:
        ConfigurationError: No such address or name, one of the numbers is none, or librdkafka refuses an option.
    """

    def __init__(
        self,
        address: str,
        *,
        topic: str = "chatkit-queue",
        group: str = "chatkit-workers",
        partitions: int = 12,
        replicas: int = 1,
        visibility_s: float = VISIBILITY_S,
        wait_s: float = WAIT_S,
        session_s: float = SESSION_S,
        options: Mapping[str, Any] | None = None,
        ports: Ports | None = None,
    ) -> None:
        for name, number in {"partitions": partitions, "replicas": replicas}.items():
            check_number(name, number, whole=True)
        for name, seconds in {"visibility_s": visibility_s, "wait_s": wait_s, "session_s": session_s}.items():
            check_number(name, seconds)
        check_kind("options", options, dict, optional=True)
        self._where = _brokers_of(address)
        self._config = TopicConfig(
            _name("topic", topic), _name("group", group), partitions, replicas, session_s, wait_s
        )
        self._options = options or {}
        self._clock = (ports or Ports()).clock
        self._table = WorkTable(visibility_s)
        self._progress: dict[int, Progress] = {}
        self._partition_of: dict[int, int] = {}  # by tickets
        self._taking = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(_THREADS)
        self._topic: Topic | None = self._made(partial(Topic, self._connection(), self._config))
        self._puts: Puts | None = None  # of one that puts
        self._reader: Reader | None = None  # of one that takes: it joins the group
        self._is_sure = self._is_warned = self._closed = False

    # --- the port ---

    async def connect(self) -> None:
        """Make sure of the topic.

        Raises:
            ConfigurationError: No broker can be reached, or the topic cannot be made.
        """
        try:
            await self._make_sure()
        except UnavailableError as error:
            raise ConfigurationError(str(error)) from None

    async def put(self, data: bytes, key: str) -> None:
        """Add a piece of work; returns when all replicas that are in step have it.

        Raises:
            OverloadedError: Too much waits here for the cluster.
            UnavailableError: The cluster did not answer in time; the item may be added all the same.
        """
        check_put(data, key)
        await self._make_sure()
        if self._puts is None:
            self._puts = self._made(partial(Puts, self._connection(), self._config, self._limiter))
        try:
            await self._puts.put(data, key.encode("utf-8", "surrogatepass"))
        except NoAnswerError as error:
            self._is_sure = False
            raise self._unavailable(error) from None

    async def take(self, limit: int) -> list[Item]:
        """Wait for work that is due, also through failures of the cluster. A cancelled call ends within 0.1 seconds."""
        limit = check_limit(limit)
        async with self._taking:
            while True:
                self._check_open()
                items = self._table.take(limit, self._clock.now_s())
                if items:
                    return items
                await self._read(limit)

    async def done(self, items: Sequence[Item]) -> None:
        """This work is finished; committed within a second, up to the oldest that is not."""
        self._check_open()
        await anyio.lowlevel.checkpoint()
        touched = {self._forget(int(item.ticket)) for item in items}
        if self._reader is not None:
            self._reader.done({it: self._progress[it].done_to for it in touched if it is not None})

    async def retry(self, item: Item, delay_s: float) -> None:
        """Give this work out again, later: by this worker, which keeps it in memory."""
        self._check_open()
        await anyio.lowlevel.checkpoint()
        self._table.retry(item, self._clock.now_s() + check_delay(delay_s))

    async def lag(self) -> int:
        """How many pieces of work are not done; of other workers' partitions, those that are not committed."""
        await self._make_sure()
        ends = await self._asked(Topic.ends)
        others = [it for it in ends if it not in self._progress]
        done_to = await self._asked(lambda topic: topic.done_to(others)) if others else {}
        return sum(self._lag_of(it, end, done_to.get(it, end)) for it, end in ends.items())

    def _lag_of(self, number: int, end: int, done_to: int) -> int:
        """Of one partition: what this worker knows of its own, else what is committed."""
        progress = self._progress.get(number)
        if progress is None:
            return end - done_to
        return max(0, end - progress.read_to) + progress.undone

    async def aclose(self) -> None:
        """Leave the group; what this worker holds is given to others at once."""
        self._closed = True
        async with self._taking:
            reader, self._reader = self._reader, None
            if reader is not None:
                with anyio.CancelScope(shield=True):
                    await self._in_thread(partial(reader.close, _CLOSE_S))
        if self._puts is not None:
            self._puts.close()
            self._puts = None
        self._topic = None
        await anyio.lowlevel.checkpoint()

    # --- reading ---

    async def _read(self, limit: int) -> None:
        """Read from the topic, for a moment."""
        try:
            await self._make_sure()
            reader = self._joined()
            for it, progress in self._progress.items():
                reader.pace(it, progress.undone >= UNDONE_MAX or progress.span >= AHEAD_MAX)
            wait_s = max(0.0, min(_POLL_S, self._table.wait_s(self._clock.now_s())))
            messages = await self._in_thread(partial(reader.read, limit, wait_s))
        except (UnavailableError, NoAnswerError) as error:
            self._warn(str(error))
            return await anyio.sleep(_POLL_S)
        self._give_up(reader)
        for message in messages:
            self._arrived(message)
        if any(message.error() for message in messages):
            await anyio.sleep(_POLL_S)

    def _arrived(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self._warn(str(error))
            self._is_sure = self._is_sure and error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART
            return
        number, offset = int(message.partition() or 0), int(message.offset() or 0)
        progress = self._progress.get(number)
        if progress is None or offset < progress.read_to:  # given back to us, or the topic is another one
            self._drop(number)
            progress = self._progress[number] = Progress(offset)
        self._is_warned = False
        data, key = message.value(), _text(message.key())
        ticket = self._table.add(bytes(data or b""), key or "", self._clock.now_s())
        progress.read(offset, ticket)
        self._partition_of[ticket] = number
        if data is None or key is None:
            logger.warning("the topic %s holds a message that is no work of chatkit", self._config.topic)
            self._forget(ticket)

    def _warn(self, why: str) -> None:
        """Once, until something is read again."""
        logger.log(logging.INFO if self._is_warned else logging.WARNING, "reading the queue fails: %s", why)
        self._is_warned = True

    def _give_up(self, reader: Reader) -> None:
        """Forget the work of partitions that are somebody else's now."""
        taken_away, reader.taken_away = reader.taken_away, []
        for number in taken_away:
            self._drop(number)

    def _drop(self, number: int) -> None:
        progress = self._progress.pop(number, None)
        if progress is not None:
            self._table.drop(progress.tickets)
            for ticket in progress.tickets:
                del self._partition_of[ticket]

    def _forget(self, ticket: int) -> int | None:
        """This work is done. Returns its partition, None if it is not ours."""
        number = self._partition_of.pop(ticket, None)
        if number is not None:
            self._table.done(ticket)
            self._progress[number].done(ticket)
        return number

    # --- the cluster ---

    def _connection(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self._where,
            "reconnect.backoff.max.ms": _BACKOFF_MAX_MS,
            "topic.metadata.refresh.interval.ms": _METADATA_MS,
            **self._options,
        }

    def _joined(self) -> Reader:
        if self._reader is None:
            self._reader = self._made(partial(Reader, self._connection(), self._config))
        return self._reader

    def _made(self, make: Callable[[], _Result]) -> _Result:
        try:
            return make()
        except (KafkaException, ValueError, TypeError) as error:
            raise ConfigurationError(f"librdkafka refuses an option: {error}") from None

    async def _make_sure(self) -> None:
        """Raises UnavailableError."""
        self._check_open()
        if not self._is_sure:
            await self._asked(Topic.make_sure)
            self._is_sure = True

    async def _asked(self, ask: Callable[[Topic], _Result]) -> _Result:
        topic = self._topic
        if topic is None:
            raise ClosedError("the queue is closed")
        try:
            return await self._in_thread(partial(ask, topic))
        except NoAnswerError as error:
            raise self._unavailable(error) from None

    async def _in_thread(self, call: Callable[[], _Result]) -> _Result:
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    def _unavailable(self, why: object) -> UnavailableError:
        return UnavailableError(f"the queue at kafka://{self._where}: {why}", retry_after_s=_RETRY_S)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the queue is closed")


def _brokers_of(address: str) -> str:
    """`HOST:PORT,HOST:PORT`. Raises ConfigurationError; the message does not hold the address."""
    check_kind("address", address, str)
    scheme, _, rest = address.partition("://")
    brokers = rest.rstrip("/").split(",")
    if scheme != "kafka" or not all(map(_is_broker, brokers)):
        raise ConfigurationError(_GOOD)
    return ",".join(brokers)


def _is_broker(text: str) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        good = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        return False
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{_GOOD}; user and password are options: sasl.username, sasl.password")
    return good and text == parts.netloc and not any(it.isspace() for it in text)


def _name(what: str, name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in {".", ".."}:
        raise ConfigurationError(f"{what} {name!r}: use 1 to 249 ASCII letters, digits, ., _ and -")
    return name


def _text(key: bytes | str | None) -> str | None:
    """The key of a message; None for one that no queue of chatkit has put."""
    try:
        return key.decode("utf-8", "surrogatepass") if isinstance(key, bytes) and key else None
    except UnicodeDecodeError:
        return None
