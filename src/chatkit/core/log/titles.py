"""What a group is called and what it is for: TITLE entries, each of which says what changed.

The entry is one of a user like any other; the title and the description as they are now stand beside the log, for
lists. Called by `meaning` and `members`. Why it is so: docs/design/0034-mentions-pins-titles.md.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from ..policy import Policy
from . import rules
from .audit import AuditAction
from .state import ConversationState, State


class Titled(msgspec.Struct, frozen=True, gc=False):
    """What a TITLE entry says; UNSET leaves it."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET


class _Typed(msgspec.Struct):
    type: str


_decode_type = msgspec.json.Decoder(_Typed).decode
_decode = msgspec.json.Decoder(Titled).decode


def titled_by(payload: bytes) -> Titled | None:
    """What a checked payload says of title and description; None for nearly all."""
    if b'"TITLE"' not in payload or _decode_type(payload).type != "TITLE":
        return None
    return _decode(payload)


def is_news(state: State, conversation: ConversationState, titled: Titled) -> bool:
    """Whether anything of it is another than it is now."""
    description = state.descriptions.get(conversation.key, "")
    return titled.title not in (UNSET, conversation.title) or titled.description not in (UNSET, description)


def check_titled(state: State, conversation: ConversationState, user_id: str, policy: Policy) -> None:
    """Whether a member may give a group another title or description. Raises ForbiddenError."""
    rules.check_is_group(conversation.type)
    role = state.membership(conversation, user_id).role
    rules.check_allowed(policy, role, "CHANGE_TITLE", None, conversation.type)


def note_titled(
    state: State, conversation: ConversationState, titled: Titled
) -> list[tuple[AuditAction, str]]:
    """The entry is stored: keep what it says, which was checked. Returns what is another than before."""
    changed: list[tuple[AuditAction, str]] = []
    if isinstance(titled.title, str) and titled.title != conversation.title:
        conversation.title = titled.title
        conversation.changed = True
        changed.append(("TITLE_CHANGED", titled.title))
    if isinstance(titled.description, str):
        key = conversation.key
        if titled.description != state.descriptions.get(key, ""):
            changed.append(("DESCRIPTION_CHANGED", titled.description))
        state.descriptions[key] = state.changed_descriptions[key] = titled.description
    return changed
