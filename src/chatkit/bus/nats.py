"""The bus on NATS: core publish and subscribe, no JetStream. For nodes in several processes.

Needs nats-py, which is made for asyncio: `pip install "chatkit-engine[nats]"`. What is made of a connection that ends
is `_remote`'s business.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import SplitResult

import anyio

from .._auto_reset_event import AutoResetEvent
from ..drivers.nats import FAILURES, NatsClient, servers_of, url_of
from ..errors import ConfigurationError
from ..ports import Ports
from ._inbox import QUEUE_BYTES_MAX, QUEUE_MAX
from ._names import PREFIX
from ._outbound import PENDING_BYTES_MAX, PENDING_MAX, Outgoing
from ._remote import BrokenError, Carrier, Dial, Ears, RemoteMember

try:
    from nats import errors
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
except ImportError:
    raise ConfigurationError('a bus on NATS needs nats-py: pip install "chatkit-engine[nats]"') from None

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_SCHEMES = {"nats": False, "tls": True}
_GOOD = "a bus on NATS has an address such as nats://HOST:4222 or tls://USER:PASSWORD@HOST:4222"


class NatsBus(RemoteMember):
    """`bus.base.Bus` for one node, on a NATS server or cluster.

    Args:
        address: `nats://HOST:PORT`, or `tls://` for one that must speak TLS; several servers of a cluster, separated by
            commas. With `USER:PASSWORD@` or `TOKEN@` before the host; special characters in them percent-encoded.
        prefix: The subjects begin with it and a dot: one for each log, where several share a server.
        ports: Random numbers and ids.
        queue_max: Messages that wait for the reader.
        queue_bytes_max: Bytes of their data.
        pending_max: Messages that wait to be sent.
        pending_bytes_max: Their bytes.

    Raises:
        ConfigurationError: No such address.
    """

    def __init__(
        self,
        address: str,
        *,
        prefix: str = PREFIX,
        ports: Ports | None = None,
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        pending_max: int = PENDING_MAX,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        servers = servers_of(address, _SCHEMES, _GOOD)
        super().__init__(
            ",".join(map(url_of, servers)),
            [cast(Dial, partial(_dial, server)) for server in servers],
            prefix=prefix,
            ports=ports,
            queue_max=queue_max,
            queue_bytes_max=queue_bytes_max,
            pending_max=pending_max,
            pending_bytes_max=pending_bytes_max,
        )


async def _dial(server: SplitResult, ears: Ears) -> Carrier:
    carrier = _NatsCarrier(NatsClient(server), ears)
    try:
        await carrier.connect()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await carrier.aclose()
        raise
    return carrier


class _NatsCarrier:
    """A connection of nats-py."""

    def __init__(self, client: NatsClient, ears: Ears) -> None:
        self._client, self._ears = client, ears
        self._subscriptions: dict[str, Subscription] = {}
        self._ear = cast(Any, _Ear(ears))
        self._ended = AutoResetEvent()
        self._failure: Exception | None = None
        self._warned = False

    async def connect(self) -> None:
        """Raises BrokenError."""
        with self._translated():
            await self._client.open(self._on_error, self._on_end)

    async def begin(self, names: Sequence[str]) -> None:
        await self.subscribe(names)
        await self.flush()

    async def subscribe(self, names: Sequence[str]) -> None:
        with self._translated():
            for name in names:
                if name not in self._subscriptions:
                    self._subscriptions[name] = await self._client.subscribe(name, future=self._ear)

    async def unsubscribe(self, names: Sequence[str]) -> None:
        with self._translated():
            for name in names:
                subscription = self._subscriptions.pop(name, None)
                if subscription is not None:
                    await subscription.unsubscribe()

    async def flush(self) -> None:
        with self._translated():
            await self._client.flush()
            while self._client.pending_data_size:  # its ping overtakes what nats-py has not written yet
                await self._client.flush()
            await self._client.flush()
            if not self._client.is_connected:  # `flush` does not say so
                raise errors.ConnectionClosedError

    async def publish(self, batch: Sequence[Outgoing]) -> int:
        taken = [(name, frame) for name, frame in batch if len(frame) <= self._client.max_payload]
        with self._translated():
            await self._client.publish_all(taken)
        refused = len(batch) - len(taken)
        if refused:
            self._warn(f"it takes at most {self._client.max_payload} bytes (max_payload)")
        return refused

    async def listen(self) -> None:
        """nats-py reads in a task of its own. It may close without a word, so there is a look once a second."""
        while self._client.is_connected:
            await self._ended.wait(_LOOK_S)
        raise BrokenError(self._why(self._client.last_error))

    async def aclose(self) -> None:
        await self._client.end()

    async def _on_error(self, error: Exception) -> None:
        if "permissions violation" in str(error):  # the connection goes on
            self._warn(str(error))
        else:
            self._failure = error

    async def _on_end(self) -> None:
        self._ended.set()

    def _warn(self, what: str) -> None:
        """Once for each connection: it would be said for every message."""
        if not self._warned:
            self._warned = True
            logger.warning("NATS refuses what the bus does: %s", what)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise BrokenError(self._why(error)) from error

    def _why(self, error: Exception | None) -> str:
        """The first cause: what nats-py raises in the end says no more than that there is no server."""
        cause = self._failure if error is None or isinstance(error, errors.NoServersError) else error
        return str(cause) or repr(cause)


class _Ear:
    """Takes every message of a subscription, as nats-py gives it to the future of a single request.

    So there is neither a task nor a queue for each subscription, of which a node has one for each conversation.
    """

    def __init__(self, ears: Ears) -> None:
        self._ears = ears

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        self._ears.hear(message.subject, message.data)
