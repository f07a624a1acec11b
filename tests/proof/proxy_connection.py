"""One connection through a `FaultyProxy`: two lanes, each of which hands bytes on as the faults in force allow.

Sockets are used bare, because a fault must be exact: a reset is no orderly close, half a close is none, and what the
proxy holds is bounded. Called by `proxy` alone.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

import anyio
import anyio.lowlevel
import msgspec

from chatkit._auto_reset_event import AutoResetEvent
from chatkit.testing.rng import Rng

from .toxics import Flow, Toxic

HELD_BYTES_MAX = 256 * 1024
"""What a lane holds at most; from there on it takes nothing more from its source."""

_KERNEL_BYTES = (
    256 * 1024
)  # so that a side that is not read from feels it soon; much less makes loopback crawl
_RECEIVE_BYTES = 64 * 1024
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: `close` sends RST

Direction = Literal["up", "down"]
Address = tuple[int, Any]
"""A socket's family, and what its `connect` takes."""


class Traffic(msgspec.Struct):
    """What went through a proxy so far.

    Attributes:
        connections: Taken since the beginning.
        open: Still open.
        cuts: Ended by the proxy: by a toxic, `cut_all` or `down`.
        up_bytes: Handed on to the server.
        down_bytes: Handed on to clients.
        dropped_bytes: Vanished, in both directions.
        held_bytes: Waiting in the proxy, in both directions.
    """

    connections: int = 0
    open: int = 0
    cuts: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    dropped_bytes: int = 0
    held_bytes: int = 0


