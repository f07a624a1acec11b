"""What stands before the nodes: each new connection goes to the next one that takes it.

`python -m tests.proof.cluster.balancer PORT NODE_PORT ...`
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream

_CONNECT_S = 1.0
_HELD_BYTES = 65_536  # by each socket, so that a node soon feels it when its client does not read
_CUT = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class Balancer:
    """Forwards bytes between clients and nodes.

    A client that says it is done still gets what the node has to say; what a node has ended, or either side has cut,
    is ended at both.

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
            _bound(client, socket.SO_SNDBUF)
            _bound(node, socket.SO_RCVBUF)
            async with node, anyio.create_task_group() as tasks:
                tasks.start_soon(_upwards, client, node, tasks.cancel_scope)
                with suppress(*_CUT):
                    await _forward(node, client)
                tasks.cancel_scope.cancel()

    async def _connect(self) -> SocketStream | None:
        """To the first node, from the next one on, that takes it; None if nobody does."""
        for _ in range(self._count):
            with suppress(OSError), anyio.move_on_after(_CONNECT_S):
                return await anyio.connect_tcp("127.0.0.1", next(self._next))
        return None


def _bound(stream: SocketStream, option: int) -> None:
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, option, _HELD_BYTES)


async def _upwards(client: SocketStream, node: SocketStream, connection: anyio.CancelScope) -> None:
    try:
        await _forward(client, node)
        await node.send_eof()
    except (*_CUT, OSError):
        connection.cancel()


async def _forward(source: ByteStream, target: ByteStream) -> None:
    """Until the source has ended."""
    with suppress(anyio.EndOfStream):
        while True:
            await target.send(await source.receive())


async def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    port, *nodes = map(int, arguments)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    await listener.serve(Balancer(nodes).serve)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
