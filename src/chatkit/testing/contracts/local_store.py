"""The contract of every local store: subclass `LocalStoreContract`, override its fixture `store` and `reopened`.

    class TestMyLocalStore(LocalStoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyLocalStore(tmp_path / "client.db")

        def reopened(self, store):
            store.close()
            return MyLocalStore(store.path)

Only the port is used here (`chatkit.client.base`).
"""

from __future__ import annotations

from typing import Any

import pytest

from ...client.base import Change, LocalStore
from ...core.resend import PendingSend
from ...errors import ConfigurationError
from ...types import Message


def message(seq: int, text: str = "hi", key: str | None = None) -> Message:
    """An entry of `c-1`."""
    return Message("c-1", seq, f"m-{seq}", "u-2", 1000 + seq, {"type": "TEXT", "text": text}, key)


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
        store.bind("u-1", "phone")
        store.bind("u-1", "phone")

        for other in (("u-2", "phone"), ("u-1", "tablet")):
            with pytest.raises(ConfigurationError):
                store.bind(*other)

    def test_keeps_pending_sends_in_order_until_settled(self, store: LocalStore) -> None:
        sends = [PendingSend("c-2", "b", b'{"n":2}', 2), PendingSend("c-1", "a", b'{"n":1}', 1)]
        for send in sends:
            store.add_pending(send)
        store = self.reopened(store)

        assert store.pending() == [sends[1], sends[0]]
        store.save([], [("c-1", "a"), ("c-9", "unknown")])
        assert store.pending() == [sends[0]]

    def test_keeps_messages_and_cursors(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(3, message(1), message(2, "到了吗？", "k"), message(3))])
        store = self.reopened(store)

        (record,) = store.records()
        assert (record.conversation_id, record.type, record.epoch, record.prefix) == ("c-1", "GROUP", "e1", 3)
        assert (record.left, record.held, record.recalled_seqs) == (False, (), ())
        assert store.messages("c-1", 4, 10) == [message(1), message(2, "到了吗？", "k"), message(3)]

    def test_forgets_what_is_held_from_before_a_new_membership(self, store: LocalStore) -> None:
        store.save([change(0, floor=0)])
        store.save([change(2, message(1), message(2), message(9))])
        store.save([change(5, message(5), floor=2, forget_up_to=2)])
        store = self.reopened(store)

        assert [each.seq for each in store.messages("c-1", 99, 9)] == [5, 9]
        assert store.floor("c-1") == 2

    def test_reads_the_newest_below_a_seq(self, store: LocalStore) -> None:
        store.save([change(9, *(message(seq) for seq in range(1, 10)))])

        assert [each.seq for each in store.messages("c-1", 8, 3)] == [5, 6, 7]
        assert store.messages("c-1", 1, 3) == []
        assert store.messages("c-1", 9, 0) == []
        assert store.messages("c-unknown", 9, 3) == []

    def test_a_new_conversation_is_complete_from_its_prefix_on(self, store: LocalStore) -> None:
        store.save([change(7)])
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

    def test_a_recall_blanks_what_is_stored(self, store: LocalStore) -> None:
        store.save([change(2, message(1, "secret"), message(2))])
        store.save([change(2, recalled_seqs=[1])])
        store = self.reopened(store)

        assert [each.payload["type"] for each in store.messages("c-1", 9, 9)] == ["RECALLED", "TEXT"]
        store.save([change(2, message(1, "secret"))])
        assert store.messages("c-1", 2, 1)[0].payload == {"type": "RECALLED"}

    def test_a_recall_of_what_is_not_held_waits_for_it(self, store: LocalStore) -> None:
        store.save(
            [change(2, recalled_seqs=[1, 4])]
        )  # 1 is older than what is kept: it comes blanked if ever
        store = self.reopened(store)
        assert store.records()[0].recalled_seqs == (4,)

        store.save([change(4, message(3), message(4, "secret"))])

        assert [each.payload["type"] for each in store.messages("c-1", 9, 9)] == ["TEXT", "RECALLED"]
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

    def test_a_fresh_log_drops_the_old_one(self, store: LocalStore) -> None:
        store.save([change(7, message(7), recalled_seqs=[3])])
        store.save([change(1, message(1, "new"), epoch="e2", fresh=True, floor=0)])

        (record,) = store.records()
        assert (record.epoch, record.prefix, record.recalled_seqs) == ("e2", 1, ())
        assert store.messages("c-1", 99, 9) == [message(1, "new")]
        assert store.floor("c-1") == 0

    def test_remembers_that_a_conversation_was_left(self, store: LocalStore) -> None:
        store.save([change(1, left=True)])

        assert self.reopened(store).records()[0].left

    def test_keeps_what_should_count_as_read(self, store: LocalStore) -> None:
        store.want_read("c-1", 5)
        store.want_read("c-2", 1)
        store.want_read("c-1", 7)
        store.want_read("c-2", 0)
        store.want_read("c-3", 0)

        assert self.reopened(store).reads() == {"c-1": 7}
