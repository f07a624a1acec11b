"""Where the login comes from: a fixed token, or an async callable that makes fresh ones. Never logged or printed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..errors import ConfigurationError, DeadlineExceededError

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
        """
        if isinstance(self._token, str):
            return self._token
        with anyio.move_on_after(self._timeout_s):
            token = await self._token()
            if not isinstance(token, str) or not token:
                raise ConfigurationError("the token callable returned no string")
            return token
        raise DeadlineExceededError(f"the token callable took more than {self._timeout_s:g} s")
