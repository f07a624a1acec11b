"""What a page shows beside an entry: its latest edit, and who reacts to it. Called by the reads of every store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from ...wire.payload import RECALLED
from ..visibility import Interval, is_visible
from .outcomes import Reactions, StoredEdit

REACTION_USERS_MAX: Final = 50
"""Users that are named for one reaction to one entry; the others are counted."""

_ROW_BYTES: Final = 60
"""What an edit or a reaction takes in a page besides its texts, about."""


class _EditPayload(msgspec.Struct):
    payload: msgspec.Raw


_decode_edit = msgspec.json.Decoder(_EditPayload).decode


class StoredMarks(NamedTuple):
    """What is shown beside one entry."""

    edit: StoredEdit | None = None
    reactions: tuple[Reactions, ...] = ()

    @property
    def size_bytes(self) -> int:
        """About how many bytes of a page it takes."""
        edit = 0 if self.edit is None else len(self.edit.payload) + _ROW_BYTES
        return edit + sum(
            len(it.reaction.encode()) + sum(map(len, it.user_ids)) + _ROW_BYTES for it in self.reactions
        )

    @property
    def in_a_list(self) -> StoredMarks:
        """What a list of conversations shows of them: how the message reads."""
        return StoredMarks(self.edit)


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
"""(conversation key, seq, seq of the entry that says something of it, reaction, user); an edit has neither of these."""


def latest_edits(rows: Iterable[MarkRow], intervals: Mapping[int, Sequence[Interval]]) -> dict[Place, int]:
    """The last edit of each entry that a reader sees, whose memberships are given by conversation key."""
    latest: dict[Place, int] = {}
    for key, seq, edit_seq, reaction, _ in rows:
        if reaction is None and edit_seq > latest.get((key, seq), 0) and is_visible(intervals[key], edit_seq):
            latest[key, seq] = edit_seq
    return latest


def edit_of(seq: int, server_ts: int, payload: bytes) -> StoredEdit:
    """What an EDIT entry puts in the place of the one that it names; empty where its body is in the archive."""
    return StoredEdit(seq, server_ts, bytes(_decode_edit(payload).payload) if payload else b"")


def reactions_of(rows: Iterable[MarkRow]) -> dict[Place, tuple[Reactions, ...]]:
    """The reactions of each entry: the one that was there first comes first; who reacted first is named."""
    users: dict[Place, dict[str, list[str]]] = {}
    said = [row for row in rows if row[3] is not None]
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
    reactions = reactions_of(rows)
    return {
        place: StoredMarks(shown.get(place), reactions.get(place, ()))
        for place in shown.keys() | reactions.keys()
    }
