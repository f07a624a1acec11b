"""For tests of what is built on chatkit: virtual time, a faulty network, faulty stores, histories, contract suites.

The names most used are here, loaded on first use, so that pytest's start pays for nothing. The suites of `contracts`
are to be subclassed. The fixtures of `pytest_plugin` need no import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends import VIRTUAL as VIRTUAL
    from .backends import virtual_backend as virtual_backend
    from .devices import Devices as Devices
    from .faulty_local_store import FaultyLocalStore as FaultyLocalStore
    from .faulty_store import FaultyStore as FaultyStore
    from .faulty_store import StoreFaults as StoreFaults
    from .history import History as History
    from .network import Conditions as Conditions
    from .network import Line as Line
    from .network import Network as Network
    from .recording import RecordingClient as RecordingClient
    from .recording import RecordingServer as RecordingServer
    from .rng import Rng as Rng
    from .transcripts import transcript as transcript
    from .virtual_time import VirtualClock as VirtualClock
    from .virtual_time import VirtualLoop as VirtualLoop
    from .virtual_time import run_virtual as run_virtual

_HOMES = {
    "Conditions": "network",
    "Devices": "devices",
    "FaultyLocalStore": "faulty_local_store",
    "FaultyStore": "faulty_store",
    "History": "history",
    "Line": "network",
    "Network": "network",
    "RecordingClient": "recording",
    "RecordingServer": "recording",
    "Rng": "rng",
    "StoreFaults": "faulty_store",
    "VIRTUAL": "backends",
    "VirtualClock": "virtual_time",
    "VirtualLoop": "virtual_time",
    "run_virtual": "virtual_time",
    "transcript": "transcripts",
    "virtual_backend": "backends",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return __all__
