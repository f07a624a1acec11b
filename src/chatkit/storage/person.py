"""What a store has of one user: for their erasure, and for a copy of it. Part of the port; shown again by `base`.

An ability beside `Store`: one that has it can erase users (`ChatServer.erase_user`) and export them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from ..core.log.outcomes import Entry, message_id
from ..core.log.rules import Kind
from ..types import ConversationType
from ..wire.payload import RECALLED


class Erasure(msgspec.Struct, frozen=True):
    """A user who is being erased.

    Attributes:
        erases_bodies: Whether the messages that they wrote become tombstones.
        by_id: Who asked for it; empty for the host.
    """

    user_id: str
    erases_bodies: bool
    by_id: str
    began_ms: int


class KnownDevice(msgspec.Struct, frozen=True, rename="camel"):
    """A device of a user, and where it is reached; the token for that is not shown.

    Attributes:
        push_provider: The host's name for the service that it is pushed to by; None: it is not.
        push_since_ms: When it was registered there.
    """

    device_id: str
    first_seen_ms: int
    last_seen_ms: int
    push_provider: str | None
    push_since_ms: int | None


class Stay(msgspec.Struct, frozen=True, rename="camel"):
    """A membership: from the entry that began it up to before the one that ended it; None: it lasts."""

    join_seq: int
    leave_seq: int | None


class Place(msgspec.Struct, frozen=True, rename="camel"):
    """A conversation that a user is or was in.

    Attributes:
        conversation_key: The store's number of it; places come in this order.
        stays: The memberships, ascending; one at least.
        delivered_seq: How far they have got.
        read_seq: How far they have read.
        read_ms: When that was.
        muted_until_ms: Until when they are not woken for it; 0: they are.
    """

    conversation_key: int
    conversation_id: str
    type: ConversationType
    stays: tuple[Stay, ...]
    delivered_seq: int
    read_seq: int
    read_ms: int
    muted_until_ms: int

    @property
    def is_member(self) -> bool:
        """Whether they are a member now."""
        return self.stays[-1].leave_seq is None


class PlacePage(NamedTuple):
    """Places of a user; where to go on, or None: these are all."""

    places: list[Place]
    next_key: int | None


class OwnMessage(msgspec.Struct, frozen=True):
    """A message that a user wrote, or what they said of one: an edit, a reaction, a pin, a title.

    Attributes:
        kind: Which of these; only a USER is recalled, and its edits with it.
        payload: As everybody reads it: the tombstone of one that was recalled. Empty where the body is in an archive.
        has_expired: Whether nobody reads it any more, and the log still holds words of it, or of an edit.
    """

    client_msg_id: str
    message_id: str
    seq: int
    kind: Kind
    server_ts: int
    is_recalled: bool
    payload: bytes
    has_expired: bool = False


class EntryReader(Protocol):
    """Reads of a log with all of its bodies, wherever they are."""

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
        """As `storage.base.LogReader.entries`."""


@runtime_checkable
class PersonReader(Protocol):
    """Reads of what there is of one user, each in one snapshot and bounded."""

    async def erasures(self) -> Sequence[Erasure]:
        """Those that have begun and not ended, the first 1,000 by id."""

    async def devices_of(self, user_id: str) -> list[KnownDevice]:
        """The user's devices, by id."""

    async def places_of(self, user_id: str, after_key: int) -> PlacePage:
        """The conversations above a number that the user is or was in, as many as were found in a bounded search."""

    async def messages_of(
        self, conversation_id: str, user_id: str, after: str, limit: int
    ) -> list[OwnMessage]:
        """What the user wrote in a conversation, in the order of their keys: those above key `after`.

        Of what has expired it has the messages that were not recalled and of which there are words still: the body, or
        an edit.
        """


def places(rows: Iterable[Sequence[Any]]) -> list[Place]:
    """One place of the rows of each conversation, which has one for each membership."""
    found: dict[int, Place] = {}
    for key, conversation_id, kind, join_seq, leave_seq, *cursors in rows:
        stays = (*(found[key].stays if key in found else ()), Stay(join_seq, leave_seq))
        found[key] = Place(key, conversation_id, kind, stays, *cursors)
    return [*found.values()]


def own_message(
    client_msg_id: str,
    key: int,
    epoch: str,
    seq: int,
    kind: Kind,
    server_ts: int,
    is_recalled: bool,
    payload: bytes,
    has_expired: bool,
) -> OwnMessage:
    """A message as it is shown."""
    shown = RECALLED if is_recalled else payload
    return OwnMessage(
        client_msg_id,
        message_id(key, epoch, seq),
        seq,
        kind,
        server_ts,
        bool(is_recalled),
        shown,
        bool(has_expired),
    )
