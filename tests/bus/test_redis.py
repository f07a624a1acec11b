"""The bus on Redis keeps the contract, against a real Valkey, and outlives what happens to it."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.abc
import pytest
import trustme
from anyio.streams.tls import TLSStream

from chatkit.bus.base import Lost
from chatkit.bus.redis import _OPTIONS, RedisBus, _RedisCarrier
from chatkit.errors import ConfigurationError
from chatkit.testing.contracts.bus import BusContract, Join, listening
from tests.servers.process import ServerProcess, running
from tests.servers.redis import own_redis, redis_process, redis_server

from .remote import WAIT_S, RemoteFaults, anyio_backend, nothing_left, until

__all__ = ["anyio_backend", "own_redis", "redis_server"]

numbers = itertools.count()


class TestRedisBus(BusContract):
    soon_s = 0.2
    flood = 5_000

    @pytest.fixture
    async def join(self, redis_server: ServerProcess) -> AsyncIterator[Join]:
        members: list[RedisBus] = []
        address, prefix = f"redis://127.0.0.1:{redis_server.port}", f"contract{next(numbers)}"

        async def place() -> RedisBus:
            members.append(RedisBus(address, prefix=prefix, queue_max=50))
            await members[-1].connect()
            return members[-1]

        yield place
        for member in members:
            await member.aclose()


class RawRedis:
    """The protocol by hand."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")

    def publish(self, name: str, data: bytes) -> None:
        head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n" % (len(name), name.encode())
        self._socket.sendall(head + b"$%d\r\n%s\r\n" % (len(data), data))
        assert self._lines.readline().startswith(b":")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class TestRedisFaults(RemoteFaults):
    scheme = "redis"
    module = "chatkit.bus.redis"

    @pytest.fixture
    def own(self, tmp_path: Path) -> Iterator[ServerProcess]:
        limit = ["--client-output-buffer-limit", "pubsub 1mb 1mb 1"]
        with running(redis_process(tmp_path, *limit)) as server:
            yield server

    def make(self, address: str, **options: Any) -> RedisBus:
        return RedisBus(address, **options)

    def raw(self, port: int) -> RawRedis:
        return RawRedis(port)


async def speak(address: str) -> None:
    """Two members can speak; nothing is left of them."""
    async with nothing_left():
        speaker, hearer = RedisBus(address), RedisBus(address)
        hearer.subscribe("t")
        await speaker.connect()
        await hearer.connect()
        async with listening(hearer) as ear:
            speaker.publish("t", b"hello")
            await ear.until(lambda: b"hello" in ear.data())
        await speaker.aclose()
        await hearer.aclose()


# --- who may connect ---

PASSWORD = "p/w#?@:%41é"


async def test_passwords_are_percent_encoded(tmp_path: Path) -> None:
    with running(redis_process(tmp_path, "--requirepass", PASSWORD)) as server:
        for user in ("", "default"):
            await speak(f"redis://{user}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/3")
        for wrong in ("", ":wrong@", "nobody:wrong@"):
            async with nothing_left():
                member = RedisBus(f"redis://{wrong}127.0.0.1:{server.port}")
                with pytest.raises(ConfigurationError, match="cannot be reached") as refused:
                    await member.connect()
                await member.aclose()
            assert "wrong@" not in str(refused.value)


async def test_rights_that_are_enough(tmp_path: Path) -> None:
    """Those that docs/deploying.md names."""
    rights = "resetchannels &chatkit.* +publish +subscribe +unsubscribe +ping +client|setname +client|setinfo"
    (tmp_path / "users.acl").write_text(f"user a on >a {rights}\nuser default on nopass +ping\n")
    with running(redis_process(tmp_path, "--aclfile", str(tmp_path / "users.acl"))) as server:
        await speak(f"redis://a:a@127.0.0.1:{server.port}")


async def test_a_member_that_may_not_publish_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "users.acl").write_text(
        "user a on >a allchannels +@all -publish\nuser default on nopass allchannels +@all\n"
    )
    with running(redis_process(tmp_path, "--aclfile", str(tmp_path / "users.acl"))) as server:
        member = RedisBus(f"redis://a:a@127.0.0.1:{server.port}")
        await member.connect()
        for _ in range(3):
            member.publish("t", b"")
        await until(lambda: member.dropped == 3)
        assert member.connected
        await member.aclose()

    assert caplog.text.lower().count("no permissions") == 1, "once for each connection"


