"""The report names the message, tells where it went wrong, and what became of it, in a few lines."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from chatkit.testing.history import Call, Incident

from .checker import check, report
from .dumps import CompleteHistory
from .histories import TEAM, device, play
from .spoilt import SPOILT
from .spoilt.table import drop_events, is_of

LINES_MAX = 20


def story_of(history: CompleteHistory) -> str:
    """The report of the first violation."""
    return report(history, check(history, recall_window_ms=120_000).violations[0])


def spoilt(name: str) -> CompleteHistory:
    history = play("office")
    SPOILT[name][1](history)
    return history


def wrong_in(story: str) -> str:
    return next(line for line in story.splitlines() if line.startswith("  wrong in: "))


def lose_on_the_way_to_bob(history: CompleteHistory, seq: int) -> None:
    """No frame brings bob an entry, and his phone does not hold it."""
    drop_events(
        history, lambda frame, it: is_of(seq, "bob")(frame, it) if it["event"] == "NEW_MSG" else False
    )
    messages = device(history, "bob", "phone").messages[TEAM]
    messages[:] = [it for it in messages if it.seq != seq]
    history.app_events = [it for it in history.app_events if it.user_id != "bob"]


# --- where ---


def test_what_was_acked_and_is_not_stored_was_lost_in_the_log() -> None:
    story = story_of(spoilt("an acked row is gone"))
    assert "S1 no acked loss" in story
    assert "'a-2' of ann" in story
    assert "canary1ann2" in story
    assert wrong_in(story) == "  wrong in: log, it reached a server"
    assert "acked as seq 3 on connection 1 from n-0" in story


def test_what_never_came_to_a_server_was_lost_by_the_sender() -> None:
    history = play("office")
    payload = {"type": "TEXT", "text": "anybody there?"}
    args = {"conversation_id": TEAM, "client_msg_id": "b-9", "payload": payload}
    history.calls.append(Call(99, 9.5, "bob", "phone", "send", args))
    story = story_of(history)
    assert "message: no seq of c-team, 'b-9' of bob" in story
    assert wrong_in(story) == "  wrong in: sender, it never reached a server"


def test_what_no_frame_brought_was_lost_in_the_session() -> None:
    history = play("office")
    lose_on_the_way_to_bob(history, 12)
    assert wrong_in(story_of(history)).startswith("  wrong in: session, it is in the log")


def test_what_another_node_took_was_lost_on_the_bus() -> None:
    history = play("office")
    lose_on_the_way_to_bob(history, 12)
    history.frames = [replace(it, node="n-1") if it.user_id == "bob" else it for it in history.frames]
    assert wrong_in(story_of(history)) == "  wrong in: bus, n-0 took it, bob/phone was connected to n-1"


def test_what_came_and_is_not_held_was_lost_by_the_device() -> None:
    story = story_of(spoilt("a device with a hole"))
    assert wrong_in(story) == "  wrong in: device, it came to bob/phone, which does not hold it"
    assert "pushed down to bob/phone on connection 3 from n-0" in story
    assert "told to bob/phone" in story


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a key is stored twice", "log"),
        ("a push with another body", "session"),
        ("a push to who was removed", "session"),
        ("an app told twice", "device"),
        ("a login by anothers token", "session"),
    ],
)
def test_where_nothing_was_lost_the_part_is_named_that_broke_it(name: str, place: str) -> None:
    assert wrong_in(story_of(spoilt(name))) == f"  wrong in: {place}"


# --- when ---


def test_the_story_is_told_in_order_of_time() -> None:
    story = story_of(spoilt("a device with a hole"))
    times = [
        float(line.split()[0]) for line in story.splitlines() if line[:12].strip().replace(".", "").isdigit()
    ]
    assert times == sorted(times)
    verbs = ["calls send", "sent up on", "stored as seq", "acked as seq", "returns ok"]
    assert [verb for line in story.splitlines() for verb in verbs if verb in line] == verbs


def test_memberships_belong_to_the_story_of_a_leak() -> None:
    story = story_of(spoilt("a push to who was removed"))
    assert "ann calls add of eve" in story
    assert "eve calls remove of eve" in story
    assert "<- here it shows" in story


def test_a_recall_belongs_to_the_story_of_its_message() -> None:
    assert "bob/phone calls recall" in story_of(spoilt("a recalled body on a device"))


def test_a_refusal_belongs_to_the_story() -> None:
    story = story_of(spoilt("a refused send is stored"))
    assert "refused with NOT_FOUND on connection 4 from n-0" in story
    assert "returns fail: NotFoundError" in story


def test_faults_near_to_it_are_told_and_far_ones_are_not() -> None:
    history = spoilt("an acked row is gone")
    history.incidents += [Incident(3.5, "cut", "line 1", until_s=4.5), Incident(50.0, "server crash", "n-0")]
    story = story_of(history)
    assert "[cut line 1, until 4.500]" in story
    assert "server crash" not in story


@pytest.mark.parametrize("name", SPOILT)
def test_every_story_is_short_and_says_what_is_wrong(name: str) -> None:
    history = spoilt(name)
    history.incidents += [Incident(4.0 + number / 10, "cut", str(number)) for number in range(30)]
    violation = check(history, recall_window_ms=120_000).violations[0]
    story = report(history, violation)
    assert violation.breach.what in story
    assert str(violation).startswith(violation.invariant)
    assert len(story.splitlines()) <= LINES_MAX


def test_a_story_can_be_told_without_the_store() -> None:
    history = spoilt("a push with another body")
    history.store = None
    story = story_of(history)
    assert "message: seq 3 of c-team, 'a-2' of ann" in story
    assert wrong_in(story) == "  wrong in: session"
