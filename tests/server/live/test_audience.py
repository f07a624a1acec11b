"""An audience alone: what follows from one entry, who is in it, and what the log says against it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from chatkit.core.log.rules import MemberOp, member_payload
from chatkit.server.live.audience import Applied, Audience
from chatkit.server.live.presence import Presence
from chatkit.server.session import Session
from chatkit.storage.base import MembershipSnapshot
from chatkit.wire.codec import JSON

from .test_hub import NAME, NoServices, entry


def session(user_id: str, device_id: str = "phone") -> Session:
    made = Session(device_id, JSON, NoServices(), now_s=0.0, buffer_bytes_max=1_000_000, wake=lambda: None)
    made.user_id, made.device_id = user_id, device_id
    return made


class Scene:
    """An audience at a position, with members who are online."""

    def __init__(self, position: int, *user_ids: str) -> None:
        self.presence = Presence()
        self.audience = Audience(NAME, "GROUP", "e1", position, len(user_ids))
        self.sessions = {user_id: self.online(user_id) for user_id in user_ids}
        for it in self.sessions.values():
            assert self.enter(it, position)

    def online(self, user_id: str, device_id: str = "phone") -> Session:
        made = session(user_id, device_id)
        self.presence.add(made)
        return made

    def enter(self, who: Session, head_seq: int, epoch: str = "e1") -> bool:
        snapshot = MembershipSnapshot(NAME, "GROUP", epoch, head_seq, self.audience.member_count)
        return self.audience.enter(who, snapshot)

    def apply(self, seq: int, op: MemberOp | None = None, *user_ids: str) -> Applied:
        made = entry(seq, "ann", member_payload(op, user_ids), made=True) if op else entry(seq, "ann")
        applied = self.audience.apply(made, None, self.presence)
        for it in applied.recipients:
            it.push(b"x", NAME, seq)
        return applied


def users(sessions: Iterable[Session]) -> list[str]:
    return [it.user_id for it in sessions]


def test_the_next_entry_goes_to_everybody() -> None:
    scene = Scene(3, "ann", "ben")
    applied = scene.apply(4)

    assert users(applied.recipients) == ["ann", "ben"]
    assert not (applied.joined or applied.left or applied.uncertain)
    assert scene.audience.position == 4


def test_only_the_following_entry_of_the_same_epoch_is_the_next() -> None:
    audience = Scene(3, "ann").audience

    assert [audience.is_next(entry(seq, "ann")) for seq in (3, 4, 5)] == [False, True, False]
    for other in ("e0", "e2"):  # an epoch is a name: neither before nor after
        assert not audience.is_next(entry(4, "ann", epoch=other))


def test_a_part_is_shown_where_the_audience_is_as_far_and_no_stream_has_ended_since() -> None:
    scene = Scene(3, "ann", "ben")
    scene.apply(4)
    pass_part = scene.audience.pass_part

    assert users(pass_part(4, 1, 4)) == ["ann", "ben"]
    assert users(pass_part(4, 2, 5)) == []  # somebody may have been removed at 5
    scene.apply(5)
    assert users(pass_part(4, 3, 5)) == ["ann", "ben"]
    assert users(pass_part(4, 3, 4)) == ["ann", "ben"]  # a message of another node overtook it
    ended = entry(6, "ann", b'{"ends":"WHOLE","messageId":"1-e1-4","payload":{},"seq":4,"type":"EDIT"}')
    scene.audience.apply_run([ended, entry(7, "ann")])
    assert users(pass_part(4, 4, 5)) == []
    assert users(pass_part(4, 4, 6)) == ["ann", "ben"]
    scene.audience.compare("e2", 5)  # a shorter log
    assert users(pass_part(4, 5, 5)) == ["ann", "ben"]
    scene.audience.restart(9, 2, ())  # what is missing may have ended it
    assert users(pass_part(4, 6, 8)) == []


def test_what_comes_too_early_is_kept_until_its_turn() -> None:
    scene = Scene(3, "ann")
    early, origin = entry(5, "ann"), scene.sessions["ann"]
    scene.audience.keep(early, origin)
    assert scene.audience.take_kept() is None
    scene.apply(4)

    assert scene.audience.take_kept() == (early, origin)
    assert scene.audience.take_kept() is None


def test_what_was_overtaken_or_is_of_another_epoch_is_not_kept() -> None:
    scene = Scene(3, "ann")
    for made in (entry(5, "ann"), entry(6, "ann", epoch="e2")):
        scene.audience.keep(made, None)
    for seq in (4, 5):
        scene.apply(seq)

    assert scene.audience.take_kept() is None
    assert scene.audience._early == {}


def test_who_is_added_is_taken_in_before_the_entry_is_offered() -> None:
    scene = Scene(3, "ann")
    ben, tablet = scene.online("ben"), scene.online("ben", "tablet")
    applied = scene.apply(4, "ADDED", "ben", "cat")

    assert (list(applied.joined), applied.reason) == ([ben, tablet], "JOINED")
    assert users(applied.recipients) == ["ann", "ben", "ben"]
    assert scene.audience.member_count == 3


def test_a_group_is_created_with_its_members() -> None:
    scene = Scene(0)
    ann = scene.online("ann")
    applied = scene.apply(1, "CREATED", "ann", "ben")

    assert (list(applied.joined), applied.reason, scene.audience.member_count) == ([ann], "CREATED", 2)


def test_who_is_removed_is_put_out_before_the_entry_is_offered() -> None:
    scene = Scene(3, "ann", "ben")
    ben = scene.sessions["ben"]
    applied = scene.apply(4, "REMOVED", "ben")

    assert (list(applied.left), users(applied.recipients)) == ([ben], ["ann"])
    assert NAME not in ben.last_pushed_seq
    assert not applied.uncertain


def test_when_the_last_one_leaves_the_log_is_asked_whether_they_come_back() -> None:
    scene = Scene(3, "ann")
    applied = scene.apply(4, "LEFT", "ann")

    assert list(applied.uncertain) == ["ann"]
    assert not scene.audience.sessions


def test_a_membership_that_is_known_from_later_is_not_ended_by_an_earlier_entry() -> None:
    scene = Scene(3, "ann")
    ben = scene.online("ben")
    assert not scene.enter(ben, 6), "it came in further on: the log must be asked"
    applied = scene.apply(4, "REMOVED", "ben")

    assert not applied.left
    assert ben in scene.audience.sessions
    assert users(applied.recipients) == ["ann"], "the other one had this in its listing"


def test_who_comes_in_behind_takes_the_audience_back_and_nobody_gets_anything_twice() -> None:
    scene = Scene(3, "ann")
    for seq in (4, 5):
        scene.apply(seq)
    ben = scene.online("ben")
    assert not scene.enter(ben, 3)

    assert scene.audience.position == 3
    assert [users(scene.apply(seq).recipients) for seq in (4, 5, 6)] == [["ben"], ["ben"], ["ann", "ben"]]


def test_one_who_was_added_in_an_entry_applied_again_is_for_the_log_to_decide() -> None:
    scene = Scene(5, "ann")
    ben, _ = scene.online("ben"), scene.online("cat")
    scene.enter(ben, 3)
    applied = scene.apply(4, "ADDED", "cat")

    assert (list(applied.joined), list(applied.uncertain)) == ([], ["cat"])


def test_comparing_marks_who_missed_a_push_and_says_whether_the_log_goes_further() -> None:
    scene = Scene(3, "ann", "ben")
    scene.apply(4)
    scene.sessions["ben"].last_pushed_seq[NAME] = 3

    assert not scene.audience.compare("e1", 4)
    assert [NAME in it.behind for it in scene.sessions.values()] == [False, True]
    assert scene.audience.compare("e1", 5)


@pytest.mark.parametrize("other", ["e0", "e2"])
def test_under_a_new_epoch_everybody_is_behind_and_goes_on_from_its_head(other: str) -> None:
    scene = Scene(9, "ann", "ben")
    scene.audience.keep(entry(12, "ann"), None)
    scene.audience.raise_cursors("ann", 9, 9)

    assert not scene.audience.compare(other, 5)
    assert (scene.audience.epoch, scene.audience.position) == (other, 5)
    assert all(NAME in it.behind and it.last_pushed_seq[NAME] == 5 for it in scene.sessions.values())
    assert scene.audience._early == {}
    assert scene.audience.raise_cursors("ann", 2, 1) == (2, 1)


def test_cursors_never_fall_below_what_was_notified() -> None:
    audience = Scene(9, "ann").audience

    assert audience.raise_cursors("ben", 5, 2) == (5, 2)
    assert audience.raise_cursors("ben", 4, 3) == (5, 3)


def test_who_ended_gets_nothing_more() -> None:
    scene = Scene(3, "ann", "ben")
    scene.audience.leave(scene.sessions["ben"])
    scene.audience.leave(scene.sessions["ben"])

    assert users(scene.apply(4).recipients) == ["ann"]


# --- whatever comes in whatever order ---

USERS = ("ann", "ben", "cat")


def make_log(draws: list[tuple[str, bool]]) -> list[tuple[MemberOp | None, str]]:
    """A log that ann begins with all as members; then users are removed, added again, or somebody writes."""
    log: list[tuple[MemberOp | None, str]] = [("CREATED", "")]
    members = set(USERS)
    for user_id, changes in draws:
        if not changes or user_id == "ann":
            log.append((None, user_id))
        elif user_id in members:
            members.discard(user_id)
            log.append(("REMOVED", user_id))
        else:
            members.add(user_id)
            log.append(("ADDED", user_id))
    return log


def visible(log: list[tuple[MemberOp | None, str]], user_id: str, after_seq: int) -> list[int]:
    """The seqs after `after_seq` that a user may see: from an ADDED on, up to before a REMOVED."""
    seqs, member = [], True
    for seq, (op, whose) in enumerate(log, 1):
        if whose == user_id and op is not None:
            member = op == "ADDED"
        if member and seq > after_seq:
            seqs.append(seq)
    return seqs


@given(
    st.lists(st.tuples(st.sampled_from(USERS), st.booleans()), max_size=12).map(make_log),
    st.data(),
)
def test_everybody_gets_what_they_may_see_once_and_in_order(
    log: list[tuple[MemberOp | None, str]], data: st.DataObject
) -> None:
    """Entries arrive shuffled and repeated, as from a bus; every session gets exactly its part of the log."""
    presence = Presence()
    audience = Audience(NAME, "GROUP", "e1", 1, len(USERS))
    sessions = {user_id: session(user_id) for user_id in USERS}
    for it in sessions.values():
        presence.add(it)
        audience.enter(it, MembershipSnapshot(NAME, "GROUP", "e1", 1, len(USERS)))
    entries = [
        entry(seq, "ann", member_payload(op, [whose]), made=True) if op else entry(seq, whose or "ann")
        for seq, (op, whose) in enumerate(log, 1)
    ]
    arriving: list[Any] = data.draw(st.permutations(entries * 2))
    got: dict[str, list[int]] = {user_id: [] for user_id in USERS}

    def carry_out(applied: Applied) -> None:
        for it in applied.recipients:
            it.push(msgspec.json.encode(applied.entry.seq), NAME, applied.entry.seq)
            got[it.user_id].append(applied.entry.seq)

    for arrived in arriving:
        if arrived.seq <= audience.position:
            continue
        if not audience.is_next(arrived):
            audience.keep(arrived, None)
            continue
        carry_out(audience.apply(arrived, None, presence))
        while (kept := audience.take_kept()) is not None:
            carry_out(audience.apply(*kept, presence))

    assert audience.position == len(log)
    assert got == {user_id: visible(log, user_id, 1) for user_id in USERS}
    members = {it.user_id for it in audience.sessions}
    assert audience.member_count == len(members)
    assert all((NAME in it.last_pushed_seq) == (it.user_id in members) for it in sessions.values())
