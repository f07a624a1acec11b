"""Who may not be here: revocations, bans and the end of kept logins. Part of `StoreContract`."""

from __future__ import annotations

from msgspec.structs import replace

from ...core.log.changes import REVOCATION_KEPT_MS
from ...errors import (
    BannedError,
    RateLimitedError,
    TokenExpiredError,
    TokenRevokedError,
    UnavailableError,
)
from ...storage import base
from ...storage.base import Store
from .storage_commands import NOW, ban, confirm, device, do, group, one, refused, resume, revoke, send


def login(
    user: str, device_id: str = "phone", token: bytes = b"login", at_ms: int = NOW, **fields: object
) -> base.OpenSession:
    """A login by a token; its resume token says whose it is."""
    opened = device(user, device_id, at_ms)
    return replace(opened, resume_hash=f"{user}/{device_id}".encode(), token_hash=token, **fields)


class AccessContract:
    """Revocations in a store."""

    async def test_a_users_revocation_withdraws_every_resume_token_of_theirs(self, store: Store) -> None:
        await do(store, login("ann"), login("ann", "tablet"), login("bob"))
        await do(store, revoke("ann"))

        await refused(store, resume(b"ann/phone"), TokenRevokedError)
        await refused(store, resume(b"ann/tablet", "tablet"), TokenRevokedError)
        assert await store.kept_login(b"ann/phone") is None
        assert await store.resume_hashes([("ann", "phone"), ("bob", "phone")]) == {
            ("bob", "phone"): b"bob/phone"
        }
        await do(store, resume(b"bob/phone"))

    async def test_a_devices_revocation_reaches_no_other_device(self, store: Store) -> None:
        await do(store, login("ann"), login("ann", "tablet"), revoke("ann", "phone"))

        await refused(store, resume(b"ann/phone"), TokenRevokedError)
        await refused(store, login("ann", issued_ms=NOW), TokenRevokedError)
        await do(store, resume(b"ann/tablet", "tablet"), login("ann", "pc", issued_ms=NOW))

    async def test_a_revoked_token_never_logs_in_again(self, store: Store) -> None:
        await do(store, login("ann"), login("ann", "tablet"), login("ann", "pc", b"other"))
        await do(store, resume(b"ann/tablet", "tablet", b"again", until_ms=NOW + 99))
        await do(store, revoke(token=b"login", ends_ms=NOW + 500))

        await refused(store, resume(b"ann/phone"), TokenRevokedError)
        await refused(store, resume(b"again", "tablet"), TokenRevokedError)
        await refused(store, login("ann", at_ms=NOW + 400, issued_ms=NOW + 300), TokenRevokedError)
        renewal = base.RenewLogin("ann", "pc", None, "", NOW + 1, b"login")
        await refused(store, renewal, TokenRevokedError)
        await do(store, resume(b"ann/pc", "pc"))

    async def test_tokens_issued_up_to_a_revocation_are_refused_and_later_ones_are_not(
        self, store: Store
    ) -> None:
        await do(store, revoke("ann", at_ms=NOW + 10))

        for issued_ms in (NOW, NOW + 10):
            await refused(store, login("ann", at_ms=NOW + 20, issued_ms=issued_ms), TokenRevokedError)
        await do(store, login("ann", at_ms=NOW + 20, issued_ms=NOW + 11))

    async def test_without_a_time_of_issue_the_host_is_asked_again_if_it_was_asked_before(
        self, store: Store
    ) -> None:
        await do(store, revoke("bob"))
        (before,) = await store.revocations(0, 10)
        await do(store, revoke("ann"))
        (made,) = await store.revocations(before.position, 10)

        await refused(store, login("ann", asked_at=before.position), UnavailableError)
        await do(store, login("ann", asked_at=made.position), login("cat", asked_at=before.position))

    async def test_a_login_in_the_batch_of_its_revocation_does_not_outlive_it(self, store: Store) -> None:
        await do(store, login("ann"), revoke("ann"), login("ann", "tablet"))

        await refused(store, resume(b"ann/phone"), TokenRevokedError)
        await do(store, resume(b"ann/tablet", "tablet"))
        (answer,) = (await store.commit([login("bob"), ban("bob"), resume(b"bob/phone")]))[2:]
        assert isinstance(answer, base.Refused)

    async def test_a_banned_user_stays_out_until_the_ban_is_lifted(self, store: Store) -> None:
        await do(store, login("ann"), ban("ann"))

        await refused(store, login("ann", at_ms=NOW + 50, issued_ms=NOW + 40), BannedError)
        await refused(store, resume(b"ann/phone"), TokenRevokedError)
        await refused(store, base.RenewLogin("ann", "phone", None, "", NOW + 1), BannedError)
        await do(store, ban("ann", lifted=True), login("ann", issued_ms=NOW - 5))

    async def test_a_disconnection_refuses_nobody(self, store: Store) -> None:
        await do(store, login("ann"), base.Revoke("DISCONNECTED", "ann", "", b"", NOW, NOW))

        await do(store, resume(b"ann/phone"), login("ann", issued_ms=NOW, asked_at=0))

    async def test_revocations_are_read_in_order_and_a_newer_one_takes_the_place_of_its_like(
        self, store: Store
    ) -> None:
        await do(store, revoke("ann"), ban("ann"), revoke("ann", "phone"))
        first = await store.revocations(0, 2)
        later = await store.revocations(first[-1].position, 10)
        assert [(it.kind, it.user_id, it.device_id) for it in (*first, *later)] == [
            ("REVOKED", "ann", ""),
            ("BANNED", "ann", ""),
            ("REVOKED", "ann", "phone"),
        ]
        await do(store, ban("ann", lifted=True, at_ms=NOW + 5), revoke(token=b"x", ends_ms=NOW + 9))

        newest = await store.revocations(later[-1].position, 10)
        assert [(it.kind, it.token_hash, it.ends_ms, it.holds) for it in newest] == [
            ("BANNED", b"", 0, False),
            ("REVOKED", b"x", NOW + 9, True),
        ]
        kinds = [it.kind for it in await store.revocations(0, 10)]
        assert kinds == ["REVOKED", "REVOKED", "BANNED", "REVOKED"]

    async def test_what_has_ended_is_forgotten_once_every_node_has_read_it(self, store: Store) -> None:
        await do(store, revoke(token=b"short", ends_ms=NOW + 5), ban("ann", lifted=True), revoke("bob"))
        await do(store, revoke("cat", at_ms=NOW + 5 + REVOCATION_KEPT_MS))
        assert len(await store.revocations(0, 10)) == 3
        await do(store, revoke("dan", at_ms=NOW + 6 + REVOCATION_KEPT_MS))

        assert [it.user_id for it in await store.revocations(0, 10)] == ["bob", "cat", "dan"]

    async def test_every_act_is_audited_in_order(self, store: Store) -> None:
        await do(store, revoke("ann"), revoke("ann", "phone", at_ms=NOW + 1), ban("bob"))
        await do(store, revoke(token=b"x"), ban("bob", lifted=True, at_ms=NOW + 2))
        await do(store, base.Revoke("DISCONNECTED", "cat", "", b"", NOW, NOW))
        rows = await store.acts(base.AuditFilter(), 0, 10)

        assert [(it.action, it.at_ms - NOW, it.subject, it.detail) for it in rows] == [
            ("REVOKED", 0, "ann", {}),
            ("REVOKED", 1, "ann", {"device": "phone"}),
            ("BANNED", 0, "bob", {}),
            ("REVOKED", 0, "", {"token": b"x".hex()}),
            ("UNBANNED", 2, "bob", {}),
            ("DISCONNECTED", 0, "cat", {}),
        ]
        assert {(it.actor_id, it.conversation_id, it.seq) for it in rows} == {("", "", 0)}

    async def test_a_kept_login_ends_unless_the_host_is_asked_again(self, store: Store) -> None:
        await do(store, login("ann"))
        chain = resume(b"ann/phone", following=b"2", until_ms=NOW + 99, at_ms=NOW + 6)
        await do(store, replace(chain, login_max_ms=6))
        late = resume(b"2", following=b"3", until_ms=NOW + 99, at_ms=NOW + 7)
        error = await refused(store, replace(late, login_max_ms=6), TokenExpiredError)
        assert str(error) == "the login must be proved again"

        renewed = replace(late, login_max_ms=6, renewed=base.LoginTerms(NOW + 40, "less"))
        opened = await one(store, renewed, base.SessionOpened)
        assert (opened.identity_expires_ms, opened.scope, opened.token_hash) == (NOW + 40, "less", b"login")
        assert await store.kept_login(b"3") == base.KeptLogin("ann", "phone", NOW + 40, "less")
        following = resume(b"3", following=b"4", until_ms=NOW + 99, at_ms=NOW + 13)
        await do(store, replace(following, login_max_ms=6))

    async def test_a_renewed_login_is_that_of_its_new_token(self, store: Store) -> None:
        await do(store, login("ann"), base.RenewLogin("ann", "phone", None, "", NOW + 1, b"newer"))

        await do(store, revoke(token=b"login"))
        assert await store.kept_login(b"ann/phone") is not None
        await do(store, revoke(token=b"newer"))
        assert await store.kept_login(b"ann/phone") is None

    async def test_an_online_device_is_never_forgotten(self, store: Store) -> None:
        rule = base.DeviceRule(3, ("d0",), 20)
        await do(store, *(device("ann", f"d{n}", NOW + n) for n in range(3)))
        await do(store, base.SeeDevices((("ann", "d1"), ("ann", "none"), ("nobody", "x")), NOW + 80))
        await do(store, replace(device("ann", "new", NOW + 90), rule=rule))

        assert await known(store, "ann") == ["d0", "d1", "new"]
        await refused(store, replace(device("ann", "more", NOW + 91), rule=rule), RateLimitedError)
        await do(store, replace(device("ann", "d0", NOW + 91), rule=rule))
        assert await known(store, "ann") == ["d0", "d1", "new"]

    async def test_a_confirmation_drives_no_online_device_out(self, store: Store) -> None:
        await do(store, device("bob"), group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k"), base.Appended)
        rule = base.DeviceRule(1, ("phone",))
        await refused(
            store, replace(confirm(sent.entry.message_id, "bob", "web"), rule=rule), RateLimitedError
        )

        assert await known(store, "bob") == ["phone"]


async def known(store: Store, user: str) -> list[str]:
    """The devices of a user with a resume token."""
    names = ["phone", "web", "d0", "d1", "d2", "new", "more"]
    return sorted(place[1] for place in await store.resume_hashes([(user, name) for name in names]))
