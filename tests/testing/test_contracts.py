"""The contracts of the ports fail on parts that are broken in one place, and hold on the same parts unbroken."""

from __future__ import annotations

import inspect
import sqlite3
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chatkit.bus._inbox import Inbox
from chatkit.bus.base import Bus
from chatkit.bus.local import LocalBus, LocalMember
from chatkit.client.store import memory as local_store
from chatkit.client.store.base import LocalStore
from chatkit.core.log import audit, cursors, decide, members, messages, rules, sessions
from chatkit.queue._work import WorkTable
from chatkit.queue.local import LocalQueue
from chatkit.storage import transaction
from chatkit.storage.base import Store
from chatkit.storage.memory import MemoryStore
from chatkit.storage.memory import load as memory_load
from chatkit.storage.memory.reads import MemoryReads
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing import run_virtual
from chatkit.testing.contracts.bus import BusContract
from chatkit.testing.contracts.local_store import LocalStoreContract
from chatkit.testing.contracts.queue import QueueContract
from chatkit.testing.contracts.storage import StoreContract
from chatkit.testing.virtual_time import VirtualClock
from tests.changed_files import count_as_served
from tests.proof.mutants.plant import Edit, mutated
from tests.storage.ids import seeded_ids

Spoil = tuple[str, Any, str, str, str]
"""The test that must fail, and what breaks: whose function, its name, a piece of it, and what stands there instead."""

NOTHING = "pass"


class Local(LocalStoreContract):
    def reopened(self, store: LocalStore) -> LocalStore:
        return store


def stored(test: str) -> None:
    """Hold a store in memory to one test."""

    async def main() -> None:
        store = MemoryStore(ids=seeded_ids())
        await store.migrate()
        await getattr(StoreContract(), test)(store)

    run_virtual(main)


def kept(test: str) -> None:
    """Hold a local store in memory to one test."""
    getattr(Local(), test)(local_store.MemoryStore())


def carried(test: str) -> None:
    """Hold a bus to one test."""
    bus = LocalBus()

    async def place() -> Bus:
        return bus.join()

    run_virtual(getattr(BusContract(), test), place)


def queued(test: str) -> None:
    """Hold a queue to one test."""

    async def main() -> None:
        queue = LocalQueue(clock=VirtualClock(), items_max=QueueContract.items_max, visibility_s=1.0)
        await getattr(QueueContract(), test)(queue)

    run_virtual(main)


def spoil(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, old: str, new: str) -> None:
    """Put another piece into one function."""
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    scope = dict(function.__globals__)
    exec(mutated(source, [Edit(name, old, new)]), scope)
    monkeypatch.setattr(owner, name, scope[name])
    for command, flow in list(decide._FLOWS.items()):
        if flow is function:
            monkeypatch.setitem(decide._FLOWS, command, scope[name])


def leaves(error: BaseException) -> list[BaseException]:
    """What an error is made of, without the groups around it."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


def check_that_it_fails(hold: Callable[[str], None], test: str) -> None:
    """The test must fail as tests do, not break."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 -- which ones is checked below
        hold(test)
    assert {type(leaf) for leaf in leaves(caught.value)} <= {
        AssertionError,
        TimeoutError,
        pytest.fail.Exception,
    }


