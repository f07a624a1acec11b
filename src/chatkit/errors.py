"""Every error chatkit raises, and the codes of the wire contract.

The tree::

    ChatkitError
    ├── RefusedError                 the other side answered "no"; `code` is the word of the contract
    │   ├── BadRequestError          BAD_REQUEST           400
    │   ├── UnauthenticatedError     UNAUTHENTICATED       401
    │   │   ├── TokenExpiredError    TOKEN_EXPIRED         401
    │   │   └── TokenRevokedError    TOKEN_REVOKED         401
    │   ├── ForbiddenError           FORBIDDEN             403
    │   │   └── BannedError          FORBIDDEN             403  the connection closes with 4202
    │   ├── NotFoundError            NOT_FOUND             404
    │   ├── ConflictError            CONFLICT              409
    │   ├── RecallWindowPassedError  RECALL_WINDOW_PASSED  409
    │   ├── EditWindowPassedError    EDIT_WINDOW_PASSED    409
    │   ├── PartOutOfOrderError      PART_OUT_OF_ORDER     409
    │   ├── StreamEndedError         STREAM_ENDED          409
    │   ├── TooLargeError            TOO_LARGE             413
    │   ├── QuotaError               QUOTA                 413
    │   ├── ContentRefusedError      CONTENT_REFUSED       422
    │   ├── HeldError                HELD                  409  retryable
    │   ├── RateLimitedError         RATE_LIMITED          429  retryable
    │   ├── InternalError            INTERNAL              500  retryable
    │   ├── OverloadedError          OVERLOADED            503  retryable
    │   ├── UnavailableError         UNAVAILABLE           503  retryable
    │   └── UnknownRefusalError      whatever a newer server says, as it said it
    ├── ClientError                  the SDK's own side
    │   ├── ConnectionLostError      no connection, or it broke; retryable
    │   ├── SendOutcomeUnknownError  the deadline passed; the send stays queued under its clientMsgId
    │   ├── SendCancelledError       the app took it back before it left
    │   ├── DeadlineExceededError    a request had no answer in time; retryable
    │   ├── QueueFullError           the resend queue is full; retryable
    │   ├── ProtocolError            the server sent what the contract does not allow
    │   ├── DamagedError             the local store is not what was written to it
    │   └── ClosedError              the client was closed
    ├── ImportFileError              a file of another system's export is not what it should be
    └── ConfigurationError           wrong set-up: a missing extra, an address nobody serves, a lifespan not entered

`retryable` is data (of the class; the instance's own in UnknownRefusalError): code that retries never lists types.
Called by every layer; imports nothing.
"""

from __future__ import annotations

from math import ceil
from typing import Any, ClassVar, Self


