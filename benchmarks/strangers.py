"""`python -m benchmarks.strangers`: what peers without a login at full speed cost somebody who is logged in.

For each way a server is started, a user sends one message every 50 ms and waits for its ack: undisturbed first, then
while one process, with the core that the server has not, does nothing but be hostile over loopback: 40 connections that
are opened again whenever the server ends them. Printed are a line of JSON for each way and tree, and the ratio of the
P95s. `--against PATH` runs another tree (with a `.venv`) and this one in turn, in one sitting.

What is sent is small and harmless by itself: it is the number that is hostile. For loopback only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from websockets.sync.client import ClientConnection, connect

from .node import Node, node
from .tree import HERE, Tree

CONNECTIONS = 40
PERIOD_S = 0.05
ACK_TIMEOUT_S = 30.0
_BURST = 64 * 1024


def _upgrade(codec: str = "json") -> bytes:
    return (
        "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chatkit.v1.{codec}\r\n\r\n"
    ).encode()


def _frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    first = bytes((opcode | (0x80 if fin else 0),))
    if len(data) < 126:
        size = bytes((0x80 | len(data),))
    elif len(data) < 65536:
        size = b"\xfe" + len(data).to_bytes(2, "big")
    else:
        size = b"\xff" + len(data).to_bytes(8, "big")
    return first + size + b"\0\0\0\0" + data


def _filled(piece: bytes) -> bytes:
    return piece * (_BURST // len(piece))


_POST = b"POST /v1/messages/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
_KEYS = msgspec.msgpack.encode(
    {
        "event": "SEND_MSG",
        "conversationId": "c",
        "clientMsgId": "k",
        "payload": {"a": {n: n for n in range(4_000)}},
    }
)

WAYS: dict[str, tuple[bytes, bytes]] = {
    "pings": (_upgrade(), _filled(_frame(9))),
    "pongs": (_upgrade(), _filled(_frame(10))),
    "empty fragments": (_upgrade() + _frame(1, b"[", fin=False), _filled(_frame(0, fin=False))),
    "byte fragments": (_upgrade() + _frame(1, b"[", fin=False), _filled(_frame(0, b" ", fin=False))),
    "byte chunks": (_POST, _filled(b"1\r\n \r\n")),
    "keys that are numbers": (_upgrade("msgpack"), _frame(2, _KEYS)),
    "items that are no JSON": (_upgrade(), _frame(1, b"[" + b"NaN," * 60_000 + b"1]")),
    "half a large frame": (_upgrade(), _frame(1, b" " * 900_000)[:800_000]),
    "half a head": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n"),
    "connections": (b"", b""),
    "healthz": (b"", _filled(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")),
}
"""By name: what a connection begins with, and what it goes on with."""


class _Link:
    """A hostile connection; what the socket does not take is sent first the next time."""

    def __init__(self, port: int, way: str) -> None:
        begin, self._more = WAYS[way]
        self._left = begin + self._more
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._socket.setblocking(False)

    def push(self) -> bool:
        """Send as much as goes, and take in what came. Returns whether the server still takes it."""
        try:
            self._left = self._left[self._socket.send(self._left) :] or self._more
        except BlockingIOError:
            pass
        except OSError:
            return False
        return self._more != b"" and not self._ended()

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _ended(self) -> bool:
        try:
            return not self._socket.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            return True


def attack(port: int, way: str) -> None:
    """Be hostile until killed."""
    links: list[_Link | None] = [None] * CONNECTIONS
    while True:
        for place in range(CONNECTIONS):
            links[place] = _pushed(links[place], port, way)


def _pushed(link: _Link | None, port: int, way: str) -> _Link | None:
    """The same connection or a new one, one push further; None once it has ended."""
    try:
        link = link or _Link(port, way)
    except OSError:
        return None
    if link.push():
        return link
    link.close()
    return None


class GoodUser:
    """Logged in; sends, and times the acks."""

    def __init__(self, running: Node) -> None:
        running.create("g-1", "GROUP", ["ann", "ben"])
        self._link = _log_in(running)
        self._sent = 0

    def waits_ms(self, duration_s: float) -> list[float]:
        """How long each ack took, in milliseconds, one message every 50 ms."""
        waits, end_s = [], time.monotonic() + duration_s
        while (begin_s := time.monotonic()) < end_s:
            self._send()
            waits.append((time.monotonic() - begin_s) * 1000)
            time.sleep(max(0.0, begin_s + PERIOD_S - time.monotonic()))
        return waits

    def _send(self) -> None:
        self._sent += 1
        key = f"k-{self._sent}"
        payload = {"type": "TEXT", "text": "x"}
        event = {"event": "SEND_MSG", "conversationId": "g-1", "clientMsgId": key, "payload": payload}
        self._link.send(json.dumps(event))
        while f'"{key}"' not in str(self._link.recv(ACK_TIMEOUT_S)):
            continue


def _log_in(running: Node) -> ClientConnection:
    link = connect(
        f"ws://127.0.0.1:{running.port}/v1/ws", subprotocols=["chatkit.v1.json"], proxy=None, legacy=True
    )
    link.send(json.dumps({"event": "HELLO", "deviceId": "phone", "token": running.token("ann")}))
    while "WELCOME" not in str(link.recv(ACK_TIMEOUT_S)):
        continue
    return link


@contextlib.contextmanager
def attacked(port: int, way: str) -> Iterator[None]:
    """A hostile process beside."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.strangers", "--attack", str(port), way], cwd=HERE
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(tree: Tree, way: str, duration_s: float) -> dict[str, float | str]:
    """P50 and P95 of the good user's acks, undisturbed and attacked."""
    with node(tree) as running:
        user = GoodUser(running)
        user.waits_ms(1.0)
        quiet = user.waits_ms(duration_s)
        with attacked(running.port, way):
            time.sleep(1.0)
            try:
                busy = user.waits_ms(duration_s)
            except TimeoutError:
                busy = [ACK_TIMEOUT_S * 1000]
        return {
            "way": way,
            "quiet_p50_ms": round(statistics.median(quiet), 1),
            "quiet_p95_ms": round(_p95(quiet), 1),
            "attacked_p50_ms": round(statistics.median(busy), 1),
            "attacked_p95_ms": round(_p95(busy), 1),
            "ratio_p95": round(_p95(busy) / _p95(quiet), 2),
        }


def _p95(waits: list[float]) -> float:
    return sorted(waits)[int(len(waits) * 0.95)]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=WAYS, action="append", help="this way; may be given several times")
    parser.add_argument("--against", type=Path, help="another tree, measured before this one")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (5)")
    parser.add_argument("--attack", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.attack:
        attack(int(asked.attack[0]), asked.attack[1])
    trees = [*([("before", Tree(asked.against))] if asked.against else []), ("after", Tree(HERE))]
    for way in asked.only or WAYS:
        for side, tree in trees:
            print(json.dumps({"side": side, **measure(tree, way, asked.seconds)}), flush=True)


if __name__ == "__main__":
    main()
