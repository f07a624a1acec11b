"""Closes that the contract puts seconds away (no HELLO, login ended), waited for in threads while other tests run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from websockets.exceptions import ConnectionClosed

from .peer import Peer
from .server_process import ServerProcess
from .tokens import token
from .world import fresh

LATE_S = 100.0
PAST_S = (57, 27, 7, -2)
"""How long ago the token ended; the server's leeway is not part of the contract (at most 60 s), so the first one it
still takes is the one that ends soonest."""


class LateCloses:
    """Two connections that the server has to close by itself."""

    def __init__(self, server: ServerProcess) -> None:
        self._url = server.ws_url
        self._peers: list[Peer] = []
        self._threads = ThreadPoolExecutor(2)
        self.silent = self._start(self._wait_silent)
        self.expired = self._start(self._wait_expired)

    def close(self) -> None:
        for peer in self._peers:
            peer.socket.close()
        self._threads.shutdown()

    def _start(self, wait: Callable[[], tuple[int, Peer, float]]) -> Future[tuple[int, Peer, float]]:
        return self._threads.submit(wait)

    def _wait_silent(self) -> tuple[int, Peer, float]:
        peer = self._open()
        started = time.monotonic()
        return peer.close_code(LATE_S), peer, time.monotonic() - started

    def _wait_expired(self) -> tuple[int, Peer, float]:
        for ago_s in PAST_S:
            peer = self._open()
            user = fresh("late")
            try:
                peer.hello(token(user, "phone", ttl_s=-ago_s), "phone")
            except ConnectionClosed:
                continue
            started = time.monotonic()
            return peer.close_code(LATE_S), peer, time.monotonic() - started
        raise AssertionError("no token was taken")

    def _open(self) -> Peer:
        peer = Peer(self._url)
        self._peers.append(peer)
        return peer
