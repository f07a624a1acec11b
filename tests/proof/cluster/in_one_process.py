"""Three nodes in one process, for stores that several processes cannot share.

`python -m tests.proof.cluster.in_one_process --port PORT --storage ADDRESS --jwt-secret-env NAME`: a balancer before
three servers on one store, joined by `LocalBus`. SIGTERM drains all of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio

from chatkit.assemble import open_store
from chatkit.bus.local import LocalBus
from chatkit.cli.serve import _set_up_logging, _web_config
from chatkit.cli.web import WebServer, listen
from chatkit.server.auth import jwt_authenticator
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.server import ChatServer
from chatkit.storage.base import Store

from .balancer import Balancer

NODES = 3


class SharedStore:
    """One store for several servers: the first one opens it, whoever made it closes it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._secret = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def migrate(self) -> bytes:
        self._secret = self._secret or await self._store.migrate()
        return self._secret

    async def aclose(self) -> None:
        """The other servers go on."""


async def serve(port: int, storage: str, secret: str) -> None:
    """Serve until SIGTERM, then drain."""
    store, bus = open_store(storage), LocalBus()
    shared: Any = SharedStore(store)
    config = ServerConfig(limits=Limits.unlimited())
    try:
        async with AsyncExitStack() as stack:
            servers = []
            for _ in range(NODES):
                server = ChatServer(
                    store=shared,
                    authenticate=jwt_authenticator(secret),
                    config=config,
                    bus=bus.join(),
                    drain_on_signals=False,
                )
                servers.append(await stack.enter_async_context(server))
            await _until_drained(port, servers)
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


async def _until_drained(port: int, servers: Sequence[ChatServer]) -> None:
    """Take connections until SIGTERM; the balancer goes on until the last byte of the drain is out."""
    listeners = [listen("127.0.0.1", 0) for _ in servers]
    webs = [WebServer(_web_config(server, ())) for server in servers]
    balancer = Balancer([it.getsockname()[1] for it in listeners])
    front = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port, backlog=2048)
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as before:
            before.start_soon(front.serve, balancer.serve)
            async with anyio.create_task_group() as tasks:
                for web, listener in zip(webs, listeners, strict=True):
                    tasks.start_soon(web.serve, [listener])
                await anext(signals)
                async with anyio.create_task_group() as draining:
                    for server in servers:
                        draining.start_soon(server.drain)
                for web in webs:
                    web.should_exit = True
            before.cancel_scope.cancel()
    await front.aclose()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.cluster.in_one_process", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--jwt-secret-env", required=True)
    options = parser.parse_args(arguments)
    _set_up_logging("warning")
    anyio.run(serve, options.port, options.storage, os.environ[options.jwt_secret_env])


if __name__ == "__main__":
    main(sys.argv[1:])
