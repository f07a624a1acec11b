"""What became of one message: each fact with its time, what that time means, and never one that is made up."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from chatkit.core.log.explain import LiveSession, explain
from chatkit.core.log.trail import (
    MessageTrail,
    OpenDelivery,
    OpenWork,
    PushRecord,
    Reader,
    ReaderDevice,
    RecallMark,
)
from chatkit.types import Fact

SENT = 1_000_000
NOW = SENT + 60_000

TRAIL = MessageTrail(
    "g", "GROUP", 1, 5, "e1", "e1", 9, 2, "USER", "ann", "k", SENT, work=OpenWork(2, 4, SENT)
)
ANN, BOB = Reader("ann", 1, None, 0, 0, 0), Reader("bob", 1, None, 0, 0, 0)


def phone(**more: Any) -> ReaderDevice:
    """bob's, which has confirmed up to seq 4."""
    device = ReaderDevice("bob", "phone", SENT - 99, 4, SENT - 9, False, None, None)
    return replace(device, **more)


def push(seq: int = 5, **more: Any) -> PushRecord:
    """bob's phone was pushed to."""
    record = PushRecord("bob", "phone", seq, "apns", SENT + 5_000, "TAKEN", "p-1", "", 1, SENT + 5_000)
    return replace(record, **more)


def facts_of(event: str, live: tuple[LiveSession, ...] = (), **more: Any) -> list[Fact]:
    """What is said of an event, of a trail that is told otherwise."""
    trail = replace(TRAIL, **{"readers": (BOB,), **more})
    return [it for it in explain(trail, NOW, live).facts if it.event == event]


def when(event: str, **more: Any) -> tuple[int | None, str]:
    """The time of the one fact about an event."""
    (fact,) = facts_of(event, **more)
    return fact.at_ms, fact.time


# --- the entry ---


def test_who_sent_it_under_which_key_and_when() -> None:
    (fact,) = facts_of("STORED")
    assert (fact.at_ms, fact.time, fact.source, fact.user_id) == (SENT, "EXACT", "message", "ann")
    assert "from ann under the key k, and stored as seq 5 of g" in fact.words


def test_an_entry_about_members_names_some_of_them() -> None:
    many = tuple(f"u{n}" for n in range(30))
    (fact,) = facts_of("STORED", kind="MEMBER", client_msg_id=None, change=("ADDED", many))
    assert "caused by ann: ADDED u0, " in fact.words
    assert "u19 and 10 more; stored" in fact.words


def test_a_recall_names_what_it_recalls() -> None:
    (fact,) = facts_of("STORED", kind="RECALL", client_msg_id=None, recalls_id="1-e1-4")
    assert "ann recalled 1-e1-4" in fact.words


def test_when_it_was_recalled_and_by_whom() -> None:
    (fact,) = facts_of("RECALLED", recall=RecallMark(7, "1-e1-7", "ann", SENT + 3))
    assert (fact.at_ms, fact.time, fact.user_id) == (SENT + 3, "EXACT", "ann")
    assert "1-e1-7" in fact.words


def test_where_its_words_are_if_not_in_the_log() -> None:
    assert facts_of("ARCHIVED") == []
    assert "in the archive" in facts_of("ARCHIVED", body="ARCHIVE")[0].words
    assert "gone" in facts_of("ARCHIVED", body="EXPIRED")[0].words
    assert facts_of("ARCHIVED", body="ARCHIVE", recall=RecallMark(7, "1-e1-7", "ann", SENT)) == []


def test_a_log_that_was_renewed_since_is_said_to_be() -> None:
    assert facts_of("LOG_RENEWED") == []
    (fact,) = facts_of("LOG_RENEWED", log_epoch="e2")
    assert (fact.at_ms, fact.time) == (None, "NOT_KNOWN")
    assert "e2" in fact.words


# --- delivery workers ---


def test_how_far_workers_are() -> None:
    assert facts_of("DELIVERED", work=None)
    assert facts_of("DELIVERED", work=OpenWork(6, 5, None)), "all before seq 6 is everywhere"
    assert facts_of("HANDLED", work=OpenWork(2, 5, None))
    (late,) = facts_of("WAITING", work=OpenWork(2, 4, NOW - 7_000))
    assert "for 7 s" in late.words
    (leased,) = facts_of("WAITING", work=OpenWork(2, 4, NOW + 7_000))
    assert "a delivery worker has it" in leased.words


def test_a_push_that_was_taken() -> None:
    (fact,) = facts_of("PUSHED", pushes=(push(tries=3),))
    assert (fact.at_ms, fact.time, fact.source) == (SENT + 5_000, "EXACT", "push_record")
    assert (fact.user_id, fact.device_id) == ("bob", "phone")
    assert fact.words == "apns took a push about it as p-1, after 3 tries"


def test_every_other_answer_of_a_provider() -> None:
    words = {
        answer: facts_of("PUSH_FAILED", pushes=(push(answer=answer, reason="503", provider_id=""),))[0].words
        for answer in ("RETRY", "DEAD", "REFUSED", "UNKNOWN")
    }
    assert "tried again: 503" in words["RETRY"]
    assert "reaches nothing any more: 503" in words["DEAD"]
    assert "for good: 503" in words["REFUSED"]
    assert "may have arrived: 503" in words["UNKNOWN"]


