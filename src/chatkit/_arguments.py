"""Checks of what somebody sets up with: refused at construction, with the argument's name. And of lists of ids."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from .errors import BadRequestError, ConfigurationError

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_kind(name: str, value: object, kind: type, *, optional: bool = False, hint: str = "") -> None:
    """Raises ConfigurationError, with the argument's name, for a value of another kind."""
    if isinstance(value, kind) or (optional and value is None):
        return
    raise ConfigurationError(f"{name} must be a {kind.__name__}, not {type(value).__name__}{hint}")


def check_has(name: str, value: object, method: str, hint: str) -> None:
    """Raises ConfigurationError for a value without a method that all of its kind have, or for a class."""
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise ConfigurationError(f"{name} must be {hint}, not {described(value)}")


def check_callable(name: str, value: object, hint: str) -> None:
    """Raises ConfigurationError for what cannot be called."""
    if not callable(value):
        raise ConfigurationError(f"{name} must be {hint}, not {described(value)}")


def check_number(name: str, value: object, *, whole: bool = False, least: float | None = None) -> None:
    """A finite number: of seconds, or (`whole`) of things.

    Args:
        name: The argument.
        value: What was given; True is no number.
        whole: Of things.
        least: The least that is allowed; None for anything above 0.

    Raises:
        ConfigurationError: It is none, or too small.
    """
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not isinstance(value, int | float) or not _is_finite(value):
        given = value if isinstance(value, float) else described(value)
        raise ConfigurationError(f"{name} must be {'a whole number' if whole else 'seconds'}, not {given}")
    if (least is None and value <= 0) or (least is not None and value < least):
        raise ConfigurationError(f"{name} must be {'above 0' if least is None else f'at least {least:g}'}")


def check_prefix(name: str, value: str) -> str:
    """Raises ConfigurationError for anything but 1-64 letters, digits, `_` and `-`."""
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise ConfigurationError(f"{name} {value!r}: use 1 to 64 ASCII letters, digits, _ and -")
    return value


def list_of_ids(name: str, value: object) -> tuple[object, ...]:
    """The items of any collection, which are not looked at. Raises BadRequestError, with the argument's name.

    A text is a collection of texts too, and would name a user by each of its letters.
    """
    if isinstance(value, str):
        raise BadRequestError(f"{name}: {value[:128]!r} is one id; give a list of ids")
    if not isinstance(value, Iterable):
        raise BadRequestError(f"{name} must be a list of ids, not {described(value)}")
    return tuple(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds
        return False


def described(value: object) -> str:
    """What kind of thing it is, for people."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
