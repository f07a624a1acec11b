"""PRESENCE: which contacts of a user are online. Opt-in, never stored, and told to nobody who may not know.

Contacts are members of a common conversation that is not too large, unless the user blocked them; the store says who
they are, when something is told. Each node tells its own sessions, about users of all nodes. On the bus a node says
what changed, and every `RENEW_S` again who is there, which holds for `LEASE_S`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, Literal

from msgspec import UNSET

from ..errors import ForbiddenError
from ..ports import Clock
from ..storage.base import ContactReader
from ..types import UserPresence
from ..wire import events as ev
from .cluster.bridge import ClusterBridge
from .cluster.messages import UsersAvailable
from .config import ServerConfig
from .live.availability import Availability, Change
from .live.fanout import push_presence
from .live.hub import Hub
from .session import Session

TICK_S: Final = 1.0
"""How often changes are gathered and told."""

RENEW_S: Final = 10.0
LEASE_S: Final = 35.0
"""Three renewals may be lost, and a little."""

_CHANGES_PER_TICK: Final = 200
_CONTACTS_MAX: Final = 1_000
"""Contacts of one user who are told, the first by id; the others may ask."""

_USERS_PER_MESSAGE: Final = 50

_State = Literal["ONLINE", "AWAY", ""]


class PresenceService:
    """What this node knows of who is online, and whom it tells.

    Args:
        contacts: Who may know of whom; None where presence is off.
        node_id: Names this node to the others.
    """

    def __init__(
        self,
        contacts: ContactReader | None,
        hub: Hub,
        bridge: ClusterBridge | None,
        config: ServerConfig,
        clock: Clock,
        node_id: str,
    ) -> None:
        self._contacts = contacts
        self._hub = hub
        self._bridge = bridge
        self._members_max = config.presence_members_max
        self._clock = clock
        self._node_id = node_id
        self._away: set[Session] = set()
        self._availability = Availability()
        self._quiet_until_s = 0.0
        if contacts is not None:
            hub.presence.follow()

    @property
    def on(self) -> bool:
        """Whether the host switched it on."""
        return self._contacts is not None

    # --- for sessions and requests ---

    def request(self, session: Session, event: ev.PresenceCommand) -> None:
        """PRESENCE: the user is at this device or away. Source: docs/protocol.md#presence

        Raises:
            ForbiddenError: Presence is switched off here.
        """
        self._reader()
        if event.state == "AWAY":
            self._away.add(session)
        else:
            self._away.discard(session)
        self._hub.presence.touch(session.user_id)

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._away.discard(session)

    async def of(self, user_id: str, others: Sequence[str]) -> list[UserPresence]:
        """Those of the others whom a user may know of, in this order. Raises ForbiddenError or UnavailableError."""
        known = await self._reader().known_to(user_id, others, self._members_max)
        return [self._describe(it, known[it]) for it in dict.fromkeys(others) if it in known]

    def _describe(self, user_id: str, noted_ms: int | None) -> UserPresence:
        state = self._availability.state(user_id)
        if state != "OFFLINE":
            return UserPresence(user_id, state, None)
        return UserPresence(user_id, state, self._availability.last_seen_ms(user_id) or noted_ms)

    def _reader(self) -> ContactReader:
        if self._contacts is None:
            raise ForbiddenError("presence is switched off")
        return self._contacts

    # --- by time ---

    def begin(self) -> None:
        """The server was entered."""
        self._quiet_until_s = self._clock.now_s() + LEASE_S

    async def tick(self) -> None:
        """Take up who came and went here, and tell what is due. Called every `TICK_S`."""
        self._take_own(self._hub.presence.take_changed())
        due = self._availability.due(self._clock.now_s(), _CHANGES_PER_TICK)
        if due:
            await self._tell(due)

    async def renew(self) -> None:
        """Say again who is here, and give up whom other nodes said no more. Called every `RENEW_S`."""
        self._say([(it, self._state_here(it)) for it in self._hub.presence.user_ids()], renewed=True)
        self._availability.expire(self._clock.now_s(), self._clock.now_ms())

    def _take_own(self, user_ids: Iterable[str]) -> None:
        states = [(user_id, self._state_here(user_id)) for user_id in user_ids]
        self._note("", states, math.inf)
        self._say(states, renewed=False)

    def _state_here(self, user_id: str) -> _State:
        sessions = self._hub.presence.sessions([user_id])
        if not sessions:
            return ""
        return "AWAY" if all(it in self._away for it in sessions) else "ONLINE"

    async def _tell(self, due: Sequence[Change]) -> None:
        """What storage refuses to say is due again at the next tick."""
        presence = self._hub.presence
        contacts: dict[str, list[str]] = {}
        if presence.user_ids():
            user_ids = [change.user_id for change in due]
            contacts = await self._reader().contacts(user_ids, self._members_max, _CONTACTS_MAX)
        for change in due:
            seen_ts = UNSET if change.last_seen_ms is None else change.last_seen_ms
            push = ev.PresencePush(user_id=change.user_id, state=change.state, last_seen_ts=seen_ts)
            push_presence(push, presence.sessions(contacts.get(change.user_id, ())))
            self._availability.announced(change, self._clock.now_s())

    # --- the other nodes ---

    def hear(self, message: UsersAvailable) -> None:
        """Another node says who is there. A node that has just started tells nobody what the others have told."""
        if not self.on:
            return
        now_s = self._clock.now_s()
        self._note(message.node_id, message.users, now_s + LEASE_S)
        if message.renewed and now_s < self._quiet_until_s:
            for user_id, _ in message.users:
                self._availability.take_as_announced(user_id)

    def _note(self, node_id: str, users: Iterable[tuple[str, _State]], until_s: float) -> None:
        now_s, now_ms = self._clock.now_s(), self._clock.now_ms()
        for user_id, state in users:
            if state == "":
                self._availability.gone(node_id, user_id, now_s, now_ms)
            else:
                self._availability.here(node_id, user_id, away=state == "AWAY", until_s=until_s)

    def _say(self, users: Iterable[tuple[str, _State]], *, renewed: bool) -> None:
        if self._bridge is None:
            return
        left = iter(users)
        while part := tuple(islice(left, _USERS_PER_MESSAGE)):
            self._bridge.available(UsersAvailable(self._node_id, part, renewed))
        self._bridge.flush()
