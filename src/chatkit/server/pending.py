"""A command on its way through the committer, and where its answer goes.

From a socket the answer goes to the session; from HTTP, a host or a login it goes to a `PendingReply`. No task, future
or callback exists for a message that came by socket.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec
from msgspec import UNSET, UnsetType

from ..core.send_order import SendOrder
from ..errors import HeldError, UnavailableError
from ..storage.base import (
    AddMembers,
    Append,
    AppendPart,
    Command,
    ConfirmMessage,
    CreateConversation,
    EndStream,
    Held,
    OpenSession,
    Outcome,
    Recall,
    Refused,
    ResumeSession,
    Review,
    SeeDevices,
    SessionOpened,
)
from .proof import Proof
from .session import Session


class PendingReply:
    """The answer to one command, for a caller that waits."""

    __slots__ = ("_event", "_outcome")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._outcome: Outcome | None = None

    def resolve(self, outcome: Outcome) -> None:
        """Hand over the answer; called once."""
        self._outcome = outcome
        self._event.set()

    async def wait(self, timeout_s: float) -> Outcome:
        """The outcome.

        Raises:
            RefusedError: The command was refused; nothing changed. A HeldError: it is kept for review.
            UnavailableError: No answer in time. The command may still take effect: resend with the same key.
        """
        with anyio.move_on_after(timeout_s):
            await self._event.wait()
        if self._outcome is None:
            raise UnavailableError("storage did not answer in time", retry_after_s=1.0)
        if isinstance(self._outcome, Refused):
            raise self._outcome.error.fresh()
        if isinstance(self._outcome, Held):
            raise held_error(self._outcome)
        return self._outcome


def held_error(outcome: Held) -> HeldError:
    """What the sender of a held message is told."""
    return HeldError("a moderator looks at this message first", retry_after_s=outcome.retry_ms / 1000)


class PendingCommand(msgspec.Struct):
    """One command, and who is waiting for it.

    Attributes:
        command: What the store is asked to do.
        session: The session it came from, if any.
        ref: The client's own mark, echoed in the answer.
        order: For a send of a session: the order of its sends. It outlives the session, as what is queued does.
        number: For a send of a session: its number in that order.
        reply: The waiting caller, if any.
        opened: For logins: called in commit order with the opened session, before any push can follow.
        user_id: Whose lane of the commit queue it waits in; `commit_queue.HOST` for the host's own.
        proof: Of a request: the login that it was let in by. What a session asks for is judged by the session.
        cost: What it adds to the commit queue's bound: about the rows it reads and writes, in messages. Set by `price`.
        payload_bytes: What it adds to the commit queue's byte bound. Set by `price`.
        received_s: When it was received, for instruments. The committer sets it for what no session asked for.
        rested: Of a cursor: it waited for further ones, and instruments were told of it when it came.
    """

    command: Command
    session: Session | None = None
    ref: str | UnsetType = UNSET
    order: SendOrder | None = None
    number: int = 0
    reply: PendingReply | None = None
    opened: Callable[[SessionOpened], None] | None = None
    user_id: str = ""
    proof: Proof | None = None
    cost: int = 1
    payload_bytes: int = 0
    received_s: float = 0.0
    rested: bool = False

    @property
    def held_back(self) -> bool:
        """Whether an earlier send of the same session to the same conversation was refused."""
        if self.order is None or not isinstance(self.command, Append):
            return False
        return self.order.holds_back(self.command.conversation_id, self.number)


_PRICES: dict[type[Command], int] = {
    Recall: 3,
    Review: 10,
    EndStream: 4,
    ConfirmMessage: 2,
    OpenSession: 4,
    ResumeSession: 4,
}
_PART_PRICE = 2
_MEMBER_PRICE = 3
"""A new member is a membership, cursors and an audit row."""


def price(pending: PendingCommand) -> None:
    """Set what a command adds to the bounds of the commit queue."""
    command = pending.command
    if isinstance(command, Append):  # nearly all are
        pending.payload_bytes = len(command.payload)
    elif type(command) is AppendPart:
        pending.cost, pending.payload_bytes = _PART_PRICE, command.size
    elif type(command) is CreateConversation:
        pending.cost = 1 + _MEMBER_PRICE * len(command.member_ids)
    elif type(command) is AddMembers:
        pending.cost = 1 + _MEMBER_PRICE * len(command.user_ids)
    elif type(command) is SeeDevices:
        pending.cost = len(command.devices)
    else:
        pending.cost = _PRICES.get(type(command), 1)
