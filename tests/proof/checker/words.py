"""Breaches in words, from what shows them. Each function takes what is wrong, and gives None if nothing is."""

from __future__ import annotations

from typing import Any

from chatkit.storage.base import Entry
from chatkit.testing.history import Call, Frame, device_name
from chatkit.wire import events as ev

from .facts import Ack, Page, Seen
from .log_view import LogView
from .traffic import Arrived
from .verdict import Breach


def place_of(seen: Seen) -> str:
    """Where an entry was seen."""
    who = device_name(seen.user_id, seen.device_id)
    match seen.where:
        case "held":
            return f"held by {who}"
        case "told":
            return f"told to {who}"
        case "answer":
            return f"in an answer to {who}"
    assert seen.frame is not None
    what = "pushed" if seen.where == "push" else "in a page"
    return f"{what} to {who} on connection {seen.frame.connection}"


def of_log(log: LogView, seq: int | None, why: str | None) -> Breach | None:
    """About a log, or a place in it."""
    if why is None:
        return None
    place = log.name if seq is None else f"seq {seq} of {log.name}"
    return Breach(what=f"{place}: {why}", conversation_id=log.name, seq=seq)


def of_row(log: LogView, row: Entry, why: str | None) -> Breach | None:
    """About an entry of the log."""
    if why is None:
        return None
    return Breach(
        what=f"seq {row.seq} of {log.name}: {why}",
        conversation_id=log.name,
        seq=row.seq,
        client_msg_id=row.client_msg_id or "",
        user_id=row.sender_id,
    )


def of_seen(seen: Seen, why: str | None) -> Breach | None:
    """About an entry as somebody saw it."""
    if why is None:
        return None
    return Breach(
        what=f"seq {seen.seq} of {seen.conversation_id}, {place_of(seen)}: {why}",
        conversation_id=seen.conversation_id,
        seq=seen.seq,
        user_id=seen.user_id,
        device_id=seen.device_id,
        at_s=seen.at_s,
    )


def of_ack(ack: Ack, why: str | None) -> Breach | None:
    """About an answer to a send."""
    if why is None:
        return None
    conversation_id, sender_id, client_msg_id = ack.key
    return Breach(
        what=f"{ack.how} says that {client_msg_id!r} of {sender_id} is seq {ack.seq} of {conversation_id}; {why}",
        conversation_id=conversation_id,
        seq=ack.seq,
        client_msg_id=client_msg_id,
        user_id=sender_id,
        device_id=ack.device_id,
        at_s=ack.at_s,
    )


def of_call(call: Call, why: str | None, conversation_id: str = "", seq: int | None = None) -> Breach | None:
    """About a call."""
    if why is None:
        return None
    name = conversation_id or call.args.get("conversation_id") or ""
    place = f" in {name}" if name else ""
    return Breach(
        what=f"call {call.number}, {call.op} of {device_name(call.user_id, call.device_id)}{place}: {why}",
        conversation_id=name,
        seq=seq,
        client_msg_id=call.args.get("client_msg_id", ""),
        user_id=call.user_id,
        device_id=call.device_id,
        at_s=call.at_s if call.returned_s is None else call.returned_s,
    )


def of_page(page: Page, wrong: tuple[str, int] | None) -> Breach | None:
    """About a page, and a seq that it is wrong about."""
    if wrong is None:
        return None
    why, seq = wrong
    who = device_name(page.user_id, page.device_id)
    return Breach(
        what=f"a page of {page.conversation_id} after seq {page.last_seq} for {who} {why}",
        conversation_id=page.conversation_id,
        seq=seq,
        user_id=page.user_id,
        device_id=page.device_id,
        at_s=page.at_s,
    )


def of_frame(
    frame: Frame, why: str | None, conversation_id: str = "", seq: int | None = None
) -> Breach | None:
    """About a frame."""
    if why is None:
        return None
    way, who = "from" if frame.up else "to", device_name(frame.user_id, frame.device_id)
    return Breach(
        what=f"a frame {way} {who} on connection {frame.connection}: {why}",
        conversation_id=conversation_id,
        seq=seq,
        user_id=frame.user_id,
        device_id=frame.device_id,
        at_s=frame.at_s,
    )


def of_event(
    it: Arrived[Any], conversation_id: str, why: str | None, seq: int | None = None
) -> Breach | None:
    """About an event that arrived."""
    if why is None:
        return None
    frame, event = it.frame, it.event
    name, who = type(event).__struct_config__.tag, device_name(frame.user_id, frame.device_id)
    about = f" of {conversation_id}" if conversation_id else ""
    return Breach(
        what=f"{name}{about} {'from' if frame.up else 'to'} {who} on connection {frame.connection}: {why}",
        conversation_id=conversation_id,
        seq=event.seq if isinstance(event, ev.NewMsg) else seq,
        user_id=frame.user_id,
        device_id=frame.device_id,
        at_s=frame.at_s,
    )


def of_device(
    user_id: str, device_id: str, log: LogView, seq: int | None, why: str | None, at_s: float | None = None
) -> Breach | None:
    """About what a device has of a log, or its app was told of it."""
    if why is None:
        return None
    place = log.name if seq is None else f"seq {seq} of {log.name}"
    return Breach(
        what=f"{device_name(user_id, device_id)}, {place}: {why}",
        conversation_id=log.name,
        seq=seq,
        user_id=user_id,
        device_id=device_id,
        at_s=at_s,
    )
