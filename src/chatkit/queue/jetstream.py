"""The queue on NATS JetStream: a stream that keeps what is not done, and one consumer shared by all workers.

Needs nats-py, which is made for asyncio: `pip install "chatkit-engine[nats]"`, and nats-server from 2.9 with JetStream.
"""

from __future__ import annotations

import binascii
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import anyio.lowlevel
import msgspec

from .._arguments import check_number, check_prefix
from ..core.backoff import next_delay
from ..drivers.nats import NatsClient, servers_of, url_of
from ..errors import ClosedError, ConfigurationError, UnavailableError
from ..ports import Ports
from ._jetstream import Arrival, BrokenError, JetStreamConnection, MissingError
from ._jetstream_config import StreamConfig
from .base import Item, check_delay, check_limit, check_put

logger = logging.getLogger(__name__)

ITEMS_MAX = 100_000
VISIBILITY_S = 30.0
WAIT_S = 5.0

_SCHEMES = {"jetstream": False, "jetstream+tls": True}
_GOOD = "a queue on JetStream has an address such as jetstream://HOST:4222 or jetstream+tls://USER:PASSWORD@HOST:4222"
_DIAL_S = 5.0
_RETRY_S = 0.1
"""Upper bound of the first wait before the next try; it doubles with each further failure."""

_RETRY_MAX_S = 1.0
_DELAY_MAX_S = 366 * 86_400.0
_PUT_ID_BYTES = 16
_ANSWERS_AT_ONCE = 64

_Result = TypeVar("_Result")


