"""A network that misbehaves, between real sockets: a TCP proxy whose faults come and go while connections run.

For tests of real processes. What `Toxiproxy` does from outside, this does inside a test, by a seed::

    async with FaultyProxy("127.0.0.1", 8080, seed=7) as proxy:
        slow = proxy.add(Latency(0.1, jitter_s=0.05), "down")
        chat = ChatClient(proxy.url("ws"), ...)
        ...
        proxy.remove(slow)
        await proxy.cut_all()

Times are those of the running loop. A test that is not async uses `proxy_in_thread`.
"""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Literal, Self

import anyio
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal, start_blocking_portal

from chatkit.errors import ConfigurationError
from chatkit.testing.rng import Rng

from .proxy_connection import HELD_BYTES_MAX, Address, Connection, Direction, Fault, Meter, Traffic, tune
from .toxics import Freeze, Toxic

__all__ = ["HELD_BYTES_MAX", "BlockingProxy", "Fault", "FaultyProxy", "Traffic", "Where", "proxy_in_thread"]

_BACKLOG = 1024
_DIRECTIONS: dict[str, Sequence[Direction]] = {"up": ("up",), "down": ("down",), "both": ("up", "down")}

Where = Literal["up", "down", "both"]
"""`up` is from clients to the server."""


class FaultyProxy:
    """Listens on a free port of 127.0.0.1 and forwards each connection to one server, with the faults in force.

    Only for use inside `async with`, once; leaving it ends every connection. After it only `traffic` is left to read.
    Bytes of a direction always arrive in order. In each direction of a connection it holds at most `HELD_BYTES_MAX`
    bytes and then reads no further, so whoever sends feels it, as on a full link. A half-close and a reset of either
    side pass to the other like bytes.

    Connections are numbered as they are taken; which of them a fault with a `toxicity` below 1 touches hangs on the
    seed and that number alone.

    Args:
        host: The server's.
        port: The server's.
        seed: Draws everything.

    Raises:
        ConfigurationError: The host is no name or the port none, or (on entering) the host has no address or it was
            entered before; or (of every method) it is used outside of its `async with`.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        if not isinstance(host, str) or not host:
            raise ConfigurationError(f"host must be the server's name or address as a string, not {host!r}")
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise ConfigurationError(f"port must be a whole number, 1 to 65535, not {port!r}")
        self._host = host
        self._server_port = port
        self._rng = Rng(seed)
        self._meter = Meter()
        self._faults: list[Fault] = []
        self._fault_count = 0
        self._frozen: Fault | None = None
        self._connections: list[Connection] = []
        self._addresses: list[Address] = []
        self._socket: socket.socket | None = None
        self._listening = False
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if self._addresses:
            raise ConfigurationError("a FaultyProxy can be entered once; make another one")
        self._addresses = await _resolved(self._host, self._server_port)
        self._socket = _bind(0)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise
            return None  # the test's own error goes on as it is
        finally:
            self._bound.close()
            self._socket = self._tasks = None
            self._meter.moved()  # whoever still waits is told that it is over

    @property
    def running(self) -> bool:
        """Whether it is inside its `async with`."""
        return self._socket is not None

    @property
    def port(self) -> int:
        """Where it listens, and while it is down refuses; the same all the time."""
        port: int = self._bound.getsockname()[1]
        return port

    def url(self, scheme: str = "http", path: str = "") -> str:
        """The address that clients are given instead of the server's."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @property
    def traffic(self) -> Traffic:
        """What went through so far; readable after the end too."""
        return copy.copy(self._meter.traffic)

    async def wait_until(self, condition: Callable[[Traffic], bool]) -> Traffic:
        """Return what went through, once it fulfils a condition; bound the wait with `anyio.fail_after`.

        Raises:
            ConfigurationError: It does not, and the proxy does not run, so that it never will.
        """
        while not condition(self.traffic):
            self._check_running()
            await self._meter.wait_moved()
        return self.traffic

    # --- faults ---

    def add(
        self, toxic: Toxic, where: Where = "both", *, toxicity: float = 1.0, open_only: bool = False
    ) -> Fault:
        """Put a toxic in force, after those already there.

        Args:
            toxic: What is to happen.
            where: In which direction.
            toxicity: To which share of the connections, 0 to 1.
            open_only: Only to connections that are open now, none that are made later.

        Returns:
            The handle to change or remove it by.

        Raises:
            ConfigurationError: No toxic, another direction, or a share out of range.
        """
        self._check_running()
        _check_toxic(toxic)
        if not isinstance(where, str) or where not in _DIRECTIONS:
            raise ConfigurationError(f"where must be 'up', 'down' or 'both', not {where!r}")
        if not isinstance(toxicity, int | float) or not 0 <= toxicity <= 1:
            raise ConfigurationError(f"toxicity must be a number, 0 to 1, not {toxicity!r}")
        self._fault_count += 1
        newest = self._meter.traffic.connections if open_only else None
        fault = Fault(self._fault_count, toxic, _DIRECTIONS[where], toxicity, newest)
        self._faults.append(fault)
        for connection in self._connections:
            connection.put(fault)
        return fault

    def change(self, fault: Fault, toxic: Toxic) -> None:
        """Have a fault do something else from now on, to the same connections; what it has counted goes on.

        Raises:
            ConfigurationError: The fault is not in force, or what it is to do is no toxic.
        """
        self._check_in_force(fault)
        _check_toxic(toxic)
        fault.toxic = toxic
        for connection in self._connections:
            connection.refresh()

    def remove(self, fault: Fault) -> None:
        """End a fault; what waited because of it goes on at once.

        Raises:
            ConfigurationError: The fault is not in force.
        """
        self._check_in_force(fault)
        self._faults.remove(fault)
        for connection in self._connections:
            connection.drop(fault)

    def freeze(self) -> None:
        """Let nothing arrive any more, anywhere, until `thaw`."""
        self._check_running()
        self._frozen = self._frozen or self.add(Freeze())

    def thaw(self) -> None:
        """Let arrive what `freeze` held back."""
        self._check_running()
        if self._frozen is not None:
            self.remove(self._frozen)
            self._frozen = None

    async def cut_all(self, *, reset: bool = False) -> None:
        """End every connection; afterwards none of those is open.

        Args:
            reset: By RST on both sides, instead of closing.
        """
        self._check_running()
        cut = list(self._connections)
        for connection in cut:
            connection.cut(reset)
        for connection in cut:
            await connection.closed.wait()

    async def down(self, *, reset: bool = False) -> None:
        """Refuse new connections, and end those that are open as `cut_all` does; the port stays taken."""
        self._check_running()
        if self._listening:
            self._listening = False
            port, listener = self.port, self._bound
            anyio.notify_closing(listener)
            listener.close()
            self._socket = _bind(port)
        await self.cut_all(reset=reset)

    def up(self) -> None:
        """Take connections again."""
        self._check_running()
        if not self._listening:
            assert self._tasks is not None
            self._listening = True
            self._bound.listen(_BACKLOG)
            self._tasks.start_soon(self._accept, self._bound)

    def heal(self) -> None:
        """No fault is in force any more, and connections are taken."""
        self._check_running()
        self._frozen = None
        for fault in list(self._faults):
            self.remove(fault)
        self.up()

    # --- inside ---

    @property
    def _bound(self) -> socket.socket:
        self._check_running()
        assert self._socket is not None
        return self._socket

    def _check_running(self) -> None:
        if not self.running:
            raise ConfigurationError("use the proxy inside its `async with`, or `with proxy_in_thread(...)`")

    def _check_in_force(self, fault: Fault) -> None:
        self._check_running()
        if fault not in self._faults:
            raise ConfigurationError(
                f"{fault!r} is not in force: take what `add` returned, until it is removed"
            )

    async def _accept(self, listener: socket.socket) -> None:
        with suppress(anyio.ClosedResourceError):
            while listener.fileno() >= 0:  # `down` may have closed it before this turn
                self._take(listener)
                await anyio.wait_readable(listener)

    def _take(self, listener: socket.socket) -> None:
        assert self._tasks is not None
        with suppress(BlockingIOError, ConnectionAbortedError):  # it went again before it was taken
            client, _ = listener.accept()
            self._meter.traffic.connections += 1
            self._meter.traffic.open += 1
            connection = Connection(self._meter.traffic.connections, tune(client), self._meter, self._rng)
            self._connections.append(connection)
            self._tasks.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        self._meter.moved()
        try:
            await connection.run(self._addresses, self._faults)
        finally:
            self._connections.remove(connection)


