"""`chatkit postgres`: what the owner of a database does for chatkit."""

from __future__ import annotations

import click

from .common import exit_codes


@click.group(short_help="What the owner of a PostgreSQL database does.")
def postgres() -> None:
    """For the owner of a PostgreSQL database that holds a log."""


@postgres.command(context_settings={"show_default": True})
@click.option("--role", required=True, help="The role that servers and workers log in as. It must be there.")
@click.option("--schema", default="public", help="Where chatkit's tables are.")
def grants(role: str, schema: str) -> None:
    """Print the SQL that lets a role serve a log without being able to change its audit.

    Run it as the owner of the tables, after the migrations (each new version of chatkit has some): pipe it into psql.
    Nothing is connected to here.
    """
    from ..storage.postgres.grants import grants as sql_of  # here: it is slow to load

    with exit_codes():
        click.echo(sql_of(role, schema), nl=False)
