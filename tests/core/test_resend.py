"""Order, bound, window, refusals and reconnects of the resend queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.core.resend import WINDOW_BYTES, PendingSend, ResendQueue
from chatkit.errors import QueueFullError


def filled(*keys: str, conversation_id: str = "c-1", window: int = 256) -> ResendQueue:
    queue = ResendQueue(window=window)
    add(queue, *keys, conversation_id=conversation_id)
    return queue


def add(queue: ResendQueue, *keys: str, conversation_id: str = "c-1") -> None:
    for key in keys:
        queue.add(PendingSend(conversation_id, key, b"{}", queue.next_order))


def taken(queue: ResendQueue, now_s: float = 0.0) -> list[str]:
    return [send.client_msg_id for send in queue.take(now_s)]


def test_messages_leave_in_order_once() -> None:
    queue = filled("a", "b", "c")

    assert taken(queue) == ["a", "b", "c"]
    assert taken(queue) == []
    assert len(queue) == 3


def test_the_bound_refuses_the_next() -> None:
    queue = ResendQueue(pending_max=2)
    add(queue, "a", "b")

    with pytest.raises(QueueFullError):
        queue.check_room()
    queue.resolve("c-1", "a")
    queue.check_room()


def test_the_window_bounds_what_is_under_way() -> None:
    queue = filled("a", "b", "c", window=2)

    assert taken(queue) == ["a", "b"]
    queue.resolve("c-1", "a")
    assert taken(queue) == ["c"]


def test_large_messages_fill_the_window_by_their_bytes() -> None:
    queue = ResendQueue()
    for key in "abcdef":
        queue.add(PendingSend("c-1", key, b"x" * (WINDOW_BYTES // 2 - 1), queue.next_order))

    assert taken(queue) == ["a", "b", "c"]
    assert (taken(queue), queue.wait_s(0)) == ([], None)
    queue.put_back("c-1", "c", ready_at_s=1)
    assert (taken(queue), queue.wait_s(5)) == ([], None), "the lane waits for what is under way"
    queue.resolve("c-1", "a")
    shown_by_the_log(queue, "b")
    assert taken(queue, 5) == []
    queue.resolve("c-1", "b")
    assert taken(queue, 5) == ["c", "d", "e"]
    queue.disconnected()
    assert taken(queue, 5) == ["c", "d", "e"]


def test_one_message_above_all_bounds_is_sent() -> None:
    queue = ResendQueue()
    queue.add(PendingSend("c-1", "a", b"x" * 2 * WINDOW_BYTES, queue.next_order))
    add(queue, "b")

    assert taken(queue) == ["a"]
    queue.resolve("c-1", "a")
    assert taken(queue) == ["b"]


def shown_by_the_log(queue: ResendQueue, key: str) -> None:
    send = queue.resolve("c-1", key, answered=False)
    assert send is not None
    assert send.client_msg_id == key


def test_what_the_log_showed_after_a_refusal_is_sent_once_more() -> None:
    queue = filled("a", "b")
    queue.take(0)
    queue.put_back("c-1", "a", ready_at_s=1)
    shown_by_the_log(queue, "a")
    queue.put_back("c-1", "b", ready_at_s=1)

    assert len(queue) == 1
    assert taken(queue, 1) == ["a", "b"], "the server holds b back until a comes again"
    assert queue.resolve("c-1", "a") is None, "it was resolved before"
    assert queue.resolve("c-1", "b") is not None
    assert taken(queue, 2) == []
    assert queue.oldest_sent_at_s is None


def test_a_refusal_that_comes_after_the_log_showed_it_counts_too() -> None:
    queue = filled("a", "b")
    queue.take(0)
    shown_by_the_log(queue, "a")

    assert queue.put_back("c-1", "a", ready_at_s=1)
    assert queue.put_back("c-1", "b", ready_at_s=1)
    assert taken(queue, 1) == ["a", "b"]


def test_what_the_log_showed_is_forgotten_with_the_connection() -> None:
    queue = filled("a", "b", "c")
    queue.take(0)
    queue.put_back("c-1", "a", ready_at_s=1)
    shown_by_the_log(queue, "a")
    shown_by_the_log(queue, "b")
    queue.disconnected()

    assert taken(queue, 1) == ["c"]
    assert queue.resolve("c-1", "c") is not None
    add(queue, "d")
    assert taken(queue, 2) == ["d"]


def test_what_the_log_showed_before_it_was_sent_again_is_owed_nothing() -> None:
    queue = filled("a")
    shown_by_the_log(queue, "a")

    assert taken(queue) == []
    assert queue.find("c-1", "a") is None


def test_a_shown_message_that_is_asked_for_again_gets_the_answer_that_is_owed() -> None:
    queue = filled("a")
    queue.take(0)
    shown_by_the_log(queue, "a")
    owed = queue.find("c-1", "a")
    assert owed is not None
    assert not queue.is_pending(owed)
    queue.reopen(owed)

    assert len(queue) == 1
    assert queue.resolve("c-1", "a") == owed
    assert len(queue) == 0
    assert queue.oldest_sent_at_s is None


def test_with_a_full_window_the_end_of_a_pause_is_nothing_to_wake_for() -> None:
    queue = filled("b", conversation_id="c-2", window=2)
    queue.take(0)
    queue.put_back("c-2", "b", ready_at_s=1)
    add(queue, "x", "y")
    assert taken(queue) == ["x", "y"]

    assert queue.wait_s(5) is None
    queue.resolve("c-1", "x")
    assert queue.wait_s(5) == 0


def test_an_answer_is_matched_by_conversation_and_key() -> None:
    queue = filled("a")
    queue.take(0)

    assert queue.resolve("c-2", "a") is None
    assert queue.resolve("c-1", "b") is None
    resolved = queue.resolve("c-1", "a")
    assert resolved is not None and resolved.client_msg_id == "a"
    assert (len(queue), queue.oldest_sent_at_s) == (0, None)


def test_after_a_reconnect_all_that_was_under_way_leaves_again_in_order() -> None:
    queue = filled("a", "b", "c", "d", window=3)
    queue.take(0)
    queue.resolve("c-1", "b")

    queue.disconnected()

    assert taken(queue) == ["a", "c", "d"]


def test_a_refusal_for_now_pauses_its_conversation_and_order_survives() -> None:
    queue = filled("a", "b", "c")
    add(queue, "x", conversation_id="c-2")
    queue.take(0)
    queue.put_back("c-1", "a", ready_at_s=5)
    add(queue, "d")

    assert taken(queue, 9) == []  # b and c are not answered yet
    queue.put_back("c-1", "b", ready_at_s=5)
    queue.put_back("c-1", "c", ready_at_s=6)
    assert taken(queue, 5.5) == []
    assert queue.wait_s(5.5) == 0.5
    assert taken(queue, 6) == ["a", "b", "c", "d"]


def test_another_conversation_goes_on_meanwhile() -> None:
    queue = filled("a")
    queue.take(0)
    queue.put_back("c-1", "a", ready_at_s=5)
    add(queue, "x", conversation_id="c-2")

    assert taken(queue, 1) == ["x"]


def test_refusals_are_counted_until_an_answer_for_good() -> None:
    queue = filled("a")
    add(queue, "b")
    for count in (1, 2):
        queue.take(10.0 * count)
        for key in ("a", "b"):  # refused together: one try
            assert queue.failed_tries("c-1") == count
            queue.put_back("c-1", key, ready_at_s=0)
    queue.take(100)
    queue.resolve("c-1", "a")

    assert queue.failed_tries("c-1") == 1


def test_who_was_too_fast_goes_on_one_by_one_at_the_pace_it_was_told() -> None:
    queue = filled("a", "b", "c", "d")
    queue.take(0)
    queue.put_back("c-1", "a", ready_at_s=1, too_fast_s=0.5)
    for key in "bcd":
        queue.put_back("c-1", key, ready_at_s=1)

    assert taken(queue, 1) == ["a"]
    assert queue.wait_s(1) == 0.5
    assert taken(queue, 1.4) == []
    assert taken(queue, 1.5) == ["b"], "the answer to a is not waited for"
    assert taken(queue, 1.9) == []
    assert taken(queue, 2) == ["c"]


def test_a_pace_that_is_still_too_fast_doubles_and_recovers_with_each_answer() -> None:
    queue = filled("a", "b", "c")
    queue.take(0)
    for key in "abc":  # refused together: they say it once
        queue.put_back("c-1", key, ready_at_s=1, too_fast_s=1)
    assert taken(queue, 1) == ["a"]
    queue.put_back("c-1", "a", ready_at_s=2, too_fast_s=0.25)

    assert taken(queue, 2) == ["a"]
    assert queue.wait_s(2) == 2
    queue.resolve("c-1", "a")
    assert taken(queue, 4) == ["b"]
    assert queue.wait_s(4) == pytest.approx(1.8)


def test_an_emptied_conversation_has_no_pace() -> None:
    queue = filled("a")
    queue.take(0)
    queue.put_back("c-1", "a", ready_at_s=1, too_fast_s=1)
    queue.take(1)
    queue.resolve("c-1", "a")
    add(queue, "b", "c")

    assert taken(queue, 1) == ["b", "c"]


def test_a_refusal_of_something_not_under_way_is_nothing() -> None:
    queue = filled("a")

    assert not queue.put_back("c-1", "a", ready_at_s=5)
    assert taken(queue) == ["a"]


def test_a_pause_outlasts_a_reconnect() -> None:
    queue = filled("a")
    queue.take(0)
    queue.put_back("c-1", "a", ready_at_s=5)
    queue.disconnected()

    assert taken(queue, 4) == []
    assert taken(queue, 5) == ["a"]


def test_what_a_store_kept_comes_first_and_the_order_goes_on() -> None:
    queue = ResendQueue(pending_max=1)
    queue.restore([PendingSend("c-1", "old", b"{}", 7), PendingSend("c-1", "older", b"{}", 3)])

    assert queue.next_order == 8
    assert taken(queue) == ["older", "old"]


def test_the_oldest_unanswered_is_known() -> None:
    queue = filled("a")
    queue.take(3)
    add(queue, "b")
    queue.take(8)

    assert queue.oldest_sent_at_s == 3
    queue.resolve("c-1", "a")
    assert queue.oldest_sent_at_s == 8


class _Server:
    """Refuses like the contract: after a refusal, all of the conversation until the refused one comes again."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self._waiting_for: dict[str, str] = {}

    def accepts(self, send: PendingSend, refuse: bool) -> bool:
        awaited = self._waiting_for.get(send.conversation_id)
        if awaited not in (None, send.client_msg_id):
            return False
        if refuse:
            self._waiting_for[send.conversation_id] = send.client_msg_id
            return False
        self._waiting_for.pop(send.conversation_id, None)
        if send.key not in self.log:
            self.log.append(send.key)
        return True

    def cut(self) -> None:
        self._waiting_for.clear()


