"""The checker finds nothing in what the real engine and SDK do, and in every spoilt copy what was spoilt, first."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from chatkit.client.events import MessageSent
from chatkit.testing.history import Call, Incident

from .checker import INVARIANTS, RESTORED, Verdict, check
from .checker.index import Index
from .dumps import CompleteHistory
from .histories import PAIR, PLAYS, TEAM, device, events_of, log, play, with_events
from .scene import RECALL_WINDOW_MS
from .spoilt import SPOILT
from .spoilt.answers import error, typing_to_bob
from .spoilt.table import (
    EVE_BACK,
    add_call,
    add_frame,
    call_of,
    change_record,
    drop_events,
    last_frame_to,
    row,
)

STORE_ONLY = {"S2", "S3", "S4", "S5", "S13", "S16", "S19", "S24"}
IN_THE_END = {"L1", "L2"}


def judge(history: CompleteHistory, *, quiescent: bool = True) -> Verdict:
    return check(history, recall_window_ms=RECALL_WINDOW_MS, quiescent=quiescent)


def found(verdict: Verdict) -> list[str]:
    return [str(it) for it in verdict.violations]


# --- what is good ---


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PLAYS)
def test_what_really_happened_breaks_nothing(name: str, seed: int) -> None:
    verdict = judge(play(name, seed))
    assert found(verdict) == []
    assert verdict.ok


def test_every_invariant_looks_at_something_there() -> None:
    facts = Counter[str]()
    for name in PLAYS:
        facts.update(judge(play(name)).facts)
    assert facts.keys() == INVARIANTS.keys()
    assert all(facts.values()), facts


def test_an_empty_history_is_judged_by_nothing() -> None:
    verdict = check(CompleteHistory(lambda: 0.0))
    assert verdict.facts == dict.fromkeys(INVARIANTS, 0)
    assert verdict.unjudged == list(INVARIANTS)
    assert verdict.ok


def test_the_same_history_gets_the_same_verdict_again_and_is_not_changed() -> None:
    history = play("office")
    digest = history.digest()
    assert judge(history) == judge(history)
    assert history.digest() == digest


# --- what is spoilt ---


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_spoilt_is_found_first(name: str) -> None:
    number, spoil = SPOILT[name]
    history = play("office")
    spoil(history)
    verdict = judge(history)
    assert verdict.violations, "nothing was found"
    assert verdict.violations[0].invariant == number, found(verdict)[:5]


def test_every_invariant_is_shown_to_bite() -> None:
    assert {number for number, _ in SPOILT.values()} == INVARIANTS.keys()


# --- what cannot be judged ---


def test_without_the_store_what_needs_the_log_says_that_it_did_not_run() -> None:
    history = play("office")
    history.store = None
    verdict = judge(history)
    assert verdict.ok
    assert set(verdict.unjudged) >= STORE_ONLY
    assert verdict.facts["S6"] > 0
    assert verdict.facts["S11"] > 0


@pytest.mark.parametrize("name", ["a push with another body", "a page with another id"])
def test_without_the_store_sights_are_held_against_each_other(name: str) -> None:
    history = play("office")
    SPOILT[name][1](history)
    history.store = None
    assert {it.invariant for it in judge(history).violations} == {"S6"}


def test_nothing_is_asked_of_the_end_of_a_run_that_did_not_end_in_peace() -> None:
    history = play("office")
    change_record(history, "ann", "phone", prefix=15)
    device(history, "bob", "phone").pending.append("b-9")
    verdict = judge(history, quiescent=False)
    assert verdict.ok
    assert set(verdict.unjudged) >= IN_THE_END


def test_a_call_of_an_app_that_was_killed_need_not_return() -> None:
    history = play("office")
    place = history.devices.index(device(history, "bob", "phone"))
    history.devices[place] = replace(history.devices[place], crashed=True)
    args = {"conversation_id": TEAM, "up_to_seq": 1}
    history.calls.append(Call(len(history.calls), 9.0, "bob", "phone", "mark_read", args))
    assert judge(history).ok


def test_the_recall_window_is_judged_if_it_is_known() -> None:
    history = play("office")  # where the recall comes a second after the message
    assert check(history).ok
    assert check(history, recall_window_ms=2_000).ok
    assert [it.invariant for it in check(history, recall_window_ms=500).violations] == ["S20"]


# --- what looks like a fault and is none ---


def test_single_confirmations_move_a_cursor_too() -> None:
    history = play("office")
    ids = {it.seq: it.message_id for it in log(history).entries}
    for place, frame in enumerate(history.frames):
        events = events_of(frame) if frame.up else []
        for event in events:
            if event["event"] == "DELIVERED_ACK" and event["conversationId"] == TEAM:
                event["messageId"] = ids[event.pop("upToSeq")]
        history.frames[place] = with_events(frame, events) if events else frame
    assert found(judge(history)) == []


def test_a_user_may_read_by_plain_calls() -> None:
    history = play("office")
    drop_events(history, lambda frame, event: event["event"] == "READ")
    assert {it.invariant for it in judge(history).violations} == {"S14"}
    for call in history.calls:
        call.device_id = "" if call.op == "mark_read" else call.device_id
    assert found(judge(history)) == []


def test_a_mark_that_was_refused_for_good_is_forgotten() -> None:
    history = play("office")
    SPOILT["a mark that never arrived"][1](history)
    refusal = {
        "event": "ERROR",
        "code": "NOT_FOUND",
        "message": "",
        "retryable": False,
        "ref": "read",
        "conversationId": TEAM,
    }
    add_frame(history, last_frame_to(history, "bob"), refusal)
    assert found(judge(history)) == []


def test_a_page_that_answers_no_known_request_is_not_judged() -> None:
    history = play("office")
    known = judge(history).facts["S23"]
    drop_events(history, lambda frame, event: event["event"] == "SYNC")
    verdict = judge(history)
    assert found(verdict) == []
    assert verdict.facts["S23"] < known


def test_a_message_refused_and_sent_again_has_its_place_from_then_on() -> None:
    history = play("office")
    early = replace(call_of(history, "send", client_msg_id="a-5"), number=-1, at_s=3.0, result="info")
    history.calls.insert(0, early)
    assert [it.invariant for it in judge(history).violations] == ["S9"]
    refusal = {
        "event": "ERROR",
        "code": "NOT_FOUND",
        "message": "",
        "retryable": False,
        "conversationId": TEAM,
        "clientMsgId": "a-5",
    }
    frame = replace(last_frame_to(history, "ann", 1), at_s=3.5)
    history.frames.append(with_events(frame, [refusal]))
    assert found(judge(history)) == []


def test_a_client_cannot_compare_a_body_that_was_recalled() -> None:
    history = play("office")
    repeat = [call for call in history.calls if call.args.get("client_msg_id") == "b-1"][-1]
    repeat.args["payload"] = {"type": "TEXT", "text": "another body"}
    assert found(judge(history)) == []
    repeat.device_id = ""
    assert "S11" in {it.invariant for it in judge(history).violations}


def test_an_answer_that_its_call_brought_need_not_be_told() -> None:
    history = play("office")
    history.app_events = [it for it in history.app_events if not isinstance(it.event, MessageSent)]
    assert found(judge(history)) == []


def test_a_client_may_send_what_is_no_frame() -> None:
    history = play("office")
    up = next(it for it in history.frames if it.up and not it.codec.binary)
    history.frames.append(replace(up, data=b"{"))
    assert found(judge(history)) == []


def test_a_recall_may_overtake_the_push_of_its_message() -> None:
    history = play("office")
    frame = next(it for it in history.frames if b'"seq":5,' in it.data and it.user_id == "ann" and not it.up)
    history.frames.remove(frame)
    history.frames.append(replace(frame, at_s=5.5))
    assert "S20" not in {it.invariant for it in judge(history).violations}


@pytest.mark.parametrize("place", ["user", "device", "conversation", "title", "message", "epoch", "frame"])
def test_a_word_that_is_also_a_name_is_no_canary(place: str) -> None:
    history, word = play("office"), "canary1lap1"
    SPOILT["a body in an error"][1](history)
    assert [it.invariant for it in judge(history).violations] == ["S17"]
    name = f"{word}-2"
    call = Call(len(history.calls), 9.0, "", "", "status", {}, 9.0, "ok")
    history.calls.append(call)
    match place:
        case "user":
            call.args["user_ids"] = [name]
        case "device":
            call.device_id = name
        case "conversation":
            call.args["conversation_id"] = name
        case "title":
            call.args["title"] = f"about {word}"
        case "epoch":
            call.answer["epoch"] = name
        case "message":
            call.args["message_id"] = name
        case "frame":
            history.frames.append(replace(last_frame_to(history, "bob"), device_id=name))
    assert found(judge(history)) == []


def test_a_refusal_may_tell_a_member_that_it_is_forbidden() -> None:
    history = play("office")
    add_frame(history, last_frame_to(history, "bob"), error("FORBIDDEN", conversationId=TEAM))
    call = add_call(history, "add", "bob", conversation_id=TEAM, user_ids=["zoe"])
    call.result, call.error = "fail", "ForbiddenError"
    recall = add_call(history, "recall", "bob", message_id=row(history, 3).message_id)
    recall.result, recall.error = "fail", "ForbiddenError"
    assert found(judge(history)) == []


def test_who_has_left_hears_of_a_conflict_of_her_own_key() -> None:
    history = play("office")
    conflict = error("CONFLICT", conversationId=TEAM, clientMsgId="e-1")
    add_frame(history, last_frame_to(history, "eve"), conflict)
    assert found(judge(history)) == []


def test_a_list_that_is_not_whole_may_leave_out_what_follows_or_went_before() -> None:
    for changes in ({"limit": 1}, {"after": PAIR}, {"limit": None}):
        history = play("office")
        call = call_of(history, "list", user_id="bob")
        del call.answer["items"][1 if "limit" in changes else 0 :]
        call.args |= changes
        assert found(judge(history)) == []


def test_a_list_may_know_less_than_what_was_learnt_after_it_was_asked_for() -> None:
    history = play("office")
    SPOILT["a list that lags behind"][1](history)
    call = call_of(history, "list", user_id="ann")
    call.answer["items"] = [replace(it, unread=0) for it in call.answer["items"]]
    call.at_s = 0.0
    assert "S7" not in {it.invariant for it in judge(history).violations}


def past_of_eve(history: CompleteHistory, *seqs: int) -> Call:
    """What eve's phone answers in the end, when she is gone for the second time: these entries."""
    items = [it for it in device(history, "eve", "phone").messages[TEAM] if it.seq in seqs]
    assert [it.seq for it in items] == list(seqs)
    args = {"conversation_id": TEAM, "before_seq": None, "limit": 50}
    call = Call(len(history.calls), 90.0, "eve", "phone", "history", args, 90.0, "ok", {"items": items})
    history.calls.append(call)
    return call


