"""The command line: click commands, one file each. Exit codes: 0 ok, 1 failed, 2 misuse."""

from __future__ import annotations

import sys

_BROUGHT_BY_CLI = frozenset({"click", "rich", "uvicorn", "starlette", "h11", "uvloop", "jwt"})
"""Packages that a command may load, and that come with the extra; some come alone with other packages."""


def main() -> None:
    """Entry point of `chatkit` and `python -m chatkit`."""
    try:
        from .commands import chatkit

        chatkit.main(prog_name="chatkit")
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _BROUGHT_BY_CLI:
            raise
        sys.exit(f"the command line needs {package}: pip install 'chatkit-engine[cli]'")
