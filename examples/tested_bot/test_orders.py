"""Does every guest get exactly one confirmation for each order, whatever the network and the bot's host do?

Nothing is slept through: the tests run in virtual time, a minute in a few hundredths of a second. Each seed is another
story, and always the same one.

Run: `python -m pytest` in a copy of this folder, with chatkit's extra `testing`; where it stands, chatkit's own pytest
settings hold, which want more plugins, so there it is
`python -m pytest -c /dev/null --rootdir examples/tested_bot examples/tested_bot`. With the bot as it was at first: the
same with `BOT=first_bot` in the environment.
"""

from __future__ import annotations

import importlib
import os
import random
from collections import Counter
from types import ModuleType

import anyio
import pytest

from chatkit import ChatClient, ChatServer
from chatkit.testing import Conditions, Devices, Network, Rng

ORDERS = [f"{number} coffee" for number in range(1, 13)]
SEEDS = range(20)


@pytest.fixture
def anyio_backend(chat_virtual: tuple[str, dict[str, object]]) -> tuple[str, dict[str, object]]:
    return chat_virtual


@pytest.fixture
def bot() -> ModuleType:
    return importlib.import_module(os.environ.get("BOT", "mended_bot"))


@pytest.fixture
def rng(chat_rng: Rng) -> random.Random:
    return chat_rng.stream("story")


@pytest.fixture(autouse=True)
async def counter(chat_server: ChatServer) -> None:
    """Where guest and bot meet."""
    await chat_server.create_conversation("SINGLE", "guest", ["bot"], conversation_id="counter")


async def order(guest: ChatClient, rng: random.Random) -> None:
    for text in ORDERS:
        await anyio.sleep(rng.uniform(0, 5))
        await guest.send("counter", text, timeout=600)


async def fail_and_heal(network: Network, rng: random.Random) -> None:
    """Cut everybody off, for up to ten seconds, five times."""
    for _ in range(5):
        await anyio.sleep(rng.uniform(0, 8))
        network.conditions = Conditions(refuse_probability=1)
        for line in list(network.lines):
            line.cut()
        await anyio.sleep(rng.uniform(0, 10))
        network.conditions = Conditions()


async def check_confirmations(guest: ChatClient) -> None:
    """Each order has one."""
    written = await guest.history("counter", limit=200)
    orders = [f"Order {it.seq}: {it.text}" for it in written if it.sender_id == "guest" and it.type == "TEXT"]
    confirmed = Counter(it.text for it in written if it.sender_id == "bot")

    assert len(orders) == len(ORDERS)
    assert [text for text in orders if confirmed[text] > 1] == [], "confirmed more than once"
    assert [text for text in orders if confirmed[text] == 0] == [], "never confirmed"


@pytest.mark.parametrize("chat_seed", SEEDS)
async def test_confirmed_once_though_the_network_fails(
    bot: ModuleType, rng: random.Random, chat_client: Devices, chat_network: Network
) -> None:
    async with chat_client("guest") as guest:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bot.run, chat_client("bot"))
            tasks.start_soon(fail_and_heal, chat_network, rng)
            await order(guest, rng)
            await anyio.sleep(60)
            tasks.cancel_scope.cancel()
        await check_confirmations(guest)


@pytest.mark.parametrize("chat_seed", SEEDS)
async def test_confirmed_once_though_the_bot_is_killed(
    bot: ModuleType, rng: random.Random, chat_client: Devices
) -> None:
    async def live_and_die() -> None:
        while True:
            with anyio.move_on_after(rng.uniform(0, 5)):
                await bot.run(chat_client("bot"))

    async with chat_client("guest") as guest:
        async with anyio.create_task_group() as lives:
            lives.start_soon(live_and_die)
            await order(guest, rng)
            lives.cancel_scope.cancel()
        with anyio.move_on_after(60):
            await bot.run(chat_client("bot"))
        await check_confirmations(guest)
