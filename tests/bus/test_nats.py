"""The bus on NATS keeps the contract, against a real server, and outlives what happens to it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme

from chatkit.bus._names import name_of
from chatkit.bus.base import Lost
from chatkit.bus.nats import NatsBus
from chatkit.errors import ConfigurationError
from chatkit.testing.contracts.bus import BusContract, Join, listening
from tests.servers.nats import nats_process, nats_server, own_nats
from tests.servers.process import ServerProcess, free_port, running

from .remote import RemoteFaults, anyio_backend, nothing_left, until

__all__ = ["anyio_backend", "nats_server", "own_nats"]

numbers = itertools.count()


class TestNatsBus(BusContract):
    soon_s = 0.2
    flood = 5_000

    @pytest.fixture
    async def join(self, nats_server: ServerProcess) -> AsyncIterator[Join]:
        members: list[NatsBus] = []
        address, prefix = f"nats://127.0.0.1:{nats_server.port}", f"contract{next(numbers)}"

        async def place() -> NatsBus:
            members.append(NatsBus(address, prefix=prefix, queue_max=50))
            await members[-1].connect()
            return members[-1]

        yield place
        for member in members:
            await member.aclose()


class RawNats:
    """The protocol by hand."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")
        self._socket.sendall(b'CONNECT {"verbose":false}\r\n')
        self._answered()

    def publish(self, name: str, data: bytes) -> None:
        self._socket.sendall(b"PUB %s %d\r\n%s\r\n" % (name.encode(), len(data), data))
        self._answered()

    def _answered(self) -> None:
        self._socket.sendall(b"PING\r\n")
        while (line := self._lines.readline()) != b"PONG\r\n":
            assert line.startswith((b"INFO", b"PING")), line

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class TestNatsFaults(RemoteFaults):
    scheme = "nats"
    module = "chatkit.drivers.nats"  # where the pings are

    @pytest.fixture
    def own(self, tmp_path: Path) -> Iterator[ServerProcess]:
        with running(configured(tmp_path, "max_pending: 1MB")) as server:
            yield server

    def make(self, address: str, **options: Any) -> NatsBus:
        return NatsBus(address, **options)

    def raw(self, port: int) -> RawNats:
        return RawNats(port)


def configured(folder: Path, text: str) -> ServerProcess:
    config = folder / "nats.conf"
    config.write_text(text)
    return nats_process(folder, "--config", str(config))


async def speak(*addresses: str) -> None:
    """Two members of one server can speak; nothing is left of them."""
    async with nothing_left():
        speaker, hearer = NatsBus(addresses[0]), NatsBus(addresses[-1])
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


async def test_user_and_password_are_percent_encoded(tmp_path: Path) -> None:
    text = f'authorization {{ user: "a@b", password: "{PASSWORD}" }}'
    with running(configured(tmp_path, text)) as server:
        await speak(f"nats://a%40b:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}")
        for wrong in ("", "a%40b:wrong@", "token@"):
            async with nothing_left():
                member = NatsBus(f"nats://{wrong}127.0.0.1:{server.port}")
                with pytest.raises(ConfigurationError, match=r"(?i)authorization violation") as refused:
                    await member.connect()
                await member.aclose()
            assert "wrong@" not in str(refused.value)


async def test_a_token_is_what_stands_alone(tmp_path: Path) -> None:
    with running(configured(tmp_path, 'authorization { token: "s3/cret" }')) as server:
        await speak(f"nats://s3%2Fcret@127.0.0.1:{server.port}")


async def test_rights_that_are_enough(tmp_path: Path) -> None:
    """Those that docs/deploying.md names."""
    rights = 'publish: { allow: "chatkit.>" }, subscribe: { allow: "chatkit.>" }'
    text = f"authorization {{ users: [{{ user: a, password: a, permissions: {{ {rights} }} }}] }}"
    with running(configured(tmp_path, text)) as server:
        await speak(f"nats://a:a@127.0.0.1:{server.port}")


async def test_a_member_that_may_not_publish_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = 'authorization { users: [{ user: a, password: a, permissions: { publish: { deny: ">" } } }] }'
    with running(configured(tmp_path, text)) as server:
        member = NatsBus(f"nats://a:a@127.0.0.1:{server.port}")
        await member.connect()
        for _ in range(3):
            member.publish("t", b"")
        await until(lambda: "permissions violation" in caplog.text)
        await member.aclose()

    assert caplog.text.count("permissions violation") == 1, "once for each connection"


