"""Uploaded files over HTTP: links, uploads that go on, downloads in ranges, and what nobody may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from chatkit import ChatServer, Identity, asgi_app, open_store
from chatkit.archive.memory import MemoryArchive
from chatkit.server.blobs.blob_bytes import PART_BYTES
from chatkit.server.blobs.config import BlobConfig

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
BIG = PNG + b"x" * (2 * PART_BYTES)


async def by_name(token: str) -> Identity:
    return Identity(token)


class World:
    """A server that keeps files, and requests to it."""

    def __init__(self, server: ChatServer, http: httpx.AsyncClient, objects: MemoryArchive) -> None:
        self.server, self.http, self.objects = server, http, objects

    async def reserve(
        self, user: str, data: bytes, key: str = "k", mime: str = "image/png"
    ) -> httpx.Response:
        body = {"key": key, "bytes": len(data), "mime": mime}
        return await self.http.post("/v1/blobs", json=body, headers=as_user(user))

    async def put(self, url: str, data: bytes, offset: int = 0) -> httpx.Response:
        return await self.http.put(url, content=data, headers={"Upload-Offset": str(offset)})

    async def uploaded(self, user: str, data: bytes, key: str = "k", mime: str = "image/png") -> str:
        reserved = (await self.reserve(user, data, key, mime)).json()
        done = await self.put(reserved["url"], data)
        assert (done.status_code, done.json()["state"]) == (200, "READY")
        return str(reserved["blobId"])

    async def send(
        self, user: str, blob_id: str, size: int, kind: str = "IMAGE", mime: str = "image/png"
    ) -> Any:
        content = {"blobId": blob_id, "mime": mime, "bytes": size}
        body = {"conversationId": "g", "clientMsgId": f"{user}/{blob_id}", "type": kind, "content": content}
        return await self.http.post("/v1/messages/send", json=body, headers=as_user(user))

    async def link(self, user: str, blob_id: str) -> httpx.Response:
        return await self.http.get(f"/v1/blobs/{blob_id}", headers=as_user(user))

    async def shown(self, data: bytes = PNG, mime: str = "image/png", kind: str = "IMAGE") -> tuple[str, str]:
        """A file in a message of ann, and ben's link to it."""
        blob_id = await self.uploaded("ann", data, mime=mime)
        assert (await self.send("ann", blob_id, len(data), kind, mime)).status_code == 200
        return blob_id, (await self.link("ben", blob_id)).json()["url"]