STORES: list[Spoil] = [
    (
        "test_opening_an_open_store_again_changes_nothing",
        MemoryStore,
        "migrate",
        "self._secret or self._ids",
        "self._ids",
    ),
    (
        "test_a_closed_store_takes_nothing",
        MemoryStore,
        "commit",
        "if not self.healthy",
        "if not self._secret",
    ),
    (
        "test_what_breaks_is_refused_and_its_neighbours_are_not",
        transaction,
        "_one_by_one",
        "await _alone(transact, command) if",
        "_broken() if",
    ),
    (
        "test_a_sender_whose_message_breaks_gets_no_later_one_in_before_it",
        transaction,
        "_one_by_one",
        "stopped[place] = outcome.error",
        "pass",
    ),
    (
        "test_audit_rows_say_when_and_where",
        members,
        "create_conversation",
        'command.at_ms, command.creator_id, "CREATED"',
        'command.at_ms + 1, command.creator_id, "CREATED"',
    ),
    (
        "test_a_row_that_was_changed_or_taken_out_is_found",
        audit,
        "digest_of",
        "row[:-1]",
        "row[:6]",
    ),
    (
        "test_coming_back_moves_the_read_cursor_over_the_time_away",
        members,
        "_move_over_absence",
        "cursors.read_seq = rules.skip_hidden(cursors.read_seq, intervals)",
        NOTHING,
    ),
    ("test_who_may_recall_and_when", rules, "check_window", "> command", ">= command"),
    (
        "test_a_list_shows_the_cursor_of_a_device_or_of_the_user",
        MemoryReads,
        "conversations",
        "user_id, device_id) for",
        "user_id, None) for",
    ),
    (
        "test_a_new_epoch_keeps_the_answer_of_a_recall",
        messages,
        "recall",
        "first.sender_id):\n        return Recalled(entry_of(conversation, first, ",
        "first.sender_id):\n        return Recalled(entry_of(conversation, first._replace(epoch=conversation.epoch), ",
    ),
    (
        "test_lower_or_equal_changes_nothing",
        cursors,
        "advance_delivered",
        "command.up_to_seq > device.delivered_seq",
        "True",
    ),
    (
        "test_lower_or_equal_changes_nothing",
        cursors,
        "advance_read",
        "    if command",
        "    cursors.read_ms, cursors.changed = command.at_ms, True\n    if command",
    ),
    (
        "test_lower_or_equal_changes_nothing",
        cursors,
        "confirm_message",
        "row.seq > device.delivered_seq and",
        "",
    ),
    (
        "test_creating_what_exists_changes_nothing",
        members,
        "create_conversation",
        "        return Created(describe(state, existing), False",
        "        existing.epoch, existing.changed = command.epoch, True\n"
        "        return Created(describe(state, existing), False",
    ),
    (
        "test_a_refusal_leaves_its_neighbours_alone_and_no_trace",
        cursors,
        "advance_delivered",
        "    rules.check_up_to",
        "    _device(state, membership, command)\n    rules.check_up_to",
    ),
    (
        "test_a_refusal_leaves_its_neighbours_alone_and_no_trace",
        cursors,
        "confirm_message",
        "    rules.check_conversation",
        "    _device(state, membership, command)\n    rules.check_conversation",
    ),
    (
        "test_renewing_a_login_neither_makes_a_device_nor_extends_a_token",
        sessions,
        "_see",
        "state.devices[user_id].get(device_id)",
        "state.devices[user_id].setdefault(device_id, DeviceState(at_ms, at_ms))",
    ),
    (
        "test_the_same_key_in_another_conversation_is_another_message",
        memory_load,
        "_load_messages",
        "conversation.by_client_id.get((sender_id, client_msg_id))",
        "next((it.by_client_id[key] for key in [(sender_id, client_msg_id)]"
        " for it in tables.by_key.values() if key in it.by_client_id), None)",
    ),
]

