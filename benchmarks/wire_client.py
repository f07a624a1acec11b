"""A bare WebSocket client for load: as little work per frame as Python allows, so that the server is what is seen.

It masks with zeros (legal, and free) and reads whole frames from the buffer. For loopback benchmarks only.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable

import msgspec

decode = msgspec.json.decode


class WireClient(asyncio.Protocol):
    """One connection; `on_events` is called with the decoded events of each read."""

    def __init__(self, on_events: Callable[[WireClient, list[dict]], None]) -> None:
        self._on_events = on_events
        self._buffer = bytearray()
        self._upgraded = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] -- always a stream transport here
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: chatkit.v1.json\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in self._buffer[:32]:
                raise ConnectionError(bytes(self._buffer[:200]))
            del self._buffer[: end + 4]
            self._upgraded = True
            self.opened.set_result(None)
        events = self._events()
        if events:
            if not self.welcomed.done() and any(event["event"] == "WELCOME" for event in events):
                self.welcomed.set_result(None)
            self._on_events(self, events)

    def _events(self) -> list[dict]:
        buffer, at, events = self._buffer, 0, []
        while len(buffer) - at >= 2:
            size, head = buffer[at + 1] & 0x7F, 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
            if len(buffer) - at < head + size:
                break
            if buffer[at] & 0x0F == 1:
                decoded = decode(bytes(buffer[at + head : at + head + size]))
                events.extend(decoded if type(decoded) is list else (decoded,))
            at += head + size
        del buffer[:at]
        return events

    def send(self, events: list[dict]) -> None:
        """Write events as one frame."""
        data = msgspec.json.encode(events if len(events) > 1 else events[0])
        size = len(data)
        if size < 126:
            head = bytes((0x81, 0x80 | size))
        elif size < 65536:
            head = b"\x81\xfe" + size.to_bytes(2, "big")
        else:
            head = b"\x81\xff" + size.to_bytes(8, "big")
        self.transport.write(head + b"\0\0\0\0" + data)


async def connect(
    port: int,
    token: str,
    device_id: str,
    on_events: Callable[[WireClient, list[dict]], None],
    *,
    source: str = "127.0.0.1",
) -> WireClient:
    """A logged-in client (WELCOME and HEADS reach `on_events` too), from an address of this machine."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: WireClient(on_events), "127.0.0.1", port, local_addr=(source, 0)
    )
    await client.opened
    client.send([{"event": "HELLO", "token": token, "deviceId": device_id}])
    await client.welcomed
    return client
