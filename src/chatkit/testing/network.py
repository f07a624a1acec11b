"""A network in memory that fails on demand: real clients on one side, real servers on the other, faulty lines between.

The server's end of a line does what `gateway.websocket_asgi` does with a socket; the client's end is a `Transport`.
Whatever waits does so with anyio, so on a virtual clock hours cost nothing; whatever is drawn comes from one stream.

    async with Network(Rng(1).stream("network")) as network:
        network.attach("n-1", server)
        connector = network.connector("alice", "phone", lambda: "n-1")
        async with ChatClient("ws://n-1", token="alice", device_id="phone", connector=connector) as client:
            ...
            network.lines[0].stall(up=True, down=True)
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from ..core.connection import State
from ..errors import ConfigurationError
from ..ports import Random
from ..server.server import ChatServer
from ..server.session import Session
from ..transport.base import ABNORMAL, Connector, Transport, TransportClosedError
from ..wire.codec import CODECS, Codec
from ..wire.events import CloseCode
from .line import LOST, Carrier, Closed, Conditions, End, Frames, Line, Opened
from .websocket_bytes import ClientBytes, ServerBytes

__all__ = ["Conditions", "Line", "LineEvent", "Network", "Observe", "ObserveLine"]

HANDSHAKE_TIMEOUT_S = 10.0
"""A line that was not opened by then is dropped by the server."""

CLOSE_TIMEOUT_S = 5.0
"""For so long a session that is closed may still be read out; then its line breaks."""

LineEvent = Literal["opened", "client ended", "server ended"]

Observe = Callable[[Line, bool, bytes | str], None]
"""Called for each frame when it arrives: the line, whether upwards (to the server), the frame."""

ObserveLine = Callable[[Line, LineEvent, int | None], None]
"""Called when a server takes a line, and when each end has ended, with the close code that this end gave or saw."""


class Network:
    """Lines between clients and servers. Use as `async with`; leaving it breaks every line.

    A fault of a server that shows while it is handed a frame ends the `async with` with that error.

    Args:
        rng: Draws everything.
        conditions: Those at the beginning.
        observe: Called for every frame that arrives.
        observe_line: Called at the beginning and the ends of each line.
        window_bytes: So much may be under way in each direction of a line before its sender waits; a frame above that
            travels alone.

    Attributes:
        lines: Those of which an end is open, in order of opening; a line that is just being opened is one of them.

    Raises:
        ConfigurationError: The conditions are none.
    """

    def __init__(
        self,
        rng: Random,
        *,
        conditions: Conditions = Conditions(),  # noqa: B008 -- frozen
        observe: Observe | None = None,
        observe_line: ObserveLine | None = None,
        window_bytes: int = 65_536,
    ) -> None:
        self.lines: list[Line] = []
        self._rng = rng
        self._conditions = _checked(conditions)
        self._observe = observe
        self._observe_line = observe_line
        self._window_bytes = window_bytes
        self._servers: dict[str, ChatServer] = {}
        self._ends: dict[int, tuple[_ClientEnd, _ServerEnd]] = {}
        self._line_count = 0
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None, "entered before it is left"
        tasks, self._tasks = self._tasks, None
        self._break_all()
        tasks.cancel_scope.cancel()
        try:
            return await tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise
            return None  # the host's own error goes on as it is

    @property
    def conditions(self) -> Conditions:
        """How the network behaves now; to be replaced as a whole, at any time, for every line at once.

        Raises:
            ConfigurationError: What is set is no `Conditions`.
        """
        return self._conditions

    @conditions.setter
    def conditions(self, conditions: Conditions) -> None:
        self._conditions = _checked(conditions)
        for line in self.lines:
            line.up.conditions_changed()
            line.down.conditions_changed()

    def attach(self, node: str, server: ChatServer) -> None:
        """Let connections be made to a server, under this name.

        Raises:
            ConfigurationError: The name is taken; detach the server that has it first.
        """
        if node in self._servers:
            raise ConfigurationError(f"another server is attached as {node}")
        self._servers[node] = server

    def detach(self, node: str) -> None:
        """The node has died, and its port with it; nothing if it is not attached.

        From now on nothing that its sessions write leaves, and nothing reaches them: the server may be cancelled, or
        drain, and nobody sees what it says then. Its clients see their lines break, unless a direction is stalled.
        """
        self._servers.pop(node, None)
        for _, server_end in list(self._ends.values()):
            if server_end.line.node == node:
                server_end.end(LOST)

    def connector(
        self, user_id: str, device_id: str, choose: Callable[[], str | None], *, sliced: bool = False
    ) -> Connector:
        """A client's way into the network.

        Args:
            user_id: Names its lines.
            device_id: Names its lines.
            choose: Called for each connection: the node to go to. None, or a name that is not attached, is refused.
            sliced: Carry each line as the bytes of a real WebSocket in small slices, instead of frame by frame.

        Raises:
            ConfigurationError: `choose` cannot be called.
        """
        if not callable(choose):
            raise ConfigurationError(
                f"choose must be a function that names the node, as in lambda: 'node', not {choose!r}"
            )
        return _Connector(self, user_id, device_id, choose, sliced=sliced)

    # --- for what lives in this module ---

    async def _open(
        self, user_id: str, device_id: str, node: str | None, subprotocol: str, *, sliced: bool
    ) -> Transport:
        await anyio.sleep(self._latency_s() + self._latency_s())
        refused = self._rng.random() < self._conditions.refuse_probability
        server = None if node is None else self._servers.get(node)
        if refused or node is None or server is None or self._tasks is None:
            raise TransportClosedError(ABNORMAL, "connection refused")
        line = self._line(user_id, device_id, node, subprotocol)
        client_end = _ClientEnd(self, line, ClientBytes(subprotocol, self._rng) if sliced else Frames())
        server_end = _ServerEnd(self, line, ServerBytes(self._rng) if sliced else Frames(), server)
        self._ends[line.number] = client_end, server_end
        self._tasks.start_soon(server_end.run)
        await client_end.open()
        return client_end

    def _line(self, user_id: str, device_id: str, node: str, subprotocol: str) -> Line:
        self._line_count += 1
        line = Line(
            self._line_count,
            node,
            user_id,
            device_id,
            subprotocol,
            conditions=lambda: self._conditions,
            rng=self._rng,
            window_bytes=self._window_bytes,
        )
        self.lines.append(line)
        return line

    def _latency_s(self) -> float:
        return self._conditions.latency(self._rng.random())

    def _arrived(self, line: Line, frame: bytes | str, *, up: bool) -> None:
        if self._observe is not None:
            self._observe(line, up, frame)

    def _happened(self, line: Line, event: LineEvent, code: int | None = None) -> None:
        if self._observe_line is not None:
            self._observe_line(line, event, code)

    def _ended(self, line: Line) -> None:
        """An end of it has ended; with both, the line is gone."""
        if all(end.ended is not None for end in self._ends[line.number]):
            del self._ends[line.number]
            self.lines.remove(line)

    def _break_all(self) -> None:
        self._servers.clear()
        for client_end, server_end in list(self._ends.values()):
            client_end.line.cut()
            server_end.end(LOST)
            client_end.end(LOST)


def _checked(conditions: object) -> Conditions:
    if not isinstance(conditions, Conditions):
        raise ConfigurationError(
            f"conditions must be Conditions(...), not {conditions!r}; Conditions() is a good network"
        )
    return conditions


class _Connector:
    """One client's `Connector`."""

    def __init__(
        self,
        network: Network,
        user_id: str,
        device_id: str,
        choose: Callable[[], str | None],
        *,
        sliced: bool,
    ) -> None:
        self._network = network
        self._user_id = user_id
        self._device_id = device_id
        self._choose = choose
        self._sliced = sliced

    async def connect(self, subprotocol: str) -> Transport:
        """Open one connection. Raises TransportClosedError."""
        node = self._choose()
        return await self._network._open(
            self._user_id, self._device_id, node, subprotocol, sliced=self._sliced
        )


