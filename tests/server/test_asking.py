"""What a host's callables may answer, and what becomes of everything else."""

from __future__ import annotations

import logging
import re
from typing import Any

import anyio
import pytest

from chatkit.errors import (
    BannedError,
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    TokenExpiredError,
    TokenRevokedError,
    UnauthenticatedError,
    UnavailableError,
)
from chatkit.server.asking import Asking
from chatkit.types import Identity


def asking(answer: Any) -> Asking:
    async def authenticate(token: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Asking(authenticate, None, 1.0)


WRONG: dict[str, tuple[Any, str]] = {
    "none": (None, "raise UnauthenticatedError"),
    "text": ("ann", "return chatkit.Identity"),
    "number": (Identity(1), "user_id_from"),  # type: ignore[arg-type]
    "bar": (Identity("auth0|5f7c"), "user_id_from"),
    "plus": (Identity("ann+chat@x.org"), "user_id_from"),
    "empty": (Identity(""), "user_id_from"),
    "device": (Identity("ann", "my phone"), "user_id_from"),
    "end": (Identity("ann", expires_ms=1.5), "expires_ms"),  # type: ignore[arg-type]
    "negative end": (Identity("ann", expires_ms=-1), "expires_ms"),
    "issue": (Identity("ann", issued_at_ms="x"), "issued_at_ms"),  # type: ignore[arg-type]
    "scope": (Identity("ann", scope=None), "scope"),  # type: ignore[arg-type]
    "scope with NUL": (Identity("ann", scope="chat\x00"), "scope"),
    "scope with half a character": (Identity("ann", scope="\ud800 chat"), "scope"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_answer_is_refused_at_once_and_the_log_says_once_what_to_do(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, advice = WRONG[name]
    host = asking(answer)
    for _ in range(3):
        with pytest.raises(UnauthenticatedError, match="its log says why"):
            await host.who("t")

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert advice in record.message


async def test_each_kind_of_wrong_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([None, Identity("a b"), None, Identity("c d")])

    async def authenticate(token: str) -> Any:
        return next(answers)

    host = Asking(authenticate, None, 1.0)
    for _ in range(4):
        with pytest.raises(UnauthenticatedError):
            await host.who("t")

    assert len(caplog.records) == 2


async def test_a_plain_function_is_asked_too() -> None:
    assert await Asking(lambda token: Identity(token), None, 1.0).who("ann") == Identity("ann")


async def test_a_host_that_is_down_is_no_wrong_password(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnavailableError) as caught:
        await asking(ConnectionError("down")).who("t")
    assert caught.value.retry_after_s == 1.0
    with pytest.raises(TokenExpiredError):
        await asking(TokenExpiredError("over")).who("t")


@pytest.mark.parametrize(
    "error", [ForbiddenError("suspended"), NotFoundError("no such user"), ConflictError("?")]
)
async def test_a_refusal_that_no_retry_mends_is_a_refused_login(error: RefusedError) -> None:
    with pytest.raises(UnauthenticatedError, match=re.escape(str(error))):
        await asking(error).who("t")


@pytest.mark.parametrize(
    "error",
    [BannedError("gone"), TokenRevokedError("withdrawn"), RateLimitedError("later", retry_after_s=7.0)],
)
async def test_a_refusal_that_the_client_understands_is_passed_on(error: RefusedError) -> None:
    with pytest.raises(type(error)) as caught:
        await asking(error).who("t")
    assert caught.value.retry_after_s == error.retry_after_s


async def test_a_host_that_does_not_answer_is_not_waited_for() -> None:
    async def silent(token: str) -> Identity:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(UnavailableError):
        await Asking(silent, None, 0.5).who("t")


@pytest.mark.parametrize("parts", [(None, None), ("token", None), (lambda token: None, "yes")])
def test_what_cannot_be_called_is_a_wrong_set_up(parts: Any) -> None:
    with pytest.raises(ConfigurationError):
        Asking(*parts, 1.0)
