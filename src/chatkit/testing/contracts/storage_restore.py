"""The contract of what a server needs to notice a log that was put back, and to renew it."""

from __future__ import annotations

from ...errors import TokenRevokedError
from ...storage import base
from ...storage.base import Store
from .storage_commands import NOW, add, delivered, device, do, group, refused, remove, resume, send, single


class RestoreContract:
    """How far a log has got, which conversations it has, and the end of all logins."""

    async def test_a_log_that_was_only_opened_is_not_restored(self, store: Store) -> None:
        assert not store.restored
        await do(store, group("g", "ann"))
        assert not store.restored

    async def test_the_position_rises_with_every_entry_and_every_audit_row(self, store: Store) -> None:
        seen = [await store.position()]
        for command in (
            group("g", "ann", "bob"),
            send("g", "ann", "k"),
            add("g", "ann", "cat"),
            remove("g", "ann", "cat"),
            base.RenewEpoch("g", "e2", NOW),
        ):
            await do(store, command)
            seen.append(await store.position())
        assert seen == sorted(set(seen))

    async def test_a_renewed_log_is_beyond_every_position_of_the_former_one(self, store: Store) -> None:
        """What was proved of that one never counts again, however far it had got; it rises as before."""
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"))
        for ahead in (0, 1_000_000):
            proved = await store.position() + ahead
            await store.confirm_restored(proved)
            renewed = await store.position()
            assert renewed > base.next_floor(proved) > proved
            await do(store, send("g", "ann", f"after {ahead}"))
            assert await store.position() == renewed + 1

    async def test_what_writes_neither_leaves_the_position(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"))
        before = await store.position()
        await do(store, send("g", "ann", "k"), device("bob"), delivered("g", "bob", 2))
        assert await store.position() == before

    async def test_every_conversation_is_named_once_in_pages(self, store: Store) -> None:
        names = sorted([f"g{number}" for number in range(7)] + ["s", "A", "z.z"])
        await do(store, *(group(name, "ann") for name in names if name != "s"), single("s", "ann", "bob"))
        found: list[str] = []
        while page := await store.conversation_ids(found[-1] if found else "", 3):
            assert len(page) <= 3
            found += page
        assert found == names

    async def test_the_end_of_all_logins(self, store: Store) -> None:
        """Also of those that the same batch gives before it, and of none that come after it."""
        first = device("ann")
        await do(store, first)
        second = resume(first.resume_hash, following=b"t2")
        await do(store, second, base.EndLogins(NOW), device("bob"))
        await refused(store, resume(first.resume_hash), TokenRevokedError)
        await refused(store, resume(b"t2"), TokenRevokedError)
        hashes = await store.resume_hashes([("ann", "phone"), ("bob", "phone")])
        assert list(hashes) == [("bob", "phone")]