LOCAL_STORES: list[Spoil] = [
    (
        "test_resolves_all_that_are_named_and_no_other",
        local_store.MemoryStore,
        "save",
        "self._pending.pop(key, None)",
        "self._pending = {it: send for it, send in self._pending.items() if it[1] != key[1]}",
    ),
    (
        "test_resolves_all_that_are_named_and_no_other",
        local_store.MemoryStore,
        "save",
        "in resolved:",
        "in resolved[:1]:",
    ),
    (
        "test_keeps_pending_sends_in_order_until_resolved",
        local_store.MemoryStore,
        "pending",
        "send.order",
        "send.key",
    ),
    ("test_keeps_conversations_apart", local_store.MemoryStore, "save", "in changes:", "in changes[:1]:"),
    ("test_forgets_no_more_than_is_said", local_store.MemoryStore, "_apply", "_up_to])", "_up_to + 1])"),
    (
        "test_forgets_no_more_than_is_said",
        local_store.MemoryStore,
        "_apply",
        "_keep(log, message)",
        "(_keep(log, message) if message.seq > change.forget_up_to else 0)",
    ),
    (
        "test_a_recall_blanks_what_came_with_it",
        local_store.MemoryStore,
        "_apply",
        "    for message in change.messages:",
        "    for seq in change.recalled_seqs:\n        _blank(log, seq)\n    change.recalled_seqs = []\n"
        "    for message in change.messages:",
    ),
    (
        "test_a_recall_blanks_what_is_stored",
        local_store,
        "_blank",
        'replace(row, payload=RECALLED, marks=b"")',
        "replace(row, payload=RECALLED, marks=b\"\", sender_id='')",
    ),
    (
        "test_what_an_app_writes_into_a_body_is_not_stored",
        local_store,
        "_message",
        "msgspec.json.decode(row.payload)",
        "vars(log).setdefault('shared', {}).setdefault(seq, msgspec.json.decode(row.payload))",
    ),
    (
        "test_an_own_message_brings_its_bytes_along",
        local_store,
        "_keep",
        "payload_bytes(message)",
        "b'{}'",
    ),
    (
        "test_an_own_message_that_is_recalled_leaves_no_bytes",
        local_store,
        "_keep",
        "tombstone(message)",
        "replace(message, payload={'type': 'RECALLED'})",
    ),
    (
        "test_a_recall_of_what_is_not_held_waits_for_it",
        local_store,
        "_keep",
        "tombstone(message)",
        "replace(tombstone(message), client_msg_id=None)",
    ),
    (
        "test_another_log_drops_what_is_stored_above_the_common_part",
        local_store.MemoryStore,
        "_apply",
        "_forget_above(log, change.forget_above)",
        "_forget_above(log, change.forget_above + 3)",
    ),
    (
        "test_another_log_drops_nothing_else",
        local_store.MemoryStore,
        "_apply",
        "    log = self._logs.get",
        "    self._pending = {} if change.forget_above is not None else self._pending\n    log = self._logs.get",
    ),
    (
        "test_remembers_that_a_conversation_was_left",
        local_store.MemoryStore,
        "_apply",
        "change.left,",
        "change.left or log.record.left,",
    ),
    (
        "test_a_bound_on_what_is_kept_leaves_no_hole",
        local_store.MemoryStore,
        "_let_go",
        "if seq <= log.record.prefix",
        "if True",
    ),
    (
        "test_a_bound_on_what_is_kept_leaves_no_hole",
        local_store.MemoryStore,
        "_let_go",
        "log.floor = max([log.floor, *placed])",
        NOTHING,
    ),
    (
        "test_keeps_what_should_count_as_read",
        local_store.MemoryStore,
        "reads",
        "dict(self._reads)",
        "self._reads",
    ),
]

BUSES: list[Spoil] = [
    (
        "test_a_topic_is_its_whole_name",
        LocalMember,
        "listens",
        "topic in self._topics",
        "any(topic.startswith(it) for it in self._topics)",
    ),
    (
        "test_what_comes_while_nobody_reads_waits",
        Inbox,
        "events",
        "    while not self._closed",
        "    self._arrived.clear()\n    while not self._closed",
    ),
    (
        "test_who_left_is_off_the_bus_and_the_others_are_not",
        LocalMember,
        "publish",
        "if not self._left",
        "if True",
    ),
    (
        "test_who_left_is_off_the_bus_and_the_others_are_not",
        LocalBus,
        "leave",
        "self._members.remove(member)",
        "self._members.clear()",
    ),
]

QUEUES: list[Spoil] = [
    (
        "test_what_is_given_back_need_not_wait_for_the_workers_time",
        WorkTable,
        "retry",
        "work, due_s)",
        "work, due_s + self._visibility_s)",
    ),
    (
        "test_it_is_given_back_once",
        WorkTable,
        "retry",
        "not work.held or ",
        "",
    ),
    (
        "test_a_worker_that_comes_late_cannot_give_back_but_can_finish",
        WorkTable,
        "retry",
        " or work.attempt != item.attempt",
        "",
    ),
    (
        "test_what_its_worker_forgot_comes_again",
        WorkTable,
        "_give_out",
        "self._schedule(ticket, work, now_s + self._visibility_s)",
        NOTHING,
    ),
    (
        "test_the_longest_waiting_comes_first_though_it_was_given_out_before",
        LocalQueue,
        "put",
        "self._clock.now_s()",
        "-self._clock.now_s()",
    ),
    (
        "test_items_of_one_key_come_in_the_order_of_their_puts",
        LocalQueue,
        "put",
        "self._clock.now_s()",
        "-len(self._table)",
    ),
    (
        "test_the_lag_counts_what_is_not_done",
        LocalQueue,
        "lag",
        "len(self._table)",
        "sum(not work.held for work in self._table._work.values())",
    ),
    (
        "test_closing_ends_what_waits",
        LocalQueue,
        "aclose",
        "self._changed.set()",
        NOTHING,
    ),
]

