"""What a store has of one user, and what an erasure does to it. Subclass it beside `StoreContract`."""

from __future__ import annotations

from typing import Protocol

import pytest

from ...storage import base
from ...storage.base import OwnMessage, Stay
from .storage_commands import (
    NOW,
    TOMBSTONE,
    add,
    delivered,
    device,
    do,
    edited,
    group,
    one,
    read,
    recall,
    remove,
    send,
    single,
    text,
)


class PersonStore(base.Store, base.PersonReader, Protocol):
    """A store with that ability."""


def by_host(message_id: str) -> base.Recall:
    """A recall by the host."""
    return base.Recall(message_id, None, 0, NOW)


class PersonContract:
    """One user in a store: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_every_conversation_that_somebody_is_or_was_in(self, store: PersonStore) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "bob"), single("s", "ann", "cat"))
        await do(store, remove("g", "bob", "bob"), add("g", "ann", "bob"), delivered("g", "bob", 3))
        await do(store, read("g", "bob", 3, NOW + 7), base.Mute("g", "bob", NOW + 9))
        places, more = await store.places_of("bob", 0)

        assert more is None
        assert [(it.conversation_id, it.type, it.stays, it.is_member) for it in places] == [
            ("g", "GROUP", (Stay(1, 2), Stay(3, None)), True),
            ("h", "GROUP", (Stay(1, None),), True),
        ]
        assert (places[0].delivered_seq, places[0].read_seq) == (3, 3)
        assert (places[0].read_ms, places[0].muted_until_ms) == (NOW + 7, NOW + 9)
        assert (await store.places_of("bob", places[0].conversation_key)).places == places[1:]
        assert [it.conversation_id for it in (await store.places_of("cat", 0)).places] == ["s"]
        assert await store.places_of("zoe", 0) == ([], None)

    async def test_the_messages_that_somebody_wrote_by_pages(self, store: PersonStore) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "b"), send("g", "bob", "x"))
        sent = await one(store, send("g", "ann", "a", at_ms=NOW + 2), base.Appended)
        gone = await one(store, send("g", "ann", "c", "secret"), base.Appended)
        await do(store, recall(gone.entry.message_id, "ann"))
        first = await store.messages_of("g", "ann", "", 2)

        assert [it.client_msg_id for it in first] == ["a", "b"]
        assert first[0] == OwnMessage("a", sent.entry.message_id, 4, "USER", NOW + 2, False, text("a"))
        (last,) = await store.messages_of("g", "ann", "b", 2)
        assert (last.client_msg_id, last.is_recalled, last.payload) == ("c", True, TOMBSTONE)
        assert await store.messages_of("g", "ann", "c", 2) == []
        assert await store.messages_of("nowhere", "ann", "", 2) == []

    async def test_devices_and_where_they_are_reached(self, store: PersonStore) -> None:
        await do(store, device("ann", "web", NOW + 1), device("ann"), device("bob"))
        await do(store, base.RegisterPush("ann", "phone", "fcm", "t0ken", False, NOW + 5))

        assert await store.devices_of("ann") == [
            base.KnownDevice("phone", NOW, NOW, "fcm", NOW + 5),
            base.KnownDevice("web", NOW + 1, NOW + 1, None, None),
        ]
        assert await store.devices_of("zoe") == []

    async def test_all_devices_go_with_what_hangs_on_them(self, store: PersonStore) -> None:
        await do(store, device("ann"), device("ann", "web"), device("bob"), group("g", "ann", "bob"))
        await do(store, base.RegisterPush("ann", "phone", "fcm", "t0ken", False, NOW))
        await do(store, send("g", "bob", "k"), delivered("g", "bob", 2), base.ForgetDevices("ann"))

        assert await store.devices_of("ann") == []
        assert await store.resume_hashes([("ann", "phone"), ("ann", "web")]) == {}
        assert [it.device_id for it in await store.devices_of("bob")] == ["phone"]
        await do(store, base.ForgetDevices("ann"), base.ForgetDevices("zoe"))

    async def test_an_erasure_is_kept_until_its_end_and_audited(self, store: PersonStore) -> None:
        await do(
            store, base.BeginErasure("ann", False, "adm", NOW), base.BeginErasure("bob", True, None, NOW + 1)
        )
        assert await store.erasures() == [
            base.Erasure("ann", False, "adm", NOW),
            base.Erasure("bob", True, "", NOW + 1),
        ]
        await do(store, base.BeginErasure("ann", True, None, NOW + 2))
        assert await store.erasures() == [
            base.Erasure("ann", True, "adm", NOW),
            base.Erasure("bob", True, "", NOW + 1),
        ]
        await do(
            store,
            base.EndErasure("ann", True, "adm", 2, 7, NOW + 3),
            base.EndErasure("bob", True, None, 0, 0, NOW + 4),
        )
        assert await store.erasures() == []

        rows = await store.acts(base.AuditFilter(), 0, 9)
        assert [(it.action, it.actor_id, it.subject, it.detail) for it in rows] == [
            ("ERASURE_BEGAN", "adm", "ann", {"bodies": "keep"}),
            ("ERASURE_BEGAN", "", "bob", {"bodies": "erase"}),
            ("ERASURE_BEGAN", "", "ann", {"bodies": "erase"}),
            ("ERASED", "adm", "ann", {"conversations": "2", "messages": "7"}),
            ("ERASED", "", "bob", {"conversations": "0", "messages": "0"}),
        ]

    async def test_an_erasure_that_is_to_do_more_meanwhile_is_not_at_its_end(
        self, store: PersonStore
    ) -> None:
        await do(store, base.BeginErasure("ann", False, None, NOW), base.BeginErasure("ann", True, None, NOW))
        await do(store, base.EndErasure("ann", False, None, 0, 0, NOW))
        assert await store.erasures() == [base.Erasure("ann", True, "", NOW)]
        await do(store, base.EndErasure("ann", True, None, 0, 0, NOW))
        assert await store.erasures() == []

    async def test_what_somebody_wrote_is_recalled_after_they_are_gone(self, store: PersonStore) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "bob", "k", "secret"), remove("g", None, "bob"))
        (written,) = await store.messages_of("g", "bob", "", 9)
        await do(store, by_host(written.message_id), by_host(written.message_id))

        assert [it.is_recalled for it in await store.messages_of("g", "bob", "", 9)] == [True]
        page = await store.page("g", "ann", 1, 1, 9_999)
        assert [it.payload for it in page.entries] == [TOMBSTONE]
        rows = await store.acts(base.AuditFilter(action="RECALLED"), 0, 9)
        assert [(it.actor_id, it.subject) for it in rows] == [("", written.message_id)]

    async def test_what_has_expired_is_found_and_recalled_while_there_are_words_of_it(
        self, store: PersonStore
    ) -> None:
        await do(store, group("g", "ann", "bob"))
        first, second, third = [
            (await one(store, send("g", "ann", key), base.Appended)).entry.message_id for key in "abc"
        ]
        await do(store, recall(third, "ann"), edited("g", "ann", first, key="d"), send("g", "bob", "last"))
        await do(store, base.Expire("g", 5, None, NOW))
        found = await store.messages_of("g", "ann", "", 9)
        assert [(it.seq, it.kind, it.has_expired) for it in found] == [
            (2, "USER", True),
            (3, "USER", True),
            (6, "EDIT", False),
        ]
        await do(store, by_host(first), by_host(second))
        assert [it.seq for it in await store.messages_of("g", "ann", "", 9)] == [6]
        page = await store.page("g", "bob", 5, 1, 9_999)
        assert [it.payload for it in page.entries] == [TOMBSTONE], "the edit above the floor went along"

    async def test_an_act_without_any_other_effect_is_written_down(self, store: PersonStore) -> None:
        await do(store, base.RecordAct("READ", "adm", "messages/x", {"why": "ticket 7", "user": ""}, NOW))
        (row,) = await store.acts(base.AuditFilter(), 0, 9)

        assert (row.action, row.actor_id, row.subject, row.detail) == (
            "READ",
            "adm",
            "messages/x",
            {"why": "ticket 7"},
        )
        (outcome,) = await store.commit([base.RecordAct("READ", "adm", "x", {"why": "x" * 5_000}, NOW)])
        assert isinstance(outcome, base.Refused)
