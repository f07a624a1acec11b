"""A host that is killed around a commit: `python -m tests.storage.host_transactions.killed_host ADDRESS FIRST WHEN`.

It sends in transactions of its own, one after the other, from order FIRST on; in the last of them it kills itself:

- before: everything is done in the transaction but its COMMIT,
- during: COMMIT is on its way, and nobody waits for the answer,
- after: COMMIT has been answered; nothing else has run since, so nobody was told.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final

import anyio
import asyncpg
from anyio.lowlevel import checkpoint

from .hosts import ORDER, node

NAME: Final = "killed"
"""Of the session in which it sends."""

TRANSACTIONS: Final = 3


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def send_and_die(address: str, first: int, when: str) -> None:
    async with node(address) as server:
        connection: Any = await asyncpg.connect(address, server_settings={"application_name": NAME})
        for number in range(first, first + TRANSACTIONS):
            await connection.execute("BEGIN")
            await connection.execute(ORDER, number)
            name = f"order-{number}"
            await server.send("g", "ann", name, client_msg_id=name, connection=connection)
            if number < first + TRANSACTIONS - 1:
                await connection.execute("COMMIT")
            else:
                await commit_and_die(connection, when)


async def commit_and_die(connection: Any, when: str) -> None:
    if when == "before":
        die()
    if when == "after":
        await connection.execute("COMMIT")
        die()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.execute, "COMMIT")
        await checkpoint()  # it is in the socket now
        die()


if __name__ == "__main__":
    anyio.run(send_and_die, sys.argv[1], int(sys.argv[2]), sys.argv[3])
