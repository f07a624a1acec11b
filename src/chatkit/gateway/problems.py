"""Refusals as RFC 9457 problem documents: the one place where an error becomes an HTTP answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import BadRequestError, NotFoundError, RefusedError
from ..server.refusal_log import log_refusal
from ..wire import http as wire

SECURITY_HEADERS: Mapping[str, str] = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""On every answer that does not say otherwise: nothing is kept by anybody in between, nothing is guessed."""

NO_SUCH_PATH: Final = "no such path"
"""What a path that leads nowhere is answered with, and one that is not for whoever asks."""


def document(error: RefusedError, status: int) -> bytes:
    """The problem document of a refusal, answered with this HTTP status."""
    return msgspec.json.encode(
        wire.Problem(
            title=error.code.replace("_", " ").capitalize(),
            status=status,
            detail=str(error),
            code=error.code,
            retryable=error.retryable,
            retry_after_ms=UNSET if error.retry_after_ms is None else error.retry_after_ms,
            reason=UNSET if error.reason is None else error.reason,
        )
    )


def problem(error: RefusedError, status: int | None = None) -> Response:
    """The answer to what is refused: its problem document, with `Retry-After` where it says when.

    Args:
        error: What is refused.
        status: HTTP status where it is not the one of the error's code.
    """
    log_refusal(error, "an HTTP request")
    after_s = error.retry_after_s
    status = status or error.status
    response = Response(document(error, status), status, media_type="application/problem+json")
    if after_s is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(after_s)))
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


async def http_exception(request: Request, error: HTTPException) -> Response:
    """Paths and methods that do not exist."""
    if error.status_code == 404:
        return problem(NotFoundError(NO_SUCH_PATH))
    response = problem(BadRequestError(str(error.detail)), error.status_code)
    response.headers.update(error.headers or {})
    return response