ALL = [
    pytest.param(hold, spoilt, id=f"{spoilt[2]}-{spoilt[0]}")
    for hold, table in ((stored, STORES), (kept, LOCAL_STORES), (carried, BUSES), (queued, QUEUES))
    for spoilt in table
]


@pytest.mark.parametrize(("hold", "spoilt"), ALL)
def test_a_broken_part_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, hold: Callable[[str], None], spoilt: Spoil
) -> None:
    test, owner, name, old, new = spoilt
    hold(test)
    spoil(monkeypatch, owner, name, old, new)
    check_that_it_fails(hold, test)


LOSSES = {
    "UPDATE setting SET value = randomblob(32)": "test_the_secret_is_made_once",
    "UPDATE message SET payload_mac = randomblob(32) WHERE kind = 'USER'": "test_a_resend_gets_the_old_answer",
    "UPDATE message SET client_msg_id = 'x' || seq WHERE kind = 'USER'": "test_a_resend_gets_the_old_answer",
    "UPDATE recall SET recalled_by_seq = recalled_by_seq + 1": "test_a_resend_gets_the_old_answer",
    "UPDATE conversation SET epoch = 'e3'": "test_numbers_go_on",
    "UPDATE conversation SET single_pair = 'x' WHERE type = 'SINGLE'": "test_numbers_go_on",
    "DELETE FROM device_exact": "test_single_confirmations_still_wait_for_the_gap",
    "DELETE FROM resume_token": "test_resume_tokens_hold_once",
    "UPDATE resume_token SET scope = ''": "test_resume_tokens_hold_once",
    "UPDATE resume_token SET token_hash = CAST('t1' AS BLOB) WHERE user_id = 'ann'": "test_resume_tokens_hold_once",
    "UPDATE device SET last_seen_ms = 0": "test_when_devices_were_seen_is_remembered",
    "UPDATE member_cursor SET read_seq = 0": "test_all_that_reads_show_is_there_again",
    "UPDATE device_cursor SET delivered_seq = 0": "test_all_that_reads_show_is_there_again",
    "DELETE FROM block": "test_all_that_reads_show_is_there_again",
    "UPDATE conversation SET blocks = 0": "test_blocks_owners_and_who_left_still_count",
    "UPDATE conversation SET owner_id = 'ann' WHERE type = 'GROUP'": "test_blocks_owners_and_who_left_still_count",
    "UPDATE member_cursor SET has_left = 0": "test_blocks_owners_and_who_left_still_count",
    "UPDATE member_cursor SET device_seq = 0": "test_a_new_device_still_begins_where_the_farthest_is",
    "UPDATE message SET server_ts = 0": "test_all_that_reads_show_is_there_again",
    "DELETE FROM outbox": "test_all_that_reads_show_is_there_again",
    "DELETE FROM conversation_member WHERE leave_seq > 0": "test_all_that_reads_show_is_there_again",
    "DROP TRIGGER audit_is_never_deleted; DELETE FROM audit WHERE seq = 1": "test_all_that_reads_show_is_there_again",
}


@pytest.mark.parametrize("loss", ["", *LOSSES])
def test_a_store_that_loses_something_between_two_openings_does_not_pass(tmp_path: Path, loss: str) -> None:
    ids = seeded_ids()

    def hold(test: str) -> None:
        path = tmp_path / f"{test}.db"

        def make() -> Store:
            if path.exists():
                connection = sqlite3.connect(path)
                connection.executescript(loss)
                connection.close()
                count_as_served(path)
            return SqliteStore(str(path), ids=ids, threads=False)

        held: Callable[..., Awaitable[None]] = getattr(StoreContract(), test)
        run_virtual(held, make)

    if loss:
        check_that_it_fails(hold, LOSSES[loss])
    else:
        for test in sorted(set(LOSSES.values())):
            hold(test)
