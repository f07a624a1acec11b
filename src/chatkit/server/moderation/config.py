"""The settings of moderation: one frozen value with defaults that are meant to be kept."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..._arguments import check_kind, check_number
from ...errors import ConfigurationError
from ...storage.base import HoldBounds


class ModerationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times of moderation.

    Attributes:
        on_failure: What becomes of messages when the moderator raises, is late, or answers what is no answer. `closed`:
            each is refused for now with UNAVAILABLE, and comes again after `retry_s`. `open`: they are stored as they
            are.
        timeout_s: The moderator's deadline for one batch.
        retry_s: What senders are told to wait whose messages could not be moderated, or held.
        batch_max: Most messages in one batch.
        batches_max: Most batches that the moderator has at the same time.
        queue_max: Most messages that wait for it or are with it; further ones are refused with OVERLOADED. Of one user
            there is room for `Limits.commit_share_per_user` of it.
        queue_bytes_max: The same bound in bytes of payload.
        held_per_user_max: Most messages of one user that are held, about; a further one is refused with OVERLOADED.
        held_max: Most messages that are held in all, about; likewise.
        held_retry_s: When clients ask again about a message that is held: word of a refusal may get lost.
        held_s: How long a message is held that nobody decides about; then it is refused. None: for ever.
        parts_unseen: Whether members see the parts of a streamed message before the moderator has seen all of it. If
            not, parts are refused, and the message comes with its end. Only what the moderator has seen lasts.
        keep_reported_bodies: Whether a report keeps a copy of the message, so that a recall does not take away what was
            reported. The copy goes when the report is resolved.
    """

    on_failure: Literal["closed", "open"] = "closed"
    timeout_s: float = 5.0
    retry_s: float = 5.0
    batch_max: int = 100
    batches_max: int = 4
    queue_max: int = 10_000
    queue_bytes_max: int = 32 * 1024 * 1024
    held_per_user_max: int = 100
    held_max: int = 10_000
    held_retry_s: float = 60.0
    held_s: float | None = 7 * 86_400.0
    parts_unseen: bool = False
    keep_reported_bodies: bool = True

    def __post_init__(self) -> None:
        if self.on_failure not in ("closed", "open"):
            raise ConfigurationError(f"on_failure must be 'closed' or 'open', not {self.on_failure!r}")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name.endswith(("_s", "_max")) and not (name == "held_s" and value is None):
                check_number(name, value, whole=name.endswith("_max"))
        check_kind("keep_reported_bodies", self.keep_reported_bodies, bool)
        check_kind("parts_unseen", self.parts_unseen, bool)

    @property
    def retry_ms(self) -> int:
        """`retry_s` in whole milliseconds."""
        return round(self.retry_s * 1000)

    @property
    def bounds(self) -> HoldBounds:
        """Of what is held, as the store takes them."""
        return HoldBounds(self.held_per_user_max, self.held_max, round(self.held_retry_s * 1000))
