"""What the adapters to a server have in common: one member that keeps its place there, whatever happens to it.

`RemoteMember` owns one task for as long as it is on the bus. The adapter gives it the means to connect (`Dial`); what
a connection can do is `Carrier`. Nothing here knows NATS or Redis.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import anyio

from .._arguments import check_prefix
from .._auto_reset_event import AutoResetEvent
from .._event_loop import OwnerTask
from ..core.backoff import next_delay
from ..errors import ConfigurationError
from ..ports import Ports
from ._inbox import QUEUE_BYTES_MAX, QUEUE_MAX, Inbox
from ._names import PREFIX, name_of
from ._outbound import PENDING_BYTES_MAX, PENDING_MAX, Outbound, Outgoing
from .base import BusEvent, Message

logger = logging.getLogger(__name__)

DIAL_S = 5.0
"""How long one try to connect may take."""

LEAVE_S = 1.0
"""How long `aclose` waits for the server to take what was published."""

_RETRY_S = 0.2
"""Upper bound of the first wait before the next try to connect; it doubles with each further failure."""

_RETRY_MAX_S = 5.0

_ID_BYTES = 8
"""Each frame begins with its sender's id, so that nobody hears themselves."""


class BrokenError(Exception):
    """A connection could not be made, or has ended; the message says why."""


class Carrier(Protocol):
    """One connection to the server. What its library raises is BrokenError here."""

    async def begin(self, names: Sequence[str]) -> None:
        """Called first and once: subscribe, and return when the server has done it."""

    async def subscribe(self, names: Sequence[str]) -> None:
        """Ask for what is published on these names."""

    async def unsubscribe(self, names: Sequence[str]) -> None:
        """Ask for no more of it."""

    async def publish(self, batch: Sequence[Outgoing]) -> int:
        """Send; may wait for the server. Returns how many it does not take, for their size or for want of a right."""

    async def flush(self) -> None:
        """Return once the server has taken what was published."""

    async def listen(self) -> None:
        """Give what arrives to whoever dialled, until the connection ends, which is a BrokenError."""

    async def aclose(self) -> None:
        """Give the connection up, in bounded time and whatever state it is in."""


class Ears(Protocol):
    """Who is told of what happens on a connection."""

    def hear(self, name: str, frame: bytes) -> None:
        """A frame has arrived."""

    def lose(self) -> None:
        """Something may have been lost."""


Dial = Callable[[Ears], Awaitable[Carrier]]
"""Makes a connection. Raises BrokenError and leaves nothing behind then, nor when it is cancelled."""


