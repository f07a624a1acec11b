"""`python counting_serve.py serve ...`: as `chatkit serve`, and at each SIGUSR1 it says what it has done so far.

It writes one JSON object to the file COUNTS. Without uvloop, whose transports cannot be looked into: what is written to
a socket is decided above them.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.unlimited_serve import lift_limits

from chatkit.cli import main
from chatkit.wire import codec

counts: Counter[str] = Counter()


def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose calls are counted."""

    def call(*args: Any, **kwargs: Any) -> Any:
        counts[name] += 1
        return function(*args, **kwargs)

    return call


def count_statements() -> None:
    """Each run of a statement by SQLite, those of `executemany` one by one, and each transaction."""
    connect = sqlite3.connect

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(note)
        return connection

    def note(statement: str) -> None:
        counts["statements"] += 1
        counts["transactions"] += statement.lstrip().upper().startswith("COMMIT")

    sqlite3.connect = traced


def count_encodes() -> None:
    """Each event that a codec encodes."""
    for each in (codec.JSON, codec.MSGPACK):
        each.encode = counted("encodes", each.encode)  # type: ignore[method-assign]


def count_writes() -> None:
    """Each write to a socket."""
    for name in ("send", "sendmsg"):
        setattr(socket.socket, name, counted("socket writes", getattr(socket.socket, name)))


def say(*_: object) -> None:
    """Write what there is: whole, or not at all."""
    gc.collect()
    found = {**counts, "blocks": sys.getallocatedblocks()}
    path = Path(os.environ["COUNTS"])
    path.with_suffix(".new").write_text(json.dumps(found))
    path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    lift_limits()
    count_statements()
    count_encodes()
    count_writes()
    signal.signal(signal.SIGUSR1, say)
    main()
