"""Behind nginx, HAProxy and Caddy with the files of `examples/`: messages, files, addresses, closes, the drain."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from chatkit import ChatApi, ChatClient, MessageReceived, UnauthenticatedError
from chatkit.errors import TooLargeError
from chatkit.server.blobs.config import BlobConfig
from chatkit.server.config import ServerConfig
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import token
from tests.docs.snippets import ROOT, blocks
from tests.servers.process import running

from .proxies import EXAMPLES, NAMES, Door, proxy, reload_caddy

FILE = b"\x89PNG\r\n\x1a\n" + bytes(3 * 1024 * 1024)
OF_ONE_ADDRESS = 4

_devices = itertools.count()

Doors = Callable[[str], Door]


class Chat(ServerProcess):
    """`chatkit serve` as it is."""

    program = ("-m", "chatkit", "serve")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    folder = tmp_path_factory.mktemp("chat")
    bound = f"limits.connections_per_address={OF_ONE_ADDRESS}"
    server = Chat(folder, "--blobs", f"dir://{folder}/files", "--set", bound)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def doors(chat: Chat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Each proxy, started when it is first asked for."""
    there: dict[str, Door] = {}
    with ExitStack() as started:

        def door(name: str) -> Door:
            if name not in there:
                process, there[name] = proxy(name, tmp_path_factory.mktemp(name), chat.port)
                started.enter_context(running(process))
            return there[name]

        yield door


@contextmanager
def opened(door: Door, user: str, address: str, **headers: str) -> Iterator[ClientConnection]:
    """A device that said HELLO, from one of the addresses of this machine."""
    with connect(
        door.url.replace("http", "ws", 1) + "/v1/ws",
        subprotocols=[Subprotocol("chatkit.v1.json")],
        ssl=door.trust,
        additional_headers=headers,
        source_address=(address, 0),
        proxy=None,
    ) as socket:
        device = f"device-{next(_devices)}"
        with suppress(ConnectionClosed):  # it may be refused already
            socket.send(json.dumps({"event": "HELLO", "token": token(user), "deviceId": device}))
        yield socket


def heard(socket: ClientConnection) -> tuple[list[str], int, str]:
    """The events up to the close, its code and its reason."""
    events: list[str] = []
    try:
        while True:
            said = json.loads(socket.recv(timeout=20))
            events += [it["event"] for it in ([said] if isinstance(said, dict) else said)]
    except ConnectionClosed as closed:
        return events, closed.rcvd.code if closed.rcvd else 1006, closed.rcvd.reason if closed.rcvd else ""


def answer_of(socket: ClientConnection) -> str:
    """What comes of a PING."""
    try:
        socket.send('{"event":"PING"}')
        while "PONG" not in str(socket.recv(timeout=20)):
            pass  # what else is said after a login, or before a close
    except ConnectionClosed as closed:
        return f"closed with {closed.rcvd.code if closed.rcvd else 1006}"
    return "PONG"


@pytest.mark.parametrize("name", NAMES)
async def test_users_chat_and_send_files_through_it(name: str, doors: Doors, tmp_path: Path) -> None:
    url, trust, _ = doors(name)
    conversation, user, other = f"g-{name}", f"lina-{name}", f"omar-{name}"
    with anyio.fail_after(40):
        async with (
            ChatApi(url, token=token(user, "phone"), ssl_context=trust) as api,
            ChatClient(url, token=token(user), device_id="phone", ssl_context=trust) as lina,
            ChatClient(url, token=token(other), device_id="phone", ssl_context=trust) as omar,
        ):
            await api.create_conversation("GROUP", [other], conversation_id=conversation)
            await lina.send(conversation, "Hello")
            await lina.send_file(conversation, FILE, name="a.png")
            got: list[str] = []
            async for event in omar.events():
                match event:
                    case MessageReceived(message=message) if message.type == "TEXT":
                        got.append(message.text)
                    case MessageReceived(message=message) if message.type == "IMAGE":
                        assert await omar.download(message) == FILE
                        break
            assert got == ["Hello"]
            with pytest.raises(TooLargeError):
                await api.send(conversation, "x" * 70_000)
        async with ChatApi(url, token="t" * 12_000, ssl_context=trust) as stranger:
            with pytest.raises(UnauthenticatedError):  # of chatkit, not a proxy's own word about a long head
                await stranger.conversations()
    async with httpx.AsyncClient(base_url=url, verify=trust or True, trust_env=False) as web:
        answer = await web.get("/v1/conversations/a%2Fb", headers={"Authorization": f"Bearer {token(user)}"})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json", "the path was left alone"


