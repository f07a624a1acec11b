"""All sessions of a server, from the opening of their connection to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .._auto_reset_event import AutoResetEvent
from ..core.connection import State
from ..errors import OverloadedError, RefusedError
from ..ports import Ports
from ..wire import events as ev
from ..wire.codec import Codec
from .admission import Admission
from .config import ServerConfig
from .login_request import LoginRequest
from .session import Services, Session


class Sessions:
    """Opens sessions within a bound, and sends all of them away."""

    def __init__(self, services: Services, admission: Admission, config: ServerConfig, ports: Ports) -> None:
        self._services = services
        self._config = config
        self._ports = ports
        self._admission = admission
        self._sessions: dict[Session, None] = {}
        self._draining = False
        self._left = AutoResetEvent()

    def __iter__(self) -> Iterator[Session]:
        """Those that have not ended, oldest first, as they are now."""
        return iter(list(self._sessions))

    @property
    def draining(self) -> bool:
        """Whether everybody is being sent away."""
        return self._draining

    def open(self, codec: Codec, wake: Callable[[], None], request: LoginRequest) -> Session:
        """A session for a new connection; one that is not wanted is closed already, and was told when to come back."""
        session = Session(
            self._ports.ids.token_bytes(8).hex(),
            codec,
            self._services,
            now_s=self._ports.clock.now_s(),
            buffer_bytes_max=self._config.send_buffer_bytes,
            wake=wake,
        )
        session.request = request
        refusal = self._admission.take_in(session, request.client_address, session.opened_at_s)
        if self._draining:
            session.answer(self._goaway())
            session.close(ev.CloseCode.DRAIN, "the node drains")
        elif refusal is not None:
            _turn_away(session, refusal)
        elif len(self._sessions) >= self._config.sessions_max:
            retry_s = self._config.overload_retry_s
            _turn_away(session, OverloadedError("too many connections", retry_after_s=retry_s))
        self._sessions[session] = None
        return session

    def end(self, session: Session) -> None:
        """The connection has ended. A second call does nothing."""
        if session in self._sessions:
            del self._sessions[session]
            self._admission.ended(session, session.request.client_address)
            self._left.set()
            session.end()

    def announce_drain(self) -> None:
        """Take nobody in any more, and say so to everybody."""
        self._draining = True
        for session in self:
            if session.state is State.OPEN:
                session.answer(self._goaway())

    async def send_away(self) -> None:
        """Close all sessions, and return once they have ended."""
        for session in self:
            session.close(ev.CloseCode.DRAIN, "the node drains")
        while self._sessions:
            await self._left.wait()

    def _goaway(self) -> ev.GoAway:
        return ev.GoAway(reason="drain", reconnect_after_ms=int(self._config.reconnect_after_s * 1000))


def _turn_away(session: Session, refusal: RefusedError) -> None:
    session.refuse(refusal)
    session.close(ev.CloseCode.OVERLOADED, str(refusal))
