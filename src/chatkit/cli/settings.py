"""Every field of the server's settings and their parts, from outside; taken from the structs themselves.

A setting has one name, which is spelt in three ways: `--set limits.sends_per_user=10/30`,
`CHATKIT_LIMITS__SENDS_PER_USER=10/30`, and in the file `sends_per_user = "10/30"` under `[limits]`. An option wins over
a variable, a variable over the file. What a command's own options are is `configured`'s affair.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

import msgspec

from ..core.rate_limit import Rate
from ..errors import ConfigurationError
from ..server.archiving.config import ArchiveConfig
from ..server.blobs.config import BlobConfig
from ..server.config import ServerConfig
from ..server.delivery.config import DeliveryConfig

PREFIX = "CHATKIT_"
DEFAULT = "default"
OPTION = "option"
_LIKENESS = 0.85  # a letter or two of a word; what other programs call theirs is left alone
_DELIVERY = "delivery"
_ARCHIVING = "archiving"
_BLOBS = "blob"
_PARTS: dict[str, type[msgspec.Struct]] = {
    _DELIVERY: DeliveryConfig,
    _ARCHIVING: ArchiveConfig,
    _BLOBS: BlobConfig,
}
_RATE = "RATE/BURST, such as 10/30 (10 a second, 30 at once), or none"

Path = tuple[str, ...]


def fields(kind: Any = None, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each setting with its type, parts of parts included; those of the delivery worker under `delivery`, and of
    the archive under `archiving`, of uploaded files under `blob`."""
    if kind is None:
        yield from fields(ServerConfig)
        for name, part in _PARTS.items():
            yield from fields(part, (name,))
        return
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


class Given(NamedTuple):
    """A value that somebody chose, and where: `option`, the name of a variable, or that of a file."""

    value: Any
    source: str


class Settings:
    """What was given, over the defaults.

    Attributes:
        given: By the path of the setting; what is not in it has its default.
    """

    def __init__(self, given: Mapping[Path, Given]) -> None:
        self.given = given

    def server(self) -> ServerConfig:
        """The configuration of a server."""
        return _with(ServerConfig(), self._values(lambda path: path[0] not in _PARTS))

    def delivery(self, base: DeliveryConfig | None = None) -> DeliveryConfig:
        """The configuration of a delivery worker: what was given, over `base`."""
        return _with(base or DeliveryConfig(), self._below(_DELIVERY))

    def archiving(self) -> ArchiveConfig:
        """The configuration of an archive."""
        return _with(ArchiveConfig(), self._below(_ARCHIVING))

    def blobs(self) -> BlobConfig:
        """The configuration of uploaded files."""
        return _with(BlobConfig(), self._below(_BLOBS))

    def part(self, name: str) -> msgspec.Struct:
        """The configuration that a setting is in, by the first part of its path."""
        if name == _DELIVERY:
            return self.delivery()
        if name == _BLOBS:
            return self.blobs()
        return self.archiving() if name == _ARCHIVING else self.server()

    def _below(self, name: str) -> dict[Path, Any]:
        found = self._values(lambda path: path[0] == name)
        return {path[1:]: value for path, value in found.items()}

    def _values(self, wanted: typing.Callable[[Path], bool]) -> dict[Path, Any]:
        return {path: given.value for path, given in self.given.items() if wanted(path)}


def read_settings(
    assignments: Iterable[str],
    environ: Mapping[str, str],
    from_file: Mapping[Path, Given] | None = None,
) -> Settings:
    """The settings that the file, variables and `NAME=VALUE` options make; the later one wins.

    Raises:
        ConfigurationError: There is no such setting, or the value does not fit; names both, and where it stands.
    """
    known = dict(fields())
    given = dict(from_file or {})
    for path, hint in known.items():
        variable = variable_of(path)
        if text := environ.get(variable):  # an empty one is not set, as for options
            given[path] = Given(from_text(path, text, hint, f"{variable}={text}"), variable)
    by_option = {option_of(path): path for path in known}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name not in by_option or not equals:
            raise ConfigurationError(f"--set {name}: {_no_such(name, by_option)}")
        path = by_option[name]
        given[path] = Given(from_text(path, text, known[path], f"--set {name}={text}"), OPTION)
    return Settings(given)


def from_text(path: Path, text: str, hint: Any, where: str) -> Any:
    """The value that a text means. Raises ConfigurationError, which begins with `where`."""
    try:
        if text.lower() == "none":
            value = msgspec.convert(None, hint)
        elif _is_rate(hint):
            value = _rate(text)
        else:
            value = msgspec.convert(text, hint, strict=False)
    except (ValueError, ConfigurationError) as error:  # msgspec.ValidationError is a ValueError
        raise ConfigurationError(f"{where}: {_RATE if _is_rate(hint) else error}") from None
    return checked(path, value, where)


def from_toml(path: Path, value: Any, hint: Any, where: str) -> Any:
    """The value that stands in a file, of the type that it must have. Raises ConfigurationError."""
    if isinstance(value, str) and (_is_rate(hint) or value.lower() == "none"):
        return from_text(path, value, hint, where)
    try:
        if _is_rate(hint):
            raise ValueError
        converted = msgspec.convert(value, hint)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {_RATE if _is_rate(hint) else error}") from None
    return checked(path, converted, where)


def checked(path: Path, value: Any, where: str) -> Any:
    """The value, which its struct takes. Raises ConfigurationError, which begins with `where`."""
    try:
        Settings({path: Given(value, "")}).part(path[0])
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return value


def default_of(path: Path) -> Any:
    """What a setting is where nobody says anything."""
    value: Any = Settings({}).part(path[0])
    for name in path[1:] if path[0] in _PARTS else path:
        value = getattr(value, name)
    return value


def said(value: Any) -> str:
    """A value as a variable or an option would give it."""
    if isinstance(value, Rate):
        return f"{value.per_s:g}/{value.burst}"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


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


def nearest(name: str, known: Iterable[str]) -> str:
    """Words that name the setting that was probably meant, or none."""
    found = get_close_matches(name, list(known), 1)
    return f"; is {found[0]} meant?" if found else ""


def _no_such(name: str, known: Mapping[str, Path]) -> str:
    return f"give NAME=VALUE with a setting of docs/configuration.md{nearest(name, known)}"


def _is_rate(hint: Any) -> bool:
    return Rate in (hint, *typing.get_args(hint))


def _rate(text: str) -> Rate:
    per_s, _, burst = text.partition("/")
    return Rate(float(per_s), int(burst))


_StructT = TypeVar("_StructT", bound=msgspec.Struct)


def _with(config: _StructT, given: Mapping[Path, Any]) -> _StructT:
    """A copy of a struct with other values in it."""
    changes: dict[str, Any] = {path[0]: value for path, value in given.items() if len(path) == 1}
    for name in {path[0] for path in given if len(path) > 1}:
        below = {path[1:]: value for path, value in given.items() if path[0] == name and len(path) > 1}
        changes[name] = _with(getattr(config, name), below)
    return msgspec.structs.replace(config, **changes)
