"""Where the login comes from: a fixed token, or a callable that makes fresh ones. Never logged or printed.

A token that was made is used until it nears its end: by the WebSocket, by HTTP, for every try. A JWT says when it ends
(read unchecked: the server judges it); another one counts until the server refuses it or warns of its end.
"""

from __future__ import annotations

import binascii
import logging
import math
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from .._auto_reset_event import AutoResetEvent
from ..errors import ConfigurationError, DeadlineExceededError
from ..ports import Ports
from ._calls import call
from ._retry import Backoff

logger = logging.getLogger(__name__)

Token = str | Callable[[], str | Awaitable[str]]

MARGIN_S = 30.0
"""A token is replaced so long before its end; one that lasts less than twice that, at half its time."""

SHORT_S = 5.0
"""A token that lasts less is a fault of its maker, who is asked ever more rarely then."""

_BACKOFF_BASE_S = 1.0
_BACKOFF_MAX_S = 30.0


class TokenSource:
    """The token of one client, made anew when it nears its end.

    Its maker is asked by one task at a time. One who fails, or gives what is no token, the same token again or one that
    ends at once, is asked again with growing waits, up to 30 s.

    Args:
        token: The token itself, or what makes one; a plain callable must not block.
        timeout_s: For one call.
        ports: Clock and jitter.

    Attributes:
        presented: The one that the login over the WebSocket rests on; None before the first.

    Raises:
        ConfigurationError: It is neither, or a string that cannot be a token.
    """

    def __init__(self, token: Token, timeout_s: float, ports: Ports) -> None:
        if not callable(token):
            _check(token, "token")
        self._token = token
        self._timeout_s = timeout_s
        self._clock = ports.clock
        self._backoff = Backoff(ports.random, _BACKOFF_BASE_S, _BACKOFF_MAX_S)
        self._lock = anyio.Lock()
        self._held: str | None = None
        self._last: str | None = None
        self._half_at_s = self._renew_at_s = self._ends_at_s = math.inf
        self._faults = 0
        self._ask_from_s = -math.inf
        self._hurry = AutoResetEvent()
        self.presented: str | None = None

    def __repr__(self) -> str:
        return f"<TokenSource {'renewable' if self.renewable else 'fixed'}>"

    @property
    def renewable(self) -> bool:
        """Whether asking again can give another token."""
        return callable(self._token)

    async def get(self) -> str:
        """A token for a login now: the one in hand, or a fresh one if that nears its end.

        Raises:
            DeadlineExceededError: The callable took too long.
            ConfigurationError: It returned no string that can be a token.
            ClientError: It ended by a cancellation of its own making.
            Exception: Whatever the callable raised.
        """
        if isinstance(self._token, str):
            return self._token
        if self._held is not None and self._lock.locked() and self._clock.now_s() < self._ends_at_s:
            return self._held  # somebody asks already, and this one still counts
        async with self._lock:
            if self._held is None or self._must_ask():
                while (wait_s := self._ask_from_s - self._clock.now_s()) > 0:
                    await self._hurry.wait(wait_s)
                return await self._ask(self._token)
            return self._held

    async def successor(self) -> str:
        """Another token than the one presented, which is about to end.

        Asks once half of its time is over, and again, with growing waits, until another one comes.

        Raises:
            Exception: As `get`.
        """
        assert callable(self._token), "a fixed token has no successor"
        while True:
            await anyio.sleep(self._wait_s())
            async with self._lock:
                if self._held is not None and self._held != self.presented:
                    return self._held
                fresh = await self._ask(self._token)
            if fresh != self.presented:
                return fresh
            if self._faults == 1:
                logger.warning("the token callable gave the token again that is about to end")

    def refused(self, token: str | None) -> None:
        """The server took this token for no login: the next one is made anew, unless that was done already."""
        if token == self._held:
            self._held = None

    def hurry(self) -> None:
        """Leave out the wait that the maker is given now. It is asked at once by whoever needs a token."""
        self._ask_from_s = -math.inf
        self._hurry.set()

    def _must_ask(self) -> bool:
        """Whether the token in hand is to be replaced now; while its maker is given time, it is used to its end."""
        now_s = self._clock.now_s()
        return now_s >= self._ends_at_s or now_s >= max(self._renew_at_s, self._ask_from_s)

    def _wait_s(self) -> float:
        at_s = self._ask_from_s
        if self._held == self.presented and self._half_at_s != math.inf:
            at_s = max(at_s, self._half_at_s)
        return max(0.0, at_s - self._clock.now_s())

    async def _ask(self, make: Callable[[], str | Awaitable[str]]) -> str:
        sound = False
        try:
            token = await self._made(make)
            left_s = seconds_left(token, self._clock.now_ms())
            sound = token != self._last and (left_s is None or left_s >= SHORT_S)
        finally:
            self._faults = 0 if sound else self._faults + 1
            now_s = self._clock.now_s()
            self._ask_from_s = now_s if sound else now_s + self._backoff.delay_s(self._faults)
        self._held = self._last = token
        left_s = math.inf if left_s is None else left_s
        self._ends_at_s = now_s + left_s
        self._half_at_s = now_s + left_s / 2
        self._renew_at_s = max(self._ends_at_s - MARGIN_S, self._half_at_s)
        return token

    async def _made(self, make: Callable[[], str | Awaitable[str]]) -> str:
        with anyio.move_on_after(self._timeout_s):
            return _check(await call("the token callable", make), "what the token callable returned")
        raise DeadlineExceededError(f"the token callable took more than {self._timeout_s:g} s")


class _Claims(msgspec.Struct):
    exp: float
    iat: float | None = None


def seconds_left(token: str, now_ms: int) -> float | None:
    """How long a JWT lasts from now on, as far as it says so; None if it cannot be read.

    Where this machine's clock makes no sense of its end (past, or later than it lasts in all), its whole time counts:
    the server's clock judges.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        return None
    left_s = claims.exp - now_ms / 1000
    whole_s = math.inf if claims.iat is None else claims.exp - claims.iat
    if 0 < left_s <= whole_s:
        return left_s
    return whole_s if 0 < whole_s < math.inf else None


def _check(token: object, name: str) -> str:
    if not isinstance(token, str) or not token:
        raise ConfigurationError(f"{name} must be a string that is not empty, or a callable that makes one")
    if not token.isprintable() or token != token.strip():
        raise ConfigurationError(f"{name} must hold no line end, and no space at its ends")
    if not token.isascii():
        raise ConfigurationError(f"{name} must be ASCII: HTTP carries it in a header")
    return token
