"""How tokens are checked, as options: secrets, public keys, keys that an issuer publishes; any number side by side.

Each of the three has its own list of algorithms, so that no key is ever used with an algorithm of another kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ..errors import ConfigurationError
from ..server.auth import (
    Authenticator,
    any_authenticator,
    jwt_authenticator,
    public_key_algorithms,
    user_id_from,
)
from ..server.jwks import ALGORITHMS, jwks_authenticator
from .common import SECRET_ENV
from .config_file import read_secret

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """The values of these options."""

    jwt_secret: str | None = None
    jwt_secret_file: tuple[str, ...] = ()
    jwt_secret_env: str = SECRET_ENV
    jwt_key: tuple[str, ...] = ()
    jwt_algorithm: tuple[str, ...] = ()
    jwt_issuer: str | None = None
    jwt_audience: tuple[str, ...] = ()
    jwt_any_sub: bool = False
    jwks_url: str | None = None


def secret_options(function: _Function) -> _Function:
    """Options for the secrets that sign and check tokens."""
    for option in (
        click.option("--jwt-secret", hidden=True, callback=_refuse_on_the_line),
        click.option(
            "--jwt-secret-file",
            multiple=True,
            type=click.Path(dir_okay=False),
            help="A file with the JWT secret; several lines or files while it changes, the newest first.",
        ),
        click.option(
            "--jwt-secret-env",
            default=SECRET_ENV,
            show_default=True,
            help="Variable with the secret, or with several in lines.",
        ),
    ):
        function = option(function)
    return function


def login_options(function: _Function) -> _Function:
    """Options for everything that proves who somebody is."""
    for option in (
        click.option(
            "--jwks-url",
            help="Where the issuer of tokens publishes its keys (https). See docs/configuration.md.",
        ),
        click.option(
            "--jwt-any-sub",
            is_flag=True,
            help="Make user ids of any `sub`, such as auth0|5f7c (user_id_from).",
        ),
        click.option("--jwt-audience", multiple=True, help="One of these must be among the claim `aud`."),
        click.option("--jwt-issuer", help="What the claim `iss` must be."),
        click.option(
            "--jwt-algorithm",
            multiple=True,
            help="Algorithms of --jwt-key and --jwks-url, such as RS256; by default the one that fits the key.",
        ),
        click.option(
            "--jwt-key",
            multiple=True,
            type=click.Path(dir_okay=False),
            help="A public key in PEM (RS, PS, ES, EdDSA); several while keys change.",
        ),
    ):
        function = option(function)
    return secret_options(function)


def secrets_of(login: Login, environ: Mapping[str, str] | None = None) -> list[str]:
    """The secrets, the one that signs first.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    environ = os.environ if environ is None else environ
    is_elsewhere = login.jwt_secret_env != SECRET_ENV
    texts = [environ.get(login.jwt_secret_env, "") if is_elsewhere else login.jwt_secret or ""]
    texts += [read_secret(Path(path)) for path in login.jwt_secret_file]
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def signing_secret(login: Login) -> str:
    """The secret that signs. Raises ConfigurationError if there is none."""
    secrets = secrets_of(login)
    if not secrets:
        raise ConfigurationError(f"set the JWT secret in the environment variable {login.jwt_secret_env}")
    return secrets[0]


def authenticator_from(login: Login) -> Authenticator:
    """Whoever one of the keys that were given proves. Raises ConfigurationError, also if there is none."""
    shared = _shared(login)
    found: list[Authenticator] = []
    if secrets := secrets_of(login):
        found.append(jwt_authenticator(secrets, **shared))
    keys = [_PublicKey(Path(path)) for path in login.jwt_key]
    found += [key.authenticator(login.jwt_algorithm, shared) for key in keys]
    if login.jwks_url is not None:
        found.append(
            jwks_authenticator(login.jwks_url, algorithms=login.jwt_algorithm or ALGORITHMS, **shared)
        )
    elif unknown := set(login.jwt_algorithm).difference(*(key.algorithms for key in keys)):
        raise ConfigurationError(
            f"--jwt-algorithm {', '.join(sorted(unknown))}: no --jwt-key can be used with it"
        )
    if not found:
        raise ConfigurationError(
            f"set the JWT secret in the environment variable {login.jwt_secret_env}, "
            "or give --jwt-secret-file, --jwt-key or --jwks-url"
        )
    return any_authenticator(*found)


class _PublicKey:
    """A key in a file, with the algorithms that its kind can check."""

    def __init__(self, path: Path) -> None:
        self._path, self._pem = path, read_secret(path)
        try:
            self.algorithms = public_key_algorithms(self._pem)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from None

    def authenticator(self, wanted: Sequence[str], shared: Mapping[str, Any]) -> Authenticator:
        """Accepts tokens of this key, by those of the wanted algorithms that it can check, or by its usual one."""
        chosen = [it for it in wanted if it in self.algorithms] or self.algorithms[:1]
        return jwt_authenticator(self._pem, algorithms=chosen, **shared)


def _shared(login: Login) -> dict[str, Any]:
    shared: dict[str, Any] = {}
    if login.jwt_issuer is not None:
        shared["issuer"] = login.jwt_issuer
    if login.jwt_audience:
        shared["audience"] = list(login.jwt_audience)
    if login.jwt_any_sub:
        shared["user_id"] = user_id_from
    return shared


def _refuse_on_the_line(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if context.get_parameter_source(str(option.name)) is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(
            f"a secret on the command line is read by everybody on this machine; use {SECRET_ENV} or --jwt-secret-file"
        )
    return value
