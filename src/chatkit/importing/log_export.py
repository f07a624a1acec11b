"""A log as JSON lines, as `log_lines` describes them: what `log_import` makes the same log of.

It reads pages, beside a server that may run: of each conversation everything up to the head that it had when its turn
came, and what was recalled since then with the entry that did it. Who came after that is no member in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from ..core.policy import RANKS
from ..errors import NotFoundError, UnavailableError
from ..storage.base import Conversation, Entry, EntryReader, Store
from ..types import Member
from ..wire.payload import RECALLED
from .log_lines import HEADER, ConversationLine, EndLine, EntryLine, MemberLine

_PAGE: Final = 500
_IDS: Final = 200
_MEMBERS: Final = 200


async def export_log(
    store: Store, entries: EntryReader, conversations: tuple[str, ...] = ()
) -> AsyncIterator[tuple[bytes, str]]:
    """The lines, each with the conversation that it is of, or nothing.

    Args:
        store: Open, if only to be read.
        entries: Reads its entries with all bodies.
        conversations: Only these; none: all.

    Raises:
        NotFoundError: One of them is not there.
        UnavailableError: Storage or the archive does not answer, or bodies are in an archive and none is there.
    """
    yield HEADER + b"\n", ""
    async for conversation_id, head_seq in _heads(store, conversations):
        async for line in _conversation(store, entries, conversation_id, head_seq):
            yield line + b"\n", conversation_id


async def _heads(store: Store, wanted: tuple[str, ...]) -> AsyncIterator[tuple[str, int]]:
    after = ""
    while True:
        ids = list(wanted) or await store.conversation_ids(after, _IDS)
        heads = await store.head_seqs(ids) if ids else {}
        for conversation_id in ids:
            if conversation_id not in heads:
                raise NotFoundError(f"there is no conversation {conversation_id}")
            yield conversation_id, heads[conversation_id][1]
        if wanted or len(ids) < _IDS:
            return
        after = ids[-1]


async def _conversation(
    store: Store, entries: EntryReader, conversation_id: str, head_seq: int
) -> AsyncIterator[bytes]:
    seq, seen = 0, _Seen()
    while True:
        page = await entries.entries(conversation_id, seq, _PAGE)
        page = [it for it in page if it.seq <= head_seq or seen.recalled]
        if not page:
            break
        for entry in page:
            seen.take(entry)
        if not seq:
            described = await _described(store, conversation_id, seen.present)
            yield _line("conversation", _described_line(conversation_id, described))
        for entry in page:
            yield _line("entry", _entry(entry))
        seq = page[-1].seq
    if seq:
        for member in await _members(store, conversation_id, seen.present):
            yield _line("member", member)
        yield _line("end", EndLine(seq))


class _Seen:
    """What the entries so far say.

    Attributes:
        present: Who is in the conversation after them.
        recalled: Messages that were recalled by an entry that has not come yet: it may have been written meanwhile.
    """

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.recalled: set[int] = set()

    def take(self, entry: Entry) -> None:
        if entry.payload == RECALLED:
            self.recalled.add(entry.seq)
        elif entry.client_msg_id is None and entry.payload:
            found = msgspec.json.decode(entry.payload)
            if found.get("type") == "RECALL":
                self.recalled -= {found.get("seq"), *found.get("edits", ())}
            elif found.get("type") == "MEMBER" and found["op"] in {"CREATED", "ADDED"}:
                self.present.update(found["userIds"])
            elif found.get("type") == "MEMBER":
                self.present.difference_update(found["userIds"])


def _entry(entry: Entry) -> EntryLine:
    if not entry.payload:
        raise UnavailableError("the bodies of older messages are in an archive; say --archive")
    payload = msgspec.Raw(entry.payload)
    return EntryLine(entry.seq, entry.sender_id, entry.server_ts, payload, entry.client_msg_id)


def _line(name: str, value: Any) -> bytes:
    return msgspec.json.encode({name: value})


def _described_line(conversation_id: str, found: Conversation | None) -> ConversationLine:
    if found is None:  # nobody is in it who could be asked as
        return ConversationLine(conversation_id, "GROUP")
    return ConversationLine(conversation_id, found.type, found.title, found.history)


async def _described(store: Store, conversation_id: str, present: set[str]) -> Conversation | None:
    for user_id in sorted(present):
        try:
            return await store.conversation(conversation_id, user_id)
        except NotFoundError:
            continue  # they have left since
    return None


async def _members(store: Store, conversation_id: str, present: set[str]) -> list[MemberLine]:
    """Those who are in it after its entries and are in it now, with their roles."""
    for user_id in sorted(present):
        try:
            conversation = await store.conversation(conversation_id, user_id)
            current = [it async for it in _current(store, conversation_id, user_id)]
        except NotFoundError:
            continue  # they have left since
        return _roles(conversation, [it for it in current if it.user_id in present])
    return []


async def _current(store: Store, conversation_id: str, user_id: str) -> AsyncIterator[Member]:
    after: str | None = None
    while page := await store.members(conversation_id, user_id, after, _MEMBERS):
        for it in page:
            yield it.member
        after = page[-1].member.user_id


def _roles(conversation: Conversation, members: list[Member]) -> list[MemberLine]:
    """Of a group whose owner came after its entries, the owner is who would follow them: an import needs one."""
    lines = {it.user_id: MemberLine(it.user_id, it.role) for it in members}
    if conversation.type == "GROUP" and members:
        owner = min(members, key=lambda it: (RANKS[it.role], it.joined_seq, it.user_id))
        lines[owner.user_id] = MemberLine(owner.user_id, "OWNER")
    return [*lines.values()]
