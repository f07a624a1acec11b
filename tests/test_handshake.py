"""A request that is given up while its TLS handshake hangs leaves no socket open, without the garbage collector."""

from __future__ import annotations

import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
from anyio.abc import SocketListener, SocketStream

from chatkit.client.api import ChatApi
from chatkit.drivers.https import fetch
from chatkit.push._http import Http
from chatkit.push._sender import Attempt

Ask = Callable[[str], Awaitable[object]]


def sockets() -> int:
    """How many descriptors of this process are sockets."""
    return sum(os.readlink(f"/proc/self/fd/{each}").startswith("socket:") for each in _descriptors())


def _descriptors() -> list[str]:
    return [each for each in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{each}")]


def pushing(http2: bool) -> Ask:
    async def ask(url: str) -> object:
        http = Http(http2=http2, connections_max=1, ssl_context=ssl.create_default_context(), proxy=None)
        return await http.post(url, {}, b"push", Attempt())

    return ask


async def calling(url: str) -> object:
    api = ChatApi(url, token="t", ssl_context=ssl.create_default_context(), timeout_s=600)
    return await api.conversations()


async def downloading(url: str) -> object:
    api = ChatApi(url, token="t", ssl_context=ssl.create_default_context(), timeout_s=600)
    async with api._http.get("/v1/blobs/b", {}) as answer:
        return answer


async def fetching(url: str) -> object:
    return await fetch(url, bytes_max=1, timeout_s=600, ssl_context=ssl.create_default_context())


ASKS: dict[str, Ask] = {
    "push over HTTP/1.1": pushing(http2=False),
    "push over HTTP/2": pushing(http2=True),
    "call of the API": calling,
    "bytes by a link": downloading,
    "a document": fetching,
}


@pytest.fixture
async def silent() -> AsyncIterator[SocketListener]:
    """Takes connections, and says nothing."""
    listener = (await anyio.create_tcp_listener(local_host="127.0.0.1", family=socket.AF_INET)).listeners[0]
    async with listener:
        yield listener


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="descriptors are counted by /proc")
@pytest.mark.parametrize("name", ASKS)
async def test_a_handshake_that_is_given_up_leaves_no_socket(name: str, silent: SocketListener) -> None:
    url = f"https://127.0.0.1:{silent.extra(anyio.abc.SocketAttribute.local_port)}"
    before = sockets()
    gc.disable()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ASKS[name], url)
            stream: SocketStream = await silent.accept()
            assert await stream.receive()  # the client's hello: the handshake is under way
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        for _ in range(5):
            await anyio.sleep(0)
        assert sockets() == before
    finally:
        gc.enable()
