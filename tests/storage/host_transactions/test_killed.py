"""A host is killed around its commit: a message is there exactly if the host's row is, and others get it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit import ChatClient, ChatServer, MessageReceived

from .hosts import MADE, WAIT_S, connected, keys, node, online, texts
from .killed_host import NAME, TRANSACTIONS

ROOT = Path(__file__).parents[3]
ROUNDS = int(os.environ.get("CHATKIT_KILLS", "2"))
"""Kills at each of the three moments."""

KILLS = [when for _ in range(ROUNDS) for when in ("before", "during", "after")]


@pytest.fixture
async def other_node(address: str) -> AsyncIterator[tuple[ChatServer, str]]:
    """A node that nobody tells anything: it looks at the log; and where the log is."""
    async with node(address, heads_check_s=0.1) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        async with connected(address) as connection:
            await connection.execute(MADE)
        yield server, address


@pytest.mark.timeout(60 + 20 * len(KILLS))
async def test_a_message_is_there_exactly_if_the_hosts_row_is(other_node: tuple[ChatServer, str]) -> None:
    server, address = other_node
    async with connected(address) as watcher, online(server, "ben") as ben:
        for round_number, when in enumerate(KILLS):
            first = round_number * TRANSACTIONS
            await killed(address, first, when)
            await until_alone(watcher)
            stored = {row[0] for row in await watcher.fetch("SELECT number FROM shop_order")}
            assert set(await keys(server)) - {"end"} == {f"order-{number}" for number in stored}
            last = first + TRANSACTIONS - 1
            assert {first, first + 1} <= stored
            assert when == "during" or (last in stored) == (when == "after")
        await server.send("g", "ann", "end", client_msg_id="end")
        assert await texts(ben, "end") == await keys(server)
        again = [
            (await server.send("g", "ann", f"order-{number}", client_msg_id=f"order-{number}")).seq
            for number in sorted(stored)
        ]
        assert again == list(range(2, len(stored) + 2))


async def test_a_client_of_another_node_gets_it_without_a_word(other_node: tuple[ChatServer, str]) -> None:
    """Nothing else is written meanwhile: the look at the log alone finds it."""
    server, address = other_node
    async with online(server, "ben") as ben:
        await killed(address, 0, "after")
        assert await first_text(ben, f"order-{TRANSACTIONS - 1}")


async def first_text(chat: ChatClient, wanted: str) -> bool:
    with anyio.fail_after(WAIT_S):
        async for event in chat.events():
            if isinstance(event, MessageReceived) and event.message.text == wanted:
                return True
    return False


async def killed(address: str, first: int, when: str) -> None:
    command = [sys.executable, "-m", "tests.storage.host_transactions.killed_host", address, str(first), when]
    done = await anyio.run_process(command, check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def until_alone(watcher: Any) -> None:
    """Until PostgreSQL has ended the session of the process that was killed."""
    with anyio.fail_after(WAIT_S):
        while await watcher.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", NAME
        ):
            await anyio.sleep(0.01)
