"""How a message reads now: its own payload, and what later entries said of it. Called by
`client.history` and `client.conversation_list`.

Pure: an entry as it is held, and the EDIT and REACTION entries that name it, to what an app shows. A page of the server
says how an entry stood at the head of that time; entries above that are put on top.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from ..types import Edit, Marks, Message, Reaction, StreamEnd, StreamProgress
from ..wire.payload import EVERYBODY
from .log.marks import REACTION_USERS_MAX


def named_seq(message: Message) -> int | None:
    """The seq that an EDIT or REACTION entry names; None for any other entry, and where it is not an earlier one."""
    if message.payload.get("type") not in ("EDIT", "REACTION"):
        return None
    seq = message.payload.get("seq")
    return seq if type(seq) is int and 0 < seq < message.seq else None


def mentioned_as(message: Message, user_id: str) -> str | None:
    """As whom a message, or an EDIT by what it puts in the place of one, mentions another user: by name or as `*`.

    Where everybody is mentioned nobody is by name, as in `core.log.mentions`; None where the user is not.
    """
    if message.sender_id == user_id:
        return None
    said = message.payload.get("payload") if message.type == "EDIT" else message.payload
    named = said.get("mentions") if isinstance(said, dict) else None
    if not isinstance(named, list):
        return None
    return EVERYBODY if EVERYBODY in named else user_id if user_id in named else None


def stream_end(said: object) -> StreamEnd | None:
    """What an EDIT says by `ends`: that it ends a stream, and how; None for anything else."""
    return "WHOLE" if said == "WHOLE" else "CUT_OFF" if said == "CUT_OFF" else None


def marked(messages: Iterable[Message], naming: Iterable[Message]) -> list[Message]:
    """The messages as they read now.

    Args:
        messages: As they are held.
        naming: EDIT and REACTION entries, in any order, each maybe more than once; what they name may be missing.
    """
    by_target: dict[int, dict[int, Message]] = {}
    for entry in naming:
        target = named_seq(entry)
        if target is not None:
            by_target.setdefault(target, {})[entry.seq] = entry
    return [_marked(message, by_target.get(message.seq)) for message in messages]


def _marked(message: Message, naming: dict[int, Message] | None) -> Message:
    if naming is None or message.type == "RECALLED":
        return message
    marks = message.marks or _unmarked(message)
    for seq in sorted(seq for seq in naming if seq > marks.as_of_seq):
        marks = _after(message, marks, naming[seq])
    return replace(message, marks=marks) if marks != message.marks else message


def _unmarked(message: Message) -> Marks:
    """What is known of an entry that came as it was written: a stream is open from there on."""
    if message.type != "STREAM":
        return Marks(0)
    text = message.payload.get("text")
    return Marks(0, stream=StreamProgress(0, text if isinstance(text, str) else ""))


def _after(message: Message, marks: Marks, entry: Message) -> Marks:
    """The marks after one more entry; one that no server lets through changes nothing but the place."""
    payload = entry.payload
    if payload["type"] == "EDIT":
        content = payload.get("payload")
        if entry.sender_id != message.sender_id or not isinstance(content, dict):
            return replace(marks, as_of_seq=entry.seq)
        edit = Edit(entry.seq, entry.server_ts, content, stream_end(payload.get("ends")))
        return Marks(entry.seq, edit, marks.reactions)
    reaction = payload.get("reaction")
    if not isinstance(reaction, str):
        return replace(marks, as_of_seq=entry.seq)
    reactions = _reacted(marks.reactions, reaction, entry.sender_id, removed=payload.get("removed") is True)
    return replace(marks, as_of_seq=entry.seq, reactions=reactions)


def _reacted(
    reactions: tuple[Reaction, ...], reaction: str, user_id: str, *, removed: bool
) -> tuple[Reaction, ...]:
    """Where more users react than are named, whether one of the others did is not known: it is taken to be news."""
    former = next((it for it in reactions if it.reaction == reaction), Reaction(reaction, 0, ()))
    is_named, all_named = user_id in former.user_ids, former.count == len(former.user_ids)
    if is_named != removed and (is_named or (removed and all_named)):
        return reactions
    users = former.user_ids
    if removed:
        users = tuple(it for it in users if it != user_id)
    elif len(users) < REACTION_USERS_MAX:
        users = (*users, user_id)
    now = Reaction(reaction, former.count + (-1 if removed else 1), users)
    if former.count == 0:
        return (*reactions, now)
    return tuple(
        now if it.reaction == reaction else it for it in reactions if it.reaction != reaction or now.count
    )
