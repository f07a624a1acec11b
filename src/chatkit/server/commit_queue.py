"""What waits for the next transaction: one lane per user, served in turn and priced by rows.

Within a lane commands keep the order of arrival; across lanes nobody waits behind the backlog of somebody else. A
batch takes from each lane up to a share of its rows; a lane that took more owes it to the next batches, until it is
empty: one large command after the other is what rates are for. Where a debt leaves nothing to do, the lane goes on all
the same. What overlaps with a transaction under way (`overlap`) is left out of a batch, and so is what overlaps with a
command before it in its lane that was left out.

Cursors rest beside the lanes, one for each session and conversation: a further one takes the place of the one that
rests. They count like everything that waits, and enter their user's lane together, before any other command of it, and
before a command of anybody that is neither a message nor a cursor.
Used by `committer` only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Set
from itertools import chain
from typing import Final, TypeVar

from msgspec import UnsetType

from ..storage.base import AdvanceDelivered, AdvanceRead, Append, AppendPart
from .overlap import keys_of
from .pending import PendingCommand, price
from .session import Session

_ReasonT = TypeVar("_ReasonT")

HOST = ""
"""The lane of the verbs of the host; it has no share to keep to."""

RESUMES = " "
"""The lane of resumed logins, whose users only the store knows; it has no share of the queue to keep to. A batch takes
no more of it than of any user, so that a storm of them does not hold messages up."""

Cursor = AdvanceDelivered | AdvanceRead
"""What may rest."""

_LEAVE_OTHERS: Final = frozenset({Append, AppendPart, AdvanceDelivered, AdvanceRead})

_Place = tuple[Session, str, type[Cursor]]

_NOTHING: Final[Set[str]] = frozenset()


class _Lane:
    """The commands of one user, in order of arrival."""

    __slots__ = ("cost", "credit", "payload_bytes", "pending")

    def __init__(self) -> None:
        self.pending: deque[PendingCommand] = deque()
        self.cost = 0
        self.payload_bytes = 0
        self.credit = 0.0


class CommitQueue:
    """Lanes of commands, and what they hold together.

    Args:
        turn_rows: What one lane may add to a batch, about, while others wait; the lane of the host has no such bound.

    Attributes:
        cost: Rows that all commands are priced at.
        payload_bytes: Bytes of all payloads.
        resting: How many of the commands are cursors that rest.
    """

    def __init__(self, turn_rows: float) -> None:
        self._turn_rows = turn_rows
        self._lanes: dict[str, _Lane] = {}
        self._resting: dict[str, dict[_Place, PendingCommand]] = {}
        self._count = 0
        self.cost = 0
        self.payload_bytes = 0
        self.resting = 0

    def __len__(self) -> int:
        return self._count

    @property
    def has_lanes(self) -> bool:
        """Whether anything waits that does not rest."""
        return bool(self._lanes)

    def append(self, pending: PendingCommand) -> None:
        """Put a command at the end of its user's lane, behind the cursors of this user that rest.

        What is neither a message nor a cursor, and so may change or show where others stand, ends all rest: a login
        that is resumed shows its user's cursors, and whoever is put out has confirmed before.
        """
        if self._resting and type(pending.command) not in _LEAVE_OTHERS:
            self.end_rest()
        elif pending.user_id in self._resting:
            self._enter(pending.user_id)
        price(pending)
        lane = self._lanes.get(pending.user_id)
        if lane is None:
            lane = self._lanes[pending.user_id] = _Lane()
        cost, payload_bytes = pending.cost, pending.payload_bytes
        lane.pending.append(pending)
        lane.cost += cost
        lane.payload_bytes += payload_bytes
        self._count += 1
        self.cost += cost
        self.payload_bytes += payload_bytes

    def move_resting(self, session: Session, cursor: Cursor, ref: str | UnsetType) -> bool:
        """Have a cursor that rests stand for this one too, which is of the same session, conversation and kind.

        Returns:
            False if none does, or if its client knows it by another `ref` and would be owed two refusals.
        """
        resting = self._resting.get(session.user_id)
        if resting is None:
            return False
        earlier = resting.get((session, cursor.conversation_id, type(cursor)))
        if earlier is None or earlier.ref != ref:
            return False
        if cursor.up_to_seq > earlier.command.up_to_seq:  # type: ignore[union-attr]  # nothing else rests
            earlier.command = cursor
        return True

    def rest(self, pending: PendingCommand) -> None:
        """Have a cursor of a session rest; one in its place enters the lane with the others of its user."""
        session, cursor = pending.session, pending.command
        assert session is not None
        assert isinstance(cursor, Cursor)
        place = (session, cursor.conversation_id, type(cursor))
        resting = self._resting.get(pending.user_id)
        if resting is not None and place in resting:
            self._enter(pending.user_id)
            resting = None
        if resting is None:
            resting = self._resting[pending.user_id] = {}
        resting[place] = pending
        self.resting += 1
        self._count += 1
        self.cost += 1

    def end_rest(self) -> None:
        """Have all cursors that rest enter their lanes."""
        for user_id in list(self._resting):
            self._enter(user_id)

    def held_by(self, user_id: str) -> tuple[int, int]:
        """Rows and payload bytes of one user."""
        lane, resting = self._lanes.get(user_id), self._resting.get(user_id)
        cost = 0 if resting is None else len(resting)
        return (cost, 0) if lane is None else (cost + lane.cost, lane.payload_bytes)

    def waiting_of(self, user_id: str) -> Iterable[PendingCommand]:
        """What waits of one user, in order."""
        lane, resting = self._lanes.get(user_id), self._resting.get(user_id, {})
        return chain(() if lane is None else lane.pending, resting.values())

    def take(self, cost_max: float, busy: Set[str] = _NOTHING) -> list[PendingCommand]:
        """The next batch: at least one command of the lanes, up to a cost. Lanes that got less than they have come
        first in the next.

        Resumed logins come last in it: whose device is forgotten for a new one in this batch is not online by then.

        Args:
            cost_max: About its cost.
            busy: Keys of the transactions under way; what overlaps with them stays, which may be everything.
        """
        had_resumes = RESUMES in self._lanes
        taken: list[PendingCommand] = []
        left = cost_max
        for user_id, lane in list(self._lanes.items()):
            if left <= 0:
                break
            left -= self._take_turn(user_id, lane, taken, left, busy)
        if not taken and self._lanes:
            user_id, lane = max(self._lanes.items(), key=lambda item: item[1].credit)
            lane.credit = 0.0
            self._take_turn(user_id, lane, taken, cost_max, busy)
        self._count -= len(taken)
        if had_resumes:
            taken.sort(key=lambda pending: pending.user_id == RESUMES)
        return taken

    def take_all(self) -> list[PendingCommand]:
        """Everything that waits, lane by lane."""
        self.end_rest()
        taken = [pending for lane in self._lanes.values() for pending in lane.pending]
        self._lanes.clear()
        self._count = self.cost = self.payload_bytes = 0
        return taken

    def remove(
        self, why: Callable[[PendingCommand], _ReasonT | None]
    ) -> list[tuple[PendingCommand, _ReasonT]]:
        """Take out, in order, the commands that there is a reason against; each comes with it. No cursor rests then."""
        self.end_rest()
        removed: list[tuple[PendingCommand, _ReasonT]] = []
        for user_id, lane in list(self._lanes.items()):
            judged = [(pending, why(pending)) for pending in lane.pending]
            out = [(pending, reason) for pending, reason in judged if reason is not None]
            if out:
                lane.pending = deque(pending for pending, reason in judged if reason is None)
                self._count -= len(out)
                self._left(lane, [pending for pending, _ in out])
                removed += out
                if not lane.pending:
                    del self._lanes[user_id]
        return removed

    def _enter(self, user_id: str) -> None:
        """Put the cursors of a user that rest at the end of their lane."""
        resting = self._resting.pop(user_id)
        count = len(resting)
        self.resting -= count
        self._count -= count
        self.cost -= count
        for pending in resting.values():
            self.append(pending)

    def _take_turn(
        self, user_id: str, lane: _Lane, taken: list[PendingCommand], left: float, busy: Set[str]
    ) -> float:
        """Move what a lane may add now; the lane goes to the end of the line. Returns its cost."""
        free, kept = _parted(lane.pending, busy) if busy else (lane.pending, deque())
        lane.credit = left if user_id == HOST else min(lane.credit, 0.0) + self._turn_rows
        moved: list[PendingCommand] = []
        cost, first = 0, not taken
        while free and lane.credit > 0:
            next_cost = free[0].cost
            if cost + next_cost > left and not (first and not moved):
                break
            moved.append(free.popleft())
            cost += next_cost
            lane.credit -= next_cost
        lane.pending = free + kept if kept else free
        if moved:
            taken += moved
            self._left(lane, moved)
            del self._lanes[user_id]
            if lane.pending:
                self._lanes[user_id] = lane
        return cost

    def _left(self, lane: _Lane, commands: Iterable[PendingCommand]) -> None:
        cost = payload_bytes = 0
        for pending in commands:
            cost += pending.cost
            payload_bytes += pending.payload_bytes
        lane.cost -= cost
        lane.payload_bytes -= payload_bytes
        self.cost -= cost
        self.payload_bytes -= payload_bytes


def _parted(
    pending: Iterable[PendingCommand], busy: Set[str]
) -> tuple[deque[PendingCommand], deque[PendingCommand]]:
    """What may be taken, and what overlaps with something busy or with a command before it that does; both in order."""
    free: deque[PendingCommand] = deque()
    kept: deque[PendingCommand] = deque()
    avoided = set(busy)
    for it in pending:
        keys = keys_of(it.command)
        if avoided.isdisjoint(keys):
            free.append(it)
        else:
            kept.append(it)
            avoided.update(keys)
    return free, kept
