"""S27: a page shows beside a message the last edit that its reader sees, and the reactions of that time."""

from __future__ import annotations

from typing import Any

from chatkit.core.log.marks import REACTION_USERS_MAX

from .facts import Page, Seen
from .index import Index
from .log_view import LogView
from .verdict import Findings
from .words import of_page


def marks_shown(index: Index) -> Findings:
    """Of every entry of every page, against the log up to the head of the page."""
    said = {log.name: _said(log) for log in index.logs.values()}
    for page in index.pages:
        log = index.logs.get(page.conversation_id)
        if log is None or not log.binds(page.epoch) or log.restored:
            continue
        for entry in page.entries:
            wrong = _wrong(log, page, entry, said[log.name])
            yield of_page(page, None if wrong is None else (wrong, entry.seq))


def _said(log: LogView) -> dict[int, list[tuple[int, str, dict[str, Any]]]]:
    """(seq, sender, payload) of what was said of each entry, ascending; of edits that were recalled without payload."""
    found: dict[int, list[tuple[int, str, dict[str, Any]]]] = {}
    for seq, payload in log.said.items():
        found.setdefault(payload["seq"], []).append((seq, log.rows[seq].sender_id, payload))
    return found


def _wrong(
    log: LogView, page: Page, entry: Seen, said: dict[int, list[tuple[int, str, dict[str, Any]]]]
) -> str | None:
    recall = log.recalls.get(entry.seq)
    recalled = recall is not None and recall.seq <= page.head_seq
    told = [] if recalled else [it for it in said.get(entry.seq, ()) if it[0] <= page.head_seq]
    edits = [seq for seq, _, it in told if it["type"] == "EDIT" and log.readable(page.user_id, seq)]
    if entry.edit_seq != (edits[-1] if edits else 0):
        return f"shows seq {entry.seq} as edited by {entry.edit_seq}, of the edits {edits}"
    users: dict[str, dict[str, None]] = {}
    for _, sender_id, it in told:
        if it["type"] == "REACTION":
            there = users.setdefault(it["reaction"], {})
            if it.get("removed"):
                there.pop(sender_id, None)
            else:
                there[sender_id] = None
    expected = {it: (len(there), list(there)[:REACTION_USERS_MAX]) for it, there in users.items() if there}
    shown = {it: (count, list(named)) for it, count, named in entry.reactions}
    return None if shown == expected else f"shows seq {entry.seq} with {shown}, and it has {expected}"
