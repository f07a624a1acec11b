"""One conversation, pure: what an arrival changes, what is stored of it, and what the app is notified of."""

from __future__ import annotations

import pytest

from chatkit.client.conversation import Conversation, Conversations, Effects
from chatkit.client.events import (
    EpochChanged,
    MessageRecalled,
    MessageReceived,
    MessageSent,
    ReceiptChanged,
    SendFailed,
)
from chatkit.client.store.base import Record
from chatkit.core.timeline import Timeline
from chatkit.errors import ForbiddenError, ProtocolError
from chatkit.types import Message, Receipt, Sent
from chatkit.wire import events as ev

ME = "u-1"


def entry(seq: int, sender: str = "u-2", /, **payload: object) -> Message:
    return Message("c-1", seq, f"m-{seq}", sender, 1000 + seq, payload or {"type": "TEXT", "text": "hi"})


def conversation(prefix: int = 0, type_: str = "GROUP") -> Conversation:
    return Conversation("c-1", type_, Timeline("e1", prefix))  # type: ignore[arg-type]


def pushed(it: Conversation, *messages: Message, own: bool = False) -> Effects:
    effects = Effects()
    for message in messages:
        it.push(effects, message, ME, own=own, keep=True)
    return effects


def test_what_gets_its_place_is_stored_and_the_app_notified_in_order() -> None:
    it = conversation()
    assert pushed(it, entry(2)).changes() == []

    effects = pushed(it, entry(1))
    (change,) = effects.changes()
    assert ([message.seq for message in change.messages], change.prefix) == ([1, 2], 2)
    assert [it.event for it in effects.deliveries] == [MessageReceived(entry(1)), MessageReceived(entry(2))]
    assert effects.to_confirm() == [it]


def test_an_own_message_above_a_gap_is_stored_at_once_and_no_event() -> None:
    it = conversation()
    effects = pushed(it, entry(2, ME), own=True)

    (change,) = effects.changes()
    assert ([message.seq for message in change.messages], change.prefix, effects.deliveries) == ([2], 0, [])
    assert [it.event for it in pushed(it, entry(1)).deliveries] == [MessageReceived(entry(1))]


def test_a_recall_is_an_event_of_its_own_and_remembered_for_history() -> None:
    it = conversation(prefix=1)
    effects = pushed(it, entry(2, type="RECALL", messageId="m-1", seq=1, by="u-2"))

    (change,) = effects.changes()
    assert (change.recalled_seqs, list(it.recalled_lately)) == ([1], [1])
    assert [it.event for it in effects.deliveries] == [MessageRecalled("c-1", "m-1", 1, "u-2")]


def test_a_new_membership_forgets_what_is_held_from_before() -> None:
    it = conversation(prefix=4)
    effects = Effects()
    effects.change(it).messages.append(entry(3))
    it.push(effects, entry(5, type="MEMBER", op="ADDED", userIds=[ME]), ME, own=False, keep=True)

    (change,) = effects.changes()
    assert (change.forget_up_to, change.floor, [message.seq for message in change.messages]) == (4, 4, [5])


def test_another_log_drops_all_that_was_said_of_the_old_one() -> None:
    it = conversation(prefix=4)
    it.acked_seq, it.read_seq, it.first_seq, it.epoch_refused = 4, 3, 2, True
    it.others_rise(3, 2)
    pushed(it, entry(6))
    it.begin_renewal("e2", 9, floor=0, delivered_seq=0, read_seq=0)
    assert (it.acked_seq, it.read_seq, it.first_seq, it.epoch_refused) == (0, 0, 1, False)
    assert (it.message_state(1), it.epoch, it.timeline.epoch, it.behind) == ("SENT", "e2", "e1", True)
    assert not (it.is_same_log("e1") or it.is_same_log("e2")), "nothing gets a place until both were compared"

    assert it.renewal is not None
    assert it.renewal.compare(0, 4, {3: "m-3", 4: "m-4"}, {3: "m-3", 4: "n-4"})
    effects = Effects()
    it.renewed(effects, 9)

    (change,) = effects.changes()
    assert (change.forget_above, change.epoch, change.prefix, change.messages) == (3, "e2", 3, [])
    assert (it.timeline.head, it.timeline.prefix, it.timeline.held_count, it.renewal) == (9, 3, 0, None)
    assert [it.event for it in effects.deliveries] == [EpochChanged("c-1", "e2", 3)]


def test_the_first_epoch_heard_of_is_taken_and_another_one_is_another_log() -> None:
    it = Conversation("c-1", "GROUP", Timeline())

    assert [it.is_same_log(epoch) for epoch in ("e1", "e1", "e2", "e0")] == [True, True, False, False]


def test_in_a_single_conversation_the_other_is_the_least_of_all_others() -> None:
    single, group = conversation(type_="SINGLE"), conversation()
    event = ev.ReceiptPush("c-1", "u-2", delivered_seq=4, read_seq=3)

    assert single.receipt(event, ME) == ReceiptChanged(Receipt("c-1", "u-2", 4, 3))
    assert [single.message_state(seq) for seq in (3, 4, 5)] == ["READ", "DELIVERED", "SENT"]
    group.receipt(event, ME)
    assert group.message_state(3) == "SENT"


