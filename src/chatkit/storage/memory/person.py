"""What there is of one user in memory, and who is being erased."""

from __future__ import annotations

from ...core.log.changes import Changes
from ..person import Erasure, KnownDevice, OwnMessage, Place, PlacePage, Stay, own_message
from .tables import Conversation, MemoryState


def write_erasures(tables: MemoryState, changes: Changes) -> None:
    """Who is being erased from now on, and who no more."""
    for user_id, erases_bodies, by_id, began_ms in changes.erasures:
        former = tables.erasures.get(user_id) or Erasure(user_id, False, by_id, began_ms)
        erases = erases_bodies or former.erases_bodies
        tables.erasures[user_id] = Erasure(user_id, erases, former.by_id, former.began_ms)
    for user_id, erased_bodies in changes.ended_erasures:
        begun = tables.erasures.get(user_id)
        if begun is not None and begun.erases_bodies <= erased_bodies:
            del tables.erasures[user_id]


class MemoryPersonReads:
    """`storage.person.PersonReader` over the tables."""

    _tables: MemoryState

    async def erasures(self) -> list[Erasure]:
        """Those that have not ended."""
        return [it for _, it in sorted(self._tables.erasures.items())][:1000]

    async def devices_of(self, user_id: str) -> list[KnownDevice]:
        """The user's devices, by id."""
        found = []
        for device_id, seen in sorted(self._tables.devices.get(user_id, {}).items()):
            push = self._tables.push_tokens.get((user_id, device_id))
            where = (None, None) if push is None else (push.provider, push.at_ms)
            found.append(KnownDevice(device_id, *seen, *where))
        return found

    async def places_of(self, user_id: str, after_key: int) -> PlacePage:
        """The conversations that the user is or was in."""
        logs = (log for key, log in sorted(self._tables.by_key.items()) if key > after_key)
        return PlacePage([_place(log, user_id) for log in logs if user_id in log.members], None)

    async def messages_of(
        self, conversation_id: str, user_id: str, after: str, limit: int
    ) -> list[OwnMessage]:
        """What the user wrote in a conversation, in the order of their keys."""
        log = self._tables.by_id.get(conversation_id)
        if log is None:
            return []
        seqs = [
            seq
            for (sender, key), seq in sorted(log.by_client_id.items())
            if sender == user_id and key > after and (seq > log.floor_seq or _has_words(log, seq))
        ]
        return [_message(log, seq) for seq in seqs[:limit]]


def _place(log: Conversation, user_id: str) -> Place:
    stays = tuple(Stay(it.join_seq, it.leave_seq) for it in log.members[user_id])
    cursors = log.cursors[user_id]
    return Place(
        log.key,
        log.conversation_id,
        log.type,
        stays,
        cursors.delivered_seq,
        cursors.read_seq,
        cursors.read_ms,
        log.muted.get(user_id, 0),
    )


def _has_words(log: Conversation, seq: int) -> bool:
    """Whether there is still something to recall of a message that has expired."""
    row = log.rows[seq - 1]
    return row.kind == "USER" and seq not in log.recalled and bool(row.payload or log.edits.get(seq))


def _message(log: Conversation, seq: int) -> OwnMessage:
    row = log.rows[seq - 1]
    assert row.client_msg_id is not None, "it was found by it"
    place = (row.client_msg_id, log.key, row.epoch, seq, row.kind, row.server_ts)
    return own_message(*place, seq in log.recalled, row.payload, seq <= log.floor_seq)
