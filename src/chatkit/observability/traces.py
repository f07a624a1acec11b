"""Traces by OpenTelemetry (extra `otel`): an instrument that makes spans of what happened to a message, and where.

All spans of one message are in one trace, in every process: its id is made from the message's id, which the client
that sent it, the server, the worker and the clients that received it all know. So nothing travels for it, a message
that is resent or pushed hours later is in the same trace, and whether it is followed is the same decision everywhere.
The trace's root is the message itself; no span stands for it.

Spans are made when what they tell of is over, with the times that the part's clock had. They hold no message's words
and no token; ids of users, devices and conversations only if asked to.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from ..core.log.commands import Append
from ..core.log.outcomes import Appended, Recalled
from ..errors import ChatkitError, ConfigurationError
from ..types import Message
from .instrument import (
    ClientAnswer,
    ClientBatch,
    CommittedBatch,
    FailedBatch,
    Instrument,
    PushedBatch,
    PushOutcome,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, TracerProvider

_CHECKSUMS: Final = 1 << 32
_STORED: Final = (Appended, Recalled)
_NS: Final = 1_000_000_000
_SENDERS_MAX: Final = 10_000
"""Messages that wait for their answer whose sender's span is remembered, to be linked to."""

Attributes = Mapping[str, str | int | bool]


