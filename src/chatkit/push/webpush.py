"""Web Push for browsers: messages encrypted for one browser (RFC 8291), and signed by the app's own key (RFC 8292).

http-ece encrypts, in about a tenth of a millisecond. The endpoint of a subscription comes from a browser, so a
stranger chooses it: only https, only public addresses, no redirect is followed, and what one push service does wrong
is held against that service alone.
"""

from __future__ import annotations

import logging
import ssl
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import msgspec

from .._arguments import check_kind
from ..errors import BadRequestError, ConfigurationError
from ..ports import Ports
from ._address import NotPublicError, PublicOnly, is_private_literal
from ._answers import by_status
from ._es256 import Es256Key
from ._http import Answer, Http, words_of
from ._payload import fitted
from ._sender import IN_FLIGHT_MAX, TIMEOUT_S, Attempt, Sender
from .base import Dead, Delivered, Push, Refused, Result, Retry

logger = logging.getLogger(__name__)

CONTENT_BYTES_MAX = 3993
"""So much plain text makes 4096 bytes when it is encrypted: what every push service must take."""

PUSH_SERVICES = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "push.apple.com",
    "notify.windows.com",
)
"""The push services of Chrome and Edge, Firefox, Safari, and Edge on Windows: for `services`."""

VAPID_S = 12 * 3600
"""How long a signed token is good for; RFC 8292 allows a day. It is made anew after half of that."""

VAPID_TOKENS_MAX = 100
"""Tokens kept, one for each push service."""

TTL_MAX_S = 28 * 24 * 3600
_NOT_PUBLIC = "the endpoint leads to an address that is not public"
_NO_POINT = "the subscription's key is no point of the curve P-256"
_GONE = (404, 410)
_TAKEN = (200, 201, 202, 204)


class _Keys(msgspec.Struct):
    p256dh: str
    auth: str


class _Subscription(msgspec.Struct):
    endpoint: str
    keys: _Keys


class _Target(msgspec.Struct, frozen=True):
    """A subscription that can be sent to."""

    url: str
    origin: str
    public_key: bytes
    secret: bytes


class WebPushProvider:
    """`push.base.PushProvider` for browsers. A token is the JSON of a `PushSubscription`.

    Args:
        key: The app's own private key in PEM, on the curve P-256; browsers subscribe with its public half,
            `application_server_key`.
        contact: `mailto:` or `https:` address, by which a push service reaches the host.
        services: Hosts that may be sent to, with the names below them. None for all: then whoever registers chooses
            where this server connects to, and how long it waits there.
        private_addresses: Whether endpoints may lead to loopback, private and link-local addresses: for tests.
        timeout_s: For one push.
        in_flight_max: Pushes under way at the same moment, each on a connection.
        ssl_context: Whom to trust; the system's store by default.
        proxy: An address; None for none, whatever the environment says. A proxy resolves names itself, so it must
            keep pushes off private addresses itself too.
        ports: Clock and jitter.

    Raises:
        ConfigurationError: An argument can never work, or the extra `push` is not installed.
    """

    def __init__(
        self,
        *,
        key: str | bytes,
        contact: str,
        services: Collection[str] | None = PUSH_SERVICES,
        private_addresses: bool = False,
        timeout_s: float = TIMEOUT_S,
        in_flight_max: int = IN_FLIGHT_MAX,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        ports: Ports | None = None,
    ) -> None:
        check_kind("contact", contact, str)
        if not contact.startswith(("mailto:", "https:")):
            raise ConfigurationError("contact must begin with mailto: or https:")
        ports = ports or Ports()
        self._clock = ports.clock
        self._encrypted = _Encryption()
        self._vapid = _Vapid(Es256Key(key, "Web Push"), contact, ports)
        self._services = _checked(services)
        self._private_addresses = private_addresses
        backend = None if private_addresses or proxy is not None else PublicOnly()
        self._http = Http(
            http2=False,
            connections_max=in_flight_max,
            ssl_context=ssl_context,
            proxy=proxy,
            backend=backend,
        )
        self._sender = Sender(
            self._one, ports=ports, timeout_s=timeout_s, in_flight_max=in_flight_max, service=_service
        )

    @property
    def application_server_key(self) -> str:
        """The public key for `pushManager.subscribe`, in base64url."""
        return self._vapid.public_key

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        """Hand pushes to the push services of their browsers."""
        return await self._sender.send(batch)

    def check_token(self, token: str) -> None:
        """Return for a subscription that a push could be sent to. Names are not resolved here.

        Raises:
            BadRequestError: It is none, or its endpoint or its key is one that every push to it is refused for.
        """
        target = self._target(token)
        if isinstance(target, str):
            raise BadRequestError(target)
        if not self._encrypted.is_key(target.public_key):
            raise BadRequestError(_NO_POINT)

    async def aclose(self) -> None:
        """Close the connections."""
        self._sender.close()
        await self._http.aclose()

    async def _one(self, push: Push, attempt: Attempt) -> Result:
        target = self._target(push.token)
        if isinstance(target, str):
            return Refused(target)
        plain = fitted(push, lambda title, body: _document(push, title, body), CONTENT_BYTES_MAX)
        if plain is None:
            return Refused("too large even without its words")
        content = self._encrypted.for_browser(plain, target)
        if content is None:
            return Refused(_NO_POINT)
        try:
            answer = await self._http.post(target.url, self._headers(push, target), content, attempt)
        except NotPublicError:
            return Refused(_NOT_PUBLIC)
        return self._result(answer, target)

    def _target(self, token: str) -> _Target | str:
        """Where a subscription leads, or why nothing is sent there."""
        target = _target(token)
        if target is None:
            return "the token is no subscription with an https endpoint"
        host = urlsplit(target.url).hostname or ""
        if not self._allows(host):
            return "the endpoint is of no push service that the host allows"
        if not self._private_addresses and is_private_literal(host):
            return _NOT_PUBLIC
        return target

    def _allows(self, host: str) -> bool:
        return self._services is None or any(
            host == service or host.endswith(f".{service}") for service in self._services
        )

    def _headers(self, push: Push, target: _Target) -> dict[str, str]:
        ttl_s = (push.expires_at_ms - self._clock.now_ms()) // 1000
        return {
            "authorization": self._vapid.header(target.origin),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(min(max(ttl_s, 0), TTL_MAX_S)),
            "urgency": push.priority,
            "topic": _encoded(sha256(push.collapse_id.encode()).digest()[:24]),  # 32 characters are allowed
        }

    def _result(self, answer: Answer, target: _Target) -> Result:
        if answer.status in _TAKEN:
            return Delivered(words_of(answer.headers.get("location", "")) or None)
        if answer.status in _GONE:
            return Dead(f"status {answer.status}")
        result = by_status(answer, self._clock.now_ms())
        if answer.status in (401, 403):
            logger.warning(
                "%s refuses the app's key for a subscription: status %d", target.origin, answer.status
            )
        if isinstance(result, Retry) and answer.status < 500:
            # A stranger chose the endpoint, so it speaks against no service; a wrong key or clock of the host is
            # mended, so it is not refused for good.
            return msgspec.structs.replace(result, failed=False)
        return result