@pytest.mark.parametrize("name", NAMES)
def test_its_clients_keep_their_addresses_and_hear_why_they_are_closed(name: str, doors: Doors) -> None:
    door = doors(name)
    with ExitStack() as stack:
        for _ in range(OF_ONE_ADDRESS):
            socket = stack.enter_context(opened(door, "mallory", "127.0.0.2"))
            assert "WELCOME" in str(socket.recv(timeout=20))
        forged = {"X-Forwarded-For": "127.0.0.9"}
        one_more = stack.enter_context(opened(door, "mallory", "127.0.0.2", **forged))
        assert heard(one_more)[:2] == (["ERROR"], 4002)
        other = stack.enter_context(opened(door, "omar", "127.0.0.3"))
        assert "WELCOME" in str(other.recv(timeout=20))


def test_caddy_leaves_websockets_alone_when_it_is_told_to_read_its_file_again(doors: Doors) -> None:
    door = doors("caddy")
    with opened(door, "lina", "127.0.0.4") as socket:
        assert "WELCOME" in str(socket.recv(timeout=20))
        reload_caddy(door.folder)
        assert answer_of(socket) == "PONG"


def test_the_drain_of_the_server_is_heard_through_all_of_them(chat: Chat, doors: Doors) -> None:
    with ExitStack() as stack:
        open_doors = [doors(name) for name in NAMES]
        sockets = [
            stack.enter_context(opened(it, "lina", f"127.0.0.{n}")) for n, it in enumerate(open_doors, 5)
        ]
        for socket in sockets:
            assert "WELCOME" in str(socket.recv(timeout=20))
        chat.terminate()
        for socket in sockets:
            events, code, reason = heard(socket)
            assert "GOAWAY" in events
            assert (code, reason) == (1001, "the node drains")
    assert chat.exit_code() == 0


def test_haproxy_sends_everybody_to_the_nodes_that_are_there(tmp_path: Path) -> None:
    with ExitStack() as stack:
        nodes = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            nodes.append(Chat(tmp_path / name, storage="memory://"))
            stack.callback(nodes[-1].stop)
            nodes[-1].launch()
        for node in nodes:
            node.wait_ready()
        (tmp_path / "haproxy").mkdir()
        process, door = proxy("haproxy", tmp_path / "haproxy", *(node.port for node in nodes))
        stack.enter_context(running(process))
        sockets = [stack.enter_context(opened(door, "lina", "127.0.0.1")) for _ in nodes]
        for socket in sockets:
            assert "WELCOME" in str(socket.recv(timeout=20))

        nodes[0].terminate()
        assert nodes[0].exit_code() == 0
        assert {answer_of(socket) for socket in sockets} == {"PONG", "closed with 1001"}
        for _ in range(4):  # at once, before it has asked again for /readyz
            socket = stack.enter_context(opened(door, "omar", "127.0.0.1"))
            assert "WELCOME" in str(socket.recv(timeout=20))


def test_no_file_cuts_a_quiet_websocket_or_a_file_short() -> None:
    nginx, caddy = ((EXAMPLES / name).read_text() for name in ("nginx.conf", "Caddyfile"))
    silence_s = 2 * ServerConfig().heartbeat_s
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        (found,) = re.findall(rf"{name} (\d+)s;", nginx)
        assert int(found) > silence_s
    assert "timeout" not in caddy, "Caddy has none for a WebSocket by itself"
    sizes = re.findall(r"client_max_body_size (\d+)m;", nginx), re.findall(r"max_size (\d+)MiB", caddy)
    for size, largest in zip(sizes, ((1, 100), (100, 1)), strict=True):
        assert tuple(map(int, size)) == largest
    assert BlobConfig().size_max == 100 * 1024 * 1024


def test_the_page_shows_the_files() -> None:
    page = ROOT / "docs/deploying.md"
    for kind, name in (("nginx", "nginx.conf"), ("caddyfile", "Caddyfile")):
        (block,) = blocks(page, kind)
        assert block.text == (EXAMPLES / name).read_text(encoding="utf-8")
