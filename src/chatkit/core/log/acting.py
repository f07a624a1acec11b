"""Whoever acts on a conversation: what is loaded of them, and whether they may."""

from __future__ import annotations

from typing import Protocol

from ...types import Role
from ..policy import Action, Policy
from . import rules
from .keys import Keys
from .state import ConversationState, State


class Act(Protocol):
    """A command that somebody gives: a user by their role, or the host (None) by its own authority."""

    @property
    def by(self) -> str | None:
        """Who."""

    @property
    def policy(self) -> Policy:
        """What roles may do."""


def name_acting(keys: Keys, conversation_id: str, by: str | None) -> None:
    """The conversation, and the membership of who acts on it; the host needs none."""
    keys.conversations.add(conversation_id)
    if by is not None:
        keys.members.add((conversation_id, by))


def acted_on(state: State, conversation_id: str, by: str | None) -> ConversationState:
    """The conversation, for one of its members or for the host. Raises NotFoundError."""
    return state.find(conversation_id) if by is None else state.joined(conversation_id, by).conversation


def check_may(
    state: State, conversation: ConversationState, act: Act, action: Action, target: Role | None = None
) -> None:
    """Whether whoever acts may do this; the host may. Raises ForbiddenError."""
    if act.by is not None:
        role = state.membership(conversation, act.by).role
        rules.check_allowed(act.policy, role, action, target, conversation.type)
