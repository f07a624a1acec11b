"""One HTTP request as the handlers see it: who asks, and checked values from path, query, headers and body."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.requests import HTTPConnection, Request

from ..errors import BadRequestError, TooLargeError, UnauthenticatedError
from ..server.login_request import LoginRequest
from ..server.proof import Proof
from ..wire import events as ev
from ..wire.codec import JSON

_T = TypeVar("_T")
BODY_TIMEOUT_S = 10.0
"""How long a request may take to send its body."""

_DIGITS = re.compile(r"[0-9]{1,30}\Z")


class Call:
    """One authenticated request.

    Attributes:
        request: The request.
        proof: The login of who asks, as it held when the request was let in.
    """

    __slots__ = ("proof", "request")

    def __init__(self, request: Request, proof: Proof) -> None:
        self.request = request
        self.proof = proof

    @property
    def user_id(self) -> str:
        """The user who asks."""
        return self.proof.user_id

    @property
    def device_id(self) -> str | None:
        """The token's device, else the header `X-Device-Id`, else None."""
        header = self.request.headers.get("x-device-id")
        return self.proof.identity.device_id or (None if header is None else checked(header, ev.Id))

    def path(self, name: str, kind: Any = ev.Id) -> str:
        """A checked part of the path."""
        value: str = checked(self.request.path_params[name], kind)
        return value

    def path_number(self, name: str) -> int:
        """A number in the path. Raises BadRequestError."""
        text: str = self.request.path_params[name]
        value = int(text) if _DIGITS.match(text) else -1
        if not 1 <= value <= ev.SEQ_MAX:
            raise BadRequestError("not a valid number")
        return value

    def number(self, name: str, default: int | None, *, least: int = 0, most: int = ev.SEQ_MAX) -> int:
        """A number of the query. Raises BadRequestError if it is missing without default, or out of range."""
        text = self.request.query_params.get(name)
        if text is None:
            if default is None:
                raise BadRequestError(f"`{name}` is missing")
            return default
        value = int(text) if _DIGITS.match(text) else -1
        if not least <= value <= most:
            bounds = f"from {least}" if most > ev.SEQ_MAX else f"from {least} to {most}"
            raise BadRequestError(f"`{name}` must be a whole number {bounds}")
        return value

    def limit(self, default: int) -> int:
        """The page size; above the greatest it is the greatest."""
        return min(self.number("limit", default, least=1, most=10**30), ev.PAGE_MAX)

    def cursor(self) -> str | None:
        """The id after which a list goes on."""
        text = self.request.query_params.get("cursor")
        return checked(text, ev.Id) if text else None

    def ids(self, name: str, kind: Any) -> list[str]:
        """Ids of the query, separated by commas. Raises BadRequestError: none, too many, or one that is no id."""
        text = self.request.query_params.get(name)
        if not text:
            raise BadRequestError(f"`{name}` is missing")
        try:
            ids: list[str] = msgspec.convert(text.split(","), kind)
        except msgspec.ValidationError:
            raise BadRequestError(f"`{name}` must be ids, separated by commas, and not too many") from None
        return ids

    async def body(self, kind: type[_T]) -> _T:
        """The decoded JSON body. Raises TooLargeError or BadRequestError."""
        content_type = self.request.headers.get("content-type", "application/json")
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise BadRequestError("the body must be application/json")
        try:
            with anyio.fail_after(BODY_TIMEOUT_S):
                received = await self._read()
        except TimeoutError:
            raise BadRequestError("the body did not arrive in time") from None
        try:
            return msgspec.json.decode(received, type=kind)
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"body: {JSON.why(received, error)}") from None

    async def _read(self) -> bytes:
        received = bytearray()
        async for chunk in self.request.stream():
            received += chunk
            if len(received) > ev.FRAME_BYTES_MAX:
                raise TooLargeError(f"the body is above {ev.FRAME_BYTES_MAX} bytes")
        return bytes(received)


def checked(value: Any, kind: Any) -> Any:
    """A value of a path, query or header, held to its type. Raises BadRequestError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise BadRequestError("not a valid id") from None


CREDENTIAL_IN_URL = (
    "a token does not belong in the URL, where every log keeps it; withdraw it and send it as documented"
)
_TOKEN_NAMES = frozenset(
    {"token", "access_token", "accesstoken", "auth_token", "authorization", "jwt", "bearer"}
)
_TOKEN_MAX = 16_384


def has_credential(connection: HTTPConnection) -> bool:
    """Whether the query of a URL holds a token."""
    return any(name.lower() in _TOKEN_NAMES for name in connection.query_params)


def bearer(request: Request) -> str:
    """The token of a request's header; empty without that header.

    Raises:
        UnauthenticatedError: The token is in the URL or too long, or the header holds something else.
    """
    if has_credential(request):
        raise UnauthenticatedError(CREDENTIAL_IN_URL)
    header = request.headers.get("authorization")
    if header is None:
        return ""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError(NO_BEARER)
    if len(token) > _TOKEN_MAX:
        raise UnauthenticatedError(f"the token is above {_TOKEN_MAX} characters")
    return token


NO_BEARER = "`Authorization: Bearer TOKEN` is needed"


def address_of(connection: HTTPConnection) -> LoginRequest:
    """Only where a connection comes from."""
    return LoginRequest(client_address=connection.client.host if connection.client else None)


def login_request(connection: HTTPConnection) -> LoginRequest:
    """All that came with a handshake or a request."""
    return LoginRequest(
        cookies=connection.cookies,
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in connection.headers.raw},
        origin=connection.headers.get("origin"),
        client_address=connection.client.host if connection.client else None,
    )
