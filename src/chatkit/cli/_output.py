"""Where a command writes what it was asked for: standard output, or a file that is there once it is whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import click

from .._one_line import one_line
from ..drivers.sqlite import sync_folder
from ..errors import ConfigurationError

STDOUT: Final = Path("-")


@contextmanager
def output(file: Path) -> Iterator[IO[bytes]]:
    """Standard output (-), or a new file for its owner alone, which has its name once it is whole and on the disk.

    Whatever ends it before, nothing has that name.

    Raises:
        ConfigurationError: It cannot be made, or there is one.
        click.ClickException: It cannot be written.
    """
    place = "standard output" if file == STDOUT else one_line(str(file))
    try:
        with _stdout() if file == STDOUT else _new(file) as out:
            yield out
    except BrokenPipeError:
        raise  # click ends in silence where nobody reads any more
    except OSError as error:
        raise click.ClickException(f"cannot write {place}: {error.strerror or error}") from None


def _stdout() -> IO[bytes]:
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb")


@contextmanager
def _new(file: Path) -> Iterator[IO[bytes]]:
    _check_free(file)
    try:
        handle, name = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".partial", dir=file.parent)  # 0600
    except OSError as error:
        raise ConfigurationError(f"cannot make the file {file}: {error.strerror}") from None
    partial = Path(name)
    try:
        with open(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(handle)
        _check_free(file)
        partial.rename(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(str(file.parent))


def _check_free(file: Path) -> None:
    if os.path.lexists(file):
        raise ConfigurationError(
            f"cannot make the file {file}: File exists; name another file, or - for standard output"
        )
