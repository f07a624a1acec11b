"""Who is told what he must not hear, or cursors that nobody moved: S14 to S18, S20, S22, S27 to S29."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from chatkit.storage.base import Reactions, StoredEdit
from chatkit.testing.history import Frame

from ..dumps import CompleteHistory
from ..histories import PAIR, TEAM, change_event, device, events_of, with_events
from .table import (
    EVE_BACK,
    EVE_GONE,
    EVE_LEFT,
    RECALL_SEQ,
    SECRET,
    SECRET_SEQ,
    Where,
    add_call,
    add_frame,
    append,
    call_of,
    change_cursor,
    change_held,
    change_row,
    is_of,
    last_frame_to,
    pushed,
    row,
    spoils,
)

EVES_FIRST, EVES_SECOND, EVES_THIRD = 4, 5, 7
"""Connections: on the second one she left, and came back, and left."""


def to(user_id: str) -> Where:
    return lambda frame, event: frame.user_id == user_id


def receipt_of(user_id: str, delivered_seq: int, read_seq: int) -> Where:
    wanted = (user_id, delivered_seq, read_seq)
    return lambda frame, it: (it["userId"], it["deliveredSeq"], it["readSeq"]) == wanted


# --- S14 to S16 ---


@spoils("S14")
def a_receipt_that_no_device_caused(history: CompleteHistory) -> None:
    change_event(history, "RECEIPT", lambda it: it.update(deliveredSeq=9), where=receipt_of("bob", 4, 0))


@spoils("S14")
def a_receipt_of_what_was_not_read(history: CompleteHistory) -> None:
    change_event(history, "RECEIPT", lambda it: it.update(readSeq=4), where=receipt_of("bob", 4, 0))


@spoils("S14")
def delivered_without_a_word_of_the_device(history: CompleteHistory) -> None:
    def deliver(event: dict[str, Any]) -> None:
        for head in event["conversations"]:
            head["deliveredSeq"] = head["headSeq"]

    change_event(history, "HEADS", deliver, where=to("bob"))


@spoils("S14")
def a_cursor_above_the_head(history: CompleteHistory) -> None:
    def rise(event: dict[str, Any]) -> None:
        event["conversations"][0]["othersDeliveredSeq"] = 99

    change_event(history, "HEADS", rise)


@spoils("S14")
def a_receipt_of_a_stranger(history: CompleteHistory) -> None:
    change_event(history, "RECEIPT", lambda it: it.update(userId="mallory"))


@spoils("S14")
def a_receipt_beyond_the_membership(history: CompleteHistory) -> None:
    change_event(
        history, "RECEIPT", lambda it: it.update(deliveredSeq=EVE_GONE), where=receipt_of("eve", 14, 5)
    )


@spoils("S15")
def a_receipt_that_falls(history: CompleteHistory) -> None:
    change_event(history, "RECEIPT", lambda it: it.update(readSeq=0), where=receipt_of("bob", 16, 6))


@spoils("S15")
def a_read_cursor_that_the_store_forgot(history: CompleteHistory) -> None:
    change_cursor(history, "bob", read_seq=3)


@spoils("S15")
def heads_that_forgot_a_read(history: CompleteHistory) -> None:
    def forget(event: dict[str, Any]) -> None:
        for head in event["conversations"]:
            head["readSeq"] = 0

    change_event(history, "HEADS", forget, where=to("bob"), last=True)


@spoils("S15")
def a_mark_that_never_arrived(history: CompleteHistory) -> None:
    """Nobody ever heard of bob's second mark."""
    change_cursor(history, "bob", read_seq=3)
    for place, frame in enumerate(history.frames):
        events = events_of(frame)
        for cursors in [*events, *(head for it in events for head in it.get("conversations", ()))]:
            if cursors.get("readSeq") == 6:
                cursors["readSeq"] = 3
        history.frames[place] = with_events(frame, events)


@spoils("S16")
def one_unread_too_many(history: CompleteHistory) -> None:
    items = call_of(history, "list", user_id="ann").answer["items"]
    call_of(history, "list", user_id="ann").answer["items"] = [
        replace(it, unread=it.unread + 1) for it in items
    ]


@spoils("S29")
def one_mention_too_many(history: CompleteHistory) -> None:
    call = call_of(history, "list", user_id="ann")
    call.answer["items"] = [replace(it, unread_mentions=1) for it in call.answer["items"]]


# --- S17, S18 ---


@spoils("S17")
def a_page_from_before_she_joined(history: CompleteHistory) -> None:
    page = call_of(history, "page", result="ok")
    page.user_id = "eve"


