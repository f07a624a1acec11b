"""Which conversations must be pulled with SYNC, in which order, and which holes may still close by themselves.

Newest first: what the heads name comes in their order, what is live and has a hole goes to the front. Bounded by the
number of conversations. Filled by `receiver` and `heads`, emptied by `syncer`.
"""

from __future__ import annotations

from .._auto_reset_event import AutoResetEvent
from ..ports import Ports
from .conversations import Conversation


class Pulls:
    """The queue of SYNCs.

    Args:
        gap_wait_s: How long a hole may last.
        ports: The clock.
    """

    def __init__(self, gap_wait_s: float, ports: Ports) -> None:
        self._gap_wait_s = gap_wait_s
        self._clock = ports.clock
        self._front: dict[str, Conversation] = {}
        self._queue: dict[str, Conversation] = {}
        self._later: dict[str, tuple[float, Conversation]] = {}
        self._refused: set[str] = set()  # of those later: due whatever the timeline says then
        self.changed = AutoResetEvent()

    @property
    def empty(self) -> bool:
        """Whether nothing waits, not even for a hole to close."""
        return not (self._front or self._queue or self._later)

    def add(self, conversation: Conversation, *, first: bool = False) -> None:
        """Pull a conversation as soon as its turn comes."""
        self._forget_later(conversation.id)
        if first:
            self._queue.pop(conversation.id, None)
            self._front[conversation.id] = conversation
        elif conversation.id not in self._front:
            self._queue.setdefault(conversation.id, conversation)
        self.changed.set()

    def gap(self, conversation: Conversation) -> None:
        """Pull a conversation if its hole has not closed after the gap wait."""
        if conversation.id not in self._front and conversation.id not in self._queue:
            self.later(conversation, self._gap_wait_s)

    def later(self, conversation: Conversation, delay_s: float) -> None:
        """Pull a conversation after a while, if it is still behind; a wait that runs already stays."""
        self._later.setdefault(conversation.id, (self._clock.now_s() + delay_s, conversation))
        self.changed.set()

    def again(self, conversation: Conversation, delay_s: float) -> None:
        """A pull was refused for now: pull after a while in any case, for its reason may be known to nobody else."""
        self._later[conversation.id] = (self._clock.now_s() + delay_s, conversation)
        self._refused.add(conversation.id)
        self.changed.set()

    def take(self) -> Conversation | None:
        """The next to pull now; None if there is none."""
        self._due()
        waiting = self._front or self._queue
        if not waiting:
            return None
        id_ = next(iter(waiting))
        return waiting.pop(id_)

    def wait_s(self) -> float | None:
        """Seconds until the next hole must be pulled; None if there is none."""
        if not self._later:
            return None
        return max(0.0, min(at_s for at_s, _ in self._later.values()) - self._clock.now_s())

    def _forget_later(self, conversation_id: str) -> bool:
        """Whether it was due in any case."""
        self._later.pop(conversation_id, None)
        was_refused = conversation_id in self._refused
        self._refused.discard(conversation_id)
        return was_refused

    def clear(self) -> None:
        """Forget everything; the next heads say it again."""
        self._front.clear()
        self._queue.clear()
        self._later.clear()
        self._refused.clear()

    def _due(self) -> None:
        now_s = self._clock.now_s()
        for id_, (at_s, conversation) in list(self._later.items()):
            if at_s > now_s:
                continue
            due = self._forget_later(id_) or conversation.timeline.behind
            if due and not conversation.left:
                self._front[id_] = conversation
