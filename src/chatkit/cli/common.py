"""What the commands share: secrets from the environment, and errors as exit codes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..errors import ChatkitError, ConfigurationError

SECRET_ENV = "CHATKIT_JWT_SECRET"  # noqa: S105 -- the name of a variable


def secret_from(variable: str) -> str:
    """The JWT secret in an environment variable. Exits with 2 if it is not set."""
    secret = os.environ.get(variable, "")
    if not secret:
        raise click.UsageError(f"set the JWT secret in the environment variable {variable}")
    return secret


@contextmanager
def exit_codes() -> Iterator[None]:
    """Wrong set-up ends with 2, every other failure of chatkit with 1; both with one line."""
    try:
        yield
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except ChatkitError as error:
        raise click.ClickException(str(error)) from None
