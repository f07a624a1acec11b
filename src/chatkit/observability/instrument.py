"""The port for whoever looks on: metrics, traces, the recorder of a test. An instrument sees; it changes nothing.

`ChatServer`, `DeliveryWorker` and `ChatClient` take `instruments=[...]` and call their methods: once per batch, page or
connection, never once per message. What nobody listens to is not even put together. One that raises is logged, now and
then, and costs nobody a message. Times are monotonic seconds of the part's clock; where Unix time is given beside it,
both were read at the same moment, so that one can be had from the other.

What an instrument is given holds ids of users and conversations, and the bodies of messages: what of it leaves the
process is its own affair. Metrics have none of it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec

from ..core.log.commands import Append, Command, Verdict
from ..core.log.outcomes import Outcome
from ..errors import ChatkitError, ConfigurationError, RefusedError
from ..types import Message, Sent

logger = logging.getLogger(__name__)


class CommittedBatch(msgspec.Struct, frozen=True, gc=False):
    """A transaction that is durable, and whose outcomes were handed over.

    Attributes:
        commands: What was asked, in order. Among them are the messages (`Append`), and what devices confirmed
            (`AdvanceDelivered`, `ConfirmMessage`, `AdvanceRead`).
        outcomes: What became of each. An `Appended` with `repeat` is the old answer to a message that came again.
        received_s: When each was received: when its frame was read, or its request was handled.
        offered: To how many sessions of this node each was offered, at once; the one that sent it is not among them.
        began_s: When the transaction began.
        durable_s: When it was durable.
        published_s: When the answers and pushes of all of it were in the send buffers of their sessions.
        published_ms: The same, in Unix milliseconds.
        new_received_s: When the messages that are new were received, and how many of them then.
        others: All other commands, each with what became of it.
        delivery_s: How long messages took that devices confirmed with this batch, and how many took so long: one for
            each message and device, from its `serverTs`, when a node took it, to when the confirmation came. Only of
            devices that were online when the message was stored; not of the sender's own.
    """

    commands: Sequence[Command]
    outcomes: Sequence[Outcome]
    received_s: Sequence[float]
    offered: Sequence[int]
    began_s: float
    durable_s: float
    published_s: float
    published_ms: int
    new_received_s: Mapping[float, int]
    others: Sequence[tuple[Command, Outcome]]
    delivery_s: Mapping[float, int]


class FailedBatch(msgspec.Struct, frozen=True, gc=False):
    """A transaction that storage refused, or broke: whether it took effect is not known.

    Attributes:
        commands: What was asked, in order.
        received_s: When each was received.
        error: Why; `InternalError` or another exception's class for what nobody foresaw.
        began_s: When the transaction began.
        failed_s: When it was refused.
        failed_ms: The same, in Unix milliseconds.
    """

    commands: Sequence[Command]
    received_s: Sequence[float]
    error: Exception
    began_s: float
    failed_s: float
    failed_ms: int


class ModeratedBatch(msgspec.Struct, frozen=True, gc=False):
    """Messages that a moderator was asked about together.

    Attributes:
        commands: The messages, in order.
        verdicts: One for each, as the store is to take it: ALLOW (with a payload: rewritten), REFUSE, HOLD, or UNASKED
            for what is refused for now, since the moderator failed.
        failure: What went wrong, never with a word of a message; None if nothing did.
        began_s: When it was asked.
        ended_s: When it had answered, or was given up.
    """

    commands: Sequence[Append]
    verdicts: Sequence[Verdict]
    failure: str | None
    began_s: float
    ended_s: float


class Reconciled(msgspec.Struct, frozen=True, gc=False):
    """What this node had missed, as the log said when it was asked.

    Attributes:
        entries: How many entries were applied that no push of another node had brought.
        conversations: Of how many conversations these were.
        duration_s: How long asking and applying took.
    """

    entries: int
    conversations: int
    duration_s: float


class ServerSample(msgspec.Struct, frozen=True, gc=False):
    """How a server stands, once a second.

    Attributes:
        sessions: Logged in.
        conversations: With somebody online.
        queue_commands: Commands that wait for a transaction.
        queue_load: How full the commit queue is, from 0 to 1.
        offered: Pushes of entries that were offered to sessions since the server was made; `on_dropped` says which of
            them found no room.
        loop_lag_s: The longest that the event loop was late since the last sample.
        wal_bytes: The size of SQLite's write-ahead log; None for a store without one.
        healthy: Whether storage takes commits.
        search_lag_s: How long ago the index of search had taken up all messages; 0: it has, None: there is none.
    """

    sessions: int
    conversations: int
    queue_commands: int
    queue_load: float
    offered: int
    loop_lag_s: float
    wal_bytes: int | None
    healthy: bool
    search_lag_s: float | None = None


class QueueLag(msgspec.Struct, frozen=True, gc=False):
    """How far the delivery workers of a store are behind, all of them together; asked every ten seconds.

    Attributes:
        waiting: Conversations and devices that are to be looked at, up to 100,000.
        oldest_s: How long ago the oldest of them was due; 0 if none is.
        dead: Dead letters, up to 100,000.
        working: Whether a worker runs in this process: where none ever does, nothing has to be on time.
    """

    waiting: int
    oldest_s: float
    dead: int
    working: bool


class SeqViolation(msgspec.Struct, frozen=True, gc=False):
    """The log numbers its entries in a way that must never be: storage, or a bug, broke the one promise of a log.

    Attributes:
        kind: `repeated`: a new entry has a seq that was given before. `hole`: a seq between two entries was given to
            none.
        expected_seq: What should have come; of `repeated` the least that could.
    """

    conversation_id: str
    kind: Literal["repeated", "hole"]
    expected_seq: int
    seq: int


class PushOutcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one push.

    Attributes:
        kind: `delivered`: taken by the provider. `retry`: tried again later. `dead`: the token is dropped. `refused`:
            given up. `unknown`: it may have been taken; tried again later. `cancelled`: not sent, for it was confirmed,
            read, muted or recalled meanwhile.
        reason: The provider's words, or ours; "" for none.
    """

    conversation_id: str
    message_id: str
    user_id: str
    device_id: str
    kind: Literal["delivered", "retry", "dead", "refused", "unknown", "cancelled"]
    reason: str = ""