class BlockingProxy:
    """A `FaultyProxy` that runs in a thread of its own; each call returns once it has been carried out there.

    Only for use inside the `with` that made it. After it only `traffic` is left to read.

    Args:
        proxy: The one that does the work.
        portal: The way to its loop.
    """

    def __init__(self, proxy: FaultyProxy, portal: BlockingPortal) -> None:
        self._proxy = proxy
        self._portal = portal

    @property
    def port(self) -> int:
        """See `FaultyProxy.port`."""
        return self._proxy.port

    def url(self, scheme: str = "http", path: str = "") -> str:
        """See `FaultyProxy.url`."""
        return self._proxy.url(scheme, path)

    @property
    def traffic(self) -> Traffic:
        """See `FaultyProxy.traffic`."""
        return self._portal.call(lambda: self._proxy.traffic) if self._proxy.running else self._proxy.traffic

    def wait_until(self, condition: Callable[[Traffic], bool], timeout_s: float = 10.0) -> Traffic:
        """See `FaultyProxy.wait_until`. Raises TimeoutError: not in time."""

        async def wait() -> Traffic:
            with anyio.fail_after(timeout_s):
                return await self._proxy.wait_until(condition)

        return self._running_portal.call(wait)

    def add(
        self, toxic: Toxic, where: Where = "both", *, toxicity: float = 1.0, open_only: bool = False
    ) -> Fault:
        """See `FaultyProxy.add`."""
        return self._running_portal.call(
            lambda: self._proxy.add(toxic, where, toxicity=toxicity, open_only=open_only)
        )

    def change(self, fault: Fault, toxic: Toxic) -> None:
        """See `FaultyProxy.change`."""
        self._running_portal.call(self._proxy.change, fault, toxic)

    def remove(self, fault: Fault) -> None:
        """See `FaultyProxy.remove`."""
        self._running_portal.call(self._proxy.remove, fault)

    def freeze(self) -> None:
        """See `FaultyProxy.freeze`."""
        self._running_portal.call(self._proxy.freeze)

    def thaw(self) -> None:
        """See `FaultyProxy.thaw`."""
        self._running_portal.call(self._proxy.thaw)

    def cut_all(self, *, reset: bool = False) -> None:
        """See `FaultyProxy.cut_all`."""
        self._running_portal.call(lambda: self._proxy.cut_all(reset=reset))

    def down(self, *, reset: bool = False) -> None:
        """See `FaultyProxy.down`."""
        self._running_portal.call(lambda: self._proxy.down(reset=reset))

    def up(self) -> None:
        """See `FaultyProxy.up`."""
        self._running_portal.call(self._proxy.up)

    def heal(self) -> None:
        """See `FaultyProxy.heal`."""
        self._running_portal.call(self._proxy.heal)

    @property
    def _running_portal(self) -> BlockingPortal:
        self._proxy._check_running()
        return self._portal


@contextmanager
def proxy_in_thread(host: str, port: int, *, seed: int = 0) -> Iterator[BlockingProxy]:
    """A proxy for tests that are not async: it runs in a thread until the end of the `with`.

    Raises:
        ConfigurationError: As `FaultyProxy` does.
    """
    proxy = FaultyProxy(host, port, seed=seed)
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(proxy):
        yield BlockingProxy(proxy, portal)


def _check_toxic(toxic: object) -> None:
    if not isinstance(toxic, Toxic):
        raise ConfigurationError(f"{toxic!r} is no toxic; make one of tests.proof.toxics, as in Latency(0.1)")


async def _resolved(host: str, port: int) -> list[Address]:
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(f"{host} has no address: {error}") from None
    return [(family, where) for family, _, _, _, where in found]


def _bind(port: int) -> socket.socket:
    """A socket on this port of 127.0.0.1, any free one for 0; it refuses until it listens, and nobody else takes it."""
    made = tune(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made
