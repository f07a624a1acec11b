"""The lanes of the commit queue: order within a user, turns between users, shares, and the count of what waits."""

from __future__ import annotations

from random import Random

from chatkit.core.send_order import SendOrder
from chatkit.server.commit_queue import HOST, RESUMES, CommitQueue
from chatkit.server.pending import PendingCommand, price
from chatkit.storage.base import AddMembers, Append, Recall, ResumeSession


def send(user_id: str, key: str, payload: bytes = b"{}") -> PendingCommand:
    return PendingCommand(Append("c-1", user_id, key, payload, b"", 1), user_id=user_id)


def adding(user_id: str, count: int) -> PendingCommand:
    users = tuple(f"u-{number}" for number in range(count))
    return PendingCommand(AddMembers("c-1", user_id, users, 1_000, 1), user_id=user_id)


def names(batch: list[PendingCommand]) -> list[str]:
    return [it.command.client_msg_id for it in batch if isinstance(it.command, Append)]


def test_one_user_alone_is_served_in_order() -> None:
    queue = CommitQueue(turn_rows=2)
    for number in range(5):
        queue.append(send("ann", f"a{number}"))

    assert names(queue.take(10)) == ["a0", "a1"]
    assert names(queue.take(10)) == ["a2", "a3"]
    assert names(queue.take(10)) == ["a4"]
    assert len(queue) == 0


def test_nobody_waits_behind_the_backlog_of_another_one() -> None:
    queue = CommitQueue(turn_rows=2)
    for number in range(100):
        queue.append(send("mallory", f"m{number}"))
    queue.append(send("ann", "a"))

    assert names(queue.take(10)) == ["m0", "m1", "a"]


def test_resumed_logins_come_last_in_a_batch() -> None:
    queue = CommitQueue(turn_rows=5)
    resume = PendingCommand(ResumeSession(b"1", "phone", b"2", 9, 0, 1), user_id=RESUMES)
    queue.append(send("ann", "a"))
    queue.append(resume)
    queue.append(send("ben", "b"))
    batch = queue.take(10)

    assert names(batch) == ["a", "b"]
    assert batch[-1] is resume


def test_who_did_not_fit_into_a_batch_comes_first_in_the_next() -> None:
    queue = CommitQueue(turn_rows=10)
    for user_id in ("ann", "ben", "cat"):
        for number in range(3):
            queue.append(send(user_id, f"{user_id}{number}"))

    assert names(queue.take(4)) == ["ann0", "ann1", "ann2", "ben0"]
    assert names(queue.take(4)) == ["cat0", "cat1", "cat2", "ben1"]
    assert names(queue.take(4)) == ["ben2"]


def test_a_large_command_goes_alone_and_is_owed_to_the_others() -> None:
    queue = CommitQueue(turn_rows=5)
    large = adding("mallory", 10)
    queue.append(large)
    queue.append(send("mallory", "m"))
    assert queue.take(20) == [large]

    for number in range(8):
        queue.append(send("ann", f"a{number}"))
    batches = [names(queue.take(20)) for _ in range(2)]

    assert large.cost == 31
    assert batches == [["a0", "a1", "a2", "a3", "a4"], ["a5", "a6", "a7"]]


def test_a_debt_holds_nobody_up_while_there_is_nothing_else() -> None:
    queue = CommitQueue(turn_rows=1)
    first, second = adding("mallory", 10), adding("mallory", 10)
    queue.append(first)
    queue.append(second)

    assert [queue.take(20), queue.take(20)] == [[first], [second]]


def test_a_large_command_in_a_later_lane_is_not_passed_over_for_ever() -> None:
    queue = CommitQueue(turn_rows=5)
    large = adding("ben", 10)
    queue.append(send("ann", "a0"))
    queue.append(large)
    queue.append(send("ann", "a1"))
    assert names(queue.take(20)) == ["a0", "a1"]
    queue.append(send("ann", "a2"))

    assert queue.take(20) == [large]


def test_the_host_has_no_share_to_keep_to() -> None:
    queue = CommitQueue(turn_rows=1)
    for number in range(5):
        queue.append(send(HOST, f"h{number}"))

    assert names(queue.take(10)) == ["h0", "h1", "h2", "h3", "h4"]


def test_prices_follow_the_rows() -> None:
    commands = [send("ann", "a"), PendingCommand(Recall("m-1", "ann", 1, 1)), adding("ann", 3)]
    for pending in commands:
        price(pending)

    assert [pending.cost for pending in commands] == [1, 3, 10]


def test_what_waits_is_counted_whatever_happens() -> None:
    rng = Random(7)
    queue, order = CommitQueue(turn_rows=3), SendOrder()
    waiting: list[PendingCommand] = []
    for number in range(2_000):
        act = rng.random()
        if act < 0.6:
            user_id = rng.choice(("ann", "ben", "cat", HOST))
            pending = send(user_id, str(number), b"x" * rng.randrange(5))
            if rng.random() < 0.3:
                pending = adding(user_id, rng.randrange(1, 9))
            elif rng.random() < 0.3:
                pending.order, pending.number = order, order.admit("c-1", str(number)) or 0
            queue.append(pending)
            waiting.append(pending)
        elif act < 0.9:
            batch = queue.take(rng.choice((1, 5, 20)))
            assert bool(batch) == bool(waiting)
            for pending in batch:  # the oldest of its user
                assert pending is next(it for it in waiting if it.user_id == pending.user_id)
                waiting = [it for it in waiting if it is not pending]
        elif act < 0.95:
            order.refused("c-1", "none", rng.randrange(1, 2_000), retryable=True)
            removed = [it for it, _ in queue.remove(lambda it: it.held_back or None)]
            assert set(map(id, removed)) == {id(it) for it in waiting if it.held_back}
            gone = set(map(id, removed))
            waiting = [it for it in waiting if id(it) not in gone]
            assert order.admit("c-1", "none")
        assert len(queue) == len(waiting)
        assert queue.cost == sum(it.cost for it in waiting)
        assert queue.payload_bytes == sum(it.payload_bytes for it in waiting)
        for user_id in ("ann", "ben", HOST):
            mine = [it for it in waiting if it.user_id == user_id]
            assert queue.held_by(user_id) == (
                sum(it.cost for it in mine),
                sum(it.payload_bytes for it in mine),
            )
    assert sorted(map(id, queue.take_all())) == sorted(map(id, waiting))
    assert (len(queue), queue.cost, queue.payload_bytes) == (0, 0, 0)
