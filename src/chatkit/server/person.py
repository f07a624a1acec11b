"""What there is of one user, read part by part: for their erasure, and as a copy for them. Memory is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from .._abilities import offers
from ..errors import ConfigurationError
from ..storage import base
from ..storage.base import EntryReader, OwnMessage, PersonReader, Place, Store
from ..wire.payload import RECALLED

EXPORT_VERSION: Final = 1
_ROWS_PER_READ: Final = 200
_MESSAGES_PER_READ: Final = 100  # bodies of 64 KiB at most


def person_reader(store: Store) -> PersonReader:
    """The store as one that knows what there is of a user. Raises ConfigurationError."""
    if not offers(store, PersonReader):
        raise ConfigurationError("this store has no `places_of`: it cannot say what there is of a user")
    return store


async def places_of(store: Store, user_id: str) -> AsyncIterator[Place]:
    """Every conversation that a user is or was in. Those that begin meanwhile may be among them."""
    reader = person_reader(store)
    after: int | None = 0
    while after is not None:
        places, after = await reader.places_of(user_id, after)
        for place in places:
            yield place


async def messages_of(
    store: Store, conversation_id: str, user_id: str, limit: int
) -> AsyncIterator[list[OwnMessage]]:
    """What a user wrote in a conversation, so many at a time."""
    reader, after = person_reader(store), ""
    while some := await reader.messages_of(conversation_id, user_id, after, limit):
        yield some
        after = some[-1].client_msg_id


async def lines_of(store: Store, log: EntryReader, user_id: str, now_ms: int) -> AsyncIterator[bytes]:
    """What there is of a user, as lines of JSON; see docs/privacy.md for each kind."""
    yield _line("export", {"version": EXPORT_VERSION, "userId": user_id, "exportedMs": now_ms})
    for device in await person_reader(store).devices_of(user_id):
        yield _line("device", device)
    async for block in _blocks_of(store, user_id):
        yield _line("block", {"userId": block.user_id, "sinceMs": block.since_ms})
    async for place in places_of(store, user_id):
        yield _line("conversation", place)
        async for some in messages_of(store, place.conversation_id, user_id, _MESSAGES_PER_READ):
            for message in (it for it in some if not it.has_expired):
                yield _message_line(place, message, await _payload(log, place, message))
    async for row in _acts_of(store, user_id):
        yield _line("act", row)


async def _payload(log: EntryReader, place: Place, message: OwnMessage) -> bytes:
    """What a message says; a body that left for the archive is read there, and may have expired meanwhile."""
    if message.payload:
        return message.payload
    (entry,) = await log.entries(place.conversation_id, message.seq - 1, 1)
    return entry.payload if entry.seq == message.seq else RECALLED


def _message_line(place: Place, it: OwnMessage, payload: bytes) -> bytes:
    shown = {
        "conversationId": place.conversation_id,
        "messageId": it.message_id,
        "clientMsgId": it.client_msg_id,
        "seq": it.seq,
        "serverTs": it.server_ts,
        "payload": msgspec.Raw(payload),
    }
    return _line("message", shown)


def _line(kind: str, value: object) -> bytes:
    return msgspec.json.encode({kind: value}) + b"\n"


async def _blocks_of(store: Store, user_id: str) -> AsyncIterator[base.Block]:
    after: str | None = None
    while blocks := await store.blocks(user_id, after, _ROWS_PER_READ):
        for block in blocks:
            yield block
        after = blocks[-1].user_id


async def _acts_of(store: Store, user_id: str) -> AsyncIterator[base.AuditRow]:
    after, wanted = 0, base.AuditFilter(user_id=user_id)
    while rows := await store.acts(wanted, after, _ROWS_PER_READ):
        for row in rows:
            yield row
        after = rows[-1].audit_id
