"""The contract of every local store: subclass `LocalStoreContract`, override its fixture `store` and `reopened`.

    class TestMyLocalStore(LocalStoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyLocalStore(tmp_path / "client.db")

        def reopened(self, store):
            store.close()
            return MyLocalStore(store.path)

Only the port is used here (`chatkit.client.store.base`).
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ...client.store.base import Change, EncodedMessage, LocalStore, Progress
from ...core.log.reads import UNREAD_MAX
from ...core.resend import PendingSend
from ...errors import ConfigurationError
from ...types import Edit, Marks, Message, Reaction
from ...wire.payload import canonical


def message(seq: int, text: str = "hi", key: str | None = None) -> Message:
    """An entry of `c-1`."""
    return Message("c-1", seq, f"m-{seq}", "u-2", 1000 + seq, {"type": "TEXT", "text": text}, key)


def naming(seq: int, target: int) -> Message:
    """An EDIT in `c-1` of the entry at `target`."""
    content = {"type": "TEXT", "text": f"better {seq}"}
    payload = {"type": "EDIT", "messageId": f"m-{target}", "seq": target, "payload": content}
    return replace(message(seq), payload=payload)


def mentioning(seq: int, *user_ids: str, edits: int | None = None) -> Message:
    """An entry of `c-1` that mentions somebody: a message, or an EDIT of the entry at `edits`."""
    payload: dict[str, Any] = {"type": "TEXT", "text": "hi", "mentions": list(user_ids)}
    if edits is not None:
        payload = {"type": "EDIT", "messageId": f"m-{edits}", "seq": edits, "payload": payload}
    return replace(message(seq), payload=payload)


def blanked(message: Message) -> Message:
    """The same entry once it is recalled."""
    return replace(message, payload={"type": "RECALLED"}, marks=None)


def elsewhere(seq: int, text: str = "hi") -> Message:
    """An entry of `c-2`."""
    return replace(message(seq, text), conversation_id="c-2")


def later(old: Change, prefix: int, *messages: Message) -> Change:
    """What a later frame changed in the same conversation."""
    return Change(old.conversation_id, old.type, old.epoch, prefix, messages=list(messages))


def change(prefix: int, *messages: Message, epoch: str = "e1", **rest: Any) -> Change:
    """What a frame changed in `c-1`: everything up to `prefix` is there, `messages` came."""
    return Change("c-1", "GROUP", epoch, prefix, messages=list(messages), **rest)


class LocalStoreContract:
    """All that a local store promises, as tests."""

    @pytest.fixture
    def store(self) -> LocalStore:
        """Override: a fresh store."""
        raise NotImplementedError("override the fixture `store`")

    def reopened(self, store: LocalStore) -> LocalStore:
        """Override: the store as the next start of the app sees it; one in memory is the same store."""
        raise NotImplementedError("override `reopened`")

    def test_belongs_to_its_first_owner(self, store: LocalStore) -> None:
        assert store.owner() == ""
        store.bind("u-1", "phone")
        store.bind("u-1", "phone")

        for other in (("u-2", "phone"), ("u-1", "tablet")):
            with pytest.raises(ConfigurationError):
                store.bind(*other)
        store = self.reopened(store)
        assert store.owner() == "u-1"
        with pytest.raises(ConfigurationError):
            store.bind("u-2", "phone")
        store.bind("u-1", "phone")

    def test_keeps_pending_sends_in_order_until_resolved(self, store: LocalStore) -> None:
        sends = [PendingSend("c-1", "b", b'{"n":2}', 2), PendingSend("c-2", "a", b'{"n":1}', 1)]
        for send in sends:
            store.add_pending(send)
        store = self.reopened(store)

        assert store.pending() == [sends[1], sends[0]]
        store.save([], [("c-2", "a"), ("c-9", "unknown")])
        assert store.pending() == [sends[0]]

    def test_resolves_all_that_are_named_and_no_other(self, store: LocalStore) -> None:
        places = [(name, key) for name in ("c-1", "c-2") for key in ("k", "l", "m")]
        for order, place in enumerate(places):
            store.add_pending(PendingSend(*place, b"{}", order))
        store.save([], [("c-1", "k"), ("c-2", "m")])
        store = self.reopened(store)

        assert [send.key for send in store.pending()] == [
            ("c-1", "l"),
            ("c-1", "m"),
            ("c-2", "k"),
            ("c-2", "l"),
        ]

    def test_keeps_messages_and_cursors(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(3, message(1), message(2, "到了吗？", "k"), message(3))])
        store = self.reopened(store)

        (record,) = store.records()
        assert (record.conversation_id, record.type, record.epoch, record.prefix) == ("c-1", "GROUP", "e1", 3)
        assert (record.left, record.held, record.recalled_seqs) == (False, (), ())
        assert store.messages("c-1", 4, 10) == [message(1), message(2, "到了吗？", "k"), message(3)]

    def test_keeps_bodies_of_every_kind(self, store: LocalStore) -> None:
        payload = {
            "type": "CUSTOM",
            "schema": "s",
            "data": [1, -2.5, None, True, {"到": "'\n"}],
            "fallbackText": "",
        }
        store.save([change(1, replace(message(1), payload=payload))])

        assert self.reopened(store).messages("c-1", 2, 1)[0].payload == payload

    def test_what_an_app_writes_into_a_body_is_not_stored(self, store: LocalStore) -> None:
        given = replace(
            message(1), payload={"type": "CUSTOM", "schema": "s", "data": [1], "fallbackText": ""}
        )
        store.save([change(1, given)])
        for changed in (given, *store.messages("c-1", 2, 1)):
            changed.payload["data"].append(2)
            changed.payload["schema"] = "t"

        (stored,) = store.messages("c-1", 2, 1)
        assert (stored.payload["schema"], stored.payload["data"]) == ("s", [1])

    def test_keeps_conversations_apart(self, store: LocalStore) -> None:
        first = change(2, message(1), message(2), recalled_seqs=[5], floor=0)
        second = Change("c-2", "SINGLE", "e9", 1, messages=[elsewhere(1)], recalled_seqs=[4])
        store.save([first, second])
        store = self.reopened(store)
        store.save([change(5, message(4), floor=3, forget_up_to=2), later(second, 5, elsewhere(5))])

        records = {record.conversation_id: record for record in store.records()}
        assert [(it.type, it.epoch, it.prefix) for _, it in sorted(records.items())] == [
            ("GROUP", "e1", 5),
            ("SINGLE", "e9", 5),
        ]
        assert store.messages("c-1", 9, 9) == [message(4)]
        assert store.messages("c-2", 9, 9) == [elsewhere(1), elsewhere(5)]
        assert (store.floor("c-1"), store.floor("c-2")) == (3, 1)

    def test_forgets_no_more_than_is_said(self, store: LocalStore) -> None:
        store.save([change(3, message(1), message(2), message(3), floor=0)])
        store.save([change(4, message(2, "again"), message(4), forget_up_to=2)])

        assert self.reopened(store).messages("c-1", 9, 9) == [message(2, "again"), message(3), message(4)]

    def test_forgets_what_is_held_from_before_a_new_membership(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(2, message(1), message(2), message(9))])
        store.save([change(5, message(5), floor=2, forget_up_to=2)])
        store = self.reopened(store)

        assert [each.seq for each in store.messages("c-1", 99, 9)] == [5, 9]
        assert store.floor("c-1") == 2

    def test_forgets_what_has_expired_once_the_app_has_taken_it(self, store: LocalStore) -> None:
        """What waits for the app stays, and what is behind it; own messages wait for nobody."""
        store.save([change(0, floor=0)])
        store.save([change(6, *(message(seq) for seq in range(1, 7)), own_seqs={4})])
        store.advance([Progress("c-1", "e1", 3)])
        store.save([change(6, expired_up_to=5)])

        store = self.reopened(store)
        assert [each.seq for each in store.messages("c-1", 99, 9)] == [5, 6]
        assert store.floor("c-1") == 4
        store.advance([Progress("c-1", "e1", 6)])
        store.save([change(6, expired_up_to=5)])
        assert [each.seq for each in store.messages("c-1", 99, 9)] == [6]
        store.save([change(6, expired_up_to=3)])
        assert store.floor("c-1") == 5, "a lower one changes nothing"

    def test_reads_the_newest_below_a_seq(self, store: LocalStore) -> None:
        store.save([change(9, *(message(seq) for seq in range(1, 10)))])

        assert [each.seq for each in store.messages("c-1", 8, 3)] == [5, 6, 7]
        assert store.messages("c-1", 1, 3) == []
        assert store.messages("c-1", 9, 0) == []
        assert store.messages("c-unknown", 9, 3) == []

    def test_a_new_conversation_is_complete_from_its_prefix_on(self, store: LocalStore) -> None:
        store.save([change(7)])
        store = self.reopened(store)
        assert store.floor("c-1") == 7
        store.save([change(8, message(8))])
        assert store.floor("c-1") == 7
        store.save([change(8, message(5), message(6), message(7), floor=4)])
        assert store.floor("c-1") == 4
        assert [each.seq for each in store.messages("c-1", 99, 9)] == [5, 6, 7, 8]
        assert store.floor("c-unknown") == 0

    def test_own_entries_above_the_prefix_are_held(self, store: LocalStore) -> None:
        store.add_pending(PendingSend("c-1", "k", b"{}", 1))
        store.save([change(2, message(5, key="k"))], [("c-1", "k")])
        store = self.reopened(store)

        assert store.pending() == []
        assert store.records()[0].held == (message(5, key="k"),)

    def test_an_own_message_brings_its_bytes_along(self, store: LocalStore) -> None:
        payload = {"type": "TEXT", "text": "到了吗？"}
        own = EncodedMessage("c-1", 1, "m-1", "u-1", 1001, payload, "k", encoded=canonical(payload))
        store.save([change(1, own)])

        assert self.reopened(store).messages("c-1", 2, 1) == [
            Message("c-1", 1, "m-1", "u-1", 1001, payload, "k")
        ]

    def test_an_own_message_that_is_recalled_leaves_no_bytes(self, store: LocalStore) -> None:
        payload = {"type": "TEXT", "text": "secret"}
        first, second, third = (
            EncodedMessage(
                "c-1", seq, f"m-{seq}", "u-1", 1000 + seq, payload, f"k{seq}", encoded=canonical(payload)
            )
            for seq in (1, 2, 3)
        )
        store.save([change(0, recalled_seqs=[2])])
        store.save([change(3, first, second, third, recalled_seqs=[3])])
        store.save([change(3, recalled_seqs=[1])])

        held = self.reopened(store).messages("c-1", 9, 9)
        assert [message.payload for message in held] == [{"type": "RECALLED"}] * 3

    def test_a_recall_blanks_what_is_stored(self, store: LocalStore) -> None:
        store.save([change(2, message(1, "secret"), message(2))])
        store.save([change(2, recalled_seqs=[1])])
        store = self.reopened(store)

        assert store.messages("c-1", 9, 9) == [blanked(message(1)), message(2)]
        store.save([change(2, message(1, "secret"))])
        assert store.messages("c-1", 2, 1)[0].payload == {"type": "RECALLED"}

    def test_a_recall_of_what_is_not_held_waits_for_it(self, store: LocalStore) -> None:
        store.save(
            [change(2, recalled_seqs=[1, 4])]
        )  # 1 is older than what is kept: it comes blanked if ever
        store = self.reopened(store)
        assert store.records()[0].recalled_seqs == (4,)

        store.save([change(4, message(3), message(4, "secret", "k"))])

        assert store.messages("c-1", 9, 9) == [message(3), blanked(message(4, key="k"))]
        assert store.records()[0].recalled_seqs == ()

    def test_a_recall_blanks_what_came_with_it(self, store: LocalStore) -> None:
        store.save([change(2, message(2, "secret"), message(4, "secret"), recalled_seqs=[2, 4])])
        store = self.reopened(store)

        assert store.messages("c-1", 9, 9) == [blanked(message(2)), blanked(message(4))]
        assert store.records()[0].recalled_seqs == ()

    def test_an_early_recall_ends_with_the_prefix_that_passes_it(self, store: LocalStore) -> None:
        store.save([change(2, recalled_seqs=[4])])
        store.save([change(5, message(5))])  # 4 turned out not to be visible

        assert self.reopened(store).records()[0].recalled_seqs == ()

    def test_a_tombstone_from_the_server_replaces_a_body(self, store: LocalStore) -> None:
        store.save([change(1, message(1, "secret"))])
        gone = Message("c-1", 1, "m-1", "u-2", 1001, {"type": "RECALLED"})
        store.save([change(1, gone)])

        assert store.messages("c-1", 9, 9)[0].payload == {"type": "RECALLED"}

    def test_another_log_drops_what_is_stored_above_the_common_part(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(7, *(message(seq) for seq in range(1, 8)), message(9), recalled_seqs=[3, 12])])
        store.save([change(4, message(5, "new"), epoch="e2", forget_above=4)])
        store = self.reopened(store)

        (record,) = store.records()
        assert (record.epoch, record.prefix, record.recalled_seqs) == ("e2", 4, ())
        assert record.held == (message(5, "new"),)
        kept = [message(1), message(2), blanked(message(3)), message(4)]
        assert store.messages("c-1", 99, 9) == [*kept, message(5, "new")]
        assert store.floor("c-1") == 0

    def test_another_log_without_a_common_part_begins_at_its_start(self, store: LocalStore) -> None:
        store.save([change(7, message(7), recalled_seqs=[9])])
        assert store.floor("c-1") == 7
        store.save([change(0, epoch="e2", forget_above=0)])
        store.save([change(9, message(9, "new"), epoch="e2")])
        store = self.reopened(store)

        assert store.messages("c-1", 99, 9) == [
            message(9, "new")
        ]  # an early recall of the old log means nothing
        assert store.floor("c-1") == 0

    def test_another_log_drops_nothing_else(self, store: LocalStore) -> None:
        store.add_pending(PendingSend("c-1", "k", b"{}", 1))
        store.want_read("c-1", 3)
        store.save([change(3, message(3)), Change("c-2", "GROUP", "e1", 1, messages=[elsewhere(1)])])
        store.save([change(0, epoch="e2", forget_above=0)])
        store = self.reopened(store)

        assert len(store.pending()) == 1
        assert store.reads() == {"c-1": 3}
        assert sorted(record.conversation_id for record in store.records()) == ["c-1", "c-2"]
        assert store.messages("c-2", 9, 9) == [elsewhere(1)]

    def test_names_the_ids_of_what_is_stored(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(4, *(message(seq) for seq in range(1, 5)), message(6))])

        assert store.message_ids("c-1", 2, 9) == {seq: message(seq).message_id for seq in (3, 4, 6)}
        assert store.message_ids("c-1", 2, 3) == {3: message(3).message_id}
        assert store.message_ids("c-2", 0, 9) == {}

    def test_remembers_that_a_conversation_was_left(self, store: LocalStore) -> None:
        store.save([change(1, left=True)])

        store = self.reopened(store)
        assert store.records()[0].left
        store.save([change(2, message(2))])
        assert not self.reopened(store).records()[0].left

    def test_a_bound_on_what_is_kept_leaves_no_hole(self, store: LocalStore) -> None:
        """A store may keep the newest entries only; then its floor says so, and what waits for the prefix stays."""
        store.save([change(0, floor=0)])
        for first in (1, 1502):  # 1501 is missing
            store.save([change(1500, *(message(seq) for seq in range(first, first + 1500)))])
            kept = [each.seq for each in store.messages("c-1", 1501, 9999)]
            assert kept == list(range(store.floor("c-1") + 1, 1501))

        held = self.reopened(store).records()[0].held
        assert [each.seq for each in held] == list(range(1502, 3002))

    def test_gives_what_the_app_has_not_taken_in_pages(self, store: LocalStore) -> None:
        store.save([change(0, floor=0), Change("c-2", "GROUP", "e1", 1, messages=[elsewhere(1)], floor=0)])
        store.save([change(6, *(message(seq) for seq in (1, 2, 4, 5, 6)))])
        store.advance([Progress("c-1", "e1", 1, tries=2)])
        store = self.reopened(store)

        records = {record.conversation_id: record for record in store.records()}
        assert (records["c-1"].taken_seq, records["c-1"].tries, records["c-2"].taken_seq) == (1, 2, 0)
        assert store.untaken("c-1", 1, 5, 2) == [message(2), message(4)]
        assert store.untaken("c-1", 4, 5, 2) == [message(5)]
        assert store.untaken("c-1", 6, 9, 2) == []
        assert store.untaken("c-unknown", 0, 9, 2) == []

    def test_what_was_taken_never_falls(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(6, message(6))])
        store.advance([Progress("c-1", "e1", 6), Progress("c-unknown", "e1", 3)])
        store.advance([Progress("c-1", "e1", 4, tries=1)])
        store.save([change(7, message(7))])
        store = self.reopened(store)

        assert (store.records()[0].taken_seq, store.records()[0].tries) == (6, 1)

    def test_keeps_what_the_app_says_of_a_conversation_with_how_far_it_has_got(
        self, store: LocalStore
    ) -> None:
        store.save([change(0, floor=0), Change("c-2", "GROUP", "e1", 1, messages=[elsewhere(1)], floor=0)])
        store.advance(
            [Progress("c-1", "e1", 0, state=b"{}"), Progress("c-2", "e0", 0, state=b"of another log")]
        )
        store.advance(
            [Progress("c-1", "e1", 0, tries=1), Progress("c-unknown", "e1", 3, state=b"of nothing")]
        )
        store = self.reopened(store)

        assert store.app_state("c-1") == b"{}"
        assert store.app_state("c-2") == store.app_state("c-unknown") == b""
        store.advance([Progress("c-1", "e1", 0, state=b"")])
        assert self.reopened(store).app_state("c-1") == b""

    def test_what_is_before_a_new_conversation_counts_as_taken(self, store: LocalStore) -> None:
        store.save([change(9, message(9), floor=8)])

        assert self.reopened(store).records()[0].taken_seq == 8

    def test_what_names_an_entry_is_found_by_it(self, store: LocalStore) -> None:
        entries = [message(1), naming(2, 1), message(3), naming(4, 3), naming(5, 1)]
        store.save([change(5, *entries, floor=0)])
        store = self.reopened(store)

        assert store.naming("c-1", 1, 2) == [naming(2, 1), naming(5, 1)]
        assert store.naming("c-1", 3, 9) == [naming(4, 3)]
        assert store.naming("c-1", 4, 9) == []
        assert store.naming("c-2", 1, 9) == []

    def test_what_was_said_of_an_entry_is_kept_with_it_until_it_is_recalled(self, store: LocalStore) -> None:
        edit = Edit(2, 1002, {"type": "TEXT", "text": "better"})
        marked = replace(message(1), marks=Marks(3, edit, (Reaction("+1", 2, ("u-3", "u-4")),)))
        first = change(3, marked, naming(2, 1), message(3), floor=0)
        store.save([first])
        store = self.reopened(store)
        assert store.messages("c-1", 2, 9) == [marked]

        recall = later(first, 4, message(4))
        recall.recalled_seqs += [1, 2]
        store.save([recall])
        store = self.reopened(store)
        assert store.messages("c-1", 3, 9) == [blanked(message(1)), blanked(naming(2, 1))]
        assert store.naming("c-1", 1, 9) == []

    def test_an_app_that_changes_what_it_was_given_changes_nothing_here(self, store: LocalStore) -> None:
        edit = Edit(2, 1002, {"type": "TEXT", "text": "better"})
        store.save([change(1, replace(message(1), marks=Marks(2, edit)), floor=0)])
        edit.payload["text"] = "worse"  # type: ignore[index]

        (found,) = store.messages("c-1", 2, 9)
        assert found.text == "better"

    def test_own_sends_are_never_untaken(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(1, message(1), message(3, key="k"), own_seqs={3})])
        store.save([change(4, message(2), message(3, key="k"), message(4, key="l"), own_seqs={3})])

        assert self.reopened(store).untaken("c-1", 0, 9, 9) == [message(1), message(2), message(4, key="l")]

    def test_what_is_recalled_before_it_is_taken_has_no_body(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(2, message(1, "secret"), message(2, "secret"), recalled_seqs=[2])])
        store.save([change(2, recalled_seqs=[1])])

        assert self.reopened(store).untaken("c-1", 0, 9, 9) == [blanked(message(1)), blanked(message(2))]

    def test_of_another_log_nothing_is_taken_above_the_common_part(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(7, message(4), message(7, key="k"), own_seqs={7})])
        store.advance([Progress("c-1", "e1", 7, tries=1)])
        store.save([change(7, message(7), epoch="e2", forget_above=3)])
        store.advance([Progress("c-1", "e1", 7)])
        store = self.reopened(store)

        (record,) = store.records()
        assert (record.taken_seq, record.tries, record.renewed_above) == (3, 0, 3)
        assert store.untaken("c-1", 0, 9, 9) == [message(7)]
        store.advance([Progress("c-1", "e2", 3, renewed_above=3)])
        store.save([change(5, epoch="e3", forget_above=5)])
        store = self.reopened(store)
        assert store.records()[0].renewed_above == 3
        store.advance([Progress("c-1", "e3", 3)])
        assert self.reopened(store).records()[0].renewed_above is None

    def test_keeps_what_should_count_as_read(self, store: LocalStore) -> None:
        store.want_read("c-1", 5)
        store.want_read("c-2", 1)
        store.want_read("c-1", 7)
        store.want_read("c-2", 0)
        store.want_read("c-3", 0)

        store = self.reopened(store)
        answer = store.reads()
        assert answer == {"c-1": 7}
        answer["c-9"] = 1
        store.want_read("c-1", 8)
        assert (answer["c-1"], store.reads()) == (7, {"c-1": 8})

    def test_what_a_list_shows_is_kept_with_every_change(self, store: LocalStore) -> None:
        store.save(
            [change(0, floor=0, title="Tea", activity_ms=7, muted_until_ms=9, read_seq=3, notify="MENTIONS")]
        )
        (record,) = self.reopened(store).records()
        assert (record.title, record.activity_ms, record.muted_until_ms) == ("Tea", 7, 9)
        assert (record.read_seq, record.notify) == (3, "MENTIONS")

    def test_unread_are_messages_of_others_that_were_not_recalled(self, store: LocalStore) -> None:
        others = [message(seq) for seq in range(1, 6)]
        own = replace(message(6), sender_id="u-1")
        joined = replace(message(7), payload={"type": "MEMBER", "op": "ADDED", "userIds": ["u-3"]})
        withdrawn = replace(message(8), payload={"type": "RECALL", "seq": 2, "messageId": "m-2", "by": "u-2"})
        custom = replace(message(9), payload={"type": "CUSTOM", "schema": "s", "data": 1, "fallbackText": ""})
        store.save([change(9, *others, own, joined, withdrawn, custom, floor=0, recalled_seqs=[2])])

        assert [store.unread("c-1", seq, "u-1") for seq in (0, 1, 2, 4, 5, 8, 9)] == [5, 4, 4, 2, 1, 1, 0]
        assert store.unread("c-1", 0, "u-2") == 1
        assert store.unread("c-2", 0, "u-1") == 0

    def test_mentions_of_the_owner_are_counted_until_they_are_recalled(self, store: LocalStore) -> None:
        store.bind("u-1", "d-1")
        said = [
            message(1),
            mentioning(2, "u-1"),
            mentioning(3, "u-1"),
            mentioning(4, "u-1", edits=1),
            mentioning(5, "u-3", "u-11"),
            replace(mentioning(6, "*", "u-1"), sender_id="u-1"),
            mentioning(7, "u-1", "*"),
            replace(message(8), payload={"type": "TEXT", "text": "hi", "mentions": "u-1"}),
        ]
        store.save([change(8, *said, floor=0, recalled_seqs=[3])])

        store = self.reopened(store)
        assert [store.unread_mentions("c-1", seq) for seq in (0, 1, 2, 4, 6, 7)] == [3, 3, 2, 1, 1, 0]
        assert store.unread_mentions("c-2", 0) == 0

    def test_an_edit_is_another_mention_only_if_it_mentions_otherwise(self, store: LocalStore) -> None:
        store.bind("u-1", "d-1")
        said = [
            message(1),
            mentioning(2, "u-1", edits=1),
            mentioning(3, "u-1", edits=1),
            mentioning(4, "*", edits=1),
            mentioning(5, "u-1"),
            mentioning(6, "u-1", edits=5),
        ]
        store.save([change(6, *reversed(said), floor=0)])

        assert [store.unread_mentions("c-1", seq) for seq in range(7)] == [3, 3, 2, 2, 1, 0, 0]

    def test_no_mention_is_lost_among_those_of_others_or_many_edits(self, store: LocalStore) -> None:
        store.bind("u-1", "d-1")
        said = [*(message(seq) for seq in range(1, 11)), mentioning(11, "u-1")]
        said += [mentioning(seq, "u-1", edits=seq % 10 + 1) for seq in range(12, 512)]
        said += [mentioning(seq, "u-3") for seq in range(512, 901)]
        store.save([change(900, *said, floor=0)])
        assert store.unread_mentions("c-1", 0) == 11

        many = [replace(mentioning(seq, "*"), conversation_id="c-2") for seq in range(1, 1001)]
        store.save([Change("c-2", "GROUP", "e1", 1000, floor=0, messages=many)])
        assert store.unread_mentions("c-2", 0) == UNREAD_MAX

    def test_unread_stops_at_its_bound(self, store: LocalStore) -> None:
        store.save([change(1000, *(message(seq) for seq in range(1, 1001)), floor=0)])
        assert store.unread("c-1", 0, "u-1") == UNREAD_MAX
