"""`chatkit chat`: a chat app in the terminal."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import click

from ..client.environment import DEVICE_ID, STORE, TOKEN, TOKEN_FILE, token_in
from ..errors import ConfigurationError
from ._chat_files import device_id, state_folder, store_path
from .common import exit_codes
from .logging_setup import TextFormatter
from .masking import masked_address

if TYPE_CHECKING:
    from ..client._token import Token
    from ..client.client import ChatClient
    from ..terminal.app import ChatApp

_CLOSE_S: Final = 3.0
_REQUEST_S: Final = 10.0
"""For a person who waits in front of a screen."""


@click.command(short_help="Chat, in the terminal.")
@click.argument("url")
@click.option("--token-env", default=TOKEN, show_default=True, help="Variable with the token.")
@click.option("--token-file", help="A file with it, which is read again when a fresh one is needed.")
@click.option(
    "--device", envvar=DEVICE_ID, help="Name of this installation; by default one is made and kept."
)
@click.option(
    "--store",
    envvar=STORE,
    help="File in which messages are kept here; by default one of this user, if the token is a JWT.",
)
@click.option("--log-file", help="Where warnings are appended; by default nowhere.")
def chat(
    url: str,
    token_env: str,
    token_file: str | None,
    device: str | None,
    store: str | None,
    log_file: str | None,
) -> None:
    """Chat as the user whom a token proves, at the server at URL. Ctrl-Q ends it.

    `chatkit token` makes a token; it is given in the variable CHATKIT_TOKEN or in a file. What is received, and what
    waits to be sent, is kept in a file for its owner alone, by default in `chatkit` under $XDG_STATE_HOME or
    ~/.local/state.
    """
    with exit_codes():
        path = token_file or os.environ.get(TOKEN_FILE)
        token = token_in({TOKEN_FILE: path} if path else {TOKEN: os.environ.get(token_env, "")})
        now = token if isinstance(token, str) else str(token())
        folder = state_folder(os.environ)
        device = device or device_id(folder)
        _log_to(log_file)
        pending = anyio.run(
            _run, _client(url, token, device, store or store_path(folder, url, device, now)), url
        )
    if pending:
        click.echo(f"{pending} messages wait to be sent; the next start sends them")


def _client(url: str, token: Token, device: str, store: str | Path) -> ChatClient:
    from ..client.client import ChatClient  # it brings httpx, for which no other command waits
    from ..client.config import ClientConfig

    config = ClientConfig(close_timeout_s=_CLOSE_S, request_timeout_s=_REQUEST_S)
    return ChatClient(url, token=token, device_id=device, store=store, config=config)


async def _run(client: ChatClient, url: str) -> int:
    """Show the app until its user ends it; how many messages wait to be sent then."""
    app_class = _app_class()
    async with client:
        app = app_class(client, masked_address(url))
        error = await app.run_async()
        if error is not None:
            raise error
        if app.return_code:  # a bug, whose traceback is shown
            raise SystemExit(app.return_code)
    return client.pending_count


def _app_class() -> type[ChatApp]:
    try:
        from ..terminal.app import ChatApp
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise ConfigurationError(
            'chatkit chat needs textual: pip install "chatkit-engine[terminal]"'
        ) from None
    return ChatApp


def _log_to(path: str | None) -> None:
    """Words of the library go to a file or nowhere, for the screen is the app's."""
    handler: logging.Handler = logging.NullHandler()
    if path is not None:
        try:
            handler = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--log-file: {error}") from None
        handler.setFormatter(TextFormatter())
    logging.getLogger("chatkit").addHandler(handler)
