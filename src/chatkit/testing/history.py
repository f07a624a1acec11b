"""The history of a run: what was called, which frames arrived, which events the apps got, what went wrong.

The recording client, server and network write one `History`; `transcript` prints it. All times are seconds of one
monotonic clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from ..client.events import MessageReceived
from ..types import Message
from ..wire.codec import Codec
from ..wire.payload import DEPTH_MAX

Result = Literal["ok", "fail", "info"]
"""`ok` it took effect; `fail` it definitely did not; `info` nobody knows (a deadline, a cut, a 5xx)."""

_COPIED = (dict, list, Message, MessageReceived)
_DEPTH_MAX = DEPTH_MAX + 8
"""That of a payload, and what stands around it."""


class Call(msgspec.Struct):
    """One call of an app, an operator or a client of the wire.

    Attributes:
        number: Place in the history, by invocation, from 0.
        at_s: When it was invoked.
        user_id: Who called; empty for the host itself.
        device_id: From where; empty for the host and for plain HTTP.
        op: The verb: send, recall, create, add, remove, mark_read, history, status, renew_epoch.
        args: What was asked; for a send always `conversation_id`, `client_msg_id`, `payload`. With `timeout_s`, it
            returns within that, to the millisecond; so only virtual time may note it.
        returned_s: When it returned; None while it has not.
        result: How it ended; None while it has not.
        answer: What `ok` brought, as plain values.
        error: Class name of what `fail` or `info` raised.
    """

    number: int
    at_s: float
    user_id: str
    device_id: str
    op: str
    args: dict[str, Any]
    returned_s: float | None = None
    result: Result | None = None
    answer: dict[str, Any] = msgspec.field(default_factory=dict)
    error: str = ""


class Frame(msgspec.Struct):
    """One frame that reached its other end.

    Attributes:
        up: From the device to the server; otherwise down.
        connection: Number of the connection, unique in the run.
        codec: How `data` is encoded.
        node: The server at the other end.
    """

    at_s: float
    up: bool
    user_id: str
    device_id: str
    connection: int
    node: str
    codec: Codec
    data: bytes


class AppEvent(msgspec.Struct):
    """One event that a client gave to its app. `incarnation` counts the starts of the device, from 1."""

    at_s: float
    user_id: str
    device_id: str
    incarnation: int
    event: Any


class Incident(msgspec.Struct):
    """Something that happened to the system: a fault, a crash, a restart, a phase of the run.

    Attributes:
        what: Its name, one of few.
        detail: To whom or what.
        until_s: When it ended, for what lasts; None for what is over at once, or lasted to the end.
    """

    at_s: float
    what: str
    detail: str = ""
    until_s: float | None = None


class Returned(msgspec.Struct, frozen=True):
    """The end of a call, as a step of its own."""

    at_s: float
    call: Call


class Ended(msgspec.Struct, frozen=True):
    """The end of an incident that lasted, as a step of its own."""

    at_s: float
    incident: Incident


Step = Call | Returned | Frame | AppEvent | Incident | Ended


def device_name(user_id: str, device_id: str) -> str:
    """A device, or a user who came without one."""
    return f"{user_id}/{device_id}" if device_id else user_id or "the host"


class History:
    """What happened in one run, in its order.

    Arguments, answers and the messages in events are kept as they were at that moment, whatever becomes of them later.

    Args:
        now_s: The run's clock.

    Attributes:
        steps: All that was noted, in the order in which it happened, which equal times do not tell.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.steps: list[Step] = []
        self.calls: list[Call] = []
        self.frames: list[Frame] = []
        self.app_events: list[AppEvent] = []
        self.incidents: list[Incident] = []

    def invoke(self, user_id: str, device_id: str, op: str, **args: Any) -> Call:
        """Note that a call begins."""
        call = Call(len(self.calls), self._now_s(), user_id, device_id, op, _kept(args, {}))
        self.calls.append(call)
        self.steps.append(call)
        return call

    def ok(self, call: Call, **answer: Any) -> None:
        """The call took effect."""
        self._returned(call, "ok")
        call.answer = _kept(answer, {})

    def fail(self, call: Call, error: BaseException) -> None:
        """The call definitely had no effect."""
        self._returned(call, "fail")
        call.error = type(error).__name__

    def info(self, call: Call, error: BaseException) -> None:
        """The call ended and nobody knows whether it had an effect."""
        self._returned(call, "info")
        call.error = type(error).__name__

    def frame(
        self,
        user_id: str,
        device_id: str,
        data: bytes | str,
        codec: Codec,
        *,
        up: bool,
        connection: int,
        node: str = "",
    ) -> None:
        """Note a frame that arrived."""
        raw = data.encode() if isinstance(data, str) else data
        frame = Frame(self._now_s(), up, user_id, device_id, connection, node, codec, raw)
        self.frames.append(frame)
        self.steps.append(frame)

    def app_event(self, user_id: str, device_id: str, incarnation: int, event: Any) -> None:
        """Note an event that an app was given."""
        given = AppEvent(self._now_s(), user_id, device_id, incarnation, _kept(event, {}))
        self.app_events.append(given)
        self.steps.append(given)

    def happened(self, what: str, detail: str = "") -> Incident:
        """Note what happened to the system; whoever ends it calls `ended`."""
        incident = Incident(self._now_s(), what, detail)
        self.incidents.append(incident)
        self.steps.append(incident)
        return incident

    def ended(self, incident: Incident) -> None:
        """What lasted is over."""
        incident.until_s = self._now_s()
        self.steps.append(Ended(incident.until_s, incident))

    def digest(self) -> str:
        """A hash of everything that happened, in order: equal histories have equal digests, in every process."""
        state = hashlib.sha256()
        for part in self._parts():
            for item in part:
                state.update(_plain(item))
        return state.hexdigest()

    def _parts(self) -> Iterable[Sequence[Any]]:
        return self.calls, self.incidents, self.frames, self.app_events

    def _returned(self, call: Call, result: Result) -> None:
        assert call.result is None, "a call returns once"
        call.returned_s = self._now_s()
        self.steps.append(Returned(call.returned_s, call))
        call.result = result


def _kept(value: Any, copies: dict[int, Any], depth: int = 0) -> Any:
    """A copy as far as a payload reaches, so that nobody changes it later: of objects, lists and messages in them.

    What is nested deeper than any payload may be is not copied.
    """
    kind = type(value)
    if kind not in _COPIED or depth > _DEPTH_MAX:
        return value
    if id(value) in copies:
        return copies[id(value)]
    if kind is Message:
        return replace(value, payload=_kept(value.payload, copies, depth + 1))
    if kind is MessageReceived:
        return MessageReceived(_kept(value.message, copies, depth + 1))
    if kind is list:
        several: list[Any] = []
        copies[id(value)] = several
        several.extend(_kept(it, copies, depth + 1) for it in value)
        return several
    named: dict[Any, Any] = {}
    copies[id(value)] = named
    named.update((name, _kept(it, copies, depth + 1)) for name, it in value.items())
    return named


def _plain(item: Any) -> bytes:
    """Bytes of a value that do not depend on addresses or on the order of sets."""
    return msgspec.json.encode(item, enc_hook=_named, order="sorted")


def _named(value: Any) -> Any:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, Codec):
        return value.subprotocol
    raise TypeError(f"a history cannot hold {type(value).__name__}")