class PushedBatch(msgspec.Struct, frozen=True, gc=False):
    """Pushes that were handed to a provider together.

    Attributes:
        provider: Its name, as the worker has it; `?` if it has none of the name that the devices registered with.
        outcomes: One for each push.
        began_s: When the log was asked whether they are wanted still.
        ended_s: When the provider had answered.
        ended_ms: The same, in Unix milliseconds.
    """

    provider: str
    outcomes: Sequence[PushOutcome]
    began_s: float
    ended_s: float
    ended_ms: int


class ClientAnswer(msgspec.Struct, frozen=True, gc=False):
    """A message of this client that has its final answer.

    Attributes:
        outcome: Where it is in the log, or why it was refused for good.
        queued_s: When `send` queued it; None if that was before the client started.
    """

    conversation_id: str
    client_msg_id: str
    outcome: Sent | ChatkitError
    queued_s: float | None


class ClientBatch(msgspec.Struct, frozen=True, gc=False):
    """What one frame or page led to, once it is in the local store.

    Attributes:
        received: Messages that have their place now, each once per local store.
        answered: Own messages that have their answer now.
        duplicates: Entries that were dropped, for they had come before.
        gaps: Conversations of which entries are missing before what came.
        stored_s: When it was stored.
        stored_ms: The same, in Unix milliseconds.
    """

    received: Sequence[Message]
    answered: Sequence[ClientAnswer]
    duplicates: int
    gaps: int
    stored_s: float
    stored_ms: int


class Instrument:
    """Override what is of interest, or give any object that has some of these methods.

    All are called in the event loop of the part that they belong to: they must not wait, and should be quick, for
    messages wait meanwhile. What they raise is logged. The same instrument may be handed to several servers, workers
    and clients.
    """

    # --- a server ---

    def on_committed(self, batch: CommittedBatch) -> None:
        """A batch is durable, answered and published."""

    def on_failed(self, batch: FailedBatch) -> None:
        """Storage refused a batch."""

    def on_moderated(self, batch: ModeratedBatch) -> None:
        """The moderator answered, or failed to."""

    def on_refused(self, error: RefusedError) -> None:
        """Something that a session asked for was refused, and it was told so. Once for each: be quick."""

    def on_login(self, *, resumed: bool) -> None:
        """A session was opened, by its token or by a resume token."""

    def on_login_refused(self, error: RefusedError, *, resumed: bool) -> None:
        """A session was not opened. If it came with a resume token, its client falls back to its token."""

    def on_closed(self, code: int | None) -> None:
        """The connection of a session has ended; `code` is the server's close code, None if the peer ended it."""

    def on_dropped(self) -> None:
        """A push of an entry found a session's send buffer full: that session is told BEHIND, and pulls."""

    def on_behind(self, conversations: int) -> None:
        """A session was told of so many conversations that it is behind."""

    def on_gap(self, entries: int) -> None:
        """An entry came so many seqs too early: messages of another node were lost, or are late."""

    def on_duplicate(self) -> None:
        """An entry came that was applied before, and was dropped."""

    def on_reconciled(self, found: Reconciled) -> None:
        """The log was asked what this node had missed, and it was applied."""

    def on_seq_violation(self, found: SeqViolation) -> None:
        """Two entries have one number, or a number has no entry. Wake somebody."""

    def on_sampled(self, sample: ServerSample) -> None:
        """How the server stands, once a second."""

    # --- a server, and a delivery worker ---

    def on_queue_lag(self, lag: QueueLag) -> None:
        """How far the delivery workers of the store are behind."""

    # --- a delivery worker ---

    def on_pushed(self, batch: PushedBatch) -> None:
        """A provider answered, or what was to be sent was not wanted any more."""

    # --- a client ---

    def on_client_queued(self, conversation_id: str, client_msg_id: str) -> None:
        """The app sends a message; called by `send`, in the app's task. Its answer comes with a batch."""

    def on_client_batch(self, batch: ClientBatch) -> None:
        """What came is stored, and the app is told of it."""

    def on_client_connected(self, *, resumed: bool) -> None:
        """A connection is open and logged in."""

    def on_client_disconnected(self, code: int) -> None:
        """A connection that was logged in has ended, with this close code (1006 for none)."""

    def on_client_connect_failed(self, error: Exception) -> None:
        """A try to connect, or to log in, has failed; the client goes on as its configuration says."""


