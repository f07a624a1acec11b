"""The one module that talks HTTP: requests, retries of what is safe to repeat, and refusals as exceptions.

Called by `api`, which knows the paths. Library errors are translated here and nowhere else.
"""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import anyio
import httpx
import msgspec
from tenacity import stop_after_attempt

from ..core.backoff import RETRY_AFTER_MAX_S, retry_after_of
from ..errors import (
    ChatkitError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    ProtocolError,
    refusal,
)
from ..ports import Ports
from ..wire.http import Problem
from ._retry import Backoff, retrying
from ._token import Token, TokenSource

AsyncClient = httpx.AsyncClient
_T = TypeVar("_T")
_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
BODY_BYTES_MAX = 16 * 1024 * 1024
"""Bound of an answer: a page of 200 entries of 64 KiB, and some room."""

CHUNK_BYTES = 64 * 1024
_BACKOFF_BASE_S = 0.2
_BACKOFF_MAX_S = 5.0


def http_url(base_url: str) -> str:
    """The HTTP address of a server, without a slash at its end. Raises ConfigurationError."""
    parts = urlsplit(base_url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            "the server's address must be http://, https://, ws:// or wss://, without query, fragment or login"
        )
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def path(*segments: str) -> str:
    """A path below `/v1` from plain segments, each escaped."""
    return "/v1/" + "/".join(quote(segment, safe=":@") for segment in segments)


class Http:
    """Requests to one server with one login.

    Args:
        base_url: The server.
        token: The login, or what makes one.
        device_id: Sent as `X-Device-Id` where the token names no device.
        timeout_s: For one request with all its retries.
        attempts_max: Tries of a request that is safe to repeat.
        client: The caller's own client; it is not closed here.
        ports: Clock and jitter.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        device_id: str | None,
        timeout_s: float,
        attempts_max: int,
        client: httpx.AsyncClient | None,
        ports: Ports,
    ) -> None:
        self._base_url = http_url(base_url)
        self._tokens = TokenSource(token, timeout_s)
        self._device_id = device_id
        self._timeout_s = timeout_s
        self._attempts_max = attempts_max
        self._backoff = Backoff(ports.random, _BACKOFF_BASE_S, _BACKOFF_MAX_S)
        self._owned = client is None
        self._client = client or httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    async def call(
        self,
        method: str,
        where: str,
        answer: type[_T],
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        anonymous: bool = False,
        repeat: bool = True,
    ) -> _T:
        """One request of the contract; with `repeat` tried again while it is refused for now or has no answer.

        Raises:
            RefusedError: The server's refusal.
            ConnectionLostError: The server cannot be reached.
            DeadlineExceededError: No answer in time.
            ProtocolError: The answer does not fit the contract.
        """
        stop = stop_after_attempt(self._attempts_max if repeat else 1)
        trying = retrying(_may_retry, stop=stop, wait=self._backoff)
        try:
            with anyio.fail_after(self._timeout_s):
                response: httpx.Response = await trying(self._once, method, where, params, body, anonymous)
        except TimeoutError:
            raise DeadlineExceededError(f"{method} {where}: no answer within {self._timeout_s:g} s") from None
        return _decoded(response, answer)

    async def is_ok(self, where: str) -> bool:
        """Whether a GET without login is answered with success, tried once."""
        try:
            await self._once("GET", where, None, None, True)
        except ChatkitError:
            return False
        return True

    async def aclose(self) -> None:
        """Release the connections, unless the client is the caller's."""
        if self._owned:
            await self._client.aclose()

    async def _once(
        self, method: str, where: str, params: dict[str, Any] | None, body: Any, anonymous: bool
    ) -> httpx.Response:
        headers = {} if anonymous else await self._headers()
        headers["accept-encoding"] = "identity"
        content = None if body is None else msgspec.json.encode(body)
        if content is not None:
            headers["content-type"] = "application/json"
        request = self._client.build_request(
            method, self._base_url + where, params=params, content=content, headers=headers
        )
        try:
            response = await self._client.send(request, stream=True)
            try:
                response = await _whole(response)
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            raise DeadlineExceededError(f"{method} {where}: {type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise ConnectionLostError(f"{method} {where}: {error or type(error).__name__}") from error
        if response.is_success:
            return response
        raise _refusal(response)

    async def _headers(self) -> dict[str, str]:
        headers = {"authorization": f"Bearer {await self._tokens.get()}"}
        if self._device_id is not None:
            headers["x-device-id"] = self._device_id
        return headers


async def _whole(response: httpx.Response) -> httpx.Response:
    """The answer with its body, which is bounded while it comes. Nothing is decompressed.

    Raises:
        ProtocolError: The body is above `BODY_BYTES_MAX`, or encoded although that was not asked for.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ProtocolError("the answer is compressed, which nobody asked for")
    body = bytearray()
    async for chunk in response.aiter_bytes(CHUNK_BYTES):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise ProtocolError(f"the answer is larger than {BODY_BYTES_MAX} bytes")
    return httpx.Response(response.status_code, headers=response.headers, content=bytes(body))


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, ChatkitError) and error.retryable


def _refusal(response: httpx.Response) -> ChatkitError:
    """The exception for an answer that is no success: by its problem document, else by its status."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, ValueError):
        return _undocumented(response)
    error = refusal(problem.code, problem.detail, retryable=problem.retryable)
    said_s = retry_after_of(problem.retry_after_ms)
    error.retry_after_s = _retry_after_s(response) if said_s is None else said_s
    return error


def _undocumented(response: httpx.Response) -> ChatkitError:
    """An answer of something between us and the server."""
    said = f"answered with status {response.status_code} and no problem document"
    if response.status_code in (429, 502, 503, 504):
        error = refusal("UNAVAILABLE", said)
        error.retry_after_s = _retry_after_s(response)
        return error
    return ProtocolError(said)


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return min(float(value), RETRY_AFTER_MAX_S) if value.isascii() and value.isdigit() else None


def _decoded(response: httpx.Response, answer: type[_T]) -> _T:
    if answer is type(None):
        return answer()
    try:
        return msgspec.json.decode(response.content, type=answer)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProtocolError(f"the answer does not fit the contract: {error}") from None
