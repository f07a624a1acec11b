"""Whether a store, bus, queue or provider has an ability beside its port, also where it stands behind a wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_A = TypeVar("_A")


# `type[_A]` would be the plain word, and mypy refuses to pass a protocol as one.
def offers(it: object, ability: Callable[..., _A]) -> TypeIs[_A]:
    """Whether it has all public names of a protocol, which are methods and properties: an annotation alone is no name.

    `isinstance` says so too, but since Python 3.12 not of a wrapper that hands names on by `__getattr__`: a server
    would take such a store for one without the ability, and say nothing.
    """
    return all(hasattr(it, name) for name in dir(ability) if not name.startswith("_"))
