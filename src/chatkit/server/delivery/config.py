"""The settings of a delivery worker: one frozen value with defaults that are meant to be kept."""

from __future__ import annotations

from typing import Final

import msgspec

from ..._arguments import check_kind, check_number
from ...errors import ConfigurationError

_MAX: Final = 1e9


class DeliveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times and bounds of a delivery worker.

    Attributes:
        push_after_s: How long a message is left to the sockets; a device that has not confirmed it then is pushed to.
        poll_s: How often the outbox is looked at.
        sweep_after_s: With a queue, how much later the outbox is looked at for what the queue has lost.
        lease_s: How long a worker keeps what it took; if it died, another one goes on after that.
        batch: Conversations, and single devices, that are taken at once.
        concurrency: Parts of what was taken that are worked on side by side.
        attempts_max: What was given out so often and never finished, whatever ended its workers, is a dead letter.
        retry_max_s: The longest wait between two tries of a device.
        ttl_s: How old a message may be when a device shows it. A device that fails for so long is a dead letter.
        hide_body: Whether pushes never hold a message's words, whatever the device asked for.
        dead_letters_s: How long dead letters are kept.
        pushes_kept_s: How long it is kept what providers said of pushes, for `ChatServer.explain`.
    """

    push_after_s: float = 5.0
    poll_s: float = 1.0
    sweep_after_s: float = 30.0
    lease_s: float = 120.0
    batch: int = 50
    concurrency: int = 4
    attempts_max: int = 20
    retry_max_s: float = 600.0
    ttl_s: float = 86_400.0
    hide_body: bool = False
    dead_letters_s: float = 30 * 86_400.0
    pushes_kept_s: float = 7 * 86_400.0

    def __post_init__(self) -> None:
        for name in (
            "poll_s",
            "sweep_after_s",
            "lease_s",
            "retry_max_s",
            "ttl_s",
            "dead_letters_s",
            "pushes_kept_s",
        ):
            check_number(name, getattr(self, name))
        check_number("push_after_s", self.push_after_s, least=0)
        for name in ("batch", "concurrency", "attempts_max"):
            check_number(name, getattr(self, name), whole=True)
        check_kind("hide_body", self.hide_body, bool)
        for name in self.__struct_fields__:
            if isinstance(value := getattr(self, name), int | float) and value > _MAX:
                raise ConfigurationError(f"{name} must be at most {_MAX:g}")
