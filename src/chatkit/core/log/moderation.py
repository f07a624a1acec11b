"""What happens to messages that a moderator saw or is to see: verdicts, reviews. For each command:
what it needs, and what it does.

A message under a key is in one place: in the log, or among the moderated ones, which are held or refused. What is held
of one sender in one conversation is a queue: its first message waits for a review, and what comes after it waits for
that one, so that the log gets them in the order in which they were sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from ...errors import (
    BadRequestError,
    ContentRefusedError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)
from . import blobs, rules, stream_rows
from .audit import AuditAction, note
from .commands import ModeratedAppend, Review
from .keys import Keys
from .meaning import check_meaning, keys_of_meaning, meaning_of, note_meaning
from .messages import add_entry, check_may_write, entry_of, repeat
from .messages import keys_of_append as keys_of_plain_append
from .outcomes import Appended, Entry, Held, Outcome, Refused, Reviewed
from .references import keys_of_edited
from .state import ConversationState, ModeratedRow, State

MAY_NOT_WRITE: Final = "the sender may not write here any more"
"""Why a held message is refused whose sender left, was blocked or was banned meanwhile."""


# --- a message with a verdict ---


def keys_of_append(keys: Keys, command: ModeratedAppend) -> None:
    """As of an Append; what became of the key at the moderator, and what else of the sender is held."""
    keys_of_plain_append(keys, command)
    keys.sent.add((command.conversation_id, command.sender_id, command.client_msg_id))
    keys.moderated.add((command.conversation_id, command.sender_id, command.client_msg_id))
    keys.holders.add(command.sender_id)
    _name_meaning(keys, command.conversation_id, command.sender_id, _payload(command))
    if command.blobs:
        blobs.keys_of_named(keys, command.sender_id, _payload(command))
    if command.verdict.kind != "UNASKED":
        keys.new_held += 1
    if command.verdict.kind == "HOLD":
        keys.holds = True


def keys_after_append(state: State, command: ModeratedAppend, more: Keys) -> None:
    """As of an Append."""
    keys_of_edited(state, _payload(command), more)


def append(state: State, command: ModeratedAppend) -> Outcome:
    """Give the answer that stands under the key, or do what the verdict says."""
    conversation = state.find(command.conversation_id)
    name = (command.conversation_id, command.sender_id, command.client_msg_id)
    known = state.sent[name]
    if known is not None:
        return repeat(state, conversation, command, known)
    kept = state.moderated.get(name)
    if kept is not None:
        rules.check_same_payload(command, kept.payload_mac)
        if kept.state == "REFUSED":
            return Refused(ContentRefusedError(kept.reason))
        return Held(True, command.verdict.bounds.retry_ms)
    check_may_write(state, conversation, command.sender_id, command.policy, command.at_ms)
    payload = _payload(command)
    meaning = meaning_of(payload, command.edit_window_ms)
    if meaning is not None:
        check_meaning(state, conversation, command.sender_id, meaning, command.policy, command.at_ms)
    if command.blobs and command.verdict.kind in ("ALLOW", "HOLD"):
        blobs.check_named(state, command, payload)
    place = (conversation.key, command.sender_id)
    if place in state.stopped:
        raise UnavailableError(
            "an earlier message was refused", retry_after_s=command.verdict.retry_ms / 1000
        )
    try:
        return _BY_VERDICT[command.verdict.kind](state, conversation, command)
    except RefusedError:  # for now: nothing that the sender sent there later goes before it
        state.stopped.add(place)
        raise


def _allow(state: State, conversation: ConversationState, command: ModeratedAppend) -> Outcome:
    if _queue(state, conversation, command.sender_id):
        return _hold(state, conversation, command, "READY")
    kept = (command.sender_id, command.client_msg_id, command.payload_mac, _payload(command))
    return Appended(_store(state, conversation, *kept, command.at_ms), False)


def _payload(command: ModeratedAppend) -> bytes:
    """What is to be stored."""
    return command.payload if command.verdict.payload is None else command.verdict.payload


def _review_first(state: State, conversation: ConversationState, command: ModeratedAppend) -> Outcome:
    return _hold(state, conversation, command, "REVIEW")


def _refuse(state: State, conversation: ConversationState, command: ModeratedAppend) -> Outcome:
    """The key keeps the refusal: a refusal that changes something."""
    _put(state, conversation, _row(state, conversation, command, "REFUSED")._replace(payload=b""))
    _end_refused(state, conversation, command.payload)
    return Refused(ContentRefusedError(command.verdict.reason))


def _no_verdict(state: State, conversation: ConversationState, command: ModeratedAppend) -> Outcome:
    raise UnavailableError("the moderator did not answer", retry_after_s=command.verdict.retry_ms / 1000)


_BY_VERDICT: Final[dict[str, Callable[[State, ConversationState, ModeratedAppend], Outcome]]] = {
    "ALLOW": _allow,
    "HOLD": _review_first,
    "REFUSE": _refuse,
    "UNASKED": _no_verdict,
}


def _hold(
    state: State,
    conversation: ConversationState,
    command: ModeratedAppend,
    held_as: Literal["REVIEW", "READY"],
) -> Held:
    bounds = command.verdict.bounds
    if len(state.held.get(command.sender_id, ())) >= bounds.per_user or state.held_total >= bounds.total:
        raise OverloadedError(
            "too many messages wait for review", retry_after_s=command.verdict.retry_ms / 1000
        )
    _put(state, conversation, _row(state, conversation, command, held_as))
    return Held(False, bounds.retry_ms)


def _row(
    state: State,
    conversation: ConversationState,
    command: ModeratedAppend,
    kept_as: Literal["REVIEW", "READY", "REFUSED"],
) -> ModeratedRow:
    verdict = command.verdict
    return ModeratedRow(
        state.new_held_ids.pop(0),
        conversation.key,
        command.sender_id,
        command.client_msg_id,
        kept_as,
        command.at_ms,
        verdict.reason,
        command.payload_mac,
        _payload(command),
    )


# --- a review ---


def keys_of_review(keys: Keys, command: Review) -> None:
    """What is held of the sender in the conversation, and whether they may still write there."""
    keys.conversations.add(command.conversation_id)
    keys.members.add((command.conversation_id, command.sender_id))
    keys.waiting.add((command.conversation_id, command.sender_id))
    keys.revocations.add((command.sender_id, "", b""))


def keys_after_review(state: State, command: Review, more: Keys) -> None:
    """What their keys have made already: a host may have sent under them without asking the moderator."""
    conversation = state.conversations[command.conversation_id]
    if conversation is not None:
        queue = _queue(state, conversation, command.sender_id)
        more.sent.update((command.conversation_id, command.sender_id, it.client_msg_id) for it in queue)
        for row in queue:
            payload = row.payload
            if row.held_id == command.held_id and command.payload is not None:
                payload = command.payload
            _name_meaning(more, command.conversation_id, command.sender_id, payload)
            blobs.keys_of_named(more, command.sender_id, payload)


def review(state: State, command: Review) -> Reviewed:
    """Decide about one message, and store what may follow."""
    conversation = state.find(command.conversation_id)
    row = next(
        (it for it in _queue(state, conversation, command.sender_id) if it.held_id == command.held_id), None
    )
    if row is None:
        raise NotFoundError("no such message is held")
    if row.state != "REVIEW":
        raise BadRequestError("this message waits for another one of its sender, not for a review")
    refused = []
    if _is_stored(state, conversation, row):
        _gone(state, conversation, row)
    elif command.release:
        payload = row.payload if command.payload is None else command.payload
        _put(state, conversation, row._replace(state="READY", payload=payload))
    else:
        refused.append(_refuse_held(state, conversation, row, command.reason))
    _audit_review(state, conversation, command)
    return _follow(state, conversation, command, refused)


def _follow(
    state: State, conversation: ConversationState, command: Review, refused: list[tuple[str, str]]
) -> Reviewed:
    """Store from the front of the queue what waits for nobody any more."""
    entries: list[Entry] = []
    may_write = _may_write(state, conversation, command)
    for row in _queue(state, conversation, command.sender_id):
        if row.state == "REVIEW":
            break
        if _is_stored(state, conversation, row):
            _gone(state, conversation, row)
        else:
            reason = _why_not(state, conversation, row, command) if may_write else MAY_NOT_WRITE
            if reason:
                refused.append(_refuse_held(state, conversation, row, reason))
                continue
            _gone(state, conversation, row)
            kept = (row.sender_id, row.client_msg_id, row.payload_mac, row.payload)
            entries.append(_store(state, conversation, *kept, command.at_ms))
    return Reviewed(tuple(entries), tuple(refused))


def _is_stored(state: State, conversation: ConversationState, row: ModeratedRow) -> bool:
    """Whether a host has sent under the key meanwhile: the log wins."""
    return state.sent.get((conversation.conversation_id, row.sender_id, row.client_msg_id)) is not None


def _may_write(state: State, conversation: ConversationState, command: Review) -> bool:
    banned = state.revocations[command.sender_id, "", b""].get("BANNED")
    if banned is not None and banned.holds:
        return False
    try:
        check_may_write(state, conversation, command.sender_id, command.policy, command.at_ms)
    except RefusedError:
        return False
    return True


def _audit_review(state: State, conversation: ConversationState, command: Review) -> None:
    action: AuditAction = "HELD_REFUSED"
    if command.release:
        action = "HELD_RELEASED" if command.payload is None else "HELD_REWRITTEN"
    note(state, conversation, command.at_ms, command.by, action, command.sender_id, held=str(command.held_id))


# --- the moderated messages of a batch ---


def _queue(state: State, conversation: ConversationState, sender_id: str) -> list[ModeratedRow]:
    """What is held of a sender in a conversation, in the order in which it was sent."""
    held = state.held.get(sender_id)
    if not held:
        return []
    return [held[number] for number in sorted(held) if held[number].conversation_key == conversation.key]


def _name_meaning(keys: Keys, conversation_id: str, sender_id: str, payload: bytes) -> None:
    meaning = meaning_of(payload)
    if meaning is not None:
        keys_of_meaning(keys, conversation_id, sender_id, meaning)


def _why_not(state: State, conversation: ConversationState, row: ModeratedRow, command: Review) -> str:
    """Why what was held may not be stored any more, say of a message that was recalled meanwhile; empty if it may.

    It was sent in time, however long it was held, and goes past the bound on open streams: nothing would bring it
    forward once there is room, and who is held has a bound of their own.
    """
    meaning = meaning_of(row.payload)
    try:
        if meaning is not None:
            check_meaning(state, conversation, row.sender_id, meaning, command.policy, command.at_ms)
    except RateLimitedError:
        return ""
    except RefusedError as error:
        return str(error)
    return ""


def _store(
    state: State,
    conversation: ConversationState,
    sender_id: str,
    client_msg_id: str,
    payload_mac: bytes,
    payload: bytes,
    at_ms: int,
) -> Entry:
    meaning = meaning_of(payload)
    kind: rules.Kind = "USER" if meaning is None else meaning.kind
    row = add_entry(state, conversation, kind, sender_id, payload, at_ms, client_msg_id, payload_mac)
    if meaning is not None:
        note_meaning(state, conversation, meaning, row)
    state.sent[conversation.conversation_id, sender_id, client_msg_id] = row
    blobs.refer(state, row, payload)
    return entry_of(conversation, row, payload)


def _put(state: State, conversation: ConversationState, row: ModeratedRow) -> None:
    """Keep a moderated message as it is now."""
    held = state.held.setdefault(row.sender_id, {})
    state.held_total -= held.pop(row.held_id, None) is not None
    if row.state != "REFUSED":
        held[row.held_id] = row
        state.held_total += 1
    state.moderated[conversation.conversation_id, row.sender_id, row.client_msg_id] = row
    state.changed_moderated[conversation.key, row.sender_id, row.client_msg_id] = row


def _gone(state: State, conversation: ConversationState, row: ModeratedRow) -> None:
    """It is in the log now: its key is known by that."""
    state.held_total -= state.held[row.sender_id].pop(row.held_id, None) is not None
    state.moderated.pop((conversation.conversation_id, row.sender_id, row.client_msg_id), None)
    state.changed_moderated[conversation.key, row.sender_id, row.client_msg_id] = None


def _refuse_held(
    state: State, conversation: ConversationState, row: ModeratedRow, reason: str
) -> tuple[str, str]:
    _put(state, conversation, row._replace(state="REFUSED", reason=reason, payload=b""))
    _end_refused(state, conversation, row.payload)
    return row.client_msg_id, reason


def _end_refused(state: State, conversation: ConversationState, payload: bytes) -> None:
    """What members were shown of a stream does not stay if its end was refused."""
    meaning = meaning_of(payload)
    if meaning is not None and meaning.reference is not None and meaning.reference.ends:
        stream_rows.end_refused(state, (conversation.key, meaning.reference.seq))
