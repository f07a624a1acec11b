"""The command line: click commands, one file each. Exit codes: 0 ok, 1 failed, 2 misuse."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of `chatkit` and `python -m chatkit`."""
    try:
        from .commands import chatkit
    except ImportError as error:
        if error.name not in {"click", "rich", "rich_click"}:
            raise
        sys.exit("the command line needs click and rich: pip install 'chatkit-engine[cli]'")
    chatkit.main(prog_name="chatkit")
