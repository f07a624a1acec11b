"""A push service that does as it is told, with TLS on loopback: HTTP/2 by h2 and HTTP/1.1 by h11, chosen by ALPN.

It never waits by itself: each request is answered, or not, in the moment when its last byte is there.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.settings
import h11
import trustme
from hyperframe.frame import GoAwayFrame

READ_BYTES = 65_536


class Request(NamedTuple):
    """What arrived, on the how manieth connection."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


class Fault(Enum):
    """What comes instead of an answer."""

    HANG = "nothing"
    RESET = "RST_STREAM, or with HTTP/1.1 the end of the connection"
    GOAWAY = "GOAWAY that counts this request in, then its answer"
    CUT = "the end of the connection"
    LOWER = "an answer, before which the stream limit sinks to 1"
    ENDLESS = "an answer whose body does not end"


Answer = Callable[[Request], Reply | Fault]


class PushGateway:
    """Use as a context manager. Its `answer` may be replaced at any time.

    Args:
        answer: What is done with each request.
        streams_max: Of one HTTP/2 connection at a time.
    """

    def __init__(self, answer: Answer, streams_max: int = 100) -> None:
        self.answer = answer
        self.streams_max = streams_max
        self.seen: list[Request] = []
        self.opened = 0
        self.streams_open_most = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: list[_Http2] = []
        self._authority = trustme.CA()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._writers)

    def trusting(self) -> ssl.SSLContext:
        """A context for clients."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    @property
    def authority_pem(self) -> bytes:
        """The certificate that clients in other processes must trust."""
        return self._authority.cert_pem.bytes()

    async def __aenter__(self) -> PushGateway:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut_all()
        await self._server.wait_closed()

    async def cut_all(self) -> None:
        """End every connection, as a load balancer does with idle ones."""
        for writer in list(self._writers):
            writer.transport.abort()  # a polite end of TLS waits for an answer, which idle clients do not give
        while self._writers:
            await asyncio.sleep(0.005)

    def goaway_all(self) -> None:
        """Tell every HTTP/2 client that its connection takes no more, and leave it open."""
        for serving in self._serving:
            serving.goaway()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.opened += 1
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        try:
            if chosen == "h2":
                serving = _Http2(self, writer, self.opened)
                self._serving.append(serving)
                await serving.run(reader)
            else:
                await _Http1(self, writer, self.opened).run(reader)
        except (OSError, h11.RemoteProtocolError):
            pass  # the other side went away, which is its right
        finally:
            writer.close()
            self._writers.discard(writer)

    def decide(self, request: Request) -> Reply | Fault:
        """Note a request, and say what is done with it."""
        self.seen.append(request)
        return self.answer(request)


class _Http2:
    def __init__(self, gateway: PushGateway, writer: asyncio.StreamWriter, number: int) -> None:
        self._gateway = gateway
        self._writer = writer
        self._number = number
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self._last = 2**31

    async def run(self, reader: asyncio.StreamReader) -> None:
        limit = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self._gateway.streams_max}
        self._connection.local_settings = h2.settings.Settings(client=False, initial_values=limit)
        self._connection.initiate_connection()
        self._write()
        while data := await reader.read(READ_BYTES):
            for event in self._connection.receive_data(data):
                self._take(event)
            self._write()

    def goaway(self) -> None:
        self._last = self._connection.highest_inbound_stream_id
        self._writer.write(GoAwayFrame(0, last_stream_id=self._last).serialize())

    def _write(self) -> None:
        self._writer.write(self._connection.data_to_send())

    def _take(self, event: Any) -> None:
        match event:
            case h2.events.RequestReceived():
                self._headers[event.stream_id] = {_text(name): _text(value) for name, value in event.headers}
                self._bodies[event.stream_id] = b""
                open_now = self._connection.open_inbound_streams
                self._gateway.streams_open_most = max(self._gateway.streams_open_most, open_now)
            case h2.events.DataReceived():
                self._bodies[event.stream_id] += event.data
                self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self._do(event.stream_id)

    def _do(self, stream: int) -> None:
        headers, body = self._headers.pop(stream), self._bodies.pop(stream)
        if stream > self._last:
            return
        request = Request(headers[":path"], headers, body, self._number)
        match self._gateway.decide(request):
            case Reply() as reply:
                self._reply(stream, reply)
            case Fault.RESET:
                self._connection.reset_stream(stream)
            case Fault.GOAWAY:
                self._write()
                self._last = stream
                self._writer.write(GoAwayFrame(0, last_stream_id=stream).serialize())
                self._reply(stream, Reply(200, {"apns-id": headers.get("apns-id", "")}))
            case Fault.LOWER:
                self._connection.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
                self._reply(stream, Reply(200, {"apns-id": headers.get("apns-id", "")}))
            case Fault.CUT:
                self._writer.close()
            case Fault.ENDLESS:
                self._connection.send_headers(stream, [(":status", "200")])
                self._connection.send_data(stream, b"x" * 16_000)
                self._connection.send_data(stream, b"x" * 16_000)

    def _reply(self, stream: int, reply: Reply) -> None:
        self._connection.send_headers(stream, [(":status", str(reply.status)), *reply.headers.items()])
        self._connection.send_data(stream, reply.body, end_stream=True)


class _Http1:
    def __init__(self, gateway: PushGateway, writer: asyncio.StreamWriter, number: int) -> None:
        self._gateway = gateway
        self._writer = writer
        self._number = number
        self._connection = h11.Connection(h11.SERVER)

    async def run(self, reader: asyncio.StreamReader) -> None:
        request: h11.Request | None = None
        body = b""
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                self._connection.receive_data(await reader.read(READ_BYTES))
            elif isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                await self._do(request, body, reader)
                if self._connection.our_state is not h11.DONE:
                    return
                self._connection.start_next_cycle()
            else:
                return

    async def _do(self, request: h11.Request, body: bytes, reader: asyncio.StreamReader) -> None:
        headers = {_text(name): _text(value) for name, value in request.headers}
        match self._gateway.decide(Request(_text(request.target), headers, body, self._number)):
            case Reply() as reply:
                sized = [*reply.headers.items(), ("content-length", str(len(reply.body)))]
                self._send(h11.Response(status_code=reply.status, headers=sized))
                self._send(h11.Data(data=reply.body))
                self._send(h11.EndOfMessage())
            case Fault.HANG:
                await reader.read(READ_BYTES)
            case Fault.ENDLESS:
                self._send(h11.Response(status_code=200, headers=[("content-length", str(10**9))]))
                self._send(h11.Data(data=b"x" * 100_000))
                await reader.read(READ_BYTES)
            case _:
                self._writer.close()

    def _send(self, event: Any) -> None:
        self._writer.write(self._connection.send(event) or b"")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