@spoils("S17")
def a_push_from_before_she_joined(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "eve", EVES_FIRST), pushed(history, 3))


@spoils("S17")
def a_body_in_an_error(history: CompleteHistory) -> None:
    error = {"event": "ERROR", "code": "INTERNAL", "message": "near canary1lap1", "retryable": True}
    add_frame(history, last_frame_to(history, "eve"), error)


@spoils("S17")
def a_body_in_a_field_that_nobody_reads(history: CompleteHistory) -> None:
    def quote(event: dict[str, Any]) -> None:
        event["quote"] = "canary1lap1"

    change_event(history, "NEW_MSG", quote, where=is_of(EVE_BACK, "eve"))


@spoils("S17")
def a_body_in_a_binary_frame(history: CompleteHistory) -> None:
    laptops = next(it for it in history.frames if it.codec.binary and not it.up)
    packed = msgspec.msgpack.encode({"event": "PONG", "serverTs": 1, "note": "canary1lap1" + 40 * "."})
    history.frames.append(replace(laptops, user_id="eve", device_id="phone", data=packed))


@spoils("S17")
def a_device_that_holds_what_its_user_may_not_see(history: CompleteHistory) -> None:
    bobs = device(history, "bob", "phone").messages[TEAM]
    device(history, "eve", "phone").messages[TEAM].insert(0, bobs[2])


@spoils("S17")
def a_receipt_to_a_stranger(history: CompleteHistory) -> None:
    receipt = {"event": "RECEIPT", "conversationId": PAIR, "userId": "bob", "deliveredSeq": 1, "readSeq": 0}
    add_frame(history, last_frame_to(history, "eve"), receipt)


@spoils("S17")
def the_senders_key_shown_to_another(history: CompleteHistory) -> None:
    key = row(history, 3).client_msg_id
    change_event(history, "NEW_MSG", lambda it: it.update(clientMsgId=key), where=is_of(3, "bob"))


@spoils("S18")
def a_push_to_who_was_removed(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "eve", EVES_SECOND), pushed(history, EVE_LEFT + 1))


@spoils("S18")
def typing_heard_after_leaving(history: CompleteHistory) -> None:
    typing = {"event": "TYPING", "conversationId": TEAM, "userId": "ann"}
    add_frame(history, last_frame_to(history, "eve", EVES_SECOND), typing)


@spoils("S18")
def typing_heard_by_who_had_been_removed_before(history: CompleteHistory) -> None:
    typing = {"event": "TYPING", "conversationId": TEAM, "userId": "ann"}
    add_frame(history, last_frame_to(history, "eve", EVES_THIRD), typing)


# --- S20 ---


@spoils("S20")
def a_recalled_body_on_a_device(history: CompleteHistory) -> None:
    change_held(history, "bob", "phone", SECRET_SEQ, payload=SECRET)


@spoils("S20")
def a_recalled_body_in_a_page(history: CompleteHistory) -> None:
    answer = call_of(history, "page", result="ok").answer
    body = msgspec.json.encode(SECRET, order="sorted")
    answer["entries"] = tuple(
        replace(it, payload=body) if it.seq == SECRET_SEQ else it for it in answer["entries"]
    )


@spoils("S20")
def a_recalled_body_on_a_new_connection(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "bob"), {**pushed(history, SECRET_SEQ), "clientMsgId": "b-1"})


@spoils("S20")
def a_recalled_body_in_the_log(history: CompleteHistory) -> None:
    change_row(history, SECRET_SEQ, payload=msgspec.json.encode(SECRET, order="sorted"))


@spoils("S20")
def a_message_recalled_twice(history: CompleteHistory) -> None:
    append(history, like=RECALL_SEQ)


@spoils("S20")
def a_recall_by_another_than_the_author(history: CompleteHistory) -> None:
    target = row(history, 3)
    add_call(history, "recall", "bob", message_id=target.message_id)
    payload = {"by": "bob", "messageId": target.message_id, "seq": 3, "type": "RECALL"}
    append(history, like=RECALL_SEQ, payload=msgspec.json.encode(payload))


@spoils("S20")
def a_recall_that_left_the_body(history: CompleteHistory) -> None:
    target = row(history, 3)
    add_call(history, "recall", "ann", message_id=target.message_id)
    payload = {"by": "ann", "messageId": target.message_id, "seq": 3, "type": "RECALL"}
    append(history, like=RECALL_SEQ, sender_id="ann", payload=msgspec.json.encode(payload))


