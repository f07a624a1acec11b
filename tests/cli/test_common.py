"""Errors as exit codes: one line for failures of chatkit, alone or in groups; bugs stay what they are."""

from __future__ import annotations

import click
import pytest

from chatkit.cli.common import exit_codes
from chatkit.errors import ChatkitError, ClosedError, ConfigurationError


class OwnError(Exception):
    """A failure of one command."""


def group(*errors: Exception) -> ExceptionGroup:
    return ExceptionGroup("unhandled errors in a TaskGroup", errors)


@pytest.mark.parametrize(
    ("failure", "code", "says"),
    [
        (ConfigurationError("name another file"), 2, "name another file"),
        (ClosedError("it is closed"), 1, "it is closed"),
        (OwnError("as expected"), 1, "as expected"),
        (group(group(ConfigurationError("name another file"))), 2, "name another file"),
        (group(ClosedError("first"), group(ChatkitError("second"), OwnError("third"))), 1, "first"),
    ],
)
def test_known_failures_are_told(failure: Exception, code: int, says: str) -> None:
    with pytest.raises(click.ClickException) as told, exit_codes(OwnError):
        raise failure

    assert (told.value.exit_code, told.value.message) == (code, says)
    assert told.value.__suppress_context__


def test_what_is_quoted_of_a_file_cannot_paint_the_terminal() -> None:
    with pytest.raises(click.UsageError) as told, exit_codes():
        raise ConfigurationError("chatkit.toml: there is no setting \x1b[31mport\nput another")

    assert told.value.message == "chatkit.toml: there is no setting \\x1b[31mport\nput another"


@pytest.mark.parametrize(
    "bug", [ValueError("a bug"), OwnError("not named"), group(ClosedError("first"), ValueError("a bug"))]
)
def test_a_bug_stays_as_it_is(bug: Exception) -> None:
    with pytest.raises(type(bug)) as raised, exit_codes():
        raise bug

    assert raised.value is bug


def test_the_end_that_rich_asks_for_is_kept() -> None:
    with pytest.raises(SystemExit) as ended, exit_codes():
        raise BaseExceptionGroup("unhandled errors in a TaskGroup", [SystemExit(1)])

    assert ended.value.code == 1
