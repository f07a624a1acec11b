"""Every error of chatkit, wherever it is defined, comes whole out of a copy and out of a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

import chatkit
from chatkit.errors import ChatkitError, UnavailableError
from chatkit.transport.base import TransportClosedError

GIVEN: dict[str, Any] = {
    "close_code": 4202,
    "closed": TransportClosedError(4101, "expired"),
    "code": "NEWER",
    "retryable": True,
    "retry_after_s": 1.5,
    "goaway": None,
    "refused": UnavailableError("storage refused", retry_after_s=0.5),
}
"""What constructors are given, by the names of their parameters; texts otherwise."""


def subclasses(kind: type[ChatkitError]) -> Iterator[type[ChatkitError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def kinds() -> list[type[ChatkitError]]:
    for module in pkgutil.walk_packages(chatkit.__path__, "chatkit."):
        if "__main__" not in module.name and "_demo" not in module.name:
            import_module(module.name)
    return [kind for kind in dict.fromkeys(subclasses(ChatkitError)) if kind.__module__.startswith("chatkit")]


def made(kind: type[ChatkitError]) -> ChatkitError:
    parameters = inspect.signature(kind).parameters.values()
    named = {it.name: GIVEN.get(it.name, it.name) for it in parameters if it.kind is it.KEYWORD_ONLY}
    placed = [GIVEN.get(it.name, it.name) for it in parameters if it.kind is it.POSITIONAL_OR_KEYWORD]
    return kind(*placed, **named)


def shown(error: ChatkitError) -> tuple[Any, ...]:
    attributes = {name: str(value) for name, value in vars(error).items()}
    return type(error), str(error), error.args, error.code, error.retryable, error.retry_after_s, attributes


def pickled(error: ChatkitError) -> ChatkitError:
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ChatkitError)
    return again


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickled])
def test_an_error_survives(kind: type[ChatkitError], way: Callable[[Any], ChatkitError]) -> None:
    error = made(kind)

    assert shown(way(error)) == shown(error)


def test_what_was_added_to_an_error_survives() -> None:
    error = UnavailableError("storage refused")
    error.retry_after_s = 3.0
    error.add_note("while it was closed")

    assert pickled(error).retry_after_s == 3.0
    assert pickled(error).__notes__ == ["while it was closed"]
