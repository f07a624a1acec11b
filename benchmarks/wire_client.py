"""A client of chatkit for load, which decodes events and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from .frames import FrameClient, open_client

decode = msgspec.json.decode


class WireClient(FrameClient):
    """One connection; `on_events` is called with the decoded events of each read."""

    def __init__(self, on_events: Callable[[WireClient, list[dict]], None], path: str = "/v1/ws") -> None:
        super().__init__(path, "Sec-WebSocket-Protocol: chatkit.v1.json\r\n")
        self._on_events = on_events
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(self, texts: list[bytes]) -> None:
        """Decode them."""
        events: list[dict] = []
        for text in texts:
            decoded = decode(text)
            events.extend(decoded if type(decoded) is list else (decoded,))
        if not self.welcomed.done() and any(event["event"] == "WELCOME" for event in events):
            self.welcomed.set_result(None)
        self._on_events(self, events)

    def send(self, events: list[dict]) -> None:
        """Write events as one frame."""
        self.write(msgspec.json.encode(events if len(events) > 1 else events[0]))


async def connect(
    port: int,
    token: str,
    device_id: str,
    on_events: Callable[[WireClient, list[dict]], None],
    *,
    source: str = "127.0.0.1",
) -> WireClient:
    """A logged-in client (WELCOME and HEADS reach `on_events` too), from an address of this machine."""
    client = await open_client(port, WireClient(on_events), source)
    client.send([{"event": "HELLO", "token": token, "deviceId": device_id}])
    await client.welcomed
    return client
