"""From an event of a session to its verb: one table. And from the end of a session to whoever keeps something of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from ..core.connection import State
from ..errors import RateLimitedError, RefusedError
from ..observability.instrument import Instruments
from ..ports import Clock
from ..wire import events as ev
from .allowance import Allowance
from .background import Spawn
from .engine import Engine
from .live.hub import Hub
from .login import Login
from .presence import PresenceService
from .restoration import Restoration
from .session import Session
from .streams import Streams
from .sync import Sync
from .typing import Typing


class Dispatch:
    """The services of a server, as its sessions see them (`session.Services`)."""

    def __init__(
        self,
        engine: Engine,
        login: Login,
        sync: Sync,
        typing: Typing,
        presence: PresenceService,
        streams: Streams,
        allowance: Allowance,
        hub: Hub,
        restoration: Restoration,
        clock: Clock,
        spawn: Spawn,
        instruments: Instruments,
    ) -> None:
        self._engine = engine
        self._login = login
        self._sync = sync
        self._presence = presence
        self._allowance = allowance
        self._hub = hub
        self._restoration = restoration
        self._clock = clock
        self._spawn = spawn
        self._instruments = instruments
        self._verbs: dict[type[ev.Event], Callable[[Session, Any], None]] = {
            ev.Hello: self._hello,
            ev.SendMsg: engine.send,
            ev.DeliveredAck: engine.delivered,
            ev.Read: engine.read,
            ev.Sync: sync.request,
            ev.Recall: engine.recall,
            ev.TypingCommand: typing.request,
            ev.StreamPartCommand: streams.part,
            ev.PresenceCommand: presence.request,
            ev.AuthRefresh: login.request_refresh,
            ev.Ping: self._ping,
        }

    def handle(self, session: Session, event: ev.ClientEvent) -> None:
        """Act on one legal event; a refusal is answered and costs nothing else."""
        if session.state is State.OPEN:
            try:
                self._allowance.event(session.user_id, session.heard_at_s)
            except RateLimitedError as error:
                self._refuse_event(session, event, error)
                return
        try:
            self._verbs[type(event)](session, event)
        except RefusedError as error:
            self._refuse(session, event, error)

    def unreadable(self, session: Session) -> None:
        """An event that could not be read counts as one; who sends too many is closed."""
        try:
            self._allowance.event(session.user_id, session.heard_at_s)
        except RateLimitedError as error:
            self._close_who_goes_on(session, error)

    def _refuse_event(self, session: Session, event: ev.ClientEvent, error: RateLimitedError) -> None:
        """Refuse one event too many; what is sent stays in order, and who does not slow down is closed."""
        if type(event) is ev.SendMsg:
            self._engine.refuse_send(session, event, error)
        else:
            self._refuse(session, event, error)
        self._close_who_goes_on(session, error)

    def _close_who_goes_on(self, session: Session, error: RateLimitedError) -> None:
        if self._allowance.goes_on(session.user_id):
            session.close(ev.CloseCode.OVERLOADED, str(error))

    def _refuse(self, session: Session, event: ev.ClientEvent, error: RefusedError) -> None:
        conversation_id = getattr(event, "conversation_id", UNSET)
        client_msg_id = getattr(event, "client_msg_id", UNSET)
        session.refuse(error, event.ref, conversation_id, client_msg_id)

    def drained(self, session: Session) -> None:
        """The session's buffer is empty: go on with what it asked for and what it missed."""
        self._sync.drained(session)

    def refused(self, error: RefusedError) -> None:
        """Instruments count what is refused."""
        if self._instruments.on_refused is not None:
            self._instruments.on_refused(error)

    def dropped(self) -> None:
        """Instruments count the pushes that found no room."""
        if self._instruments.on_dropped is not None:
            self._instruments.on_dropped()

    def ended(self, session: Session) -> None:
        """Everybody lets go of what they kept of the session."""
        if self._instruments.on_closed is not None:
            self._instruments.on_closed(session.close_code)
        self._engine.ended(session)
        self._login.ended(session)
        self._sync.ended(session)
        self._presence.ended(session)
        self._hub.leave(session)

    def _hello(self, session: Session, event: ev.Hello) -> None:
        self._spawn(session, self._log_in, event)

    async def _log_in(self, session: Session, event: ev.Hello) -> None:
        await self._login.hello(session, event)
        if session.close_code is not None:
            return
        if event.log_token is not UNSET:
            await self._restoration.check(event.log_token)
        await self._sync.read_heads(session)

    def _ping(self, session: Session, event: ev.Ping) -> None:
        log_token = self._restoration.log_token or UNSET
        session.answer(ev.Pong(server_ts=self._clock.now_ms(), ref=event.ref, log_token=log_token))
