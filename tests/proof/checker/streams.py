"""S28: a streamed message says what its author wrote: no answered part is lost, none mixed, nothing after its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from chatkit.storage.base import Entry
from chatkit.wire import events as ev
from chatkit.wire.payload import RECALLED

from .index import Index
from .log_view import LogView
from .traffic import Arrived
from .verdict import Findings
from .words import of_event, of_row

Written = dict[str, dict[int, str]]
"""Texts by message id and number of the part; 0 is what the message began with, where that is known."""


def streams_hold(index: Index) -> Findings:
    """Parts that are pushed, the text of open streams in pages, and where the server cut one off."""
    written, ends = _written(index), _ends(index)
    for it in index.traffic.of(ev.StreamPartPush):
        why = _wrong_part(written.get(it.event.message_id, {}), it.event) or _stranger(index, it)
        yield of_event(it, it.event.conversation_id, why)
    for page in index.traffic.of(ev.SyncPage):
        for entry in page.event.messages:
            if isinstance(entry.stream, ev.EntryStream):
                why = _wrong_text(written.get(entry.message_id, {}), entry.stream)
                ended = ends.get(entry.message_id)
                if ended is not None and ended <= page.event.head_seq:
                    why = why or f"{entry.message_id} is shown open, and ended at seq {ended}"
                yield of_event(page, page.event.conversation_id, why)
    acked, moderated = _acked(index), bool(index.history.moderated)
    for log in index.logs.values():
        for row in log.dump.entries:
            if is_server_made_end(index, log, row) and row.payload != RECALLED and not log.restored:
                yield of_row(
                    log, row, _wrong_end(written, acked, msgspec.json.decode(row.payload), moderated)
                )


def is_server_made_end(index: Index, log: LogView, row: Entry) -> bool:
    """Whether the server ended a stream with this entry: nobody sent it, and it is under a key as only servers make."""
    key = row.client_msg_id
    if key is None or not key.startswith("end-") or index.sends.get((log.name, row.sender_id, key)):
        return False
    named = log.rows.get(log.said.get(row.seq, {}).get("seq", 0))
    return named is not None and named.sender_id == row.sender_id


def _written(index: Index) -> Written:
    found: Written = defaultdict(dict)
    for log in index.logs.values():
        for seq, body in log.bodies.items():
            if b'"type":"STREAM"' in body:
                found[log.rows[seq].message_id][0] = msgspec.json.decode(body)["text"]
    for it in index.traffic.of(ev.StreamPartCommand):
        if it.event.part:
            found[it.event.message_id].setdefault(it.event.part, it.event.text)
    return found


def _ends(index: Index) -> dict[str, int]:
    """Where each message was edited or recalled for the first time, by id."""
    found: dict[str, int] = {}
    for log in index.logs.values():
        if log.restored:
            continue
        edits = ((seq, it["seq"]) for seq, it in log.said.items() if it.get("type") == "EDIT")
        recalls = ((recall.seq, seq) for seq, recall in log.recalls.items())
        for seq, named in sorted([*edits, *recalls]):
            if named in log.rows:
                found.setdefault(log.rows[named].message_id, seq)
    return found


def _acked(index: Index) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for it in index.traffic.of(ev.StreamAck):
        found[it.event.message_id] = max(found[it.event.message_id], it.event.part)
    return found


def _texts(parts: dict[int, str]) -> Iterator[str]:
    """What it says after each part, as far as all before it are known."""
    text, number = parts.get(0), 0
    while text is not None:
        yield text
        number += 1
        text = text + parts[number] if number in parts else None


def _stranger(index: Index, it: Arrived[ev.StreamPartPush]) -> str | None:
    """Parts are for who may read their message."""
    log = index.logs.get(it.event.conversation_id)
    if log is None or not log.binds(it.event.epoch) or log.restored:
        return None
    may = log.readable(it.frame.user_id, it.event.seq)
    return None if may else f"{it.frame.user_id} may not read seq {it.event.seq}, and gets parts of it"


def _wrong_part(parts: dict[int, str], event: ev.StreamPartPush) -> str | None:
    if parts.get(event.part) == event.text:
        return None
    return f"part {event.part} of {event.message_id} is {event.text!r}, and its author wrote {parts.get(event.part)!r}"


def _wrong_text(parts: dict[int, str], shown: ev.EntryStream) -> str | None:
    if 0 not in parts:
        return None  # recalled meanwhile: what it began with is not known any more
    expected = list(_texts(parts))[shown.parts : shown.parts + 1]
    return None if expected == [shown.text] else f"{shown.parts} parts say {shown.text!r}, not {expected}"


def _wrong_end(
    written: Written, acked: dict[str, int], payload: dict[str, Any], moderated: bool
) -> str | None:
    """Where there is a moderator, a stream is cut off with what that has seen: the text that it began with."""
    name, text = payload["messageId"], payload["payload"]["text"]
    if 0 not in written[name] or (moderated and text == written[name][0]):
        return None
    enough = list(_texts(written[name]))[acked[name] :]
    return (
        None
        if text in enough
        else f"{name} was cut off with {text!r}, and {acked[name]} parts were acknowledged"
    )
