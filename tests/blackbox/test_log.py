"""What refused input leaves in the server's log: a line of bounded size, no stack text, no secret."""

from __future__ import annotations

import socket

import pytest

from .server_process import ServerProcess
from .world import World

BAD_CHUNK = b"POST /v1/messages/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"


@pytest.mark.parametrize("way", ["text frame that is no UTF-8", "bad chunk", "wrong token", "bad json"])
def test_refusals_write_no_stack_text(own_server: ServerProcess, way: str) -> None:
    world = World(own_server.http_url, own_server.ws_url)
    if way == "text frame that is no UTF-8":
        peer = world.raw_peer()
        peer.socket.send(b"\xff\xfe", text=True)
        assert peer.close_code() == 1007
    elif way == "bad chunk":
        with socket.create_connection(("127.0.0.1", own_server.port), timeout=5) as link:
            link.sendall(BAD_CHUNK)
            link.shutdown(socket.SHUT_WR)
            link.recv(4096)
    elif way == "wrong token":
        headers = {"Authorization": "Bearer secret-canary.x.y"}
        assert world.http.get("/v1/conversations", headers=headers).status_code == 401
    else:
        api = world.api(world.user())
        answer = api.post(
            "/v1/conversations", content=b"{canary", headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400
    world.close()
    own_server.terminate()
    own_server.exit_code()
    assert "Traceback" not in own_server.log
    assert "canary" not in own_server.log


def test_bodies_and_tokens_are_never_logged(own_server: ServerProcess) -> None:
    world = World(own_server.http_url, own_server.ws_url)
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    peer = world.peer(alice)
    peer.say(made, "body-canary")
    world.api(alice).say(made, "body-canary-too", "k")
    world.close()
    own_server.terminate()
    own_server.exit_code()
    assert "canary" not in own_server.log
    assert "eyJ" not in own_server.log, "the beginning of every JWT"
