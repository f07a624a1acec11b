"""Whatever is refused: a conversation's messages are stored in the order in which they were first sent."""

from __future__ import annotations

from collections import deque

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from chatkit.core import send_order
from chatkit.core.send_order import CONVERSATIONS_MAX, SendOrder


def refuse(order: SendOrder, key: str, number: int | None, conversation: str = "c") -> bool:
    assert number is not None
    return order.refused(conversation, key, number, retryable=True)


def test_sends_are_numbered_and_nothing_holds_them_back() -> None:
    order = SendOrder()
    numbers = [order.admit("c", "a"), order.admit("d", "b"), order.admit("c", "c")]

    assert numbers == [1, 2, 3]
    assert not order.holds_back("c", 3)


def test_a_refused_send_holds_back_the_later_ones_until_it_comes_again() -> None:
    order = SendOrder()
    first, second = order.admit("c", "a"), order.admit("c", "b")
    assert first is not None and second is not None
    assert refuse(order, "a", first)

    assert order.holds_back("c", second)
    assert not order.holds_back("c", first)
    assert order.admit("c", "c") is None
    again = order.admit("c", "a")
    assert again is not None and again > second
    assert not order.holds_back("c", again)
    assert order.admit("c", "b") is not None


def test_other_conversations_go_on() -> None:
    order = SendOrder()
    refuse(order, "a", order.admit("c", "a"))
    number = order.admit("d", "b")

    assert number is not None
    assert not order.holds_back("d", number)


def test_the_earliest_refused_send_is_the_one_that_must_come_again() -> None:
    order = SendOrder()
    first, second = order.admit("c", "a"), order.admit("c", "b")
    refuse(order, "b", second)
    refuse(order, "a", first)

    assert order.admit("c", "b") is None
    assert order.admit("c", "a") is not None


def test_a_later_refusal_changes_nothing() -> None:
    order = SendOrder()
    first, second = order.admit("c", "a"), order.admit("c", "b")
    refuse(order, "a", first)
    refuse(order, "b", second)

    assert order.admit("c", "b") is None
    assert order.admit("c", "a") is not None


def test_a_refusal_for_good_holds_nothing_back() -> None:
    order = SendOrder()
    first, second = order.admit("c", "a"), order.admit("c", "b")
    assert first is not None and second is not None

    assert order.refused("c", "a", first, retryable=False)
    assert not order.holds_back("c", second)
    assert order.admit("c", "c") is not None


def test_who_comes_again_and_is_refused_for_good_lets_the_others_go() -> None:
    order = SendOrder()
    refuse(order, "a", order.admit("c", "a"))
    again = order.admit("c", "a")
    assert again is not None
    order.refused("c", "a", again, retryable=False)

    assert order.admit("c", "b") is not None


def test_beyond_the_bound_the_connection_must_end_and_everything_is_held_back() -> None:
    order = SendOrder()
    numbers = [order.admit(f"c-{it}", "a") for it in range(CONVERSATIONS_MAX + 1)]
    taken = [refuse(order, "a", number, f"c-{it}") for it, number in enumerate(numbers)]

    assert taken == [True] * CONVERSATIONS_MAX + [False]
    assert order.holds_back("another", 1)


def test_at_the_bound_an_earlier_refusal_still_takes_the_place_of_a_later_one() -> None:
    order = SendOrder()
    first, second = order.admit("c", "a"), order.admit("c", "b")
    for it in range(CONVERSATIONS_MAX - 1):
        refuse(order, "a", order.admit(f"c-{it}", "a"), f"c-{it}")
    refuse(order, "b", second)

    assert refuse(order, "a", first)
    assert order.admit("c", "a") is not None


class Pipeline(RuleBasedStateMachine):
    """A client that sends what was refused again, in its order; a server whose queue stores or refuses what waits.

    The client sends on and on without waiting for answers. Once it has read refusals it sends all those again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.order = SendOrder()
        self.queue: deque[tuple[str, int, int]] = deque()
        self.written = {"c": 0, "d": 0}
        self.refused: dict[str, set[int]] = {"c": set(), "d": set()}
        self.stored: dict[str, list[int]] = {"c": [], "d": []}

    def send(self, conversation: str, position: int, *, full: bool = False, retryable: bool = True) -> None:
        number = self.order.admit(conversation, str(position))
        if number is None:
            self.refused[conversation].add(position)
        elif full:
            self.refuse([(conversation, position, number)], retryable=retryable)
        else:
            self.queue.append((conversation, position, number))

    def refuse(self, sends: list[tuple[str, int, int]], *, retryable: bool) -> None:
        for conversation, position, number in sends:
            assert self.order.refused(conversation, str(position), number, retryable=retryable)
            if retryable:
                self.refused[conversation].add(position)

    @rule(conversation=st.sampled_from("cd"), full=st.booleans(), retryable=st.booleans())
    def write(self, conversation: str, full: bool, retryable: bool) -> None:
        self.written[conversation] += 1
        position, waiting = self.written[conversation], bool(self.refused[conversation])
        self.send(conversation, position, full=full, retryable=retryable)
        if waiting:
            assert position in self.refused[conversation], "an earlier one was refused and has not come again"

    @rule(conversation=st.sampled_from("cd"))
    def send_again(self, conversation: str) -> None:
        positions, self.refused[conversation] = sorted(self.refused[conversation]), set()
        for position in positions:
            self.send(conversation, position)
        assert not self.refused[conversation], "they came in order"

    @precondition(lambda self: self.queue)
    @rule(count=st.integers(1, 4), fate=st.sampled_from(["stored", "refused", "refused for good"]))
    def commit(self, count: int, fate: str) -> None:
        batch = [self.queue.popleft() for _ in range(min(count, len(self.queue)))]
        if fate == "stored":
            for conversation, position, _ in batch:
                assert position > max(self.stored[conversation], default=0)
                self.stored[conversation].append(position)
            return
        self.refuse(batch, retryable=fate == "refused")
        held = [it for it in self.queue if self.order.holds_back(it[0], it[2])]
        self.queue = deque(it for it in self.queue if it not in held)
        self.refuse(held, retryable=True)


TestPipeline = Pipeline.TestCase


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())), st.integers(1, 3))
def test_never_more_than_the_bound_is_kept(sends: list[tuple[str, bool]], bound: int) -> None:
    order, held = SendOrder(), set[str]()
    former, send_order.CONVERSATIONS_MAX = send_order.CONVERSATIONS_MAX, bound  # type: ignore[misc]
    try:
        for conversation, retryable in sends:
            number = order.admit(conversation, "k")
            assert number is not None, "the same message comes again each time"
            held.discard(conversation)
            taken = order.refused(conversation, "k", number, retryable=retryable)
            held |= {conversation} if taken and retryable else set()
            assert taken == (not retryable or (len(held) <= bound and conversation in held))
            assert len(held) <= bound
    finally:
        send_order.CONVERSATIONS_MAX = former  # type: ignore[misc]
