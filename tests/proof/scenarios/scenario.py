"""What a scenario is, what one run of it comes to, and the two ways in which its own words can fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from chatkit.client.config import ClientConfig
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits

from ..checker import Verdict
from ..dumps import CompleteHistory

if TYPE_CHECKING:
    from .stage import Stage

SERVER: Final = ServerConfig(
    limits=Limits.unlimited(),
    heartbeat_s=4.0,
    hello_timeout_s=5.0,
    request_timeout_s=8.0,
    overload_retry_s=0.3,
    reconnect_after_s=0.5,
    drain_timeout_s=2.0,
)
"""Waits short enough that a scenario is over in a minute of virtual time."""

CLIENT: Final = ClientConfig(
    connect_timeout_s=3.0,
    hello_timeout_s=3.0,
    request_timeout_s=8.0,
    send_timeout_s=60.0,
    close_timeout_s=1.0,
    goaway_wait_s=1.0,
    backoff_base_s=0.2,
    backoff_max_s=2.0,
    stable_after_s=3.0,
)
"""The same for the devices; a send waits longer than any scenario keeps it waiting."""


class TrapNotSetOffError(AssertionError):
    """The situation that a scenario is about did not come about: it proves nothing, and is to be written anew."""


class PromiseBrokenError(AssertionError):
    """The situation came about, and chatkit did not do what it promises."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One trap of the contract, as a script.

    Attributes:
        play: The script, whose docstring says what it is about; raises TrapNotSetOffError or PromiseBrokenError.
        nodes: Servers over the one store.
        server: Settings of the servers.
        client: Settings of the devices.
        window_bytes: So much may be under way in each direction of a line.
    """

    play: Callable[[Stage], Awaitable[None]]
    nodes: int = 1
    server: ServerConfig = SERVER
    client: ClientConfig = CLIENT
    window_bytes: int = 65_536

    @property
    def line(self) -> str:
        """What it is about."""
        return " ".join((self.play.__doc__ or "").split())


class Outcome(msgspec.Struct, frozen=True):
    """A scenario that was played to its end: its own demands were met, and everybody had everything.

    Attributes:
        history: All that happened.
        verdict: What the checker says of it.
        alarms: Errors that nobody foresaw, and clients that stopped for good though they should not have.
    """

    history: CompleteHistory
    verdict: Verdict
    alarms: list[str]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict.ok and not self.alarms
