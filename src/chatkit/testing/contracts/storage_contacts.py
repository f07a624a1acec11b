"""Who may know that a user is online: what presence asks of a store. Subclass it beside `StoreContract`."""

from __future__ import annotations

from typing import Protocol

import pytest

from ...storage import base
from .storage_commands import NOW, add, device, do, group, remove, single
from .storage_ownership import block

MANY = 1_000


class ContactStore(base.Store, base.ContactReader, Protocol):
    """A store with that ability."""


class ContactContract:
    """Contacts in a store: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_contacts_are_who_shares_a_conversation_now(self, store: ContactStore) -> None:
        await do(store, group("g", "ann", "bob", "cat"), single("s", "ann", "dan"), group("h", "bob", "eve"))

        assert await store.contacts(["ann", "eve", "zoe"], 9, MANY) == {
            "ann": ["bob", "cat", "dan"],
            "eve": ["bob"],
        }
        await do(store, remove("g", "ann", "cat"), add("h", "bob", "ann"))
        assert await store.contacts(["ann", "cat"], 9, MANY) == {"ann": ["bob", "dan", "eve"]}

    async def test_large_conversations_make_no_contacts(self, store: ContactStore) -> None:
        await do(store, group("g", "ann", "bob", "cat"), group("h", "ann", "cat"))

        assert await store.contacts(["ann"], 3, MANY) == {"ann": ["bob", "cat"]}
        assert await store.contacts(["ann", "bob"], 2, MANY) == {"ann": ["cat"]}
        assert await store.known_to("ann", ["bob", "cat"], 2) == {"cat": None}
        await do(store, remove("g", "ann", "cat"))
        assert await store.contacts(["bob"], 2, MANY) == {"bob": ["ann"]}

    async def test_who_was_blocked_knows_nothing_of_the_blocker(self, store: ContactStore) -> None:
        await do(store, group("g", "ann", "bob", "cat"), block("ann", "bob"))

        assert await store.contacts(["ann", "bob"], 9, MANY) == {"ann": ["cat"], "bob": ["ann", "cat"]}
        assert await store.known_to("bob", ["ann", "cat"], 9) == {"cat": None}
        assert await store.known_to("ann", ["bob", "cat"], 9) == {"bob": None, "cat": None}
        await do(store, base.UnblockUser("ann", "bob"))
        assert await store.known_to("bob", ["ann"], 9) == {"ann": None}

    async def test_the_first_contacts_of_each_user_are_returned(self, store: ContactStore) -> None:
        await do(store, group("g", "ann", "bob", "cat", "dan"))
        assert await store.contacts(["ann", "dan"], 9, 2) == {"ann": ["bob", "cat"], "dan": ["ann", "bob"]}

    async def test_nobody_learns_who_exists(self, store: ContactStore) -> None:
        await do(store, group("g", "ann", "bob"), device("eve"))

        assert await store.known_to("ann", ["eve", "nobody", "ann", "bob", "bob"], 9) == {"bob": None}
        assert await store.known_to("ann", [], 9) == {}
        assert await store.contacts([], 9, MANY) == {}

    async def test_the_newest_device_says_when_somebody_was_last_seen(self, store: ContactStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, device("bob", "phone", NOW + 5), device("bob", "tablet", NOW + 3))
        assert await store.known_to("ann", ["bob"], 9) == {"bob": NOW + 5}

        await do(store, base.SeeDevices((("bob", "tablet"),), NOW + 900))
        assert await store.known_to("ann", ["bob"], 9) == {"bob": NOW + 900}
