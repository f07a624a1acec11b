"""The hub alone: an audience is the log's, entry by entry, wherever each session came in."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from chatkit.core.log.rules import MemberOp, member_payload
from chatkit.errors import RefusedError
from chatkit.server.cluster.reconcile_queue import ReconcileQueue
from chatkit.server.live import hub as hub_module
from chatkit.server.live.hub import Hub
from chatkit.server.session import Session
from chatkit.storage.base import Conversation, Entry, MembershipSnapshot
from chatkit.wire import events as ev
from chatkit.wire.codec import JSON

NAME = "g"


class NoServices:
    """For sessions that say nothing."""

    def handle(self, session: Session, event: ev.ClientEvent) -> None:
        raise AssertionError("nothing is said here")

    def drained(self, session: Session) -> None:
        """Leave what is behind where it can be looked at."""

    def refused(self, error: RefusedError) -> None:
        """Nobody counts it."""

    def dropped(self) -> None:
        """Nobody counts it."""

    def ended(self, session: Session) -> None:
        """Nobody keeps anything."""


class World:
    """A hub, and what it asks the log about."""

    def __init__(self) -> None:
        self.asked = ReconcileQueue()
        self.hub = Hub(self.asked)

    def join(self, user_id: str, at_seq: int | None, device_id: str = "phone", members: int = 3) -> Session:
        """A session that logs in as a member at a seq; None: as nobody's member."""
        session = Session(
            device_id, JSON, NoServices(), now_s=0.0, buffer_bytes_max=1_000_000, wake=lambda: None
        )
        session.user_id, session.device_id = user_id, device_id
        joined = [] if at_seq is None else [MembershipSnapshot(NAME, "GROUP", "e1", at_seq, members)]
        self.hub.join(session, joined)
        return session

    def log(self, *seqs: int, by: str = "ann", origin: Session | None = None) -> None:
        """Messages are stored."""
        for seq in seqs:
            self.hub.publish(entry(seq, by), origin)

    def member(self, seq: int, op: MemberOp, *users: str) -> None:
        """A MEMBER entry is stored."""
        self.hub.publish(entry(seq, "ann", member_payload(op, users), made=True), None)

    def compare(self, epoch: str, head_seq: int) -> list[str]:
        """The log was read, and nothing happened meanwhile."""
        return self.hub.compare({NAME: (epoch, head_seq)}, self.hub.epochs([NAME]))

    @property
    def position(self) -> int:
        audience = self.hub.audience(NAME)
        assert audience is not None
        return audience.position

    @property
    def member_count(self) -> int:
        audience = self.hub.audience(NAME)
        assert audience is not None
        return audience.member_count

    def asks(self) -> bool:
        """Whether the log was asked for since the last question."""
        return NAME in self.asked.take().logs


@pytest.fixture
def world() -> World:
    return World()


def entry(
    seq: int,
    by: str,
    payload: bytes = b'{"type":"TEXT","text":"x"}',
    *,
    made: bool = False,
    epoch: str = "e1",
) -> Entry:
    return Entry(NAME, epoch, f"1-e1-{seq}", seq, by, 0, payload, None if made else f"k{seq}")


def heard(session: Session) -> list[Any]:
    """Seqs of pushes, and what CONVERSATION said, in order."""
    events: list[dict[str, Any]] = []
    while (frame := session.next_frame()) is not None:
        decoded = msgspec.json.decode(frame)
        events += decoded if isinstance(decoded, list) else [decoded]
    return [event.get("seq") or event["change"] for event in events]


def test_only_the_next_entry_is_applied_and_the_rest_waits(world: World) -> None:
    ben = world.join("ben", 3)
    world.log(3, 2, 6, 5, 5)
    assert (heard(ben), world.position, world.asks()) == ([], 3, True)
    world.log(4)
    assert (heard(ben), world.position) == ([4, 5, 6], 6)
    world.log(4, 6, 7)

    assert heard(ben) == [7]
    assert not world.asks()


def test_what_waits_keeps_who_sent_it(world: World) -> None:
    ann, tablet = world.join("ann", 3), world.join("ann", 3, "tablet")
    world.log(5, origin=ann)
    world.log(4, by="ben")
    world.log(6, origin=ann)

    assert (heard(ann), heard(tablet)) == ([4], [4, 5, 6])
    assert ann.last_pushed_seq[NAME] == 6


def test_what_waits_is_bounded_and_the_log_has_the_rest(world: World) -> None:
    ben = world.join("ben", 0)
    world.log(*range(2, 2000))
    world.log(1)
    assert (world.position, world.asks()) == (257, True)
    world.log(*range(258, 2000))

    assert heard(ben) == list(range(1, 2000))


