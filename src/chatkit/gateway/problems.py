"""Refusals as RFC 9457 problem documents: the one place where an error becomes an HTTP answer."""

from __future__ import annotations

import math

import msgspec
from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import BadRequestError, NotFoundError, RefusedError
from ..wire import http as wire


def problem(error: RefusedError, status: int | None = None) -> Response:
    """The problem document of a refusal, with `Retry-After` where it says when.

    Args:
        error: What is refused.
        status: HTTP status where it is not the one of the error's code.
    """
    after_s = error.retry_after_s
    status = status or error.status
    body = wire.Problem(
        title=error.code.replace("_", " ").capitalize(),
        status=status,
        detail=str(error),
        code=error.code,
        retryable=error.retryable,
        retry_after_ms=UNSET if error.retry_after_ms is None else error.retry_after_ms,
    )
    response = Response(msgspec.json.encode(body), status, media_type="application/problem+json")
    if after_s is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(after_s)))
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


async def http_exception(request: Request, error: HTTPException) -> Response:
    """Paths and methods that do not exist."""
    if error.status_code == 404:
        return problem(NotFoundError("no such path"))
    response = problem(BadRequestError(str(error.detail)), error.status_code)
    response.headers.update(error.headers or {})
    return response
