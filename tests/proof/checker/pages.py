"""S7 and S23: a page holds exactly what its reader may see, says when there is more, and never lags behind."""

from __future__ import annotations

from chatkit.testing.history import Call
from chatkit.wire import events as ev

from .facts import Page, Past
from .gather import head_of
from .index import Index
from .log_view import LogView
from .verdict import Findings
from .words import of_call, of_event, of_page

# --- S7 ---


def no_late_hole(index: Index) -> Findings:
    """Nothing visible that a page passes over is ever there, and no page ends below what was known without a word.

    Heads are held against what anybody had seen when their connection said HELLO, lists against what was seen when they
    were called for.
    """
    for page in index.pages:
        log = index.logs.get(page.conversation_id)
        if log is not None and log.binds(page.epoch):
            yield of_page(page, _passed_over(log, page) or _ends_early(index, log, page))
    for it in index.traffic.of(ev.Heads):
        hello = index.traffic.hellos.get(it.frame.connection)
        if hello is None:
            continue
        for head in it.event.conversations:
            log = index.logs.get(head.conversation_id)
            if log is not None and not log.restored:
                known = index.known_head(log.name, hello.frame.at_s)
                why = f"head {head.head_seq}, though seq {known} was known before HELLO"
                yield of_event(it, log.name, None if head.head_seq >= known else why, known)
    for call in index.answered("list"):
        yield from _list_lags(index, call)


def _list_lags(index: Index, call: Call) -> Findings:
    """A list has the heads that were known, and, if it is whole, each conversation that its user was known to be in."""
    heads = {it.conversation_id: it for it in map(head_of, call.answer["items"])}
    limit = call.args.get("limit")
    whole = limit is not None and len(heads) < limit and call.args.get("after") is None
    for log in index.logs.values():
        head, known = heads.get(log.name), index.known_head(log.name, call.at_s)
        stay = log.current_stay(call.user_id)
        if log.restored:
            continue
        if head is not None:
            why = f"head {head.head_seq}, though seq {known} was known before"
            yield of_call(call, None if head.head_seq >= known else why, log.name, known)
        elif whole and stay is not None and stay.first_seq <= known:
            yield of_call(call, f"it is not listed, and he is a member since seq {stay.first_seq}", log.name)


def _passed_over(log: LogView, page: Page) -> tuple[str, int] | None:
    listed = {entry.seq for entry in page.entries}
    shown = log.readable_seqs if page.history else log.visible_seqs
    for seq in shown(page.user_id, page.last_seq, page.up_to_seq):
        if seq not in listed and seq in log.rows:
            return f"covers seq {seq} and does not list it", seq
    return None


def _ends_early(index: Index, log: LogView, page: Page) -> tuple[str, int] | None:
    if page.more != (page.up_to_seq < page.head_seq):
        return f"ends at {page.up_to_seq} of {page.head_seq} and says more={page.more}", page.up_to_seq
    if page.more and page.up_to_seq <= page.last_seq:
        return "covers nothing and says that there is more", page.up_to_seq
    known = 0 if log.restored else index.known_head(log.name, page.asked_at_s)
    if page.head_seq < known:
        return f"has head {page.head_seq}, though seq {known} was known before it was asked for", known
    return None


# --- S23 ---


def complete_reads(index: Index) -> Findings:
    """A page lists ascending, within what it covers, no more than was asked, and of the past only where that was asked
    for; a read of the past leaves nothing out.

    Not in its midst, and, of what its device had before, neither the newest, nor the oldest that there was room for.
    """
    for page in index.pages:
        yield of_page(page, _misshapen(page) or _delivers_the_past(index, page))
    for past in index.pasts:
        log = index.logs.get(past.conversation_id)
        if log is not None and not log.restored:
            wrong = _past_misshapen(past) or _past_holes(log, past) or _past_lacks(index, log, past)
            yield of_call(past.call, wrong, log.name, past.entries[0].seq if past.entries else None)


def _delivers_the_past(index: Index, page: Page) -> tuple[str, int] | None:
    log = index.logs.get(page.conversation_id)
    for entry in page.entries if log is not None and log.binds(page.epoch) and not page.history else ():
        if log is not None and not log.visible(page.user_id, entry.seq):
            return f"lists seq {entry.seq}, from before he joined, and nobody asked for that", entry.seq
    return None


def _misshapen(page: Page) -> tuple[str, int] | None:
    last = page.last_seq
    for entry in page.entries:
        if not last < entry.seq <= page.up_to_seq:
            return f"lists seq {entry.seq} after seq {last}, and ends at {page.up_to_seq}", entry.seq
        last = entry.seq
    if page.limit is not None and len(page.entries) > max(1, page.limit):
        return f"lists {len(page.entries)} entries, asked for {page.limit}", last
    return None


def _past_misshapen(past: Past) -> str | None:
    before_seq, limit = past.call.args.get("before_seq"), past.call.args.get("limit")
    seqs = [entry.seq for entry in past.entries]
    if seqs != sorted(set(seqs)):
        return f"it is not ascending: {seqs}"
    if before_seq is not None and seqs and seqs[-1] >= before_seq:
        return f"it holds seq {seqs[-1]}, asked for what is below {before_seq}"
    return None if limit is None or len(seqs) <= limit else f"it holds {len(seqs)} entries, asked for {limit}"


def _past_holes(log: LogView, past: Past) -> str | None:
    """Between the first and the last entry nothing visible is missing."""
    seqs = [entry.seq for entry in past.entries]
    visible = log.visible_seqs(past.call.user_id, seqs[0], seqs[-1]) if seqs else []
    missing = sorted(set(visible).difference(seqs))
    return f"it leaves out seqs {missing}" if missing else None


def _past_lacks(index: Index, log: LogView, past: Past) -> str | None:
    """What its device had placed before is there, from the newest down to the limit.

    A new epoch has a device begin again, and so has a new membership, until it has placed something of it. One whose
    user was removed answers with what it has kept: then only the newest are asked for.
    """
    call, stays = past.call, log.stays.get(past.call.user_id, [])
    placed = index.placed_seq(log, call.user_id, call.device_id, call.at_s)
    lasting = bool(stays) and stays[-1].ended_seq is None and placed >= stays[-1].first_seq
    if log.renewals or not (lasting or len(stays) == 1):
        return None
    before_seq, limit = call.args.get("before_seq"), call.args.get("limit")
    end = placed if before_seq is None else min(placed, before_seq - 1)
    wanted = log.visible_seqs(call.user_id, 0, end)
    seqs = [entry.seq for entry in past.entries]
    if limit is not None:
        others = set(seqs).difference(wanted)  # newer, or of the time between two memberships
        room = max(0, limit - len(others))
        wanted = wanted[len(wanted) - min(room, len(wanted)) :]
    if not lasting and wanted:
        oldest = min(seqs, default=wanted[-1])
        wanted = [seq for seq in wanted if seq >= oldest]
    missing = sorted(set(wanted).difference(seqs))
    return f"it leaves out seqs {missing}, and its device had them" if missing else None
