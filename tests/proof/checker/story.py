"""What a history holds of the one message that a violation is about, and where it was lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from chatkit.storage.base import Entry
from chatkit.testing.history import Call, device_name
from chatkit.wire import events as ev

from ..dumps import DeviceDump
from .facts import Key, Seen
from .gather import held
from .index import Index
from .log_view import LogView
from .verdict import Breach, Place


class Story:
    """A message, found by its place or by its key; or none, if the violation is about none.

    Attributes:
        name: Its conversation.
        log: That as the store has it, if it was read and has it.
        row: Its row, if the log has it.
        seq: Its place; None if it is known to have none.
        key: Its key; parts of it may be empty.
        calls: The sends under its key.
    """

    def __init__(self, index: Index, breach: Breach) -> None:
        self.index = index
        self.breach = breach
        self.name = breach.conversation_id
        self.log: LogView | None = index.logs.get(self.name)
        self.row = self._row()
        self.seq = self.row.seq if self.row is not None else breach.seq
        self.key: Key = self._key()
        self.calls: list[Call] = index.sends.get(self.key, [])

    @property
    def has_message(self) -> bool:
        """Whether the violation is about one at all."""
        return bool(self.name and (self.seq is not None or self.calls))

    @property
    def about_membership(self) -> bool:
        """Whether memberships of the user in question explain it: it is not his to see, or he never saw it."""
        user_id = self.breach.user_id
        if self.log is None or self.seq is None or not self.log.visible(user_id, self.seq):
            return True
        return all(seen.user_id != user_id for seen in self.sights)

    @cached_property
    def sights(self) -> list[Seen]:
        """All that was seen of it in time."""
        return [seen for seen in self.index.seen if self._is_place(seen) and seen.at_s is not None]

    def is_of(self, event: ev.SendMsg | ev.MsgAck | ev.ErrorEvent, user_id: str) -> bool:
        """Whether an event of this user's connection is about the message."""
        return (event.conversation_id, user_id, event.client_msg_id) == self.key

    def lost(self) -> Iterator[tuple[Place, str]]:
        """The part of the way that lost it, and why it must be that one: for the device in question, or for all.

        Nothing if everybody who should have it has it.
        """
        if self.log is None or not self.has_message:
            return
        if self.row is None:
            reached = self._taken_by or any(not call.device_id for call in self.calls)
            yield ("log", "it reached a server") if reached else ("sender", "it never reached a server")
            return
        for dump in self._devices():
            if self.log.visible(dump.user_id, self.row.seq) and not self._holds(dump):
                yield self._lost_before(dump)

    def _lost_before(self, dump: DeviceDump) -> tuple[Place, str]:
        device, who = (dump.user_id, dump.device_id), device_name(dump.user_id, dump.device_id)
        if any((it.user_id, it.device_id) == device and it.frame is not None for it in self.sights):
            return "device", f"it came to {who}, which does not hold it"
        nodes = {it.node for it in self.index.history.frames if (it.user_id, it.device_id) == device}
        if self._taken_by and nodes and self._taken_by.isdisjoint(nodes):
            return "bus", f"{_names(self._taken_by)} took it, {who} was connected to {_names(nodes)}"
        return "session", f"it is in the log, and no frame brought it to {who}"

    @cached_property
    def _taken_by(self) -> set[str]:
        """The nodes that it reached by SEND_MSG."""
        sends = self.index.traffic.of(ev.SendMsg)
        return {it.frame.node for it in sends if self.is_of(it.event, it.frame.user_id)}

    def _devices(self) -> Iterable[DeviceDump]:
        """The device in question, or all that should have it."""
        user_id, device_id = self.breach.user_id, self.breach.device_id
        dumps = self.index.history.devices
        if device_id:
            return [dump for dump in dumps if (dump.user_id, dump.device_id) == (user_id, device_id)]
        return [dump for dump in dumps if dump.online]

    def _holds(self, dump: DeviceDump) -> bool:
        return any(self._is_place(seen) for seen in held(dump))

    def _is_place(self, seen: Seen) -> bool:
        return seen.seq == self.seq and seen.conversation_id == self.name

    def _row(self) -> Entry | None:
        if self.log is None:
            return None
        by_key = self.log.by_key.get((self.breach.user_id, self.breach.client_msg_id))
        return by_key or (self.log.rows.get(self.breach.seq) if self.breach.seq is not None else None)

    def _key(self) -> Key:
        if self.breach.client_msg_id:
            return self.name, self.breach.user_id, self.breach.client_msg_id
        if self.row is not None:
            return self.name, self.row.sender_id, self.row.client_msg_id or ""
        known = (seen for seen in self.index.seen if self._is_place(seen) and seen.client_msg_id)
        sight = next(known, None)
        return (
            (self.name, sight.sender_id, sight.client_msg_id or "")
            if sight is not None
            else (self.name, "", "")
        )


def _names(nodes: set[str]) -> str:
    return ", ".join(sorted(nodes))
