"""Words of a text as the typed arguments of a command. Pure: no client is known here. Called by `commands`."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from ..errors import ChatkitError, ConfigurationError

INT_MAX = 2**53 - 1
"""The largest whole number, as in payloads: every client and database can hold it."""

SHOWN_MAX = 40
"""Characters of a wrong word that are repeated to whoever wrote it."""

_QUOTES = {
    '"': '"',
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": "\N{LEFT DOUBLE QUOTATION MARK}",
}
"""What may stand around several words that are one argument; phones make the curved ones by themselves."""

_YES = frozenset({"yes", "y", "true", "on", "1"})
_NO = frozenset({"no", "n", "false", "off", "0"})
_WHOLE = re.compile(r"[+-]?[0-9]{1,17}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}([.][0-9]{0,300})?|[.][0-9]{1,300})([eE][+-]?[0-9]{1,3})?")


class ArgumentsError(ChatkitError):
    """A text does not fit its command; the message is for whoever wrote it."""

    code = "ARGUMENTS"


class Parameter(msgspec.Struct, frozen=True):
    """One argument of a command.

    Attributes:
        name: As in the handler.
        convert: Makes its value from a word, or raises ArgumentsError.
        shown: What may be given, for people; "" for any text.
        is_required: Without a default.
        default: The value if it is left out.
        is_rest: It takes all the text that is left, as it was written.
    """

    name: str
    convert: Callable[[str], Any]
    shown: str
    is_required: bool
    default: Any = None
    is_rest: bool = False

    @property
    def usage(self) -> str:
        """Itself in a usage line: `<count>`, `[size: small|large]`, `[note...]`."""
        text = self.name + (f": {self.shown}" if "|" in self.shown else "") + ("..." if self.is_rest else "")
        return f"<{text}>" if self.is_required else f"[{text}]"


def parameters_of(handler: Callable[..., Any]) -> list[Parameter]:
    """The arguments that a command's handler takes after the message, in order.

    Raises:
        ConfigurationError: An argument has no type, or one that no text can be made into.
    """
    try:
        annotations = get_type_hints(_plain(handler))
        listed = list(inspect.signature(handler).parameters.values())
    except (NameError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the types of {_name_of(handler)} cannot be found out: {error}") from None
    if not listed or listed[0].kind not in (listed[0].POSITIONAL_ONLY, listed[0].POSITIONAL_OR_KEYWORD):
        raise ConfigurationError(f"{_name_of(handler)} must take the message first")
    found = [_parameter(handler, each, annotations) for each in listed[1:]]
    if sum(each.is_rest for each in found) > 1:
        raise ConfigurationError(
            f"{_name_of(handler)} has two keyword-only arguments; one takes the rest of the text"
        )
    return found


def parsed(text: str, parameters: list[Parameter]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in a text, positional ones and the rest.

    Raises:
        ArgumentsError: One is missing, does not fit, or is too much.
    """
    values: list[Any] = []
    for parameter in parameters:
        if parameter.is_rest:
            return values, {parameter.name: _value(parameter, text.strip() or None)}
        word, text = next_word(text)
        values.append(_value(parameter, word))
    if text.strip():
        raise ArgumentsError(f"{_shown(text.strip())} is too much")
    return values, {}


def doc_of(handler: Callable[..., Any]) -> str:
    """What the handler says of itself."""
    return inspect.getdoc(_plain(handler)) or ""


def next_word(text: str) -> tuple[str | None, str]:
    """The first word, or what stands in quotes, and the text after it; None if there is none.

    Raises:
        ArgumentsError: A quote is not closed.
    """
    text = text.lstrip()
    if not text:
        return None, ""
    closing = _QUOTES.get(text[0])
    if closing is None:
        word, *rest = text.split(maxsplit=1)
        return word, text[len(word) :] if rest else ""
    end = next((at for at, each in enumerate(text[1:], 1) if each in (closing, '"')), None)
    if end is None:
        raise ArgumentsError(f"the quotation that begins with {_shown(text)} does not end")
    return text[1:end], text[end + 1 :]


def _value(parameter: Parameter, word: str | None) -> Any:
    if word is not None:
        try:
            return parameter.convert(word)
        except ArgumentsError as error:
            raise ArgumentsError(f"{parameter.name} must be {error}, not {_shown(word)}") from None
    if parameter.is_required:
        raise ArgumentsError(f"{parameter.name} is missing")
    return parameter.default


def _parameter(
    handler: Callable[..., Any], given: inspect.Parameter, annotations: dict[str, Any]
) -> Parameter:
    if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
        raise ConfigurationError(
            f"{_name_of(handler)}: *{given.name} cannot be filled from a text; a keyword-only `{given.name}: str` takes"
            " the rest of it"
        )
    is_rest = given.kind is given.KEYWORD_ONLY
    kind, is_optional = _without_none(annotations.get(given.name))
    convert, shown = _converter(kind)
    if convert is None or (is_rest and kind is not str):
        wanted = "str" if is_rest else "int, float, str, bool or a Literal of texts and whole numbers"
        raise ConfigurationError(f"{_name_of(handler)}: the type of {given.name} must be {wanted}")
    has_default = given.default is not given.empty
    return Parameter(
        given.name,
        convert,
        shown,
        not (has_default or is_optional),
        given.default if has_default else None,
        is_rest,
    )


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type without `| None`, and whether it had that."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    rest = [each for each in get_args(kind) if each is not type(None)]
    return (rest[0], True) if len(rest) == 1 else (kind, False)


def _converter(kind: Any) -> tuple[Callable[[str], Any] | None, str]:
    if get_origin(kind) is Literal:
        return _choice(get_args(kind))
    return _CONVERTERS.get(kind, (None, ""))


def _choice(choices: tuple[Any, ...]) -> tuple[Callable[[str], Any] | None, str]:
    if not all(type(each) in (str, int) for each in choices):
        return None, ""
    by_word = {str(each).casefold(): each for each in choices}

    def choose(word: str) -> Any:
        if word.casefold() not in by_word:
            raise ArgumentsError(" or ".join(str(each) for each in choices))
        return by_word[word.casefold()]

    return choose, "|".join(str(each) for each in choices)


def _whole_number(word: str) -> int:
    if not _WHOLE.fullmatch(word) or abs(int(word)) > INT_MAX:
        raise ArgumentsError("a whole number")
    return int(word)


def _number(word: str) -> float:
    if not _NUMBER.fullmatch(word) or not math.isfinite(float(word)):
        raise ArgumentsError("a number")
    return float(word)


def _yes_or_no(word: str) -> bool:
    if word.casefold() not in _YES | _NO:
        raise ArgumentsError("yes or no")
    return word.casefold() in _YES


def _shown(text: str) -> str:
    """A wrong word for its author: short, and on one line."""
    line = "".join(each if each.isprintable() else " " for each in text)
    return f"'{line if len(line) <= SHOWN_MAX else line[:SHOWN_MAX] + '...'}'"


def _plain(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, of a partial."""
    found: Callable[..., Any] = getattr(handler, "func", handler)
    return found


def _name_of(handler: Callable[..., Any]) -> str:
    return getattr(handler, "__qualname__", repr(handler))


_CONVERTERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (_whole_number, "a whole number"),
    float: (_number, "a number"),
    str: (str, ""),
    bool: (_yes_or_no, "yes or no"),
}
