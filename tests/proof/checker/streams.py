"""Streamed messages that the server ended, since their authors were silent."""

from __future__ import annotations

from chatkit.storage.base import Entry

from .index import Index
from .log_view import LogView


def is_server_made_end(index: Index, log: LogView, row: Entry) -> bool:
    """Whether the server ended a stream with this entry: nobody sent it, and it is under a key as only servers make."""
    key = row.client_msg_id
    if key is None or not key.startswith("end-") or index.sends.get((log.name, row.sender_id, key)):
        return False
    named = log.rows.get(log.said.get(row.seq, {}).get("seq", 0))
    return named is not None and named.sender_id == row.sender_id
