"""Where the login comes from: a fixed token, or an async callable that makes fresh ones. Never logged or printed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..errors import ClientError, ConfigurationError, DeadlineExceededError

Token = str | Callable[[], Awaitable[str]]


class TokenSource:
    """The token, asked for anew whenever a login needs one.

    Args:
        token: The token itself, or what makes one.
        timeout_s: For one call.
    """

    def __init__(self, token: Token, timeout_s: float) -> None:
        if not callable(token) and not (isinstance(token, str) and token):
            raise ConfigurationError("token must be a string that is not empty, or an async callable")
        self._token = token
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"<TokenSource {'renewable' if self.renewable else 'fixed'}>"

    @property
    def renewable(self) -> bool:
        """Whether asking again can give another token."""
        return callable(self._token)

    async def get(self) -> str:
        """A token for a login now.

        Raises:
            DeadlineExceededError: The callable took too long.
            ConfigurationError: It returned no string.
            ClientError: It ended by a cancellation of its own making.
            Exception: Whatever the callable raised.
        """
        if isinstance(self._token, str):
            return self._token
        calling = _Calling(self._token)
        with anyio.move_on_after(self._timeout_s) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(calling.run)
        if calling.error is not None:
            raise calling.error
        if calling.done:
            return _checked(calling.token)
        if scope.cancelled_caught:
            raise DeadlineExceededError(f"the token callable took more than {self._timeout_s:g} s")
        raise ClientError("the token callable was cancelled")


class _Calling:
    """One call in a task of its own, so that a cancellation it makes itself ends nothing but the call."""

    def __init__(self, make: Callable[[], Awaitable[str]]) -> None:
        self._make = make
        self.done = False
        self.token: object = None
        self.error: Exception | None = None

    async def run(self) -> None:
        try:
            self.token = await self._make()
            self.done = True
        except Exception as error:  # the app's callable may raise anything; its caller gets it
            self.error = error


def _checked(token: object) -> str:
    if not isinstance(token, str) or not token:
        raise ConfigurationError("the token callable returned no string")
    return token