def test_a_past_of_who_came_back_and_left_may_be_what_the_second_stay_left() -> None:
    history = play("office")
    past_of_eve(history, EVE_BACK, EVE_BACK + 1)
    assert found(judge(history)) == []


def test_a_past_may_lack_what_its_device_had_not_placed_when_it_was_asked_for() -> None:
    history = play("office")
    call = call_of(history, "history", user_id="bob")
    call.answer["items"].clear()
    call.at_s = 0.0
    assert found(judge(history)) == []


def test_a_device_has_its_own_entry_from_the_answer_on_unless_that_came_above_a_hole() -> None:
    index = Index(play("office"), RECALL_WINDOW_MS, quiescent=True)
    log, acked_s = index.logs[TEAM], index._acked_s[TEAM, "bob", "phone"]
    own = min(acked_s)
    after_s = acked_s[own] + 0.001
    assert index.placed_seq(log, "bob", "phone", acked_s[own]) == own - 1
    assert index.placed_seq(log, "bob", "phone", after_s) == own
    acked_s[own] = 0.0  # when what was before it was not there yet: it may have been let go
    assert index.placed_seq(log, "bob", "phone", after_s) == own - 1


def test_a_past_after_a_new_epoch_may_be_short() -> None:
    history = play("renewed")
    args = {"conversation_id": TEAM, "before_seq": None, "limit": 50}
    history.calls.append(
        Call(len(history.calls), 90.0, "ann", "phone", "history", args, 90.0, "ok", {"items": []})
    )
    assert found(judge(history)) == []