@given(st.lists(st.sampled_from(["c-1", "c-2"]), max_size=20), st.data())
def test_whatever_is_refused_or_cut_each_is_stored_once_and_in_order(
    lanes: list[str], data: st.DataObject
) -> None:
    queue, server, now_s = ResendQueue(window=4), _Server(), 0.0
    for number, lane in enumerate(lanes):
        add(queue, f"k{number}", conversation_id=lane)
    rounds = 0
    while len(queue):
        rounds += 1
        now_s += 1
        calm = rounds > 40
        sends = queue.take(now_s)
        cut_at = len(sends) if calm else data.draw(st.integers(0, len(sends)))
        lost = not calm and data.draw(st.booleans())
        for place, send in enumerate(sends):
            if place >= cut_at and lost:
                break
            if server.accepts(send, refuse=not calm and data.draw(st.booleans())):
                queue.resolve(*send.key)
            else:
                queue.put_back(*send.key, now_s + 1)
        if lost:
            queue.disconnected()
            server.cut()

    for lane in ("c-1", "c-2"):
        wanted = [f"k{number}" for number, each in enumerate(lanes) if each == lane]
        assert [key for conversation_id, key in server.log if conversation_id == lane] == wanted


def test_what_was_under_way_at_three_ends_in_a_row_goes_out_alone_and_first_in_its_lane() -> None:
    queue = ResendQueue()
    add(queue, "a")
    add(queue, "b")
    for _ in range(3):
        assert [send.client_msg_id for send in queue.take(0)] == ["a", "b"]
        queue.disconnected()

    assert [send.client_msg_id for send in queue.take(0)] == ["a"]
    assert queue.alone_under_way is not None
    add(queue, "c", conversation_id="c-2")
    assert (queue.take(0), queue.wait_s(0)) == ([], None)
    queue.resolve("c-1", "a")
    assert [send.client_msg_id for send in queue.take(0)] == ["b"]
    queue.resolve("c-1", "b")
    assert [send.client_msg_id for send in queue.take(0)] == ["c"]