class Meter:
    """The running count, and the call to those who wait for it to move."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._waited: anyio.Event | None = None

    def moved(self) -> None:
        """Something was counted."""
        if self._waited is not None:
            self._waited.set()
            self._waited = None

    async def wait_moved(self) -> None:
        """Return once something was counted after this call."""
        self._waited = self._waited or anyio.Event()
        await self._waited.wait()


class Fault:
    """A toxic in force; what `FaultyProxy.add` returns, to change or remove it by.

    Attributes:
        number: Counts the faults of a proxy from 1.
        toxic: What it does now.
        directions: Where.
        toxicity: To which share of the connections.
        newest: Number of the last connection it may touch; None for no such bound.
    """

    def __init__(
        self,
        number: int,
        toxic: Toxic,
        directions: Sequence[Direction],
        toxicity: float,
        newest: int | None,
    ) -> None:
        self.number = number
        self.toxic = toxic
        self.directions = directions
        self.toxicity = toxicity
        self.newest = newest

    def __repr__(self) -> str:
        return f"<Fault {self.number} {self.toxic} {'/'.join(self.directions)}>"

    def touches(self, connection: int, rng: Rng) -> bool:
        """Whether it acts on this connection; the same answer for the same seed."""
        if self.newest is not None and connection > self.newest:
            return False
        draw = rng.stream(f"fault {self.number} connection {connection}").random()
        return draw < self.toxicity

    def flow(self, connection: int, direction: Direction, rng: Rng) -> Flow:
        """Its beginning in one direction of a connection."""
        stream = rng.stream(f"fault {self.number} connection {connection} {direction}")
        now_s = anyio.current_time()
        return Flow(stream, now_s, 0, now_s)


class _Piece(msgspec.Struct):
    """Bytes as they came; none of them is the end of the stream, `broken` if that was a reset."""

    data: memoryview
    arrived_s: float
    broken: bool = False


class _Step(msgspec.Struct, frozen=True):
    """What goes next, and when by each fault in force; the last of them decides."""

    size: int
    dues_s: list[float]


class Lane:
    """One direction of a connection. Bytes wait here, in order, until every fault lets them on.

    Args:
        direction: Which one.
        source: Where bytes come from.
        sink: Where they go.
        meter: Counts them.
        cut: Ends the connection, by a reset or not.
    """

    def __init__(
        self,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
        meter: Meter,
        cut: Callable[[bool], None],
    ) -> None:
        self.direction = direction
        self._source = source
        self._sink = sink
        self._meter = meter
        self._cut = cut
        self._flows: dict[Fault, Flow] = {}
        self._version = 0
        self._lost = False
        self._queue: deque[_Piece] = deque()
        self._held_bytes = 0
        self._arrived, self._taken, self._changed = AutoResetEvent(), AutoResetEvent(), AutoResetEvent()

    def put(self, fault: Fault, flow: Flow) -> None:
        """A fault begins to act."""
        self._flows[fault] = flow

    def drop(self, fault: Fault) -> None:
        """A fault is over, if it acted here at all."""
        self._flows.pop(fault, None)

    def refresh(self) -> None:
        """The faults are others than before: what waits is looked at again."""
        self._version += 1
        self._changed.set()

    def endings(self) -> list[tuple[float, bool]]:
        """When each fault ends the connection, and whether by a reset."""
        return [(fault.toxic.ends_s(flow), fault.toxic.resets) for fault, flow in self._flows.items()]

    def forget(self) -> None:
        """What is left here is lost with the connection."""
        self._count(-self._held_bytes)

    async def run(self) -> None:
        """Move bytes until the end of the stream was handed on, or the sink takes no more.

        Raises:
            BrokenResourceError: The source was reset, and that has got through.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._fill)
            with suppress(OSError):  # the sink is gone; what it says of that itself comes by the other lane
                await self._drain()
            tasks.cancel_scope.cancel()

    # --- in ---

    async def _fill(self) -> None:
        while True:
            data, broken = await self._receive()
            self._queue.append(_Piece(memoryview(data), anyio.current_time(), broken))
            self._count(len(data))
            self._arrived.set()
            if not data:
                return

    async def _receive(self) -> tuple[bytes, bool]:
        while self._held_bytes >= HELD_BYTES_MAX:
            await self._taken.wait()
        room = min(_RECEIVE_BYTES, HELD_BYTES_MAX - self._held_bytes)
        try:
            return await _receive(self._source, room), False
        except OSError:
            return b"", True

    # --- out ---

    async def _drain(self) -> None:
        ended = False
        while not ended:
            while not self._queue:
                await self._arrived.wait()
            piece = self._queue[0]
            step = self._plan(piece)
            if not await self._reached(step):
                continue
            ended = not piece.data
            await (self._finish(piece) if ended else self._hand_on(piece, step))

    def _plan(self, piece: _Piece) -> _Step:
        size, at_s = len(piece.data), piece.arrived_s
        for fault, flow in self._flows.items():
            size = fault.toxic.size(size, flow)
        dues_s = []
        for fault, flow in self._flows.items():
            at_s = fault.toxic.due_s(at_s, size, flow)
            dues_s.append(at_s)
        return _Step(size, dues_s)

    async def _reached(self, step: _Step) -> bool:
        """Wait until a step is due. False if the faults changed meanwhile, so that it is none any more."""
        version = self._version
        at_s = step.dues_s[-1] if step.dues_s else -math.inf
        while (wait_s := at_s - anyio.current_time()) > 0:
            await self._changed.wait(wait_s)
            if version != self._version:
                return False
        return True

    async def _hand_on(self, piece: _Piece, step: _Step) -> None:
        flows = list(self._flows.values())
        data, piece.data = piece.data[: step.size], piece.data[step.size :]
        if not piece.data:
            self._queue.popleft()
        await self._deliver(data)
        for flow, due_s in zip(flows, step.dues_s, strict=True):
            flow.passed_bytes += step.size
            flow.last_s = due_s
        self._count(-step.size)
        self._taken.set()
        self._cut_if_due()
        await anyio.lowlevel.checkpoint()  # so that each piece leaves as a segment of its own

    async def _deliver(self, data: memoryview) -> None:
        traffic = self._meter.traffic
        if self._drops:
            self._lost = True
            traffic.dropped_bytes += len(data)
            return
        await _send_all(self._sink, data)
        if self.direction == "up":
            traffic.up_bytes += len(data)
        else:
            traffic.down_bytes += len(data)

    async def _finish(self, piece: _Piece) -> None:
        if self._drops:
            await anyio.sleep_forever()
        if piece.broken:
            raise anyio.BrokenResourceError
        self._sink.shutdown(socket.SHUT_WR)

    @property
    def _drops(self) -> bool:
        return self._lost or any(fault.toxic.drops for fault in self._flows)

    def _cut_if_due(self) -> None:
        """A toxic that counts ends the connection by what has gone on; those that wait do so by the deadline."""
        now_s = anyio.current_time()
        for ends_s, resets in self.endings():
            if ends_s <= now_s:
                self._cut(resets)

    def _count(self, held_bytes: int) -> None:
        self._held_bytes += held_bytes
        self._meter.traffic.held_bytes += held_bytes
        self._meter.moved()


