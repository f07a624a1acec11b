"""`python unlimited_serve.py serve ...`: as `chatkit serve`, without the limits of one peer.

A load comes from few users, so limits would be what is measured. Runs with any chatkit on the path, older ones
without limits among them.
"""

from __future__ import annotations

import os

from chatkit.cli import main


def lift_limits() -> None:
    """Every limit of one peer is lifted by its environment variable from here on."""
    try:
        from chatkit.cli.settings import variable_of
        from chatkit.server.limits import Limits
    except ImportError:  # an older one
        return
    unlimited = Limits.unlimited()
    for name in Limits.__struct_fields__:
        value = getattr(unlimited, name)
        os.environ.setdefault(variable_of(("limits", name)), "none" if value is None else str(value))


if __name__ == "__main__":
    lift_limits()
    main()
