"""Uploaded files, what names them, and their collection: what media asks of a store. Beside `StoreContract`."""

from __future__ import annotations

import hashlib
from typing import Protocol

import pytest

from ...errors import BadRequestError, ConflictError, NotFoundError, QuotaError
from ...storage import base
from ...storage.base import DROPPED_KEEP_MS, BlobRow, DueBlob
from .storage_commands import NOW, add, do, group, one, recall, refused, remove, send, single, text

KEEP_MS = 86_400_000
QUOTA = 100_000
_HELD_MS = 600_000
_GRACE_MS = 3_600_000
_PARTS = hashlib.sha256(b"part").digest()


class BlobStore(base.Store, base.BlobReader, base.ModerationReader, base.PersonReader, Protocol):
    """A store with that ability."""


def reserve(
    blob_id: str, owner: str, key: str, *, size: int = 5_000, mime: str = "image/png", at_ms: int = NOW
) -> base.ReserveBlob:
    """Room for a file."""
    return base.ReserveBlob(blob_id, owner, key, size, mime, at_ms, QUOTA, KEEP_MS)


def payload_of(blob_id: str, *, kind: str = "IMAGE", mime: str = "image/png", size: int = 5_000) -> bytes:
    """The canonical payload of a message that names a file."""
    return b'{"blobId":"%s","bytes":%d,"mime":"%s","type":"%s"}' % (
        blob_id.encode(), size, mime.encode(), kind.encode(),
    )  # fmt: skip


def show(conversation_id: str, sender: str, key: str, payload: bytes) -> base.Append:
    """A message that a server sends which keeps files."""
    mac = hashlib.sha256(payload).digest()
    return base.Append(conversation_id, sender, key, payload, mac, NOW, blobs=True)


def collect(due: list[DueBlob], at_ms: int) -> base.CollectBlobs:
    """A turn of the collector."""
    return base.CollectBlobs(tuple(due), at_ms, _HELD_MS, _GRACE_MS)


async def received(store: BlobStore, blob_id: str, owner: str, *, at_ms: int = NOW) -> None:
    """A file that is there as a whole."""
    await do(store, reserve(blob_id, owner, f"key of {blob_id}", at_ms=at_ms))
    await do(store, base.FinishBlob(blob_id, _PARTS))


async def collected(store: BlobStore, at_ms: int) -> base.BlobsCollected:
    """Look at everything that is due."""
    return await one(store, collect(await store.due_blobs(at_ms, 1000), at_ms), base.BlobsCollected)