class Connection:
    """One connection, from the client that was accepted to the last byte.

    Args:
        number: Counts the connections of a proxy from 1.
        client: The accepted socket.
        meter: Counts.
        rng: The proxy's.
    """

    def __init__(self, number: int, client: socket.socket, meter: Meter, rng: Rng) -> None:
        self._number = number
        self._client = client
        self._meter = meter
        self._rng = rng
        self._scope = anyio.CancelScope()
        self._lanes: list[Lane] = []
        self._reset = False
        self.closed = anyio.Event()

    async def run(self, addresses: Sequence[Address], faults: Iterable[Fault]) -> None:
        """Serve it to its end.

        Args:
            addresses: Of the server, tried in turn; if none answers, the client is reset.
            faults: Those in force; looked at once the server has answered.
        """
        sockets = [self._client]
        try:
            with self._scope:
                server = await _connect(addresses)
                sockets.append(server)
                await self._serve(server, faults)
        except* (OSError, anyio.BrokenResourceError):
            self._reset = True
        finally:
            self._close(sockets)

    def put(self, fault: Fault) -> None:
        """A fault is added; whether it acts here is drawn."""
        if fault.touches(self._number, self._rng):
            for lane in self._lanes:
                if lane.direction in fault.directions:
                    lane.put(fault, fault.flow(self._number, lane.direction, self._rng))
        self.refresh()

    def drop(self, fault: Fault) -> None:
        """A fault is removed."""
        for lane in self._lanes:
            lane.drop(fault)
        self.refresh()

    def refresh(self) -> None:
        """The faults are others than before, or other in kind."""
        for lane in self._lanes:
            lane.refresh()
        self._scope.deadline = min((ends_s for ends_s, _ in self._endings()), default=math.inf)

    def cut(self, reset: bool) -> None:
        """End it now; `closed` follows."""
        self._reset = self._reset or reset
        self._scope.cancel()

    async def _serve(self, server: socket.socket, faults: Iterable[Fault]) -> None:
        self._lanes = [
            Lane("up", self._client, server, self._meter, self.cut),
            Lane("down", server, self._client, self._meter, self.cut),
        ]
        for fault in faults:
            self.put(fault)
        async with anyio.create_task_group() as tasks:
            for lane in self._lanes:
                tasks.start_soon(lane.run)

    def _close(self, sockets: Iterable[socket.socket]) -> None:
        now_s = anyio.current_time()
        reset = self._reset or any(resets and ends_s <= now_s for ends_s, resets in self._endings())
        for each in sockets:
            _close(each, reset)
        for lane in self._lanes:
            lane.forget()
        self._meter.traffic.open -= 1
        self._meter.traffic.cuts += self._scope.cancel_called
        self._meter.moved()
        self.closed.set()

    def _endings(self) -> list[tuple[float, bool]]:
        return [ending for lane in self._lanes for ending in lane.endings()]


def tune(each: socket.socket) -> socket.socket:
    """Make a socket ready for a connection: it never blocks, delays nothing and buffers little."""
    each.setblocking(False)
    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
    return each


async def _connect(addresses: Sequence[Address]) -> socket.socket:
    """A socket to the first address that answers. Raises OSError: none does."""
    *others, last = addresses
    for address in others:
        with suppress(OSError):
            return await _connect_to(address)
    return await _connect_to(last)


async def _connect_to(address: Address) -> socket.socket:
    family, where = address
    made = tune(socket.socket(family, socket.SOCK_STREAM))
    try:
        code = made.connect_ex(where)
        if code == errno.EINPROGRESS:
            await anyio.wait_writable(made)
            code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        made.close()
        raise
    return made


async def _receive(source: socket.socket, most: int) -> bytes:
    while True:
        try:
            return source.recv(most)
        except BlockingIOError:
            await anyio.wait_readable(source)


async def _send_all(sink: socket.socket, data: memoryview) -> None:
    while data:
        try:
            data = data[sink.send(data) :]
        except BlockingIOError:
            await anyio.wait_writable(sink)


def _close(each: socket.socket, reset: bool) -> None:
    with suppress(OSError):  # the other side may be gone already
        if reset:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        else:
            each.shutdown(socket.SHUT_WR)
    each.close()
