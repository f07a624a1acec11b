"""uvicorn as the commands run it: on a socket that was bound before, and without signal handlers of its own."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from ..errors import ConfigurationError

_BACKLOG: Final = 2048


class WebServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the drain comes before its shutdown."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens; port 0 for any. Raises ConfigurationError if the address cannot be had.

    Args:
        host: Where.
        port: Where.
        option: Of the command line, with which another port is given.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=_BACKLOG)
    except OSError as error:
        raise _cannot_listen(host, port, error, option) from None


def listen_side_by_side(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets that listen on one address, for as many processes; port 0 for any.

    On Linux each has a queue of its own, and the kernel deals connections to them by a hash. Elsewhere they are one
    socket, `count` times: other systems give all connections to one of several.

    Raises:
        ConfigurationError: The address cannot be had. Nobody else may have it, not even sockets that would share it.
    """
    first = listen(host, port)
    if sys.platform != "linux":
        return [first] * count
    listeners = [first]
    try:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # after bind, which has made sure of that
        while len(listeners) < count:
            listeners.append(listen_beside(first.getsockname()))
    except OSError as error:
        for each in listeners:
            each.close()
        raise _cannot_listen(host, port, error, "--port") from None
    return listeners


def listen_beside(address: tuple[Any, ...]) -> socket.socket:
    """One more socket on an address that `listen_side_by_side` has on Linux. Raises OSError."""
    host, port = address[:2]
    return socket.create_server((host, port), family=_family(host), backlog=_BACKLOG, reuse_port=True)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _cannot_listen(host: str, port: int, error: OSError, option: str) -> ConfigurationError:
    words = error.strerror or str(error)
    reason = words.partition(" (while attempting")[0]  # the rest of it is the address again
    more = ""
    if error.errno == errno.EADDRINUSE:
        more = f"; stop what listens there, or give another port with {option}"
    return ConfigurationError(f"cannot listen on {host}:{port}: {reason}{more}")


def url_of(listener: socket.socket) -> str:
    """Where it listens, as `http://HOST:PORT`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
