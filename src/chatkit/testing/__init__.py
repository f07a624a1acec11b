"""What users and chatkit itself test with: virtual time, faulty networks, histories and their checker, contracts.

The names most used are here, loaded on first use, so that pytest's start pays for nothing. The rest has a module each:
`contracts` to subclass, `toxics` for the proxy, `power_cut` for files, `simulation` for whole runs. The fixtures of
`pytest_plugin` need no import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends import VIRTUAL as VIRTUAL
    from .backends import virtual_backend as virtual_backend
    from .chance import Chance as Chance
    from .checker import Verdict as Verdict
    from .checker import Violation as Violation
    from .checker import check as check
    from .checker import report as report
    from .devices import Devices as Devices
    from .faulty_local_store import FaultyLocalStore as FaultyLocalStore
    from .faulty_store import FaultyStore as FaultyStore
    from .faulty_store import StoreFaults as StoreFaults
    from .history import History as History
    from .history import dump_device as dump_device
    from .history import dump_store as dump_store
    from .network import Conditions as Conditions
    from .network import Line as Line
    from .network import Network as Network
    from .proxy import FaultyProxy as FaultyProxy
    from .proxy import proxy_in_thread as proxy_in_thread
    from .recording import RecordingClient as RecordingClient
    from .recording import RecordingServer as RecordingServer
    from .transcripts import transcript as transcript
    from .virtual_time import VirtualClock as VirtualClock
    from .virtual_time import VirtualLoop as VirtualLoop
    from .virtual_time import run_virtual as run_virtual

_HOMES = {
    "Chance": "chance",
    "Conditions": "network",
    "Devices": "devices",
    "FaultyLocalStore": "faulty_local_store",
    "FaultyProxy": "proxy",
    "FaultyStore": "faulty_store",
    "History": "history",
    "Line": "network",
    "Network": "network",
    "RecordingClient": "recording",
    "RecordingServer": "recording",
    "StoreFaults": "faulty_store",
    "VIRTUAL": "backends",
    "Verdict": "checker",
    "Violation": "checker",
    "VirtualClock": "virtual_time",
    "VirtualLoop": "virtual_time",
    "check": "checker",
    "dump_device": "history",
    "dump_store": "history",
    "proxy_in_thread": "proxy",
    "report": "checker",
    "run_virtual": "virtual_time",
    "transcript": "transcripts",
    "virtual_backend": "backends",
}

__all__ = [
    "VIRTUAL",
    "Chance",
    "Conditions",
    "Devices",
    "FaultyLocalStore",
    "FaultyProxy",
    "FaultyStore",
    "History",
    "Line",
    "Network",
    "RecordingClient",
    "RecordingServer",
    "StoreFaults",
    "Verdict",
    "Violation",
    "VirtualClock",
    "VirtualLoop",
    "check",
    "dump_device",
    "dump_store",
    "proxy_in_thread",
    "report",
    "run_virtual",
    "transcript",
    "virtual_backend",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return __all__