def test_an_answer_in_between_begins_the_count_again() -> None:
    queue = ResendQueue()
    add(queue, "a")
    add(queue, "b")
    for _ in range(6):
        assert [send.client_msg_id for send in queue.take(0)] == ["a", "b"]
        queue.put_back("c-1", "a", 0)
        queue.put_back("c-1", "b", 0)
        assert len(queue.take(0)) == 2
        queue.disconnected()


def test_while_a_suspect_pauses_the_others_go_and_wait_for_it_when_it_is_due() -> None:
    queue = ResendQueue()
    add(queue, "a")
    queue.take(0)
    queue.suspect_all()
    queue.disconnected()
    add(queue, "b", conversation_id="c-2")
    queue.pause("c-1", 5)

    assert [send.client_msg_id for send in queue.take(0)] == ["b"]
    add(queue, "c", conversation_id="c-2")
    assert (queue.take(5), queue.wait_s(5)) == ([], None)  # it waits to be alone
    queue.resolve("c-2", "b")
    assert [send.client_msg_id for send in queue.take(5)] == ["a"]


def test_what_left_once_is_known() -> None:
    queue = ResendQueue()
    add(queue, "a")
    assert not queue.may_have_left(("c-1", "a"))
    queue.take(0)
    queue.disconnected()
    assert queue.may_have_left(("c-1", "a"))
    again = ResendQueue()
    again.restore(queue.pending())
    assert again.may_have_left(("c-1", "a"))


