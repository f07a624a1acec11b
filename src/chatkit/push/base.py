"""The push port: hands notifications to a service that wakes devices, and says of each what became of it.

A push is only a hint that there is something to pull: it may come late, twice or never, and the log has the message all
the same. Every implementation passes the contract suite in `chatkit.testing.contracts.push`. Who is pushed to, and
when, is none of a provider's business: the delivery worker decides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Literal, Protocol, runtime_checkable

import msgspec

from ..errors import BadRequestError

BATCH_MAX = 500
"""Pushes in one call of `send`."""

TOKEN_CHARS_MAX = 4096
COLLAPSE_ID_CHARS_MAX = 256
TEXT_CHARS_MAX = 20_000
"""Of a title and of a body before they are cut to what a provider takes."""

DATA_MAX = 32
"""Entries of a host's own data."""

DATA_CHARS_MAX = 4096
"""Of one name or value among them."""

PAYLOAD_BYTES_MAX = 4096
"""Of what is sent for one push. The body is cut to fit it, then the title; nothing else is."""

REASON_CHARS_MAX = 200

Priority = Literal["high", "normal"]
"""`high` wakes a device at once; `normal` may wait until it is awake."""


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """One notification for one device.

    Attributes:
        token: The address of the device, as its provider gave it to the app; for Web Push the subscription, as the
            JSON that `JSON.stringify(subscription)` makes.
        collapse_id: Pushes to one device with the same id replace each other where they are shown.
        conversation_id: What the app opens.
        message_id: What the push is about. With the token and the revision it makes the push's `id`.
        revision: Another one for another push about the same message, such as one that replaces recalled words.
        expires_at_ms: Unix milliseconds after which nobody should be shown it any more.
        title: None for none. Without a title and a body the app is woken, and nothing is shown.
        body: None where it is hidden on request; a provider then knows nothing of the message's words.
        badge: The number on the app's icon: how much is unread. None leaves it as it is.
        priority: `high` or `normal`.
        data: The host's own, for the app; never cut.
        mentioned: Whether what is unread of the conversation mentions the user.

    Raises:
        BadRequestError: A value is of another kind or outside its bounds.
    """

    token: str
    collapse_id: str
    conversation_id: str
    message_id: str
    expires_at_ms: int
    title: str | None = None
    body: str | None = None
    badge: int | None = None
    priority: Priority = "high"
    data: Mapping[str, str] = {}
    revision: int = 0
    mentioned: bool = False

    def __post_init__(self) -> None:
        _check_text("token", self.token, TOKEN_CHARS_MAX)
        _check_text("collapse_id", self.collapse_id, COLLAPSE_ID_CHARS_MAX)
        _check_text("conversation_id", self.conversation_id, COLLAPSE_ID_CHARS_MAX)
        _check_text("message_id", self.message_id, COLLAPSE_ID_CHARS_MAX)
        _check_whole("expires_at_ms", self.expires_at_ms)
        for name, text in (("title", self.title), ("body", self.body)):
            if text is not None:
                _check_text(name, text, TEXT_CHARS_MAX, least=0)
        if self.badge is not None:
            _check_whole("badge", self.badge)
        if self.priority not in ("high", "normal"):
            raise BadRequestError("priority must be 'high' or 'normal'")
        _check_data(self.data)
        _check_whole("revision", self.revision)

    @property
    def id(self) -> str:
        """Names this push to its provider, in the form of a UUID: the same for each try, in every process.

        It is made of the token, the message and the revision, so a worker that died after the provider took the push,
        and before that was written down, sends the same id again.
        """
        parts = [
            self.token,
            self.conversation_id,
            self.message_id,
            *([str(self.revision)] if self.revision else []),
        ]
        made = sha256("\0".join(parts).encode())
        digits = made.hexdigest()
        digits = (
            f"{digits[:12]}8{digits[13:16]}8{digits[17:32]}"  # RFC 9562: version 8, for ids of one's own make
        )
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def __repr__(self) -> str:
        """Names the push without its token and its words, which belong in no log."""
        return f"Push(id={self.id!r}, message_id={self.message_id!r})"


class Delivered(msgspec.Struct, frozen=True):
    """The provider took it. Whether the device shows it is not known to anybody.

    Attributes:
        provider_id: What the provider calls it; None where it gives no name.
    """

    provider_id: str | None = None


class Retry(msgspec.Struct, frozen=True):
    """It was not taken, and may be later.

    Attributes:
        after_s: Seconds to wait: what the provider asked for and some jitter, else a backoff.
        reason: Why, for people.
        failed: Whether that speaks against the provider, rather than against this push alone.
    """

    after_s: float
    reason: str = ""
    failed: bool = True


class Dead(msgspec.Struct, frozen=True):
    """The token reaches no device any more: drop it.

    Attributes:
        reason: The provider's word.
        since_ms: Unix milliseconds when the provider found that out; None where it does not say. A token that
            the app has registered again after that is to be kept.
    """

    reason: str = ""
    since_ms: int | None = None


class Refused(msgspec.Struct, frozen=True):
    """This push is never taken as it is: it is too large, expired or wrong. The token may be good."""

    reason: str = ""


class Unknown(msgspec.Struct, frozen=True):
    """It left, and no answer came. It may be sent again with the same ids: a device that has it replaces it.

    Attributes:
        reason: What happened, for people.
        after_s: Seconds to wait before that.
    """

    reason: str = ""
    after_s: float = 0.0


Result = Delivered | Retry | Dead | Refused | Unknown


class PushProvider(Protocol):
    """A way to devices."""

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        """Hand pushes to the provider. Returns the result of each, in their order.

        Pushes of one batch travel side by side in no order, each under a deadline of its own; none keeps another from
        its result. Pushes that replace each other therefore belong in calls one after the other. May be called
        again while a call is under way. Cancelled, it leaves nothing behind, and what became of its pushes is unknown.

        Args:
            batch: At most `BATCH_MAX`; none is fine.

        Raises:
            TooLargeError: The batch has more; nothing was sent.
            ClosedError: After `aclose`.
        """

    async def aclose(self) -> None:
        """Close the connections. Calls under way end with results. A second call does nothing."""


@runtime_checkable
class ChecksTokens(Protocol):
    """A provider that can tell by itself that a token is none of its own: then no device registers with it."""

    def check_token(self, token: str) -> None:
        """Return if a push could be sent to this token. Nobody is asked, so it may be dead all the same.

        Raises:
            BadRequestError: No push to it could ever be taken; says why. A retry cannot help.
        """


@runtime_checkable
class SubscribesBrowsers(Protocol):
    """A provider of Web Push: browsers subscribe with its public key."""

    @property
    def application_server_key(self) -> str:
        """The public key for `pushManager.subscribe`, in base64url."""


def _check_text(name: str, value: object, chars_max: int, *, least: int = 1) -> None:
    if not isinstance(value, str) or not least <= len(value) <= chars_max:
        raise BadRequestError(f"{name} must be a text of {least}-{chars_max} characters")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise BadRequestError(f"{name} holds half a character, which UTF-8 cannot carry")


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value < 2**53:
        raise BadRequestError(f"{name} must be a whole number from 0 to 2^53 - 1")


def _check_data(data: object) -> None:
    if not isinstance(data, Mapping) or len(data) > DATA_MAX:
        raise BadRequestError(f"data must be a mapping of at most {DATA_MAX} texts to texts")
    for name, value in data.items():
        _check_text("a name in data", name, DATA_CHARS_MAX)
        _check_text("a value in data", value, DATA_CHARS_MAX, least=0)
