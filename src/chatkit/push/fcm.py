"""Push by Google's FCM, HTTP v1. google-auth makes the access tokens, and nothing else.

Source: Google, "FCM HTTP v1 API" and "FCM error codes".
"""

from __future__ import annotations

import calendar
import logging
import ssl
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpcore
import msgspec

from .._arguments import check_kind
from ..errors import ConfigurationError
from ..ports import Clock, Ports
from ._answers import by_status
from ._http import Answer, Http, proxy_of, words_of
from ._payload import fitted
from ._sender import IN_FLIGHT_MAX, TIMEOUT_S, Attempt, LostError, Sender
from .base import Dead, Delivered, Push, Refused, Result, Retry, Unknown

logger = logging.getLogger(__name__)

URL = "https://fcm.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
TTL_MAX_S = 28 * 24 * 3600
"""FCM keeps nothing longer."""

QUOTA_WAIT_S = 60.0
"""What FCM asks for where it names no time itself."""

REFRESH_TIMEOUT_S = 10.0
TOKEN_AGE_MAX_S = 50 * 60
"""A token is used no longer, whatever google-auth says: it takes one without an end for one that never ends."""

TOKEN_LEFT_MIN_S = 300
_PRIORITIES = {"high": ("HIGH", "10"), "normal": ("NORMAL", "5")}


class _Detail(msgspec.Struct):
    error_code: str = msgspec.field(default="", name="errorCode")


class _Error(msgspec.Struct):
    status: str = ""
    details: list[_Detail] = []

    @property
    def code(self) -> str:
        """FCM's own word; empty where it was not FCM that answered."""
        return next((detail.error_code for detail in self.details if detail.error_code), "")


class _Body(msgspec.Struct):
    name: str = ""
    error: _Error = msgspec.field(default_factory=_Error)


class FcmPushProvider:
    """`push.base.PushProvider` for Android, and for what else has FCM registration tokens.

    Args:
        project_id: The Firebase project.
        credentials: The service account: the path of its JSON file, its content as a mapping, or any credentials of
            google-auth with the scope `SCOPE`, which are refreshed in a worker thread.
        url: FCM's address.
        timeout_s: For one push, with the wait for an access token.
        in_flight_max: Pushes under way at the same moment, each on a connection.
        ssl_context: Whom to trust; the system's store by default.
        proxy: An address; None for none, whatever the environment says.
        ports: Clock and jitter.

    Raises:
        ConfigurationError: An argument can never work, or the extra `push` is not installed.
    """

    def __init__(
        self,
        *,
        project_id: str,
        credentials: str | PathLike[str] | Mapping[str, Any] | Any,
        url: str = URL,
        timeout_s: float = TIMEOUT_S,
        in_flight_max: int = IN_FLIGHT_MAX,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        ports: Ports | None = None,
    ) -> None:
        check_kind("project_id", project_id, str)
        check_kind("url", url, str)
        if not url.startswith("https://"):
            raise ConfigurationError("url must begin with https://")
        ports = ports or Ports()
        self._clock = ports.clock
        self._tokens = _AccessTokens(_credentials(credentials), ports.clock, ssl_context, proxy)
        self._url = f"{url.rstrip('/')}/v1/projects/{project_id}/messages:send"
        self._http = Http(http2=False, connections_max=in_flight_max, ssl_context=ssl_context, proxy=proxy)
        self._sender = Sender(self._one, ports=ports, timeout_s=timeout_s, in_flight_max=in_flight_max)

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        """Hand pushes to FCM."""
        return await self._sender.send(batch)

    async def aclose(self) -> None:
        """Close the connections."""
        self._sender.close()
        await self._http.aclose()

    async def _one(self, push: Push, attempt: Attempt) -> Result:
        now_ms = self._clock.now_ms()
        content = fitted(push, lambda title, body: _document(push, title, body, now_ms))
        if content is None:
            return Refused("too large even without its words")
        token = await self._tokens.current()
        answer = await self._post(content, token, attempt)
        if answer.status == 401:
            attempt.left = False  # it was refused, so nothing is unknown
            answer = await self._post(content, await self._tokens.after(token), attempt)
        return self._result(answer)

    async def _post(self, content: bytes, token: str, attempt: Attempt) -> Answer:
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        return await self._http.post(self._url, headers, content, attempt)

    def _result(self, answer: Answer) -> Result:
        body = _body(answer)
        if answer.status == 200:
            return _taken(body)
        code = words_of(body.error.code)
        if code == "UNREGISTERED":
            return Dead(code)
        if code == "SENDER_ID_MISMATCH":
            return Refused(code)
        if not code and answer.status == 404:
            return Retry(0.0, "404 without a word of FCM: is the project right?")
        result = by_status(answer, self._clock.now_ms(), code or words_of(body.error.status))
        if answer.status in (401, 403):
            logger.error("FCM refuses this service account: %s", code or words_of(body.error.status))
        if answer.status == 429 and isinstance(result, Retry):
            return msgspec.structs.replace(result, after_s=result.after_s or QUOTA_WAIT_S)
        return result