class RemoteMember:
    """`bus.base.Bus` for one node, on a server.

    Args:
        where: Names the server for people, without a password.
        dials: One for each server that may be asked, tried in turn.
        prefix: What the names on the server begin with: one for each log, where several share a server.
        ports: The member's id, and how tries are spread.
        queue_max: Messages that wait for the reader; beyond it they are dropped, and the reader is told.
        queue_bytes_max: Bytes of their data.
        pending_max: Messages that wait to be sent; beyond it they are dropped and counted.
        pending_bytes_max: Their bytes.

    Attributes:
        dropped: How many messages were published and not sent: there was no connection, or too much was waiting.
    """

    def __init__(
        self,
        where: str,
        dials: Sequence[Dial],
        *,
        prefix: str = PREFIX,
        ports: Ports | None = None,
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        pending_max: int = PENDING_MAX,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        ports = ports or Ports()
        self._where, self._dials, self._random = where, dials, ports.random
        self._prefix = check_prefix("bus prefix", prefix)
        self._id = ports.ids.token_bytes(_ID_BYTES)
        self._inbox = Inbox(queue_max, queue_bytes_max)
        self._outbound = Outbound(pending_max, pending_bytes_max)
        self._topics: dict[str, str] = {}  # by their names
        self._changed: set[str] = set()  # names that the server has not been told of
        self._owner: OwnerTask | None = None
        self._tries = 0
        self._connected = self._left = False
        self._woken = AutoResetEvent()
        self.dropped = self._reported = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, as far as is known here."""
        return self._connected

    # --- the port ---

    async def connect(self) -> None:
        """Take the place on the bus, and keep it until `aclose`. A second call does nothing.

        Raises:
            ConfigurationError: No server can be reached, or each refuses; or this place was left.
        """
        if self._left:
            raise ConfigurationError("this place on the bus was left; make another one")
        if self._owner is not None:
            return
        carrier = await self._first_carrier()
        if self._left or self._owner is not None:
            await carrier.aclose()
            return
        self._connected = True
        self._owner = OwnerTask()
        self._owner.start(partial(self._stay, carrier))

    def publish(self, topic: str, data: bytes) -> None:
        """Offer a message to the other members; it is dropped and counted where there is no connection, or no room."""
        if self._left:
            return
        if self._connected and self._outbound.offer(name_of(self._prefix, topic), self._id + data):
            self._woken.set()
        else:
            self.dropped += 1

    def subscribe(self, topic: str) -> None:
        """Get what is published on this topic, soon from now on."""
        name = name_of(self._prefix, topic)
        if not self._left and name not in self._topics:
            self._topics[name] = topic
            self._change(name)

    def unsubscribe(self, topic: str) -> None:
        """Get no more of this topic."""
        name = name_of(self._prefix, topic)
        if self._topics.pop(name, None) is not None:
            self._change(name)

    def events(self) -> AsyncGenerator[BusEvent, None]:
        """What arrives, until `aclose`; `Lost` after each new connection, and when the reader was too slow."""
        return self._inbox.events()

    async def aclose(self) -> None:
        """Leave the bus; `events` ends. What was published goes out if the server takes it within a second."""
        self._left = True
        self._inbox.close()
        if self._owner is None:
            return
        if self._connected:
            self._woken.set()
            with anyio.move_on_after(LEAVE_S):
                await self._owner.wait()
        self._owner.cancel()
        with anyio.CancelScope(shield=True):
            await self._owner.wait()

    # --- what the connection says ---

    def hear(self, name: str, frame: bytes) -> None:
        """Hand a frame on, unless it is an own one. One that no member made is handed on too: its reader judges it."""
        topic = self._topics.get(name)
        if topic is not None and not frame.startswith(self._id):
            self._inbox.offer(Message(topic, frame[_ID_BYTES:]))

    def lose(self) -> None:
        """Tell the reader that something may have been lost."""
        self._inbox.lose()

    # --- connections, one after the other ---

    def _change(self, name: str) -> None:
        self._changed.add(name)
        self._woken.set()

    async def _first_carrier(self) -> Carrier:
        for last in range(len(self._dials)):
            try:
                return await self._dial()
            except BrokenError as error:
                if last == len(self._dials) - 1:
                    raise ConfigurationError(f"the bus at {self._where} cannot be reached: {error}") from None
        raise AssertionError("there is at least one server")

    async def _dial(self) -> Carrier:
        """A connection with all subscriptions. Raises BrokenError."""
        dial = self._dials[self._tries % len(self._dials)]
        self._tries += 1
        try:
            with anyio.fail_after(DIAL_S):
                carrier = await dial(self)
                try:
                    self._changed.clear()
                    await carrier.begin(list(self._topics))
                except BaseException:
                    await _close(carrier)
                    raise
        except TimeoutError:
            raise BrokenError(f"no answer within {DIAL_S:g} s") from None
        return carrier

    async def _stay(self, carrier: Carrier) -> None:
        """Keep a connection until this place is left."""
        while True:
            why = await self._serve(carrier)
            if self._left:
                return
            logger.warning("the bus at %s is not connected any more: %s", self._where, why)
            carrier = await self._next_carrier()
            self._inbox.lose()
            logger.warning("the bus at %s is connected again", self._where)

    async def _next_carrier(self) -> Carrier:
        failures = 0
        while True:
            try:
                carrier = await self._dial()
            except BrokenError as error:
                logger.info("the bus at %s cannot be reached: %s", self._where, error)
            except Exception:
                logger.exception("connecting to the bus at %s failed", self._where)
            else:
                self._connected = True
                return carrier
            failures += 1
            spread = self._random.random()
            await anyio.sleep(next_delay(failures, spread, base_s=_RETRY_S, max_s=_RETRY_MAX_S))

    async def _serve(self, carrier: Carrier) -> str:
        """Use a connection until it ends, or this place is left. Returns why it ended."""
        ends: list[str] = []
        try:
            async with anyio.create_task_group() as tasks:

                async def until_it_ends(part: Callable[[], Awaitable[None]]) -> None:
                    ends.append(await _reason(part))
                    tasks.cancel_scope.cancel()

                tasks.start_soon(until_it_ends, carrier.listen)
                tasks.start_soon(until_it_ends, partial(self._write, carrier))
        finally:
            self._connected = False
            self.dropped += self._outbound.clear()
            self._report_dropped()
            await _close(carrier)
        return ends[0]

    async def _write(self, carrier: Carrier) -> None:
        """Carry out what was asked for, until this place is left and nothing is left to do."""
        while True:
            await self._tell_changes(carrier)
            batch = self._outbound.take()
            if batch:
                await self._send(carrier, batch)
            elif self._left:
                return await carrier.flush()
            elif not self._changed:
                self._report_dropped()
                await self._woken.wait()

    async def _send(self, carrier: Carrier, batch: Sequence[Outgoing]) -> None:
        dropped = len(batch)  # nobody knows how many have arrived if the connection ends meanwhile
        try:
            dropped = await carrier.publish(batch)
        finally:
            self.dropped += dropped

    async def _tell_changes(self, carrier: Carrier) -> None:
        if self._changed:
            changed, self._changed = self._changed, set()
            await carrier.subscribe([name for name in changed if name in self._topics])
            await carrier.unsubscribe([name for name in changed if name not in self._topics])

    def _report_dropped(self) -> None:
        if self.dropped != self._reported:
            logger.warning(
                "%d messages to other nodes were not sent over the bus", self.dropped - self._reported
            )
            self._reported = self.dropped


async def _reason(part: Callable[[], Awaitable[None]]) -> str:
    """Run a part of a connection's work. Returns why it ended; what nobody foresaw is logged."""
    try:
        await part()
    except BrokenError as error:
        return str(error)
    except Exception as error:
        logger.exception("the bus failed")
        return repr(error)
    return "it was left"


async def _close(carrier: Carrier) -> None:
    with anyio.CancelScope(shield=True):
        await carrier.aclose()
