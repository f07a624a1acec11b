"""What the commands share: errors as exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from .._one_line import one_line
from ..errors import ChatkitError, ConfigurationError

SECRET_ENV = "CHATKIT_JWT_SECRET"  # noqa: S105 -- the name of a variable


@contextmanager
def exit_codes(*expected: type[Exception]) -> Iterator[None]:
    """Wrong set-up ends with 2, every other failure of chatkit with 1; both with one line.

    A group of such failures counts as its first, for the others followed from it. What holds anything else is a bug and
    stays as it is.

    Args:
        expected: The command's own failures, shown like those of chatkit.
    """
    known: tuple[type[Exception], ...] = (ChatkitError, *expected)
    try:
        yield
    except BaseExceptionGroup as group:
        raise _of_group(group, known) from None
    except known as error:
        raise _as_click_error(error) from None


def _of_group(group: BaseExceptionGroup[BaseException], known: tuple[type[Exception], ...]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, SystemExit):  # raised by rich for an output that nobody reads any more
        return first
    return group if group.split(known)[1] is not None else _as_click_error(first)


def _as_click_error(error: BaseException) -> click.ClickException:
    words = "\n".join(map(one_line, str(error).split("\n")))  # it may quote a file that somebody else wrote
    if isinstance(error, ConfigurationError):
        return click.UsageError(words)
    return click.ClickException(words)
