"""What is not there in the end, what is left over, and what is beyond all bounds: L1, L2, L5, S25."""

from __future__ import annotations

from msgspec.structs import replace

from chatkit.client.events import CaughtUp, Disconnected
from chatkit.wire.events import BATCH_MAX, FRAME_BYTES_MAX

from ..checker.online import SILENT
from ..dumps import CompleteHistory
from ..held import Count
from ..histories import PAIR, TEAM, device, events_of, with_events
from .table import add_call, add_frame, call_of, change_record, last_frame_to, spoils

PONG = {"event": "PONG", "serverTs": 1}


@spoils("L1")
def a_device_that_lags_behind(history: CompleteHistory) -> None:
    change_record(history, "ann", "phone", prefix=15)


@spoils("L1")
def a_device_that_does_not_know_a_conversation(history: CompleteHistory) -> None:
    dump = device(history, "ann", "phone")
    dump.records[:] = [it for it in dump.records if it.conversation_id != TEAM]


@spoils("L1")
def a_device_that_thinks_it_left(history: CompleteHistory) -> None:
    change_record(history, "ann", "phone", left=True)


@spoils("L1")
def a_device_with_an_old_epoch(history: CompleteHistory) -> None:
    change_record(history, "ann", "phone", epoch="an older one")


@spoils("L2")
def a_returned_device_that_lags_behind(history: CompleteHistory) -> None:
    change_record(history, "bob", "phone", prefix=15)


@spoils("L2")
def a_returned_device_that_did_not_hear_of_its_removal(history: CompleteHistory) -> None:
    change_record(history, "eve", "phone", left=False)


@spoils("L5")
def a_call_that_never_returned(history: CompleteHistory) -> None:
    call = call_of(history, "history")
    call.result, call.returned_s, call.answer = None, None, {}


@spoils("L5")
def a_message_left_in_the_queue(history: CompleteHistory) -> None:
    device(history, "bob", "phone").pending.append("b-9")


@spoils("L5")
def a_call_of_the_host_that_never_returned(history: CompleteHistory) -> None:
    call = add_call(history, "add", "ann", conversation_id=TEAM, user_ids=["zoe"])
    call.result = call.returned_s = None


@spoils("L5")
def a_drain_that_answers_nobody(history: CompleteHistory) -> None:
    history.counts.append(Count("drained", "n-0", "commands without an answer", 2))


@spoils("S25")
def a_frame_of_too_many_events(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "bob"), *([PONG] * (BATCH_MAX + 1)))


@spoils("S25")
def a_frame_of_too_many_bytes(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "bob"), {**PONG, "padding": "." * FRAME_BYTES_MAX})


@spoils("S25")
def a_frame_from_a_client_of_too_many_bytes(history: CompleteHistory) -> None:
    up = next(it for it in history.frames if it.up and not it.codec.binary)
    history.frames.append(replace(up, data=b'{"event":"PING"}' + b" " * FRAME_BYTES_MAX))


@spoils("S25")
def a_null_where_the_contract_has_nothing(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "bob"), {**PONG, "serverTs": None})


@spoils("S25")
def an_event_that_is_not_of_the_contract(history: CompleteHistory) -> None:
    add_frame(history, last_frame_to(history, "bob"), PONG, {"event": "GOSSIP"})


@spoils("S25")
def a_frame_that_is_nothing(history: CompleteHistory) -> None:
    history.frames.append(replace(last_frame_to(history, "bob"), data=b"{"))


@spoils("S25")
def a_binary_frame_that_is_nothing(history: CompleteHistory) -> None:
    binary = next(it for it in reversed(history.frames) if it.codec.binary and not it.up)
    history.frames.append(replace(binary, data=b"\xc1"))


@spoils("S25b")
def a_batch_above_its_bound(history: CompleteHistory) -> None:
    history.counts.append(Count("peak", "servers", "cost of one batch", 5, 0, 4))


@spoils("S25c")
def bytes_that_never_leave_the_queue(history: CompleteHistory) -> None:
    history.counts.append(Count("at rest", "n-0", "payload bytes of the queue", 12))


@spoils("S25c")
def an_audience_that_lacks_a_session(history: CompleteHistory) -> None:
    history.counts.append(Count("at rest", "n-0", "sessions in audiences", 3, 4, 4))


@spoils("L9")
def a_connection_given_up_too_early(history: CompleteHistory) -> None:
    place, told = next(
        (place, it) for place, it in enumerate(history.app_events) if isinstance(it.event, Disconnected)
    )
    history.app_events[place] = replace(told, event=Disconnected(1006, SILENT, True))


@spoils("L11")
def an_app_that_never_heard_that_it_has_caught_up(history: CompleteHistory) -> None:
    history.app_events[:] = [it for it in history.app_events if not isinstance(it.event, CaughtUp)]


@spoils("L12")
def an_author_who_never_heard_that_it_was_read(history: CompleteHistory) -> None:
    for place, frame in enumerate(history.frames):
        if frame.user_id == "ann":
            events = [it for it in events_of(frame) if it["event"] != "RECEIPT"]
            history.frames[place] = with_events(frame, events)


@spoils("L13")
def typing_refused_that_came_alone(history: CompleteHistory) -> None:
    typed = next(it for it in history.frames if it.up and events_of(it)[0]["event"] == "TYPING")
    frame = last_frame_to(history, "ann", typed.connection)
    refused = {
        "code": "RATE_LIMITED",
        "message": "one TYPING at a time",
        "retryable": True,
        "conversationId": PAIR,
    }
    add_frame(history, frame, {"event": "ERROR", **refused})
