"""What outlives a store that is closed and opened again. Part of `StoreContract`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec.structs import replace

from ...errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    TokenRevokedError,
    UnavailableError,
)
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    NOW,
    add,
    ban,
    confirm,
    delivered,
    device,
    do,
    group,
    head,
    one,
    read,
    recall,
    refused,
    remove,
    resume,
    revoke,
    send,
    single,
    snapshot,
)
from .storage_ownership import block, update

Make = Callable[[], Store]
"""Makes a store on the one place of a test, not opened yet; each call one more, which finds what the former left."""

CONVERSATIONS = ("g", "h", "s")
USERS = ("ann", "bob", "cat", "eve")


@asynccontextmanager
async def opened(make: Make) -> AsyncIterator[Store]:
    """A store from its opening to its end."""
    store = make()
    await store.migrate()
    try:
        yield store
    finally:
        await store.aclose()


async def secret_of(store: Store) -> bytes:
    """The secret that one opening returns."""
    try:
        return await store.migrate()
    finally:
        await store.aclose()


async def live(store: Store) -> None:
    """Something of everything that a store keeps."""
    await do(store, device("ann"), device("bob"), device("bob", "tablet"), device("cat"))
    await do(store, group("g", "ann", "bob", "cat"), group("h", "bob", "ann"), single("s", "cat", "ann"))
    sent = [await one(store, send("g", "ann", str(number)), base.Appended) for number in range(2, 7)]
    names = [it.entry.message_id for it in sent]
    await do(store, recall(names[1], "ann"), delivered("g", "bob", 4), confirm(names[4], "bob", "tablet"))
    await do(store, delivered("g", "ann", 7), delivered("g", "cat", 3), read("g", "cat", 2, NOW + 3))
    await do(store, remove("g", "ann", "bob"), send("g", "ann", "away"), add("g", "ann", "bob", "eve"))
    await do(store, revoke("cat"), ban("dan"), ban("eve"), ban("eve", lifted=True))
    await do(store, send("h", "bob", "2"), base.RenewEpoch("h", "e2", NOW + 4))
    await do(store, remove("h", "ann", "ann"), send("s", "ann", "2"), read("s", "cat", 2))
    await do(store, block("cat", "ann"), block("cat", "eve"), update("g", "ann", "new", "cat"))
    await do(store, *(base.RegisterPush(it, "phone", "log", it, False, NOW) for it in ("ann", "bob", "cat")))
    await do(
        store, base.UnregisterPush("ann", "phone"), base.Mute("g", "eve", NOW + 9), base.Mute("g", "ann", 0)
    )


async def everything(store: Store) -> list[Any]:
    """All that the reads of a store show, those for nodes and operators too."""
    devices = [(user, name) for user in USERS for name in ("phone", "tablet")]
    shown = await snapshot(store, CONVERSATIONS, USERS)
    shown += [await store.entries(name, 0, 1000) for name in CONVERSATIONS]
    shown += [await store.revocations(0, 1000), await store.acts(base.AuditFilter(), 0, 1000)]
    return [*shown, await store.membership_changes(0, 1000), await store.resume_hashes(devices)]


async def key_of(store: Store, conversation_id: str) -> int:
    """The store's internal number of a conversation."""
    (entry,) = await store.entries(conversation_id, 0, 1)
    place = base.message_place(entry.message_id)
    assert place is not None
    return place[0]


class OpeningContract:
    """Opening twice, and closing."""

    async def test_opening_an_open_store_again_changes_nothing(self, store: Store) -> None:
        await live(store)
        before = await everything(store)
        secrets = set()
        for _ in range(2):
            with suppress(ConfigurationError):  # it may refuse, since it is open
                secrets.add(await store.migrate())

        assert len(secrets) <= 1
        assert all(len(secret) == 32 for secret in secrets)
        assert await everything(store) == before
        assert (await one(store, send("g", "ann", "2"), base.Appended)).repeat

    async def test_a_closed_store_takes_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        await store.aclose()
        await store.aclose()

        for batch in ([send("g", "ann", "k")], []):
            with pytest.raises(UnavailableError):
                await store.commit(batch)


