"""From calls, frames, told events and dumps to facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from chatkit.client.events import MessageReceived, MessageSent
from chatkit.errors import ProtocolError
from chatkit.storage.base import Entry, StoredEdit
from chatkit.testing.history import AppEvent, Call, Frame
from chatkit.types import Message, Sent
from chatkit.wire import events as ev

from ..dumps import CompleteHistory, DeviceDump
from .facts import Ack, Key, Page, Past, Seen, Where
from .traffic import Traffic

canonical = msgspec.json.Encoder(order="sorted").encode
"""The one form in which payloads are compared."""


def key_of(call: Call) -> Key:
    """The key of a send."""
    return call.args["conversation_id"], call.user_id, call.args["client_msg_id"]


def member_ids(call: Call) -> list[str]:
    """Whom a `create`, `add` or `remove` is about."""
    found: list[str] = call.args["member_ids" if call.op == "create" else "user_ids"]
    return found


class Bodies:
    """Payloads off the wire in canonical form; each is decoded once, however many devices it went to."""

    def __init__(self) -> None:
        self._known: dict[tuple[bool, bytes], bytes] = {}

    def of(self, raw: msgspec.Raw, frame: Frame) -> bytes:
        """The canonical form; the bytes themselves if they hold no object, which then equal no body."""
        key = (frame.codec.binary, bytes(raw))
        known = self._known.get(key)
        if known is None:
            try:
                known = canonical(frame.codec.payload(raw))
            except ProtocolError:
                known = bytes(raw)
            self._known[key] = known
        return known


# --- entries ---


def pushed(traffic: Traffic, bodies: Bodies) -> list[Seen]:
    """Every NEW_MSG."""
    return [_wired(it.event, it.frame, "push", bodies) for it in traffic.of(ev.NewMsg)]


def pages_framed(traffic: Traffic, bodies: Bodies) -> Iterator[Page]:
    """Every SYNC_PAGE whose SYNC is known."""
    for it in traffic.of(ev.SyncPage):
        asked = traffic.asked(it)
        if asked is None:
            continue
        page, frame, limit = it.event, it.frame, asked.event.limit
        yield Page(
            page.conversation_id,
            frame.user_id,
            frame.device_id,
            asked.frame.at_s,
            asked.event.last_seq,
            limit if isinstance(limit, int) else None,
            frame.at_s,
            page.epoch,
            page.head_seq,
            page.up_to_seq,
            page.more,
            [_wired(entry, frame, "page", bodies) for entry in page.messages],
            asked.event.history is True,
        )


def pages_called(calls: Iterable[Call]) -> Iterator[Page]:
    """Every page that a `page` call brought."""
    for call in calls:
        answer = call.answer
        yield Page(
            answer["conversation_id"],
            call.user_id,
            call.device_id,
            call.at_s,
            call.args["last_seq"],
            call.args.get("limit"),
            returned_s(call),
            answer["epoch"],
            answer["head_seq"],
            answer["up_to_seq"],
            answer["more"],
            [_answered(it, call) for it in answer["entries"]],
            call.args.get("history", False),
        )


def pasts(calls: Iterable[Call]) -> Iterator[Past]:
    """Every answer of `history` calls."""
    for call in calls:
        entries = [_answered(it, call) for it in call.answer["items"]]
        yield Past(call, call.args["conversation_id"], entries)


def told(events: Iterable[AppEvent]) -> Iterator[Seen]:
    """Every entry that an app was told."""
    for it in events:
        if type(it.event) is MessageReceived:
            yield _plain(it.event.message, "", it.user_id, it.device_id, "told", it.at_s)


def held(dump: DeviceDump) -> Iterator[Seen]:
    """What one device holds at the end."""
    epochs = {record.conversation_id: record.epoch for record in dump.records}
    for name, messages in dump.messages.items():
        for message in messages:
            yield _plain(message, epochs.get(name, ""), dump.user_id, dump.device_id, "held", None)


def _wired(entry: ev.NewMsg | ev.LogEntry, frame: Frame, where: Where, bodies: Bodies) -> Seen:
    return Seen(
        entry.conversation_id,
        entry.epoch,
        entry.seq,
        entry.message_id,
        entry.sender_id,
        entry.server_ts,
        bodies.of(entry.payload, frame),
        entry.client_msg_id if isinstance(entry.client_msg_id, str) else None,
        frame.user_id,
        frame.device_id,
        where,
        frame.at_s,
        frame,
        *(_marks(entry.edit, entry.reactions) if isinstance(entry, ev.LogEntry) else ()),
    )


def _answered(item: Entry | Message, call: Call) -> Seen:
    if isinstance(item, Message):
        return _plain(item, "", call.user_id, call.device_id, "answer", call.returned_s)
    return Seen(
        item.conversation_id,
        item.epoch,
        item.seq,
        item.message_id,
        item.sender_id,
        item.server_ts,
        item.payload,
        item.client_msg_id,
        call.user_id,
        call.device_id,
        "answer",
        call.returned_s,
        None,
        *_marks(item.edit, item.reactions),
    )


def _marks(edit: Any, reactions: Any) -> tuple[int, tuple[tuple[str, int, tuple[str, ...]], ...]]:
    """What came with an entry, however it came."""
    seq = edit.seq if isinstance(edit, StoredEdit | ev.EntryEdit) else 0
    listed = reactions if isinstance(reactions, list | tuple) else ()
    return seq, tuple((it.reaction, it.count, tuple(it.user_ids)) for it in listed)


def _plain(
    message: Message, epoch: str, user_id: str, device_id: str, where: Where, at_s: float | None
) -> Seen:
    return Seen(
        message.conversation_id,
        epoch,
        message.seq,
        message.message_id,
        message.sender_id,
        message.server_ts,
        canonical(message.payload),
        message.client_msg_id,
        user_id,
        device_id,
        where,
        at_s,
    )


# --- answers to sends ---


def acks(history: CompleteHistory, traffic: Traffic) -> Iterator[Ack]:
    """Every answer to a send: of calls, in frames, and told to apps."""
    yield from _acks_called(history.calls)
    yield from _acks_framed(traffic)
    yield from _acks_told(history.app_events)


def _acks_called(calls: Iterable[Call]) -> Iterator[Ack]:
    for call in calls:
        if call.op == "send" and call.result == "ok":
            answer, how = call.answer, f"the answer to call {call.number}"
            yield Ack(
                key_of(call),
                answer.get("epoch", ""),
                answer["seq"],
                answer["message_id"],
                answer["server_ts"],
                call.device_id,
                returned_s(call),
                how,
                first_hand=not call.device_id,
            )


def _acks_framed(traffic: Traffic) -> Iterator[Ack]:
    for it in traffic.of(ev.MsgAck):
        event, frame = it.event, it.frame
        if isinstance(event.client_msg_id, str):
            yield Ack(
                (event.conversation_id, frame.user_id, event.client_msg_id),
                event.epoch,
                event.seq,
                event.message_id,
                event.server_ts,
                frame.device_id,
                frame.at_s,
                f"MSG_ACK on connection {frame.connection}",
                first_hand=True,
            )


def _acks_told(events: Iterable[AppEvent]) -> Iterator[Ack]:
    for it in events:
        if type(it.event) is MessageSent:
            sent: Sent = it.event.sent
            yield Ack(
                (sent.conversation_id, it.user_id, sent.client_msg_id),
                sent.epoch,
                sent.seq,
                sent.message_id,
                sent.server_ts,
                it.device_id,
                it.at_s,
                f"MessageSent told to {it.user_id}/{it.device_id}",
            )


def returned_s(call: Call) -> float:
    """When a call that has ended did."""
    assert call.returned_s is not None
    return call.returned_s


def head_of(row: Any) -> Any:
    """What a row of a list says of where its conversation stands: its head, or, of a plain row, itself."""
    return getattr(row, "head", row)