def test_what_is_held_is_not_sent_again_before_its_time_and_first_on_the_next_connection() -> None:
    queue = ResendQueue()
    for order, key in enumerate(("a", "b", "c"), 1):
        queue.add(PendingSend("c-1", key, b"{}", order))
    assert [it.client_msg_id for it in queue.take(0.0)] == ["a", "b", "c"]
    assert queue.hold("c-1", "a", 160.0)
    assert not queue.hold("c-1", "a", 160.0)
    assert not queue.hold("c-1", "none", 160.0)
    queue.resolve("c-1", "b")
    queue.resolve("c-1", "c")
    held = queue.find("c-1", "a")

    assert held is not None
    assert queue.is_held(held)
    assert (len(queue), queue.unanswered) == (1, 0)
    assert queue.take(100.0) == []
    assert queue.wait_s(100.0) == 60.0
    queue.add(PendingSend("c-1", "d", b"{}", 4))
    assert [it.client_msg_id for it in queue.take(100.0)] == ["d"]
    queue.disconnected()
    assert (queue.unanswered, queue.is_held(held)) == (2, False)
    assert [it.client_msg_id for it in queue.take(100.0)] == ["a", "d"]


def test_what_is_held_is_asked_about_at_its_time_and_stays_held_meanwhile() -> None:
    queue = ResendQueue()
    add(queue, "a", "b")
    a, b = queue.take(0.0)
    queue.hold("c-1", "a", 60.0)
    queue.hold("c-1", "b", 61.0)

    assert queue.wait_s(60.5) == 0
    assert taken(queue, 60.5) == ["a"]
    assert (queue.is_held(a), queue.unanswered) == (True, 0)
    assert not queue.hold("c-1", "a", 120.0), "that is no news"
    assert queue.wait_s(60.5) == 0.5
    assert taken(queue, 61) == ["b"]
    queue.put_back("c-1", "b", ready_at_s=70.0)
    assert queue.is_held(b), "a server that has no time knows nothing of a decision"
    assert taken(queue, 69) == []
    assert taken(queue, 70) == ["b"]
    assert queue.resolve("c-1", "b") == b
    assert queue.resolve("c-1", "a") == a
    assert (len(queue), queue.unanswered, queue.wait_s(200.0)) == (0, 0, None)