def test_outcomes_are_resolved_and_notified_together() -> None:
    effects, sent, refused = Effects(), Sent("c-1", "k", "m-1", 1, 1001, "e1"), ForbiddenError()
    effects.sent(sent)
    effects.failed(("c-1", "l"), refused)

    assert effects.resolved == [("c-1", "k"), ("c-1", "l")]
    assert effects.outcomes == [(("c-1", "k"), sent), (("c-1", "l"), refused)]
    assert [it.event for it in effects.deliveries] == [MessageSent(sent), SendFailed("c-1", "l", refused)]


def test_what_was_heard_of_before_the_heads_is_taken_over() -> None:
    conversations = Conversations(held_max=10, wake=lambda: None)
    earlier = conversations.heard_of("c-1")
    earlier.head_seq, earlier.own = 7, {6: entry(6, ME)}
    it = conversations.adopt("c-1", "GROUP", "e1", 5)

    assert (it.timeline.head, it.timeline.is_notified(6), conversations.unknown) == (7, True, {})
    assert conversations.get("c-1") is it


def test_what_only_an_answer_named_makes_room_for_what_the_user_is_a_member_of() -> None:
    conversations = Conversations(held_max=10, wake=lambda: None, conversations_max=2)
    for number in range(5):
        conversations.heard_of(f"left-{number}").own[1] = entry(1, ME)
    assert list(conversations.unknown) == ["left-3", "left-4"]

    conversations.adopt("c-1", "GROUP", "e1", 0)
    conversations.heard_of("c-2").proved = True
    with pytest.raises(ProtocolError):
        conversations.adopt("c-3", "GROUP", "e1", 0)


def test_a_new_connection_begins_with_nothing_seen() -> None:
    conversations = Conversations(held_max=10, wake=lambda: None)
    conversations.connected(ME)
    conversations.see("c-1")
    conversations.completed()
    assert (conversations.user_id, conversations.complete) == (ME, True)

    conversations.heard_of("c-2").acks["k"] = ev.MsgAck("c-2", "e1", "m-1", 1, 1001, "k")
    conversations.connected(ME)
    assert (conversations.complete, conversations.is_seen("c-1")) == (False, False)
    assert conversations.heard_of("c-2").acks == {}


def test_a_reload_is_what_the_store_holds() -> None:
    conversations = Conversations(held_max=10, wake=lambda: None)
    conversations.adopt("c-1", "GROUP", "e1", 5)
    conversations.heard_of("c-3")
    conversations.reload([Record("c-2", "SINGLE", "e9", 3, True, (entry(5),), (6,))])

    (it,) = conversations
    assert (it.id, it.type, it.left, it.timeline.prefix, it.timeline.head) == ("c-2", "SINGLE", True, 3, 5)
    assert (conversations.snapshot({}), list(conversations.unknown)) == ({}, ["c-3"])


def test_what_the_app_was_told_of_its_own_messages_outlives_a_reload() -> None:
    conversations = Conversations(held_max=10, wake=lambda: None)
    conversations.adopt("c-1", "GROUP", "e1", 5).sent_ids.add("m-7")
    conversations.reload([Record("c-1", "GROUP", "e1", 5, False, (), ())])

    (it,) = conversations
    assert it.sent_ids == {"m-7"}


def receipt(it: Conversation, user_id: str, delivered: int, read: int = 0, others: int = 2) -> None:
    it.receipt(ev.ReceiptPush("g-1", user_id, delivered, read, member_count=others), ME)


def test_in_a_group_the_least_of_all_named_members_counts() -> None:
    it = conversation(5)
    receipt(it, "u-2", 5, 4)
    assert it.message_state(4) == "SENT"
    receipt(it, "u-3", 4)
    assert [it.message_state(seq) for seq in (4, 5)] == ["DELIVERED", "SENT"]
    receipt(it, "u-3", 5, 5)
    assert [it.message_state(seq) for seq in (4, 5)] == ["READ", "DELIVERED"]
    receipt(it, "u-3", 1, 1)
    receipt(it, ME, 9, 9)
    assert [it.message_state(seq) for seq in (4, 5)] == ["READ", "DELIVERED"]


def test_in_a_group_who_left_does_not_stand_for_who_was_not_heard_of() -> None:
    it = conversation(5)
    receipt(it, "u-2", 5)
    pushed(it, entry(6, "u-2", type="MEMBER", op="LEFT", userIds=["u-2"]))
    receipt(it, "u-3", 6)
    assert it.message_state(5) == "SENT"
    receipt(it, "u-4", 5)
    assert it.message_state(5) == "DELIVERED"


def test_a_new_connection_begins_with_nobody_named() -> None:
    conversations = Conversations(held_max=10, wake=lambda: None)
    it = conversations.adopt("g-1", "GROUP", "e1", 5)
    receipt(it, "u-2", 5)
    conversations.connected(ME)
    receipt(it, "u-3", 5)
    assert it.message_state(5) == "SENT"


def test_a_server_names_no_more_members_than_there_may_be() -> None:
    it = conversation(5)
    for place in range(1000):
        receipt(it, f"u-{place}", 1, others=5000)
    assert len(it.others_seqs) <= 100