class Traces(Instrument):
    """Spans of what a server, a delivery worker or a client does: `ChatServer(instruments=[Traces()])`.

    One may be handed to several of them. Where no SDK of OpenTelemetry is set up, its spans go nowhere.

    Args:
        provider: Makes the tracer; None: the global one.
        ratio: The part of the messages that is followed, from 0 to 1: by their ids, so the same ones in every process
            that has this ratio. What the SDK's sampler drops is dropped all the same; one that goes by the parent takes
            every message that is followed here.
        with_names: Whether spans hold the ids of conversations, users and devices, and clients' own keys.

    Raises:
        ConfigurationError: OpenTelemetry's API is missing (the extra `otel`), or the ratio is none.
    """

    def __init__(
        self, provider: TracerProvider | None = None, *, ratio: float = 1.0, with_names: bool = False
    ) -> None:
        try:
            from opentelemetry import trace
        except ImportError:
            raise ConfigurationError(
                "traces need OpenTelemetry: pip install 'chatkit-engine[otel]'"
            ) from None
        if not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
            raise ConfigurationError(f"ratio must be a number from 0 to 1, not {ratio!r:.80}")
        self._api = trace
        self._tracer = trace.get_tracer("chatkit", tracer_provider=provider)
        self._bound = round(ratio * _CHECKSUMS)
        self._with_names = with_names
        self._senders: dict[tuple[str, str], SpanContext] = {}

    def context_of(self, message_id: str) -> Context | None:
        """The context in which a host's or an app's own span becomes a part of a message's trace.

        `tracer.start_as_current_span("answer", context=traces.context_of(message.message_id))`.

        Returns:
            None if the message is not followed: such a span goes by the context that is current.
        """
        name = message_id.encode("utf-8", "surrogatepass")
        if crc32(name) >= self._bound:  # all that a message costs which is not followed
            return None
        api, made = self._api, blake2b(name, digest_size=24).digest()
        flags = api.TraceFlags(api.TraceFlags.SAMPLED)
        trace_id, span_id = int.from_bytes(made[:16], "big"), int.from_bytes(made[16:], "big")
        root = api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        context: Context = api.set_span_in_context(api.NonRecordingSpan(root), _nothing())
        return context

    # --- a server ---

    def on_committed(self, batch: CommittedBatch) -> None:
        """`accept`, with `commit` and `fan out` in it, of each message and recall."""
        for index, outcome in enumerate(batch.outcomes):
            if isinstance(outcome, _STORED):
                context = self.context_of(outcome.entry.message_id)
                if context is not None:
                    self._accepted(batch, index, outcome, context)

    def _accepted(
        self, batch: CommittedBatch, index: int, outcome: Appended | Recalled, context: Context
    ) -> None:
        def ns(at_s: float) -> int:
            return _ns(at_s, batch.published_s, batch.published_ms)

        entry = outcome.entry
        attributes: Attributes = {
            **_of_message("accept", "process", entry.message_id),
            "messaging.message.body.size": len(entry.payload),
            "chatkit.entry": "message" if isinstance(outcome, Appended) else "recall",
            "chatkit.repeat": outcome.repeat,
            **self._names(entry.conversation_id, entry.sender_id),
        }
        received, began = ns(batch.received_s[index]), ns(batch.began_s)
        durable, published = ns(batch.durable_s), ns(batch.published_s)
        kind = self._api.SpanKind
        span = self._start("accept", kind.SERVER, min(received, began), context, attributes)
        if span.is_recording():
            inside = self._api.set_span_in_context(span, context)
            count = {"messaging.batch.message_count": len(batch.commands)}
            self._start("commit", kind.INTERNAL, began, inside, count).end(durable)
            if not outcome.repeat:
                offered = {"chatkit.sessions": batch.offered[index]}
                self._start("fan out", kind.INTERNAL, durable, inside, offered).end(published)
        span.end(published)

    def on_failed(self, batch: FailedBatch) -> None:
        """`commit`, of the batch: its messages have no ids. It is in a trace of its own."""
        appends = sum(isinstance(it, Append) for it in batch.commands)
        began = _ns(batch.began_s, batch.failed_s, batch.failed_ms)
        attributes = {"messaging.batch.message_count": len(batch.commands), "chatkit.messages": appends}
        span = self._start("commit", self._api.SpanKind.INTERNAL, began, _nothing(), attributes)
        self._fail(span, _name_of(batch.error))
        span.end(batch.failed_ms * 1_000_000)

    # --- a delivery worker ---

    def on_pushed(self, batch: PushedBatch) -> None:
        """`push`, to each device."""
        began, ended = _ns(batch.began_s, batch.ended_s, batch.ended_ms), batch.ended_ms * 1_000_000
        for it in batch.outcomes:
            context = self.context_of(it.message_id)
            if context is not None:
                self._pushed(batch.provider, it, context, began, ended)

    def _pushed(self, provider: str, push: PushOutcome, context: Context, began: int, ended: int) -> None:
        attributes = {
            **_of_message("push", "send", push.message_id),
            "chatkit.push.provider": provider,
            "chatkit.push.outcome": push.kind,
            **self._names(push.conversation_id, push.user_id, push.device_id),
        }
        span = self._start("push", self._api.SpanKind.CLIENT, began, context, attributes)
        if push.kind not in ("delivered", "cancelled"):
            self._fail(span, push.kind)
        span.end(ended)

    # --- a client ---

    def on_client_queued(self, conversation_id: str, client_msg_id: str) -> None:
        """The span that is current where the app sends is linked to by `send`."""
        current = self._api.get_current_span().get_span_context()
        if current.is_valid:
            if len(self._senders) >= _SENDERS_MAX:
                del self._senders[next(iter(self._senders))]
            self._senders[conversation_id, client_msg_id] = current

    def on_client_batch(self, batch: ClientBatch) -> None:
        """`send` of each own message that has its answer, and `receive` of each message and recall that came."""
        for answer in batch.answered:
            self._answered(batch, answer)
        for message in batch.received:
            context = None if message.type == "MEMBER" else self.context_of(message.message_id)
            if context is not None:
                self._received(batch, message, context)

    def _answered(self, batch: ClientBatch, answer: ClientAnswer) -> None:
        sender = self._senders.pop((answer.conversation_id, answer.client_msg_id), None)
        refusal = answer.outcome if isinstance(answer.outcome, ChatkitError) else None
        message_id = "" if isinstance(answer.outcome, ChatkitError) else answer.outcome.message_id
        context = self.context_of(message_id) if message_id else _nothing()
        if context is None:
            return
        queued_s = batch.stored_s if answer.queued_s is None else answer.queued_s
        attributes = {
            **_of_message("send", "send", message_id),
            **self._names(answer.conversation_id, key=answer.client_msg_id),
        }
        began = _ns(queued_s, batch.stored_s, batch.stored_ms)
        span = self._start("send", self._api.SpanKind.PRODUCER, began, context, attributes)
        if sender is not None:
            span.add_link(sender)
        if refusal is not None:
            self._fail(span, _name_of(refusal))
        span.end(batch.stored_ms * 1_000_000)

    def _received(self, batch: ClientBatch, message: Message, context: Context) -> None:
        stored = batch.stored_ms * 1_000_000
        attributes: Attributes = {
            **_of_message("receive", "receive", message.message_id),
            "chatkit.age_ms": batch.stored_ms - message.server_ts,  # by two clocks
            **self._names(message.conversation_id, message.sender_id),
        }
        self._start("receive", self._api.SpanKind.CONSUMER, stored, context, attributes).end(stored)

    # --- inside ---

    def _start(self, name: str, kind: Any, at_ns: int, context: Context, attributes: Attributes) -> Span:
        every = {**attributes, "messaging.system": "chatkit"}
        return self._tracer.start_span(name, context, kind, every, start_time=at_ns)

    def _fail(self, span: Span, error: str) -> None:
        span.set_attribute("error.type", error)
        span.set_status(self._api.StatusCode.ERROR)

    def _names(
        self, conversation_id: str, user_id: str = "", device_id: str = "", key: str = ""
    ) -> dict[str, str]:
        if not self._with_names:
            return {}
        names = {
            "messaging.destination.name": conversation_id,
            "user.id": user_id,
            "chatkit.device.id": device_id,
            "chatkit.client_msg_id": key,
        }
        return {name: value for name, value in names.items() if value}


def _nothing() -> Context:
    """A context in which no span is current: not that of whoever the instrument is called by."""
    from opentelemetry.context import Context

    return Context()


def _of_message(name: str, kind: str, message_id: str) -> dict[str, str]:
    """Source: OpenTelemetry's semantic conventions for messaging."""
    attributes = {"messaging.operation.name": name, "messaging.operation.type": kind}
    return {**attributes, "messaging.message.id": message_id} if message_id else attributes


def _ns(at_s: float, known_s: float, known_ms: int) -> int:
    """Unix nanoseconds of a monotonic time, by another that was read at the same moment as the Unix time."""
    return known_ms * 1_000_000 + round((at_s - known_s) * _NS)


def _name_of(error: Exception) -> str:
    return error.code if isinstance(error, ChatkitError) else type(error).__name__