class ChatkitError(Exception):
    """Base of all errors of chatkit.

    Attributes:
        code: Stable word for programs; the message is for people and may be reworded.
        retryable: Whether the same call may succeed later without a change. A retried send must
            keep its clientMsgId.
        retry_after_s: Seconds to wait before a retry, where the refusing side said so.
    """

    code: str = "ERROR"
    retryable: bool = False

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.code)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles, as process pools make them, have the same words and attributes."""
        return _rebuilt, (type(self), self.args, dict(vars(self)))


def _rebuilt(kind: type[ChatkitError], args: tuple[Any, ...], attributes: dict[str, Any]) -> ChatkitError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class RefusedError(ChatkitError):
    """The server understood and said no. Nothing was changed by the refused request.

    Attributes:
        reason: A word of the contract that says more than the code where an app may care, such as SILENCED; else None.
            There may be new ones.
    """

    status: ClassVar[int] = 500

    def __init__(
        self, message: str = "", *, retry_after_s: float | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.reason = reason

    @property
    def retry_after_ms(self) -> int | None:
        """`retry_after_s` as it travels: whole milliseconds, and never too few."""
        return None if self.retry_after_s is None else ceil(round(self.retry_after_s * 1000, 3))

    def fresh(self) -> Self:
        """The same refusal as a new exception: one object must not be raised in several tasks."""
        return type(self)(str(self), retry_after_s=self.retry_after_s, reason=self.reason)


class BadRequestError(RefusedError):
    """The request does not fit the contract: types, sizes, values or order of events."""

    code = "BAD_REQUEST"
    status = 400


class UnauthenticatedError(RefusedError):
    """No token, or one that proves nothing."""

    code = "UNAUTHENTICATED"
    status = 401


class TokenExpiredError(UnauthenticatedError):
    """The token was good once; a new one is needed."""

    code = "TOKEN_EXPIRED"


class TokenRevokedError(UnauthenticatedError):
    """The token, or the resume token, was withdrawn or is used up."""

    code = "TOKEN_REVOKED"


class ForbiddenError(RefusedError):
    """The caller may see this, but may not do that to it."""

    code = "FORBIDDEN"
    status = 403


class BannedError(ForbiddenError):
    """The host banned this user. On the wire it is FORBIDDEN, and closes with 4202."""


class NotFoundError(RefusedError):
    """There is no such thing, or it is hidden from the caller: the two read the same."""

    code = "NOT_FOUND"
    status = 404


class ConflictError(RefusedError):
    """The same clientMsgId with another payload, a taken id, or another epoch."""

    code = "CONFLICT"
    status = 409


class RecallWindowPassedError(RefusedError):
    """The message is too old to be recalled."""

    code = "RECALL_WINDOW_PASSED"
    status = 409


class EditWindowPassedError(RefusedError):
    """The message is too old to be edited."""

    code = "EDIT_WINDOW_PASSED"
    status = 409


class PartOutOfOrderError(RefusedError):
    """A part of a streamed message came before one that is missing. Send that one first; a resend of any part is safe.

    Attributes:
        expected_part: The number of the part that is missing.
    """

    code = "PART_OUT_OF_ORDER"
    status = 409

    def __init__(
        self,
        message: str = "",
        *,
        retry_after_s: float | None = None,
        reason: str | None = None,
        expected_part: int = 1,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, reason=reason)
        self.expected_part = expected_part

    def fresh(self) -> Self:
        """The same refusal as a new exception."""
        return type(self)(
            str(self),
            retry_after_s=self.retry_after_s,
            reason=self.reason,
            expected_part=self.expected_part,
        )


class StreamEndedError(RefusedError):
    """The streamed message takes no parts any more: it was ended, cut off, recalled, or is none."""

    code = "STREAM_ENDED"
    status = 409


class TooLargeError(RefusedError):
    """A frame, body or payload above its limit."""

    code = "TOO_LARGE"
    status = 413


class QuotaError(RefusedError):
    """The user's files would take more room than they may have; there is some again once files of theirs are gone."""

    code = "QUOTA"
    status = 413


class ContentRefusedError(RefusedError):
    """A moderator refused the message for good; the words say why. The same key gets this answer for ever."""

    code = "CONTENT_REFUSED"
    status = 422


class HeldError(RefusedError):
    """A moderator keeps the message for review: it is in no log yet. The same key gets this until it is decided."""

    code = "HELD"
    status = 409
    retryable = True


class RateLimitedError(RefusedError):
    """Too many requests of this kind; `retry_after_s` says when the next is welcome."""

    code = "RATE_LIMITED"
    status = 429
    retryable = True


class InternalError(RefusedError):
    """A fault of the server. Whether anything was stored is unknown; resend with the same key."""

    code = "INTERNAL"
    status = 500
    retryable = True


class OverloadedError(RefusedError):
    """A bounded queue is full; `retry_after_s` says when to come back."""

    code = "OVERLOADED"
    status = 503
    retryable = True


class UnavailableError(RefusedError):
    """Storage refused or the node is not running. Resend with the same key.

    Attributes:
        kind: Why, in one word for figures: `busy`, `full`, `memory`, `damaged`, `disk`, `connection`, `conflict`,
            `locked`, `closed`, or `other`.
    """

    code = "UNAVAILABLE"
    status = 503
    retryable = True
    kind = "other"

    def __init__(
        self,
        message: str = "",
        *,
        retry_after_s: float | None = None,
        reason: str | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, reason=reason)
        if kind is not None:
            self.kind = kind


