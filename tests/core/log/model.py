"""What a log must answer, by the checker's own arithmetic: who is a member, who sees what, where cursors rest.

Nothing of `core.log` is used but the structs of commands and outcomes. The model keeps the entries that the outcomes
showed and asks the checker about them; so it is as independent of the code under test as the checker is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from chatkit.core.log import commands as c
from chatkit.core.log import outcomes as o
from tests.proof.checker.log_view import LogView
from tests.proof.dumps import LogDump

TOMBSTONE = b'{"type":"RECALLED"}'
Device = tuple[int, frozenset[int]]
"""A cursor, and the single confirmations above it."""


_ADMINS = {"ADD", "REMOVE", "RECALL", "SILENCE", "BAN", "ROLE", "TITLE"}
_TABLE = {"OWNER": _ADMINS | {"HISTORY", "OWNER"}, "ADMIN": _ADMINS, "MEMBER": set(), "GUEST": set()}
"""What each role may do beyond writing."""


class Log:
    """One conversation: its entries, and how far everybody has got."""

    def __init__(self, key: int, command: c.CreateConversation) -> None:
        self.key = key
        self.made_by = command
        self.epoch = command.epoch
        self.entries: list[o.Entry] = []
        self.audit: list[tuple[str, str, int, str]] = []
        self.delivered: dict[str, int] = {}
        self.read: dict[str, int] = {}
        self.devices: dict[str, dict[str, Device]] = {}
        self.closed_seq = 0
        self.muted: dict[str, tuple[int, bool]] = {}
        self.title, self.description = command.title, ""
        self.mentions: set[tuple[str, int]] = set()
        self.pins: dict[int, int] = {}
        self.owner = command.creator_id
        self.history = command.history if command.type == "GROUP" else "FROM_JOIN"
        self.granted: dict[str, str] = {}
        self.silenced: dict[str, int] = {}
        self.banned: dict[str, tuple[str, int]] = {}
        self.reads_from: dict[str, list[int]] = {}
        self.kinds: dict[int, str] = {}  # of entries of users that are no messages
        self.edits: dict[int, list[int]] = {}
        self.reactions: dict[int, dict[tuple[str, str], int]] = {}
        self._view: LogView | None = None

    @property
    def head(self) -> int:
        return len(self.entries)

    @property
    def view(self) -> LogView:
        """As the checker sees it now."""
        if self._view is None:
            dump = LogDump(self.made_by.conversation_id, self.epoch, self.head, list(self.entries), [], [])
            self._view = LogView(dump)
        return self._view

    def add(self, entry: o.Entry) -> None:
        assert entry.seq == self.head + 1
        assert (entry.epoch, entry.conversation_id) == (self.epoch, self.made_by.conversation_id)
        assert entry.message_id == o.message_id(self.key, self.epoch, entry.seq)
        self.entries.append(entry)
        self._view = None

    def blank(self, seq: int) -> None:
        self.entries[seq - 1] = replace(self.entries[seq - 1], payload=TOMBSTONE)
        self._view = None

    def members(self) -> list[str]:
        return sorted(self.view.members())

    def is_member(self, user: str) -> bool:
        return self.view.current_stay(user) is not None

    def sees(self, user: str, seq: int) -> bool:
        """Whether a member may read an entry: of any of their stays, or of the past that it opened."""
        stays = zip(self.view.stays.get(user, []), self.reads_from.get(user, []), strict=True)
        return self.is_member(user) and any(
            first <= seq and (stay.ended_seq is None or seq < stay.ended_seq) for stay, first in stays
        )

    def role(self, user: str) -> str:
        if self.made_by.type == "SINGLE":
            return "MEMBER"
        return "OWNER" if user == self.owner else self.granted[user]

    def may(self, by: str | None, action: str, target: str | None = None) -> bool:
        """Whether who acts may do it, to somebody of a role: the table of the page docs/roles.md."""
        if by is None:
            return True
        role = self.role(by)
        ranks = ["OWNER", "ADMIN", "MEMBER", "GUEST"]
        outranks = target is None or ranks.index(role) < ranks.index(target)
        return action in _TABLE[role] and outranks

    def role_of(self, user: str) -> str | None:
        """What a member is; None for who is none."""
        return self.role(user) if self.is_member(user) else None

    def recall_of(self, seq: int) -> o.Entry | None:
        return self.view.recalls.get(seq)

    def rest(self, user: str, cursor: int, exact: frozenset[int] = frozenset()) -> Device:
        """Where a cursor comes to rest, and which single confirmations stay above it."""
        cursor = self.view.skip_hidden(user, cursor)
        while cursor + 1 in exact:
            cursor = self.view.skip_hidden(user, cursor + 1)
        return cursor, frozenset(seq for seq in exact if seq > cursor)

    def authors(self, user: str, after: int, up_to: int) -> tuple[str, ...]:
        if after >= up_to:
            return ()
        if self.made_by.type == "SINGLE":
            return tuple(it for it in self.members() if it != user)
        seen = self.view.visible_seqs(user, after, up_to)
        return tuple(sorted({self.entries[seq - 1].sender_id for seq in seen} - {user}))

    def close(self) -> None:
        """Everything that every device of every member has confirmed, or need not have, leaves the outbox."""
        least = self.head
        for user in self.members():
            stay = self.view.current_stay(user)
            assert stay is not None
            cursors = [cursor for cursor, _ in self.devices.get(user, {}).values()]
            least = min(least, max(stay.first_seq - 1, min(cursors, default=0)))
        self.closed_seq = max(self.closed_seq, least)

    def describe(self) -> o.Conversation:
        made, members = self.made_by, self.members()
        return o.Conversation(
            made.conversation_id,
            made.type,
            self.title,
            self.epoch,
            self.head,
            len(members),
            tuple(members),
            self.history,
            self.description,
        )


class Model:
    """Judges the outcomes of commands, one after the other."""

    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}
        self._sent: dict[tuple[str, str, str], tuple[int, bytes]] = {}
        self._devices: dict[str, set[str]] = {}
        self.blocks: set[tuple[str, str]] = set()
        self.reached: dict[tuple[str, str], str] = {}
        self._tokens: dict[tuple[str, str], tuple[bytes, int, int | None, str]] = {}
        self._banned: set[str] = set()
        self._revoked = 0
        self._judges: dict[type, Callable[[Any, Any], str | None]] = {
            c.Append: self._append,
            c.Recall: self._recall,
            c.AdvanceDelivered: self._advance_delivered,
            c.ConfirmMessage: self._confirm_message,
            c.AdvanceRead: self._advance_read,
            c.Mute: self._mute,
            c.RegisterPush: self._register_push,
            c.UnregisterPush: self._unregister_push,
            c.CreateConversation: self._create_conversation,
            c.AddMembers: self._add_members,
            c.RemoveMember: self._remove_member,
            c.UpdateConversation: self._update_conversation,
            c.SetRole: self._set_role,
            c.SilenceMember: self._silence_member,
            c.BanMember: self._ban_member,
            c.UnbanMember: self._unban_member,
            c.BlockUser: self._block_user,
            c.UnblockUser: self._unblock_user,
            c.RenewEpoch: self._renew_epoch,
            c.OpenSession: self._open_session,
            c.ResumeSession: self._resume_session,
            c.RenewLogin: self._renew_login,
            c.SeeDevices: self._see_devices,
            c.Revoke: self._revoke,
        }

    def judge(self, command: c.Command, outcome: o.Outcome) -> None:
        """Fail unless this is what the command must have brought; then take it over."""
        code = outcome.error.code if isinstance(outcome, o.Refused) else None
        expected = self._judges[type(command)](command, outcome)
        assert code == expected, (command, outcome)
        for log in self.logs.values():
            log.close()

    def outbox(self) -> dict[str, tuple[int, int]]:
        """(first, last) of what is to be delivered, by conversation."""
        return {
            name: (log.closed_seq + 1, log.head)
            for name, log in self.logs.items()
            if log.closed_seq < log.head
        }

    def _find(self, message_id: str) -> tuple[Log, o.Entry] | None:
        for log in self.logs.values():
            for entry in log.entries:
                if entry.message_id == message_id:
                    return log, entry
        return None

    # --- messages ---

    def _append(self, command: c.Append, outcome: Any) -> str | None:
        log = self.logs.get(command.conversation_id)
        if log is None:
            return "NOT_FOUND"
        key = (command.conversation_id, command.sender_id, command.client_msg_id)
        if key in self._sent:
            seq, mac = self._sent[key]
            if mac != command.payload_mac:
                return "CONFLICT"
            first = log.entries[seq - 1]
            old = replace(first, epoch=first.message_id.split("-")[1])
            assert outcome == o.Appended(old, True)
            return None
        if not log.is_member(command.sender_id):
            return "NOT_FOUND"
        if command.at_ms < log.silenced.get(command.sender_id, 0):
            assert outcome.error.reason == "SILENCED"
            return "FORBIDDEN"
        if log.made_by.type == "SINGLE" and self._is_blocked(command.sender_id, log.members()):
            return "FORBIDDEN"
        said = msgspec.json.decode(command.payload)
        refusal = self._refers(log, command, said)
        if refusal is not None:
            return refusal
        assert not outcome.repeat
        self._check_entry(outcome.entry, command.sender_id, command.at_ms, command.client_msg_id)
        assert outcome.entry.payload == command.payload
        log.add(outcome.entry)
        self._sent[key] = (log.head, command.payload_mac)
        if said["type"] != "TEXT":
            log.kinds[log.head] = said["type"]
        self._mention(log, command.sender_id, said)
        if said["type"] == "TITLE":
            self._retitle(log, command.sender_id, said)
        elif said["type"] == "PINNED":
            if said["pinned"] != (said["seq"] in log.pins):
                action = "PINNED" if said["pinned"] else "UNPINNED"
                log.audit.append((action, command.sender_id, log.head, said["messageId"]))
            if said["pinned"]:
                log.pins.setdefault(said["seq"], log.head)
            else:
                log.pins.pop(said["seq"], None)
        elif said["type"] == "EDIT":
            log.edits.setdefault(said["seq"], []).append(log.head)
        elif said["type"] == "REACTION":
            there, place = log.reactions.setdefault(said["seq"], {}), (command.sender_id, said["reaction"])
            if said["removed"]:
                there.pop(place, None)
            else:
                there.setdefault(place, log.head)
        return None

    def _mention(self, log: Log, sender: str, said: dict[str, Any]) -> None:
        """Whom the entry at the head mentions of the members, besides its sender and those mentioned before."""
        mentions = set((said["payload"] if said["type"] == "EDIT" else said).get("mentions", ()))
        named = {"*"} if "*" in mentions else {it for it in mentions if log.is_member(it)} - {sender}
        if said["type"] == "EDIT":
            named -= self._mentioned(log, said["seq"])
        log.mentions |= {(user, log.head) for user in named}

    def _mentioned(self, log: Log, seq: int) -> set[str]:
        """Whom a message and its edits mention."""
        return {user for user, at in log.mentions if at in (seq, *log.edits.get(seq, ()))}

    def _retitle(self, log: Log, by: str, said: dict[str, Any]) -> None:
        for name, action in (("title", "TITLE_CHANGED"), ("description", "DESCRIPTION_CHANGED")):
            if name in said and said[name] != getattr(log, name):
                log.audit.append((action, by, log.head, said[name]))
                setattr(log, name, said[name])

    def _refers(self, log: Log, command: c.Append, said: dict[str, Any]) -> str | None:
        """Why a message may not say this; None if it may."""
        refusal = self._names(log, command, said)
        if refusal is not None:
            return refusal
        is_group = log.made_by.type == "GROUP"
        if said["type"] == "TITLE" and not (is_group and log.may(command.sender_id, "TITLE")):
            return "FORBIDDEN"
        mentions = (said["payload"] if said["type"] == "EDIT" else said).get("mentions", ())
        before = self._mentioned(log, said["seq"]) if said["type"] == "EDIT" else set()
        if "*" in mentions and "*" not in before and not (is_group and log.may(command.sender_id, "TITLE")):
            return "FORBIDDEN"
        return None

    def _names(self, log: Log, command: c.Append, said: dict[str, Any]) -> str | None:
        """Why a message may not say this of an earlier one; None if it names none, or may."""
        named = said if "messageId" in said else said.get("replyTo")
        if named is None:
            return None
        found = self._find(named["messageId"])
        if found is None or found[0] is not log or not log.sees(command.sender_id, found[1].seq):
            return "BAD_REQUEST"
        target = found[1]
        if target.client_msg_id is None or target.seq in log.kinds:
            return "BAD_REQUEST"
        if said["type"] == "TEXT":
            return None
        if log.recall_of(target.seq) is not None:
            return "FORBIDDEN"
        if said["type"] == "PINNED":
            is_single = log.made_by.type == "SINGLE"
            return None if is_single or log.may(command.sender_id, "TITLE") else "FORBIDDEN"
        if said["type"] == "EDIT":
            if target.sender_id != command.sender_id:
                return "FORBIDDEN"
            if command.at_ms - target.server_ts > 60:
                return "EDIT_WINDOW_PASSED"
        return None

    def _check_entry(self, entry: o.Entry, sender: str, at_ms: int, client_msg_id: str | None) -> None:
        assert (entry.sender_id, entry.server_ts, entry.client_msg_id) == (sender, at_ms, client_msg_id)

    def _recall(self, command: c.Recall, outcome: Any) -> str | None:
        found = self._find(command.message_id)
        if found is None:
            return "NOT_FOUND"
        (log, target), by = found, command.by
        recalled = log.recall_of(target.seq)
        if recalled is not None and by in (target.sender_id, recalled.sender_id):
            assert outcome == o.Recalled(recalled, True)
            return None
        if by is not None and not log.sees(by, target.seq):
            return "NOT_FOUND"
        if target.client_msg_id is None or target.seq in log.kinds:
            return "FORBIDDEN"
        if target.sender_id == by:
            if command.at_ms - target.server_ts > command.window_ms:
                return "RECALL_WINDOW_PASSED"
        elif log.made_by.type == "SINGLE":
            if by is not None:
                return "FORBIDDEN"
        elif not log.may(by, "RECALL", log.role_of(target.sender_id)):
            return "FORBIDDEN"
        if recalled is not None:
            assert outcome == o.Recalled(recalled, True)
            return None
        sender = by or (target.sender_id if log.is_member(target.sender_id) else log.owner)
        assert not outcome.repeat
        self._check_entry(outcome.entry, sender, command.at_ms, None)
        body = {"type": "RECALL", "messageId": command.message_id, "seq": target.seq, "by": sender}
        edits = log.edits.get(target.seq, [])
        if edits:
            body["edits"] = edits
        assert msgspec.json.decode(outcome.entry.payload) == body
        log.add(outcome.entry)
        for seq in (target.seq, *edits):
            log.blank(seq)
        log.reactions.pop(target.seq, None)
        log.pins.pop(target.seq, None)
        log.mentions = {it for it in log.mentions if it[1] not in (target.seq, *edits)}
        log.audit.append(("RECALLED", by or "", log.head, command.message_id))
        return None

    # --- cursors ---

    def _advance_delivered(self, command: c.AdvanceDelivered, outcome: Any) -> str | None:
        log = self.logs.get(command.conversation_id)
        if log is None or not log.is_member(command.user_id):
            return "NOT_FOUND"
        if not 0 <= command.up_to_seq <= log.head:
            return "BAD_REQUEST"
        self._register(command.user_id, command.device_id)
        cursor, exact = log.devices[command.user_id][command.device_id]
        if command.up_to_seq > cursor:
            moved = log.rest(command.user_id, command.up_to_seq, exact)
            log.devices[command.user_id][command.device_id] = moved
        self._check_delivered(log, command, outcome)
        return None

    def _confirm_message(self, command: c.ConfirmMessage, outcome: Any) -> str | None:
        found = self._find(command.message_id)
        if found is None or not found[0].sees(command.user_id, found[1].seq):
            return "NOT_FOUND"
        log, target = found
        if command.conversation_id not in (None, log.made_by.conversation_id):
            return "BAD_REQUEST"
        self._register(command.user_id, command.device_id)
        devices = log.devices[command.user_id]
        cursor, exact = devices[command.device_id]
        if target.seq > cursor and log.view.visible(command.user_id, target.seq):
            moved = log.rest(command.user_id, cursor, exact | {target.seq})
            devices[command.device_id] = (cursor, moved[1]) if target.seq in moved[1] else moved
        self._check_delivered(log, command, outcome)
        return None

    def _check_delivered(self, log: Log, command: Any, outcome: Any) -> None:
        user = command.user_id
        before = log.delivered[user]
        log.delivered[user] = max(before, log.devices[user][command.device_id][0])
        self._check_advanced(log, user, command.device_id, before, log.delivered[user], outcome)

    def _advance_read(self, command: c.AdvanceRead, outcome: Any) -> str | None:
        log, user = self.logs.get(command.conversation_id), command.user_id
        if log is None or not log.is_member(user):
            return "NOT_FOUND"
        if not 0 <= command.up_to_seq <= log.head:
            return "BAD_REQUEST"
        before = log.read[user]
        if command.up_to_seq > before:
            log.read[user] = log.view.skip_hidden(user, command.up_to_seq)
            log.delivered[user] = max(log.delivered[user], log.read[user])
        self._check_advanced(log, user, None, before, log.read[user], outcome)
        return None

    def _check_advanced(
        self, log: Log, user: str, device: str | None, before: int, after: int, outcome: Any
    ) -> None:
        assert outcome == o.Advanced(
            log.made_by.conversation_id,
            user,
            device,
            log.delivered[user],
            log.read[user],
            after > before,
            log.authors(user, before, after),
            len(log.members()),
        )

    # --- members ---

    def _create_conversation(self, command: c.CreateConversation, outcome: Any) -> str | None:
        users = sorted({*command.member_ids, command.creator_id})
        if command.type == "SINGLE" and len(users) != 2:
            return "BAD_REQUEST"
        existing = self._meant(command, users)
        if existing == "CONFLICT":
            return existing
        if isinstance(existing, Log):
            assert outcome == o.Created(existing.describe(), False, None, ())
            return None
        if command.type == "SINGLE" and command.title:
            return "BAD_REQUEST"
        if not command.by_host and self._is_blocked(command.creator_id, users):
            return "FORBIDDEN"
        log = self.logs[command.conversation_id] = Log(len(self.logs) + 1, command)
        self._check_entry(outcome.entry, command.creator_id, command.at_ms, None)
        self._check_member_entry(outcome.entry, "CREATED", users)
        log.add(outcome.entry)
        for user in users:
            self._join(log, user, "MEMBER")
        log.audit.append(("CREATED", command.creator_id, 1, command.conversation_id))
        assert outcome == o.Created(log.describe(), True, outcome.entry, tuple(users))
        return None

    def _meant(self, command: c.CreateConversation, users: Sequence[str]) -> Log | str | None:
        if command.type == "SINGLE":
            for log in self.logs.values():
                if log.made_by.type == "SINGLE" and log.members() == users:
                    return log
        found = self.logs.get(command.conversation_id)
        if found is None:
            return None
        same = command.type == found.made_by.type == "GROUP" and found.members() == users
        return found if same else "CONFLICT"

    def _check_member_entry(self, entry: o.Entry, op: str, users: Sequence[str]) -> None:
        assert msgspec.json.decode(entry.payload) == {"type": "MEMBER", "op": op, "userIds": list(users)}

    def _join(self, log: Log, user: str, role: str) -> None:
        """Cursors go on from where they were, and never hold what the user does not see."""
        log.granted[user] = role
        *before, _ = log.view.stays[user]
        opened = (before[-1].ended_seq if before else 1) if log.history == "FROM_START" else log.head
        log.reads_from.setdefault(user, []).append(opened or 1)
        start = log.view.skip_hidden(user, 0)
        log.delivered[user] = log.view.skip_hidden(user, log.delivered.get(user, start))
        log.read[user] = log.view.skip_hidden(user, log.read.get(user, start))
        devices = log.devices.setdefault(user, {})
        for name, (cursor, exact) in devices.items():
            devices[name] = (log.view.skip_hidden(user, cursor), exact)
        for name in sorted(self._devices.get(user, ())):
            self._begin_device(log, user, name)

    def _begin_device(self, log: Log, user: str, name: str) -> None:
        devices = log.devices.setdefault(user, {})
        farthest = max((cursor for cursor, _ in devices.values()), default=log.view.skip_hidden(user, 0))
        devices.setdefault(name, (farthest, frozenset()))

    def _register(self, user: str, name: str) -> None:
        if name not in self._devices.setdefault(user, set()):
            self._devices[user].add(name)
            for log in self.logs.values():
                if log.is_member(user):
                    self._begin_device(log, user, name)

    def _is_blocked(self, user: str, others: Sequence[str]) -> bool:
        return any((other, user) in self.blocks for other in others)

    def _acted_on(self, conversation_id: str, by: str | None, members: Sequence[str] = ()) -> Log | str:
        """The group that is to be changed, or the code of the refusal; `members` must be in it."""
        log = self.logs.get(conversation_id)
        if log is None or not all(log.is_member(it) for it in (*members, *([by] if by else ()))):
            return "NOT_FOUND"
        return log

    def _change_owner(self, log: Log, by: str | None, owner: str | None) -> str | None:
        """Returns the owner if it is another one."""
        if owner in (None, log.owner):
            return None
        assert owner is not None
        log.owner = owner
        log.audit.append(("OWNER_CHANGED", by or "", log.head, owner))
        return owner

    def _left_by_choice(self, log: Log, user: str) -> bool:
        """What the log's own entries say of the last time that the user went."""
        stays = log.view.stays.get(user, [])
        ended = stays[-1].ended_seq if stays else None
        return ended is not None and msgspec.json.decode(log.entries[ended - 1].payload)["op"] == "LEFT"

    def _add_members(self, command: c.AddMembers, outcome: Any) -> str | None:
        log = self._acted_on(command.conversation_id, command.by)
        if isinstance(log, str):
            return log
        if log.made_by.type == "SINGLE" or not log.may(command.by, "ADD"):
            return "FORBIDDEN"
        if command.role != "MEMBER" and not log.may(command.by, "ROLE", command.role):
            return "FORBIDDEN"
        added = sorted(user for user in set(command.user_ids) if not log.is_member(user))
        if len(log.members()) + len(added) > command.members_max:
            return "BAD_REQUEST"
        if command.by is not None:
            may_come = command.readd_after_leaving or not any(self._left_by_choice(log, it) for it in added)
            if not may_come or self._is_blocked(command.by, added) or log.banned.keys() & set(added):
                return "FORBIDDEN"
        owner = None
        if added:
            owner = None if log.members() else added[0]
            self._check_entry(outcome.entry, command.by or owner or log.owner, command.at_ms, None)
            self._check_member_entry(outcome.entry, "ADDED", added)
            log.add(outcome.entry)
            for user in added:
                self._join(log, user, command.role)
                log.audit.append(("ADDED", command.by or "", log.head, user))
                if command.role != "MEMBER":
                    log.audit.append(("ROLE_CHANGED", command.by or "", log.head, user))
                if log.banned.pop(user, None) is not None:
                    log.audit.append(("MEMBER_UNBANNED", command.by or "", log.head, user))
            self._change_owner(log, command.by, owner)
        assert outcome == o.MembersChanged(log.describe(), tuple(added), (), outcome.entry, owner)
        assert (outcome.entry is None) == (not added)
        return None

    def _remove_member(self, command: c.RemoveMember, outcome: Any) -> str | None:
        log = self._acted_on(command.conversation_id, command.by, [command.user_id])
        if isinstance(log, str):
            return log
        if log.made_by.type == "SINGLE":
            return "FORBIDDEN"
        if command.by != command.user_id and not log.may(command.by, "REMOVE", log.role(command.user_id)):
            return "FORBIDDEN"
        self._remove(log, command, outcome)
        return None

    def _remove(self, log: Log, command: c.RemoveMember | c.BanMember, outcome: Any) -> None:
        log.muted.pop(command.user_id, None)
        op = "LEFT" if command.by == command.user_id else "REMOVED"
        left = [it for it in log.members() if it != command.user_id]
        owner = None
        if command.user_id == log.owner and left:
            ranks = ["ADMIN", "MEMBER", "GUEST"]
            owner = min(
                left, key=lambda it: (ranks.index(log.granted[it]), log.view.stays[it][-1].first_seq, it)
            )
        self._check_entry(outcome.entry, command.by or owner or log.owner, command.at_ms, None)
        self._check_member_entry(outcome.entry, op, [command.user_id])
        log.add(outcome.entry)
        log.audit.append((op, command.by or "", log.head, command.user_id))
        self._change_owner(log, command.by, owner)
        assert outcome == o.MembersChanged(log.describe(), (), (command.user_id,), outcome.entry, owner)

    def _ban_member(self, command: c.BanMember, outcome: Any) -> str | None:
        log = self._acted_on(command.conversation_id, command.by)
        if isinstance(log, str):
            return log
        if log.made_by.type == "SINGLE" or not log.may(command.by, "BAN", log.role_of(command.user_id)):
            return "FORBIDDEN"
        if command.user_id not in log.banned:
            log.banned[command.user_id] = (command.by or "", command.at_ms)
            log.audit.append(("MEMBER_BANNED", command.by or "", log.head, command.user_id))
        if log.is_member(command.user_id):
            self._remove(log, command, outcome)
        else:
            assert outcome == o.MembersChanged(log.describe(), (), (), None)
        return None

    def _unban_member(self, command: c.UnbanMember, outcome: Any) -> str | None:
        log = self._acted_on(command.conversation_id, command.by)
        if isinstance(log, str):
            return log
        if log.made_by.type == "SINGLE" or not log.may(command.by, "BAN"):
            return "FORBIDDEN"
        if log.banned.pop(command.user_id, None) is not None:
            log.audit.append(("MEMBER_UNBANNED", command.by or "", log.head, command.user_id))
        assert outcome == o.MembersChanged(log.describe(), (), (), None)
        return None

    def _set_role(self, command: c.SetRole, outcome: Any) -> str | None:
        log = self._acted_on(command.conversation_id, command.by)
        if isinstance(log, str):
            return log
        if log.made_by.type == "SINGLE":
            return "FORBIDDEN"
        if not log.is_member(command.user_id):
            return "NOT_FOUND"
        role = log.role(command.user_id)
        if role != command.role:
            may = log.may(command.by, "ROLE", role) and log.may(command.by, "ROLE", command.role)
            if not may or role == "OWNER":
                return "FORBIDDEN"
            log.granted[command.user_id] = command.role
            log.audit.append(("ROLE_CHANGED", command.by or "", log.head, command.user_id))
        assert outcome == o.Updated(log.describe(), role != command.role)
        return None

    def _silence_member(self, command: c.SilenceMember, outcome: Any) -> str | None:
        log = self._acted_on(command.conversation_id, command.by)
        if isinstance(log, str):
            return log
        if log.made_by.type == "SINGLE":
            return "FORBIDDEN"
        if not log.is_member(command.user_id):
            return "NOT_FOUND"
        changed = log.silenced.get(command.user_id, 0) != command.until_ms
        if changed and not log.may(command.by, "SILENCE", log.role(command.user_id)):
            return "FORBIDDEN"
        if changed:
            log.silenced[command.user_id] = command.until_ms
            action = "SILENCED" if command.until_ms else "UNSILENCED"
            log.audit.append((action, command.by or "", log.head, command.user_id))
        assert outcome == o.Updated(log.describe(), changed)
        return None

    def _update_conversation(self, command: c.UpdateConversation, outcome: Any) -> str | None:
        log = self._acted_on(command.conversation_id, command.by)
        if isinstance(log, str):
            return log
        head = log.head
        said = {} if command.titled is None else msgspec.json.decode(command.titled.payload)
        changed = any(name in said and said[name] != getattr(log, name) for name in ("title", "description"))
        moved = command.owner_id not in (None, log.owner)
        opened = command.history not in (None, log.history)
        wanted = {"TITLE": changed, "OWNER": moved, "HISTORY": opened}
        if log.made_by.type == "SINGLE" or not all(log.may(command.by, it) for it in wanted if wanted[it]):
            return "FORBIDDEN"
        if moved and not log.is_member(str(command.owner_id)):
            return "NOT_FOUND"
        if changed:
            assert command.titled is not None
            assert outcome.entry.payload == command.titled.payload
            sender = command.by or log.owner
            self._check_entry(outcome.entry, sender, command.at_ms, command.titled.client_msg_id)
            log.add(outcome.entry)
            log.kinds[log.head] = "TITLE"
            self._retitle(log, command.by or "", said)
        if command.history is not None and opened:
            log.history = command.history
            log.audit.append(("HISTORY_CHANGED", command.by or "", log.head, command.history))
        changed |= opened
        changed |= self._change_owner(log, command.by, command.owner_id) is not None
        assert outcome == o.Updated(log.describe(), changed, outcome.entry if log.head != head else None)
        return None

    def _block_user(self, command: c.BlockUser, outcome: Any) -> str | None:
        if command.user_id == command.blocked_id:
            return "BAD_REQUEST"
        assert outcome == o.Done()
        self.blocks.add((command.user_id, command.blocked_id))
        return None

    def _unblock_user(self, command: c.UnblockUser, outcome: Any) -> str | None:
        assert outcome == o.Done()
        self.blocks.discard((command.user_id, command.blocked_id))
        return None

    def _renew_epoch(self, command: c.RenewEpoch, outcome: Any) -> str | None:
        log = self.logs.get(command.conversation_id)
        if log is None:
            return "NOT_FOUND"
        assert outcome == o.Done()
        log.epoch = command.epoch
        log._view = None
        log.audit.append(("EPOCH_RENEWED", "", log.head, command.epoch))
        return None

    # --- pushing ---

    def _mute(self, command: c.Mute, outcome: Any) -> str | None:
        log = self.logs.get(command.conversation_id)
        if log is None or not log.is_member(command.user_id):
            return "NOT_FOUND"
        assert outcome == o.Done()
        log.muted.pop(command.user_id, None)
        if command.until_ms:
            log.muted[command.user_id] = (command.until_ms, command.but_mentions)
        return None

    def _register_push(self, command: c.RegisterPush, outcome: Any) -> str | None:
        if command.user_id in self._banned:
            return "FORBIDDEN"
        assert outcome == o.Done()
        self._register(command.user_id, command.device_id)
        self.reached = {it: token for it, token in self.reached.items() if token != command.token}
        self.reached[command.user_id, command.device_id] = command.token
        return None

    def _unregister_push(self, command: c.UnregisterPush, outcome: Any) -> str | None:
        assert outcome == o.Done()
        if command.token in (None, self.reached.get((command.user_id, command.device_id))):
            self.reached.pop((command.user_id, command.device_id), None)
        return None

    # --- sessions ---

    def _open_session(self, command: c.OpenSession, outcome: Any) -> str | None:
        if command.user_id in self._banned:
            return "FORBIDDEN"
        self._open(command, command.user_id, command.identity_expires_ms, command.scope, outcome)
        return None

    def _resume_session(self, command: c.ResumeSession, outcome: Any) -> str | None:
        for (user, device), (token, expires_ms, identity_ms, scope) in self._tokens.items():
            if token == command.used_hash and device == command.device_id and command.at_ms <= expires_ms:
                if identity_ms is not None and identity_ms + command.leeway_ms <= command.at_ms:
                    return "TOKEN_EXPIRED"
                self._open(command, user, identity_ms, scope, outcome)
                return None
        return "TOKEN_REVOKED"

    def _open(self, command: Any, user: str, identity_ms: int | None, scope: str, outcome: Any) -> None:
        self._register(user, command.device_id)
        token = (command.resume_hash, command.resume_expires_ms, identity_ms, scope)
        self._tokens[user, command.device_id] = token
        joined = tuple(
            o.MembershipSnapshot(name, log.made_by.type, log.epoch, log.head, len(log.members()))
            for name, log in sorted(self.logs.items())
            if log.is_member(user)
        )
        assert outcome == o.SessionOpened(user, command.device_id, identity_ms, scope, joined)

    def _see_devices(self, command: c.SeeDevices, outcome: Any) -> str | None:
        assert outcome == o.Done()
        return None

    def _revoke(self, command: c.Revoke, outcome: Any) -> str | None:
        self._revoked += 1
        assert outcome.revocation.position == self._revoked
        if command.kind == "BANNED":
            (self._banned.discard if command.ends_ms == 0 else self._banned.add)(command.user_id)
        if command.kind != "DISCONNECTED" and command.ends_ms != 0:
            for user, device in list(self._tokens):
                if user == command.user_id and command.device_id in ("", device):
                    del self._tokens[user, device]
            for user, device in list(self.reached):
                if user == command.user_id and command.device_id in ("", device):
                    del self.reached[user, device]
        return None

    def _renew_login(self, command: c.RenewLogin, outcome: Any) -> str | None:
        if command.user_id in self._banned:
            return "FORBIDDEN"
        assert outcome == o.Done()
        place = (command.user_id, command.device_id)
        if place in self._tokens:
            token, expires_ms, _, _ = self._tokens[place]
            self._tokens[place] = (token, expires_ms, command.identity_expires_ms, command.scope)
        return None
