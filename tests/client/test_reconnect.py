"""A HELLO of a try that was given up may arrive late, and replaces the connection made after it."""

from __future__ import annotations

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import Connected, Disconnected
from chatkit.wire import events as ev

from .fake_server import FakeServer, client, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.mark.parametrize(("found_after_s", "will_retry"), [(40.0, True), (70.0, False)])
async def test_4201_is_believed_late_enough_for_a_node_that_had_to_find_out_by_itself(
    server: FakeServer, found_after_s: float, will_retry: bool
) -> None:
    async with client(server, config=ClientConfig(hello_timeout_s=1)) as chat:
        await (await server.accept()).expect(ev.Hello)  # no WELCOME: it is on its way for long
        line = await server.accept()
        await line.log_in()
        await until(chat, Connected)
        for _ in range(int(found_after_s / 10)):
            await anyio.sleep(10)
            line.push(ev.Pong(server_ts=0))
        line.close(4201, "replaced")

        assert (await until(chat, Disconnected))[0].will_retry is will_retry
        await chat.aclose()
