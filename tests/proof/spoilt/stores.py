"""What the store holds is not what it must hold: S1 to S5, S13, S19, S24, S26, S29."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from chatkit.storage.base import OutboxEntry
from chatkit.testing.history import Frame

from ..dumps import CompleteHistory
from ..histories import PAIR, TEAM, frame_of, log
from .table import (
    EVE_BACK,
    EVE_GONE,
    EVE_LEFT,
    LATE_S,
    RECALL_SEQ,
    add_call,
    add_frame,
    append,
    append_sent,
    call_of,
    change_row,
    drop_events,
    row,
    spoils,
    store,
)


@spoils("S1")
def an_acked_row_is_gone(history: CompleteHistory) -> None:
    log(history).entries.remove(row(history, 3))


@spoils("S1")
def the_acked_tail_is_gone(history: CompleteHistory) -> None:
    log(history).entries.pop()
    log(history).head_seq -= 1


@spoils("S1")
def the_acked_beginning_is_gone(history: CompleteHistory) -> None:
    del log(history).entries[:2]


@spoils("S1")
def everything_is_gone(history: CompleteHistory) -> None:
    log(history).entries.clear()


@spoils("S1")
def another_message_is_where_one_was_acked(history: CompleteHistory) -> None:
    change_row(history, 3, client_msg_id="another")


@spoils("S1")
def an_acked_recall_is_gone(history: CompleteHistory) -> None:
    log(history).entries.remove(row(history, RECALL_SEQ))


@spoils("S1")
def a_conversation_is_gone(history: CompleteHistory) -> None:
    del store(history).logs[PAIR]


@spoils("S2")
def a_refused_send_is_stored(history: CompleteHistory) -> None:
    payload = call_of(history, "send", client_msg_id="e-0").args["payload"]
    encoded = msgspec.json.encode(payload, order="sorted")
    append(history, like=3, sender_id="eve", client_msg_id="e-0", payload=encoded)


@spoils("S2")
def a_refused_send_was_stored_and_recalled(history: CompleteHistory) -> None:
    payload = b'{"type":"RECALLED"}'
    append(history, like=3, sender_id="eve", client_msg_id="e-0", payload=payload)


@spoils("S3")
def a_row_that_nobody_sent(history: CompleteHistory) -> None:
    append(history, like=3, client_msg_id="nobody's")


@spoils("S3")
def a_row_with_another_body(history: CompleteHistory) -> None:
    change_row(history, 3, payload=b'{"text":"forged","type":"TEXT"}')


@spoils("S3")
def a_row_in_anothers_name(history: CompleteHistory) -> None:
    append(history, like=3, sender_id="bob")


@spoils("S3")
def a_member_whom_nobody_added(history: CompleteHistory) -> None:
    append(history, like=EVE_BACK, payload=b'{"op":"ADDED","type":"MEMBER","userIds":["mallory"]}')


@spoils("S3")
def a_member_whom_nobody_removed(history: CompleteHistory) -> None:
    append(history, like=EVE_LEFT, payload=b'{"op":"REMOVED","type":"MEMBER","userIds":["bob"]}')


@spoils("S3")
def a_recall_that_nobody_asked_for(history: CompleteHistory) -> None:
    append(history, like=RECALL_SEQ, sender_id="ann")


@spoils("S3")
def an_entry_of_no_kind(history: CompleteHistory) -> None:
    append(history, like=RECALL_SEQ, payload=b'{"type":"TEXT","text":"from the server"}')


@spoils("S3")
def an_entry_that_is_no_json(history: CompleteHistory) -> None:
    append(history, like=RECALL_SEQ, payload=b"\x00")


@spoils("S4")
def a_key_is_stored_twice(history: CompleteHistory) -> None:
    append(history, like=3)


@spoils("S4")
def an_id_is_given_twice(history: CompleteHistory) -> None:
    append(history, like=EVE_BACK)
    log(history).entries[-1] = replace(log(history).entries[-1], message_id=row(history, 3).message_id)


@spoils("S4")
def a_seq_is_taken_twice(history: CompleteHistory) -> None:
    log(history).entries.append(replace(row(history, EVE_BACK), message_id="another"))


@spoils("S5")
def a_hole_in_the_log(history: CompleteHistory) -> None:
    log(history).entries.remove(row(history, EVE_LEFT))


@spoils("S5")
def a_counter_ahead_of_its_rows(history: CompleteHistory) -> None:
    log(history).head_seq += 1


@spoils("S13")
def nothing_in_the_outbox_for_who_has_no_device(history: CompleteHistory) -> None:
    store(history).outbox.clear()


@spoils("S13")
def an_outbox_that_begins_too_late(history: CompleteHistory) -> None:
    outbox = store(history).outbox
    outbox[0] = replace(outbox[0], first_seq=2)


@spoils("S13")
def an_outbox_that_ends_below_the_head(history: CompleteHistory) -> None:
    outbox = store(history).outbox
    outbox[0] = replace(outbox[0], last_seq=1)


@spoils("S13")
def two_outbox_rows_for_one_log(history: CompleteHistory) -> None:
    store(history).outbox.append(store(history).outbox[0])


@spoils("S13")
def an_outbox_open_for_nothing(history: CompleteHistory) -> None:
    store(history).outbox.append(OutboxEntry(PAIR, 1, 2, 0))


@spoils("S13")
def an_outbox_closed_before_a_device_confirmed(history: CompleteHistory) -> None:
    def late(frame: Frame, event: dict[str, Any]) -> bool:
        return frame.user_id == "bob" and event["event"] == "DELIVERED_ACK" and event["upToSeq"] >= EVE_GONE

    drop_events(history, late)


@spoils("S19")
def a_row_of_who_had_left(history: CompleteHistory) -> None:
    append_sent(history, "eve", "one more thing")


@spoils("S19")
def a_row_of_a_stranger(history: CompleteHistory) -> None:
    append_sent(history, "mallory", "hello everybody")


@spoils("S19")
def a_member_added_by_another_than_the_creator(history: CompleteHistory) -> None:
    add_call(history, "add", "bob", conversation_id=TEAM, user_ids=["zoe"])
    payload = b'{"op":"ADDED","type":"MEMBER","userIds":["zoe"]}'
    append(history, like=EVE_BACK, sender_id="bob", payload=payload)


@spoils("S19")
def a_member_who_leaves_for_another(history: CompleteHistory) -> None:
    add_call(history, "remove", "ann", conversation_id=TEAM, user_ids=["bob"])
    payload = b'{"op":"LEFT","type":"MEMBER","userIds":["bob"]}'
    append(history, like=EVE_GONE, sender_id="ann", payload=payload)


@spoils("S19")
def a_member_added_once_more(history: CompleteHistory) -> None:
    add_call(history, "add", "ann", conversation_id=TEAM, user_ids=["bob"])
    append(history, like=EVE_BACK, payload=b'{"op":"ADDED","type":"MEMBER","userIds":["bob"]}')


@spoils("S19")
def a_member_removed_who_was_none(history: CompleteHistory) -> None:
    append(history, like=EVE_LEFT)


@spoils("S19")
def somebody_who_left_once_more(history: CompleteHistory) -> None:
    append(history, like=EVE_GONE)


@spoils("S24")
def a_change_that_is_not_audited(history: CompleteHistory) -> None:
    del log(history).audit[-1]


@spoils("S24")
def an_audit_of_what_was_not_done(history: CompleteHistory) -> None:
    audit = log(history).audit
    audit.append(replace(audit[1], audit_id=audit[-1].audit_id + 1, subject="mallory"))


@spoils("S24")
def an_audit_that_blames_another(history: CompleteHistory) -> None:
    audit = log(history).audit
    audit[2] = replace(audit[2], actor_id="ann")


@spoils("S24")
def a_chain_that_does_not_hold(history: CompleteHistory) -> None:
    assert history.store is not None
    history.store.chains.append("of the audit of conversation team, number 2 is not as it was written")


@spoils("S24")
def an_audit_out_of_order(history: CompleteHistory) -> None:
    audit = log(history).audit
    audit[0], audit[1] = (
        replace(audit[0], audit_id=audit[1].audit_id),
        replace(audit[1], audit_id=audit[0].audit_id),
    )


@spoils("S24")
def a_renewal_that_is_not_audited(history: CompleteHistory) -> None:
    call = add_call(history, "renew_epoch", "", conversation_id=TEAM)
    call.result, call.answer = "ok", {"epoch": "another"}


@spoils("S24")
def an_audited_renewal_that_nobody_asked_for(history: CompleteHistory) -> None:
    audit = log(history).audit
    last = audit[-1]
    renewal = replace(last, audit_id=last.audit_id + 1, action="EPOCH_RENEWED", subject=log(history).epoch)
    audit.append(replace(renewal, actor_id=""))


@spoils("S24")
def a_renewal_that_the_log_does_not_have(history: CompleteHistory) -> None:
    an_audited_renewal_that_nobody_asked_for(history)
    add_call(history, "renew_epoch", "", conversation_id=TEAM)
    audit = log(history).audit
    audit[-1] = replace(audit[-1], subject="another")


# --- S26 ---


def _moderated(history: CompleteHistory, **change: Any) -> None:
    """The moderator said something else of b-2, or at another time."""
    (place,) = [n for n, it in enumerate(history.moderated) if it.key == (TEAM, "bob", "b-2")]
    history.moderated[place] = replace(history.moderated[place], **change)


@spoils("S26")
def a_message_that_was_refused(history: CompleteHistory) -> None:
    _moderated(history, verdict="refuse")


@spoils("S26")
def a_message_that_is_held_and_nobody_released(history: CompleteHistory) -> None:
    _moderated(history, verdict="hold")


@spoils("S26")
def a_message_whose_rewrite_was_not_stored(history: CompleteHistory) -> None:
    _moderated(history, verdict="rewrite", instead=b'{"text":"other","type":"TEXT"}')


@spoils("S26")
def a_message_seen_before_it_was_allowed(history: CompleteHistory) -> None:
    _moderated(history, at_s=LATE_S)


@spoils("S26")
def a_key_that_is_moderated_again(history: CompleteHistory) -> None:
    (known,) = [it for it in history.moderated if it.key == (TEAM, "bob", "b-2")]
    history.moderated.append(replace(known, looked_at_s=LATE_S, at_s=LATE_S))


@spoils("S26")
def a_stored_message_whose_sender_was_told_that_it_is_refused(history: CompleteHistory) -> None:
    like = frame_of(history, "MSG_ACK", lambda frame, event: event.get("clientMsgId") == "b-2")
    words = {"code": "CONTENT_REFUSED", "message": "no", "retryable": False}
    add_frame(history, like, {"event": "ERROR", **words, "conversationId": TEAM, "clientMsgId": "b-2"})


# --- S29 ---


@spoils("S29")
def a_pin_that_nobody_made(history: CompleteHistory) -> None:
    named = log(history)
    assert named.about is not None
    named.about = replace(named.about, pins=[(2, 3)])
