"""A history taken apart once, for all invariants: logs, sends by key, answers, and every sight of every entry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from chatkit.client.events import MessageReceived
from chatkit.testing.history import AppEvent, Call
from chatkit.wire import events as ev
from chatkit.wire.payload import RECALLED

from ..dumps import CompleteHistory
from . import gather
from .facts import Ack, Key, Page, Past, Seen
from .gather import Bodies, canonical, key_of, member_ids
from .log_view import LogView
from .rising import Rising
from .standings import Standings
from .traffic import Traffic

_Log = tuple[str, str, str]
"""A conversation on a device: its id, the user, the device."""

_NO_JSON = (TypeError, ValueError, OverflowError, RecursionError)

RESTORED = "restored"
"""Incident: a log was replaced by an older copy of it; `detail` names the conversation, or is empty for all."""


class Index:
    """A history as the invariants look at it.

    Args:
        history: What happened.
        recall_window_ms: How long after sending an author may recall; None if that is not to be judged.
        quiescent: The run ended in peace: faults over, everything drained, time to converge.

    Attributes:
        has_store: Whether the store was read at the end.
        logs: The conversations as the store holds them at the end, by id.
        traffic: The frames, decoded.
        sends: The calls of each message's key, by invocation.
        app_events: What each device's app was given, in order.
    """

    def __init__(self, history: CompleteHistory, recall_window_ms: int | None, quiescent: bool) -> None:
        self.history = history
        self.recall_window_ms = recall_window_ms
        self.quiescent = quiescent
        self.has_store = history.store is not None
        self.traffic = Traffic(history.frames)
        self._bodies = Bodies()
        self._sent: dict[int, bytes] = {}
        self.sends: dict[Key, list[Call]] = defaultdict(list)
        for call in self.calls("send"):
            self.sends[key_of(call)].append(call)
        self.app_events: dict[tuple[str, str], list[AppEvent]] = defaultdict(list)
        for given in history.app_events:
            self.app_events[given.user_id, given.device_id].append(given)
        self.logs = self._logs()

    @cached_property
    def standings(self) -> dict[str, Standings]:
        """What members were before each entry, by log."""
        return {name: Standings(log) for name, log in self.logs.items()}

    def calls(self, *ops: str) -> Iterator[Call]:
        """The calls of certain verbs, or all, by invocation."""
        return (call for call in self.history.calls if not ops or call.op in ops)

    def answered(self, *ops: str) -> Iterator[Call]:
        """Those of them that took effect."""
        return (call for call in self.calls(*ops) if call.result == "ok")

    def body_sent(self, call: Call) -> bytes:
        """The canonical payload of a send; empty for what is no JSON at all, which then equals no body."""
        body = self._sent.get(call.number)
        if body is None:
            payload = call.args["payload"]
            plain = {"type": "TEXT", "text": payload} if isinstance(payload, str) else payload
            try:
                body = canonical(plain)
            except _NO_JSON:
                body = b""
            self._sent[call.number] = body
        return body

    @cached_property
    def _rewrites(self) -> dict[Key, set[bytes]]:
        found: dict[Key, set[bytes]] = defaultdict(set)
        for it in self.history.moderated:
            if it.instead is not None:
                found[it.key].add(it.instead)
        for call in self.calls("review"):
            if call.result != "fail" and call.args["payload"] is not None:
                args = call.args
                key = (args["conversation_id"], args["sender_id"], args["client_msg_id"])
                found[key].add(canonical(args["payload"]))
        return found

    def rewrites(self, key: Key) -> set[bytes]:
        """What a moderator may have had stored under a key in place of what was sent."""
        return self._rewrites.get(key, set())

    def known_head(self, conversation_id: str, before_s: float) -> int:
        """The greatest seq that anybody is known to have seen committed before a moment."""
        heads = self._heads.get(conversation_id)
        return heads.before(before_s) if heads is not None else 0

    def placed_seq(self, log: LogView, user_id: str, device_id: str, before_s: float) -> int:
        """Up to where a device is known to have had everything before a moment.

        So far it had confirmed, or its app had been told; and what follows was its own, and acked when all before was
        there. What is acked above a hole may be let go again, for a client holds a bounded number of such entries.
        """
        whose = (log.name, user_id, device_id)
        placed, acked_s = self._placed[whose], self._acked_s[whose]
        found = placed.before(before_s)
        known_s = placed.since(found)
        for seq in log.visible_seqs(user_id, found, log.head_seq):
            if not known_s <= acked_s.get(seq, before_s) < before_s:
                break
            found, known_s = seq, acked_s[seq]
        return found

    @cached_property
    def _placed(self) -> dict[_Log, Rising]:
        points: dict[_Log, list[tuple[float, int]]] = defaultdict(list)
        for it in self.traffic.of(ev.DeliveredAck):
            if isinstance(it.event.up_to_seq, int):
                whose = (it.event.conversation_id, it.frame.user_id, it.frame.device_id)
                points[whose].append((it.frame.at_s, it.event.up_to_seq))
        for told in self.history.app_events:
            if type(told.event) is MessageReceived:
                message = told.event.message
                points[message.conversation_id, told.user_id, told.device_id].append((told.at_s, message.seq))
        return defaultdict(Rising, {whose: Rising(of_log) for whose, of_log in points.items()})

    @cached_property
    def _acked_s(self) -> dict[_Log, dict[int, float]]:
        """When a client first knew its own entries by the answer, which it then had stored."""
        found: dict[_Log, dict[int, float]] = defaultdict(dict)
        for ack in self.acks:
            if ack.device_id and not ack.first_hand:
                of_log = found[ack.key[0], ack.key[1], ack.device_id]
                of_log[ack.seq] = min(ack.at_s, of_log.get(ack.seq, ack.at_s))
        return found

    def confirmed_seq(self, event: ev.DeliveredAck) -> int:
        """Up to where a confirmation may reach; of a single entry, as if all before it were confirmed, too."""
        if isinstance(event.up_to_seq, int):
            return event.up_to_seq
        log = self.logs.get(event.conversation_id)
        row = log.by_message_id.get(str(event.message_id)) if log is not None else None
        return row.seq if row is not None else 0

    @cached_property
    def asked_recalls(self) -> dict[str, set[str]]:
        """The ids of the messages whose recall each user asked for, unless it was refused."""
        found: dict[str, set[str]] = defaultdict(set)
        for call in self.calls("recall"):
            if call.result != "fail":
                found[call.user_id].add(call.args["message_id"])
        return found

    @cached_property
    def _asked_members(self) -> dict[tuple[str, str], set[str]]:
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for call in self.calls("add", "remove", "ban_member"):
            if call.result != "fail":
                op = "remove" if call.op == "ban_member" else call.op
                found[call.args["conversation_id"], op].update(member_ids(call))
        return found

    def asked_members(self, conversation_id: str, op: str) -> set[str]:
        """The users whom somebody asked to `add` or `remove` (also by a ban), unless it was refused."""
        return self._asked_members[conversation_id, op]

    @cached_property
    def acks(self) -> list[Ack]:
        """Every answer to a send."""
        return list(gather.acks(self.history, self.traffic))

    @cached_property
    def pushes(self) -> list[Seen]:
        """Every NEW_MSG."""
        return gather.pushed(self.traffic, self._bodies)

    @cached_property
    def pages(self) -> list[Page]:
        """Every page that was read, over the wire or by a call."""
        return [
            *gather.pages_framed(self.traffic, self._bodies),
            *gather.pages_called(self.answered("page")),
        ]

    @cached_property
    def pasts(self) -> list[Past]:
        """Every answer of `history`."""
        return list(gather.pasts(self.answered("history")))

    @cached_property
    def seen(self) -> list[Seen]:
        """Every sight of every entry."""
        found = list(self.pushes)
        for page in self.pages:
            found += page.entries
        for past in self.pasts:
            found += past.entries
        found += gather.told(self.history.app_events)
        for dump in self.history.devices:
            found += gather.held(dump)
        return found

    @cached_property
    def _heads(self) -> dict[str, Rising]:
        points: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for seen in self.seen:
            if seen.at_s is not None:
                points[seen.conversation_id].append((seen.at_s, seen.seq))
        for ack in self.acks:
            points[ack.key[0]].append((ack.at_s, ack.seq))
        for page in self.pages:
            points[page.conversation_id].append((page.at_s, page.head_seq))
        for heads in self.traffic.of(ev.Heads):
            for head in heads.event.conversations:
                points[head.conversation_id].append((heads.frame.at_s, head.head_seq))
        return {name: Rising(of_log) for name, of_log in points.items()}

    def _logs(self) -> dict[str, LogView]:
        if self.history.store is None:
            return {}
        restored = {it.detail for it in self.history.incidents if it.what == RESTORED}
        logs = {
            name: LogView(dump, restored=bool(restored & {name, ""}))
            for name, dump in self.history.store.logs.items()
        }
        for log in logs.values():
            self._add_recalled_bodies(log)
        return logs

    def _add_recalled_bodies(self, log: LogView) -> None:
        """What a recalled entry said is known from its send, if all calls under its key agree."""
        for row in log.rows.values():
            if row.client_msg_id is None or row.payload != RECALLED:
                continue
            if self.rewrites((log.name, row.sender_id, row.client_msg_id)):
                continue  # nobody knows which of them it was
            calls = self.sends.get((log.name, row.sender_id, row.client_msg_id), [])
            bodies = {self.body_sent(call) for call in calls if call.result == "ok"}
            bodies = bodies or {self.body_sent(call) for call in calls}
            if len(bodies) == 1:
                log.bodies[row.seq] = bodies.pop()
