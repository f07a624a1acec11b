"""The file with settings: found, read, and held against the names that there are. See docs/configuration.md.

One flat list of names, as everywhere: `storage = "..."`, `[limits] sends_per_user = "10/30"`. What ends in `_file`
names a file beside this one that holds the value. `push` is the path of a push file, or its tables.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as File
from typing import Any

from ..errors import ConfigurationError
from .masking import is_secret, masked
from .settings import Given, Path, fields, from_toml, nearest, option_of

NAME = "chatkit.toml"
PUSH = ("push",)
FILE_BYTES_MAX = 1024 * 1024
SECRET_BYTES_MAX = 64 * 1024


class ConfigFile:
    """A file that was read.

    Attributes:
        path: Where it is.
        values: What stands in it, by path; `push` as a table, if it is one.
    """

    def __init__(self, path: File, table: Mapping[str, Any]) -> None:
        self.path = path
        self.values = dict(_flat(table))

    def check_names(self, options: Iterable[str]) -> None:
        """Raises ConfigurationError for a name that is no setting, and says which one is meant."""
        known = {option_of(path) for path, _ in fields()} | {*options}
        above = {name.rpartition(".")[0] for name in known} - {""}
        for path in self.values:
            name = option_of(path)
            is_empty_table = name in above and self.values[path] == {}
            if name in above and not is_empty_table:
                raise ConfigurationError(f"{self.path}: {name} is a table: [{name}], with settings below it")
            if name not in known and not is_empty_table:
                raise ConfigurationError(
                    f"{self.path}: there is no setting {name}{nearest(name, known | above)}"
                )

    def settings(self) -> dict[Path, Given]:
        """The settings of the structs in it. Raises ConfigurationError with file and key."""
        return {
            path: Given(
                from_toml(path, self.values[path], hint, f"{self.path}: {option_of(path)}"), str(self.path)
            )
            for path, hint in fields()
            if path in self.values
        }

    def push(self) -> Mapping[str, Any] | None:
        """The tables of a push file, if they stand in this one."""
        found = self.values.get(PUSH)
        return found if isinstance(found, dict) else None

    def warnings(self) -> Iterator[str]:
        """What should be set right: a file with secrets that everybody may read."""
        if self._holds_secrets() and self.path.stat().st_mode & stat.S_IROTH:
            yield f"{self.path} holds secrets and may be read by everybody: chmod o-r it"

    def _holds_secrets(self) -> bool:
        for path, value in self.values.items():
            if path == PUSH and isinstance(value, dict):
                if any(is_secret(path[-1]) for path, _ in _flat({"tables": value})):
                    return True
            elif is_secret(path[-1]) or (isinstance(value, str) and masked(path[-1], value) != value):
                return True
        return False


def find(named: str | None) -> ConfigFile | None:
    """The file that was named, or `chatkit.toml` in the working directory if there is one.

    A file that nobody named counts only if it belongs to this user or to root, and nobody else may write it: whoever
    can put one where a command is run must not say where its log is.

    Raises:
        ConfigurationError: It cannot be read, is no TOML, or is somebody else's.
    """
    if named is not None:
        return read(File(named))
    path = File(NAME)
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    strangers = hasattr(os, "getuid") and found.st_uid not in (os.getuid(), 0)
    if strangers or found.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"./{NAME} belongs to another user, or everybody may write it; name it by --config if it is meant"
        )
    return read(path)


def read(path: File) -> ConfigFile:
    """A file of settings. Raises ConfigurationError."""
    try:
        return ConfigFile(path, tomllib.loads(_text(path, FILE_BYTES_MAX)))
    except ValueError as error:  # no TOML, or no UTF-8; the message holds a place and no value
        raise ConfigurationError(f"cannot read {path}: {error}") from None


def read_secret(path: File) -> str:
    """What a file with a single value holds, without white space around it. Raises ConfigurationError."""
    try:
        value = _text(path, SECRET_BYTES_MAX).strip()
    except ValueError:
        raise ConfigurationError(f"{path} holds no UTF-8") from None
    if not value:
        raise ConfigurationError(f"{path} is empty")
    return value


def _text(path: File, bytes_max: int) -> str:
    try:
        with path.open("rb") as opened:
            data = opened.read(bytes_max + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > bytes_max:
        raise ConfigurationError(f"{path} is longer than {bytes_max} bytes")
    return data.decode("utf-8-sig")  # some editors put a byte order mark before the text


def _flat(table: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in table.items():
        path = (*above, name)
        if isinstance(value, dict) and value and path != PUSH:
            yield from _flat(value, path)
        else:
            yield path, value
