"""Whether a new connection is taken in: so many from one address, in number and by rate, and so many from all.

A login over HTTP that fails is as good as a connection that comes for nothing, and takes from the same rate. Whoever is
slow to log in keeps nobody out: of the connections from one address that have not logged in the oldest goes when a new
one needs its place. What is refused is told when to come back. Addresses are what the gateway says; behind a proxy that
is the proxy's unless it is trusted (docs/deploying.md). Of IPv6 a network of 64 bits counts as one address, for
everybody has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address

from ..core.connection import State
from ..core.rate_limit import RateLimiter
from ..errors import OverloadedError, RateLimitedError, RefusedError
from ..wire import events as ev
from .limits import Limits
from .session import Session


class Admission:
    """Counts connections by address.

    Args:
        limits: The bounds.
        retry_s: What is told to whoever is refused for a count.
    """

    def __init__(self, limits: Limits, retry_s: float) -> None:
        self._limits = limits
        self._retry_s = retry_s
        self._rate = RateLimiter[None](limits.new_connections)
        self._rates = RateLimiter[str](limits.new_connections_per_address)
        self._sessions: dict[str, dict[Session, None]] = {}
        self._pending: dict[str, dict[Session, None]] = {}

    def __len__(self) -> int:
        """How many addresses are known."""
        return len(self._sessions)

    def take_in(self, session: Session, address: str | None, now_s: float) -> RefusedError | None:
        """Count a new connection, refused or not, until it `ended`. Returns why it is refused, or None.

        What one address may not have takes nothing from the rate of all; what the rate refuses costs nobody a place.
        """
        network = None if address is None else _network_of(address)
        if network is not None:
            sessions = self._sessions.setdefault(network, {})
            sessions[session] = None
            if len(sessions) > self._limits.connections_per_address:
                return OverloadedError("too many connections from this address", retry_after_s=self._retry_s)
            wait_s = self._rates.admit(network, now_s)
            if wait_s > 0:
                return self._too_many("new connections from this address", wait_s)
        wait_s = self._rate.admit(None, now_s)
        if wait_s > 0:
            if network is not None:
                self._rates.give_back(network)
            return self._too_many("new connections", wait_s)
        if network is not None:
            pending = self._pending.setdefault(network, {})
            if len(pending) >= self._limits.logins_pending_per_address:
                self._make_room(pending)
            pending[session] = None
        return None

    @contextmanager
    def login(self, address: str | None, now_s: float) -> Iterator[None]:
        """While a request proves its login. Until it has done so it counts for its address, and for good if it fails.

        Raises:
            RateLimitedError: Too many did, or came by new connections; nobody need be asked about this one.
        """
        if address is None:
            yield
            return
        network = _network_of(address)
        wait_s = self._rates.admit(network, now_s)
        if wait_s > 0:
            raise self._too_many("logins that failed or are under way from this address", wait_s)
        yield
        self._rates.give_back(network)

    def _too_many(self, what: str, wait_s: float) -> RateLimitedError:
        return RateLimitedError(f"too many {what}", retry_after_s=max(wait_s, self._retry_s))

    def ended(self, session: Session, address: str | None) -> None:
        """The connection has ended."""
        if address is None:
            return
        network = _network_of(address)
        for held in (self._sessions, self._pending):
            if network in held:
                held[network].pop(session, None)
                if not held[network]:
                    del held[network]

    def _make_room(self, pending: dict[Session, None]) -> None:
        for session in [it for it in pending if it.state in (State.OPEN, State.CLOSED)]:
            del pending[session]
        if len(pending) >= self._limits.logins_pending_per_address:
            oldest = next(iter(pending))
            del pending[oldest]
            oldest.refuse(
                OverloadedError("too many logins at once from this address", retry_after_s=self._retry_s)
            )
            oldest.close(ev.CloseCode.OVERLOADED, "too many logins at once from this address")


def _network_of(address: str) -> str:
    if ":" not in address:
        return address
    try:
        whole = IPv6Address(address)
    except ValueError:
        return address
    return str(whole.ipv4_mapped or whole.packed[:8].hex())
