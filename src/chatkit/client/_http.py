"""The one module that talks HTTP: requests, retries of what is safe to repeat, and refusals as exceptions.

Called by `api`, which knows the paths. Library errors are translated here and nowhere else.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import anyio
import h11
import httpx
import msgspec
from tenacity import RetryCallState, stop_after_attempt
from tenacity.stop import stop_base

from .._handshake import handshake_guarded
from ..core.backoff import retry_after_in, retry_after_of
from ..errors import (
    ChatkitError,
    ClosedError,
    ConnectionLostError,
    DeadlineExceededError,
    HeldError,
    ProtocolError,
    UnauthenticatedError,
    refusal,
)
from ..ports import Ports
from ..transport.failure import explain, said
from ..transport.network import Network, server_url
from ..wire.http import Problem
from ._retry import Backoff, ask_repeatedly, retrying
from ._token import TokenSource

AsyncClient = httpx.AsyncClient
_T = TypeVar("_T")
_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
ATTEMPTS_MAX = 5
BODY_BYTES_MAX = 16 * 1024 * 1024
"""Bound of an answer: a page of 200 entries of 64 KiB, and some room."""

CHUNK_BYTES = 64 * 1024
_BACKOFF_BASE_S = 0.2
_BACKOFF_MAX_S = 5.0


def http_url(base_url: str) -> str:
    """The HTTP address of a server, without a slash at its end. Raises ConfigurationError."""
    return server_url(base_url, _SCHEMES)


def path(*segments: str) -> str:
    """A path below `/v1` from plain segments, each escaped."""
    return "/v1/" + "/".join(quote(segment, safe=":@") for segment in segments)


class UnansweredError(ConnectionLostError):
    """Not one byte of an answer came. A kept connection that the server closes just then ends like this."""


class Http:
    """Requests to one server with one login.

    Args:
        base_url: The server.
        tokens: The login.
        device_id: Sent as `X-Device-Id` where the token names no device.
        timeout_s: For one request with all its retries.
        attempts_max: Tries of a request that is safe to repeat.
        network: Trust, proxy and headers.
        client: The caller's own client, which has its own trust and proxy; it is not closed here.
        ports: Clock and jitter.

    Attributes:
        device_id: As it was given.
        backoff: Waits between tries.
    """

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource,
        device_id: str | None,
        timeout_s: float,
        attempts_max: int,
        network: Network,
        client: httpx.AsyncClient | None,
        ports: Ports,
    ) -> None:
        self._base_url = http_url(base_url)
        self._tokens = tokens
        self.device_id = device_id
        self._timeout_s = timeout_s
        self._attempts_max = attempts_max
        self.backoff = Backoff(ports.random, _BACKOFF_BASE_S, _BACKOFF_MAX_S)
        self._network = network
        self._proxy = network.proxy_for(self._base_url)
        self._owned = client is None
        self._client = client
        self._making = anyio.Lock()
        self._closed = False

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

        Without `repeat` it is tried once more if not one byte of an answer came, and never after a refusal.

        Raises:
            RefusedError: The server's refusal; at once where the wait before the next try is longer than what is left.
            ConnectionLostError: The server cannot be reached; says why. Likewise.
            DeadlineExceededError: No answer in time; its cause is what the try before failed of, if there was one.
            ProtocolError: The answer does not fit the contract.
            ClosedError: After `aclose`.
        """
        failed: BaseException | None = None

        def keep(state: RetryCallState) -> None:
            nonlocal failed
            failed = state.outcome.exception() if state.outcome is not None else None

        self._check_open()
        may_retry, tries_max = (_may_retry, self._attempts_max) if repeat else (_is_unanswered, 2)
        once = self._once if anonymous else self._logged_in
        with anyio.move_on_after(self._timeout_s) as scope:
            enough = stop_after_attempt(min(tries_max, self._attempts_max)) | _TooLate(scope.deadline)
            trying = retrying(may_retry, stop=enough, wait=self.backoff, before_sleep=keep)
            return _decoded(await ask_repeatedly(trying, once, method, where, params, body), answer)
        raise DeadlineExceededError(f"{method} {where}: no answer within {self._timeout_s:g} s") from failed

    async def put(
        self, link: str, chunks: AsyncIterator[bytes], headers: dict[str, str], answer: type[_T]
    ) -> _T:
        """Send bytes to a link, once; without the login, which it does not need. Raises as `call`."""
        async with self._streamed("PUT", link, headers, chunks) as response:
            whole = await _whole(response)
        if not whole.is_success:
            raise _refusal(whole)
        return _decoded(whole, answer)

    @asynccontextmanager
    async def get(
        self, link: str, headers: dict[str, str]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """The bytes behind a link, as they come: the status, 200 or 206, and chunks. Raises as `call`."""
        async with self._streamed("GET", link, headers, None) as response:
            if response.status_code not in (200, 206):
                raise _refusal(await _whole(response))
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ProtocolError("the file is compressed, which nobody asked for")
            yield response.status_code, response.aiter_raw(CHUNK_BYTES)

    @asynccontextmanager
    async def _streamed(
        self, method: str, link: str, headers: dict[str, str], chunks: AsyncIterator[bytes] | None
    ) -> AsyncIterator[httpx.Response]:
        """An answer while it comes. Its name in errors is that of its path: the rest of a link is a secret."""
        headers = self._network.headers | headers | {"accept-encoding": "identity"}
        where = f"{method} {link.partition('?')[0]}"
        client = await self._opened()
        url = self._base_url + link
        try:
            async with (
                handshake_guarded() as trace,
                client.stream(
                    method,
                    url,
                    content=chunks,
                    headers=headers,
                    timeout=self._timeout_s,
                    extensions={"trace": trace},
                ) as response,
            ):
                yield response
        except httpx.TimeoutException as error:
            raise DeadlineExceededError(f"{where}: {type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise ConnectionLostError(f"{where}: {self._why(error)}") from error
        except h11.LocalProtocolError as error:  # which httpx lets through for a body
            raise ConnectionLostError(f"{where}: {said(error)}") from error

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this ChatApi is closed")

    async def aclose(self) -> None:
        """Release the connections, unless the client is the caller's. A second call does nothing."""
        self._closed = True
        async with self._making:  # a call under way may be making one
            if self._owned and self._client is not None:
                await self._client.aclose()

    async def _logged_in(
        self, method: str, where: str, params: dict[str, Any] | None, body: Any
    ) -> httpx.Response:
        """One request with the login; where that is refused, once more with a fresh one, if there is one."""
        token = await self._tokens.get()
        try:
            return await self._once(method, where, params, body, self._login(token))
        except UnauthenticatedError:
            self._tokens.refused(token)
            fresh = await self._tokens.get()
            if fresh == token:
                raise
            return await self._once(method, where, params, body, self._login(fresh))

    async def _once(
        self,
        method: str,
        where: str,
        params: dict[str, Any] | None,
        body: Any,
        login: dict[str, str] | None = None,
    ) -> httpx.Response:
        headers = self._network.headers | (login or {}) | {"accept-encoding": "identity"}
        content = None if body is None else msgspec.json.encode(body)
        if content is not None:
            headers["content-type"] = "application/json"
        client, began = await self._opened(), False
        url = self._base_url + where
        try:
            async with (
                handshake_guarded() as trace,
                client.stream(
                    method, url, params=params, content=content, headers=headers, extensions={"trace": trace}
                ) as stream,
            ):
                began = True
                response = await _whole(stream)
        except httpx.TimeoutException as error:
            raise DeadlineExceededError(f"{method} {where}: {type(error).__name__}") from error
        except httpx.HTTPError as error:
            lost = ConnectionLostError if began else UnansweredError
            raise lost(f"{method} {where}: {self._why(error)}") from error
        if response.is_success:
            return response
        raise _refusal(response)

    async def _opened(self) -> httpx.AsyncClient:
        """The client, made at the first need: reading trusted certificates takes a while, in a worker thread."""
        async with self._making:
            self._check_open()
            if self._client is None:
                self._client = await self._made()
            return self._client

    async def _made(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=self._timeout_s,
            trust_env=False,
            verify=await self._context(),
            proxy=None if self._proxy is None else await self._through(self._proxy),
        )

    async def _through(self, proxy: str) -> httpx.Proxy:
        context = await self._network.ssl_context() if proxy.startswith("https:") else None
        return httpx.Proxy(proxy, ssl_context=context)

    async def _context(self) -> ssl.SSLContext:
        if self._base_url.startswith("https:"):
            return await self._network.ssl_context()
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: there is no TLS to be had

    def _login(self, token: str) -> dict[str, str]:
        headers = {"authorization": f"Bearer {token}"}
        if self.device_id is not None:
            headers["x-device-id"] = self.device_id
        return headers

    def _why(self, error: httpx.HTTPError) -> str:
        if isinstance(error, httpx.ConnectError):
            parts = urlsplit(self._base_url)
            via = "" if self._proxy is None else " (through the proxy)"
            return explain(error, parts.netloc + via, secure=parts.scheme == "https")[1]
        return said(error)


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
    return isinstance(error, ChatkitError) and error.retryable and not isinstance(error, HeldError)


class _TooLate(stop_base):
    """A policy: no further try that would begin after the deadline; what the last one failed of says more."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s

    def __call__(self, retry_state: RetryCallState) -> bool:
        return anyio.current_time() + retry_state.upcoming_sleep >= self._deadline_s


def _is_unanswered(error: BaseException) -> bool:
    return isinstance(error, UnansweredError)


def _refusal(response: httpx.Response) -> ChatkitError:
    """The exception for an answer that is no success: by its problem document, else by its status."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, ValueError):
        return _undocumented(response)
    error = refusal(problem.code, problem.detail, retryable=problem.retryable, reason=problem.reason)
    said_s = retry_after_of(problem.retry_after_ms)
    error.retry_after_s = (
        retry_after_in(response.headers.get("retry-after", "")) if said_s is None else said_s
    )
    return error


def _undocumented(response: httpx.Response) -> ChatkitError:
    """An answer of something between us and the server."""
    words = f"no problem document of chatkit, but {_described(response)}"
    if response.status_code in (429, 502, 503, 504):
        error = refusal("UNAVAILABLE", words)
        error.retry_after_s = retry_after_in(response.headers.get("retry-after", ""))
        return error
    if response.status_code == 413:
        return refusal("TOO_LARGE", words)
    return ProtocolError(words)


def _described(response: httpx.Response) -> str:
    """What came, bounded: status, kind, where it points, and how the body begins."""
    kind = said(response.headers.get("content-type", "none"))
    words = f"status {response.status_code}, content-type {kind}"
    if response.is_redirect:
        words += f", to {said(response.headers.get('location', ''))} (redirects are not followed)"
    begins = response.content[:1000].decode("utf-8", "replace")
    return f"{words}, {f'body {said(begins)!r}' if begins else 'no body'}"


def _decoded(response: httpx.Response, answer: type[_T]) -> _T:
    """The body; where the contract has none, exactly 204: a proxy answers 200 for hosts that it does not know."""
    wants_none = answer is type(None)
    if wants_none is not (response.status_code == 204):
        wanted = "204" if wants_none else "a body"
        raise ProtocolError(f"the answer should be {wanted}, but is {_described(response)}")
    if wants_none:
        return answer()
    try:
        return msgspec.json.decode(response.content, type=answer)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProtocolError(
            f"the answer does not fit the contract ({error}): {_described(response)}"
        ) from None
