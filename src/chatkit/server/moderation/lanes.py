"""Messages that the moderator is asked about: one lane for each sender and conversation, first in, first out.

What is with the moderator stays in its lane until its verdict is there, and nothing else of that lane goes to it
meanwhile: so verdicts come in the order of the messages, however long each takes. Used by `stage`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from ...errors import RefusedError
from ...storage.base import Append
from ..pending import PendingCommand

LaneKey = tuple[str, str]
"""(user, conversation)."""


class Waiting:
    """A message in a lane.

    Attributes:
        pending: The message and who waits for its answer.
        gone: Whether it was refused meanwhile: whatever its verdict is, nothing follows from it.
    """

    __slots__ = ("gone", "pending", "size_bytes")

    def __init__(self, pending: PendingCommand) -> None:
        assert isinstance(pending.command, Append)
        self.pending = pending
        self.size_bytes = len(pending.command.payload)
        self.gone = False

    @property
    def command(self) -> Append:
        """What is to be stored."""
        assert isinstance(self.pending.command, Append)
        return self.pending.command


class _Lane:
    __slots__ = ("asked", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Waiting] = deque()
        self.asked: list[Waiting] = []


class Lanes:
    """All messages that the stage has.

    Attributes:
        size_bytes: Of all their payloads.
    """

    def __init__(self) -> None:
        self._lanes: dict[LaneKey, _Lane] = {}
        self._ready: dict[LaneKey, None] = {}
        self._counts: dict[str, int] = {}
        self._count = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Waiting]:
        for lane in self._lanes.values():
            yield from lane.asked
            yield from lane.waiting

    def count_of(self, user_id: str) -> int:
        """How many are one user's."""
        return self._counts.get(user_id, 0)

    def append(self, pending: PendingCommand) -> None:
        """Put a message at the end of its lane."""
        it = Waiting(pending)
        key = (pending.user_id, it.command.conversation_id)
        lane = self._lanes.setdefault(key, _Lane())
        lane.waiting.append(it)
        if not lane.asked:
            self._ready[key] = None
        self._count += 1
        self._counts[key[0]] = self.count_of(key[0]) + 1
        self.size_bytes += it.size_bytes

    def take(self, count_max: int) -> list[Waiting]:
        """The next batch, empty if there is nothing to ask about: of each lane that is free a part, in its order."""
        turn = max(1, count_max // max(1, len(self._ready)))
        batch: list[Waiting] = []
        for key in list(self._ready):
            lane = self._lanes[key]
            for _ in range(min(turn, count_max - len(batch), len(lane.waiting))):
                lane.asked.append(lane.waiting.popleft())
            if not lane.asked:
                break
            batch += lane.asked
            del self._ready[key]
        return batch

    def release(self, batch: list[Waiting]) -> None:
        """Those of a batch are in the lanes no more; what waits behind them may go."""
        for it in batch:
            self._left(it)
        for key in dict.fromkeys((it.pending.user_id, it.command.conversation_id) for it in batch):
            lane = self._lanes[key]
            lane.asked = []
            if lane.waiting:
                self._ready[key] = None
            else:
                del self._lanes[key]

    def remove(
        self, why: Callable[[PendingCommand], RefusedError | None], *, also_asked: bool = True
    ) -> list[tuple[PendingCommand, RefusedError]]:
        """Take out, in order, what there is a reason against; each comes with it.

        Args:
            why: The reason, or None.
            also_asked: Also what is with the moderator; else only what waits for it.
        """
        keys = list(self._lanes)
        return [found for key in keys for found in self._remove(key, why, also_asked=also_asked)]

    def remove_held_back(self, user_id: str, conversation_id: str) -> list[PendingCommand]:
        """Take out of a lane what must not go before a refused one has come again."""
        error = RefusedError()
        key = (user_id, conversation_id)
        found = self._remove(key, lambda it: error if it.held_back else None, also_asked=True)
        return [pending for pending, _ in found]

    def _remove(
        self, key: LaneKey, why: Callable[[PendingCommand], RefusedError | None], *, also_asked: bool
    ) -> list[tuple[PendingCommand, RefusedError]]:
        lane = self._lanes.get(key)
        if lane is None:
            return []
        removed: list[tuple[PendingCommand, RefusedError]] = []
        for it in (*(lane.asked if also_asked else ()), *lane.waiting):
            error = None if it.gone else why(it.pending)
            if error is not None:
                it.gone = True
                removed.append((it.pending, error))
        for it in [it for it in lane.waiting if it.gone]:
            self._left(it)
        lane.waiting = deque(it for it in lane.waiting if not it.gone)
        if not lane.waiting and not lane.asked:
            self._ready.pop(key, None)
            del self._lanes[key]
        return removed

    def _left(self, it: Waiting) -> None:
        self._count -= 1
        self.size_bytes -= it.size_bytes
        user_id = it.pending.user_id
        self._counts[user_id] -= 1
        if not self._counts[user_id]:
            del self._counts[user_id]