def test_a_call_may_last_to_its_deadline_and_a_refused_one_ends_at_once() -> None:
    history = play("office")
    for timeout_s, lasted_s in ((3.0, 3.0), (0.0, 0.0), (-1.0, 0.0)):
        call = add_call(history, "recall", "ann", message_id="m", timeout_s=timeout_s)
        call.device_id, call.at_s, call.returned_s = "phone", 90.0, 90.0 + lasted_s
    assert found(judge(history)) == []


def test_a_deadline_is_held_however_a_run_ended() -> None:
    history = play("office")
    SPOILT["a past that came after its deadline"][1](history)
    assert [it.invariant for it in judge(history, quiescent=False).violations] == ["L5"]


def test_typing_of_another_member_is_heard() -> None:
    history = play("office")
    typing_to_bob(history, "eve")
    assert found(judge(history)) == []


# --- logs that are replaced ---


def restored(*, told: bool) -> CompleteHistory:
    """The log is an older copy of itself under a new epoch, as after a restore."""
    history = play("renewed")
    dump = log(history)
    del dump.entries[-2:]
    dump.head_seq -= 2
    dump.epoch = "after the restore"
    dump.entries[:] = [replace(it, epoch=dump.epoch) for it in dump.entries]
    dump.audit.append(
        replace(dump.audit[-1], audit_id=99, action="EPOCH_RENEWED", subject=dump.epoch, actor_id="")
    )
    history.calls.append(
        Call(99, 99.0, "", "", "renew_epoch", {"conversation_id": TEAM}, 99.0, "ok", {"epoch": dump.epoch})
    )
    if told:
        history.incidents.append(Incident(99.0, RESTORED, TEAM))
    return history


def test_what_an_older_log_lost_is_no_fault_if_it_is_said_that_it_was_restored() -> None:
    verdict = judge(restored(told=True), quiescent=False)
    assert found(verdict) == []
    assert verdict.facts["S4"] > 0


def test_without_a_word_of_it_a_restored_log_has_lost_messages() -> None:
    assert judge(restored(told=False)).violations[0].invariant == "S1"
