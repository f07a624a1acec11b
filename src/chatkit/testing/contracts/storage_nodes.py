"""The contract of the reads that only nodes use. A subclass overrides the fixture `store` with an opened one."""

from __future__ import annotations

from ...storage import base
from ...storage.base import Store
from .storage_commands import NOW, add, device, do, group, remove, resume, send, single


class NodeContract:
    """Who joined what since a position, and which session of a device is the newest."""

    async def test_joins_are_told_in_order_from_where_one_stood(self, store: Store) -> None:
        await do(store, group("before", "ann", "bob"))
        start = await store.membership_changes(None, 10)
        assert start.changes == ()
        assert await store.membership_changes(start.position, 10) == start
        await do(store, group("g", "cat", "ann"), single("s", "bob", "ann"))
        await do(
            store, send("g", "ann", "k"), add("g", "cat", "dan", "bob", "ann"), remove("g", "dan", "dan")
        )
        await do(store, add("g", "cat", "dan"), base.RenewEpoch("g", "e2", NOW))
        found = await store.membership_changes(start.position, 10)

        assert found.changes == (
            base.MembershipChange("g", ("ann", "cat"), "CREATED"),
            base.MembershipChange("s", ("ann", "bob"), "CREATED"),
            base.MembershipChange("g", ("bob",), "JOINED"),
            base.MembershipChange("g", ("dan",), "JOINED"),
            base.MembershipChange("g", ("dan",), "JOINED"),
        )
        assert await store.membership_changes(found.position, 10) == base.MembershipChanges(
            found.position, ()
        )
        assert (await store.membership_changes(None, 10)).position == found.position
        assert (await store.membership_changes(0, 1)).changes == (
            base.MembershipChange("before", ("ann", "bob"), "CREATED"),
        )

    async def test_joins_are_read_in_parts_without_loss(self, store: Store) -> None:
        for number in range(10):
            name = f"g{number}"
            await do(store, group(name, "ann", "bob"), add(name, "ann", "cat"), remove(name, "ann", "cat"))
        whole = (await store.membership_changes(0, 100)).changes
        for limit in (1, 2, 3, 7, 20):
            parts: list[base.MembershipChange] = []
            position = 0
            while True:
                part = await store.membership_changes(position, limit)
                assert len(part.changes) <= limit
                parts += part.changes
                position = part.position
                if len(part.changes) < limit:
                    break
            assert tuple(parts) == whole

        assert len(whole) == 20

    async def test_a_refused_change_is_no_join(self, store: Store) -> None:
        start = await store.membership_changes(None, 1)
        await store.commit([add("nowhere", "ann", "bob"), single("s", "ann", "ann")])

        assert (await store.membership_changes(start.position, 10)).changes == ()

    async def test_the_newest_session_of_a_device_has_its_token_in_the_store(self, store: Store) -> None:
        await do(store, device("ann"), device("ann", "tablet"), device("bob"))
        places = [("ann", "phone"), ("bob", "phone"), ("bob", "tablet"), ("ann", "tablet"), ("eve", "phone")]
        first = {place: token(*place) for place in (places[0], places[1], places[3])}
        assert await store.resume_hashes(places) == first

        await do(store, device("ann", at_ms=NOW + 5), resume(token("bob", "phone"), following=b"next"))
        await do(store, base.RenewLogin("ann", "tablet", None, "", NOW + 6))
        newest = {**first, places[0]: token("ann", "phone", NOW + 5), places[1]: b"next"}
        assert await store.resume_hashes(places) == newest
        assert await store.resume_hashes([]) == {}


def token(user: str, device_id: str, at_ms: int = NOW) -> bytes:
    """The digest that `device` opens a session with."""
    return f"{user}/{device_id}/{at_ms}".encode()
