"""Who may do what: the one place that knows roles.

A `Policy` is asked by `core.log` at the command's point of the log, after what was stored before has got its old
answer. It is asked about users only: the host (`by=None`) may do everything, and the audit says so. Leaving, and
recalling one's own message within the window, are nobody's to forbid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, Protocol, get_args

from ..errors import ConfigurationError
from ..types import ConversationType, Role

Action = Literal[
    "SEND_MESSAGES",
    "ADD_MEMBERS",
    "REMOVE_MEMBERS",
    "RECALL_MESSAGES",
    "SILENCE_MEMBERS",
    "BAN_MEMBERS",
    "CHANGE_ROLES",
    "CHANGE_TITLE",
    "PIN_MESSAGES",
    "MENTION_EVERYBODY",
    "CHANGE_HISTORY",
    "TRANSFER_OWNERSHIP",
]
"""What a policy decides. RECALL_MESSAGES: those of others, however old. CHANGE_TITLE: and the description.
MENTION_EVERYBODY: all with one word; users by name may be mentioned by who writes. CHANGE_ROLES is asked for the role
that a member has, and for the one that they are to have; also for whoever is added as something else than a MEMBER."""

RANKS: Final[Mapping[Role, int]] = {"OWNER": 0, "ADMIN": 1, "MEMBER": 2, "GUEST": 3}
"""From the top. An owner who goes is followed by a member of the best rank, of several by the one there for longest."""


class Policy(Protocol):
    """What each role may do. It must be quick, and answer alike on every node: it is asked inside a transaction."""

    def allows(
        self,
        role: Role,
        action: Action,
        *,
        target: Role | None = None,
        conversation_type: ConversationType = "GROUP",
    ) -> bool:
        """Whether a member may do something.

        Args:
            role: What the member is; in a SINGLE both are MEMBER.
            action: What they want to do.
            target: What the one is whom it is done to; None: nobody, or somebody who is no member now.
            conversation_type: Where.
        """


SINGLE_ACTIONS: Final[frozenset[Action]] = frozenset({"SEND_MESSAGES", "PIN_MESSAGES"})
"""What both members of a SINGLE may do where the host says nothing else."""


class RolePolicy:
    """A table: what each role may do in a GROUP, and whom of; and what both members of a SINGLE may do.

    Nobody may do anything to a member of their own rank or above. A role that is not in the table may do nothing.

    Args:
        group: Actions by role.
        single: Actions of both members of a SINGLE: SEND_MESSAGES, RECALL_MESSAGES, PIN_MESSAGES and
            MENTION_EVERYBODY; the others do nothing there.

    Raises:
        ConfigurationError: There is no such role or action.
    """

    def __init__(
        self,
        group: Mapping[Role, Collection[Action]] | None = None,
        single: Collection[Action] = SINGLE_ACTIONS,
    ) -> None:
        table = GROUP_ACTIONS if group is None else group
        _check(table, {action for actions in (*table.values(), single) for action in actions})
        self._group = {role: frozenset(actions) for role, actions in table.items()}
        self._single = frozenset(single)

    def allows(
        self,
        role: Role,
        action: Action,
        *,
        target: Role | None = None,
        conversation_type: ConversationType = "GROUP",
    ) -> bool:
        """As `Policy`."""
        if conversation_type == "SINGLE":
            return action in self._single
        if action not in self._group.get(role, ()):
            return False
        return target is None or RANKS[role] < RANKS[target]


GROUP_ACTIONS: Final[Mapping[Role, frozenset[Action]]] = {
    "OWNER": frozenset(get_args(Action)),
    "ADMIN": frozenset(
        {
            "SEND_MESSAGES",
            "ADD_MEMBERS",
            "REMOVE_MEMBERS",
            "RECALL_MESSAGES",
            "SILENCE_MEMBERS",
            "BAN_MEMBERS",
            "CHANGE_ROLES",
            "CHANGE_TITLE",
            "PIN_MESSAGES",
            "MENTION_EVERYBODY",
        }
    ),
    "MEMBER": frozenset({"SEND_MESSAGES"}),
    "GUEST": frozenset({"SEND_MESSAGES"}),
}
"""What each role may do in a GROUP where the host says nothing else."""


def _check(table: Mapping[Role, object], actions: Collection[str]) -> None:
    unknown = (set(table) - set(RANKS)) | (set(actions) - set(get_args(Action)))
    if unknown:
        raise ConfigurationError(f"no such role or action: {', '.join(sorted(map(repr, unknown)))}")


DEFAULT_POLICY: Final[Policy] = RolePolicy()
"""Owner and admins run a group; everybody writes."""
