"""Who is here: the sessions of this node that are logged in, by user and device. In memory, values only."""

from __future__ import annotations

from collections.abc import Iterable

from ..session import Session


class Presence:
    """Logged-in sessions, at most one for each device."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, Session]] = {}
        self._changed: dict[str, None] | None = None

    def follow(self) -> None:
        """Note whose sessions come and go from here on, for `take_changed`. Its bound: the users there are."""
        self._changed = {}

    def take_changed(self) -> list[str]:
        """Users of whom a session came or went since the last call."""
        changed = list(self._changed or ())
        if changed:
            self._changed = {}
        return changed

    def touch(self, user_id: str) -> None:
        """Something about a session of this user changed."""
        if self._changed is not None:
            self._changed[user_id] = None

    def add(self, session: Session) -> None:
        """A session is here, in the place of any other of its device."""
        self._users.setdefault(session.user_id, {})[session.device_id] = session
        self.touch(session.user_id)

    def remove(self, session: Session) -> bool:
        """A session is gone. Returns whether it was here; another one of the same device stays."""
        devices = self._users.get(session.user_id)
        if devices is None or devices.get(session.device_id) is not session:
            return False
        del devices[session.device_id]
        self.touch(session.user_id)
        if not devices:
            del self._users[session.user_id]
        return True

    def is_online(self, user_id: str) -> bool:
        """Whether any device of a user is here."""
        return user_id in self._users

    def session(self, user_id: str, device_id: str) -> Session | None:
        """The session of a device."""
        return self._users.get(user_id, {}).get(device_id)

    def device_ids(self, user_id: str) -> tuple[str, ...]:
        """The devices of a user that are here."""
        return tuple(self._users.get(user_id, ()))

    def sessions(self, user_ids: Iterable[str]) -> list[Session]:
        """The sessions of these users, in their order."""
        users = self._users
        return [it for user_id in user_ids if user_id in users for it in users[user_id].values()]

    def user_ids(self) -> list[str]:
        """Every user who is here."""
        return list(self._users)

    def all_sessions(self) -> list[Session]:
        """Every session that is logged in."""
        return [session for devices in self._users.values() for session in devices.values()]
