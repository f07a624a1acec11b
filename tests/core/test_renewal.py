"""The search for the last entry that a lost log and the one put back in its place have in common."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatkit.core.renewal import WINDOW, Renewal


def searched(
    renewal: Renewal, held: dict[int, str], log: dict[int, str], head: int, page_max: int = 200
) -> int:
    """Answer the search's questions as a server does; returns how many it asked."""
    for asked in range(1, 10_000):
        last_seq = renewal.last_seq
        up_to = min(head, last_seq + page_max)
        listed = {seq: id_ for seq, id_ in log.items() if last_seq < seq <= up_to}
        before = (renewal.last_seq, renewal.kept_seq)
        if renewal.compare(last_seq, up_to, held, listed):
            return asked
        assert (renewal.last_seq, renewal.kept_seq) != before, "each answer leads on"
    raise AssertionError("the search does not end")


def ids(first: int, last: int, mark: str = "m") -> dict[int, str]:
    return {seq: f"{mark}-{seq}" for seq in range(first, last + 1)}


def test_one_page_is_enough_where_nothing_was_lost() -> None:
    renewal = Renewal("e2", 100_000, 98_999, 100_000, 0)
    assert searched(renewal, ids(99_000, 100_000), ids(1, 100_100), 100_100) == 1
    assert renewal.kept_seq == 100_000


def test_what_was_lost_and_written_anew_is_found_to_the_entry() -> None:
    renewal = Renewal("e2", 500, 0, 0, 0)
    log = ids(1, 437) | ids(438, 700, "n")
    assert searched(renewal, ids(1, 500), log, 700) == 2
    assert renewal.kept_seq == 437


def test_logs_with_nothing_in_common() -> None:
    renewal = Renewal("e2", 120, 0, 0, 0)
    assert searched(renewal, ids(1, 120), ids(1, 300, "n"), 300) == 3
    assert renewal.kept_seq == 0


def test_where_nothing_can_be_compared_the_confirmed_part_counts() -> None:
    renewal = Renewal("e2", 50, 50, 30, 0)
    searched(renewal, {}, ids(1, 60), 60)
    assert renewal.kept_seq == 30


def test_an_answer_to_another_question_changes_nothing() -> None:
    renewal = Renewal("e2", 200, 0, 0, 0)
    assert not renewal.compare(0, 200, ids(1, 200), ids(1, 200))
    assert (renewal.last_seq, renewal.kept_seq) == (200 - WINDOW, 200)


def _between(first: int, last: int) -> set[int]:
    return set(range(first, last + 1))


@given(
    common=st.integers(0, 300),
    lost=st.integers(0, 300),
    written=st.integers(0, 300),
    page_max=st.integers(1, 80),
    hidden=st.sets(st.integers(1, 600)) | st.builds(_between, st.integers(1, 600), st.integers(1, 600)),
    trimmed=st.integers(0, 400),
)
def test_the_last_common_entry_is_found_whatever_is_hidden_or_trimmed(
    common: int, lost: int, written: int, page_max: int, hidden: set[int], trimmed: int
) -> None:
    """Nothing that differs is kept, and nothing that is the same is given up but what nobody could compare."""
    old = {seq: id_ for seq, id_ in ids(1, common + lost).items() if seq > trimmed and seq not in hidden}
    new = {
        seq: id_
        for seq, id_ in (ids(1, common) | ids(common + 1, common + written, "n")).items()
        if seq not in hidden
    }
    head = common + written
    renewal = Renewal("e2", min(common + lost, head), trimmed, 0, 0)
    searched(renewal, old, new, head, page_max)

    differing = [seq for seq in old.keys() & new.keys() if old[seq] != new[seq]]
    assert all(seq > renewal.kept_seq for seq in differing)
    assert all(seq <= renewal.kept_seq for seq in old.keys() & new.keys() if old[seq] == new[seq])
