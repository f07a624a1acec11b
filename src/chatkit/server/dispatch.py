"""From an event of a session to its verb: one table. Also what needs neither storage nor log: PING and TYPING."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from ..core.cursors import RECEIPT_MEMBERS_MAX
from ..errors import ForbiddenError, NotFoundError, OverloadedError, RateLimitedError, RefusedError
from ..ports import Ports
from ..wire import events as ev
from .committer import Committer
from .config import ServerConfig
from .engine import Engine
from .hub import Hub
from .login import Login
from .relay import Relay
from .session import Session
from .sync import Spawn, Sync

_TYPING_SHARE = 0.25  # of the commit queue; typing is the first thing to go when storage is slow


class Dispatch:
    """The handler of every session of a server."""

    def __init__(
        self,
        engine: Engine,
        login: Login,
        sync: Sync,
        hub: Hub,
        relay: Relay | None,
        committer: Committer,
        config: ServerConfig,
        ports: Ports,
        spawn: Spawn,
    ) -> None:
        self._login = login
        self._sync = sync
        self._hub = hub
        self._relay = relay
        self._committer = committer
        self._config = config
        self._ports = ports
        self._spawn = spawn
        self._store = engine.store
        self._verbs: dict[type[ev.Event], Callable[[Session, Any], None]] = {
            ev.Hello: self._hello,
            ev.SendMsg: engine.send,
            ev.DeliveredAck: engine.delivered,
            ev.Read: engine.read,
            ev.Sync: sync.request,
            ev.Recall: engine.recall,
            ev.TypingCommand: self._typing,
            ev.AuthRefresh: self._auth_refresh,
            ev.Ping: self._ping,
        }

    def handle(self, session: Session, event: ev.ClientEvent) -> None:
        """Act on one legal event; a refusal is answered and costs nothing else."""
        try:
            self._verbs[type(event)](session, event)
        except RefusedError as error:
            conversation_id = getattr(event, "conversation_id", UNSET)
            client_msg_id = getattr(event, "client_msg_id", UNSET)
            session.refuse(error, event.ref, conversation_id, client_msg_id)

    def drained(self, session: Session) -> None:
        """The session's buffer is empty: go on with its pulls and what it missed."""
        self._sync.drained(session)

    def _hello(self, session: Session, event: ev.Hello) -> None:
        self._spawn(session, self._log_in, event)

    async def _log_in(self, session: Session, event: ev.Hello) -> None:
        await self._login.hello(session, event)
        if session.close_code is None:
            self._sync.list_heads(session)

    def _auth_refresh(self, session: Session, event: ev.AuthRefresh) -> None:
        if session.refreshing:
            raise RateLimitedError("a refresh is under way", retry_after_s=1.0)
        session.refreshing = True
        self._spawn(session, self._refresh, event)

    async def _refresh(self, session: Session, event: ev.AuthRefresh) -> None:
        try:
            await self._login.refresh(session, event)
        finally:
            session.refreshing = False

    def _ping(self, session: Session, event: ev.Ping) -> None:
        session.answer(ev.Pong(server_ts=self._ports.clock.now_ms(), ref=event.ref))

    def _typing(self, session: Session, event: ev.TypingCommand) -> None:
        audience = self._hub.audience(event.conversation_id)
        if audience is None or session not in audience.sessions:
            raise NotFoundError("no such conversation")
        if audience.member_count > RECEIPT_MEMBERS_MAX:
            raise ForbiddenError(f"no TYPING in groups over {RECEIPT_MEMBERS_MAX}")
        if self._committer.load >= _TYPING_SHARE or not self._store.healthy:
            raise OverloadedError(
                "typing is switched off for now", retry_after_s=self._config.overload_retry_s
            )
        self._limit_typing(session, event.conversation_id)
        self._hub.tell_typing(event.conversation_id, session.user_id)
        if self._relay is not None:
            self._relay.typed(event.conversation_id, session.user_id)
            self._relay.flush()

    def _limit_typing(self, session: Session, conversation_id: str) -> None:
        now_s = self._ports.clock.now_s()
        wait_s = session.typed_at_s.get(conversation_id, 0.0) + self._config.typing_interval_s - now_s
        if conversation_id in session.typed_at_s and wait_s > 0:
            raise RateLimitedError("one TYPING per conversation and interval", retry_after_s=wait_s)
        session.typed_at_s[conversation_id] = now_s
