"""SIGTERM under the server programs that hosts run: everybody is sent away in order, and the process ends."""

from __future__ import annotations

import base64
import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .process import HOSTS, UVICORN, HostProcess, Phone

MESSAGES = 200

Start = Callable[[tuple[str, ...]], HostProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[HostProcess] = []

    def start(command: tuple[str, ...]) -> HostProcess:
        started.append(HostProcess(command, tmp_path))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for host in started:
        host.stop()


def deaf_peer(port: int) -> socket.socket:
    """A device of `ben` that logs in and never reads."""
    deaf = socket.create_connection(("127.0.0.1", port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    key = base64.b64encode(os.urandom(16)).decode()
    deaf.sendall(
        "GET /chat/v1/ws HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Protocol: chatkit.v1.json\r\n\r\n".encode()
    )
    assert deaf.recv(12).endswith(b"101")
    hello = json.dumps({"event": "HELLO", "token": "ben", "deviceId": "tablet"}).encode()
    deaf.sendall(bytes([0x81, 0x80 | len(hello)]) + bytes(4) + hello)
    return deaf


def stored(file: Path) -> int:
    with sqlite3.connect(file) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM message WHERE client_msg_id != ''")
    connection.close()
    return int(count)


@pytest.mark.parametrize("name", HOSTS)
def test_sigterm_drains_before_the_host_closes_its_sockets(start: Start, name: str) -> None:
    host = start(HOSTS[name])
    phone = Phone(host.port)
    for key in range(MESSAGES):
        phone.send(key)
    host.terminate()
    heard, code, reason = phone.hear_out()
    host.exit_code()

    answered = {event["clientMsgId"] for event in heard if event["event"] == "MSG_ACK"}
    assert (code, reason) == (1001, "the node drains"), host.log
    assert any(event["event"] == "GOAWAY" for event in heard)
    assert len(answered) == stored(host.file)


def test_a_peer_that_does_not_read_holds_the_exit_for_a_bounded_time(start: Start) -> None:
    host = start((*UVICORN, "--ws", "websockets-sansio"))
    phone = Phone(host.port)
    with deaf_peer(host.port):
        for key in range(400):
            phone.send(key, "x" * 20_000)
            phone.socket.recv()
        began_s = time.monotonic()
        host.terminate()
        _, code, _ = phone.hear_out()
        host.exit_code()

    assert code == 1001
    assert (
        time.monotonic() - began_s < 18
    )  # the five seconds of a close, and those of the exit, on a busy machine


def test_a_second_server_on_the_file_says_what_to_do(start: Start, tmp_path: Path) -> None:
    start(UVICORN)
    second = HostProcess(UVICORN, tmp_path)

    assert second.exit_code() == 3, "uvicorn's word for a start that failed"
    assert "the chat server cannot start" in second.log
    assert "one worker" in second.log
