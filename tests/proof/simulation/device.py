"""One device of one user: the real client, started and killed again and again over a local store that stays."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from chatkit.client._reconnect import HELLO_LATE_S
from chatkit.client.client import ChatClient
from chatkit.client.config import ClientConfig
from chatkit.client.events import Delivery
from chatkit.client.store.base import LocalStore
from chatkit.client.store.memory import MemoryStore
from chatkit.client.store.sqlite import SqliteStore
from chatkit.errors import (
    BadRequestError,
    ChatkitError,
    ConflictError,
    ContentRefusedError,
    EditWindowPassedError,
    ForbiddenError,
    NotFoundError,
    QueueFullError,
    RecallWindowPassedError,
    SendCancelledError,
    TooLargeError,
    UnavailableError,
)
from chatkit.ports import Ports
from chatkit.testing.rng import Stream
from chatkit.transport.base import Connector, TransportClosedError
from chatkit.wire import events as ev

from ..dumps import CompleteHistory, DeviceDump, ListedRow, dump_device
from .bot import Bot, HandlerCrashError
from .watch import Effects, WatchedLocalStore

REFUSED = (
    BadRequestError,
    ConflictError,
    ContentRefusedError,
    EditWindowPassedError,
    ForbiddenError,
    NotFoundError,
    QueueFullError,
    RecallWindowPassedError,
    SendCancelledError,
    TooLargeError,
)
"""What certainly had no effect."""

_MESSAGES_MAX = 100_000


class Device:
    """An installation of an app.

    Args:
        path: Where its local store is a file; None for one in memory, which outlives the app all the same.
        token: Makes a login.
        connector: Its way to the servers.
        slow_consumer_s: How long its app takes over each event, at most.
        alarm: Told what must never happen: a client that stops for good, an error that is none of chatkit's.
        bot: Takes the events, if the app is a bot; else they count as taken as they come.

    Attributes:
        client: The app's client while it runs.
        incarnation: How often the app was started.
        crashed: Whether it was ever killed.
        local: The way of the present incarnation to the local store.
    """

    def __init__(
        self,
        user_id: str,
        device_id: str,
        *,
        path: Path | None,
        token: Callable[[], Awaitable[str]],
        connector: Connector,
        codec: str,
        config: ClientConfig,
        ports: Ports,
        history: CompleteHistory,
        rng: Stream,
        slow_consumer_s: float,
        effects: Effects,
        alarm: Callable[[str], None],
        bot: Bot | None = None,
    ) -> None:
        self.user_id = user_id
        self.device_id = device_id
        self.name = f"{user_id}/{device_id}"
        self.client: ChatClient | None = None
        self.incarnation = 0
        self.crashed = False
        self.local: WatchedLocalStore | None = None
        self._path = path
        self._memory = MemoryStore(_MESSAGES_MAX)
        self._token = token
        self._connector = connector
        self._codec = codec
        self._config = config
        self._ports = ports
        self._history = history
        self._rng = rng
        self._slow_consumer_s = slow_consumer_s
        self._effects = effects
        self._bot = bot
        self._alarm = alarm
        self._tasks: TaskGroup | None = None
        self._scope = anyio.CancelScope()
        self._ended_at_s = -math.inf

    @property
    def killed(self) -> bool:
        """Whether its present incarnation was ended by `kill` and may still be winding down."""
        return self.local is not None and self.local.dead

    async def live(self) -> None:
        """Run the app from its start until it is killed or quits."""
        self.incarnation += 1
        again = False
        stored = self._open()
        self.local = WatchedLocalStore(stored, self._effects)
        self._scope = anyio.CancelScope()
        try:
            with self._scope:
                await self._use(self._make(self.local))
        except ChatkitError as error:
            again = self._ended_by_the_one_before(error)
            if not again:
                self._alarm(f"{self.name} stopped: {error!r} because of {error.__cause__!r}")
        finally:
            self.client, self._tasks = None, None
            self._ended_at_s = anyio.current_time()
            if isinstance(stored, SqliteStore):
                stored.close()
        if again:
            await self.live()

    def _ended_by_the_one_before(self, error: ChatkitError) -> bool:
        """Whether a login of the incarnation that was killed before came late, and took the device: start it again."""
        cause = error.__cause__
        replaced = isinstance(cause, TransportClosedError) and cause.close_code == ev.CloseCode.REPLACED
        return replaced and anyio.current_time() - self._ended_at_s <= HELLO_LATE_S

    async def _use(self, client: ChatClient) -> None:
        async with client, anyio.create_task_group() as self._tasks:
            self.client = client
            tasks = self._tasks
            await self._consume(client)
            self.client, self._tasks = None, None  # it takes no more acts
            tasks.cancel_scope.cancel()

    def kill(self) -> None:
        """End the app as SIGKILL would: nothing that it still does reaches its store. Others cut its lines."""
        self.crashed = True
        if self.local is not None:
            self.local.die()
        self._scope.cancel()

    def quit(self) -> None:
        """End the app in good order."""
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def start(self, act: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run something in the app, for as long as the app lives; nothing if it does not."""
        if self._tasks is not None:
            self._tasks.start_soon(act, *args)

    async def call(self, op: str, act: Callable[[ChatClient], Awaitable[Any]], **args: Any) -> Any | None:
        """One call of the app, in the history from its invocation to its end. None unless it is ok."""
        client = self.client
        if client is None:
            return None
        call = self._history.invoke(self.user_id, self.device_id, op, **args)
        try:
            answer = await act(client)
        except REFUSED as error:
            self._history.fail(call, error)
        except UnavailableError as error:
            (self._history.fail if op in ("send", "mark_read") else self._history.info)(call, error)
        except ChatkitError as error:
            self._history.info(call, error)
        except anyio.get_cancelled_exc_class() as cancelled:
            self._history.info(call, cancelled)
            raise
        else:
            self._history.ok(call, **plain(answer))
            return answer
        return None

    @property
    def pending_count(self) -> int | None:
        """Messages of the running app without a final answer; None while it does not run."""
        return None if self.client is None else self.client.pending_count

    @property
    def reads(self) -> dict[str, int]:
        """By conversation, how far its user has read where it does not know that the server knows."""
        return {} if self.local is None else self.local.reads()

    @property
    def current(self) -> set[str]:
        """The conversations that do not count as left."""
        return set() if self.client is None else set(self.client.heads)

    def has(self, conversation_id: str, epoch: str, head_seq: int) -> bool:
        """Whether it has placed a conversation up to here, and a bot has handled it."""
        if self.client is None:
            return False
        head = self.client.heads.get(conversation_id)
        if head is None or head.epoch != epoch or head.delivered_seq < head_seq:
            return False
        if self._bot is None or self.local is None:
            return True
        return self._bot.has_handled(self.user_id, self.local, conversation_id)

    async def dump(self) -> DeviceDump:
        """What its app holds and shows; it must be running."""
        assert self.client is not None
        assert self.local is not None
        dump = dump_device(self.user_id, self.device_id, self.local, crashed=self.crashed, online=True)
        dump.listed = [
            ListedRow(
                it.conversation_id,
                it.head_seq,
                it.read_seq,
                it.unread,
                0 if it.last_message is None else it.last_message.seq,
                dump.floors[it.conversation_id],
                it.unread_mentions,
            )
            for it in await self.client.conversations(limit=len(dump.records) + 1, fetch=False)
        ]
        return dump

    def _open(self) -> LocalStore:
        return self._memory if self._path is None else SqliteStore(str(self._path))

    def _make(self, store: LocalStore) -> ChatClient:
        return ChatClient(
            "ws://chat.test",
            token=self._token,
            device_id=self.device_id,
            store=store,
            codec=self._codec,
            connector=self._connector,
            config=self._config,
            ports=self._ports,
        )

    async def _consume(self, client: ChatClient) -> None:
        if self._bot is not None:
            self._bot.started()
            with suppress(HandlerCrashError):
                await client.consume(self._handle, concurrency=self._bot.concurrency)
            return
        async for event in client.events():
            self._history.app_event(self.user_id, self.device_id, self.incarnation, event)
            if self._slow_consumer_s:
                await anyio.sleep(self._rng.uniform(0, self._slow_consumer_s))

    async def _handle(self, delivery: Delivery) -> None:
        assert self._bot is not None
        if self._slow_consumer_s:
            await anyio.sleep(self._rng.uniform(0, self._slow_consumer_s))
        if self._bot.handle(delivery):
            self._history.app_event(self.user_id, self.device_id, self.incarnation, delivery.event)


def plain(answer: Any) -> dict[str, Any]:
    """An answer as the history keeps it: its fields by name; what is a list, as `items`."""
    if answer is None:
        return {}
    if isinstance(answer, dict):
        return answer
    if isinstance(answer, list):
        return {"items": answer}
    return {name: getattr(answer, name) for name in answer.__struct_fields__}