# --- TLS ---


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    return authority


def tls_process(folder: Path) -> ServerProcess:
    file = folder / "server.pem"
    return configured(folder, f'tls {{ cert_file: "{file}", key_file: "{file}" }}')


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_tls_where_the_system_knows_the_authority(
    scheme: str, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with running(tls_process(tmp_path)) as server:
        await speak(f"{scheme}://127.0.0.1:{server.port}")


async def test_tls_with_a_certificate_that_nobody_knows(tmp_path: Path, authority: trustme.CA) -> None:
    with running(tls_process(tmp_path)) as server:
        async with nothing_left():
            member = NatsBus(f"tls://127.0.0.1:{server.port}")
            with pytest.raises(ConfigurationError, match=r"(?i)certificate"):
                await member.connect()
            await member.aclose()


async def test_tls_is_insisted_on_before_a_password_is_sent(tmp_path: Path) -> None:
    """nats-py alone would send it in the clear to a server that asks for no TLS."""
    with running(nats_process(tmp_path, "-V")) as server:
        async with nothing_left():
            member = NatsBus(f"tls://user:password@127.0.0.1:{server.port}")
            with pytest.raises(ConfigurationError, match="secure connection not available"):
                await member.connect()
            await member.aclose()
        said = server.log.read_text()

    assert "<<- [PING]" not in said
    assert "<<- [CONNECT" not in said


# --- servers ---


async def test_the_servers_of_a_list_are_tried_in_turn(nats_server: ServerProcess) -> None:
    gone = free_port()
    await speak(
        f"nats://127.0.0.1:{gone},nats://127.0.0.1:{nats_server.port}", f"nats://127.0.0.1:{nats_server.port}"
    )


async def test_a_member_goes_over_to_the_other_server(tmp_path: Path, nats_server: ServerProcess) -> None:
    with running(nats_process(tmp_path)) as first:
        async with nothing_left():
            member = NatsBus(f"nats://127.0.0.1:{first.port},nats://127.0.0.1:{nats_server.port}")
            member.subscribe("over")
            await member.connect()
            async with listening(member) as ear:
                first.kill()
                await ear.until(lambda: Lost() in ear.heard)
            assert member.connected
            await member.aclose()
        first.start()


async def test_frames_that_the_server_does_not_take_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(configured(tmp_path, "max_payload: 1000")) as server:
        speaker, hearer = (NatsBus(f"nats://127.0.0.1:{server.port}") for _ in range(2))
        hearer.subscribe("t")
        await speaker.connect()
        await hearer.connect()
        async with listening(hearer) as ear:
            for data in (b"small", bytes(993), bytes(5_000), b"small too"):
                speaker.publish("t", data)
            await ear.until(lambda: b"small too" in ear.data())
            assert ear.data() == {b"small", b"small too"}
        await speaker.aclose()
        await hearer.aclose()

    assert speaker.dropped == 2
    assert caplog.text.count("max_payload") == 1


async def test_an_error_of_the_server_after_which_nats_py_gives_up(own_nats: ServerProcess) -> None:
    """It closes for good on any error but a few; the member connects again all the same."""
    async with nothing_left():
        member = NatsBus(f"nats://127.0.0.1:{own_nats.port}")
        member.subscribe("t")
        await member.connect()
        own_nats.stop()  # in order: the server says why before it closes
        await until(lambda: not member.connected)
        own_nats.start()
        await until(lambda: member.connected)
        await member.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "nats://",
        "nats://:4222",
        "nats://host:port",
        "nats://host:99999",
        "nats://host:0",
        "nats://[::1",
        "nats://host/path",
        "nats://host?x=1",
        "http://host",
        "host:4222",
        "nats://a,",
        "",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigurationError, match="such as nats://"):
        NatsBus(address)


@pytest.mark.parametrize("prefix", ["", "a.b", "a b", ">", "*", "ä", "x" * 65, "a\n"])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        NatsBus("nats://127.0.0.1", prefix=prefix)


def test_names_are_one_token_within_the_servers_bounds() -> None:
    longest = name_of("p" * 64, "🙂" * 200)

    assert len(longest) == 64 + 1 + 1067
    assert longest.isascii()
    assert longest.count(".") == 1
