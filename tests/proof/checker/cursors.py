"""S14 to S16: cursors follow what devices confirm and users read, never fall, and count what is unread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from chatkit.client.outbox import READ_REF
from chatkit.wire import events as ev

from ..dumps import ListedRow
from .gather import head_of
from .index import Index
from .log_view import LogView
from .rising import Rising
from .traffic import Arrived
from .verdict import Breach, Findings
from .words import of_call, of_device, of_event, of_log

UNREAD_MAX = 999

Whose = tuple[str, str]
"""(conversation, user)."""

_Name = TypeVar("_Name", bound=Hashable)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What an event, or the store at the end, says of a user's cursors.

    Attributes:
        at: The event; None for the store.
        device_id: Whose cursor `delivered_seq` is; empty for the user's.
    """

    log: LogView
    user_id: str
    delivered_seq: int
    read_seq: int
    at: Arrived[Any] | None = None
    device_id: str = ""

    @property
    def whose(self) -> Whose:
        """The conversation and the user."""
        return self.log.name, self.user_id

    @property
    def position(self) -> float:
        """Where in the history it was made; the store speaks after everything."""
        return float("inf") if self.at is None else self.at.position

    def wrong(self, why: str | None) -> Breach | None:
        """What is wrong with it; None if nothing is."""
        if why is None:
            return None
        words = f"{self.user_id} has delivered {self.delivered_seq} and read {self.read_seq}, {why}"
        seq = max(self.delivered_seq, self.read_seq)
        return (
            of_log(self.log, None, words) if self.at is None else of_event(self.at, self.log.name, words, seq)
        )


def _claims(index: Index) -> Iterator[Claim]:
    yield from _receipts(index)
    for it in index.traffic.of(ev.Heads):
        user_id, device_id = it.frame.user_id, it.frame.device_id
        for head in it.event.conversations:
            log = index.logs.get(head.conversation_id)
            if log is not None and not log.restored:
                yield Claim(log, user_id, head.delivered_seq, head.read_seq, it, device_id)
    for log in index.logs.values():
        for user_id, cursor in log.cursors.items() if not log.restored else ():
            yield Claim(log, user_id, cursor.delivered_seq, cursor.read_seq)


def _receipts(index: Index) -> Iterator[Claim]:
    """Those that name a user; the others only count."""
    for it in index.traffic.of(ev.ReceiptPush):
        log, event = index.logs.get(it.event.conversation_id), it.event
        if log is None or log.restored or not isinstance(event.user_id, str):
            continue
        if isinstance(event.delivered_seq, int) and isinstance(event.read_seq, int):
            yield Claim(log, event.user_id, event.delivered_seq, event.read_seq, it)


def _rising(points: Iterable[tuple[_Name, float, int]]) -> dict[_Name, Rising]:
    """What was known of each, by position."""
    found: dict[_Name, list[tuple[float, int]]] = defaultdict(list)
    for name, position, seq in points:
        found[name].append((position, seq))
    return defaultdict(Rising, {name: Rising(of_name) for name, of_name in found.items()})


# --- S14 ---


def receipts_follow(index: Index) -> Findings:
    """A cursor stands where a device or user said before, on what is visible, and never above the head.

    A frame counts from when it reached the server, so frames upwards must be noted before the server takes them.
    """
    confirmed, read = _rising(confirmations(index)), _rising(reads(index))
    for claim in _claims(index):
        yield claim.wrong(_not_caused(claim, confirmed[claim.whose], read[claim.whose]))
    for it in index.traffic.of(ev.Heads):
        for head in it.event.conversations:
            most = max(head.delivered_seq, head.read_seq, head.others_delivered_seq, head.others_read_seq)
            why = None if most <= head.head_seq else f"a cursor at {most}, the head at {head.head_seq}"
            yield of_event(it, head.conversation_id, why, most)


def confirmations(index: Index) -> Iterator[tuple[Whose, float, int]]:
    """When a device confirmed how much."""
    for it in index.traffic.of(ev.DeliveredAck):
        yield (it.event.conversation_id, it.frame.user_id), it.position, index.confirmed_seq(it.event)


def reads(index: Index) -> Iterator[tuple[Whose, float, int]]:
    """When a plain call reached the server is not known: it may always have."""
    for it in index.traffic.of(ev.Read):
        yield (it.event.conversation_id, it.frame.user_id), it.position, it.event.up_to_seq
    for call in index.calls("mark_read"):
        if not call.device_id and call.result != "fail":
            yield (call.args["conversation_id"], call.user_id), -1, call.args["up_to_seq"]


def _not_caused(claim: Claim, confirmed: Rising, read: Rising) -> str | None:
    log, user_id = claim.log, claim.user_id
    if user_id not in log.stays:
        return "and never was a member"
    ended_seq = log.stays[user_id][-1].ended_seq
    if max(claim.delivered_seq, claim.read_seq) > (log.head_seq if ended_seq is None else ended_seq - 1):
        return "which is above the head, or above what he could see"
    read_most = log.skip_hidden(user_id, read.before(claim.position))
    if claim.read_seq > read_most:
        return f"but said at most {read_most} was read"
    confirmed_most = log.skip_hidden(user_id, confirmed.before(claim.position))
    most = confirmed_most if claim.device_id else max(confirmed_most, read_most)
    return None if claim.delivered_seq <= most else f"but no device confirmed more than {most}"


# --- S15 ---