class BlobContract:
    """Files in a store: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    # --- uploads ---

    async def test_a_key_makes_one_file(self, store: BlobStore) -> None:
        made = await one(store, reserve("b1", "ann", "k"), base.BlobReserved)
        again = await one(store, reserve("b2", "ann", "k"), base.BlobReserved)
        assert made.row == BlobRow("b1", "ann", "k", 5_000, "image/png", "PENDING", NOW, b"")
        assert again.row == made.row == await store.upload("b1")
        assert await store.upload("b2") is None
        assert (await one(store, reserve("b3", "bob", "k"), base.BlobReserved)).row.blob_id == "b3"
        await refused(store, reserve("b4", "ann", "k", size=5_001), ConflictError)
        await refused(store, reserve("b4", "ann", "k", mime="image/gif"), ConflictError)

    async def test_whoever_finishes_first_says_what_a_file_is(self, store: BlobStore) -> None:
        await do(store, reserve("b1", "ann", "k"))
        other = hashlib.sha256(b"other").digest()
        assert (await one(store, base.FinishBlob("b1", _PARTS), base.BlobReserved)).row.parts == _PARTS
        again = await one(store, base.FinishBlob("b1", other), base.BlobReserved)
        assert (again.row.state, again.row.parts) == ("READY", _PARTS)
        await refused(store, base.FinishBlob("none", _PARTS), NotFoundError)

    async def test_a_user_has_a_quota(self, store: BlobStore) -> None:
        await do(store, reserve("b1", "ann", "1", size=60_000), reserve("b2", "ann", "2", size=40_000))
        await refused(store, reserve("b3", "ann", "3", size=1), QuotaError)
        await do(store, reserve("b1", "ann", "1", size=60_000), reserve("b4", "bob", "4", size=QUOTA))
        outcomes = await store.commit([reserve(f"c{n}", "cat", str(n), size=1) for n in range(30)])
        made = [it for it in outcomes if isinstance(it, base.BlobReserved)]
        assert len(made) == QUOTA // base.CHARGE_MIN

    # --- messages that name one ---

    async def test_only_what_was_received_may_be_sent_and_only_as_it_is(self, store: BlobStore) -> None:
        await do(store, group("g", "ann", "bob"), reserve("b1", "ann", "k"))
        error = await refused(store, show("g", "ann", "m", payload_of("b1")), NotFoundError)
        assert error.reason == "BLOB"
        await do(store, base.FinishBlob("b1", _PARTS))
        for payload in (
            payload_of("b1", size=4_999),
            payload_of("b1", mime="image/gif"),
            payload_of("b1", kind="VOICE"),
        ):
            await refused(store, show("g", "ann", "m", payload), BadRequestError)
        await refused(store, show("g", "ann", "m", payload_of("b2")), NotFoundError)
        await refused(store, show("g", "bob", "m", payload_of("b1")), NotFoundError)
        await do(store, show("g", "ann", "m", payload_of("b1")))
        await do(store, show("g", "ann", "n", payload_of("b1", kind="FILE")))
        await do(
            store,
            show("g", "ann", "o", b'{"schema":"s","type":"CUSTOM","data":{"blobId":7},"fallbackText":""}'),
        )

    async def test_where_no_files_are_kept_nothing_is_looked_up(self, store: BlobStore) -> None:
        payload = payload_of("somewhere else")
        await do(store, group("g", "ann"))
        await do(store, base.Append("g", "ann", "m", payload, b"mac", NOW))

    async def test_who_sees_a_message_sees_its_file(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann", "bob", "cat"), single("s", "ann", "dan"))
        assert await store.blob("b1", "ann") is None
        await do(store, show("g", "ann", "m", payload_of("b1")))
        await do(store, add("g", "ann", "eve"), remove("g", "ann", "cat"))
        seen = {
            user: (await store.blob("b1", user)) is not None for user in ("ann", "bob", "cat", "dan", "eve")
        }
        assert seen == {"ann": True, "bob": True, "cat": False, "dan": False, "eve": False}
        await do(store, show("s", "ann", "m", payload_of("b1")))
        assert await store.blob("b1", "dan") is not None
        assert await store.blob("b2", "ann") is None

    async def test_what_one_sees_one_may_pass_on(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(
            store, group("g", "ann", "bob"), group("h", "bob", "cat"), show("g", "ann", "m", payload_of("b1"))
        )
        await do(store, show("h", "bob", "m", payload_of("b1")))
        assert await store.blob("b1", "cat") is not None

    async def test_a_recall_takes_the_file_away(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann", "bob"), group("h", "bob"))
        sent = await one(store, show("g", "ann", "m", payload_of("b1")), base.Appended)
        await do(store, recall(sent.entry.message_id, "ann"))
        assert await store.blob("b1", "bob") is None
        await refused(store, show("h", "bob", "m", payload_of("b1")), NotFoundError)
        assert await one(
            store, show("g", "ann", "m", payload_of("b1")), base.Appended
        )  # its own key, as ever

    async def test_a_recall_in_the_batch_of_the_message_takes_it_away(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann", "bob"))
        await do(store, show("g", "ann", "m", payload_of("b1")), recall("1-e1-2", "ann"))
        assert await store.blob("b1", "bob") is None
        assert await collected(store, NOW + KEEP_MS) == base.BlobsCollected(("b1",), ())

    async def test_an_edit_may_show_a_file_and_goes_with_its_message(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await received(store, "b2", "bob")
        await do(store, group("g", "ann", "bob"), send("g", "ann", "m"))
        edit = b'{"messageId":"1-e1-2","payload":%s,"seq":2,"type":"EDIT"}'
        await refused(store, show("g", "ann", "e", edit % payload_of("b2")), NotFoundError)
        await do(store, show("g", "ann", "e", edit % payload_of("b1")))
        assert await store.blob("b1", "bob") is not None
        assert await collected(store, NOW + KEEP_MS) == base.BlobsCollected(("b2",), ())
        await do(store, recall("1-e1-2", "ann"))
        assert await store.blob("b1", "bob") is None
        assert (await collected(store, NOW + KEEP_MS)).going == ("b1",)

    async def test_an_expired_message_shows_no_file(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(
            store, group("g", "ann", "bob"), show("g", "ann", "m", payload_of("b1")), send("g", "ann", "n")
        )
        await do(store, base.Expire("g", 2, None, NOW))
        assert await store.blob("b1", "bob") is None
        assert (await collected(store, NOW + DROPPED_KEEP_MS)).going == ("b1",)

    # --- the collector ---

    async def test_an_upload_that_nothing_names_goes_after_a_while(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, reserve("b2", "ann", "pending"))
        assert await store.due_blobs(NOW + KEEP_MS - 1, 10) == []
        found = await collected(store, NOW + KEEP_MS)
        assert sorted(found.going) == ["b1", "b2"]
        assert found.gone == ()
        row = await store.upload("b1")
        assert row is not None
        assert (row.state, row.upload_key) == ("GOING", None)
        await do(store, group("g", "ann"))
        await refused(store, show("g", "ann", "m", payload_of("b1")), NotFoundError)
        await refused(store, base.FinishBlob("b2", _PARTS), NotFoundError)

    async def test_a_file_that_goes_makes_room_and_its_key_begins_another(self, store: BlobStore) -> None:
        await do(store, reserve("b1", "ann", "k", size=QUOTA))
        await collected(store, NOW + KEEP_MS)
        made = await one(store, reserve("b2", "ann", "k", size=QUOTA), base.BlobReserved)
        assert made.row.blob_id == "b2"

    async def test_it_is_forgotten_once_nobody_can_write_it_any_more(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        going_ms = NOW + KEEP_MS
        await collected(store, going_ms)
        assert await store.due_blobs(going_ms + _GRACE_MS - 1, 10) == []
        for _ in range(2):  # until it is forgotten it is said again
            found = await collected(store, going_ms + _GRACE_MS)
            assert [it.blob_id for it in found.gone] == ["b1"]
        await do(store, base.ForgetBlobs(found.gone))
        assert await store.upload("b1") is None
        assert await store.due_blobs(going_ms * 2, 10) == []
        await do(store, base.ForgetBlobs(found.gone))

    async def test_what_is_stuck_makes_way_and_is_looked_at_again(self, store: BlobStore) -> None:
        """Once, however many collectors say so."""
        for n in range(3):
            await received(store, f"b{n}", "ann", at_ms=NOW + n)
        await collected(store, NOW + 2 * KEEP_MS)
        stuck_ms = NOW + 2 * KEEP_MS + _GRACE_MS
        (first, *_) = await store.due_blobs(stuck_ms, 1)
        for _ in range(2):
            await do(store, base.ForgetBlobs((), (first,), stuck_ms))
        others = [it.blob_id for it in await store.due_blobs(stuck_ms + _GRACE_MS - 1, 10)]
        assert sorted([first.blob_id, *others]) == ["b0", "b1", "b2"]
        await do(store, base.ForgetBlobs((await collected(store, stuck_ms)).gone))
        found = await collected(store, stuck_ms + _GRACE_MS)
        assert [it.blob_id for it in found.gone] == [first.blob_id]
        await do(store, base.ForgetBlobs(found.gone))
        await do(store, base.ForgetBlobs((), found.gone, stuck_ms + _GRACE_MS))
        assert await store.upload(first.blob_id) is None
        assert await store.due_blobs(stuck_ms * 2, 10) == []

    async def test_what_a_message_names_is_kept(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann", "bob"), show("g", "ann", "m", payload_of("b1")))
        sent = await one(store, show("g", "ann", "n", payload_of("b1")), base.Appended)
        assert await collected(store, NOW + KEEP_MS) == base.BlobsCollected((), ())
        assert await store.due_blobs(NOW + 10 * KEEP_MS, 10) == []
        await do(store, recall(sent.entry.message_id, "ann"))
        assert await collected(store, NOW + 2 * KEEP_MS) == base.BlobsCollected((), ())
        await do(store, recall("1-e1-2", "ann"))
        assert (await collected(store, NOW + 2 * KEEP_MS)).going == ("b1",)

    async def test_a_message_in_the_batch_of_the_collector_keeps_its_file(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann"))
        due = await store.due_blobs(NOW + KEEP_MS, 10)
        outcomes = await do(store, show("g", "ann", "m", payload_of("b1")), collect(due, NOW + KEEP_MS))
        assert outcomes[1] == base.BlobsCollected((), ())
        assert await store.blob("b1", "ann") is not None

    async def test_a_message_after_the_collector_finds_no_file(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann"))
        due = await store.due_blobs(NOW + KEEP_MS, 10)
        outcomes = await store.commit([collect(due, NOW + KEEP_MS), show("g", "ann", "m", payload_of("b1"))])
        assert outcomes[0] == base.BlobsCollected(("b1",), ())
        assert isinstance(outcomes[1], base.Refused)
        assert await store.blob("b1", "ann") is None

    @pytest.mark.parametrize("later_ms", [NOW + 3_600_000, NOW + KEEP_MS], ids=["in an hour", "in a day"])
    async def test_who_asks_again_keeps_a_file_that_was_recalled(
        self, store: BlobStore, later_ms: int
    ) -> None:
        """Nothing is collected between an upload that finds its file and the message that names it."""
        await received(store, "b1", "ann")
        await do(store, group("g", "ann"), show("g", "ann", "m", payload_of("b1")))
        await collected(store, later_ms)
        await do(store, recall("1-e1-2", "ann"), reserve("b2", "ann", "key of b1", at_ms=later_ms))
        assert await collected(store, later_ms) == base.BlobsCollected((), ())
        assert (await collected(store, later_ms + DROPPED_KEEP_MS)).going == ("b1",)

    async def test_two_collectors_see_the_same(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        due = await store.due_blobs(NOW + KEEP_MS, 10)
        first = await one(store, collect(due, NOW + KEEP_MS), base.BlobsCollected)
        second = await one(store, collect(due, NOW + KEEP_MS + 1), base.BlobsCollected)
        assert (first.going, second.going, second.gone) == (("b1",), (), ())
        found = await collected(store, NOW + KEEP_MS + _GRACE_MS)
        assert [it.blob_id for it in found.gone] == ["b1"]

    async def test_what_is_due_comes_in_order_and_bounded(self, store: BlobStore) -> None:
        for n, at_ms in enumerate((NOW + 2, NOW, NOW + 1)):
            await received(store, f"b{n}", "ann", at_ms=at_ms)
        due = await store.due_blobs(NOW + KEEP_MS + 1, 10)
        assert [it.blob_id for it in due] == ["b1", "b2"]
        assert [it.blob_id for it in await store.due_blobs(NOW + KEEP_MS + 9, 2)] == ["b1", "b2"]

    # --- held messages, and users who are erased ---

    async def test_a_held_message_keeps_its_file(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann", "bob"))
        plain = show("g", "ann", "m", payload_of("b1"))
        verdict = base.Verdict("HOLD", reason="look")
        held = base.ModeratedAppend(
            "g", "ann", "m", plain.payload, plain.payload_mac, NOW, blobs=True, verdict=verdict
        )
        await do(store, held)
        assert await collected(store, NOW + KEEP_MS) == base.BlobsCollected((), ())
        (record,) = await store.held_messages(0, 10)
        await do(store, base.Review(record.held_id, "g", "ann", None, True, NOW))
        assert await store.blob("b1", "bob") is not None
        later_ms = NOW + KEEP_MS + _HELD_MS
        assert await collected(store, later_ms) == base.BlobsCollected((), ())
        assert await store.due_blobs(later_ms * 2, 10) == []

    async def test_a_moderated_message_is_held_to_the_same(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann", "bob"))
        for sender, error in (("bob", NotFoundError), ("ann", None)):
            plain = show("g", sender, "m", payload_of("b1"))
            command = base.ModeratedAppend(
                "g",
                sender,
                "m",
                plain.payload,
                plain.payload_mac,
                NOW,
                blobs=True,
                verdict=base.Verdict("ALLOW"),
            )
            if error is not None:
                await refused(store, command, error)
            else:
                await do(store, command)
        assert await store.blob("b1", "bob") is not None

    async def test_a_moderator_that_takes_the_file_out_keeps_none(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await do(store, group("g", "ann", "bob"))
        plain = show("g", "ann", "m", payload_of("b1"))
        verdict = base.Verdict("ALLOW", payload=text("blanked"))
        command = base.ModeratedAppend(
            "g", "ann", "m", plain.payload, plain.payload_mac, NOW, blobs=True, verdict=verdict
        )
        await do(store, command)
        assert await store.blob("b1", "bob") is None
        assert (await collected(store, NOW + KEEP_MS)).going == ("b1",)

    async def test_an_erased_user_leaves_what_messages_name_and_nothing_else(self, store: BlobStore) -> None:
        await received(store, "b1", "ann")
        await received(store, "b2", "ann")
        await received(store, "b3", "bob")
        await do(store, group("g", "ann", "bob"), show("g", "ann", "m", payload_of("b1")))
        await do(
            store, base.BeginErasure("ann", False, None, NOW), base.EndErasure("ann", False, None, 1, 0, NOW)
        )
        assert (await collected(store, NOW)).going == ("b2",)
        assert await store.blob("b1", "bob") is not None
