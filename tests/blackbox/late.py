"""Closes that the contract puts seconds away, waited for in threads while the other tests run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed

from .peer import Event, Peer
from .server_process import ServerProcess
from .tokens import token
from .world import fresh

LATE_S = 100.0
PING_EVERY_S = 5.0
PAST_S = (57, 27, 7, -2)
"""How long ago the token ended. The server's leeway is not part of the contract (at most 60 s), so these are tried
until one is still taken: that login ends soonest."""


@dataclass
class Closed:
    """How a connection ended, and what it had received by then."""

    code: int
    inbox: list[Event]
    survivor: Peer | None = None


class LateCloses:
    """Connections that the server has to close by itself.

    Attributes:
        silent: Never said HELLO.
        mute: Said HELLO and then nothing but WebSocket pings.
        pings: How many it sent.
        expired: Its login ended; `survivor` had the same end, was renewed, and answered after it.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._url = server.ws_url
        self._peers: list[Peer] = []
        self._threads = ThreadPoolExecutor(4)
        self._closing = threading.Event()
        self.pings = 0
        self.silent = self._start(self._wait_silent)
        self.mute = self._start(self._wait_mute)
        self.expired = self._start(self._wait_expired)

    def close(self) -> None:
        self._closing.set()
        for peer in self._peers:
            peer.close()
        self._threads.shutdown()

    def _start(self, wait: Callable[[], Closed]) -> Future[Closed]:
        return self._threads.submit(wait)

    def _wait_silent(self) -> Closed:
        return closed(self._open())

    def _wait_mute(self) -> Closed:
        peer = self._open()
        peer.hello(token(fresh("mute"), "phone"), "phone")
        self._threads.submit(self._ping, peer)
        return closed(peer)

    def _ping(self, peer: Peer) -> None:
        """Not the library's pings: those are drawn from `random`, which a property test meanwhile must find unmoved."""
        while not self._closing.is_set():
            try:
                peer.socket.ping(str(self.pings))
            except ConnectionClosed:
                return
            self.pings += 1
            self._closing.wait(PING_EVERY_S)

    def _wait_expired(self) -> Closed:
        for ago_s in PAST_S:
            peer = self._open()
            try:
                peer.hello(token(fresh("late"), "phone", ttl_s=-ago_s), "phone")
            except ConnectionClosed:
                continue
            survivor = self._renewed(ago_s + 1)
            ended = closed(peer)
            survivor.ping()
            ended.survivor = survivor
            return ended
        raise AssertionError("no token was taken")

    def _renewed(self, ago_s: int) -> Peer:
        peer, user = self._open(), fresh("renewed")
        peer.hello(token(user, "phone", ttl_s=-ago_s), "phone")
        answer = peer.ask("AUTH_REFRESH", token=token(user, "phone"))
        assert answer.name == "AUTH_OK", answer
        return peer

    def _open(self) -> Peer:
        peer = Peer(self._url)
        self._peers.append(peer)
        return peer


def closed(peer: Peer) -> Closed:
    """Wait for the server to close it."""
    code = peer.close_code(LATE_S)
    return Closed(code, peer.inbox)