def cursors_rise(index: Index) -> Findings:
    """A cursor never falls, for whoever looks: on one connection, after a new HELLO, and in the store at the end.

    With `quiescent`, each mark that a connected device kept has arrived.
    """
    last: dict[tuple[int, Whose], Claim] = {}
    for claim in _receipts(index):
        place = (claim.at.frame.connection if claim.at is not None else 0, claim.whose)
        yield claim.wrong(_fell(claim, last.get(place, claim), "on the same connection"))
        last[place] = claim
    yield from _known_cursors_hold(index)
    if index.quiescent:
        yield from _marks_arrived(index)


def _fell(claim: Claim, earlier: Claim, where: str) -> str | None:
    fell = claim.read_seq < earlier.read_seq or claim.delivered_seq < earlier.delivered_seq
    return f"after {earlier.delivered_seq} and {earlier.read_seq} {where}" if fell else None


def _known_cursors_hold(index: Index) -> Findings:
    """Heads are read after HELLO, the store after everything: they know at least what anybody knew before."""
    claims = list(_claims(index))
    read = _rising((claim.whose, claim.position, claim.read_seq) for claim in claims)
    delivered = _rising(
        ((claim.whose, claim.device_id), claim.position, claim.delivered_seq) for claim in claims
    )
    for claim in claims:
        since = _read_after(index, claim)
        if since is not None:
            known = delivered[claim.whose, claim.device_id].before(since), read[claim.whose].before(since)
            fell = claim.delivered_seq < known[0] or claim.read_seq < known[1]
            yield claim.wrong(f"after {known[0]} and {known[1]} were known" if fell else None)


def _read_after(index: Index, claim: Claim) -> float | None:
    """The moment after which a claim was read from the store; None if that is not known."""
    if claim.at is None:
        return claim.position
    hello = index.traffic.hellos.get(claim.at.frame.connection)
    return hello.position if claim.device_id and hello is not None else None


def _marks_arrived(index: Index) -> Findings:
    """A new epoch, and a READ refused for good, let a device forget what it wanted.

    So does leaving: judged are marks in memberships that last.
    """
    online = {(dump.user_id, dump.device_id) for dump in index.history.devices if dump.online}
    refused_s = _reads_refused_s(index)
    for call in index.answered("mark_read"):
        name, device = call.args["conversation_id"], (call.user_id, call.device_id)
        log = index.logs.get(name)
        cursor = log.cursors.get(call.user_id) if log is not None else None
        stay = log.current_stay(call.user_id) if log is not None else None
        if log is None or cursor is None or stay is None or log.restored or log.renewals:
            continue
        wanted = call.args["up_to_seq"]
        kept = device in online and call.at_s > refused_s.get((*device, name), -1.0)
        if kept and wanted >= stay.first_seq:
            why = None if cursor.read_seq >= wanted else f"it was kept, and the store says {cursor.read_seq}"
            yield of_call(call, why, seq=wanted)


def _reads_refused_s(index: Index) -> dict[tuple[str, str, str], float]:
    """By user, device and conversation, when a READ was last refused for good."""
    return {
        (it.frame.user_id, it.frame.device_id, it.event.conversation_id): it.frame.at_s
        for it in index.traffic.of(ev.ErrorEvent)
        if it.event.ref == READ_REF and not it.event.retryable and isinstance(it.event.conversation_id, str)
    }


# --- S16 ---


def unread_counted(index: Index) -> Findings:
    """A list counts what it must: others' visible messages between cursor and head, but for the recalled ones.

    Judged by the answers of `list` calls, whose rows have a head, or its fields, and `unread`; and at rest by what
    connected devices show of logs that they hold, whose last message is the newest one, too.
    """
    for call in index.answered("list"):
        for row in call.answer["items"]:
            head = head_of(row)
            log = index.logs.get(head.conversation_id)
            if log is not None and not log.restored:
                count = _unread(log, call.user_id, head.read_seq, head.head_seq)
                why = f"{row.unread} unread in ({head.read_seq}, {head.head_seq}], and there are {count}"
                yield of_call(call, None if row.unread == count else why, log.name, head.head_seq)
    for dump in index.history.devices if index.quiescent else ():
        for shown in dump.listed if dump.online else ():
            log = index.logs.get(shown.conversation_id)
            if log is not None and not log.restored and log.current_stay(dump.user_id) is not None:
                yield of_device(
                    dump.user_id, dump.device_id, log, shown.head_seq, _shown(log, dump.user_id, shown)
                )


def _shown(log: LogView, user_id: str, row: ListedRow) -> str | None:
    """What is wrong with a row of a device's list."""
    if row.head_seq != log.head_seq:
        return f"its list says that the head is {row.head_seq}"
    count = _unread(log, user_id, row.read_seq, row.head_seq)
    if row.floor_seq <= row.read_seq and row.unread != count:
        return f"its list says {row.unread} unread after {row.read_seq}, and there are {count}"
    messages = [
        seq for seq in log.visible_seqs(user_id, row.floor_seq, row.head_seq) if _is_message(log, seq)
    ]
    if messages and row.last_seq != messages[-1]:
        return f"its list shows seq {row.last_seq} as the last message, and that is {messages[-1]}"
    return None


def _is_message(log: LogView, seq: int) -> bool:
    row = log.rows.get(seq)
    is_users = row is not None and row.client_msg_id is not None
    return is_users and seq not in log.said and seq not in log.said_of_logs


def _unread(log: LogView, user_id: str, read_seq: int, head_seq: int) -> int:
    """As it was when the head stood there: what was recalled later still counted."""
    count = 0
    for seq in log.visible_seqs(user_id, read_seq, head_seq):
        row, recall = log.rows.get(seq), log.recalls.get(seq)
        recalled = recall is not None and recall.seq <= head_seq
        count += row is not None and _is_message(log, seq) and row.sender_id != user_id and not recalled
    return min(count, UNREAD_MAX)
