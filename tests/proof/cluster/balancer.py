"""What stands before the nodes: each new connection goes to the next one that takes it.

`python -m tests.proof.cluster.balancer PORT NODE_PORT ...`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle

import anyio
from anyio.abc import ByteStream, SocketStream

_CONNECT_S = 1.0
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Balancer:
    """Forwards bytes between clients and nodes; a line of which one end is gone is closed at both.

    Args:
        nodes: Their ports on loopback.
    """

    def __init__(self, nodes: Sequence[int]) -> None:
        self._count = len(nodes)
        self._next = cycle(nodes)

    async def serve(self, client: SocketStream) -> None:
        """One connection, to its end."""
        async with client:
            node = await self._connect()
            if node is None:
                return
            async with node, anyio.create_task_group() as tasks:
                tasks.start_soon(_forward, client, node, tasks.cancel_scope)
                await _forward(node, client, tasks.cancel_scope)

    async def _connect(self) -> SocketStream | None:
        """To the first node, from the next one on, that takes it; None if nobody does."""
        for _ in range(self._count):
            with suppress(OSError), anyio.move_on_after(_CONNECT_S):
                return await anyio.connect_tcp("127.0.0.1", next(self._next))
        return None


async def _forward(source: ByteStream, target: ByteStream, scope: anyio.CancelScope) -> None:
    with suppress(*_GONE):
        while True:
            await target.send(await source.receive())
    scope.cancel()


async def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    port, *nodes = map(int, arguments)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    await listener.serve(Balancer(nodes).serve)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