class _ClientEnd(End):
    """The client's end of a line: its `Transport`."""

    def __init__(self, network: Network, line: Line, carrier: Carrier) -> None:
        super().__init__(line, carrier, out=line.up, into=line.down)
        self._network = network

    async def open(self) -> None:
        """Ask for the line's subprotocol. Raises TransportClosedError if the line breaks or the server refuses."""
        try:
            self.say(Opened(self.line.subprotocol))
            while await self._next() != Opened(self.line.subprotocol):
                continue  # a server that chose nothing closes
        except BaseException:
            self.end(LOST)
            raise

    async def receive(self) -> bytes | str:
        """The next frame. Raises TransportClosedError once the connection has ended."""
        frame = await self._next()
        assert isinstance(frame, bytes | str), "a line is opened once"
        self._network._arrived(self.line, frame, up=False)
        return frame

    async def send(self, frame: bytes | str) -> None:
        """Hand a frame to the line; waits while its window is full. Raises TransportClosedError."""
        self._check_open()
        await self.say_frame(frame)
        self._check_open()
        await anyio.lowlevel.checkpoint()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the connection without waiting for the server. A second call does nothing."""
        self.close(code, reason)

    def on_end(self) -> None:
        """Tell the network."""
        assert self.ended is not None
        self._network._happened(self.line, "client ended", self.ended.code)
        self._network._ended(self.line)

    async def _next(self) -> bytes | str | Opened:
        self._check_open()
        message = await self.hear()
        if isinstance(message, Closed):
            self.end(message)
            raise self._closed_error()
        return message

    def _check_open(self) -> None:
        if self.ended is not None:
            raise self._closed_error()

    def _closed_error(self) -> TransportClosedError:
        assert self.ended is not None
        return TransportClosedError(self.ended.code, self.ended.reason)


class _ServerEnd(End):
    """The server's end of a line: pumps frames between it and a session, as `gateway.websocket_asgi` does."""

    def __init__(self, network: Network, line: Line, carrier: Carrier, server: ChatServer) -> None:
        super().__init__(line, carrier, out=line.down, into=line.up)
        self._network = network
        self._server = server
        self._session: Session | None = None
        self._scope = anyio.CancelScope()
        self._woken = anyio.Event()
        self._drained = anyio.Event()

    async def run(self) -> None:
        """From the opening until the session, the line or the node has ended."""
        try:
            with self._scope:
                codec = await self._accept()
                if codec is not None:
                    await self._serve(codec)
        finally:
            self.end(LOST)

    def on_end(self) -> None:
        """The session is gone for the server; what it still writes goes nowhere."""
        assert self.ended is not None
        if self._session is not None:
            self._server.disconnected(self._session)
        self._scope.cancel()
        self._network._happened(self.line, "server ended", self.ended.code)
        self._network._ended(self.line)

    async def _accept(self) -> Codec | None:
        """What is spoken from now on; None if the line comes to nothing."""
        with anyio.move_on_after(HANDSHAKE_TIMEOUT_S):
            asked = await self.hear()
            if not isinstance(asked, Opened) or not self._server.running:
                return None
            codec = CODECS.get(asked.subprotocol or "")
            self.say(Opened(None if codec is None else codec.subprotocol))
            if codec is None:
                self.close(CloseCode.VERSION_NOT_SUPPORTED, "no known subprotocol offered")
            return codec
        return None

    async def _serve(self, codec: Codec) -> None:
        session = self._session = self._server.connect(codec, self._wake)
        self._network._happened(self.line, "opened")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, session)
            await self._read(session)

    def _wake(self) -> None:
        self._woken.set()
        if self._session is not None and self._session.close_code is not None:
            deadline_s = anyio.current_time() + CLOSE_TIMEOUT_S
            self._scope.deadline = min(self._scope.deadline, deadline_s)

    async def _read(self, session: Session) -> None:
        """Until the client is gone. What arrives after the session was closed is not looked at."""
        while not isinstance(message := await self.hear(), Closed):
            if session.state is State.CLOSED:
                continue
            assert isinstance(message, bytes | str), "a line is opened once"
            self._network._arrived(self.line, message, up=True)
            session.received(message, self._server.ports.clock.now_s())
            while session.congested and session.close_code is None:
                self._drained = anyio.Event()
                await self._drained.wait()
        self.end(message)

    async def _write(self, session: Session) -> None:
        """Until the session is closed and everything buffered has left."""
        binary = session.codec.binary
        while True:
            await self._out.room(1)
            frame = session.next_frame()
            if frame is not None:
                await self.say_frame(frame if binary else frame.decode())
                self._drained.set()
            elif session.close_code is not None:
                break
            else:
                self._woken = anyio.Event()
                await self._woken.wait()
        self.close(session.close_code, session.close_reason)