def as_user(user_id: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {user_id}"}


@asynccontextmanager
async def world(**config: Any) -> AsyncIterator[World]:
    objects = MemoryArchive()
    server = ChatServer(
        store=open_store("memory://"), authenticate=by_name, blobs=objects, blob_config=BlobConfig(**config)
    )
    transport = httpx.ASGITransport(asgi_app(server))
    async with server, httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        body = {"conversationId": "g", "type": "GROUP", "memberIds": ["ben"]}
        await http.post("/v1/conversations", json=body, headers=as_user("ann"))
        yield World(server, http, objects)


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_a_file_goes_from_one_to_the_other() -> None:
    async with world() as w:
        _, url = await w.shown(BIG)
        got = await w.http.get(url)

    assert (got.status_code, got.content) == (200, BIG)
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-disposition"] == "inline"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert "Bearer" not in url and "ann" not in url


async def test_what_could_run_scripts_is_only_downloaded() -> None:
    page = b"<html><script>alert(1)</script></html>"
    async with world() as w:
        for n, mime in enumerate(
            ("text/html", "image/svg+xml", "application/pdf", "application/octet-stream")
        ):
            data = b"%PDF-1.7" if mime == "application/pdf" else page
            blob_id = await w.uploaded("ann", data, str(n), mime)
            await w.send("ann", blob_id, len(data), "FILE", mime)
            got = await w.http.get((await w.link("ben", blob_id)).json()["url"])
            assert got.headers["content-disposition"] == "attachment"
            assert "sandbox" in got.headers["content-security-policy"]


async def test_a_key_finds_its_file_again() -> None:
    async with world() as w:
        first, again = await w.reserve("ann", PNG), await w.reserve("ann", PNG)
        assert first.json()["blobId"] == again.json()["blobId"]
        await w.put(first.json()["url"], PNG)
        done = (await w.reserve("ann", PNG)).json()
        assert (done["state"], done["receivedBytes"], "url" in done) == ("READY", len(PNG), False)
        assert code(await w.reserve("ann", PNG + b"x")) == (409, "CONFLICT")
        assert (await w.reserve("ben", PNG)).json()["blobId"] != done["blobId"]
        repeated = await w.put(first.json()["url"], PNG)
        assert repeated.json()["state"] == "READY"


async def test_an_upload_goes_on_where_it_was_cut_off() -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield BIG[: PART_BYTES + 1000]

    async with world() as w:
        url = (await w.reserve("ann", BIG)).json()["url"]
        assert code(await w.http.put(url, content=cut())) == (400, "BAD_REQUEST")
        again = (await w.reserve("ann", BIG)).json()
        assert again["receivedBytes"] == PART_BYTES
        assert code(await w.put(url, BIG[PART_BYTES * 2 :], PART_BYTES * 2)) == (409, "CONFLICT")
        assert code(await w.put(url, BIG[10:], 10)) == (409, "CONFLICT")
        done = await w.put(again["url"], BIG[PART_BYTES:], PART_BYTES)
        assert done.json()["state"] == "READY"
        await w.send("ann", done.json()["blobId"], len(BIG))
        got = await w.http.get((await w.link("ben", done.json()["blobId"])).json()["url"])
        assert got.content == BIG


async def test_two_uploads_of_one_file_do_not_mix() -> None:
    other = PNG + b"y" * (2 * PART_BYTES)
    async with world() as w:
        url = (await w.reserve("ann", BIG)).json()["url"]
        await w.put(url, BIG[: PART_BYTES * 2])
        await w.put(url, other[: PART_BYTES * 2])
        assert (await w.reserve("ann", BIG)).json()["receivedBytes"] == 0  # nobody knows which of the two
        assert (await w.put(url, BIG)).json()["state"] == "READY"
        assert len([name for name in w.objects.objects if "/" in name]) == 3


@pytest.mark.parametrize("data", [PNG[:-1], PNG + b"x"])
async def test_fewer_or_more_bytes_than_reserved_are_refused(data: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    async with world() as w:
        url = (await w.reserve("ann", PNG)).json()["url"]
        assert code(await w.put(url, data)) == (400, "BAD_REQUEST")
        assert code(await w.http.put(url, content=chunks())) == (400, "BAD_REQUEST")
        assert (await w.reserve("ann", PNG)).json()["state"] == "PENDING"


async def test_content_that_contradicts_its_type_is_refused() -> None:
    async with world() as w:
        for n, (mime, data) in enumerate(
            (
                ("image/png", b"GIF89a..."),
                ("text/plain", PNG),
                ("image/webp", b"<html>"),
                ("application/pdf", PNG),
            )
        ):
            url = (await w.reserve("ann", data, str(n), mime)).json()["url"]
            answer = await w.put(url, data)
            assert (*code(answer), answer.json()["reason"]) == (400, "BAD_REQUEST", "TYPE")
        assert not w.objects.objects


async def test_size_and_quota() -> None:
    async with world(size_max=10_000, quota_bytes=15_000) as w:
        assert code(await w.reserve("ann", bytes(10_001))) == (413, "TOO_LARGE")
        assert (await w.reserve("ann", bytes(10_000), "1")).status_code == 200
        assert code(await w.reserve("ann", bytes(10_000), "2")) == (413, "QUOTA")
        assert (await w.reserve("ben", bytes(10_000), "2")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"key": "", "bytes": 1, "mime": "image/png"},
        {"key": "k", "bytes": 0, "mime": "image/png"},
        {"key": "k", "bytes": 1, "mime": "png"},
        {"key": "k", "bytes": 1, "mime": "image/png\r\nx: y"},
        {"key": "k", "bytes": 1.5, "mime": "image/png"},
    ],
)
async def test_bad_requests(body: dict[str, Any]) -> None:
    async with world() as w:
        assert code(await w.http.post("/v1/blobs", json=body, headers=as_user("ann"))) == (400, "BAD_REQUEST")


async def test_a_link_is_for_one_file_one_user_and_one_thing() -> None:
    async with world() as w:
        blob_id, url = await w.shown()
        put = (await w.reserve("ann", BIG, "other")).json()["url"]
        other = (await w.reserve("ann", PNG, "third")).json()["blobId"]
        end = url[url.index("signature=") :]
        forged = [
            url.replace("user=ben", "user=ann"),
            url.replace(blob_id, other),
            url.replace("expires=", "expires=9"),
            url.replace("bytes=", "bytes=1"),
            url.replace("image%2Fpng", "text%2Fhtml"),
            url.replace(end, "signature="),
            url.replace(end, "signature=%ff%00"),
            put,
        ]
        for bad in forged:
            assert code(await w.http.get(bad)) == (403, "FORBIDDEN"), bad
        assert code(await w.put(url, PNG)) == (403, "FORBIDDEN")
        assert code(await w.http.get(f"/v1/blobs/{blob_id}/content")) == (400, "BAD_REQUEST")
        assert code(await w.http.get("/v1/blobs/..%5c/content")) == (404, "NOT_FOUND")
        assert code(await w.http.get(f"/v1/blobs/{blob_id}")) == (401, "UNAUTHENTICATED")


