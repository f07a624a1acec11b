"""`chatkit serve --workers N`: a parent that starts N server processes on one port, and starts again what dies.

The parent serves nobody and runs no event loop. It has a pair of sockets with each process, on which the process says
that it serves; each side sees by its end that the other one is gone. Why so: docs/design/0026-several-processes.md.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, NoReturn

import anyio
import msgspec

from ..core.backoff import next_delay
from ..errors import ConfigurationError
from ..ports import Ports
from .web import listen_beside, listen_side_by_side

logger = logging.getLogger(__name__)

STEADY_S: Final = 30.0
"""A process that has served for so long begins its failures anew."""

_RETRY_S: Final = 1.0
"""Upper bound of the first wait before a process is started again; it doubles with each further failure in a row."""

_RETRY_MAX_S: Final = 30.0
_SAID_BYTES_MAX: Final = 4096
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_HEARD: Final = (*_STOPS, signal.SIGCHLD) if sys.platform != "win32" else _STOPS
_PR_SET_PDEATHSIG: Final = 1


def check_can_share(workers: int, storage: str, bus: str) -> None:
    """Raises ConfigurationError if several processes cannot serve this log together."""
    if workers == 1:
        return
    if not hasattr(os, "fork"):
        raise ConfigurationError("--workers needs a system that can fork: give 1 here")
    if not storage.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(
            f"--workers {workers} needs a log that processes can share: --storage postgresql://HOST/NAME"
        )
    if bus == "local://":
        raise ConfigurationError(
            f"--workers {workers} needs a bus between the processes: --bus nats://HOST or redis://HOST"
        )


class Serving(msgspec.Struct, frozen=True):
    """What a process says once it serves.

    Attributes:
        metrics: Where its figures are; None for nowhere.
    """

    metrics: str | None = None


class ServerProcess(NamedTuple):
    """This process, which is one of several that serve.

    Attributes:
        number: Which one, from 1; one that is started again keeps it.
        listener: Its socket, which listens.
    """

    number: int
    listener: socket.socket
    tether: socket.socket

    def serves(self, said: Serving) -> None:
        """Tell the parent that this process takes connections."""
        self.tether.sendall(msgspec.json.encode(said))

    async def end_with_parent(self) -> None:
        """End this process at once when the parent is gone. On Linux the kernel does, also to one that hangs."""
        await anyio.wait_readable(self.tether)
        os.kill(os.getpid(), signal.SIGKILL)


class _Place:
    """A place for a server process, which one after the other has."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        self.number = number
        self.listener: socket.socket | None = listener
        self.tether: socket.socket | None = None
        self.pid = 0
        self.said: Serving | None = None
        self.served_at_s = 0.0
        self.start_at_s: float | None = None
        self.kill_at_s: float | None = None
        self.failures = 0

    @property
    def runs(self) -> bool:
        return self.pid != 0


