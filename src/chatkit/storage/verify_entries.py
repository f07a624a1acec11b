"""What the body of an entry must be, for a full check of a log. Called by the `verify` of each store."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ..core.log.rules import SERVER_KINDS, members_of
from ..wire.events import SEQ_MAX
from .body import body_fault
from .verify_rules import Check

NOT_CARRIED_OUT: Final = "{name} has a recall at seq {seq} of a message that is not recalled"


class _Recall(msgspec.Struct):
    """What a RECALL entry says of the message that it recalls."""

    message_id: str = msgspec.field(name="messageId")
    seq: Annotated[int, msgspec.Meta(ge=1, le=SEQ_MAX)]
    by: str


_decode_recall = msgspec.json.Decoder(_Recall).decode


def entry_fault(
    kind: str | None, payload: object, *, is_recalled: bool, is_cold: bool
) -> tuple[Check, str] | None:
    """What is wrong with an entry, in words that follow "has"; None if nothing is.

    Args:
        kind: Of the entry; what is neither MEMBER nor RECALL was written by a user.
        payload: Its body.
        is_recalled: Whether it was recalled.
        is_cold: Whether its body, if it is a user's, is in the archive.
    """
    if is_cold and kind not in SERVER_KINDS:
        return None if payload == b"" else ("archive", "a body that should be in the archive alone")
    if words := body_fault(payload, is_recalled=is_recalled):
        return ("recall" if is_recalled else "body"), words
    if kind in SERVER_KINDS and not _is_of_kind(kind, payload):
        return "body", f"a {kind} entry that does not say what it must"
    return None


def _is_of_kind(kind: str, payload: object) -> bool:
    """Whether the body of an entry that the server made has all that is read from it."""
    assert isinstance(payload, bytes)  # or it has no body
    try:
        if kind == "MEMBER":
            members_of(payload)
        else:
            _decode_recall(payload)
    except ValueError:  # msgspec's errors
        return False
    return True


def recalled_seq(payload: bytes) -> int:
    """Which entry a RECALL entry names; it has no fault."""
    return _decode_recall(payload).seq
