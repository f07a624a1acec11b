"""Push handed to one URL of the host's, as signed JSON: for services that chatkit has no adapter for.

A receiver checks the header `Chatkit-Signature: t=<Unix seconds>,v1=<hex>`: `v1` is the HMAC-SHA256 of `<t>.<body>`
with the shared secret. docs/push.md shows how, in ten lines.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .._arguments import check_kind
from ..errors import ConfigurationError
from ..ports import Ports
from ._answers import by_status
from ._http import Answer, Http
from ._payload import fitted
from ._sender import IN_FLIGHT_MAX, TIMEOUT_S, Attempt, Sender
from .base import PAYLOAD_BYTES_MAX, TOKEN_CHARS_MAX, Dead, Delivered, Push, Refused, Result

SECRET_BYTES_MIN = 32
BODY_BYTES_MAX = PAYLOAD_BYTES_MAX + TOKEN_CHARS_MAX
"""A token may be as long as a subscription."""


class WebhookPushProvider:
    """`push.base.PushProvider` that POSTs each push to a URL. Tokens are whatever the receiver knows devices by.

    It answers 2xx for taken, 410 for a token to drop, 429 or 5xx (with `Retry-After`, if it likes) for later, and
    another 4xx for never. The same push may come twice, with the same `Chatkit-Push-Id`.

    Args:
        url: `https://`, or `http://` within a network of the host's own.
        secret: Shared with the receiver, at least 32 bytes.
        timeout_s: For one push.
        in_flight_max: Pushes under way at the same moment, each on a connection.
        ssl_context: Whom to trust; the system's store by default.
        proxy: An address; None for none, whatever the environment says.
        ports: Clock and jitter.

    Raises:
        ConfigurationError: An argument can never work.
    """

    def __init__(
        self,
        *,
        url: str,
        secret: str | bytes,
        timeout_s: float = TIMEOUT_S,
        in_flight_max: int = IN_FLIGHT_MAX,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        ports: Ports | None = None,
    ) -> None:
        self._url = _checked(url)
        self._secret = secret.encode() if isinstance(secret, str) else secret
        check_kind("secret", self._secret, bytes)
        if len(self._secret) < SECRET_BYTES_MIN:
            raise ConfigurationError(f"secret must have at least {SECRET_BYTES_MIN} bytes")
        ports = ports or Ports()
        self._clock = ports.clock
        self._http = Http(http2=False, connections_max=in_flight_max, ssl_context=ssl_context, proxy=proxy)
        self._sender = Sender(self._one, ports=ports, timeout_s=timeout_s, in_flight_max=in_flight_max)

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        """Hand pushes to the receiver."""
        return await self._sender.send(batch)

    async def aclose(self) -> None:
        """Close the connections."""
        self._sender.close()
        await self._http.aclose()

    async def _one(self, push: Push, attempt: Attempt) -> Result:
        content = fitted(push, lambda title, body: _document(push, title, body), BODY_BYTES_MAX)
        if content is None:
            return Refused("too large even without its words")
        headers = {
            "content-type": "application/json",
            "chatkit-push-id": push.id,
            "chatkit-signature": signature(self._secret, self._clock.now_ms() // 1000, content),
        }
        return self._result(push, await self._http.post(self._url, headers, content, attempt))

    def _result(self, push: Push, answer: Answer) -> Result:
        if 200 <= answer.status < 300:
            return Delivered(push.id)
        if answer.status == 410:
            return Dead("status 410")
        return by_status(answer, self._clock.now_ms())


def signature(secret: bytes, at_s: int, body: bytes) -> str:
    """The value of `Chatkit-Signature` for a body that is sent at a Unix time."""
    return f"t={at_s},v1={hmac.new(secret, b'%d.' % at_s + body, 'sha256').hexdigest()}"


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it checks it
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError("url cannot be read as an address") from None
    if not isinstance(url, str) or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("url must begin with https:// or http://")
    if "@" in parts.netloc or not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigurationError("url must be plain ASCII, without a login")
    return url


def _document(push: Push, title: str | None, body: str | None) -> dict[str, Any]:
    return {
        "id": push.id,
        "token": push.token,
        "title": title,
        "body": body,
        "badge": push.badge,
        "priority": push.priority,
        "expiresAtMs": push.expires_at_ms,
        "collapseId": push.collapse_id,
        "conversationId": push.conversation_id,
        "messageId": push.message_id,
        **({"mentioned": True} if push.mentioned else {}),
        "data": dict(push.data),
    }
