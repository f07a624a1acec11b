"""What the environment says of a connection: for `ChatClient.from_env`, `ChatApi.from_env`, and bots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ._token import Token

URL = "CHATKIT_URL"
TOKEN = "CHATKIT_TOKEN"  # noqa: S105 -- its name
TOKEN_FILE = "CHATKIT_TOKEN_FILE"  # noqa: S105 -- its name
DEVICE_ID = "CHATKIT_DEVICE_ID"
STORE = "CHATKIT_STORE"

VARIABLES = (URL, TOKEN, TOKEN_FILE, DEVICE_ID, STORE)

TOKEN_BYTES_MAX = 64 * 1024
"""A file that is longer holds no token."""


def url_in(environ: Mapping[str, str]) -> str:
    """The server's address. Raises ConfigurationError if it is not set."""
    url = environ.get(URL)
    if not url:
        raise ConfigurationError(f"{URL} is not set: the server's address, such as https://chat.example.org")
    return url


def token_in(environ: Mapping[str, str]) -> Token:
    """The login: as it is, or out of a file that is read again whenever a fresh one is needed.

    Raises:
        ConfigurationError: Neither is set, or both, or there is no such file.
    """
    token, path = environ.get(TOKEN), environ.get(TOKEN_FILE)
    if token and path:
        raise ConfigurationError(f"{TOKEN} and {TOKEN_FILE} are both set; leave one out")
    if token:
        return token
    if not path:
        raise ConfigurationError(
            f"{TOKEN} is not set: the login, as `chatkit token --user NAME` prints it; or {TOKEN_FILE}, its file"
        )
    _read_token(path)
    return lambda: _read_token(path)


def device_options(environ: Mapping[str, str], *, device_id: str | None, store: str | None) -> dict[str, Any]:
    """Device and local store, each by default as given here. Raises ConfigurationError if no device is named."""
    device = environ.get(DEVICE_ID) or device_id
    if device is None:
        raise ConfigurationError(f"{DEVICE_ID} is not set: a name of this installation that stays the same")
    return {"device_id": device, "store": environ.get(STORE) or store}


def _read_token(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(TOKEN_BYTES_MAX + 1).strip()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigurationError(f"{TOKEN_FILE}: {path!r:.200} cannot be read: {error}") from None
    if not text or len(text) > TOKEN_BYTES_MAX:
        raise ConfigurationError(f"{TOKEN_FILE}: {path!r:.200} holds no token")
    return text