class _AccessTokens:
    """The access token, refreshed by one worker thread at a time, which nobody waits for longer than the deadline."""

    def __init__(
        self, credentials: Any, clock: Clock, ssl_context: ssl.SSLContext | None, proxy: str | None
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._request = _Request(ssl_context, proxy)
        self._refreshing = anyio.Lock()
        self._threads: set[object] = set()
        self._token = ""
        self._ends_s = 0.0

    async def current(self) -> str:
        """The token to use. Raises LostError if there is none to be had now."""
        async with self._refreshing:
            if not self._token or self._clock.now_s() >= self._ends_s:
                await self._refresh()
            return self._token

    async def after(self, refused: str) -> str:
        """Another token than one that was refused. Raises LostError if there is none to be had now."""
        async with self._refreshing:
            if self._token == refused:
                await self._refresh()
            return self._token

    async def _refresh(self) -> None:
        if self._threads:
            raise LostError("an access token is being asked for, without an answer")
        with anyio.move_on_after(REFRESH_TIMEOUT_S):
            token, expires_ms = await anyio.to_thread.run_sync(self._ask, abandon_on_cancel=True)
            if not token:
                raise LostError("the token endpoint gave no access token")
            self._token = token
            left_s = TOKEN_AGE_MAX_S if expires_ms is None else (expires_ms - self._clock.now_ms()) / 1000
            self._ends_s = self._clock.now_s() + min(TOKEN_AGE_MAX_S, left_s - TOKEN_LEFT_MIN_S)
            return
        raise LostError(f"no access token within {REFRESH_TIMEOUT_S:g} s")

    def _ask(self) -> tuple[str, int | None]:
        """In a worker thread: a new token, and the Unix milliseconds when it ends."""
        from google.auth.exceptions import GoogleAuthError

        ticket = object()
        self._threads.add(ticket)
        try:
            self._credentials.refresh(self._request)
            expiry = self._credentials.expiry  # a time in UTC without a zone
            return self._credentials.token, expiry and calendar.timegm(expiry.utctimetuple()) * 1000
        except GoogleAuthError as error:
            raise LostError(f"no access token: {type(error).__name__}") from None
        finally:
            self._threads.discard(ticket)


class _Request:
    """`google.auth.transport.Request` on httpcore: asks no environment for a proxy, and follows no redirect."""

    def __init__(self, ssl_context: ssl.SSLContext | None, proxy: str | None) -> None:
        self._ssl_context = ssl_context
        self._proxy = proxy

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Any:
        """One request in the thread that asks. Raises google-auth's TransportError."""
        from google.auth.exceptions import TransportError

        wait_s = min(timeout or REFRESH_TIMEOUT_S, REFRESH_TIMEOUT_S)
        waits = dict.fromkeys(("connect", "read", "write", "pool"), wait_s)
        try:
            with httpcore.ConnectionPool(ssl_context=self._ssl_context, proxy=proxy_of(self._proxy)) as pool:
                answer = pool.request(
                    method,
                    url,
                    headers=list((headers or {}).items()),
                    content=body,
                    extensions={"timeout": waits},
                )
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            raise TransportError(f"{type(error).__name__}") from error  # type: ignore[no-untyped-call]
        names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
        return _Response(answer.status, names, answer.content)


class _Response(msgspec.Struct, frozen=True):
    """`google.auth.transport.Response`."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def _credentials(given: Any) -> Any:
    try:
        from google.auth.credentials import Credentials
        from google.oauth2 import service_account
    except ImportError:
        raise ConfigurationError("FCM needs google-auth: pip install 'chatkit-engine[push]'") from None
    if isinstance(given, Credentials):
        return given
    make: Any = service_account.Credentials
    try:
        if isinstance(given, Mapping):
            return make.from_service_account_info(dict(given), scopes=[SCOPE])
        if isinstance(given, str | PathLike):
            content = msgspec.json.decode(Path(given).read_bytes())
            return make.from_service_account_info(content, scopes=[SCOPE])
    except (OSError, ValueError, TypeError, AttributeError, msgspec.MsgspecError) as error:
        words = f"credentials: no service account can be read: {type(error).__name__}"
        raise ConfigurationError(words) from None
    raise ConfigurationError("credentials must be a path, a mapping, or credentials of google-auth")


def _document(push: Push, title: str | None, body: str | None, now_ms: int) -> dict[str, Any]:
    words = {name: text for name, text in (("title", title), ("body", body)) if text is not None}
    android_priority, apns_priority = _PRIORITIES[push.priority]
    ttl_s = min((push.expires_at_ms - now_ms) // 1000, TTL_MAX_S)
    aps: dict[str, Any] = {"thread-id": push.conversation_id} if words else {"content-available": 1}
    shown: dict[str, Any] = {"tag": push.collapse_id}
    if push.badge is not None:
        aps["badge"] = push.badge
        shown["notification_count"] = push.badge
    android: dict[str, Any] = {"priority": android_priority, "ttl": f"{max(ttl_s, 0)}s"}
    message = {
        "token": push.token,
        "data": {
            "conversationId": push.conversation_id,
            "messageId": push.message_id,
            "pushId": push.id,
            **({"mentioned": "true"} if push.mentioned else {}),
            "data": msgspec.json.encode(dict(push.data)).decode(),
        },
        "android": android | ({"notification": shown} if words else {"collapse_key": push.collapse_id}),
        "apns": {
            "headers": {
                "apns-priority": apns_priority if words else "5",
                "apns-expiration": str(push.expires_at_ms // 1000),
            },
            "payload": {"aps": aps},
        },
    }
    return {"message": message | ({"notification": words} if words else {})}


def _body(answer: Answer) -> _Body:
    try:
        return msgspec.json.decode(answer.body, type=_Body)
    except (msgspec.MsgspecError, ValueError):
        return _Body()


def _taken(body: _Body) -> Result:
    """FCM names what it takes; a 200 without a name is somebody else's."""
    return (
        Delivered(words_of(body.name)) if body.name else Unknown("an answer without a name: this is not FCM")
    )