def test_what_waited_is_applied_in_turns_of_bounded_work(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    monkeypatch.setattr(hub_module, "DELIVERIES_PER_TURN", 10)
    ann, *others = [world.join(f"u-{number}", 3) for number in range(5)]
    world.log(*range(5, 20), by="u-0", origin=ann)
    world.asks()
    world.log(4, by="ben")
    assert (world.position, world.asks()) == (7, True), "the next one, and ten deliveries of what waited"
    world.log(30)
    assert world.position == 10, "the next call goes on"
    world.log(*range(11, 20), by="u-0")
    assert world.position == 19

    assert [heard(it) for it in others] == [list(range(4, 20))] * 4
    assert (heard(ann), ann.last_pushed_seq[NAME]) == ([4], 19), "their own, though read from the log"


def test_who_is_removed_gets_nothing_from_there_on(world: World) -> None:
    ben, cat = world.join("ben", 3), world.join("cat", 3)
    world.log(6)
    world.member(5, "REMOVED", "ben")
    world.log(4)

    assert (heard(ben), heard(cat)) == ([4, "LEFT"], [4, 5, 6])
    assert NAME not in ben.last_pushed_seq
    assert world.member_count == 2


def test_who_is_added_gets_everything_from_there_on(world: World) -> None:
    ben, dan = world.join("ben", 3), world.join("dan", None)
    world.log(4)
    world.member(5, "ADDED", "dan", "eve")
    world.log(6)

    assert (heard(ben), heard(dan)) == ([4, 5, 6], ["JOINED", 5, 6])
    assert world.member_count == 5


def test_a_session_that_comes_in_ahead_of_the_audience_skips(world: World) -> None:
    ben = world.join("ben", 3)
    cat = world.join("cat", 6)
    assert world.asks()
    world.log(4, 5, 6, 7)

    assert (heard(ben), heard(cat)) == ([4, 5, 6, 7], [7])


def test_its_own_removal_and_return_before_it_came_in_are_in_it_already(world: World) -> None:
    old, new, other = world.join("ben", 3), world.join("ben", 7, "tablet"), world.join("cat", 3)
    world.member(4, "REMOVED", "ben")
    world.log(5)
    world.member(6, "ADDED", "ben")
    world.log(7, 8)

    assert heard(new) == [8]
    assert heard(old) == ["LEFT"]
    assert world.asked.take().joins == {NAME: {"ben": "JOINED"}}, "the older one is let in by the log"
    assert heard(other) == [4, 5, 6, 7, 8]
    assert world.member_count == 3


def test_a_session_that_comes_in_behind_the_audience_gets_what_it_missed(world: World) -> None:
    ben = world.join("ben", 3)
    world.log(4, 5, 6)
    cat = world.join("cat", 4)
    assert (world.position, world.asks()) == (4, True)
    world.log(5, 6, 7)

    assert (heard(ben), heard(cat)) == ([4, 5, 6, 7], [5, 6, 7])


def test_its_removal_that_was_applied_before_it_came_in_is_applied_again(world: World) -> None:
    ben = world.join("ben", 3)
    world.member(4, "REMOVED", "cat")
    world.log(5)
    cat = world.join("cat", 3)
    world.member(4, "REMOVED", "cat")
    world.log(5, 6)

    assert (heard(ben), heard(cat)) == ([4, 5, 6], ["LEFT"])
    assert world.member_count == 2


def test_who_came_and_went_meanwhile_is_not_taken_in_again(world: World) -> None:
    ben, dan = world.join("ben", 3), world.join("dan", None)
    world.member(4, "ADDED", "dan")
    world.member(5, "REMOVED", "dan")
    assert heard(dan) == ["JOINED", 4, "LEFT"]
    world.asked.take()
    world.join("cat", 3)
    world.member(4, "ADDED", "dan")
    world.member(5, "REMOVED", "dan")

    assert heard(dan) == []
    assert world.asked.take().joins == {NAME: {"dan": "JOINED"}}, "the log says that he is not"
    assert heard(ben) == [4, 5]
    assert world.member_count == 3


def test_the_last_one_who_leaves_may_be_brought_back_by_the_log(world: World) -> None:
    ben = world.join("ben", 3)
    world.member(4, "REMOVED", "ben")

    assert world.hub.audience(NAME) is None
    assert world.asked.take().joins == {NAME: {"ben": "JOINED"}}
    world.hub.admit(Conversation(NAME, "GROUP", "", "e1", 6, 3, ("ben",)), {"ben": "JOINED"})
    assert heard(ben) == ["LEFT", "JOINED"]
    assert NAME in ben.behind
    world.log(7)
    assert heard(ben) == [], "dropped: it is behind"
    assert world.position == 7


def test_who_is_in_already_is_not_admitted_again(world: World) -> None:
    ben = world.join("ben", 3)
    world.hub.admit(Conversation(NAME, "GROUP", "", "e1", 9, 3, ("ben",)), {"ben": "JOINED"})
    world.log(4)

    assert heard(ben) == [4]
    assert not ben.behind


def test_an_entry_of_another_epoch_is_left_to_the_log(world: World) -> None:
    ben = world.join("ben", 3)
    world.hub.publish(entry(4, "ann", epoch="e2"), None)
    assert (heard(ben), world.position, world.asks()) == ([], 3, True)
    further = world.compare("e2", 5)

    assert further == [NAME]
    assert NAME in ben.behind
    world.hub.publish(entry(4, "ann", epoch="e1"), None)
    assert (world.position, world.asks()) == (3, True), "nor one of the former epoch now"
    world.hub.publish(entry(4, "ann", epoch="e2"), None)
    assert world.position == 4


def test_a_log_that_was_restored_shorter_goes_on_from_its_head(world: World) -> None:
    ben = world.join("ben", 9)
    assert world.compare("e2", 5) == []
    assert (world.position, ben.last_pushed_seq[NAME]) == (5, 5)
    ben.behind.clear()
    world.hub.publish(entry(6, "ann", epoch="e2"), None)

    assert heard(ben) == [6]


def test_comparing_finds_whom_a_push_never_reached(world: World) -> None:
    ben, cat = world.join("ben", 3), world.join("cat", 3)
    world.log(4)
    ben.last_pushed_seq[NAME] = 3  # as if publishing had failed half way
    assert world.hub.compare({NAME: ("e1", 4), "elsewhere": ("e1", 9)}, {NAME: "e1"}) == []

    assert NAME in ben.behind
    assert not cat.behind
    assert world.compare("e1", 6) == [NAME]
    assert not cat.behind


def test_a_read_from_before_a_renewal_does_not_bring_the_former_epoch_back(world: World) -> None:
    ben = world.join("ben", 9)
    before = world.hub.epochs([NAME])
    world.compare("e2", 9)
    ben.behind.clear()
    assert world.hub.compare({NAME: ("e1", 12)}, before) == []

    assert world.hub.epochs([NAME]) == {NAME: "e2"}
    assert not ben.behind
    assert world.asks(), "it is read again"


def test_a_log_that_was_restored_shorter_forgets_which_cursors_were_notified(world: World) -> None:
    world.join("ben", 9)
    audience = world.hub.audience(NAME)
    assert audience is not None
    assert audience.raise_cursors("ben", 9, 9) == (9, 9)
    world.compare("e2", 5)

    assert audience.raise_cursors("ben", 4, 3) == (4, 3)


@pytest.mark.parametrize("seed", range(40))
def test_a_run_is_what_its_messages_are_one_by_one(seed: int) -> None:
    """Whatever came early or again, who came in where, whose buffer is full, and which devices the sender has."""
    seen = []
    for together in (False, True):
        rng, world = Random(seed), World()
        ann = world.join("ann", 3)
        others = [world.join(*who) for who in (("ann", 3, "pc"), ("ben", 3), ("cem", 5), ("dan", 3))]
        others[-1]._buffer_bytes_max = rng.choice((300, 900, 1_000_000))
        heads = []
        seq = 3
        for _ in range(12):
            first = max(1, seq + rng.choice((1, 1, 1, 1, 0, 2, -1)))
            run = [entry(it, "ann") for it in range(first, first + rng.randrange(1, 6))]
            if rng.random() < 0.1:
                run = run[:1] + run[2:]
            one_by_one = (world.hub.publish(it, ann) for it in run)
            offered = world.hub.publish_run(run, ann) if together else list(one_by_one)
            seq = world.position
            if rng.random() < 0.2:
                others.append(world.join(f"late-{len(others)}", max(1, seq - rng.randrange(3))))
            if rng.random() < 0.3:
                heads.append([heard(it) for it in others])
            heads.append([offered, world.position, world.asks(), world.hub.offered])
        heads.append([(heard(it), it.last_pushed_seq, list(it.behind)) for it in (ann, *others)])
        seen.append(heads)

    assert seen[0] == seen[1]
