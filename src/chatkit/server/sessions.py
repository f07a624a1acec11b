"""All sessions of a server, from the opening of their connection to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

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
    """Opens sessions within a bound, and sends them away when told to."""

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
            self.send_away([session])
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

    def turn_away(self) -> None:
        """Take nobody in any more; whoever is connected and has not begun to log in is sent away."""
        self._draining = True
        self.send_away([it for it in self if it.state is State.AWAITING_HELLO])

    def staying(self) -> list[Session]:
        """Those that are logged in and were not told to leave, oldest first."""
        return [it for it in self if it.state is State.OPEN and not it.leaving]

    def tell_to_leave(self, sessions: Iterable[Session]) -> None:
        """GOAWAY: what they ask for from here on is refused. Told twice is told once."""
        goaway = ev.GoAway("drain", int(self._config.reconnect_after_s * 1000))
        for session in sessions:
            if not session.leaving:
                session.leaving = True
                session.answer(goaway)

    def send_away(self, sessions: Iterable[Session]) -> None:
        """Close sessions, which have been told to leave by then. What is buffered for them is still written."""
        for session in sessions:
            self.tell_to_leave([session])
            session.close(ev.CloseCode.DRAIN, "the node drains")

    async def wait_empty(self) -> None:
        """Return once all sessions have ended."""
        while self._sessions:
            await self._left.wait()


def _turn_away(session: Session, refusal: RefusedError) -> None:
    session.refuse(refusal)
    session.close(ev.CloseCode.OVERLOADED, str(refusal))