class DurabilityContract:
    """Closing and opening again. It goes through the fixture `make` alone; not for a store in memory."""

    async def test_the_secret_is_made_once(self, make: Make) -> None:
        first = await secret_of(make())

        assert len(first) == 32
        assert [await secret_of(make()) for _ in range(2)] == [first, first]

    async def test_all_that_reads_show_is_there_again(self, make: Make) -> None:
        async with opened(make) as store:
            await live(store)
            before = await everything(store)
        async with opened(make) as store:
            assert await everything(store) == before

    async def test_a_renewed_log_stays_beyond_the_former_one(self, make: Make) -> None:
        async with opened(make) as store:
            await live(store)
            await store.confirm_restored(await store.position() + 1)
            renewed = await store.position()
        async with opened(make) as store:
            assert await store.position() == renewed
            await do(store, send("g", "ann", "on"))
            assert await store.position() == renewed + 1

    async def test_a_resend_gets_the_old_answer(self, make: Make) -> None:
        async with opened(make) as store:
            await do(store, group("g", "ann", "bob"))
            first = await one(store, send("g", "bob", "k"), base.Appended)
            gone = await one(store, send("g", "bob", "gone"), base.Appended)
            recalled = await one(store, recall(gone.entry.message_id, "bob"), base.Recalled)
            await do(store, remove("g", "bob", "bob"))
        async with opened(make) as store:
            again = await one(store, send("g", "bob", "k"), base.Appended)
            assert (again.entry, again.repeat) == (first.entry, True)
            await refused(store, send("g", "bob", "k", "another"), ConflictError)
            await refused(store, send("g", "bob", "gone", "another"), ConflictError)
            once_more = await one(store, recall(gone.entry.message_id, "bob"), base.Recalled)
            assert (once_more.entry, once_more.repeat) == (recalled.entry, True)

    async def test_numbers_go_on(self, make: Make) -> None:
        async with opened(make) as store:
            await live(store)
            heads, seen = await store.head_seqs(CONVERSATIONS), await store.membership_changes(None, 1)
            audited = (await store.audit("g"))[-1].audit_id
            keys = {await key_of(store, name) for name in CONVERSATIONS}
        async with opened(make) as store:
            sent = await one(store, send("g", "ann", "new"), base.Appended)
            assert (sent.entry.epoch, sent.entry.seq - 1) == heads["g"]
            sent = await one(store, send("h", "bob", "new"), base.Appended)
            assert (sent.entry.epoch, sent.entry.seq - 1) == heads["h"]
            assert not (await one(store, single("t", "ann", "cat"), base.Created)).created
            await do(store, group("i", "ann", "bob"))
            assert await key_of(store, "i") not in keys
            assert (await store.membership_changes(seen.position, 9)).changes == (
                base.MembershipChange("i", ("ann", "bob"), "CREATED"),
            )
            assert (await store.audit("i"))[0].audit_id > audited

    async def test_blocks_owners_and_who_left_still_count(self, make: Make) -> None:
        async with opened(make) as store:
            await live(store)
        async with opened(make) as store:
            await refused(store, send("s", "ann", "new"), ForbiddenError)
            await refused(store, add("g", "ann", "dan"), ForbiddenError)
            again = replace(add("h", "bob", "ann"), readd_after_leaving=False)
            await refused(store, again, ForbiddenError)
            await do(store, send("s", "cat", "new"), add("g", "cat", "dan"))

    async def test_a_new_device_still_begins_where_the_farthest_is(self, make: Make) -> None:
        async with opened(make) as store:
            await live(store)
        async with opened(make) as store:
            await do(store, device("ann", "pc"), device("cat", "pc"), delivered("g", "cat", 5, "pc"))
            assert [(await head(store, user, "g", "pc")).delivered_seq for user in ("ann", "cat")] == [7, 5]
            assert (await head(store, "cat", "g")).delivered_seq == 3

    async def test_single_confirmations_still_wait_for_the_gap(self, make: Make) -> None:
        async with opened(make) as store:
            await do(store, group("g", "ann", "bob"), device("bob"), delivered("g", "bob", 1))
            names = [
                (await one(store, send("g", "ann", str(n)), base.Appended)).entry.message_id for n in range(2)
            ]
            await do(store, confirm(names[1], "bob"))
        async with opened(make) as store:
            moved = await one(store, confirm(names[0], "bob"), base.Advanced)
            assert (moved.delivered_seq, moved.moved) == (3, True)
            assert (await head(store, "bob", "g")).delivered_seq == 3

    async def test_resume_tokens_hold_once(self, make: Make) -> None:
        async with opened(make) as store:
            await do(store, base.OpenSession("ann", "phone", b"t1", NOW + 9, NOW + 77, "all", NOW))
            await do(store, resume(b"t1", following=b"t2"), device("bob"))
        async with opened(make) as store:
            await refused(store, resume(b"t1"), TokenRevokedError)
            await refused(store, resume(b"t2", "tablet"), TokenRevokedError)
            await refused(store, resume(b"t2", at_ms=NOW + 10), TokenRevokedError)
            resumed = await one(store, resume(b"t2", following=b"t3"), base.SessionOpened)
            assert (resumed.user_id, resumed.identity_expires_ms, resumed.scope) == ("ann", NOW + 77, "all")
        async with opened(make) as store:
            await refused(store, resume(b"t2"), TokenRevokedError)
            assert await store.resume_hashes([("ann", "phone")]) == {("ann", "phone"): b"t3"}

    async def test_when_devices_were_seen_is_remembered(self, make: Make) -> None:
        names = [f"d{number:02}" for number in range(base.DEVICES_MAX)]
        async with opened(make) as store:
            await do(store, *(device("bob", name, NOW + turn) for turn, name in enumerate(names)))
            await do(store, device("bob", names[0], NOW + 100))
        async with opened(make) as store:
            await do(store, device("bob", "new", NOW + 101))
            found = await store.resume_hashes([("bob", name) for name in names])
            assert {name for _, name in found} == {*names} - {names[1]}
