"""Both local stores keep the contract, and each its own promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from chatkit.client.store.base import LocalStore, Progress
from chatkit.client.store.memory import MemoryStore
from chatkit.client.store.sqlite import APPLICATION_ID, SqliteStore
from chatkit.core.marks import named_seq
from chatkit.core.resend import PendingSend
from chatkit.drivers.migrations import migrate, migration_files
from chatkit.drivers.sqlite import open_sqlite
from chatkit.errors import ConfigurationError, ConflictError
from chatkit.testing.contracts.local_store import LocalStoreContract, change, mentioning, message
from chatkit.types import Message
from chatkit.wire.payload import encode


class TestMemoryStore(LocalStoreContract):
    @pytest.fixture
    def store(self) -> LocalStore:
        return MemoryStore()

    def reopened(self, store: LocalStore) -> LocalStore:
        return store

    def test_keeps_the_newest_and_knows_where_they_start(self) -> None:
        store = MemoryStore(messages_max=3)
        store.save([change(0, floor=0)])
        store.save([change(5, *(message(seq) for seq in range(1, 6)))])

        assert [each.seq for each in store.messages("c-1", 99, 9)] == [3, 4, 5]
        assert store.floor("c-1") == 2


class TestSqliteStore(LocalStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "client.db")
        self.opened: list[SqliteStore] = []

    @pytest.fixture
    def store(self, _folder: None) -> LocalStore:
        return self.open()

    def open(self) -> SqliteStore:
        self.opened.append(SqliteStore(self.path))
        return self.opened[-1]

    def reopened(self, store: LocalStore) -> LocalStore:
        store.close()
        return self.open()

    @pytest.fixture(autouse=True)
    def _closing(self, _folder: None) -> object:
        yield
        for store in self.opened:
            store.close()

    def test_keeps_the_newest_that_were_taken_where_that_is_asked(self) -> None:
        store = SqliteStore(self.path, messages_max=16)
        self.opened.append(store)
        store.save([change(0, floor=0)])
        for seq in range(1, 101):
            store.save([change(seq, message(seq))])
        assert len(store.messages("c-1", 999, 999)) == 100  # nothing was taken yet

        store.advance([Progress("c-1", "e1", 90)])
        for seq in range(101, 151):
            store.save([change(seq, message(seq))])
        kept = [each.seq for each in store.messages("c-1", 999, 999)]
        assert kept == list(range(91, 151))
        store.advance([Progress("c-1", "e1", 150)])
        store.save([change(160, *(message(seq) for seq in range(151, 161)))])
        assert [each.seq for each in store.messages("c-1", 999, 999)] == list(range(145, 161))
        assert store.floor("c-1") == 144

    def test_what_was_not_taken_stays_with_all_that_follows(self) -> None:
        """So everything above the floor is there, and everything that waits is above the floor."""
        store = SqliteStore(self.path, messages_max=16)
        self.opened.append(store)
        store.save([change(0, floor=0)])
        for seq in range(1, 101):
            store.save([change(seq, message(seq), own_seqs=set() if seq == 31 else {seq})])
        assert [each.seq for each in store.messages("c-1", 999, 999)] == list(range(31, 101))
        assert (store.floor("c-1"), store.untaken("c-1", 0, 999, 9)) == (30, [message(31)])

        store.advance([Progress("c-1", "e1", 31)])
        store.save([change(110, *(message(seq) for seq in range(101, 111)), own_seqs=set(range(101, 111)))])
        assert [each.seq for each in store.messages("c-1", 999, 999)] == list(range(95, 111))
        assert store.floor("c-1") == 94

    def test_a_file_of_the_version_before_counts_as_taken(self) -> None:
        old = open_sqlite(self.path, synchronous="NORMAL")
        first = [each for each in migration_files("chatkit.client.store") if each[0].startswith("0001")]
        migrate(old, first, APPLICATION_ID)
        old.execute("INSERT INTO conversation VALUES ('c-1', 'GROUP', 'e1', 3, 0, 0)")
        for seq in (1, 2, 3, 5):
            old.execute("INSERT INTO message VALUES ('c-1', ?, 'm', 'u-1', 1, ?, 'k')", (seq, b"{}"))
        old.close()
        store = self.open()

        (record,) = store.records()
        assert (record.taken_seq, record.tries, record.renewed_above) == (3, 0, None)
        assert [each.seq for each in record.held] == [5]
        assert store.untaken("c-1", 3, 9, 9) == []

    def test_mentions_in_a_file_of_the_version_before_are_counted(self) -> None:
        said = [
            mentioning(1, "u-1"),
            mentioning(2, "u-2"),
            replace(mentioning(3, "*"), sender_id="u-1"),
            mentioning(4, "u-2", "*", "u-1"),
            mentioning(5, "u-1", edits=2),
            mentioning(6, "u-1", edits=1),
        ]
        old = open_sqlite(self.path, synchronous="NORMAL")
        before = [it for it in migration_files("chatkit.client.store") if it[0] < "0007"]
        migrate(old, before, APPLICATION_ID)
        old.execute("INSERT INTO owner VALUES (1, 'u-1', 'd-1')")
        row = "INSERT INTO message VALUES ('c-1', ?, 'm', ?, 1, ?, 'k', 0, NULL, ?)"
        for it in said:
            old.execute(row, (it.seq, it.sender_id, encode(it.payload), named_seq(it)))
        old.close()

        store = self.open()
        assert [store.unread_mentions("c-1", seq) for seq in (0, 1, 4, 5)] == [3, 2, 1, 0]

    def test_what_names_an_entry_is_found_by_an_index(self, store: SqliteStore) -> None:
        asked: list[str] = []
        execute = store._connection.execute

        def explained(sql: str, values: Sequence[Any] = ()) -> list[Any]:
            asked.extend(row[3] for row in execute(f"EXPLAIN QUERY PLAN {sql}", values))
            return execute(sql, values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store._connection, "execute", explained)
            store.naming("c-1", 1, 9)
            store.unread_mentions("c-1", 0)
        assert asked[0].startswith(
            "SEARCH message USING INDEX message_naming (conversation_id=? AND named_seq>?"
        )
        assert [it for it in asked if "message_mention" in it] == [
            "SEARCH message USING COVERING INDEX message_mention (conversation_id=?)"
        ]
        assert len([it for it in asked if "TEMP B-TREE" in it]) == 1, "the ones found are put in order"

    def test_a_failing_save_changes_nothing(self, store: LocalStore) -> None:
        store.save([change(1, message(1))])
        store.add_pending(PendingSend("c-1", "k", b"{}", 1))

        unstorable = Message("c-1", 3, "m-3", "u-2", 1003, {"type": "TEXT", "text": object()})
        with pytest.raises(TypeError):
            store.save([change(2, message(2)), change(3, unstorable)], [("c-1", "k")])

        assert store.records()[0].prefix == 1
        assert len(store.pending()) == 1

    def test_is_open_in_one_client_at_a_time(self, store: LocalStore) -> None:
        with pytest.raises(ConfigurationError, match="another client or process"):
            SqliteStore(self.path)
        store.close()
        self.open()

    def test_a_killed_process_leaves_no_lock(self, store: LocalStore) -> None:
        store.close()
        code = (
            "import os, sys; from chatkit.client.store.sqlite import SqliteStore;"
            "from chatkit.core.resend import PendingSend;"
            "SqliteStore(sys.argv[1]).add_pending(PendingSend('c-1', 'k', b'{}', 1)); os._exit(9)"
        )
        done = subprocess.run([sys.executable, "-c", code, self.path], check=False)

        assert done.returncode == 9
        assert [send.client_msg_id for send in self.open().pending()] == ["k"]

    def test_a_key_that_is_kept_already_is_a_conflict(self, store: LocalStore) -> None:
        store.add_pending(PendingSend("c-1", "k", b"{}", 1))
        with pytest.raises(ConflictError):
            store.add_pending(PendingSend("c-1", "k", b"{}", 2))
        assert [send.order for send in store.pending()] == [1]

    def test_refuses_a_file_of_another_program(self, tmp_path: Path) -> None:
        other = open_sqlite(str(tmp_path / "other.db"))
        other.execute("CREATE TABLE t (a)")
        other.close()

        with pytest.raises(ConfigurationError):
            SqliteStore(str(tmp_path / "other.db"))

    def test_a_recalled_body_is_not_in_the_file_any_more(self, store: LocalStore) -> None:
        store.save([change(1, message(1, "canary-7731"))])
        store.save([change(1, recalled_seqs=[1])])
        store.close()

        left = b"".join(path.read_bytes() for path in Path(self.path).parent.iterdir())
        assert b"canary-7731" not in left

    def test_no_file_holds_a_recalled_body_while_the_store_is_open(self) -> None:
        store = self.open()
        store.save([change(1, message(1, "CANARY-1"))])
        assert self.holds("CANARY-1")
        store.save([change(2, message(2), recalled_seqs=[1])])

        assert not self.holds("CANARY-1")

    def test_opening_empties_what_a_killed_process_left_in_the_log(self) -> None:
        script = (
            "import os, sys; from chatkit.client.store.sqlite import SqliteStore;"
            "from chatkit.testing.contracts.local_store import change, message;"
            "store = SqliteStore(sys.argv[1]); store._scrub = lambda: None;"
            "store.save([change(1, message(1, 'CANARY-2'))]);"
            "store.save([change(1, recalled_seqs=[1])]); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", script, self.path], check=True)
        assert self.holds("CANARY-2")
        self.open()
        assert not self.holds("CANARY-2")

    def holds(self, text: str) -> bool:
        files = [path for path in Path(self.path).parent.iterdir() if path.name.startswith("client.db")]
        return any(text.encode() in path.read_bytes() for path in files)
