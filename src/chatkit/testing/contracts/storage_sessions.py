"""Logins, devices, epochs and audit in a store. Part of `StoreContract`."""

from __future__ import annotations

from msgspec.structs import replace

from ...errors import NotFoundError, TokenExpiredError, TokenRevokedError
from ...storage import base
from ...storage.base import Store
from .storage_commands import (
    EPOCH,
    NOW,
    add,
    confirm,
    delivered,
    device,
    do,
    group,
    head,
    one,
    recall,
    refused,
    remove,
    resume,
    send,
    single,
)


class SessionContract:
    """Devices, resume tokens, epochs and audit."""

    async def test_a_session_starts_with_the_users_conversations(self, store: Store) -> None:
        await do(
            store,
            group("h", "ann", "bob"),
            single("g", "bob", "ann"),
            group("x", "bob"),
            send("h", "bob", "k"),
        )
        opened = await one(
            store, base.OpenSession("ann", "phone", b"t", 9, 7, "all", NOW), base.SessionOpened
        )

        assert (opened.user_id, opened.device_id) == ("ann", "phone")
        assert (opened.identity_expires_ms, opened.scope) == (7, "all")
        assert opened.conversations == (
            base.MembershipSnapshot("g", "SINGLE", EPOCH, 1, 2),
            base.MembershipSnapshot("h", "GROUP", EPOCH, 2, 2),
        )

    async def test_a_resume_token_works_once_and_hands_the_login_on(self, store: Store) -> None:
        await do(
            store, group("g", "ann"), base.OpenSession("ann", "phone", b"t1", NOW + 10, NOW + 77, "all", NOW)
        )
        resumed = await one(
            store, resume(b"t1", following=b"t2", until_ms=NOW + 20, at_ms=NOW + 10), base.SessionOpened
        )

        assert (resumed.user_id, resumed.identity_expires_ms, resumed.scope) == ("ann", NOW + 77, "all")
        assert [it.conversation_id for it in resumed.conversations] == ["g"]
        await refused(store, resume(b"t1", following=b"t3"), TokenRevokedError)
        again = await one(store, resume(b"t2", following=b"t4"), base.SessionOpened)
        assert (again.identity_expires_ms, again.scope) == (NOW + 77, "all")

    async def test_a_resume_token_is_bound_and_ends_and_a_failed_try_spends_nothing(
        self, store: Store
    ) -> None:
        await do(store, base.OpenSession("ann", "phone", b"t1", NOW + 10, None, "", NOW))
        foreign = resume(b"t1", "tablet")
        late = resume(b"t1", until_ms=NOW + 20, at_ms=NOW + 11)

        await refused(store, foreign, TokenRevokedError)
        await refused(store, late, TokenRevokedError)
        await do(store, resume(b"t1"))

    async def test_a_resume_token_does_not_outlive_its_login(self, store: Store) -> None:
        await do(
            store, group("g", "ann"), base.OpenSession("ann", "phone", b"t1", NOW + 99, NOW + 10, "", NOW)
        )
        for leeway_ms, at_ms in ((0, NOW + 10), (5, NOW + 15), (5, NOW + 40)):
            late = resume(b"t1", leeway_ms=leeway_ms, at_ms=at_ms)
            error = await refused(store, late, TokenExpiredError)
            assert str(error) == "the login has expired"
        await refused(store, resume(b"t1", "tablet", at_ms=NOW + 40), TokenRevokedError)
        assert (await head(store, "ann", "g", "tablet")).delivered_seq == 0

        in_time = resume(b"t1", following=b"t2", until_ms=NOW + 99, leeway_ms=5, at_ms=NOW + 14)
        await do(store, in_time)
        await refused(store, resume(b"t2", at_ms=NOW + 14), TokenExpiredError)

    async def test_a_renewed_login_goes_with_the_resume_token(self, store: Store) -> None:
        await do(store, base.OpenSession("ann", "phone", b"t1", NOW + 99, NOW + 10, "old", NOW))
        await do(store, base.OpenSession("ann", "tablet", b"t2", NOW + 99, NOW + 10, "old", NOW))
        await do(store, base.RenewLogin("ann", "phone", NOW + 50, "new", NOW + 5))

        resumed = await one(
            store, resume(b"t1", following=b"t3", until_ms=NOW + 99, at_ms=NOW + 49), base.SessionOpened
        )
        assert (resumed.identity_expires_ms, resumed.scope) == (NOW + 50, "new")
        await refused(store, resume(b"t2", "tablet", at_ms=NOW + 49), TokenExpiredError)
        await do(store, base.RenewLogin("ann", "phone", None, "", NOW + 50))
        for_ever = await one(store, resume(b"t3", at_ms=NOW + 90), base.SessionOpened)
        assert (for_ever.identity_expires_ms, for_ever.scope) == (None, "")

    async def test_renewing_a_login_neither_makes_a_device_nor_extends_a_token(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "k"))
        await do(store, base.OpenSession("ann", "phone", b"t1", NOW + 20, None, "", NOW))
        await do(
            store, base.RenewLogin("bob", "phone", None, "", NOW), base.RenewLogin("ann", "pc", 1, "", NOW)
        )
        await do(store, base.RenewLogin("ann", "phone", NOW + 500, "all", NOW), group("h", "bob", "ann"))
        made = (await store.entries("h", 0, 1))[0].message_id
        assert [it.device_id for it in (await store.status(made, "bob", None, 10)).deliveries] == ["phone"]

        name = (await store.page("g", "ann", 1, 1, 1000)).entries[0].message_id
        assert (await store.status(name, "ann", None, 10)).deliveries == ()
        await refused(store, resume(b"t1", at_ms=NOW + 21), TokenRevokedError)

    async def test_a_new_login_replaces_the_devices_token_only(self, store: Store) -> None:
        await do(store, base.OpenSession("ann", "phone", b"p1", NOW + 9, None, "", NOW))
        await do(store, base.OpenSession("ann", "tablet", b"t1", NOW + 9, None, "", NOW))
        await do(store, base.OpenSession("ann", "phone", b"p2", NOW + 9, None, "", NOW))

        await refused(store, resume(b"p1"), TokenRevokedError)
        await do(store, resume(b"t1", "tablet"))

    async def test_a_new_epoch_keeps_old_answers(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        old = await one(store, send("g", "ann", "old"), base.Appended)
        await do(store, base.RenewEpoch("g", "e2", NOW + 1))
        new = await one(store, send("g", "ann", "new"), base.Appended)

        assert (new.entry.seq, new.entry.epoch) == (3, "e2")
        assert "-e2-" in new.entry.message_id
        again = await one(store, send("g", "ann", "old"), base.Appended)
        assert (again.entry, again.repeat) == (old.entry, True)
        page = await store.page("g", "bob", 1, 10, 1000)
        assert [it.epoch for it in page.entries] == ["e2", "e2"]
        assert [it.message_id for it in page.entries] == [old.entry.message_id, new.entry.message_id]
        assert page.epoch == (await head(store, "bob", "g")).epoch == "e2"
        await do(store, recall(old.entry.message_id, "ann"))
        key, _, seq = old.entry.message_id.split("-")
        await refused(store, confirm(f"{key}-e2-{seq}", "bob"), NotFoundError)
        await refused(store, base.RenewEpoch("nowhere", "e2", NOW), NotFoundError)

    async def test_a_new_epoch_keeps_the_answer_of_a_recall(self, store: Store) -> None:
        await do(store, group("g", "ann"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        first = await one(store, recall(sent.entry.message_id, "ann"), base.Recalled)
        await do(store, base.RenewEpoch("g", "e2", NOW + 1))

        again = await one(store, recall(sent.entry.message_id, "ann"), base.Recalled)
        assert (again.entry, again.repeat) == (first.entry, True)

    async def test_privileged_changes_are_audited_in_order(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), add("g", "ann", "dan", "cat"), remove("g", "ann", "bob"))
        sent = await one(store, send("g", "cat", "k", "secret"), base.Appended)
        await do(store, recall(sent.entry.message_id, "cat"), remove("g", "cat", "cat"))
        await do(store, base.RenewEpoch("g", "e2", NOW), group("h", "ann"))
        rows = await store.audit("g")

        assert [(row.action, row.actor_id, row.seq, row.subject) for row in rows] == [
            ("CREATED", "ann", 1, "g"),
            ("ADDED", "ann", 2, "cat"),
            ("ADDED", "ann", 2, "dan"),
            ("REMOVED", "ann", 3, "bob"),
            ("RECALLED", "cat", 5, sent.entry.message_id),
            ("LEFT", "cat", 6, "cat"),
            ("EPOCH_RENEWED", "", 6, "e2"),
        ]
        assert [row.audit_id for row in rows] == sorted(row.audit_id for row in rows)
        assert await store.audit("nowhere") == []

    async def test_audit_rows_say_when_and_where(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), replace(add("g", "ann", "cat"), at_ms=NOW + 1))
        sent = await one(store, send("g", "cat", "k", at_ms=NOW + 2), base.Appended)
        await do(store, recall(sent.entry.message_id, "cat", at_ms=NOW + 3))
        await do(store, replace(remove("g", "ann", "bob"), at_ms=NOW + 4))
        await do(
            store, replace(remove("g", "cat", "cat"), at_ms=NOW + 5), base.RenewEpoch("g", "e2", NOW + 6)
        )

        found = [(row.action, row.at_ms - NOW, row.conversation_id) for row in await store.audit("g")]
        assert found == [
            ("CREATED", 0, "g"),
            ("ADDED", 1, "g"),
            ("RECALLED", 3, "g"),
            ("REMOVED", 4, "g"),
            ("LEFT", 5, "g"),
            ("EPOCH_RENEWED", 6, "g"),
        ]


class DeviceContract:
    """How many devices of a user are kept."""

    async def devices(self, store: Store, name: str) -> list[str]:
        """Bob's devices, from the status of one of ann's messages."""
        return [it.device_id for it in (await store.status(name, "ann", None, 200)).deliveries]

    async def full(self, store: Store) -> tuple[list[str], str]:
        """Bob with as many devices as are kept, seen one after the other, and a message of ann's."""
        names = [f"d{number:02}" for number in range(base.DEVICES_MAX)]
        await do(store, group("g", "ann", "bob"), device("ann"))
        await do(store, *(device("bob", name, NOW + turn) for turn, name in enumerate(names)))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        assert await self.devices(store, sent.entry.message_id) == names
        return names, sent.entry.message_id

    async def test_one_more_forgets_the_longest_unseen(self, store: Store) -> None:
        names, sent = await self.full(store)
        await do(store, device("bob", names[0], NOW + 100))
        renewed = base.RenewLogin("bob", names[2], None, "", NOW + 101)
        resumed = resume(b"bob/d03/%d" % (NOW + 3), names[3], b"d03", until_ms=NOW + 999, at_ms=NOW + 102)
        await do(store, renewed, resumed)
        await do(store, device("bob", "new", NOW + 103), device("bob", "other", NOW + 104))

        kept = [name for name in names if name not in ("d01", "d04")]
        assert await self.devices(store, sent) == [*kept, "new", "other"]
        for number in (1, 4):
            used = b"bob/%s/%d" % (names[number].encode(), NOW + number)
            await refused(store, resume(used, names[number]), TokenRevokedError)
        await do(store, resume(b"bob/d05/%d" % (NOW + 5), "d05"))

    async def test_who_registers_stays_though_its_clock_was_behind(self, store: Store) -> None:
        names, sent = await self.full(store)
        await do(store, device("bob", "early", NOW - 5))

        assert await self.devices(store, sent) == [*names[1:], "early"]

    async def test_a_confirmation_from_an_unknown_device_counts(self, store: Store) -> None:
        names, sent = await self.full(store)
        await do(store, base.ConfirmMessage(sent, "bob", "web", NOW + 100))
        await do(store, delivered("g", "bob", 2, "web2", at_ms=NOW + 101))

        assert await self.devices(store, sent) == [*names[2:], "web", "web2"]

    async def test_other_users_keep_theirs(self, store: Store) -> None:
        await self.full(store)
        await do(store, add("g", "ann", "cat"), device("cat", "old", NOW - 1000))
        await do(store, device("bob", "new", NOW + 100), send("g", "cat", "k"))
        await do(store, delivered("g", "ann", 4))

        name = (await store.page("g", "cat", 3, 1, 1000)).entries[0].message_id
        found = (await store.status(name, "cat", None, 200)).deliveries
        assert [it.user_id for it in found] == ["ann"] + ["bob"] * base.DEVICES_MAX

    async def test_the_outbox_closes_over_what_only_a_forgotten_one_missed(self, store: Store) -> None:
        names, _ = await self.full(store)
        await do(store, delivered("g", "ann", 2), *(delivered("g", "bob", 2, name) for name in names[2:]))
        await do(store, delivered("g", "bob", 1, names[1]))
        assert await store.outbox(9) == [base.OutboxEntry("g", 1, 2, NOW)]
        await do(store, device("bob", "new", NOW + 100))
        assert await store.outbox(9) == [base.OutboxEntry("g", 2, 2, NOW)]
        await do(store, delivered("g", "bob", 2, "newer", at_ms=NOW + 101))
        assert await store.outbox(9) == []

    async def test_it_comes_back_as_a_new_one(self, store: Store) -> None:
        names, first = await self.full(store)
        second = await one(store, send("g", "ann", "k2"), base.Appended)
        await do(store, base.ConfirmMessage(second.entry.message_id, "bob", names[0], NOW))
        await do(store, delivered("g", "bob", 1, names[1]))
        assert (await store.status(second.entry.message_id, "ann", None, 10)).delivered_count == 1
        await do(store, device("bob", "new", NOW + 100))
        assert (await store.status(second.entry.message_id, "ann", None, 10)).delivered_count == 0
        await do(store, device("bob", names[0], NOW + 101))

        assert (await head(store, "bob", "g", names[0])).delivered_seq == 1  # as the farthest other one
        await do(store, base.ConfirmMessage(first, "bob", names[0], NOW + 102))
        assert (await head(store, "bob", "g", names[0])).delivered_seq == 2  # the single confirmation is gone

    async def test_it_is_forgotten_where_its_user_has_left(self, store: Store) -> None:
        names, _ = await self.full(store)
        await do(store, delivered("g", "bob", 2, names[1]), remove("g", "ann", "bob"))
        await do(store, device("bob", "new", NOW + 100), add("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k2"), base.Appended)

        assert await self.devices(store, sent.entry.message_id) == [*names[1:], "new"]

    async def test_one_batch_forgets_as_many_transactions_would(self, store: Store) -> None:
        names, sent = await self.full(store)
        unknown = [f"x{number}" for number in range(base.DEVICES_MAX + 3)]
        await do(
            store,
            *(delivered("g", "bob", 1, name) for name in names),
            *(base.ConfirmMessage(sent, "bob", name, NOW + 100 + turn) for turn, name in enumerate(unknown)),
            delivered("g", "bob", 2, names[7], at_ms=NOW + 999),
        )

        assert await self.devices(store, sent) == [names[7], *sorted(unknown[4:])]