async def test_tls(tmp_path: Path, redis_server: ServerProcess) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with tls_before(redis_server.port, context) as port:
        await speak(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}")
        async with nothing_left():
            member = RedisBus(f"rediss://127.0.0.1:{port}")
            with pytest.raises(ConfigurationError, match=r"(?i)certificate"):
                await member.connect()
            await member.aclose()


@asynccontextmanager
async def tls_before(inner: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS, in front of one that does not: the packaged Valkey is built without."""

    async def copy(source: anyio.abc.ByteReceiveStream, target: anyio.abc.ByteStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            while True:
                await target.send(await source.receive())
        await anyio.aclose_forcefully(target)

    async def serve(plain: anyio.abc.SocketStream) -> None:
        try:
            outer = await TLSStream.wrap(
                plain, server_side=True, ssl_context=context, standard_compatible=False
            )
        except (ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream):
            await anyio.aclose_forcefully(plain)
            return
        async with await anyio.connect_tcp("127.0.0.1", inner) as behind, anyio.create_task_group() as tasks:
            tasks.start_soon(copy, outer, behind)
            tasks.start_soon(copy, behind, outer)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


# --- silence, and what redis-py does by itself ---


def pings(port: int) -> int:
    """How many pings the server was sent."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
        connection.makefile("rb") as lines,
    ):
        connection.sendall(b"INFO commandstats\r\n")
        said = lines.read(int(lines.readline()[1:]))
    found = re.search(rb"cmdstat_ping:calls=(\d+)", said)
    return int(found[1]) if found else 0


async def test_silence_is_no_failure(own_redis: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the time that is given to an answer."""
    monkeypatch.setattr("chatkit.bus.redis._PING_S", 0.05)
    monkeypatch.setitem(_OPTIONS, "socket_timeout", 0.1)
    member = RedisBus(f"redis://127.0.0.1:{own_redis.port}")
    await member.connect()
    async with listening(member) as ear:
        before = pings(own_redis.port)
        await until(lambda: pings(own_redis.port) > before + 10)

        assert member.connected
        assert ear.heard == []
    await member.aclose()


async def test_a_subscription_that_is_confirmed_once_more_is_a_loss() -> None:
    """redis-py has connected anew by itself, and subscribed to everything again."""
    member = RedisBus("redis://127.0.0.1:1")
    carrier = _RedisCarrier("redis://127.0.0.1:1", "own", member)
    async with listening(member) as ear:
        carrier._asked.update(["a", "a"])
        carrier._subscribed("a")
        carrier._subscribed("a")
        assert ear.heard == []
        carrier._subscribed("a")
        await ear.until(lambda: ear.heard == [Lost()])
    await carrier.aclose()
    await member.aclose()


async def test_a_connection_that_the_server_kills_is_a_loss(own_redis: ServerProcess) -> None:
    async with nothing_left():
        speaker, hearer = (RedisBus(f"redis://127.0.0.1:{own_redis.port}") for _ in range(2))
        hearer.subscribe("t")
        await speaker.connect()
        await hearer.connect()
        async with listening(hearer) as ear:
            for kind in (b"pubsub", b"normal"):
                heard = ear.heard.count(Lost())
                with socket.create_connection(("127.0.0.1", own_redis.port), timeout=20) as connection:
                    connection.sendall(b"CLIENT KILL TYPE %s\r\n" % kind)
                    connection.recv(100)
                if kind == b"pubsub":
                    await ear.until(lambda heard=heard: ear.heard.count(Lost()) > heard)
            with anyio.fail_after(WAIT_S):
                while b"after" not in ear.data():
                    speaker.publish("t", b"after")
                    await anyio.sleep(0.02)
        await speaker.aclose()
        await hearer.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "redis://",
        "redis://:6379",
        "redis://host:port",
        "redis://host:99999",
        "redis://[::1",
        "redis://host?decode_responses=true",
        "unix:///tmp/x",
        "http://host",
        "host:6379",
        "",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigurationError, match="such as redis://"):
        RedisBus(address)


@pytest.mark.parametrize(
    "parameter", ["ssl_no_such=1", "ssl_ca_certs=/no/such/file", "ssl_cert_reqs=perhaps"]
)
async def test_parameters_of_tls_that_are_none(parameter: str) -> None:
    async with nothing_left():
        member = RedisBus(f"rediss://127.0.0.1:1?{parameter}")
        with pytest.raises(ConfigurationError, match="cannot be reached"):
            await member.connect()
        await member.aclose()