class Supervisor:
    """Starts the processes, keeps their number, and ends them.

    Args:
        count: How many.
        host: Where they listen.
        port: 0 for any.
        announce: Called once all serve, with the socket of one of them and what each has said.
        end_within_s: How long a process may take to end when it is asked to; then it is killed.
        ports: Clock and jitter.

    Raises:
        ConfigurationError: The address cannot be had.
    """

    def __init__(
        self,
        count: int,
        host: str,
        port: int,
        announce: Callable[[socket.socket, Sequence[Serving]], None],
        end_within_s: float,
        ports: Ports | None = None,
    ) -> None:
        listeners = listen_side_by_side(host, port, count)
        self._address = listeners[0].getsockname()
        self._are_apart = len(set(map(id, listeners))) == count
        self._places = [_Place(number, it) for number, it in enumerate(listeners, 1)]
        self._announce, self._end_within_s = announce, end_within_s
        ports = ports or Ports()
        self._now_s, self._random = ports.clock.now_s, ports.random.random
        self._announced = False
        self._stopping = False
        self._exit_code = 0
        self._woken, self._wakes = socket.socketpair()
        # poll needs no file, so it works also when there is none left
        self._selector = selectors.PollSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)

    def run(self) -> ServerProcess:
        """Returns in each server process, as often as one is started. The parent stays in here until all have ended.

        Raises:
            SystemExit: In the parent, at the end: 0 if all of them were asked to end and did, 1 if one failed to; if
                one never came to serve at the start, its own code.
        """
        gc.collect()
        gc.freeze()  # what was loaded so far stays shared memory
        self._places[0].start_at_s = self._now_s()  # alone: what is wrong with the settings is told once
        with self._signals():
            while not self._stopping or any(place.runs for place in self._places):
                started = self._start_due()
                if started is not None:
                    return started
                self._wait()
                self._kill_late()
        self._close()
        raise SystemExit(self._exit_code)

    # --- starting ---

    def _start_due(self) -> ServerProcess | None:
        """Start what is due. In the process that was started: itself."""
        for place in self._places:
            if place.start_at_s is not None and place.start_at_s <= self._now_s():
                place.start_at_s = None
                started = self._start(place)
                if started is not None:
                    return started
        return None

    def _start(self, place: _Place) -> ServerProcess | None:
        try:
            if place.listener is None:
                place.listener = listen_beside(self._address)
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._failed(place, f"has no socket: {error.strerror}")
            return None
        parent = os.getpid()
        signal.pthread_sigmask(
            signal.SIG_BLOCK, _HEARD
        )  # else one may meet the parent's handlers in the child
        try:
            try:
                place.pid = os.fork()
            except OSError as error:
                ours.close()
                theirs.close()
                self._failed(place, f"cannot be started: {error.strerror}")
                return None
            if place.pid == 0:
                try:
                    return self._become(place, parent, ours, theirs)
                except BaseException:  # nobody else's: what goes on from here would be a second parent
                    _end_failed(place.number)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        theirs.close()
        ours.setblocking(False)
        place.tether, place.said = ours, None
        self._selector.register(ours, selectors.EVENT_READ, place)
        logger.info("server process %d is %d", place.number, place.pid)
        return None

    def _become(
        self, place: _Place, parent: int, ours: socket.socket, theirs: socket.socket
    ) -> ServerProcess:
        """In the child: let go of everything that is the parent's or another process's."""
        _end_with(parent)
        os.setpgid(0, 0)  # Ctrl-C is for the parent, which asks each process once
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        listener, place.listener = place.listener, None
        assert listener is not None
        ours.close()
        self._close(keep=listener)
        return ServerProcess(place.number, listener, theirs)

    def _close(self, keep: socket.socket | None = None) -> None:
        for place in self._places:
            for each in (place.tether, place.listener):
                if each is not None and each is not keep:
                    each.close()
        self._woken.close()
        self._wakes.close()

    # --- what happens ---

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM, SIGINT and the end of a process wake `_wait`."""
        self._woken.setblocking(False)
        self._wakes.setblocking(False)
        before = signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in _HEARD}
        pid = os.getpid()
        try:
            yield
        finally:
            if os.getpid() == pid:
                signal.set_wakeup_fd(before)
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def _wait(self) -> None:
        """Until something happens or is due; take note of it."""
        due = [it.start_at_s for it in self._places if it.start_at_s is not None]
        due += [it.kill_at_s for it in self._places if it.kill_at_s is not None]
        timeout_s = max(0.0, min(due) - self._now_s()) if due else None
        ready = [key.data for key, _ in self._selector.select(timeout_s)]
        if None in ready and not {*self._woken.recv(_SAID_BYTES_MAX)}.isdisjoint(_STOPS):
            self._stop()
        for place in ready:
            if place is not None:
                self._hear(place)
        for place in self._places:  # after what they said
            if place.runs:
                self._reap(place)

    def _hear(self, place: _Place) -> None:
        assert place.tether is not None
        said = place.tether.recv(_SAID_BYTES_MAX)
        if not said:
            self._let_go(place)
            if place.kill_at_s is None:  # it is ending, which it may fail to
                place.kill_at_s = self._now_s() + self._end_within_s
            return
        place.said, place.served_at_s = msgspec.json.decode(said, type=Serving), self._now_s()
        if self._announced or self._stopping:
            return
        for other in self._places[1:] if place.number == 1 else ():
            other.start_at_s = self._now_s()
        all_said = [it.said for it in self._places if it.said is not None and it.tether is not None]
        if len(all_said) == len(self._places):
            self._announced = True
            assert place.listener is not None
            self._announce(place.listener, all_said)

    def _let_go(self, place: _Place) -> None:
        """Nothing more is heard from this process."""
        if place.tether is not None:
            self._selector.unregister(place.tether)
            place.tether.close()
            place.tether = None

    def _reap(self, place: _Place) -> None:
        """Take note of a process that has ended. One that has only closed its end of the pair may live on."""
        pid, status = os.waitpid(place.pid, os.WNOHANG)
        if pid == 0:
            return
        if place.tether is not None:
            with suppress(BlockingIOError):  # nothing, not even an end: a child of its own holds it
                self._hear(place)
        self._let_go(place)
        place.pid, place.kill_at_s = 0, None
        code = os.waitstatus_to_exitcode(status)
        if self._stopping:
            self._leave(place)  # so that nobody waits there
            if place.said is not None and code not in (
                0,
                -signal.SIGTERM,
            ):  # which ends one that is asked twice
                logger.error("server process %d (%d) %s", place.number, pid, _how(code))
                self._exit_code = self._exit_code or 1
        elif self._announced:
            self._failed(place, f"({pid}) {_how(code)}")
        else:  # one that ended with a code has said why
            level = logging.INFO if code > 0 else logging.ERROR
            logger.log(level, "server process %d (%d) %s before all served", place.number, pid, _how(code))
            self._exit_code = code if code > 0 else 1
            self._leave(place)
            self._stop()

    def _failed(self, place: _Place, how: str) -> None:
        """A process has ended, or could not be started: there will be another one."""
        served, place.said = place.said is not None, None
        if served and self._now_s() - place.served_at_s >= STEADY_S:
            place.failures = 0
        if not served:  # connections that wait for it would wait for long
            self._leave(place)
        place.failures += 1
        wait_s = next_delay(place.failures, self._random(), base_s=_RETRY_S, max_s=_RETRY_MAX_S)
        place.start_at_s = self._now_s() + wait_s
        logger.error("server process %d %s; started again in %.1f s", place.number, how, wait_s)

    def _leave(self, place: _Place) -> None:
        """Let the kernel give new connections to the other processes."""
        if self._are_apart and place.listener is not None:
            place.listener.close()
            place.listener = None

    # --- the end ---

    def _stop(self) -> None:
        """Ask all of them to end; the first call counts."""
        if self._stopping:
            return
        self._stopping = True
        for place in self._places:
            place.start_at_s = None
            if place.runs:
                os.kill(place.pid, signal.SIGTERM)
                if place.kill_at_s is None:
                    place.kill_at_s = self._now_s() + self._end_within_s

    def _kill_late(self) -> None:
        now_s = self._now_s()
        for place in self._places:
            if place.kill_at_s is not None and place.kill_at_s <= now_s:
                place.kill_at_s = now_s + self._end_within_s
                logger.error(
                    "server process %d (%d) did not end within %g s and is killed",
                    place.number,
                    place.pid,
                    self._end_within_s,
                )
                os.kill(place.pid, signal.SIGKILL)


def _end_with(parent: int) -> None:
    """From here on the kernel kills this process when its parent is gone, where the kernel can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _end_failed(number: int) -> NoReturn:
    """End this process, which could not become a server process, and nothing of what it has from its parent."""
    try:
        logger.exception("server process %d cannot begin", number)
    finally:
        os._exit(1)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
