"""Calls and refusals that say too little, too much or too late: S7, S17, S18, S19, S23, L5."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from chatkit.testing.history import Call, Frame
from chatkit.wire.codec import JSON

from ..dumps import CompleteHistory
from ..histories import PAIR, TEAM, change_event, with_events
from .table import LATE_S, add_call, add_frame, call_of, last_frame_to, row, spoils

# --- lists ---


def listed(history: CompleteHistory, user_id: str) -> list[Any]:
    """The rows of a user's list."""
    rows: list[Any] = call_of(history, "list", user_id=user_id).answer["items"]
    return rows


def all_read(row_of_list: Any) -> Any:
    """A row as it is for whoever has read everything."""
    head = replace(row_of_list.head, read_seq=row_of_list.head.head_seq)
    return replace(row_of_list, head=head, unread=0)


@spoils("S7")
def a_list_that_lags_behind(history: CompleteHistory) -> None:
    rows = listed(history, "ann")
    place = next(place for place, it in enumerate(rows) if it.head.conversation_id == TEAM)
    rows[place] = replace(rows[place], head=replace(rows[place].head, head_seq=15))


@spoils("S7")
def a_list_without_one_of_his_conversations(history: CompleteHistory) -> None:
    del listed(history, "bob")[0]


@spoils("S17")
def a_list_with_a_conversation_of_others(history: CompleteHistory) -> None:
    known = {it.head.conversation_id for it in listed(history, "bob")}
    foreign = next(it for it in listed(history, "ann") if it.head.conversation_id not in known)
    listed(history, "bob").append(all_read(foreign))


@spoils("S18")
def a_list_with_what_she_was_removed_from(history: CompleteHistory) -> None:
    team = next(it for it in listed(history, "ann") if it.head.conversation_id == TEAM)
    call = add_call(history, "list", "eve", after=None, limit=200)
    call.result, call.answer = "ok", {"items": [all_read(team)]}


# --- what may not be known ---


def error(code: str, **about: Any) -> dict[str, Any]:
    return {"event": "ERROR", "code": code, "message": "", "retryable": False, **about}


def refused(history: CompleteHistory, op: str, why: str, **args: Any) -> Call:
    """A call of eve's that was refused at the end."""
    call = add_call(history, op, "eve", **args)
    call.result, call.error = "fail", why
    return call


@spoils("S17")
def a_stranger_who_is_told_that_it_is_forbidden(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "eve"), error("FORBIDDEN", conversationId=PAIR))


@spoils("S17")
def a_stranger_who_is_told_of_another_epoch(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "eve"), error("CONFLICT", conversationId=PAIR))


@spoils("S17")
def a_strangers_call_that_is_forbidden(history: CompleteHistory) -> None:
    refused(history, "remove", "ForbiddenError", conversation_id=PAIR, user_ids=["bob"])


@spoils("S17")
def a_former_member_who_is_told_that_it_is_forbidden(history: CompleteHistory) -> None:
    refused(history, "add", "ForbiddenError", conversation_id=TEAM, user_ids=["zoe"])


@spoils("S17")
def a_recall_that_tells_of_a_hidden_entry(history: CompleteHistory) -> None:
    refused(history, "recall", "ForbiddenError", message_id=row(history, 3).message_id)


@spoils("S17")
def a_recall_that_tells_of_an_old_entry(history: CompleteHistory) -> None:
    refused(history, "recall", "RecallWindowPassedError", message_id=row(history, 3).message_id)


@spoils("S17")
def a_recall_over_the_wire_that_tells_of_a_hidden_entry(history: CompleteHistory) -> None:
    answer = last_frame_to(history, "eve", 5)
    asked = {"event": "RECALL", "messageId": row(history, 3).message_id, "ref": "q77"}
    history.frames.append(with_events(replace(answer, up=True, at_s=LATE_S, codec=JSON), [asked]))
    add_frame(history, answer, error("FORBIDDEN", ref="q77"))


# --- who types ---


def typing_to_bob(history: CompleteHistory, user_id: str) -> None:
    typing = {"event": "TYPING", "conversationId": TEAM, "userId": user_id}
    add_frame(history, last_frame_to(history, "bob"), typing)


@spoils("S19")
def typing_of_a_stranger(history: CompleteHistory) -> None:
    typing_to_bob(history, "mallory")


@spoils("S19")
def typing_of_oneself(history: CompleteHistory) -> None:
    typing_to_bob(history, "bob")


# --- the members of a pair ---


@spoils("S19")
def members_added_to_what_was_made_for_two(history: CompleteHistory) -> None:
    call_of(history, "create", conversation_id=TEAM).answer["type"] = "SINGLE"


@spoils("S19")
def members_added_to_what_heads_call_single(history: CompleteHistory) -> None:
    def with_team(frame: Frame, event: dict[str, Any]) -> bool:
        return any(it["conversationId"] == TEAM for it in event["conversations"])

    def rename(event: dict[str, Any]) -> None:
        for head in event["conversations"]:
            head["type"] = "SINGLE"

    change_event(history, "HEADS", rename, where=with_team)


# --- the past ---


@spoils("S23")
def a_past_that_is_empty(history: CompleteHistory) -> None:
    call_of(history, "history", user_id="bob").answer["items"].clear()


@spoils("S23")
def a_past_without_its_newest(history: CompleteHistory) -> None:
    del call_of(history, "history", user_id="bob").answer["items"][-1]


@spoils("S23")
def a_past_without_its_oldest(history: CompleteHistory) -> None:
    del call_of(history, "history", user_id="bob").answer["items"][0]


@spoils("S23")
def a_past_that_ends_before_what_was_asked(history: CompleteHistory) -> None:
    del call_of(history, "history", user_id="ann").answer["items"][-1]


# --- deadlines ---


@spoils("L5")
def a_past_that_came_after_its_deadline(history: CompleteHistory) -> None:
    call = call_of(history, "history", user_id="ann")
    call.returned_s = call.at_s + call.args["timeout_s"] + 0.1


@spoils("L5")
def an_unknown_outcome_long_after_the_deadline(history: CompleteHistory) -> None:
    call = add_call(history, "recall", "ann", message_id="m", timeout_s=3.0)
    call.device_id, call.at_s, call.returned_s = "phone", LATE_S, LATE_S + 60.0
