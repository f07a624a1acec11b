"""Messages that name an earlier one: edits, reactions, pins, replies. What each needs, and what it does.

An EDIT, a REACTION and a PINNED are entries like any other; the entry that they name stays as it is. What is kept
beside the log says which edits an entry has, who reacts to it now, and which are pinned. Called by `meaning` and
`importing`.
Why it is so: docs/design/0028-edits-and-reactions.md, 0034-mentions-pins-titles.md.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ...errors import BadRequestError, EditWindowPassedError, ForbiddenError, StreamEndedError
from ..policy import Policy
from . import rules, stream_rows
from .keys import Keys
from .outcomes import message_place
from .state import ConversationState, MessageRow, Place, State

EDITS_MAX: Final = 100
"""Edits of one message."""

REACTIONS_MAX: Final = 1_000
"""Reactions to one message, of all users."""

OWN_REACTIONS_MAX: Final = 10
"""Reactions of one user to one message."""

PINS_MAX: Final = 50
"""Pinned messages of one conversation."""

ReferenceKind = Literal["EDIT", "REACTION", "PINNED", "REPLY"]


class Reference(msgspec.Struct, frozen=True, gc=False):
    """What a message says of an earlier one.

    Attributes:
        message_id: The earlier one.
        seq: Its place, as the sender knows it.
        reaction: Of a REACTION.
        removed: Whether it takes the reaction, or the pin, back.
        window_ms: Of an EDIT: how long after the message was stored it may come; None: for ever.
        ends: Of an EDIT: whether it is the end of a stream.
    """

    kind: ReferenceKind
    message_id: str
    seq: int
    reaction: str = ""
    removed: bool = False
    window_ms: int | None = None
    ends: bool = False


class _Target(msgspec.Struct):
    message_id: str = msgspec.field(name="messageId")
    seq: int


class _Typed(msgspec.Struct):
    type: str


class _Edit(_Target):
    ends: Any = None


class _Reaction(_Target):
    reaction: str
    removed: bool = False


class _Pinned(_Target):
    pinned: bool


class _Answer(msgspec.Struct, rename="camel"):
    reply_to: _Target | UnsetType = UNSET


_decode_type = msgspec.json.Decoder(_Typed).decode
_decode_edit = msgspec.json.Decoder(_Edit).decode
_decode_reaction = msgspec.json.Decoder(_Reaction).decode
_decode_pinned = msgspec.json.Decoder(_Pinned).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def reference_of(payload: bytes, edit_window_ms: int | None = None) -> Reference | None:
    """What a checked payload says of an earlier message; None for nearly all.

    Args:
        payload: Canonical JSON of `wire.payload.canonical`.
        edit_window_ms: See `Reference`.
    """
    if b'"messageId":' not in payload:
        return None
    kind = _decode_type(payload).type
    if kind == "EDIT":  # what else such a payload holds is nobody's business, so it is not even read
        edited = _decode_edit(payload)
        place = (edited.message_id, edited.seq)
        return Reference("EDIT", *place, window_ms=edit_window_ms, ends=edited.ends in ("WHOLE", "CUT_OFF"))
    if kind == "REACTION":
        it = _decode_reaction(payload)
        return Reference("REACTION", it.message_id, it.seq, it.reaction, it.removed)
    if kind == "PINNED":
        pin = _decode_pinned(payload)
        return Reference("PINNED", pin.message_id, pin.seq, removed=not pin.pinned)
    reply_to = _decode_answer(payload).reply_to
    if isinstance(reply_to, _Target):
        return Reference("REPLY", reply_to.message_id, reply_to.seq)
    return None


def keys_of_reference(keys: Keys, conversation_id: str, sender_id: str, reference: Reference) -> None:
    """The entry that is named, what the sender may see, and what the entry has already."""
    keys.cursors.add((conversation_id, sender_id))
    place = message_place(reference.message_id)
    if place is None:
        return
    key, _, seq = place
    keys.places.add((key, seq))
    if reference.kind == "EDIT":
        keys.edited.add((key, seq))
    elif reference.kind == "REACTION":
        keys.reactions.add((key, seq, sender_id))
    elif reference.kind == "PINNED":
        keys.pins.add(key)


def keys_of_edited(state: State, payload: bytes, more: Keys) -> None:
    """Of what an EDIT edits, where that is a stream, its end; of any other payload nothing."""
    reference = reference_of(payload)
    place = None if reference is None or reference.kind != "EDIT" else message_place(reference.message_id)
    row = None if place is None else state.places[place[0], place[2]]
    if row is not None:
        stream_rows.keys_of_written(state, row, more)


def check_reference(
    state: State,
    conversation: ConversationState,
    sender_id: str,
    reference: Reference,
    policy: Policy,
    at_ms: int,
) -> None:
    """Whether a member may say this of that entry.

    Raises:
        BadRequestError: It names no message of this conversation that the sender sees; or there are too many edits,
            reactions or pins.
        ForbiddenError: An EDIT of somebody else's, or of an open stream without `ends`; a PINNED where the sender's
            role does not allow it; or what is named was recalled.
        StreamEndedError: An EDIT with `ends` of what was recalled.
        EditWindowPassedError: An EDIT that comes too late.
    """
    row = _named(state, conversation, sender_id, reference)
    place = (conversation.key, row.seq)
    if reference.kind == "REPLY":
        return
    if place in state.recalled:
        if reference.ends:
            raise StreamEndedError("the message was recalled", reason="RECALLED")
        raise ForbiddenError("the message was recalled")
    if reference.kind == "EDIT":
        _check_edit(state, place, row, sender_id, reference, at_ms)
    elif reference.kind == "PINNED":
        _check_pin(state, conversation, row, sender_id, reference, policy)
    elif not reference.removed:
        _check_room(state, place, sender_id, reference.reaction)


def _named(state: State, conversation: ConversationState, sender_id: str, reference: Reference) -> MessageRow:
    """The entry, which must be a user's message that the sender sees."""
    place = message_place(reference.message_id)
    row = None
    if place is not None and place[0] == conversation.key and conversation.floor_seq < place[2]:
        row = state.places[place[0], place[2]]
    if (
        place is None
        or row is None
        or row.epoch != place[1]
        or row.kind != "USER"
        or row.seq != reference.seq
    ):
        raise _names_nothing()
    if not rules.sees(state.membership(conversation, sender_id).intervals, row.seq):
        raise _names_nothing()
    return row