def test_what_is_held_is_not_asked_about_before_what_the_server_waits_for() -> None:
    queue = ResendQueue(window=1)
    add(queue, "a", "b")
    queue.take(0.0)
    queue.hold("c-1", "a", 60.0)
    assert taken(queue, 60) == ["a"]
    queue.hold("c-1", "a", 120.0)
    assert taken(queue, 61) == ["b"]
    assert (taken(queue, 120), queue.wait_s(120)) == ([], None)

    queue.put_back("c-1", "b", ready_at_s=125.0)

    assert (taken(queue, 124), queue.wait_s(124)) == ([], 1)
    assert taken(queue, 125) == ["b"]
    queue.resolve("c-1", "b")
    assert queue.wait_s(125) == 0
    assert taken(queue, 125) == ["a"]


def test_what_was_asked_about_when_a_connection_ends_is_sent_with_the_next() -> None:
    queue = ResendQueue()
    add(queue, "a", "b")
    queue.take(0.0)
    queue.hold("c-1", "a", 60.0)
    queue.hold("c-1", "b", 90.0)
    assert taken(queue, 60) == ["a"]

    queue.disconnected()

    assert queue.unanswered == 2
    assert taken(queue, 61) == ["a", "b"]


def test_the_log_may_show_what_is_held_while_it_is_asked_about() -> None:
    queue = ResendQueue()
    add(queue, "a")
    queue.take(0.0)
    queue.hold("c-1", "a", 60.0)
    queue.take(60.0)

    assert queue.resolve("c-1", "a", answered=False) is not None
    assert (len(queue), queue.unanswered) == (0, 0)
    assert queue.find("c-1", "a") is not None, "its answer is still owed"
    queue.disconnected()
    assert queue.find("c-1", "a") is None


def test_what_was_told_of_a_held_message_ends_no_wait_for_its_answer() -> None:
    """The server may refuse for now what it was asked about, and waits for that to come again."""
    queue = ResendQueue()
    add(queue, "a", "b")
    queue.take(0.0)
    queue.hold("c-1", "a", 60.0)
    queue.resolve("c-1", "b")
    assert taken(queue, 60) == ["a"]
    queue.put_back("c-1", "a", ready_at_s=61.0)

    assert queue.resolve("c-1", "a", answered=False) is not None, "it was told: refused for good"

    assert len(queue) == 0
    add(queue, "c")
    assert taken(queue, 61) == ["a", "c"]
    assert queue.resolve("c-1", "a") is None
    assert queue.find("c-1", "a") is None


def test_held_may_be_the_answer_that_is_owed() -> None:
    """It was given before the decision, and came after word of it."""
    queue = ResendQueue()
    add(queue, "a")
    queue.take(0.0)
    queue.hold("c-1", "a", 60.0)
    queue.take(60.0)
    queue.resolve("c-1", "a", answered=False)

    assert not queue.hold("c-1", "a", 120.0)

    assert (queue.find("c-1", "a"), queue.oldest_sent_at_s, queue.wait_s(60.0)) == (None, None, None)


def test_what_is_held_alone_in_its_conversation_takes_any_answer() -> None:
    queue = ResendQueue()
    add(queue, "a", "b")
    queue.take(0.0)
    queue.hold("c-1", "a", 60.0)
    queue.resolve("c-1", "b")

    assert queue.failed_tries("c-1") == 1
    assert not queue.put_back("c-1", "a", ready_at_s=5.0), "it was not under way"
    assert queue.resolve("c-1", "a", answered=False) is not None
    assert len(queue) == 0


def test_the_log_resolves_what_is_held() -> None:
    queue = ResendQueue()
    queue.add(PendingSend("c-1", "a", b"{}", 1))
    queue.take(0.0)
    queue.hold("c-1", "a", 60.0)

    assert queue.resolve("c-1", "a", answered=False) is not None
    assert (len(queue), queue.unanswered, queue.find("c-1", "a")) == (0, 0, None)
