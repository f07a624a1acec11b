"""The client's messages that the server has not acknowledged: what to send next, and what an answer means.

Values and `now_s` in, values out. Each conversation is a lane, first in, first out; across lanes the oldest goes
first. A lane that met a retryable refusal stands still until the wait is over and every answer of what was under way
has come; then the refused message goes first, as the contract asks. That holds even if the log has meanwhile shown that
the refused message is stored: until its key comes again, the server refuses the rest of its conversation. A lane that
was too fast for the server goes on one message at a time, no faster than the server said, until it is empty. Called by
`client.outbox`, which also keeps every pending message in the local store.

What was under way when a peer found a frame too large, or when several connections in a row ended, may be the reason:
it is suspect and goes out alone, with nothing else under way, until it is answered. One that is alone when a frame was
too large is the one; one that is alone when the connection ends otherwise lets the others go first for a while.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container, Iterable

import msgspec

from ..errors import QueueFullError

SUSPECT_AFTER = 3
"""A message that was under way when so many connections in a row ended is sent alone."""

PENDING_MAX = 1000
WINDOW = 256

WINDOW_BYTES = 128 * 1024
"""Once payloads of so many bytes are under way no further message is sent: whatever else is to be said waits behind
them, and on a slow line every deadline would run while they drain."""

PACE_MAX_S = 10.0
"""The longest time between two messages of a conversation that is sent too fast."""

_FASTER = 0.9
_SLOWER = 2.0

Key = tuple[str, str]
"""(conversation id, clientMsgId)."""


class PendingSend(msgspec.Struct, frozen=True):
    """A message that waits for its acknowledgement.

    Attributes:
        conversation_id: Where it goes.
        client_msg_id: The sender's key, fixed for ever.
        payload: Canonical JSON.
        order: Place in the sender's order; rises with each send.
    """

    conversation_id: str
    client_msg_id: str
    payload: bytes
    order: int

    @property
    def key(self) -> Key:
        """What an answer is matched by."""
        return self.conversation_id, self.client_msg_id


class _Lane:
    """One conversation: what waits, by order, how many are under way, what this connection's server waits for, and how
    fast it takes them."""

    __slots__ = ("in_flight", "next_at_s", "pace_s", "ready_at_s", "refusals", "refused", "told_s", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, PendingSend] = {}
        self.refused: set[int] = set()
        self.in_flight = 0
        self.ready_at_s: float | None = None
        self.refusals = 0
        self.pace_s = 0.0
        self.told_s = 0.0
        self.next_at_s = 0.0

    @property
    def opens_at_s(self) -> float | None:
        """When the next may be sent; None if an answer must come first."""
        if self.ready_at_s is None:
            return self.next_at_s
        return None if self.in_flight else self.ready_at_s

    def sendable(self, now_s: float) -> Iterable[PendingSend]:
        """What may be sent now: all that waits, or the first of it where there is a pace to keep."""
        opens_at_s = self.opens_at_s
        if not self.waiting or opens_at_s is None or now_s < opens_at_s:
            return ()
        return (min(self.waiting.values(), key=_by_order),) if self.pace_s else self.waiting.values()

    def too_fast(self, told_s: float) -> None:
        """Keep at least this time between two; twice the former time if the lane kept to one already.

        What is refused together says it once.
        """
        self.told_s = min(max(self.told_s, told_s), PACE_MAX_S)
        former_s = self.pace_s * _SLOWER if self.ready_at_s is None else self.pace_s
        self.pace_s = min(max(self.told_s, former_s), PACE_MAX_S)

    def answered(self) -> None:
        """A message got through: a pace that was made slower than the server asked for recovers."""
        self.in_flight -= 1
        self.refusals = 0
        if self.pace_s:
            self.pace_s = max(self.told_s, self.pace_s * _FASTER)


class ResendQueue:
    """Every unacknowledged message of one client.

    Args:
        pending_max: Bound; a send beyond it is refused with QueueFullError.
        window: Most messages under way at once; large ones are fewer, see `WINDOW_BYTES`.
    """

    def __init__(self, pending_max: int = PENDING_MAX, window: int = WINDOW) -> None:
        self._pending_max = pending_max
        self._window = window
        self._pending: dict[Key, PendingSend] = {}
        self._due: dict[Key, PendingSend] = {}  # shown by the log; this connection still owes the answer
        self._sent_at_s: dict[Key, float] = {}
        self._bytes_under_way = 0
        self._lanes: dict[str, _Lane] = {}
        self._left: set[Key] = set()  # handed to a connection once, maybe of an earlier process
        self._losses: dict[Key, int] = {}  # connections that ended while it was under way, in a row
        self._suspects: dict[Key, PendingSend] = {}
        self._last_order = 0
        self._held: dict[
            Key, float
        ] = {}  # kept for review, and when to ask about it; inf while that is under way

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def unanswered(self) -> int:
        """How many wait for an answer; those that are held for review have one for this connection."""
        return len(self._pending) - len(self._held)

    @property
    def next_order(self) -> int:
        """The order that the next new message must carry."""
        return self._last_order + 1

    @property
    def oldest_sent_at_s(self) -> float | None:
        """When the longest unanswered message was handed to the connection; None if nothing is under way."""
        return next(iter(self._sent_at_s.values()), None)

    def find(self, conversation_id: str, client_msg_id: str) -> PendingSend | None:
        """The message that an answer under this key is for: pending, or shown by the log with its answer still owed."""
        key = (conversation_id, client_msg_id)
        return self._pending.get(key) or self._due.get(key)

    def is_pending(self, send: PendingSend) -> bool:
        """Whether it counts as unacknowledged."""
        return send.key in self._pending

    def reopen(self, send: PendingSend) -> None:
        """It is sent again although the log has shown it: it is pending until the answer that is owed comes."""
        self._pending[send.key] = self._due.pop(send.key)

    def check_room(self) -> None:
        """Raises QueueFullError when another message would go beyond the bound."""
        if len(self._pending) >= self._pending_max:
            raise QueueFullError(f"{len(self._pending)} messages wait for their acknowledgement already")

    def add(self, send: PendingSend) -> None:
        """Queue a new message. The caller has checked for room and for its key."""
        self._last_order = max(self._last_order, send.order)
        self._pending[send.key] = send
        self._enqueue(send)

    def restore(self, sends: Iterable[PendingSend], never_left: Container[Key] = ()) -> None:
        """Queue what a local store kept; the bound does not count here, for nothing stored may be lost.

        Args:
            sends: In any order.
            never_left: Those of which it is known; the others may have left with an earlier process.
        """
        for send in sends:
            self.add(send)
            if send.key not in never_left:
                self._left.add(send.key)

    def pending(self) -> list[PendingSend]:
        """Every message without an answer, oldest first."""
        return sorted(self._pending.values(), key=_by_order)

    def may_have_left(self, key: Key) -> bool:
        """Whether it was handed to a connection, now or by an earlier process: it may be stored already."""
        return key in self._left

    def take(self, now_s: float) -> list[PendingSend]:
        """What to send now, oldest first, as far as the window allows; it counts as under way from here on."""
        self._ask_about_held(now_s)
        if self._must_be_alone(now_s):
            taken = (
                [] if self._sent_at_s else heapq.nsmallest(1, self._firsts_of_suspects(now_s), key=_by_order)
            )
        else:
            taken = self._next(now_s)
        for send in taken:
            lane = self._lanes[send.conversation_id]
            lane.ready_at_s = None
            lane.next_at_s = now_s + lane.pace_s
            del lane.waiting[send.order]
            lane.in_flight += 1
            self._sent_at_s[send.key] = now_s
            self._bytes_under_way += len(send.payload)
            self._left.add(send.key)
        return taken

    def _ask_about_held(self, now_s: float) -> None:
        """What was held long enough waits to be sent once more: word of the decision may have been lost."""
        due = [key for key, ask_at_s in self._held.items() if ask_at_s <= now_s and self._may_ask(key)]
        for key in due:
            self._enqueue(self._pending[key])
            self._held[key] = math.inf

    def _may_ask(self, key: Key) -> bool:
        """Whether its conversation has no answer to wait for. What was sent after it may be refused, and the server
        waits for that one first."""
        lane = self._lanes.get(key[0])
        return lane is None or not (lane.in_flight or lane.refused)

    def _enqueue(self, send: PendingSend) -> None:
        self._lane(send.conversation_id).waiting[send.order] = send

    @property
    def _is_full(self) -> bool:
        """Whether nothing more may be under way."""
        return len(self._sent_at_s) >= self._window or self._bytes_under_way >= WINDOW_BYTES

    def _next(self, now_s: float) -> list[PendingSend]:
        if self._is_full:
            return []
        waiting = (send for lane in self._lanes.values() for send in lane.sendable(now_s))
        taken, size_bytes = list[PendingSend](), self._bytes_under_way
        for send in heapq.nsmallest(self._window - len(self._sent_at_s), waiting, key=_by_order):
            if size_bytes >= WINDOW_BYTES:
                break
            taken.append(send)
            size_bytes += len(send.payload)
        return taken

    def _landed(self, send: PendingSend) -> bool:
        """It is under way no longer. Returns whether it was."""
        if self._sent_at_s.pop(send.key, None) is None:
            return False
        self._bytes_under_way -= len(send.payload)
        return True

    def _must_be_alone(self, now_s: float) -> bool:
        """Whether a suspect is under way, or is to be next."""
        if not self._suspects:
            return False
        return any(key in self._sent_at_s for key in self._suspects) or bool(self._firsts_of_suspects(now_s))

    def _firsts_of_suspects(self, now_s: float) -> list[PendingSend]:
        """The next message of each conversation that holds a suspect: itself, or one that must go before it."""
        lanes = {id_: self._lanes[id_] for id_, _ in self._suspects}
        return [lane.waiting[min(lane.waiting)] for lane in lanes.values() if lane.sendable(now_s)]

    @property
    def alone_under_way(self) -> PendingSend | None:
        """The only message under way; None if there is none or more than one, or if the log has shown it."""
        if len(self._sent_at_s) != 1:
            return None
        return self._pending.get(next(iter(self._sent_at_s)))

    def suspect_all(self) -> None:
        """Something under way is too large for the other side: all of it is sent one by one from now on."""
        for key in self._sent_at_s:
            if key in self._pending:
                self._suspects[key] = self._pending[key]

    def hold(self, conversation_id: str, client_msg_id: str, ask_at_s: float) -> bool:
        """The server keeps a message for review: it stays pending, and is sent again at `ask_at_s`, or with the next
        connection.

        What comes after it in its conversation goes on; the server keeps the order.

        Returns:
            Whether this connection's server says so for the first time.
        """
        send = self.find(conversation_id, client_msg_id)
        if send is None or send.key not in self._sent_at_s:
            return False
        if send.key in self._due:  # shown or told meanwhile, and this was the answer still owed
            self._forget(send)
            return False
        self._landed(send)
        self._clear(send.key)
        lane = self._lane(conversation_id)
        lane.answered()
        lane.refused.discard(send.order)
        is_news = send.key not in self._held
        self._held[send.key] = ask_at_s
        return is_news

    def is_held(self, send: PendingSend) -> bool:
        """Whether this connection's server keeps it for review."""
        return send.key in self._held

    def pause(self, conversation_id: str, ready_at_s: float) -> None:
        """A conversation lets the others go first for a while."""
        if conversation_id in self._lanes:
            self._lanes[conversation_id].ready_at_s = ready_at_s

    def losses(self, key: Key) -> int:
        """How many connections in a row ended while this message was under way."""
        return self._losses.get(key, 0)

    def resolve(
        self, conversation_id: str, client_msg_id: str, *, answered: bool = True
    ) -> PendingSend | None:
        """Take out the message whose outcome is known for good. None if it is not pending.

        Args:
            conversation_id: Where it went.
            client_msg_id: Its key.
            answered: The server answered this very send. If not, the log showed it, or the end of a review was told:
                then an answer that this connection still owes is waited for, and what it refused is sent once more.
        """
        key = (conversation_id, client_msg_id)
        send = self._pending.pop(key, None)
        self._held.pop(key, None)
        known = send or self._due.get(key)
        if known is None:
            return None
        if answered or not self._is_owed(known):
            self._forget(known)
        else:
            self._due[key] = known
        return send

    def _is_owed(self, send: PendingSend) -> bool:
        """Whether this connection's server is to answer it, or waits for it to come again."""
        return send.key in self._sent_at_s or send.order in self._lane(send.conversation_id).refused

    def _forget(self, send: PendingSend) -> None:
        lane = self._lane(send.conversation_id)
        self._clear(send.key)
        self._left.discard(send.key)
        if self._landed(send):
            lane.answered()
        self._due.pop(send.key, None)
        lane.waiting.pop(send.order, None)
        lane.refused.discard(send.order)
        if not lane.waiting and not lane.in_flight:
            del self._lanes[send.conversation_id]

    def _clear(self, key: Key) -> None:
        """It was answered: no suspect."""
        self._suspects.pop(key, None)
        self._losses.pop(key, None)

    def failed_tries(self, conversation_id: str) -> int:
        """How many tries of this conversation failed in a row, with the one whose refusals come in now.

        What was under way together is one try: its refusals count once. An answer for good starts anew.
        """
        lane = self._lane(conversation_id)
        return lane.refusals + (lane.ready_at_s is None)

    def put_back(
        self, conversation_id: str, client_msg_id: str, ready_at_s: float, too_fast_s: float | None = None
    ) -> bool:
        """A retryable refusal: the message waits again in its old place, and its conversation pauses.

        Args:
            conversation_id: Where it went.
            client_msg_id: Its key.
            ready_at_s: The end of the pause.
            too_fast_s: Where the server says that messages come too fast: after which time the next is welcome.

        Returns:
            Whether such a message was under way.
        """
        send = self.find(conversation_id, client_msg_id)
        if send is None or not self._landed(send):
            return False
        self._clear(send.key)
        lane = self._lane(conversation_id)
        lane.in_flight -= 1
        lane.refusals = self.failed_tries(conversation_id)
        if too_fast_s is not None:
            lane.too_fast(too_fast_s)
        lane.waiting[send.order] = send
        lane.refused.add(send.order)
        lane.ready_at_s = max(ready_at_s, lane.ready_at_s or ready_at_s)
        return True

    def disconnected(self) -> None:
        """Whatever was under way may be lost: all of it waits again, in order. Pauses keep their end.

        A new connection's server waits for nothing and owes nothing.
        """
        for send in list(self._due.values()):
            self._forget(send)
        for key in self._sent_at_s:
            send = self._pending[key]
            self._enqueue(send)
            self._losses[key] = self._losses.get(key, 0) + 1
            if self._losses[key] >= SUSPECT_AFTER:
                self._suspects[key] = send
        for lane in self._lanes.values():
            lane.in_flight = 0
            lane.refused.clear()
        for key in self._held:
            self._enqueue(self._pending[key])
        self._held.clear()
        self._sent_at_s.clear()
        self._bytes_under_way = 0

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until a conversation goes on that pauses or keeps to a pace, or until it is time to ask about what is
        held; None if only an answer or a new send can change anything.

        With a full window that is so too, however many pauses are over; and while a suspect waits to be alone.
        """
        if self._is_full or (self._sent_at_s and self._must_be_alone(now_s)):
            return None
        ends = [
            ask_at_s - now_s
            for key, ask_at_s in self._held.items()
            if ask_at_s < math.inf and self._may_ask(key)
        ]
        ends += [
            opens_at_s - now_s
            for lane in self._lanes.values()
            if lane.waiting and (opens_at_s := lane.opens_at_s) is not None
        ]
        return max(0.0, min(ends)) if ends else None

    def _lane(self, conversation_id: str) -> _Lane:
        return self._lanes.setdefault(conversation_id, _Lane())


def _by_order(send: PendingSend) -> int:
    return send.order