@spoils("S20")
def a_recall_of_what_is_no_message(history: CompleteHistory) -> None:
    target = row(history, EVE_BACK)
    add_call(history, "recall", "ann", message_id=target.message_id)
    payload = {"by": "ann", "messageId": target.message_id, "seq": EVE_BACK, "type": "RECALL"}
    append(history, like=RECALL_SEQ, sender_id="ann", payload=msgspec.json.encode(payload))


@spoils("S20")
def a_recall_that_names_another_id(history: CompleteHistory) -> None:
    target = row(history, 3)
    add_call(history, "recall", "ann", message_id=row(history, 2).message_id)
    payload = {"by": "ann", "messageId": row(history, 2).message_id, "seq": target.seq, "type": "RECALL"}
    append(history, like=RECALL_SEQ, sender_id="ann", payload=msgspec.json.encode(payload))


@spoils("S20")
def a_recall_answered_with_another_entry(history: CompleteHistory) -> None:
    call_of(history, "recall").answer.update(seq=3, message_id=row(history, 3).message_id)


@spoils("S20")
def a_recall_answered_of_what_was_not_recalled(history: CompleteHistory) -> None:
    call_of(history, "recall").args["message_id"] = row(history, 3).message_id


# --- S22 ---


def token_of(history: CompleteHistory, user_id: str) -> str:
    events = [it for frame in history.frames if frame.user_id == user_id for it in events_of(frame)]
    return next(str(it["resumeToken"]) for it in events if it["event"] == "WELCOME")


def resumed(frame: Frame, event: dict[str, Any]) -> bool:
    return "resumeToken" in event


@spoils("S22")
def a_login_by_anothers_token(history: CompleteHistory) -> None:
    token = token_of(history, "ann")
    change_event(history, "HELLO", lambda it: it.update(resumeToken=token), where=resumed)


@spoils("S22")
def a_login_by_a_token_of_nobody(history: CompleteHistory) -> None:
    change_event(history, "HELLO", lambda it: it.update(resumeToken="guessed"), where=resumed)


@spoils("S22")
def a_login_by_a_used_token(history: CompleteHistory) -> None:
    token = token_of(history, "eve")
    change_event(history, "HELLO", lambda it: it.update(resumeToken=token), where=resumed, last=True)


@spoils("S22")
def a_login_by_a_replaced_token(history: CompleteHistory) -> None:
    def by_token(event: dict[str, Any]) -> None:
        del event["resumeToken"]
        event["token"] = "eve"

    token = token_of(history, "eve")
    change_event(history, "HELLO", by_token, where=resumed)
    change_event(
        history, "WELCOME", lambda it: it.update(resumed=False), where=lambda frame, it: it["resumed"]
    )
    change_event(history, "HELLO", lambda it: it.update(resumeToken=token), where=resumed, last=True)


@spoils("S22")
def a_resumed_login_that_was_none(history: CompleteHistory) -> None:
    change_event(history, "WELCOME", lambda it: it.update(resumed=True))


@spoils("S22")
def a_login_of_another_device(history: CompleteHistory) -> None:
    change_event(history, "HELLO", lambda it: it.update(deviceId="tablet"))


# --- S27 ---


@spoils("S27")
def a_page_with_an_edit_that_is_none(history: CompleteHistory) -> None:
    answer = call_of(history, "page", result="ok").answer
    first, *others = answer["entries"]
    answer["entries"] = (replace(first, edit=StoredEdit(first.seq + 1, first.server_ts, b"{}")), *others)


@spoils("S27")
def a_page_with_a_reaction_of_nobody(history: CompleteHistory) -> None:
    answer = call_of(history, "page", result="ok").answer
    *others, last = answer["entries"]
    answer["entries"] = (*others, replace(last, reactions=(Reactions("+1", 1, ("bob",)),)))


@spoils("S27")
def a_frame_with_an_edit_that_is_none(history: CompleteHistory) -> None:
    def change(event: dict[str, Any]) -> None:
        event["messages"][0]["edit"] = {"seq": event["headSeq"], "serverTs": 1, "payload": {}}

    change_event(history, "SYNC_PAGE", change, where=lambda frame, event: bool(event["messages"]))


# --- S28 ---


@spoils("S28")
def a_part_in_other_words(history: CompleteHistory) -> None:
    change_event(
        history, "STREAM_PART", lambda it: it.update(text="other"), where=lambda frame, _: not frame.up
    )


@spoils("S28")
def a_part_under_another_number(history: CompleteHistory) -> None:
    change_event(history, "STREAM_PART", lambda it: it.update(part=2), where=lambda frame, _: not frame.up)