class _Encryption:
    """RFC 8291 by http-ece. A key pair of its own for each message."""

    def __init__(self) -> None:
        try:
            import http_ece  # type: ignore[import-untyped]
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError:
            raise ConfigurationError("Web Push needs http-ece: pip install 'chatkit-engine[push]'") from None
        self._http_ece: Any = http_ece
        self._ec: Any = ec

    def is_key(self, public_key: bytes) -> bool:
        """Whether it is a point of the curve."""
        try:
            self._ec.EllipticCurvePublicKey.from_encoded_point(self._ec.SECP256R1(), public_key)
        except ValueError:
            return False
        return True

    def for_browser(self, plain: bytes, target: _Target) -> bytes | None:
        """The message as only that browser reads it; None if its key is none."""
        own = self._ec.generate_private_key(self._ec.SECP256R1())
        try:
            content: bytes = self._http_ece.encrypt(
                plain, private_key=own, dh=target.public_key, auth_secret=target.secret, version="aes128gcm"
            )
        except (ValueError, self._http_ece.ECEException):
            return None
        return content


class _Vapid:
    """Tokens that name the app to push services, kept for each of them."""

    def __init__(self, key: Es256Key, contact: str, ports: Ports) -> None:
        self._key = key
        self._contact = contact
        self._clock = ports.clock
        self._kept: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self.public_key = _encoded(key.public_point())

    def header(self, origin: str) -> str:
        """The value of `Authorization` for a push service."""
        now_ms = self._clock.now_ms()
        made_ms, token = self._kept.get(origin, (0, ""))
        if not 0 <= now_ms - made_ms < VAPID_S * 500 or not token:
            claims = {"aud": origin, "exp": now_ms // 1000 + VAPID_S, "sub": self._contact}
            token = self._key.sign(claims)
            self._kept[origin] = (now_ms, token)
        self._kept.move_to_end(origin)
        if len(self._kept) > VAPID_TOKENS_MAX:
            self._kept.popitem(last=False)
        return f"vapid t={token}, k={self.public_key}"


def _target(token: str) -> _Target | None:
    """Where a subscription leads; None for what is none."""
    try:
        found = msgspec.json.decode(token, type=_Subscription)
        parts = urlsplit(found.endpoint)
        port = parts.port
        public_key, secret = _decoded(found.keys.p256dh), _decoded(found.keys.auth)
    except (msgspec.MsgspecError, ValueError, Base64Error):
        return None
    fine = found.endpoint.isascii() and found.endpoint.isprintable() and " " not in found.endpoint
    if not fine or parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        return None
    if len(public_key) != 65 or len(secret) != 16:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    origin = f"https://{host}" if port in (None, 443) else f"https://{host}:{port}"
    return _Target(found.endpoint, origin, public_key, secret)


def _checked(services: Collection[str] | None) -> tuple[str, ...] | None:
    if services is None:
        return None
    if isinstance(services, str) or not all(isinstance(each, str) and each for each in services):
        raise ConfigurationError("services must be a list of host names, such as PUSH_SERVICES")
    return tuple(each.lower() for each in services)


def _service(push: Push) -> str:
    target = _target(push.token)
    return "" if target is None else target.origin


def _document(push: Push, title: str | None, body: str | None) -> dict[str, Any]:
    return {
        "id": push.id,
        "title": title,
        "body": body,
        "badge": push.badge,
        "collapseId": push.collapse_id,
        "conversationId": push.conversation_id,
        "messageId": push.message_id,
        **({"mentioned": True} if push.mentioned else {}),
        "data": dict(push.data),
    }


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """From base64url, padded or not; a few browsers use the other alphabet."""
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    return urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