async def test_who_sees_no_message_gets_no_link() -> None:
    async with world() as w:
        blob_id = await w.uploaded("ann", PNG)
        assert code(await w.link("ann", blob_id)) == (404, "NOT_FOUND")
        assert code(await w.send("ben", blob_id, len(PNG))) == (404, "NOT_FOUND")
        assert code(await w.send("ann", blob_id, 1)) == (400, "BAD_REQUEST")
        await w.send("ann", blob_id, len(PNG))
        assert (await w.link("ben", blob_id)).status_code == 200
        assert code(await w.link("cat", blob_id)) == code(await w.link("cat", "0" * 32)) == (404, "NOT_FOUND")


async def test_a_recall_ends_the_links_that_were_given() -> None:
    async with world() as w:
        blob_id = await w.uploaded("ann", PNG)
        sent = (await w.send("ann", blob_id, len(PNG))).json()
        url = (await w.link("ben", blob_id)).json()["url"]
        await w.http.post(f"/v1/messages/{sent['messageId']}/recall", headers=as_user("ann"))
        assert code(await w.http.get(url)) == (404, "NOT_FOUND")
        assert code(await w.link("ben", blob_id)) == (404, "NOT_FOUND")


async def test_a_banned_user_has_no_links() -> None:
    async with world() as w:
        _, url = await w.shown()
        await w.server.ban("ben")
        assert code(await w.http.get(url)) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        (f"bytes={PART_BYTES - 5}-{PART_BYTES + 5}", PART_BYTES - 5, PART_BYTES + 5),
        (f"bytes={len(BIG) - 3}-", len(BIG) - 3, len(BIG) - 1),
        ("bytes=-7", len(BIG) - 7, len(BIG) - 1),
        ("bytes=5-99999999999", 5, len(BIG) - 1),
    ],
)
async def test_a_part_of_a_file(asked: str, first: int, last: int) -> None:
    async with world() as w:
        _, url = await w.shown(BIG)
        got = await w.http.get(url, headers={"Range": asked})

    assert (got.status_code, got.content) == (206, BIG[first : last + 1])
    assert got.headers["content-range"] == f"bytes {first}-{last}/{len(BIG)}"


@pytest.mark.parametrize(
    "asked", ["bytes=", "bytes=-", "bytes=5-4", "lines=0-1", "bytes=0-1,3-4", "bytes=" + "9" * 500 + "-", "x"]
)
async def test_what_is_no_range_gets_the_whole(asked: str) -> None:
    async with world() as w:
        _, url = await w.shown()
        got = await w.http.get(url, headers={"Range": asked})
        assert (got.status_code, got.content) == (200, PNG)
        etag = {"If-Range": '"another"', "Range": "bytes=0-1"}
        assert (await w.http.get(url, headers=etag)).status_code == 200


@pytest.mark.parametrize("asked", [f"bytes={len(PNG)}-", "bytes=-0"])
async def test_a_range_behind_the_end(asked: str) -> None:
    async with world() as w:
        _, url = await w.shown()
        got = await w.http.get(url, headers={"Range": asked})
        assert (got.status_code, got.headers["content-range"]) == (416, f"bytes */{len(PNG)}")
        head = await w.http.head(url)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(PNG)), b"")


async def test_a_damaged_part_is_never_served_as_the_file(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as w:
        _, url = await w.shown()
        (name,) = w.objects.objects
        w.objects.objects[name] = b"something else"
        assert code(await w.http.get(url)) == (500, "INTERNAL")
        del w.objects.objects[name]
        assert code(await w.http.get(url)) == (500, "INTERNAL")


async def test_a_server_without_a_place_for_files_keeps_none() -> None:
    server = ChatServer(store=open_store("memory://"), authenticate=by_name)
    transport = httpx.ASGITransport(asgi_app(server))
    async with server, httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        body = {"key": "k", "bytes": 1, "mime": "image/png"}
        assert code(await http.post("/v1/blobs", json=body, headers=as_user("ann"))) == (404, "NOT_FOUND")
        await http.post(
            "/v1/conversations",
            json={"conversationId": "g", "type": "GROUP", "memberIds": []},
            headers=as_user("ann"),
        )
        content = {"blobId": "elsewhere", "mime": "x/y", "bytes": 1}
        message = {"conversationId": "g", "clientMsgId": "k", "type": "FILE", "content": content}
        assert (await http.post("/v1/messages/send", json=message, headers=as_user("ann"))).status_code == 200


async def test_the_rest_of_a_refused_upload_is_read_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatkit.gateway.blobs_api.UNREAD_BYTES_MAX", 10_000)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1_000)

    async with world() as w:
        url = (await w.reserve("ann", BIG)).json()["url"]
        refused = await w.http.put(url + "x", content=endless())

    assert code(refused) == (403, "FORBIDDEN")
    assert refused.headers["connection"] == "close"
    assert taken == 10
