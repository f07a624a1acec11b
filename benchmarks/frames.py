"""A bare WebSocket connection for load: as little work per frame as Python allows, so that the server is what is seen.

It masks with zeros (legal, and free) and reads whole frames from the buffer. For loopback benchmarks only.
"""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TypeVar

_TEXT = 1


class FrameClient(asyncio.Protocol):
    """One connection; `received` is called with the text frames of each read.

    Args:
        path: What is asked for.
        headers: Lines of the request beside those that it must have.

    Attributes:
        opened: Done once the server has agreed.
        failure: Why it ended, if that was not by `close`; None: it goes on, or was closed.
    """

    def __init__(self, path: str, headers: str = "") -> None:
        self._path = path
        self._headers = headers
        self._buffer = bytearray()
        self._upgraded = False
        self._closed = False
        self.failure: str | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def received(self, texts: list[bytes]) -> None:
        """What has come, at least one."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] -- always a stream transport here
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{self._headers}\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed before it was open"))
        elif not self._closed:
            self.failure = f"the server closed a connection: {exc or 'without a word'}"

    def close(self) -> None:
        """Leave."""
        self._closed = True
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in self._buffer[:32]:
                self.opened.set_exception(ConnectionError(bytes(self._buffer[:200])))
                self.transport.abort()
                return
            del self._buffer[: end + 4]
            self._upgraded = True
            self.opened.set_result(None)
        texts = self._texts()
        if texts:
            self.received(texts)

    def _texts(self) -> list[bytes]:
        buffer, at, texts = self._buffer, 0, []
        while len(buffer) - at >= 2:
            size, head = buffer[at + 1] & 0x7F, 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
            if len(buffer) - at < head + size:
                break
            if buffer[at] & 0x0F == _TEXT:
                texts.append(bytes(buffer[at + head : at + head + size]))
            at += head + size
        del buffer[:at]
        return texts

    def write(self, *texts: bytes) -> None:
        """A frame for each, in one write."""
        frames = []
        for data in texts:
            size = len(data)
            if size < 126:
                head = bytes((0x81, 0x80 | size))
            elif size < 65536:
                head = b"\x81\xfe" + size.to_bytes(2, "big")
            else:
                head = b"\x81\xff" + size.to_bytes(8, "big")
            frames += (head, b"\0\0\0\0", data)
        self.transport.write(b"".join(frames))


ClientT = TypeVar("ClientT", bound=FrameClient)


async def open_client(port: int, client: ClientT, source: str = "127.0.0.1") -> ClientT:
    """Connect it, from an address of this machine."""
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: client, "127.0.0.1", port, local_addr=(source, 0))
    await client.opened
    return client
