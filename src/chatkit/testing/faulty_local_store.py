"""A client's local store that outlives its app: killed with `die`, full for a while with `full`.

The app may be killed at any moment; what it saved before stays in the store behind, which the next start of the app
is given again through a new `FaultyLocalStore`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..client.store.base import Change, LocalStore, Progress, Record
from ..core.resend import Key, PendingSend
from ..errors import UnavailableError
from ..types import Message


class FaultyLocalStore:
    """`client.store.base.LocalStore`, as one incarnation of an app reaches it.

    Attributes:
        full: While set, everything that writes is refused as a full disk would.
        dead: Whether the app was killed.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self.dead = False
        self.full = False

    def die(self) -> None:
        """The app was killed: nothing that it still does reaches the store."""
        self.dead = True

    def owner(self) -> str:
        """As the store behind."""
        return self._store.owner()

    def bind(self, user_id: str, device_id: str) -> None:
        """As the store behind."""
        self._writable().bind(user_id, device_id)

    def pending(self) -> list[PendingSend]:
        """As the store behind."""
        return self._store.pending()

    def add_pending(self, send: PendingSend) -> None:
        """As the store behind, or refused."""
        self._writable().add_pending(send)

    def records(self) -> list[Record]:
        """As the store behind."""
        return self._store.records()

    def save(self, changes: Sequence[Change], resolved: Sequence[Key] = ()) -> None:
        """As the store behind, or refused."""
        self._writable().save(changes, resolved)

    def messages(self, conversation_id: str, before_seq: int, limit: int) -> list[Message]:
        """As the store behind."""
        return self._store.messages(conversation_id, before_seq, limit)

    def naming(self, conversation_id: str, first_seq: int, last_seq: int) -> list[Message]:
        """As the store behind."""
        return self._store.naming(conversation_id, first_seq, last_seq)

    def message_ids(self, conversation_id: str, after_seq: int, up_to_seq: int) -> dict[int, str]:
        """As the store behind."""
        return self._store.message_ids(conversation_id, after_seq, up_to_seq)

    def untaken(self, conversation_id: str, after_seq: int, up_to_seq: int, limit: int) -> list[Message]:
        """As the store behind."""
        return self._store.untaken(conversation_id, after_seq, up_to_seq, limit)

    def advance(self, progress: Sequence[Progress]) -> None:
        """As the store behind, or refused."""
        self._writable().advance(progress)

    def app_state(self, conversation_id: str) -> bytes:
        """As the store behind."""
        return self._store.app_state(conversation_id)

    def unread(self, conversation_id: str, after_seq: int, user_id: str) -> int:
        """As the store behind."""
        return self._store.unread(conversation_id, after_seq, user_id)

    def unread_mentions(self, conversation_id: str, after_seq: int) -> int:
        """As the store behind."""
        return self._store.unread_mentions(conversation_id, after_seq)

    def floor(self, conversation_id: str) -> int:
        """As the store behind."""
        return self._store.floor(conversation_id)

    def reads(self) -> dict[str, int]:
        """As the store behind."""
        return self._store.reads()

    def want_read(self, conversation_id: str, up_to_seq: int) -> None:
        """As the store behind, or refused."""
        self._writable().want_read(conversation_id, up_to_seq)

    def close(self) -> None:
        """The store outlives its app; whoever made it closes it."""

    def _writable(self) -> LocalStore:
        if self.dead or self.full:
            raise UnavailableError("the local store is full", retry_after_s=0.5)
        return self._store
