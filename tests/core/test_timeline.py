"""Whatever comes in whatever order: each visible entry once, in order; recalls win."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatkit.core.sizes import size_of
from chatkit.core.timeline import RECALL_BYTES, HeldBytes, Step, Timeline
from chatkit.types import Message


def entry(seq: int, text: str = "") -> Message:
    return Message("c-1", seq, f"m-{seq}", "u-1", seq, {"type": "TEXT", "text": text or f"t{seq}"})


def recall(seq: int, target: int) -> Message:
    payload = {"type": "RECALL", "messageId": f"m-{target}", "seq": target, "by": "u-1"}
    return Message("c-1", seq, f"m-{seq}", "u-1", seq, payload)


def gone(seq: int) -> Message:
    return Message("c-1", seq, f"m-{seq}", "u-1", seq, {"type": "RECALLED"})


def seqs(step: Step) -> list[int]:
    return [placed.message.seq for placed in step.placed]


def test_the_next_entry_is_placed_at_once() -> None:
    timeline = Timeline("e", 4)

    assert seqs(timeline.push(entry(5))) == [5]
    assert (timeline.prefix, timeline.head, timeline.behind) == (5, 5, False)


def test_a_repeat_changes_nothing() -> None:
    timeline = Timeline("e", 0)
    timeline.push(entry(1))
    timeline.push(entry(3))

    assert seqs(timeline.push(entry(1))) == []
    assert seqs(timeline.push(entry(3))) == []
    assert timeline.held_count == 1


def test_entries_above_a_gap_wait_for_it() -> None:
    timeline = Timeline("e", 0)

    assert seqs(timeline.push(entry(3))) == []
    assert timeline.behind
    assert seqs(timeline.push(entry(2))) == []
    assert seqs(timeline.push(entry(1))) == [1, 2, 3]
    assert not timeline.behind


def test_beyond_the_bound_entries_are_dropped_but_their_head_is_known() -> None:
    timeline = Timeline("e", 0, held_max=2)
    for seq in (3, 4, 5):
        timeline.push(entry(seq))

    assert timeline.held_count == 2
    assert timeline.head == 5
    assert seqs(timeline.page(0, 2, [entry(1), entry(2)])) == [1, 2, 3, 4]
    assert timeline.behind


def test_a_page_moves_the_prefix_over_what_is_not_visible() -> None:
    timeline = Timeline("e", 2)

    step = timeline.page(2, 9, [entry(5), entry(9)])

    assert seqs(step) == [5, 9]
    assert timeline.prefix == 9


def test_a_page_that_starts_above_the_prefix_hides_no_gap() -> None:
    timeline = Timeline("e", 2)

    assert seqs(timeline.page(5, 9, [entry(6)])) == []
    assert timeline.prefix == 2


def test_held_entries_join_a_page_in_order() -> None:
    timeline = Timeline("e", 0)
    timeline.push(entry(4))
    timeline.push(entry(7))

    assert seqs(timeline.page(0, 5, [entry(2)])) == [2, 4]
    assert (timeline.prefix, timeline.held_count) == (5, 1)


def test_a_tombstone_in_a_page_wins_over_a_body_that_is_held() -> None:
    timeline = Timeline("e", 0)
    timeline.push(entry(2, "secret"), notified=True)
    timeline.push(entry(5, "later"))

    step = timeline.page(0, 3, [entry(1), gone(2), gone(5)])

    placed = [(item.message.seq, item.message.type, item.notified) for item in step.placed]
    assert placed == [(1, "TEXT", False), (2, "RECALLED", True)]
    assert step.recalled_seqs == [2]  # so that a stored copy goes too; 5 is outside of the page


def test_an_entry_that_is_not_kept_comes_again_but_its_recall_counts() -> None:
    timeline = Timeline("e", 1)

    step = timeline.push(recall(2, 1), keep=False)

    assert (seqs(step), step.recalled_seqs) == ([], [1])
    assert (timeline.prefix, timeline.head, timeline.held_count) == (1, 2, 0)
    assert seqs(timeline.page(1, 2, [recall(2, 1)])) == [2]


def test_own_entries_do_not_mask_a_gap_and_stay_notified() -> None:
    timeline = Timeline("e", 0)
    timeline.push(entry(2), notified=True)

    step = timeline.page(0, 2, [entry(1), entry(2)])

    assert [(placed.message.seq, placed.notified) for placed in step.placed] == [(1, False), (2, True)]


def test_a_recall_blanks_an_entry_that_waits_above_a_gap() -> None:
    timeline = Timeline("e", 0)
    timeline.push(entry(2, "secret"))

    assert timeline.push(recall(3, 2)).recalled_seqs == [2]
    step = timeline.push(entry(1))
    assert [placed.message.payload["type"] for placed in step.placed] == ["TEXT", "RECALLED", "RECALL"]


def test_a_recall_wins_over_a_body_that_comes_later() -> None:
    timeline = Timeline("e", 0)
    timeline.push(recall(3, 2))
    timeline.push(entry(2, "secret"))

    step = timeline.push(entry(1))

    assert [placed.message.payload["type"] for placed in step.placed] == ["TEXT", "RECALLED", "RECALL"]


def test_a_recall_dropped_for_the_bound_still_wins() -> None:
    timeline = Timeline("e", 0, held_max=1)
    timeline.push(entry(9))

    assert timeline.push(recall(5, 2)).recalled_seqs == [2]
    assert timeline.page(0, 2, [entry(1), entry(2)]).placed[1].message.payload == {"type": "RECALLED"}


def test_a_recall_kept_from_an_earlier_run_wins() -> None:
    timeline = Timeline("e", 1, recalled_seqs=[2])

    assert timeline.push(entry(2)).placed[0].message.type == "RECALLED"


def test_a_recall_that_names_nothing_sensible_is_just_an_entry() -> None:
    timeline = Timeline("e", 0)
    odd = Message("c-1", 1, "m-1", "u-1", 1, {"type": "RECALL", "seq": "1"})

    step = timeline.push(odd)

    assert (seqs(step), step.recalled_seqs) == ([1], [])


def test_entries_of_an_unknown_type_keep_their_seq() -> None:
    timeline = Timeline("e", 0)
    odd = Message("c-1", 1, "m-1", "u-1", 1, {"type": "HOLOGRAM"})

    assert seqs(timeline.push(odd)) == [1]


def test_reset_forgets_the_old_log() -> None:
    timeline = Timeline("old", 7)
    timeline.push(entry(9))
    timeline.reset("new")

    assert (timeline.epoch, timeline.prefix, timeline.head, timeline.held_count) == ("new", 0, 0, 0)
    assert seqs(timeline.push(entry(1))) == [1]


def test_a_recall_that_waited_in_the_old_log_blanks_nothing_in_the_new_one() -> None:
    timeline = Timeline("old", 0, held=[entry(3)], recalled_seqs=[2])
    timeline.reset("new")

    step = timeline.page(0, 3, [entry(seq) for seq in (1, 2, 3)])
    assert [(placed.message.seq, placed.message.type, placed.notified) for placed in step.placed] == [
        (seq, "TEXT", False) for seq in (1, 2, 3)
    ]


def test_beyond_the_bound_it_is_still_known_that_the_app_was_notified() -> None:
    timeline = Timeline("e", 0, held_max=1)
    for seq in (2, 3, 4):
        timeline.push(entry(seq), notified=True)

    step = timeline.page(0, 5, [entry(seq) for seq in range(1, 6)])
    assert (timeline.held_count, [placed.message.seq for placed in step.placed if not placed.notified]) == (
        0,
        [1, 5],
    )


def test_all_that_was_notified_before_a_restart_is_known_though_not_all_is_held() -> None:
    timeline = Timeline("e", 0, held=[entry(2), entry(3)], held_bytes=HeldBytes(1))

    assert (timeline.held_count, timeline.head) == (1, 3)
    assert [placed.notified for placed in timeline.page(0, 3, [entry(1), entry(3)]).placed] == [
        False,
        True,
        True,
    ]


def test_what_the_app_was_notified_of_is_held_beyond_the_bound_so_that_the_prefix_passes_it() -> None:
    for timeline in (
        Timeline("e", 0, held_max=1),
        Timeline("e", 0, held=[entry(seq) for seq in (2, 3, 4)], held_max=1),
    ):
        for seq in (2, 3, 4):
            timeline.push(entry(seq), notified=True)
        timeline.push(entry(6))

        step = timeline.push(entry(1))
        assert (timeline.prefix, [placed.notified for placed in step.placed]) == (
            4,
            [False, True, True, True],
        )
        assert timeline.held_count == 0


def test_bytes_above_gaps_are_counted_together_and_given_back() -> None:
    held = HeldBytes(3 * size_of(entry(2)))
    first, second = (Timeline("e", 0, held_bytes=held) for _ in range(2))
    for seq in (2, 3):
        for timeline in (first, second):
            timeline.push(entry(seq))
    assert (first.held_count, second.held_count, held.full) == (2, 1, True)
    second.push(recall(5, 4))  # no room to remember it

    first.push(entry(1))
    second.reset("e2")
    assert held.used == 0


def test_recalls_above_gaps_are_counted_and_given_back() -> None:
    held = HeldBytes()
    timeline = Timeline("e", 0, held_bytes=held)
    timeline.push(recall(5, 2))
    before = held.used
    timeline.push(recall(5, 2))
    assert held.used == before == size_of(recall(5, 2)) + RECALL_BYTES
    for seq in (1, 2, 3, 4):
        timeline.push(entry(seq))
    assert (timeline.prefix, held.used) == (5, 0)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[int], list[tuple[str, int, int]]]:
    head = draw(st.integers(1, 25))
    visible = sorted(draw(st.sets(st.integers(1, head), min_size=1)))
    push = st.tuples(st.just("push"), st.sampled_from(visible), st.just(0))
    page = st.tuples(st.just("page"), st.integers(0, head), st.integers(1, head))
    return visible, draw(st.lists(st.one_of(push, page), max_size=60))


@given(arrivals(), st.integers(1, 5))
def test_any_mix_of_pushes_repeats_and_pages_gives_each_once_in_order(
    given_: tuple[list[int], list[tuple[str, int, int]]], held_max: int
) -> None:
    visible, steps = given_
    head = max(visible)
    timeline = Timeline("e", 0, held_max=held_max)
    placed: list[int] = []
    for kind, first, size in steps:
        if kind == "push":
            placed += seqs(timeline.push(entry(first)))
        else:
            up_to = min(head, first + size)
            listed = [entry(seq) for seq in visible if first < seq <= up_to]
            placed += seqs(timeline.page(first, up_to, listed))
        assert placed == [seq for seq in visible if seq <= timeline.prefix]
    rest = [entry(seq) for seq in visible if seq > timeline.prefix]
    placed += seqs(timeline.page(timeline.prefix, head, rest))

    assert placed == visible
    assert not timeline.behind


@given(st.permutations(range(1, 9)), st.sets(st.integers(1, 4)))
def test_a_recalled_body_is_never_placed_after_its_recall_arrived(
    order: list[int], targets: set[int]
) -> None:
    recalls = {4 + place: target for place, target in enumerate(sorted(targets), start=1)}
    timeline, known = Timeline("e", 0), set[int]()
    for seq in order:
        message = recall(seq, recalls[seq]) if seq in recalls else entry(seq)
        known |= {recalls[seq]} if seq in recalls else set()
        for item in timeline.push(message).placed:
            if item.message.seq in known:
                assert item.message.type == "RECALLED"

    assert timeline.prefix == 8
