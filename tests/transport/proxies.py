"""A small HTTP proxy: CONNECT, and requests with whole addresses. Counts what it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketListener, SocketStream


class Proxy:
    """A running proxy.

    Attributes:
        url: Its address.
        heads: The request heads it got.
        refuses_with: Answers every request with this status instead; None for none.
    """

    def __init__(self) -> None:
        self.url = ""
        self.heads: list[str] = []
        self.refuses_with: int | None = None

    async def serve(self, stream: SocketStream) -> None:
        """One connection of a client."""
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive()
            self.heads.append(head.decode())
            method, target, _ = head.decode().split(" ", 2)
            if self.refuses_with is not None:
                await stream.send(f"HTTP/1.1 {self.refuses_with} no\r\ncontent-length: 0\r\n\r\n".encode())
                return
            where = urlsplit(f"//{target}" if method == "CONNECT" else target)
            assert where.hostname is not None and where.port is not None
            async with await anyio.connect_tcp(where.hostname, where.port) as server:
                if method == "CONNECT":
                    await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    await server.send(head.replace(target.encode(), where.path.encode(), 1))
                await _pipe_both(stream, server)


async def _pipe_both(one: SocketStream, other: SocketStream) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_pipe, one, other, group.cancel_scope)
        group.start_soon(_pipe, other, one, group.cancel_scope)


async def _pipe(source: ByteReceiveStream, target: ByteSendStream, scope: anyio.CancelScope) -> None:
    try:
        async for chunk in source:
            await target.send(chunk)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    scope.cancel()


@asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy, ended = Proxy(), anyio.Event()
    (listener,) = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners
    assert isinstance(listener, SocketListener)
    port = listener.extra(SocketAttribute.local_port)
    proxy.url = f"http://127.0.0.1:{port}"

    async def accept() -> None:
        while True:
            stream = await listener.accept()
            if ended.is_set():
                await stream.aclose()
                return
            group.start_soon(proxy.serve, stream)

    async with listener, anyio.create_task_group() as group:
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(accept)
            yield proxy
            # asyncio's accept must not be cancelled: as a connection comes it would set a future that is done
            ended.set()
            await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
        group.cancel_scope.cancel()