class JetStreamQueue:
    """`queue.base.Queue` on a NATS server or cluster with JetStream.

    The stream `PREFIX-queue` and its consumer `workers` are made if they are not there, also when they vanish
    later; a stream that is there keeps its bounds. A key is one token of a subject, encoded, so that it names no other.

    A put returns when the server has stored the message, on a majority of its replicas. The server writes to its
    disk, and flushes that every two minutes unless it is told otherwise (`sync_interval`): after a power cut of a
    single server the newest may be gone.

    Args:
        address: `jetstream://HOST:PORT`, or `jetstream+tls://` for a server that must speak TLS; several servers of a
            cluster, separated by commas, are tried in turn. With `USER:PASSWORD@` or `TOKEN@` before the host; special
            characters in them percent-encoded.
        prefix: Names on the server begin with it: one for each log, where several share a server.
        replicas: On how many servers of a cluster the stream is kept: 1, 3 or 5.
        items_max: Pieces of work that are not done; further ones are refused.
        visibility_s: How long a taken item is left to its worker. All workers must be given the same.
        wait_s: How long anything but `take` waits for the server.
        ports: Clock, ids, and how tries are spread.

    Raises:
        ConfigurationError: No such address, or one of the numbers is none.
    """

    def __init__(
        self,
        address: str,
        *,
        prefix: str = "chatkit",
        replicas: int = 1,
        items_max: int = ITEMS_MAX,
        visibility_s: float = VISIBILITY_S,
        wait_s: float = WAIT_S,
        ports: Ports | None = None,
    ) -> None:
        check_number("replicas", replicas, whole=True)
        check_number("items_max", items_max, whole=True)
        check_number("visibility_s", visibility_s)
        check_number("wait_s", wait_s)
        self._servers = servers_of(address, _SCHEMES, _GOOD)
        self._config = StreamConfig(check_prefix("prefix", prefix), items_max, visibility_s, replicas)
        self._wait_s = wait_s
        self._ports = ports or Ports()
        self._held: OrderedDict[str, float] = (
            OrderedDict()
        )  # the tickets that were given out here, and until when
        self._newest = 0  # the number of the newest delivery
        self._streams = 0  # how often the stream was seen to be another one
        self._dialing, self._taking = anyio.Lock(), anyio.Lock()
        self._connection: JetStreamConnection | None = None
        self._tries = 0
        self._why = "it was not tried"
        self._closed = False

    # --- the port ---

    async def connect(self) -> None:
        """Make the connection, the stream and the consumer.

        Raises:
            ConfigurationError: No server can be reached, or each refuses, or the stream is somebody else's.
        """
        try:
            await self._bounded(self._nothing)
        except UnavailableError as error:
            raise ConfigurationError(str(error)) from None

    async def put(self, data: bytes, key: str) -> None:
        """Add a piece of work. A put that was not answered is repeated under one id, which adds it once.

        Raises:
            OverloadedError: The stream is full.
            UnavailableError: The server did not answer in time; the item may have been added.
        """
        check_put(data, key)
        put_id = self._ports.ids.token_bytes(_PUT_ID_BYTES).hex()
        token = _token_of(key)
        await self._bounded(lambda connection: connection.put(token, data, put_id))

    async def take(self, limit: int) -> list[Item]:
        """Wait for work that is due, also through failures of the server."""
        limit = check_limit(limit)
        async with self._taking:
            while True:
                arrivals = await self._carried_out(lambda connection: connection.pull(limit))
                items = [item for arrival in arrivals if (item := self._item(arrival)) is not None]
                await self._refuse(
                    {it.message.reply for it in arrivals} - {_reply_in(item.ticket) for item in items}
                )
                if items:
                    return items

    async def done(self, items: Sequence[Item]) -> None:
        """This work is finished; returns when the server has noted it."""
        self._check_open()
        tickets = {str(item.ticket) for item in items}
        for ticket in tickets:
            self._held.pop(ticket, None)
        replies = {reply for ticket in tickets if (reply := self._reply_of(ticket))}
        if replies:
            await self._bounded(lambda connection: _answer_all(connection, replies, b"+ACK"))
        else:
            await anyio.lowlevel.checkpoint()

    async def retry(self, item: Item, delay_s: float) -> None:
        """Give this work out again, later. At most a year later."""
        self._check_open()
        delay_s = min(check_delay(delay_s), _DELAY_MAX_S)
        held_until_s = self._held.pop(str(item.ticket), 0.0)
        reply = self._reply_of(str(item.ticket))
        if self._ports.clock.now_s() >= held_until_s:
            return await anyio.lowlevel.checkpoint()
        when = b" " + msgspec.json.encode({"delay": int(delay_s * 1e9)}) if delay_s else b""
        await self._bounded(lambda connection: connection.answer(reply, b"-NAK" + when))

    async def lag(self) -> int:
        """How many pieces of work are not done, as the consumer counts them."""
        return await self._bounded(JetStreamConnection.lag)

    async def aclose(self) -> None:
        """End the connection; what this worker holds comes again in its time."""
        self._closed = True
        await self._drop(self._connection)
        async with self._dialing:
            await self._drop(self._connection)  # one that was being made meanwhile

    # --- items ---

    async def _refuse(self, foreign: set[str]) -> None:
        """Have messages removed that no queue of chatkit has put."""
        if foreign:
            logger.warning(
                "%d messages in the stream %s are no work of chatkit", len(foreign), self._config.stream
            )
            await self._carried_out(lambda connection: _answer_all(connection, foreign, b"+TERM"))

    def _item(self, arrival: Arrival) -> Item | None:
        """The item of a message, held since it came; None for one that no queue of chatkit has put."""
        message = arrival.message
        self._notice(message.metadata.sequence.consumer)
        key = _key_of(message.subject)
        if key is None:
            return None
        ticket = f"{self._streams} {message.reply}"
        self._held[ticket] = arrival.at_s + self._config.visibility_s
        return Item(message.data, key, message.metadata.num_delivered, ticket)

    def _notice(self, number: int) -> None:
        """Forget what is held no more. A consumer numbers its deliveries; they begin again with another stream."""
        if number <= self._newest:
            self._streams += 1
            self._held.clear()
        self._newest = number
        now_s = self._ports.clock.now_s()
        while self._held and next(iter(self._held.values())) <= now_s:
            del self._held[next(iter(self._held))]

    def _reply_of(self, ticket: str) -> str:
        """Where the server is told of it; empty for one of a stream that is gone: its number may be another item's."""
        stream = ticket.partition(" ")[0]
        return _reply_in(ticket) if stream == str(self._streams) else ""

    # --- connections ---

    async def _bounded(self, call: Callable[[JetStreamConnection], Awaitable[_Result]]) -> _Result:
        with anyio.move_on_after(self._wait_s):
            return await self._carried_out(call)
        where = ",".join(map(url_of, self._servers))
        raise UnavailableError(
            f"the queue at {where} does not answer: {self._why}", retry_after_s=_RETRY_MAX_S
        )

    async def _carried_out(self, call: Callable[[JetStreamConnection], Awaitable[_Result]]) -> _Result:
        """Do something, again and again until the server has done it."""
        failures = 0
        while True:
            try:
                result = await self._once(call)
            except (BrokenError, MissingError) as error:
                self._why = str(error)
                logger.log(
                    logging.INFO if failures else logging.WARNING, "the queue is not reached: %s", error
                )
            else:
                if failures:
                    logger.info("the queue is reached again")
                return result
            failures += 1
            spread = self._ports.random.random()
            await anyio.sleep(next_delay(failures, spread, base_s=_RETRY_S, max_s=_RETRY_MAX_S))

    async def _once(self, call: Callable[[JetStreamConnection], Awaitable[_Result]]) -> _Result:
        connection = await self._connected()
        try:
            return await call(connection)
        except BrokenError:
            await self._drop(connection)
            raise
        except MissingError:
            connection.is_sure = False
            raise

    async def _connected(self) -> JetStreamConnection:
        """A connection with a stream and a consumer behind it. Raises BrokenError, MissingError."""
        async with self._dialing:
            self._check_open()
            if self._connection is None or not self._connection.is_open:
                await self._drop(self._connection)
                self._connection = await self._dial()
            connection = self._connection
            if not connection.is_sure:
                await self._make_sure(connection)
            return connection

    async def _make_sure(self, connection: JetStreamConnection) -> None:
        try:
            await connection.make_sure()
        except (BrokenError, MissingError):  # this server may be cut off from the others
            await self._drop(connection)
            raise

    async def _dial(self) -> JetStreamConnection:
        server = self._servers[self._tries % len(self._servers)]
        self._tries += 1
        connection = JetStreamConnection(NatsClient(server), self._config, self._ports.clock)
        try:
            with anyio.fail_after(_DIAL_S):
                await connection.open()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await connection.aclose()
            if isinstance(error, TimeoutError):
                raise BrokenError(f"no answer within {_DIAL_S:g} s") from None
            raise
        return connection

    async def _drop(self, connection: JetStreamConnection | None) -> None:
        if self._connection is connection:
            self._connection = None
        if connection is None:
            return await anyio.lowlevel.checkpoint()
        with anyio.CancelScope(shield=True):
            await connection.aclose()

    async def _nothing(self, connection: JetStreamConnection) -> None:
        """To be connected is enough."""

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the queue is closed")


async def _answer_all(connection: JetStreamConnection, replies: set[str], what: bytes) -> None:
    """Raises the first BrokenError."""
    waiting = list(replies)

    async def answer_some() -> None:
        while waiting and not failed:
            try:
                await connection.answer(waiting.pop(), what)
            except BrokenError as error:
                failed.append(error)

    failed: list[BrokenError] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(min(_ANSWERS_AT_ONCE, len(replies))):
            tasks.start_soon(answer_some)
    if failed:
        raise failed[0]


def _reply_in(ticket: int | str) -> str:
    return str(ticket).partition(" ")[2]


def _token_of(key: str) -> str:
    """A key as one token of a subject: no blank, dot, wildcard or control character. Two keys never have the same."""
    return urlsafe_b64encode(key.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


def _key_of(subject: str) -> str | None:
    token = subject.rpartition(".")[2]
    try:
        key = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return None
    return key if _token_of(key) == token else None
