"""ChatServer: holds the parts and runs them. A facade without logic.

The parts, forwards: road (`gateway`) -> `session` -> `dispatch` -> `engine` -> `committer` -> store ->
`publisher` -> `hub` -> `session` -> road.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from ..bus.base import Bus
from ..core.connection import State
from ..errors import BadRequestError, ConfigurationError, InternalError, RefusedError
from ..ports import Ports
from ..storage.base import Appended, Conversation, Created, Done, MembersChanged, Store
from ..types import ConversationType, Payload, Sent
from ..wire import events as ev
from ..wire.codec import Codec
from .auth import Authenticator
from .committer import Committer
from .config import ServerConfig
from .dispatch import Dispatch
from .doubts import Doubts
from .engine import Engine
from .follower import Follower
from .hub import Hub
from .login import Login
from .publisher import Publisher
from .receipts import Receipts
from .relay import Relay
from .session import Session
from .sync import Sync

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_CHECK_WITH_BUS_S = 3.0


class ChatServer:
    """A chat server to embed: `async with ChatServer(...) as server`, and a road to reach it by.

    Inside the `async with` it takes sessions and requests; leaving it drains. It may be entered once.

    Args:
        store: Where the log lives; opened on entering, closed on leaving.
        authenticate: Who a token proves its bearer to be.
        config: Bounds and times.
        ports: Time and chance.
        bus: Where the other servers on the same log hear of what happens here; None: there is no other.

    Attributes:
        engine: The verbs, for hosts that act on their own behalf.
        sync: Pages of the log.
        login: Tokens to identities.
    """

    def __init__(
        self,
        *,
        store: Store,
        authenticate: Authenticator,
        config: ServerConfig | None = None,
        ports: Ports | None = None,
        bus: Bus | None = None,
    ) -> None:
        self.config = config or ServerConfig()
        self.ports = ports or Ports()
        self.store = store
        self._bus = bus
        self._doubts = Doubts()
        self._hub = Hub(self._doubts, bus)
        self._receipts = Receipts(self._hub, self._doubts, store)
        self._relay = (
            None if bus is None else Relay(bus, self._hub, self._receipts, self._doubts, self.ports.random)
        )
        publisher = Publisher(self._hub, self._receipts, self._doubts, self._relay, self.config)
        self._committer = Committer(store, publisher, self.config)
        self._follower = Follower(
            store, self._hub, self._receipts, self._committer, self._doubts, self.config.gap_wait_s
        )
        self.engine = Engine(store, self._committer, publisher, self.config, self.ports)
        self.login = Login(self.engine, authenticate, self.config, self.ports)
        self.sync = Sync(store, self._hub, self._doubts, self.config, self._spawn)
        self._dispatch = Dispatch(
            self.engine,
            self.login,
            self.sync,
            self._hub,
            self._relay,
            self._committer,
            self.config,
            self.ports,
            self._spawn,
        )
        self._sessions: dict[Session, None] = {}
        self._background: TaskGroup | None = None
        self._tasks: TaskGroup | None = None
        self._draining = False
        self._left = anyio.Event()
        self._entered = False

    @property
    def running(self) -> bool:
        """Whether it was entered and not left."""
        return self._tasks is not None

    @property
    def ready(self) -> bool:
        """Whether it can take messages now."""
        return self.running and not self._draining and self.store.healthy

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("a ChatServer can be entered once")
        self._entered = True
        secret = await self.store.migrate()
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._leave)
            self.engine.start(secret)
            await self._follower.begin()
            self._background = await undo.enter_async_context(anyio.create_task_group())
            with anyio.CancelScope(shield=True):  # it takes no time, and must not be left half begun
                self._tasks = await self._background.start(self._run)
            undo.pop_all()
        self._committer.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        assert self._background is not None
        try:
            with anyio.CancelScope(shield=True):
                await self.drain()
            tasks, self._tasks = self._tasks, None
            self._committer.abandon()
            tasks.cancel_scope.cancel()
            return await self._background.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise
            return None  # the host's own error goes on as it is
        finally:
            self._tasks = None
            await self._leave()

    # --- for hosts, which act on their own authority ---

    async def create_conversation(
        self,
        kind: ConversationType,
        creator_id: str,
        member_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        title: str = "",
    ) -> Conversation:
        """Create a conversation, or return the existing one that is the same.

        Raises:
            BadRequestError: Not two members for a SINGLE, or too many for a group.
            ConflictError: The id belongs to another conversation.
            UnavailableError: Storage refused; a retry is safe.

        Source: docs/protocol.md#post-v1conversations
        """
        _check(ev.Id, creator_id, *member_ids, *([] if conversation_id is None else [conversation_id]))
        command = self.engine.create(kind, creator_id, tuple(member_ids), conversation_id, title)
        return (await self.engine.execute(command, Created)).conversation

    async def send(
        self, conversation_id: str, sender_id: str, content: str | Payload, *, client_msg_id: str
    ) -> Sent:
        """Send a message as a user; returns once it is durable. The same key again gets the same answer.

        Raises:
            RefusedError: It was not stored; the class says why and whether a retry may help.
        """
        _check(ev.Id, conversation_id, sender_id)
        _check(ev.ClientMsgId, client_msg_id)
        payload = {"type": "TEXT", "text": content} if isinstance(content, str) else content
        command = self.engine.append(conversation_id, sender_id, client_msg_id, payload)
        entry = (await self.engine.execute(command, Appended)).entry
        return Sent(conversation_id, client_msg_id, entry.message_id, entry.seq, entry.server_ts, entry.epoch)

    async def add_members(self, conversation_id: str, by: str, user_ids: Sequence[str]) -> Conversation:
        """Add users to a group in the name of its creator. Raises RefusedError."""
        _check(ev.Id, *user_ids)
        command = self.engine.add(conversation_id, by, tuple(user_ids))
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def remove_member(self, conversation_id: str, by: str, user_id: str) -> Conversation:
        """End a membership; acts on live sessions at once. Raises RefusedError."""
        command = self.engine.remove(conversation_id, by, user_id)
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def renew_epoch(self, conversation_id: str) -> str:
        """Give a restored log a new identity: all clients drop their cursors and sync afresh.

        Returns:
            The new epoch.

        Raises:
            NotFoundError: There is no such conversation.
        """
        command = self.engine.renew_epoch(conversation_id)
        await self.engine.execute(command, Done)
        before = self._hub.epochs([conversation_id])
        self._hub.compare(await self.store.head_seqs([conversation_id]), before)
        if self._relay is not None:
            self._relay.renewed(conversation_id)
            self._relay.flush()
        return command.epoch

    # --- for roads ---

    def connect(self, codec: Codec, wake: Callable[[], None]) -> Session:
        """A session for a connection that was just opened. The road must call `disconnect` when it ends."""
        now_s = self.ports.clock.now_s()
        session = Session(
            self.ports.ids.token_bytes(8).hex(),
            codec,
            self._dispatch,
            now_s=now_s,
            buffer_bytes_max=self.config.send_buffer_bytes,
            wake=wake,
        )
        if self._draining:
            session.close(ev.CloseCode.DRAIN, "the node drains")
        elif len(self._sessions) >= self.config.sessions_max:
            session.close(ev.CloseCode.OVERLOADED, "too many connections")
        self._sessions[session] = None
        return session

    def disconnect(self, session: Session) -> None:
        """The connection has ended; nothing is sent to the session any more."""
        session.state = State.CLOSED
        self._sessions.pop(session, None)
        self._hub.leave(session)
        left, self._left = self._left, anyio.Event()
        left.set()

    async def drain(self) -> None:
        """Refuse new work, answer what was accepted, and send everybody away. Safe to repeat.

        Afterwards every accepted message is durable and answered, as far as `drain_timeout_s` allowed.
        """
        self._draining = True
        self._committer.close("the node drains")
        after_ms = int(self.config.reconnect_after_s * 1000)
        for session in list(self._sessions):
            if session.state is State.OPEN:
                session.answer(ev.GoAway(reason="drain", reconnect_after_ms=after_ms))
        with anyio.move_on_after(self.config.drain_timeout_s):
            await self._committer.flush()
        for session in list(self._sessions):
            session.close(ev.CloseCode.DRAIN, "the node drains")
        with anyio.move_on_after(self.config.drain_timeout_s):
            while self._sessions:
                await self._left.wait()

    # --- background ---

    async def _run(self, *, task_status: TaskStatus[TaskGroup]) -> None:
        """All background work, until its group is cancelled.

        Shielded, so that the host's own cancellation does not end it before the drain: accepted work is still
        committed, and nothing is ever spawned into a group that is cancelled already.
        """
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._committer.run)
                tasks.start_soon(self._every, _TICK_S, self._tick)
                tasks.start_soon(self._every, _TICK_S, self._receipts.flush_counts)
                tasks.start_soon(self._every, _TICK_S, self._probe)
                tasks.start_soon(self._follower.run)
                tasks.start_soon(self._every, _TICK_S, self._follower.retry)
                tasks.start_soon(self._every, self._heads_check_s(), self._check_heads)
                if self._relay is not None:
                    tasks.start_soon(self._relay.run)
                    tasks.start_soon(self._every, _TICK_S, self._relay.look_for_unreadable)
                    tasks.start_soon(self._every, self.config.heartbeat_s, self._check_devices)
                task_status.started(tasks)

    def _spawn(self, session: Session, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._guard, session, function, *args)

    async def _guard(self, session: Session, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a session's work; what goes wrong in it is that session's alone, and it is told."""
        try:
            await function(session, *args)
        except RefusedError as error:
            session.close(ev.CloseCode.OVERLOADED, str(error))
        except Exception:
            logger.exception("work for session %s failed", session.session_id)
            session.refuse(InternalError("the server failed"))
            session.close(ev.CloseCode.OVERLOADED, "the server failed")

    async def _every(self, interval_s: float, function: Callable[[], Awaitable[None]]) -> None:
        while True:
            await anyio.sleep(interval_s)
            try:
                await function()
            except RefusedError as error:
                logger.warning("background work was refused by storage: %s", error)
            except Exception:
                logger.exception("background work failed")

    async def _tick(self) -> None:
        """Deadlines of sessions. Never waits for storage."""
        now_s, hello_timeout_s = self.ports.clock.now_s(), self.config.hello_timeout_s
        for session in list(self._sessions):
            if session.state is State.OPEN:
                self.login.watch(session)
                if now_s - session.heard_at_s > 2 * self.config.heartbeat_s:
                    session.close(ev.CloseCode.HEARTBEAT_LOST, "no sign of life")
            elif session.state is State.AWAITING_HELLO and now_s - session.opened_at_s > hello_timeout_s:
                session.close(ev.CloseCode.HELLO_MISSING, "no HELLO in time")

    async def _probe(self) -> None:
        """Find out whether storage that refused takes commits again, even if nobody writes meanwhile."""
        if not self.store.healthy:
            await self.store.commit([])

    def _heads_check_s(self) -> float:
        if self.config.heads_check_s is not None:
            return self.config.heads_check_s
        return self.config.heartbeat_s if self._bus is None else _CHECK_WITH_BUS_S

    async def _check_heads(self) -> None:
        """Have what was offered compared with what the log holds: pushes and hints may be lost, entries may not."""
        self._doubts.logs_and_changes()

    async def _check_devices(self) -> None:
        """Have the devices looked at: the hint that one opened a session elsewhere may have been lost."""
        self._doubts.all_devices()

    async def _leave(self) -> None:
        """Leave the bus, and close the store in any case, also when cancelled."""
        with anyio.CancelScope(shield=True):
            try:
                if self._bus is not None:
                    await self._bus.aclose()
            finally:
                await self.store.aclose()


def _check(kind: Any, *values: str) -> None:
    """Hold what a host gives to the values of the contract. Raises BadRequestError."""
    for value in values:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise BadRequestError(f"{value[:128]!r} is not a valid id") from None
