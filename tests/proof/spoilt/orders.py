"""What is seen, answered or told changes, comes twice or in another order: S6 to S11, S23."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from chatkit.client.events import MessageRecalled, MessageReceived, MessageSent
from chatkit.testing.history import AppEvent, Frame
from chatkit.types import Message

from ..dumps import CompleteHistory
from ..histories import TEAM, change_event, device, events_of
from .table import (
    LATE_S,
    SECRET_SEQ,
    add_frame,
    call_of,
    change_held,
    is_of,
    row,
    spoils,
    told_at,
)

# --- S6 ---


@spoils("S6")
def a_push_with_another_body(history: CompleteHistory) -> None:
    change_event(history, "NEW_MSG", lambda it: it["payload"].update(text="forged"), where=is_of(3))


@spoils("S6")
def a_push_whose_body_is_no_object(history: CompleteHistory) -> None:
    change_event(history, "NEW_MSG", lambda it: it.update(payload=7), where=is_of(3))


@spoils("S6")
def a_push_of_another_time(history: CompleteHistory) -> None:
    change_event(history, "NEW_MSG", lambda it: it.update(serverTs=1), where=is_of(3))


@spoils("S6")
def a_push_of_what_is_not_in_the_log(history: CompleteHistory) -> None:
    change_event(history, "NEW_MSG", lambda it: it.update(seq=99), where=is_of(3))


@spoils("S6")
def another_key_than_the_senders(history: CompleteHistory) -> None:
    def own(frame: Frame, event: dict[str, Any]) -> bool:
        return "clientMsgId" in event

    change_event(history, "NEW_MSG", lambda it: it.update(clientMsgId="another"), where=own)


@spoils("S6")
def a_page_with_another_id(history: CompleteHistory) -> None:
    change_event(history, "SYNC_PAGE", lambda it: it["messages"][0].update(messageId="another"), last=True)


@spoils("S6")
def a_tombstone_without_a_recall(history: CompleteHistory) -> None:
    change_held(history, "bob", "phone", 3, payload={"type": "RECALLED"})


@spoils("S6")
def an_app_told_another_body(history: CompleteHistory) -> None:
    place = told_at(history, "bob", "phone", 3)
    message: Message = history.app_events[place].event.message
    forged = replace(message, payload={"type": "TEXT", "text": "forged"})
    history.app_events[place] = replace(history.app_events[place], event=MessageReceived(forged))


# --- S7 ---


@spoils("S7")
def a_page_that_leaves_one_out(history: CompleteHistory) -> None:
    change_event(history, "SYNC_PAGE", lambda it: it["messages"].pop(0), last=True)


@spoils("S7")
def a_page_that_ends_early_without_a_word(history: CompleteHistory) -> None:
    def shorten(event: dict[str, Any]) -> None:
        event["messages"].pop()
        event["upToSeq"] -= 1

    change_event(history, "SYNC_PAGE", shorten, last=True)


@spoils("S7")
def a_page_older_than_what_was_seen(history: CompleteHistory) -> None:
    def of_an_hour_ago(event: dict[str, Any]) -> None:
        event.update(messages=[], headSeq=1, upToSeq=1, more=False)

    change_event(history, "SYNC_PAGE", of_an_hour_ago, last=True)


@spoils("S7")
def a_page_that_covers_nothing_and_promises_more(history: CompleteHistory) -> None:
    call_of(history, "page", result="ok").answer.update(entries=(), up_to_seq=2, more=True)


@spoils("S7")
def heads_older_than_what_was_seen(history: CompleteHistory) -> None:
    def fall(event: dict[str, Any]) -> None:
        head = next(it for it in event["conversations"] if it["conversationId"] == TEAM)
        head.update(headSeq=6, deliveredSeq=6, othersDeliveredSeq=6, readSeq=6)

    change_event(history, "HEADS", fall, where=lambda frame, event: frame.user_id == "bob", last=True)


# --- S8, S9 ---


@spoils("S8")
def a_later_send_with_a_smaller_seq(history: CompleteHistory) -> None:
    call = call_of(history, "send", client_msg_id="a-1")
    call.at_s = call.returned_s = LATE_S


@spoils("S9")
def a_queue_stored_in_another_order(history: CompleteHistory) -> None:
    first, second = (call_of(history, "send", client_msg_id=key) for key in ("a-3", "a-4"))
    first.number, second.number = second.number, first.number


@spoils("S9")
def a_refused_send_that_another_passes(history: CompleteHistory) -> None:
    up = next(
        it for it in history.frames if it.up and any(one["event"] == "SEND_MSG" for one in events_of(it))
    )
    down = replace(up, up=False)
    sends = [
        {
            "event": "SEND_MSG",
            "conversationId": TEAM,
            "clientMsgId": key,
            "payload": {"type": "TEXT", "text": key},
        }
        for key in ("first", "second")
    ]
    why = {"event": "ERROR", "code": "OVERLOADED", "message": "later", "retryable": True}
    refusals = [{**why, "conversationId": TEAM, "clientMsgId": it["clientMsgId"]} for it in sends]
    add_frame(history, up, *sends)
    add_frame(history, down, *refusals)
    add_frame(history, up, sends[1])


# --- S10 ---


@spoils("S10")
def an_app_told_twice(history: CompleteHistory) -> None:
    history.app_events.append(history.app_events[told_at(history, "bob", "phone", 3)])


@spoils("S10")
def an_app_told_in_another_order(history: CompleteHistory) -> None:
    one, two = (told_at(history, "bob", "phone", seq) for seq in (2, 3))
    history.app_events[one], history.app_events[two] = history.app_events[two], history.app_events[one]


@spoils("S10")
def an_app_not_told_of_one(history: CompleteHistory) -> None:
    del history.app_events[told_at(history, "bob", "phone", 3)]


@spoils("S10")
def an_app_told_of_its_own_as_of_anothers(history: CompleteHistory) -> None:
    own = row(history, 2)
    payload = msgspec.json.decode(own.payload)
    message = Message(TEAM, 2, own.message_id, "ann", own.server_ts, payload, own.client_msg_id)
    history.app_events.append(AppEvent(LATE_S, "ann", "phone", 1, MessageReceived(message)))


@spoils("S10")
def an_answer_told_once_too_often(history: CompleteHistory) -> None:
    answers = (it for it in history.app_events if isinstance(it.event, MessageSent))
    history.app_events.append(next(it for it in answers if it.event.sent.client_msg_id == "a-2"))


@spoils("S10")
def an_app_told_of_a_recall_that_is_none(history: CompleteHistory) -> None:
    history.app_events.append(AppEvent(LATE_S, "bob", "phone", 2, MessageRecalled(TEAM, "any", 3, "ann")))


@spoils("S10")
def a_device_with_a_hole(history: CompleteHistory) -> None:
    del device(history, "bob", "phone").messages[TEAM][3]


# --- S11 ---


@spoils("S11")
def another_epoch_in_a_repeated_answer(history: CompleteHistory) -> None:
    change_event(
        history, "MSG_ACK", lambda it: it.update(epoch="another"), where=is_of(SECRET_SEQ), last=True
    )


@spoils("S11")
def another_body_accepted_under_a_known_key(history: CompleteHistory) -> None:
    conflict = call_of(history, "send", error="ConflictError")
    conflict.result, conflict.answer = "ok", call_of(history, "send", client_msg_id="a-1").answer


@spoils("S11")
def a_repeat_that_is_refused(history: CompleteHistory) -> None:
    repeat = [call for call in history.calls if call.args.get("client_msg_id") == "b-1"][-1]
    repeat.result, repeat.error = "fail", "NotFoundError"


@spoils("S11")
def a_conflict_that_is_hidden(history: CompleteHistory) -> None:
    call_of(history, "send", error="ConflictError").error = "NotFoundError"


# --- S23 ---


@spoils("S23")
def a_page_in_another_order(history: CompleteHistory) -> None:
    def of_several(frame: Frame, event: dict[str, Any]) -> bool:
        return len(event["messages"]) > 1

    change_event(history, "SYNC_PAGE", lambda it: it["messages"].reverse(), where=of_several)


@spoils("S23")
def a_page_that_lists_one_twice(history: CompleteHistory) -> None:
    change_event(history, "SYNC_PAGE", lambda it: it["messages"].append(it["messages"][-1]), last=True)


@spoils("S23")
def a_page_longer_than_asked(history: CompleteHistory) -> None:
    call_of(history, "page", result="ok").args["limit"] = 2


@spoils("S23")
def a_past_with_a_hole(history: CompleteHistory) -> None:
    del call_of(history, "history").answer["items"][4]


@spoils("S23")
def a_past_in_another_order(history: CompleteHistory) -> None:
    call_of(history, "history").answer["items"].reverse()


@spoils("S23")
def a_past_that_is_too_new(history: CompleteHistory) -> None:
    call_of(history, "history", user_id="ann").args["before_seq"] = 4


@spoils("S23")
def a_past_that_is_too_long(history: CompleteHistory) -> None:
    call_of(history, "history", user_id="ann").args["limit"] = 1
