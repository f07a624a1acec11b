"""What pushes: the file that `--push` names, or the tables of `[push]` in the file with settings."""

from __future__ import annotations

from ..assemble import Providers, make_push, open_push
from ..server.delivery.config import DeliveryConfig
from .configured import Configuration


def push_of(chosen: Configuration, path: str | None) -> tuple[Providers, DeliveryConfig] | None:
    """The providers, and the settings of the worker over those of the push file; None: nothing pushes here.

    Raises:
        ConfigurationError: A file cannot be read, or a value is wrong.
    """
    if path is not None:
        providers, base = open_push(path)
    elif chosen.file is not None and (tables := chosen.file.push()) is not None:
        providers, base = make_push(tables, chosen.file.path.parent, f"{chosen.file.path}: push")
    else:
        return None
    return providers, chosen.settings.delivery(base)
