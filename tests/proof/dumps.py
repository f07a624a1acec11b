"""What the store and the devices hold at the end of a run, and a history that has it.

The simulator, the scenarios and the fixtures of our own tests fill one `CompleteHistory`; the checker reads it and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from chatkit.client.store.base import LocalStore, Record
from chatkit.storage.base import AuditRow, Entry, MemberCursor, OutboxEntry, Store
from chatkit.storage.verify_audit import check_audit
from chatkit.storage.verify_report import Report
from chatkit.testing.history import History, Incident
from chatkit.types import Message

from .held import Count
from .membership import current_members

_ENTRIES_PER_READ = 500


class About(msgspec.Struct):
    """What is said of a conversation beside its log, as a member is told at the end.

    Attributes:
        pins: (pinned seq, seq of the PINNED entry), pinned last first.
    """

    user_id: str
    title: str
    description: str
    pins: list[tuple[int, int]]


class LogDump(msgspec.Struct):
    """One conversation as the store holds it at the end; `about` is None where nobody is left who could ask."""

    conversation_id: str
    epoch: str
    head_seq: int
    entries: list[Entry]
    members: list[MemberCursor]
    audit: list[AuditRow]
    about: About | None = None


class StoreDump(msgspec.Struct):
    """What the store holds at the end.

    Attributes:
        chains: What is wrong with the chains of the audit.
    """

    logs: dict[str, LogDump]
    outbox: list[OutboxEntry]
    chains: list[str] = []


class ListedRow(msgspec.Struct, frozen=True):
    """One row of a device's list of conversations: as `ConversationSummary`, and where what it holds begins."""

    conversation_id: str
    head_seq: int
    read_seq: int
    unread: int
    last_seq: int
    floor_seq: int
    unread_mentions: int = 0


class DeviceDump(msgspec.Struct):
    """What one device holds at the end.

    Attributes:
        messages: By conversation, all that it stored, ascending.
        floors: By conversation, where the completely stored part begins (not included).
        pending: clientMsgIds not yet answered, by order.
        crashed: Whether its app was ever killed (then it need not have been told everything).
        online: Whether it was connected at the end, and so must have everything.
        listed: Its list of conversations, as its client shows it.
    """

    user_id: str
    device_id: str
    records: list[Record]
    messages: dict[str, list[Message]]
    floors: dict[str, int]
    pending: list[str]
    crashed: bool
    online: bool
    listed: list[ListedRow] = []


class Moderated(msgspec.Struct, frozen=True):
    """What a moderator answered about one message.

    Attributes:
        looked_at_s: When the node that asked looked whether the key is new.
        at_s: When the moderator answered.
        key: (conversation, sender, clientMsgId).
        body: What was sent, in canonical form.
        verdict: allow, refuse, rewrite, hold; or fail.
        instead: What is to be stored instead.
        is_open: Whether a failure lets it through.
    """

    looked_at_s: float
    at_s: float
    key: tuple[str, str, str]
    body: bytes
    verdict: str
    instead: bytes | None
    is_open: bool


class CompleteHistory(History):
    """A history, and what is left at its end: all that the checker needs.

    Attributes:
        moderated: What moderators answered, in order.
        store: What the store holds; None if nobody read it.
        devices: What each device holds.
        counts: What servers and clients held in memory.
        effects: What each fault changed: the incident, and how often it was felt.
        connections_ended_s: By number, when the first end of a connection ended.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__(now_s)
        self.store: StoreDump | None = None
        self.devices: list[DeviceDump] = []
        self.counts: list[Count] = []
        self.effects: list[tuple[Incident, int]] = []
        self.connections_ended_s: dict[int, float] = {}
        self.moderated: list[Moderated] = []

    def _parts(self) -> Iterable[Sequence[Any]]:
        return (*super()._parts(), self.devices, [self.store], self.counts, self.moderated)


async def dump_store(store: Store, conversation_ids: Sequence[str]) -> StoreDump:
    """Read everything of these conversations through the port. Raises what its reads raise."""
    logs = {}
    for name, (epoch, head_seq) in (await store.head_seqs(conversation_ids)).items():
        entries: list[Entry] = []
        while page := await store.entries(name, len(entries), _ENTRIES_PER_READ):
            entries += page
        members = await _members(store, name, entries)
        about = await _about(store, name, entries)
        logs[name] = LogDump(name, epoch, head_seq, entries, members, await store.audit(name), about)
    report = Report()
    async for _ in check_audit(store, report):
        pass
    return StoreDump(logs, await store.outbox(1_000_000), [it.words for it in report.findings])


async def _about(store: Store, conversation_id: str, entries: Sequence[Entry]) -> About | None:
    members = sorted(current_members(entries))
    if not members:
        return None
    found = await store.conversation(conversation_id, members[0])
    pins = [(it.seq, it.pinned_by_seq) for it in await store.pins(conversation_id, members[0], 0)]
    return About(members[0], found.title, found.description, pins)


async def _members(store: Store, conversation_id: str, entries: Sequence[Entry]) -> list[MemberCursor]:
    """Cursors of the current members, asked in the name of any of them; none if the log has none."""
    members = sorted(current_members(entries))
    return [] if not members else await store.members(conversation_id, members[0], None, 1_000_000)


def dump_device(
    user_id: str, device_id: str, store: LocalStore, *, crashed: bool, online: bool
) -> DeviceDump:
    """Read everything a device has stored."""
    records = store.records()
    names = [record.conversation_id for record in records]
    return DeviceDump(
        user_id,
        device_id,
        records,
        {name: store.messages(name, 2**53, 2**31) for name in names},
        {name: store.floor(name) for name in names},
        [send.key[1] for send in store.pending()],
        crashed,
        online,
    )
