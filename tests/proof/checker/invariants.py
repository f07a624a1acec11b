"""The table of all invariants."""

from __future__ import annotations

from .about import about_kept
from .cursors import cursors_rise, receipts_follow, unread_counted
from .isolation import isolated, revoked
from .liveness import everything_answered, online_devices_converge, returned_devices_converge
from .marks import marks_shown
from .memory import bounded_memory, nothing_left_over
from .moderation import moderated
from .online import authors_hear, caught_up, heard_connections_stay, typing_is_limited_apart
from .order import equal_order, real_time_order, session_order
from .outbox import outbox_covers
from .pages import complete_reads, no_late_hole
from .recalls import recalls_hold
from .rights import audited, write_permission
from .sessions import bounded_frames, resume_is_bound
from .slots import identical_replay, immutable_slot
from .stored import dense, no_acked_loss, no_phantom, no_resurrection, unique
from .streams import streams_hold
from .verdict import Invariant

INVARIANTS: dict[str, Invariant] = {
    invariant.number: invariant
    for invariant in (
        Invariant("S1", "no acked loss", "log", no_acked_loss),
        Invariant("S2", "no resurrection of refusals", "log", no_resurrection),
        Invariant("S3", "no phantom", "log", no_phantom),
        Invariant("S4", "unique", "log", unique),
        Invariant("S5", "dense", "log", dense),
        Invariant("S6", "immutable slot", "session", immutable_slot),
        Invariant("S7", "no hole that fills later", "session", no_late_hole),
        Invariant("S8", "real-time order", "log", real_time_order),
        Invariant("S9", "session order", "log", session_order),
        Invariant("S10", "equal order", "device", equal_order),
        Invariant("S11", "identical replay", "log", identical_replay),
        Invariant("S13", "outbox covers the unconfirmed", "log", outbox_covers),
        Invariant("S14", "receipt after persistence", "session", receipts_follow),
        Invariant("S15", "cursors never fall", "session", cursors_rise),
        Invariant("S16", "unread", "log", unread_counted),
        Invariant("S18", "revocation", "session", revoked),
        Invariant("S17", "isolation", "session", isolated),
        Invariant("S19", "write permission", "log", write_permission),
        Invariant("S20", "recall", "session", recalls_hold),
        Invariant("S26", "moderation", "log", moderated),
        Invariant("S27", "edits and reactions", "session", marks_shown),
        Invariant("S28", "streams", "log", streams_hold),
        Invariant("S29", "mentions, pins and titles", "log", about_kept),
        Invariant("S22", "resume", "session", resume_is_bound),
        Invariant("S23", "sync completeness", "session", complete_reads),
        Invariant("S24", "audit", "log", audited),
        Invariant("S25", "bounds of frames", "session", bounded_frames),
        Invariant("S25b", "bounds of memory", "session", bounded_memory),
        Invariant("L1", "online devices converge", "device", online_devices_converge),
        Invariant("L2", "returned devices converge", "device", returned_devices_converge),
        Invariant("L5", "everything is answered", "sender", everything_answered),
        Invariant("L9", "a connection that is heard stays", "session", heard_connections_stay),
        Invariant("L11", "caught up", "session", caught_up),
        Invariant("L12", "authors hear", "session", authors_hear),
        Invariant("L13", "typing is limited apart", "session", typing_is_limited_apart),
        Invariant("S25c", "nothing left over", "session", nothing_left_over),
    )
}
"""By number, in the order in which they are checked: where one fault breaks several, the nearest to its cause first."""
