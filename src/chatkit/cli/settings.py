"""Every field of `ServerConfig`, by an option or by an environment variable; taken from the struct itself.

`--set heartbeat_s=10`, `CHATKIT_HEARTBEAT_S=10`; a part of a part has its path: `--set limits.sends_per_user=10/30`,
`CHATKIT_LIMITS__SENDS_PER_USER=10/30`. An option wins over a variable. Called by `serve`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from ..core.rate_limit import Rate
from ..errors import ConfigurationError
from ..server.config import ServerConfig

PREFIX = "CHATKIT_"
_LIKENESS = 0.85  # a letter or two of a word; what other programs call theirs is left alone

Path = tuple[str, ...]


def fields(kind: Any = ServerConfig, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each setting with its type, parts of parts included."""
    for name, hint in typing.get_type_hints(kind).items():
        path = (*above, name)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from fields(hint, path)
        else:
            yield path, hint


def option_of(path: Path) -> str:
    """What `--set` calls a setting."""
    return ".".join(path)


def variable_of(path: Path) -> str:
    """The environment variable of a setting."""
    return PREFIX + "__".join(path).upper()


def read_config(assignments: Iterable[str], environ: Mapping[str, str]) -> ServerConfig:
    """The configuration that variables and `NAME=VALUE` options make; what neither names keeps its default.

    Raises:
        ConfigurationError: There is no such setting, or the value does not fit; names both.
    """
    known = dict(fields())
    given: dict[Path, Any] = {}
    for path, hint in known.items():
        if (text := environ.get(variable_of(path))) is not None:
            given[path] = _value(variable_of(path), text, hint)
    by_option = {option_of(path): path for path in known}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name not in by_option or not equals:
            names = ", ".join(by_option)
            raise ConfigurationError(f"--set {assignment}: give NAME=VALUE, where NAME is one of {names}")
        given[by_option[name]] = _value(f"--set {name}", text, known[by_option[name]])
    return _with(ServerConfig(), given)


def misspelt(environ: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Variables that name nothing and look like one that does, with that one.

    Args:
        environ: The names that are set.
        others: Variables that count beside those of the settings.
    """
    known = [*(variable_of(path) for path, _ in fields()), *others]
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    likely = {name: get_close_matches(name, known, 1, _LIKENESS) for name in unknown}
    return {name: matches[0] for name, matches in likely.items() if matches}


def _value(name: str, text: str, hint: Any) -> Any:
    try:
        if text.lower() == "none":
            return msgspec.convert(None, hint)
        if Rate in typing.get_args(hint):
            per_s, _, burst = text.partition("/")
            return Rate(float(per_s), int(burst))
        return msgspec.convert(text, hint, strict=False)
    except (ValueError, ConfigurationError) as error:  # msgspec.ValidationError is a ValueError
        wanted = (
            "RATE/BURST, such as 10/30 (10 a second, 30 at once), or none"
            if Rate in typing.get_args(hint)
            else error
        )
        raise ConfigurationError(f"{name}={text}: {wanted}") from None


_StructT = TypeVar("_StructT", bound=msgspec.Struct)


def _with(config: _StructT, given: Mapping[Path, Any]) -> _StructT:
    """A copy of a struct with other values in it."""
    changes: dict[str, Any] = {path[0]: value for path, value in given.items() if len(path) == 1}
    for name in {path[0] for path in given if len(path) > 1}:
        below = {path[1:]: value for path, value in given.items() if path[0] == name and len(path) > 1}
        changes[name] = _with(getattr(config, name), below)
    return msgspec.structs.replace(config, **changes)