def test_of_later_pushes_only_the_first_one_told_of_it_too() -> None:
    facts = facts_of("PUSHED", pushes=(push(7), push(8)))
    assert [it.words for it in facts] == [
        "apns took a push about a later entry, seq 7, which stands for all that the device missed as p-1"
    ]
    assert len(facts_of("PUSHED", pushes=(push(5), push(7)))) == 1, "the later one is of no interest"


def test_the_push_that_withdrew_it() -> None:
    recall = RecallMark(7, "1-e1-7", "ann", SENT + 3)
    facts = facts_of("PUSHED", recall=recall, pushes=(push(5), push(6), push(7), push(8)))
    assert ["withdrew" in it.words for it in facts] == [False, True]


def test_what_waits_and_what_was_given_up() -> None:
    waits = OpenDelivery("bob", "phone", 4, NOW + 1_500, 2, SENT, "503")
    (fact,) = facts_of("PUSH_WAITS", deliveries=(waits,))
    assert (fact.at_ms, fact.time) == (None, "NOW")
    assert "again in 2 s; tries so far: 2; 503" in fact.words
    whole = OpenDelivery("", "", 4, None, 20, SENT + 9, "never finished")
    (fact,) = facts_of("PUSH_GIVEN_UP", deliveries=(whole,))
    assert (fact.at_ms, fact.user_id, fact.device_id) == (SENT + 9, None, None)
    assert "for the whole conversation: never finished" in fact.words


# --- readers ---


def test_a_cursor_says_only_by_when() -> None:
    device = phone(delivered_seq=8, updated_ms=SENT + 50)
    assert when("CONFIRMED", devices=(device,)) == (SENT + 50, "AT_LATEST")
    read = replace(BOB, read_seq=8, read_ms=SENT + 70)
    assert when("READ", readers=(read,)) == (SENT + 70, "AT_LATEST")


def test_a_time_before_the_message_says_nothing() -> None:
    assert when("CONFIRMED", devices=(phone(delivered_seq=8),)) == (None, "NOT_KNOWN")
    read = replace(BOB, read_seq=8, read_ms=SENT - 1)
    assert when("READ", readers=(read,)) == (None, "NOT_KNOWN")


def test_a_confirmation_of_this_one_alone() -> None:
    (fact,) = facts_of("CONFIRMED", devices=(phone(is_exact=True, updated_ms=SENT + 1),))
    assert "by itself" in fact.words


def test_a_device_that_is_newer_than_the_message_may_never_have_had_it() -> None:
    new = phone(first_seen_ms=SENT + 1, delivered_seq=8, updated_ms=None)
    (fact,) = facts_of("CONFIRMED", devices=(new,))
    assert (fact.at_ms, fact.time) == (None, "NOT_KNOWN")
    assert "newer than the message" in fact.words


def test_who_lacks_it_and_whether_they_can_be_pushed_to() -> None:
    (without,) = facts_of("PENDING", devices=(phone(),))
    assert (without.at_ms, without.time, without.device_id) == (None, "NOW", "phone")
    assert "at seq 4; it has no push token" in without.words
    (with_token,) = facts_of("PENDING", devices=(phone(provider="apns", registered_ms=SENT - 1),))
    assert with_token.words.endswith("it can be pushed to by apns")
    (late,) = facts_of("PENDING", devices=(phone(provider="apns", registered_ms=SENT + 1),))
    assert late.words.endswith("by apns, since after this message")
    (nowhere,) = facts_of("PENDING")
    assert "no device" in nowhere.words
    read = replace(BOB, read_seq=5, read_ms=SENT)
    (elsewhere,) = facts_of("PENDING", readers=(read,), devices=(phone(),))
    assert "read elsewhere" in elsewhere.words


def test_who_left_and_who_is_muted() -> None:
    (left,) = facts_of("LEFT", readers=(replace(BOB, leave_seq=8),))
    assert "at seq 8" in left.words
    assert facts_of("MUTED", readers=(replace(BOB, muted_until_ms=NOW + 1),))
    assert not facts_of("MUTED", readers=(replace(BOB, muted_until_ms=NOW),)), "it has ended"


def test_the_author_is_not_said_to_have_read_it() -> None:
    assert facts_of("READ", readers=(replace(ANN, read_seq=9, read_ms=NOW),)) == []


def test_sessions_of_this_node() -> None:
    offered = LiveSession("bob", "phone", "s-1", 6, False)
    dropped = LiveSession("bob", "pad", "s-2", 4, True)
    first, second = facts_of("ONLINE", (offered, dropped))
    assert (first.source, first.time, first.at_ms) == ("this node", "NOW", None)
    assert "offered everything up to seq 6" in first.words
    assert "was not offered this: pushes to it were dropped" in second.words


# --- as a whole ---


def test_facts_come_by_time_and_those_without_one_last() -> None:
    trail = replace(
        TRAIL,
        readers=(replace(BOB, read_seq=8, read_ms=SENT + 70),),
        devices=(phone(delivered_seq=8, updated_ms=SENT + 50), phone(device_id="pad")),
        pushes=(push(),),
        recall=RecallMark(7, "1-e1-7", "ann", SENT + 60),
    )
    found = explain(trail, NOW)
    assert [it.event for it in found.facts] == [
        "STORED",
        "CONFIRMED",
        "RECALLED",
        "READ",
        "PUSHED",
        "WAITING",
        "PENDING",
    ]
    assert (found.message_id, found.reader_count, found.has_more) == ("1-e1-5", 1, False)
    assert found.not_kept
