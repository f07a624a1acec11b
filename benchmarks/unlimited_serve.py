"""`python unlimited_serve.py serve ...`: as `chatkit serve`, without the limits of one peer.

A load comes from few users, so limits would be what is measured. Runs with any chatkit on the path, older ones
without limits among them.
"""

from __future__ import annotations

from functools import partial

from chatkit.cli import main
from chatkit.server import server


def lift_limits() -> None:
    """Servers made without a configuration have no limits of one peer from here on."""
    try:
        from chatkit.server.limits import Limits
    except ImportError:  # an older one
        return
    server.ServerConfig = partial(server.ServerConfig, limits=Limits.unlimited())  # type: ignore[misc, assignment]


if __name__ == "__main__":
    lift_limits()
    main()
