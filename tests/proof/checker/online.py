"""L9, L11 to L13: what a connected app may count on beside its logs: its connection, CaughtUp, receipts, typing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from chatkit.client.events import CaughtUp, Connected, Connecting, Disconnected, Reconnecting
from chatkit.server.config import ServerConfig
from chatkit.wire import events as ev

from .cursors import confirmations, reads
from .index import Index
from .log_view import LogView
from .rising import Rising
from .traffic import Arrived
from .verdict import Breach, Findings
from .words import of_device, of_event, of_frame

Device = tuple[str, str]

# --- L9 ---

SILENT = "the server gave no sign of life"
"""Why a client ended a connection that it thought dead."""


def heard_connections_stay(index: Index) -> Findings:
    """A connection ends for want of a sign of life only if none came for two heartbeats, by whichever side it is ended.

    Clocks that jump change nothing about that. What an app is told late only makes the silence look longer.
    """
    welcomes = {it.event.session_id: it for it in index.traffic.of(ev.Welcome)}
    for device, given in index.app_events.items():
        current: Arrived[ev.Welcome] | None = None
        for it in given:
            if isinstance(it.event, Connected):
                current = welcomes.get(it.event.session_id)
            elif isinstance(it.event, Disconnected) and current is not None:
                yield _too_early(index, device, current, it.event, it.at_s)


def _too_early(
    index: Index, device: Device, welcome: Arrived[ev.Welcome], ended: Disconnected, told_s: float
) -> Breach | None:
    up = ended.code == ev.CloseCode.HEARTBEAT_LOST
    if not up and ended.reason != SILENT:
        return None
    heard_s = index.traffic.last_heard_s(welcome.frame.connection, up=up, before_s=told_s)
    silent_s, due_s = told_s - heard_s, 2 * welcome.event.heartbeat_ms / 1000
    why = f"given up as dead {silent_s:.2f} s after a sign of life, and {due_s:g} s are to pass"
    return of_frame(welcome.frame, why if silent_s < due_s else None)


# --- L11 ---

_STATES = (Connecting, Connected, Reconnecting, Disconnected, CaughtUp)


def caught_up(index: Index) -> Findings:
    """In the end every connected app was told that it has caught up.

    An app whose device another installation took over is told so when its own connection ends, which may be after the
    newer one has caught up.
    """
    for dump in index.history.devices if index.quiescent else ():
        given = index.app_events[dump.user_id, dump.device_id]
        states = [it.event for it in given if isinstance(it.event, _STATES) and not _replaced(it.event)]
        if dump.online and states:
            late = not isinstance(states[-1], CaughtUp)
            who = f"{dump.user_id}/{dump.device_id}"
            said = f"{who} was told {type(states[-1]).__name__} last, and never CaughtUp"
            yield Breach(what=said, user_id=dump.user_id, device_id=dump.device_id) if late else None


def _replaced(event: object) -> bool:
    return isinstance(event, Disconnected) and event.code == ev.CloseCode.REPLACED


# --- L12 ---

LOSES_RECEIPTS = (
    "bus loss",
    "storage answer lost",
    "disk full",
    "disk broken",
    "server crash",
    "server drain",
)
"""After these a cursor may have moved of which nobody heard: the next HEADS say it."""


def authors_hear(index: Index) -> Findings:
    """Who wrote an entry hears that others have it, on the connection that was open then: by RECEIPT, or by HEADS.

    Judged where nothing may have lost it: no BEHIND was said for the conversation, memberships did not change, the log
    is the same, and the confirmation came after the listing.
    """
    if not index.quiescent or any(it.what in LOSES_RECEIPTS for it in index.history.incidents):
        return
    known = _Known(index)
    confirmed, read = _by_log(confirmations(index)), _by_log(reads(index))
    for dump in index.history.devices:
        listing = known.listings.get((dump.user_id, dump.device_id))
        if listing is None or not dump.online:
            continue
        for log in index.logs.values():
            if log.restored or log.renewals or (listing.frame.connection, log.name) in known.behind:
                continue
            yield from _authored(log, listing, known, confirmed, read)


def _authored(
    log: LogView,
    listing: Arrived[ev.Heads],
    known: _Known,
    confirmed: dict[tuple[str, str], Rising],
    read: dict[tuple[str, str], Rising],
) -> Findings:
    author, device_id = listing.frame.user_id, listing.frame.device_id
    own = [row.seq for row in log.rows.values() if row.sender_id == author and row.client_msg_id is not None]
    if not own or not _stayed(log, author):
        return
    for user_id, cursor in log.cursors.items():
        if user_id == author or not _stayed(log, user_id):
            continue
        read_before = read[log.name, user_id].before(listing.position)
        before = max(read_before, confirmed[log.name, user_id].before(listing.position))
        told = known.receipts[listing.frame.connection, log.name, user_id]
        for what, seq, since, heard in (
            ("delivered", cursor.delivered_seq, before, told[0]),
            ("read", cursor.read_seq, read_before, told[1]),
        ):
            covered = max((it for it in own if since < it <= seq and log.visible(user_id, it)), default=0)
            if covered:
                why = f"{user_id} has {what} it, and the author heard of {heard} on their connection"
                yield of_device(author, device_id, log, covered, why if heard < covered else None)


def _stayed(log: LogView, user_id: str) -> bool:
    """Whether a user became a member once and stayed."""
    return len(log.stays.get(user_id, ())) == 1 and log.current_stay(user_id) is not None


def _by_log(points: Iterator[tuple[tuple[str, str], float, int]]) -> dict[tuple[str, str], Rising]:
    found: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for whose, position, seq in points:
        found[whose].append((position, seq))
    return defaultdict(Rising, {whose: Rising(of_one) for whose, of_one in found.items()})


class _Known:
    """What each connection was told.

    Attributes:
        listings: The end of the newest HEADS listing of each device's last connection.
        receipts: By connection, conversation and user, how far that user has got: delivered, read.
        behind: Connections and conversations of which something was dropped.
    """

    def __init__(self, index: Index) -> None:
        last = {(it.frame.user_id, it.frame.device_id): it for it in index.traffic.of(ev.Welcome)}
        self.listings: dict[Device, Arrived[ev.Heads]] = {}
        self.receipts: dict[tuple[int, str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for it in index.traffic.of(ev.Heads):
            device = (it.frame.user_id, it.frame.device_id)
            if not it.event.more and last[device].frame.connection == it.frame.connection:
                self.listings[device] = it  # another one is made for who missed much
        for receipt in index.traffic.of(ev.ReceiptPush):
            self._hear(receipt)
        self.behind = {(it.frame.connection, it.event.conversation_id) for it in index.traffic.of(ev.Behind)}

    def _hear(self, it: Arrived[ev.ReceiptPush]) -> None:
        event = it.event
        if isinstance(event.user_id, str):
            place = (it.frame.connection, event.conversation_id, event.user_id)
            read_seq = event.read_seq if isinstance(event.read_seq, int) else 0
            delivered_seq = event.delivered_seq if isinstance(event.delivered_seq, int) else 0
            known = self.receipts[place]
            self.receipts[place] = (max(known[0], delivered_seq, read_seq), max(known[1], read_seq))


# --- L13 ---

TYPING_INTERVAL_S = ServerConfig().typing_interval_s


def typing_is_limited_apart(index: Index) -> Findings:
    """TYPING is refused as too frequent at most as often as it came within the interval in its conversation."""
    refused: dict[tuple[str, str], list[Arrived[ev.ErrorEvent]]] = defaultdict(list)
    for error in index.traffic.of(ev.ErrorEvent):
        if _of_typing(error.event):
            refused[error.frame.user_id, str(error.event.conversation_id)].append(error)
    typed: dict[tuple[str, str], list[float]] = defaultdict(list)
    for it in index.traffic.of(ev.TypingCommand):
        typed[it.frame.user_id, it.event.conversation_id].append(it.frame.at_s)
    for place, times in typed.items():
        soon = sum(later - earlier <= TYPING_INTERVAL_S for earlier, later in pairwise(times))
        errors = refused[place]
        why = f"refused {len(errors)} times, and {soon} came within {TYPING_INTERVAL_S:g} s of another"
        yield of_event(errors[-1], place[1], why) if len(errors) > soon else None


def _of_typing(event: ev.ErrorEvent) -> bool:
    """Only TYPING has neither a mark nor a key; what is refused for another rate than its own says so."""
    plain = not isinstance(event.ref, str) and not isinstance(event.client_msg_id, str)
    own = event.code == "RATE_LIMITED" and "TYPING" in event.message
    return plain and own and isinstance(event.conversation_id, str)
