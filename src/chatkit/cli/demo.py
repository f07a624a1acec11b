"""`chatkit demo`."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """Tell the story on a real server."""
