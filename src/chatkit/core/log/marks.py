"""What a page shows beside an entry: its latest edit, and who reacts to it. Called by the reads of every store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from ..visibility import Interval, is_visible
from .outcomes import Edit, Reactions

REACTION_USERS_MAX: Final = 50
"""Users that are named for one reaction to one entry; the others are counted."""

_ROW_BYTES: Final = 60
"""What an edit or a reaction takes in a page besides its texts, about."""


class _EditPayload(msgspec.Struct):
    payload: msgspec.Raw


_decode_edit = msgspec.json.Decoder(_EditPayload).decode


class Marks(NamedTuple):
    """What is shown beside one entry."""

    edit: Edit | None = None
    reactions: tuple[Reactions, ...] = ()

    @property
    def size_bytes(self) -> int:
        """About how many bytes of a page it takes."""
        edit = 0 if self.edit is None else len(self.edit.payload) + _ROW_BYTES
        return edit + sum(
            len(it.reaction.encode()) + sum(map(len, it.user_ids)) + _ROW_BYTES for it in self.reactions
        )


NO_MARKS: Final = Marks()


def latest_edits(edits: Iterable[tuple[int, int]], intervals: Sequence[Interval]) -> dict[int, int]:
    """Of (edited seq, seq of the EDIT entry) the last one of each that a reader sees."""
    latest: dict[int, int] = {}
    for seq, edit_seq in edits:
        if edit_seq > latest.get(seq, 0) and is_visible(intervals, edit_seq):
            latest[seq] = edit_seq
    return latest


def edit_of(seq: int, server_ts: int, payload: bytes) -> Edit:
    """What an EDIT entry puts in the place of the one that it names; empty where its body is in the archive."""
    return Edit(seq, server_ts, bytes(_decode_edit(payload).payload) if payload else b"")


def reactions_of(rows: Iterable[tuple[int, int, str, str]]) -> dict[int, tuple[Reactions, ...]]:
    """Of (seq, seq of the REACTION entry, reaction, user) the reactions of each entry.

    The one that was there first comes first; of each the users who reacted first are named.
    """
    users: dict[int, dict[str, list[str]]] = {}
    for seq, _, reaction, user_id in sorted(rows):
        users.setdefault(seq, {}).setdefault(reaction, []).append(user_id)
    return {
        seq: tuple(
            Reactions(reaction, len(named), tuple(named[:REACTION_USERS_MAX]))
            for reaction, named in by_reaction.items()
        )
        for seq, by_reaction in users.items()
    }


def marks_of(edits: Mapping[int, Edit], reactions: Mapping[int, tuple[Reactions, ...]]) -> dict[int, Marks]:
    """By entry, where there is anything."""
    return {seq: Marks(edits.get(seq), reactions.get(seq, ())) for seq in edits.keys() | reactions.keys()}
