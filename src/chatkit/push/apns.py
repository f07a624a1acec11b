"""Push by Apple's APNs: HTTP/2 and a provider token signed with ES256.

Source: Apple, "Sending notification requests to APNs", "Handling notification responses from APNs" and "Establishing a
token-based connection to APNs".
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from .._arguments import check_kind
from ..errors import BadRequestError, ConfigurationError
from ..ports import Ports
from ._answers import by_status
from ._es256 import Es256Key
from ._http import Answer, Http, words_of
from ._payload import fitted
from ._sender import IN_FLIGHT_MAX, TIMEOUT_S, Attempt, Sender
from .base import Dead, Delivered, Push, Refused, Result, Retry, Unknown

logger = logging.getLogger(__name__)

PRODUCTION = "https://api.push.apple.com"
SANDBOX = "https://api.sandbox.push.apple.com"
TOKEN_AGE_MIN_S = 20 * 60
"""Apple refuses who makes tokens more often."""

TOKEN_AGE_MAX_S = 50 * 60
"""Apple refuses tokens of an hour."""

_NOT_OF_APNS = "the token is no device token of APNs"
_COLLAPSE_ID_BYTES_MAX = 64
_PRIORITIES = {"high": "10", "normal": "5"}


class _Problem(msgspec.Struct):
    reason: str = ""
    timestamp: Any = None


class ApnsPushProvider:
    """`push.base.PushProvider` for iOS, iPadOS, macOS and watchOS. Tokens are device tokens in hexadecimal.

    Args:
        key: The private key of the `.p8` file, its text.
        key_id: Its ten characters.
        team_id: The ten characters of the developer account.
        topic: The app's bundle id.
        url: `PRODUCTION` or `SANDBOX`; development builds have tokens of the sandbox.
        timeout_s: For one push.
        in_flight_max: Pushes under way at the same moment, on one connection.
        ssl_context: Whom to trust; the system's store by default.
        proxy: An address; None for none, whatever the environment says.
        ports: Clock and jitter.

    Raises:
        ConfigurationError: An argument can never work, or the extra `push` is not installed.
    """

    def __init__(
        self,
        *,
        key: str | bytes,
        key_id: str,
        team_id: str,
        topic: str,
        url: str = PRODUCTION,
        timeout_s: float = TIMEOUT_S,
        in_flight_max: int = IN_FLIGHT_MAX,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        ports: Ports | None = None,
    ) -> None:
        for name, value in (("key_id", key_id), ("team_id", team_id), ("topic", topic), ("url", url)):
            check_kind(name, value, str)
        if not url.startswith("https://"):
            raise ConfigurationError("url must begin with https://")
        ports = ports or Ports()
        self._clock = ports.clock
        self._token = _ProviderToken(Es256Key(key, "APNs"), key_id, team_id, ports)
        self._topic = topic
        self._url = url.rstrip("/")
        self._http = Http(http2=True, connections_max=1, ssl_context=ssl_context, proxy=proxy)
        self._sender = Sender(self._one, ports=ports, timeout_s=timeout_s, in_flight_max=in_flight_max)

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        """Hand pushes to APNs."""
        return await self._sender.send(batch)

    def check_token(self, token: str) -> None:
        """Return for what may be a device token of APNs. Raises BadRequestError."""
        if not _is_device_token(token):
            raise BadRequestError(_NOT_OF_APNS)

    async def aclose(self) -> None:
        """Close the connection."""
        self._sender.close()
        await self._http.aclose()

    async def _one(self, push: Push, attempt: Attempt) -> Result:
        if not _is_device_token(push.token):
            return Refused(_NOT_OF_APNS)
        content = fitted(push, lambda title, body: _document(push, title, body))
        if content is None:
            return Refused("too large even without its words")
        token = self._token.current()
        answer = await self._post(push, content, token, attempt)
        problem = _problem(answer)
        if problem.reason == "ExpiredProviderToken" and (newer := self._token.after(token)) is not None:
            attempt.left = False  # it was refused, so nothing is unknown
            answer = await self._post(push, content, newer, attempt)
            problem = _problem(answer)
        return self._result(answer, problem)

    async def _post(self, push: Push, content: bytes, token: str, attempt: Attempt) -> Answer:
        headers = self._headers(push) | {"authorization": f"bearer {token}"}
        return await self._http.post(f"{self._url}/3/device/{push.token}", headers, content, attempt)

    def _headers(self, push: Push) -> dict[str, str]:
        shown = push.title is not None or push.body is not None
        return {
            "content-type": "application/json",
            "apns-id": push.id,
            "apns-topic": self._topic,
            "apns-collapse-id": _collapse_id(push),
            "apns-expiration": str(push.expires_at_ms // 1000),
            "apns-push-type": "alert" if shown else "background",
            "apns-priority": _PRIORITIES[push.priority if shown else "normal"],
        }

    def _result(self, answer: Answer, problem: _Problem) -> Result:
        reason = words_of(problem.reason)
        if answer.status == 200:
            return _taken(answer)
        if answer.status == 410 and reason:
            return Dead(reason, problem.timestamp if type(problem.timestamp) is int else None)
        if not reason and answer.status < 429:
            return Retry(0.0, f"status {answer.status} without a reason: this is not APNs")
        if answer.status == 403:
            logger.error("APNs refuses the provider token: %s", reason)
        result = by_status(answer, self._clock.now_ms(), reason)
        if reason == "TooManyProviderTokenUpdates" and isinstance(result, Retry):
            return msgspec.structs.replace(result, failed=True)
        return result


class _ProviderToken:
    """The token that names us to Apple: made anew when it gets old, and never too often.

    Its age is by the wall clock or the monotonic one, whichever is more: one may jump, the other may stand still
    while the machine sleeps.
    """

    def __init__(self, key: Es256Key, key_id: str, team_id: str, ports: Ports) -> None:
        self._key = key
        self._key_id = key_id
        self._team_id = team_id
        self._clock = ports.clock
        self._token = ""
        self._made_s = 0.0
        self._made_ms = 0

    def current(self) -> str:
        """The token to use."""
        if not self._token or self._age_s() >= TOKEN_AGE_MAX_S:
            self._make()
        return self._token

    def after(self, refused: str) -> str | None:
        """Another token than one that Apple calls expired; None where it is too early for a new one."""
        if self._token == refused:
            if self._age_s() < TOKEN_AGE_MIN_S:
                logger.error("APNs calls a new provider token expired: is this machine's clock right?")
                return None
            self._make()
        return self._token

    def _make(self) -> None:
        self._made_s, self._made_ms = self._clock.now_s(), self._clock.now_ms()
        claims = {"iss": self._team_id, "iat": self._made_ms // 1000}
        self._token = self._key.sign(claims, {"kid": self._key_id})

    def _age_s(self) -> float:
        return max(self._clock.now_s() - self._made_s, (self._clock.now_ms() - self._made_ms) / 1000)


def _document(push: Push, title: str | None, body: str | None) -> dict[str, Any]:
    aps: dict[str, Any] = {"thread-id": push.conversation_id}
    alert = {name: text for name, text in (("title", title), ("body", body)) if text is not None}
    if alert:
        aps |= {"alert": alert, "sound": "default", "mutable-content": 1}
    else:
        aps["content-available"] = 1
    if push.badge is not None:
        aps["badge"] = push.badge
    return {
        "aps": aps,
        "conversationId": push.conversation_id,
        "messageId": push.message_id,
        **({"mentioned": True} if push.mentioned else {}),
        "data": dict(push.data),
    }


def _is_device_token(token: str) -> bool:
    return token.isalnum() and token.isascii()


def _collapse_id(push: Push) -> str:
    """Apple takes 64 bytes: what is longer, or no plain text, is told apart by its hash."""
    plain = push.collapse_id
    if (
        len(plain) <= _COLLAPSE_ID_BYTES_MAX
        and plain.isascii()
        and plain.isprintable()
        and plain == plain.strip()
    ):
        return plain
    return sha256(plain.encode()).hexdigest()


def _problem(answer: Answer) -> _Problem:
    try:
        return msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.MsgspecError, ValueError):
        return _Problem()


def _taken(answer: Answer) -> Result:
    """APNs names what it takes; a 200 without a name is somebody else's."""
    name = answer.headers.get("apns-id")
    return Delivered(words_of(name)) if name else Unknown("an answer without apns-id: this is not APNs")
