"""What a page shows beside an entry: its latest edit, who reacts to it, and how far an open stream has come.

Called by the reads of every store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ...wire.payload import RECALLED
from ..visibility import Interval, is_visible
from .outcomes import Reactions, StoredEdit, Streamed

REACTION_USERS_MAX: Final = 50
"""Users that are named for one reaction to one entry; the others are counted."""

_ROW_BYTES: Final = 60
"""What an edit or a reaction takes in a page besides its texts, about."""


class _EditPayload(msgspec.Struct):
    payload: msgspec.Raw
    ends: Any = ""


_decode_edit = msgspec.json.Decoder(_EditPayload).decode


class StoredMarks(NamedTuple):
    """What is shown beside one entry."""

    edit: StoredEdit | None = None
    reactions: tuple[Reactions, ...] = ()
    stream: Streamed | None = None

    @property
    def size_bytes(self) -> int:
        """About how many bytes of a page it takes."""
        edit = 0 if self.edit is None else len(self.edit.payload) + _ROW_BYTES
        stream = 0 if self.stream is None else len(self.stream.text.encode()) + _ROW_BYTES
        return (
            edit
            + stream
            + sum(
                len(it.reaction.encode()) + sum(map(len, it.user_ids)) + _ROW_BYTES for it in self.reactions
            )
        )

    @property
    def in_a_list(self) -> StoredMarks:
        """What a list of conversations shows of them: how the message reads."""
        return StoredMarks(self.edit, (), self.stream)


NO_MARKS: Final = StoredMarks()


def shown_bytes(size: int, marks: StoredMarks, *, recalled: bool) -> int:
    """About how many bytes of a page an entry takes whose body has `size`: of a recalled one its tombstone is shown."""
    return len(RECALLED) if recalled else size + marks.size_bytes


Place = tuple[int, int]
"""An entry: the internal number of its conversation, and its seq."""


def preview_bytes(
    key: int, last: tuple[int, int, str | int | None] | None, said: Mapping[Place, StoredMarks]
) -> int:
    """About how many bytes a list shows of a conversation's last message: (seq, size, who recalled it), or none."""
    if last is None:
        return 0
    seq, size, recalled_by = last
    return shown_bytes(size, said.get((key, seq), NO_MARKS).in_a_list, recalled=recalled_by is not None)


MarkRow = tuple[int, int, int, str | None, str | None]
"""(conversation key, seq, seq of the entry that says something of it, reaction, user); an edit has neither of these.

A part of an open stream has its number and its text, and no user: (conversation key, seq, part, text, None).
"""


def latest_edits(rows: Iterable[MarkRow], intervals: Mapping[int, Sequence[Interval]]) -> dict[Place, int]:
    """The last edit of each entry that a reader sees, whose memberships are given by conversation key."""
    latest: dict[Place, int] = {}
    for key, seq, edit_seq, reaction, _ in rows:
        if reaction is None and edit_seq > latest.get((key, seq), 0) and is_visible(intervals[key], edit_seq):
            latest[key, seq] = edit_seq
    return latest


def edit_of(seq: int, server_ts: int, payload: bytes) -> StoredEdit:
    """What an EDIT entry puts in the place of the one that it names; empty where its body is in the archive."""
    if not payload:
        return StoredEdit(seq, server_ts, b"")
    said = _decode_edit(payload)
    ends = (
        said.ends if said.ends in ("WHOLE", "CUT_OFF") else ""
    )  # it was an unknown field once, and may be anything
    return StoredEdit(seq, server_ts, bytes(said.payload), ends)


def reading(payload: bytes, edit: bytes | None, streamed: str | None) -> bytes:
    """How a message reads now.

    Args:
        payload: As it was sent.
        edit: The newest EDIT entry that names it; empty where its body is in the archive.
        streamed: Of an open stream, its text so far.
    """
    if edit:
        return edit_of(0, 0, edit).payload
    if streamed is None:
        return payload
    return msgspec.json.encode({**msgspec.json.decode(payload), "text": streamed}, order="sorted")


def reactions_of(rows: Iterable[MarkRow]) -> dict[Place, tuple[Reactions, ...]]:
    """The reactions of each entry: the one that was there first comes first; who reacted first is named."""
    users: dict[Place, dict[str, list[str]]] = {}
    said = [row for row in rows if row[4] is not None]
    for key, seq, _, reaction, user_id in sorted(said, key=lambda row: row[:3]):
        assert reaction is not None
        assert user_id is not None
        users.setdefault((key, seq), {}).setdefault(reaction, []).append(user_id)
    return {
        place: tuple(
            Reactions(reaction, len(named), tuple(named[:REACTION_USERS_MAX]))
            for reaction, named in by_reaction.items()
        )
        for place, by_reaction in users.items()
    }


def streams_of(rows: Iterable[MarkRow]) -> dict[Place, Streamed]:
    """The open streams among the entries: all of their parts, joined."""
    parts: dict[Place, list[tuple[int, str]]] = {}
    for key, seq, part, text, user_id in rows:
        if text is not None and user_id is None:
            parts.setdefault((key, seq), []).append((part, text))
    return {
        place: Streamed(len(found) - 1, "".join(text for _, text in sorted(found)))
        for place, found in parts.items()
    }


def marks_of(
    rows: Collection[MarkRow], latest: Mapping[Place, int], edits: Mapping[Place, StoredEdit]
) -> dict[Place, StoredMarks]:
    """By entry, where there is anything.

    Args:
        rows: Of some entries.
        latest: Of `latest_edits`.
        edits: By the place of the EDIT entry; one that was recalled is missing.
    """
    shown = {
        (key, seq): edits[key, edit_seq]
        for (key, seq), edit_seq in latest.items()
        if (key, edit_seq) in edits
    }
    reactions, streams = reactions_of(rows), streams_of(rows)
    return {
        place: StoredMarks(shown.get(place), reactions.get(place, ()), streams.get(place))
        for place in shown.keys() | reactions.keys() | streams.keys()
    }