_HOOKS: Final = tuple(name for name in vars(Instrument) if name.startswith("on_"))


class Instruments:
    """Several instruments as one: for each method what calls all that have it, or None if nobody has.

    Attributes:
        given: The instruments.

    Raises:
        ConfigurationError: One has none of the methods, one that is unknown, or one that would have to be awaited.
    """

    on_committed: Callable[[CommittedBatch], None] | None
    on_failed: Callable[[FailedBatch], None] | None
    on_moderated: Callable[[ModeratedBatch], None] | None
    on_refused: Callable[[RefusedError], None] | None
    on_login: Callable[..., None] | None
    on_login_refused: Callable[..., None] | None
    on_closed: Callable[[int | None], None] | None
    on_dropped: Callable[[], None] | None
    on_behind: Callable[[int], None] | None
    on_gap: Callable[[int], None] | None
    on_duplicate: Callable[[], None] | None
    on_reconciled: Callable[[Reconciled], None] | None
    on_seq_violation: Callable[[SeqViolation], None] | None
    on_sampled: Callable[[ServerSample], None] | None
    on_queue_lag: Callable[[QueueLag], None] | None
    on_pushed: Callable[[PushedBatch], None] | None
    on_client_queued: Callable[[str, str], None] | None
    on_client_batch: Callable[[ClientBatch], None] | None
    on_client_connected: Callable[..., None] | None
    on_client_disconnected: Callable[[int], None] | None
    on_client_connect_failed: Callable[[Exception], None] | None

    __slots__ = (*_HOOKS, "given")

    def __init__(self, given: Iterable[Instrument] = ()) -> None:
        self.given = _checked(given)
        for name in _HOOKS:
            methods = [_Guarded(getattr(it, name)) for it in self.given if _overrides(it, name)]
            setattr(self, name, partial(_call_all, methods) if methods else None)


def _checked(given: object) -> list[Instrument]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError("instruments must be a list of instruments")
    listed = list(given)
    for it in listed:
        _check(it)
    return listed


def _check(instrument: object) -> None:
    name = type(instrument).__name__
    if isinstance(instrument, type):
        raise ConfigurationError(f"instruments must hold instruments, not the class {instrument.__name__}")
    hooks = [it for it in dir(instrument) if it.startswith("on_")]
    unknown = [it for it in hooks if it not in _HOOKS]
    if unknown:
        raise ConfigurationError(
            f"the instrument {name} has {unknown[0]}, which nothing calls; see Instrument"
        )
    if not any(_overrides(instrument, it) for it in hooks):
        raise ConfigurationError(f"{name} is no instrument: it has none of the methods of Instrument")
    for it in hooks:
        method = getattr(instrument, it)
        if not callable(method) or inspect.iscoroutinefunction(method):
            raise ConfigurationError(f"{name}.{it} must be a plain method: nobody awaits it")


def _overrides(instrument: object, name: str) -> bool:
    method = getattr(instrument, name, None)
    return method is not None and getattr(method, "__func__", None) is not getattr(Instrument, name)


class _Guarded:
    """One method of one instrument. What it raises is logged: the 1st time, the 2nd, the 4th, the 8th and so on."""

    __slots__ = ("_failures", "_method")

    def __init__(self, method: Callable[..., None]) -> None:
        self._method = method
        self._failures = 0

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._method(*args, **kwargs)
        except Exception:
            self._failures += 1
            if self._failures.bit_count() == 1:
                name = getattr(self._method, "__qualname__", repr(self._method))
                logger.exception("the instrument's %s failed; that was number %d", name, self._failures)


def _call_all(methods: Sequence[_Guarded], *args: Any, **kwargs: Any) -> None:
    for method in methods:
        method(*args, **kwargs)


NO_INSTRUMENTS: Final = Instruments()
"""Nobody looks on."""
