"""`decide` needs what the keys name and nothing else, and each command sees what the ones before it did."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest

from chatkit.core.log import commands as c
from chatkit.core.log import outcomes as o
from chatkit.core.log import rules
from chatkit.core.log.decide import decide, keys_after, keys_of
from chatkit.core.log.keys import Keys
from chatkit.core.log.state import State
from chatkit.storage.memory.load import load
from chatkit.storage.memory.tables import MemoryState
from chatkit.testing.contracts.storage_commands import (
    NOW,
    add,
    confirm,
    delivered,
    device,
    edited,
    group,
    reacted,
    read,
    recall,
    remove,
    replied,
    resume,
    send,
    single,
    title_entry,
)

from .tables import commit, loaded

NAMED = [name for name in Keys.__slots__ if not name.startswith("_") and name not in ("removals",)]


@pytest.fixture
def tables() -> MemoryState:
    """A group of three with messages, a SINGLE, and a device of each."""
    made = MemoryState()
    commit(made, [device(user) for user in ("ann", "bob", "cat")])
    commit(made, [group("g", "ann", "bob", "cat"), single("s", "ann", "bob")])
    commit(made, [send("g", user, f"{user}{n}") for n in range(3) for user in ("ann", "bob")])  # 2..7
    commit(made, [remove("g", "ann", "cat"), recall("1-e1-2", "ann")])  # 8, 9
    return made


COMMANDS: list[tuple[c.Command, set[str]]] = [
    (send("g", "ann", "new"), {"conversations", "members", "sent"}),
    (edited("g", "ann", "1-e1-4"), {"conversations", "places", "edited", "sent"}),
    (reacted("g", "bob", "1-e1-4"), {"conversations", "places", "reactions", "sent"}),
    (replied("g", "bob", "1-e1-4"), {"conversations", "places", "sent"}),
    (recall("1-e1-4", "ann"), {"conversation_keys", "cursors", "places", "edited"}),
    (recall("1-e1-2", "ann"), {"conversation_keys", "places"}),
    (recall("1-e1-5", "ann"), {"conversation_keys", "cursors", "places", "members", "edited"}),
    (c.Recall("1-e1-5", None, 1, NOW), {"conversation_keys", "places", "members", "edited"}),
    (delivered("g", "bob", 7), {"conversations", "cursors", "senders", "devices"}),
    (delivered("g", "bob", 7, "new"), {"conversations", "cursors", "senders", "devices"}),
    (delivered("s", "bob", 1), {"conversations", "cursors", "devices"}),
    (confirm("1-e1-3", "bob"), {"conversation_keys", "cursors", "places", "devices"}),
    (read("g", "bob", 7), {"conversations", "cursors", "senders"}),
    (group("new", "ann", "bob"), {"conversations", "new_conversations", "blocks"}),
    (group("g", "ann", "bob"), {"conversations", "member_lists"}),
    (single("new", "ann", "cat"), {"conversations", "pairs", "new_conversations", "blocks"}),
    (
        add("g", "ann", "cat", "dan"),
        {"conversations", "members", "cursors", "member_lists", "blocks", "bans"},
    ),
    (add("g", None, "cat"), {"conversations", "cursors", "member_lists", "bans"}),
    (remove("g", "ann", "bob"), {"conversations", "members", "cursors", "member_lists", "elders"}),
    (remove("g", None, "ann"), {"conversations", "cursors", "member_lists", "elders"}),
    (
        c.UpdateConversation("g", "ann", title_entry("new"), "bob", NOW),
        {"conversations", "members", "member_lists"},
    ),
    (c.SetRole("g", "ann", "bob", "ADMIN", NOW), {"conversations", "members", "member_lists"}),
    (c.SilenceMember("g", "ann", "bob", 9, NOW), {"conversations", "members", "member_lists"}),
    (
        c.BanMember("g", "ann", "bob", NOW),
        {"conversations", "members", "cursors", "member_lists", "elders", "bans", "ban_counts"},
    ),
    (c.UnbanMember("g", "ann", "eve", NOW), {"conversations", "members", "member_lists", "bans"}),
    (c.BlockUser("ann", "bob", NOW), {"blocks", "block_counts", "pairs"}),
    (device("bob", "new"), {"devices", "listed", "revocations"}),
    (resume(b"bob/phone/%d" % NOW), {"token_hashes", "devices", "listed"}),
    (c.RenewLogin("bob", "phone", None, "", NOW), {"devices", "tokens", "revocations"}),
    (c.SeeDevices((("bob", "phone"),), NOW), {"devices"}),
    (c.Revoke("REVOKED", "bob", "", b"", None, NOW), {"new_revocations"}),
    (c.RenewEpoch("g", "e2", NOW), {"conversations"}),
    (c.Mute("g", "ann", 9), {"conversations", "members"}),
    (c.RegisterPush("bob", "phone", "log", "token", False, NOW), {"devices", "revocations"}),
]


@pytest.mark.parametrize(("command", "needed"), COMMANDS)
def test_a_key_that_no_load_named_is_an_error_and_no_answer(
    tables: MemoryState, command: c.Command, needed: set[str]
) -> None:
    """Each kind of key that a command names is left out in turn; whatever it needs is then missed."""
    outcomes, _ = decide(loaded(tables, [command]), [command])
    assert not isinstance(outcomes[0], o.Refused)

    missed = set()
    for kind in NAMED:
        try:
            outcomes, _ = decide(_loaded_without(tables, command, kind), [command])
        except (KeyError, IndexError):
            missed.add(kind)
        else:
            assert not isinstance(outcomes[0], o.Refused), kind
    assert missed == needed


def _loaded_without(tables: MemoryState, command: c.Command, kind: str) -> State:
    state = State()
    keys = keys_of([command])
    if getattr(keys, kind) and kind in ("conversations", "conversation_keys"):
        keys.members, keys.cursors = set(), set()  # nothing inside a conversation can be loaded without it
        keys.member_lists, keys.sent = set(), set()
    setattr(keys, kind, type(getattr(keys, kind))())
    load(tables, keys, state)
    try:
        more = keys_after(state, [command])
    except KeyError:
        return state
    if more is not None:
        setattr(more, kind, type(getattr(more, kind))())
        load(tables, more, state)
    return state


def test_deciding_changes_nothing_but_the_state(tables: MemoryState) -> None:
    before = copy.deepcopy(tables)
    commands = [command for command, _ in COMMANDS]
    first, changes = decide(loaded(tables, commands), commands)
    second, again = decide(loaded(tables, commands), commands)

    assert shown(first) == shown(second)
    assert changes == again
    assert shown_tables(tables) == shown_tables(before)


def shown(outcomes: Sequence[o.Outcome]) -> list[object]:
    """Outcomes so that they compare: a refusal by its code."""
    return [it.error.code if isinstance(it, o.Refused) else it for it in outcomes]


def shown_tables(tables: MemoryState) -> object:
    """All rows."""
    conversations = [[getattr(it, name) for name in it.__struct_fields__] for it in tables.by_key.values()]
    return conversations, tables.devices, tables.tokens, tables.audit


def test_a_refusal_does_not_keep_the_batch_alive(tables: MemoryState) -> None:
    (refused,) = commit(tables, [send("g", "eve", "k")])

    assert isinstance(refused, o.Refused)
    assert refused.error.__traceback__ is None


def test_nothing_is_changed_by_refusals_and_repeats(tables: MemoryState) -> None:
    commands = [
        send("g", "eve", "k"),
        send("g", "ann", "ann1"),
        recall("1-e1-2", "ann"),
        read("g", "bob", 99),
        add("g", "bob", "dan"),
        add("g", "ann", "bob"),
        single("other", "bob", "ann"),
        resume(b"unknown"),
    ]
    _, changes = decide(loaded(tables, commands), commands)

    empty = [name for name in changes.__struct_fields__ if getattr(changes, name)]
    assert empty == []


def test_a_later_command_sees_an_earlier_one_of_its_batch(tables: MemoryState) -> None:
    """Whatever depends on what the same batch made before."""
    outcomes = commit(
        tables,
        [
            group("n", "ann", "bob"),
            send("n", "ann", "k"),
            recall("3-e1-2", "ann"),
            send("n", "ann", "k"),
            recall("3-e1-2", "ann"),
            add("n", "ann", "dan"),
            send("n", "dan", "k"),
            remove("n", "ann", "dan"),
            send("n", "dan", "k2"),
            send("n", "dan", "k"),
            group("n", "ann", "bob"),
            single("p", "dan", "eve"),
            single("q", "eve", "dan"),
            device("dan", "pc"),
            delivered("p", "dan", 1, "pc"),
            resume(b"dan/pc/%d" % NOW, "pc", b"once"),
            resume(b"dan/pc/%d" % NOW, "pc", b"twice"),
            c.RenewEpoch("n", "e2", NOW),
            send("n", "ann", "k3"),
            recall("3-e2-7", "ann"),
        ],
    )

    assert [type(it).__name__ for it in outcomes] == [
        *("Created", "Appended", "Recalled", "Appended", "Recalled", "MembersChanged", "Appended"),
        *("MembersChanged", "Refused", "Appended", "Created", "Created", "Created", "SessionOpened"),
        *("Advanced", "SessionOpened", "Refused", "Done", "Appended", "Recalled"),
    ]
    repeats = [getattr(it, "repeat", None) for it in outcomes]
    assert [turn for turn, repeat in enumerate(repeats) if repeat] == [3, 4, 9]
    assert [it.created for it in outcomes if isinstance(it, o.Created)] == [True, False, True, False]


def test_a_device_that_is_driven_out_and_comes_back_in_one_batch_is_a_new_one(
    tables: MemoryState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2)
    commit(tables, [confirm("1-e1-4", "bob"), device("bob", "tablet", NOW + 1)])
    outcomes = commit(
        tables,
        [
            device("bob", "pc", NOW + 2),
            resume(b"bob/phone/%d" % NOW, following=b"gone"),
            delivered("g", "bob", 2, at_ms=NOW + 3),
        ],
    )

    assert isinstance(outcomes[1], o.Refused)
    phone = tables.by_id["g"].devices["bob"]["phone"]
    assert (phone.delivered_seq, phone.exact, phone.updated_ms) == (2, set(), NOW + 3)
    assert sorted(tables.devices["bob"]) == ["pc", "phone"]


def test_ranges_of_senders_are_merged() -> None:
    keys = Keys()
    keys.senders = [(1, 5, 9), (2, 1, 3), (1, 8, 12), (1, 13, 14), (1, 5, 9), (1, 20, 21)]

    assert keys.merged_senders() == [(1, 5, 14), (1, 20, 21), (2, 1, 3)]
