"""`chatkit user`: a copy of all there is of a user, and their erasure, on a log that no server has to run on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import click

from ..assemble import open_archive
from ..errors import UnauthenticatedError
from ..server.erasure import Bodies, Erased
from ..server.server import ChatServer
from ..types import Identity
from ._output import output
from .common import exit_codes
from .configured import configured
from .existing_log import existing_log

_Result = TypeVar("_Result")

_storage = click.option(
    "--storage",
    default="sqlite:///chat.db",
    help="The log: sqlite:///PATH of a server that does not run, or postgresql://HOST/NAME.",
)
_archive = click.option("--archive", help="Where older messages are, if the server has an archive.")


@click.group(short_help="A copy of all there is of a user, and their erasure.")
def user() -> None:
    """For the law. A server that runs on a SQLite file is asked itself: /v1/admin/users/... (docs/privacy.md)."""


@configured("storage", "archive")
@user.command(context_settings={"show_default": True})
@click.argument("user_id")
@_storage
@_archive
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="-",
    help="A new file, or - for standard output.",
)
def export(user_id: str, storage: str, archive: str | None, out: Path) -> None:
    """Write all there is of the user USER_ID, as JSON lines. That it was done is audited."""

    async def write(server: ChatServer) -> None:
        lines = server.export_user(user_id)
        first = await anext(lines)
        with output(out) as file:
            file.write(first)
            async for line in lines:
                file.write(line)

    with exit_codes():
        _with_server(storage, archive, write)


@configured("storage", "archive")
@user.command(context_settings={"show_default": True})
@click.argument("user_id")
@_storage
@_archive
@click.option(
    "--bodies",
    type=click.Choice(["keep", "erase"]),
    required=True,
    help="What becomes of the messages that they wrote: kept, or recalled for everybody.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(user_id: str, storage: str, archive: str | None, bodies: Bodies, yes: bool) -> None:
    """Erase what there is of the user USER_ID. It cannot be undone; a second run does what is left of a first one."""
    if not yes:
        click.confirm(f"Erase {user_id} from {_shown(storage)}? It cannot be undone.", abort=True, err=True)

    async def run(server: ChatServer) -> Erased:
        return await server.erase_user(user_id, bodies=bodies)

    with exit_codes():
        erased = _with_server(storage, archive, run)
    click.echo(
        f"{user_id} is erased: {erased.conversations} conversations, {erased.messages} messages were recalled"
    )


def _shown(storage: str) -> str:
    from ..assemble import without_login

    return without_login(storage)


def _with_server(
    storage: str, archive: str | None, work: Callable[[ChatServer], Awaitable[_Result]]
) -> _Result:
    """Run something with a server that lets nobody in."""

    async def main() -> _Result:
        opened = None if archive is None else open_archive(archive)
        store = await existing_log(storage)
        async with ChatServer(store=store, authenticate=_nobody, archive=opened) as server:
            return await work(server)

    return anyio.run(main)


async def _nobody(token: str) -> Identity:
    raise UnauthenticatedError("this is no server to log in to")