class UnknownRefusalError(RefusedError):
    """A refusal with a code that this version does not know; `code` and `retryable` are the other side's."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "UNKNOWN",
        retryable: bool = False,
        retry_after_s: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message or code, retry_after_s=retry_after_s, reason=reason)
        self.code = code
        self.retryable = retryable

    def fresh(self) -> Self:
        """The same refusal as a new exception."""
        return type(self)(
            str(self),
            code=self.code,
            retryable=self.retryable,
            retry_after_s=self.retry_after_s,
            reason=self.reason,
        )


class ClientError(ChatkitError):
    """Something on the client's own side of the connection."""

    code = "CLIENT_ERROR"


class ConnectionLostError(ClientError):
    """There is no connection, or it broke before the answer came."""

    code = "CONNECTION_LOST"
    retryable = True


class SendOutcomeUnknownError(ClientError):
    """The deadline of a send passed. It stays queued and is resent under the same clientMsgId.

    Attributes:
        conversation_id: Where it was to go.
        client_msg_id: Its key; a `MessageSent` or `SendFailed` event with it follows.
    """

    code = "SEND_OUTCOME_UNKNOWN"
    retryable = True

    def __init__(self, message: str, *, conversation_id: str, client_msg_id: str) -> None:
        super().__init__(message)
        self.conversation_id = conversation_id
        self.client_msg_id = client_msg_id


class SendCancelledError(ClientError):
    """The message was taken back before it left, by `ChatClient.cancel` or a `stream` without a way; it is not sent."""

    code = "SEND_CANCELLED"


class DeadlineExceededError(ClientError):
    """A request had no answer in time. Reading again is safe; a change may or may not have happened."""

    code = "DEADLINE_EXCEEDED"
    retryable = True


class QueueFullError(ClientError):
    """The resend queue holds its maximum of unacknowledged messages; nothing was queued."""

    code = "QUEUE_FULL"
    retryable = True


class ProtocolError(ClientError):
    """The server sent something that the wire contract does not allow."""

    code = "PROTOCOL_ERROR"


class DamagedError(ClientError):
    """What is in the local store is not what was written to it; the message names the file and what to do."""

    code = "DAMAGED"


class ClosedError(ClientError):
    """The client is closed, or was never entered."""

    code = "CLOSED"


class ConfigurationError(ChatkitError):
    """Wrong set-up, found before any work was done; the message says what to change."""

    code = "CONFIGURATION"


class ImportFileError(ChatkitError):
    """A file that is to be imported is damaged, hostile, or of another format; names the file, and the line if it can.

    What was imported before stays; once the file is mended, a repeat brings the rest.
    """

    code = "IMPORT_FILE"


_REFUSALS: tuple[type[RefusedError], ...] = (
    BadRequestError,
    UnauthenticatedError,
    TokenExpiredError,
    TokenRevokedError,
    ForbiddenError,
    NotFoundError,
    ConflictError,
    RecallWindowPassedError,
    EditWindowPassedError,
    PartOutOfOrderError,
    StreamEndedError,
    TooLargeError,
    QuotaError,
    ContentRefusedError,
    HeldError,
    RateLimitedError,
    InternalError,
    OverloadedError,
    UnavailableError,
)

REFUSALS: dict[str, type[RefusedError]] = {error.code: error for error in _REFUSALS}
"""Every refusal of the wire contract by its code."""


def refusal(
    code: str,
    message: str,
    retry_after_ms: int | None = None,
    *,
    retryable: bool = False,
    reason: object = None,
) -> RefusedError:
    """The exception for a refusal that arrived over the wire.

    Args:
        code: The contract's word. An unknown one (a newer server) becomes `UnknownRefusalError`.
        message: Text for people.
        retry_after_ms: Milliseconds, where the server named them.
        retryable: What the server said; it counts for unknown codes, the others have their own.
        reason: The contract's further word; what is no text counts as none.
    """
    retry_after_s = None if retry_after_ms is None else retry_after_ms / 1000
    said = reason if isinstance(reason, str) else None
    known = REFUSALS.get(code)
    if known is None:
        return UnknownRefusalError(
            message, code=code, retryable=retryable, retry_after_s=retry_after_s, reason=said
        )
    return known(message, retry_after_s=retry_after_s, reason=said)
