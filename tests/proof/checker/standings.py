"""What members were before each entry of a log: owner, roles, silence and bans, from its own entries and the audit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from chatkit.storage.base import AuditRow, Entry

from .log_view import LogView

ENTRY_ACTIONS: Final = ("CREATED", "ADDED", "REMOVED", "LEFT", "RECALLED")
"""What the audit says that the log says too, beside who follows an owner."""

RANKS: Final = ("OWNER", "ADMIN", "MEMBER", "GUEST")


class Standing(msgspec.Struct, frozen=True):
    """What everybody was at one place."""

    owner: str
    roles: dict[str, str]
    silenced: dict[str, int]
    banned: frozenset[str]

    def role(self, user_id: str) -> str | None:
        """What a member was; None for who was none."""
        if user_id not in self.roles:
            return None
        return "OWNER" if user_id == self.owner else self.roles[user_id]

    def runs(self, user_id: str, others: Iterable[str]) -> bool:
        """Whether a user was owner or admin, and above all of these; who was no member has no rank."""
        role = self.role(user_id)
        targets = [self.role(it) for it in others]
        return role in ("OWNER", "ADMIN") and all(
            it is None or RANKS.index(role) < RANKS.index(it) for it in targets
        )


class Standings:
    """The standings of one log. Who follows an owner is of the best role, of several the one who was there for longest.

    Transfers, roles, silence and bans leave no entry and are taken from the audit.

    Attributes:
        before: What everybody was before each entry.
        successors: Who became the owner with an entry, by its seq.
        by_host: The seqs of entries of which the audit names no actor.
    """

    def __init__(self, log: LogView) -> None:
        self.before: dict[int, Standing] = {}
        self.successors: dict[int, str] = {}
        acts: dict[int, list[AuditRow]] = {}
        for told in log.dump.audit:
            acts.setdefault(told.seq, []).append(told)
        self.by_host = {row.seq for row in log.dump.audit if not row.actor_id and row.action in ENTRY_ACTIONS}
        self._log = log
        self._owner = log.rows[1].sender_id if 1 in log.rows else ""
        self._roles: dict[str, str] = {}
        self._joined: dict[str, int] = {}
        self._silenced: dict[str, int] = {}
        self._banned: frozenset[str] = frozenset()
        for row in log.dump.entries:
            self.before[row.seq] = Standing(
                self._owner, dict(self._roles), dict(self._silenced), self._banned
            )
            self._enter(row)
            for told in acts.get(row.seq, ()):
                self._act(told)

    def may_recall(self, recall: Entry, target: Entry) -> bool:
        """Whether who stands for a recall may have made it."""
        if recall.sender_id == target.sender_id or recall.seq in self.by_host:
            return True
        return self.before[recall.seq].runs(recall.sender_id, [target.sender_id])

    def _enter(self, row: Entry) -> None:
        """Take what a MEMBER entry says."""
        payload = self._log.made.get(row.seq, {})
        if payload.get("type") != "MEMBER" or not isinstance(payload.get("userIds"), list):
            return
        for user_id in payload["userIds"]:
            if payload.get("op") in ("CREATED", "ADDED"):
                self._roles.setdefault(user_id, "MEMBER")
                self._joined.setdefault(user_id, row.seq)
            else:
                self._roles.pop(user_id, None)
                self._joined.pop(user_id, None)
        if self._roles and self._owner not in self._roles:
            self._owner = self.successors[row.seq] = min(
                self._roles, key=lambda it: (RANKS.index(self._roles[it]), self._joined[it], it)
            )

    def _act(self, told: AuditRow) -> None:
        """Take what the audit says beside the log."""
        match told.action:
            case "OWNER_CHANGED":
                self._owner = told.subject
            case "ROLE_CHANGED":
                self._roles[told.subject] = told.detail["role"]
            case "SILENCED":
                self._silenced[told.subject] = int(told.detail["until_ms"])
            case "UNSILENCED":
                self._silenced.pop(told.subject, None)
            case "MEMBER_BANNED":
                self._banned |= {told.subject}
            case "MEMBER_UNBANNED":
                self._banned -= {told.subject}