def _names_nothing() -> BadRequestError:
    """The one answer for "does not exist" and "not yours to see"."""
    return BadRequestError("this names no message of the conversation that you see")


def _check_edit(
    state: State, place: Place, row: MessageRow, sender_id: str, reference: Reference, at_ms: int
) -> None:
    if row.sender_id != sender_id:
        raise ForbiddenError("only one's own messages can be edited")
    if state.streams[place] is not None:  # the first edit of a stream is its end, however long it took
        if not reference.ends:
            raise ForbiddenError("a stream is edited after its end: an EDIT with `ends` ends it")
        return
    if reference.ends and row.payload and not stream_rows.is_stream(row.payload):
        raise BadRequestError("`ends` is for streams")
    if (
        reference.window_ms is not None
        and at_ms - stream_rows.written_ms(state, row, at_ms) > reference.window_ms
    ):
        raise EditWindowPassedError("the message is too old to be edited")
    if len(state.edits[place]) >= EDITS_MAX:
        raise BadRequestError(f"a message can be edited {EDITS_MAX} times")


def _check_pin(
    state: State,
    conversation: ConversationState,
    row: MessageRow,
    sender_id: str,
    reference: Reference,
    policy: Policy,
) -> None:
    role = state.membership(conversation, sender_id).role
    rules.check_allowed(policy, role, "PIN_MESSAGES", None, conversation.type)
    pins = state.pins[conversation.key]
    if not reference.removed and row.seq not in pins and len(pins) >= PINS_MAX:
        raise BadRequestError(f"{PINS_MAX} messages are pinned here; unpin one first")


def _check_room(state: State, place: Place, sender_id: str, reaction: str) -> None:
    own = state.own_reactions[*place, sender_id]
    if reaction in own:
        return
    if len(own) >= OWN_REACTIONS_MAX:
        raise BadRequestError(f"a user can react {OWN_REACTIONS_MAX} times to one message")
    if state.reaction_counts[place] >= REACTIONS_MAX:
        raise BadRequestError(f"one message takes {REACTIONS_MAX} reactions")


def note_reference(state: State, key: int, sender_id: str, reference: Reference, seq: int) -> bool:
    """The entry at `seq` is stored: keep what it says of the one that it names, which was checked.

    Returns:
        Whether it changed anything: a reaction or a pin that is there already does not.
    """
    place = (key, reference.seq)
    if reference.kind == "EDIT":
        stream_rows.end(state, place)
        state.edits[place].append(seq)
        state.new_edits.append((*place, seq))
    elif reference.kind == "REACTION":
        own = state.own_reactions[*place, sender_id]
        is_there = reference.reaction in own
        if is_there != reference.removed:
            return False
        state.reaction_counts[place] += -1 if is_there else 1
        (own.discard if is_there else own.add)(reference.reaction)
        state.changed_reactions[*place, sender_id, reference.reaction] = None if is_there else seq
    elif reference.kind == "PINNED":
        pins = state.pins[key]
        if (reference.seq in pins) != reference.removed:
            return False  # what is pinned already stays where it is among the pins
        if reference.removed:
            del pins[reference.seq]
        else:
            pins[reference.seq] = seq
        state.changed_pins[place] = None if reference.removed else seq
    return True


def unpin_recalled(state: State, key: int, seq: int) -> None:
    """A recalled message is pinned no more; the stores take its row away themselves."""
    pins = state.pins.get(key)
    if pins is not None:
        pins.pop(seq, None)
