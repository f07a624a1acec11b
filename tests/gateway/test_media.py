"""Files through the SDK, on a real port: there and back, progress, and going on after a cut."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from chatkit import (
    ChatApi,
    ChatClient,
    ChatServer,
    Identity,
    MessageReceived,
    asgi_app,
    open_archive,
    open_store,
)
from chatkit.archive.memory import MemoryArchive
from chatkit.client._http import Http
from chatkit.errors import (
    BadRequestError,
    ConfigurationError,
    ConnectionLostError,
    ForbiddenError,
    NotFoundError,
    QuotaError,
    TooLargeError,
)
from chatkit.server.blobs.blob_bytes import PART_BYTES
from chatkit.server.blobs.config import BlobConfig
from chatkit.types import Message
from chatkit.wire import http as wire
from tests.servers.process import ServerProcess
from tests.servers.s3 import KEY, make_bucket, s3_server

from .test_mounting import running

__all__ = ["s3_server"]

SOON_S = 20.0
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
BIG = PNG + bytes(5 * PART_BYTES)


async def by_name(token: str) -> Identity:
    return Identity(token)


class World:
    """A server on a real port, with a conversation of ann and ben."""

    def __init__(self, port: int, objects: MemoryArchive) -> None:
        self.url, self.objects = f"http://127.0.0.1:{port}", objects

    def client(self, user: str) -> ChatClient:
        return ChatClient(self.url, token=user, device_id="phone")

    def api(self, user: str, **options: Any) -> ChatApi:
        return ChatApi(self.url, token=user, **options)


@asynccontextmanager
async def world(**config: Any) -> AsyncIterator[World]:
    objects = MemoryArchive()
    server = ChatServer(
        store=open_store("memory://"), authenticate=by_name, blobs=objects, blob_config=BlobConfig(**config)
    )
    async with server, running(asgi_app(server)) as port:
        w = World(port, objects)
        async with w.api("ann") as api:
            await api.create_conversation("GROUP", ["ben"], conversation_id="g")
        yield w


async def received(client: ChatClient) -> Message:
    with anyio.fail_after(SOON_S):
        async for event in client.events():
            if isinstance(event, MessageReceived) and event.message.type != "MEMBER":
                return event.message
    raise AssertionError("the events ended")


class Cuts:
    """Breaks transfers after so many chunks, a few times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, times: int) -> None:
        self.after, self.times, self.tried = after, times, 0
        put, get = Http.put, Http.get

        async def cut(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            self.tried += 1
            n = 0
            async for chunk in chunks:
                if n == self.after and self.tried <= self.times:
                    raise ConnectionLostError("cut")
                n += 1
                yield chunk

        async def put_cut(http: Http, link: str, chunks: Any, headers: Any, answer: Any) -> Any:
            return await put(http, link, cut(chunks), headers, answer)

        @asynccontextmanager
        async def get_cut(http: Http, link: str, headers: Any) -> Any:
            async with get(http, link, headers) as (status, chunks):
                yield status, cut(chunks)

        monkeypatch.setattr(Http, "put", put_cut)
        monkeypatch.setattr(Http, "get", get_cut)


async def test_a_file_goes_from_one_to_the_other(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(BIG)
    steps: list[tuple[int, int]] = []
    async with world() as w, w.client("ann") as ann, w.client("ben") as ben:
        sent = await ann.send_file(
            "g", tmp_path / "cat.png", on_progress=lambda done, whole: steps.append((done, whole))
        )
        again = await ann.send_file("g", tmp_path / "cat.png", client_msg_id=sent.client_msg_id)
        message = await received(ben)
        came = await ben.download(message, tmp_path / "got.png")
        in_memory = await ben.download(str(message.payload["blobId"]))

    assert again.message_id == sent.message_id == message.message_id
    assert message.payload == {
        "type": "IMAGE",
        "blobId": message.payload["blobId"],
        "mime": "image/png",
        "bytes": len(BIG),
        "name": "cat.png",
    }
    assert came == tmp_path / "got.png"
    assert (tmp_path / "got.png").read_bytes() == in_memory == BIG
    assert sorted(it.name for it in tmp_path.iterdir()) == ["cat.png", "got.png"]
    assert steps == sorted(steps) and steps[-1] == (len(BIG), len(BIG)) and len(steps) > 10


async def test_the_same_content_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w, w.api("ann") as ann:
        first = await ann.upload(BIG, name="a.png")
        monkeypatch.setattr(Http, "put", None)
        again = await ann.upload(BIG, name="b.png")

    assert (again.blob_id, again.name) == (first.blob_id, "b.png")


async def test_what_was_cut_off_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with world() as w, w.api("ann", timeout_s=5) as ann:
        cuts = Cuts(monkeypatch, 20, 3)  # each of them is more than a part
        uploaded = await ann.upload(BIG)
        assert cuts.tried == 4
        await ann.send("g", uploaded.payload())
        cuts.tried = 0
        await ann.download(uploaded.blob_id, tmp_path / "got")
        assert cuts.tried == 4

    assert (tmp_path / "got").read_bytes() == BIG


async def test_what_came_damaged_is_fetched_again_and_is_nobodys_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    get, damaged = Http.get, 1

    @asynccontextmanager
    async def get_damaged(http: Http, link: str, headers: Any) -> Any:
        async def spoilt(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            nonlocal damaged
            async for chunk in chunks:
                yield bytes([chunk[0] ^ 1]) + chunk[1:] if damaged > 0 else chunk
                damaged -= 1

        async with get(http, link, headers) as (status, chunks):
            yield status, spoilt(chunks)

    monkeypatch.setattr(Http, "get", get_damaged)
    async with world() as w, w.api("ann") as ann:
        uploaded = await ann.upload(BIG)
        await ann.send("g", uploaded.payload())
        assert (await ann.download(uploaded.blob_id)).count(0) == BIG.count(0)
        damaged = 1
        await ann.download(uploaded.blob_id, tmp_path / "got")
        damaged = 1_000_000
        monkeypatch.setattr("chatkit.client.media._FUTILE_MAX", 2)
        with pytest.raises(ConnectionLostError, match="damaged"):
            await ann.download(uploaded.blob_id, tmp_path / "not")

    assert (tmp_path / "got").read_bytes() == BIG
    assert names(tmp_path) == ["got"]


async def test_what_an_earlier_download_left_is_checked_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with world() as w, w.api("ann") as ann:
        uploaded = await ann.upload(BIG)
        await ann.send("g", uploaded.payload())
        with monkeypatch.context() as patched:
            patched.setattr("chatkit.client.media._FUTILE_MAX", 1)
            Cuts(patched, 20, 1)
            with pytest.raises(ConnectionLostError):
                await ann.download(uploaded.blob_id, tmp_path / "got")
        (part,) = tmp_path.iterdir()
        part.write_bytes(b"x" + part.read_bytes()[1:])
        await ann.download(uploaded.blob_id, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == BIG


async def test_what_gets_no_further_is_given_up_and_goes_on_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with world() as w, w.api("ann", timeout_s=5) as ann:
        cuts = Cuts(monkeypatch, 1, 1_000)
        with pytest.raises(ConnectionLostError, match="cut"):
            await ann.upload(BIG)
        assert cuts.tried == 5
        cuts.times = 0
        uploaded = await ann.upload(BIG)
        await ann.send("g", uploaded.payload())
        cuts.times = cuts.tried + 1
        cuts.after = 3
        monkeypatch.setattr("chatkit.client.media._FUTILE_MAX", 1)
        with pytest.raises(ConnectionLostError):
            await ann.download(uploaded.blob_id, tmp_path / "got")
        (part,) = tmp_path.iterdir()
        assert part.stat().st_size > 0
        await ann.download(uploaded.blob_id, tmp_path / "got")

    assert [it.name for it in tmp_path.iterdir()] == ["got"]
    assert (tmp_path / "got").read_bytes() == BIG


async def test_what_is_refused_is_said_and_not_tried_again(tmp_path: Path) -> None:
    async with world(size_max=100_000, quota_bytes=150_000) as w, w.api("ann") as ann:
        with pytest.raises(BadRequestError, match="empty"):
            await ann.upload(b"")
        with pytest.raises(BadRequestError, match="not of type image/gif"):
            await ann.upload(PNG, mime="image/gif")
        with pytest.raises(ConfigurationError, match="cannot read"):
            await ann.upload(tmp_path / "none")
        with pytest.raises(TooLargeError):
            await ann.upload(bytes(100_001))
        await ann.upload(bytes(100_000))
        with pytest.raises(QuotaError):
            await ann.upload(bytes(60_000))
        with pytest.raises(NotFoundError):
            await ann.download("0" * 32)
        with pytest.raises(BadRequestError, match="no uploaded file"):
            await ann.download(Message("g", 1, "m", "ann", 0, {"type": "TEXT", "text": "x"}))


async def test_types_come_from_the_content_first() -> None:
    async with world() as w, w.api("ann") as ann:
        found = [
            (await ann.upload(data, name=name)).payload()
            for data, name in (
                (PNG, "a.txt"),
                (b"ID3" + bytes(10), None),
                (b"hello", "a.txt"),
                (b"hello", None),
                (b"<svg/>", "a.svg"),
            )
        ]

    assert [(it["type"], it["mime"]) for it in found] == [
        ("IMAGE", "image/png"),
        ("VOICE", "audio/mpeg"),
        ("FILE", "text/plain"),
        ("FILE", "application/octet-stream"),
        ("IMAGE", "image/svg+xml"),
    ]


async def test_files_in_a_folder(tmp_path: Path) -> None:
    server = ChatServer(
        store=open_store(f"sqlite:///{tmp_path}/chat.db"),
        authenticate=by_name,
        blobs=open_archive(f"file://{tmp_path}/files"),
    )
    async with (
        server,
        running(asgi_app(server)) as port,
        ChatApi(f"http://127.0.0.1:{port}", token="ann") as api,
    ):
        await api.create_conversation("GROUP", ["ben"], conversation_id="g")
        uploaded = await api.upload(BIG)
        await api.send("g", uploaded.payload())
        assert await api.download(uploaded.blob_id) == BIG
    assert len([it for it in (tmp_path / "files").rglob("*") if it.is_file()]) == 6


async def test_files_in_a_bucket(s3_server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    make_bucket(s3_server, "files-of-users")
    objects = open_archive(f"s3://files-of-users/chat?endpoint=http://127.0.0.1:{s3_server.port}")
    server = ChatServer(store=open_store("memory://"), authenticate=by_name, blobs=objects)
    async with (
        server,
        running(asgi_app(server)) as port,
        ChatApi(f"http://127.0.0.1:{port}", token="ann") as api,
    ):
        await api.create_conversation("GROUP", ["ben"], conversation_id="g")
        uploaded = await api.upload(BIG)
        sent = await api.send("g", uploaded.payload())
        assert await api.download(uploaded.blob_id) == BIG
        assert len(await objects.names("blobs/", "", 100)) == 6
        await api.recall(sent.message_id)
        assert server.blob_service is not None
        await server.blob_service.bytes.delete(uploaded.blob_id)
        assert await objects.names("", "", 100) == []
    await objects.aclose()


async def test_a_server_below_a_prefix_gives_links_that_lead_to_it() -> None:
    server = ChatServer(store=open_store("memory://"), authenticate=by_name, blobs=MemoryArchive())
    app = Starlette(routes=[Mount("/chat", asgi_app(server))])
    async with (
        server,
        running(app) as port,
        ChatApi(f"http://127.0.0.1:{port}/chat", token="ann") as api,
    ):
        await api.create_conversation("GROUP", ["ben"], conversation_id="g")
        uploaded = await api.upload(PNG)
        await api.send("g", uploaded.payload())
        assert await api.download(uploaded.blob_id) == PNG


def names(folder: Path) -> list[str]:
    return sorted(it.name for it in folder.iterdir())


async def test_two_downloads_to_one_path_do_not_mix(tmp_path: Path) -> None:
    async with world() as w, w.api("ann") as ann:
        uploaded = await ann.upload(BIG)
        await ann.send("g", uploaded.payload())
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ann.download, uploaded.blob_id, tmp_path / "got")

    assert names(tmp_path) == ["got"]
    assert (tmp_path / "got").read_bytes() == BIG


async def test_a_part_is_gone_on_with_for_its_own_file_and_target_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = PNG + bytes(1) * PART_BYTES + b"other"
    async with world() as w, w.api("ann") as ann:
        first, second = await ann.upload(BIG), await ann.upload(other)
        await ann.send("g", first.payload())
        await ann.send("g", second.payload())
        monkeypatch.setattr("chatkit.client.media._FUTILE_MAX", 1)
        Cuts(monkeypatch, 3, 1)
        with pytest.raises(ConnectionLostError):
            await ann.download(first.blob_id, tmp_path / "got")
        await ann.download(second.blob_id, tmp_path / "got")
        await ann.download(first.blob_id, tmp_path / "another")

    assert (tmp_path / "got").read_bytes() == other
    assert (tmp_path / "another").read_bytes() == BIG


async def test_what_was_recalled_leaves_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with world() as w, w.api("ann") as ann:
        uploaded = await ann.upload(BIG)
        sent = await ann.send("g", uploaded.payload())
        monkeypatch.setattr("chatkit.client.media._FUTILE_MAX", 1)
        Cuts(monkeypatch, 3, 1)
        with pytest.raises(ConnectionLostError):
            await ann.download(uploaded.blob_id, tmp_path / "got")
        assert len(names(tmp_path)) == 1
        await ann.recall(sent.message_id)
        with pytest.raises(NotFoundError):
            await ann.download(uploaded.blob_id, tmp_path / "got")

    assert names(tmp_path) == []


async def test_a_target_that_cannot_be_written_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with world() as w, w.api("ann") as ann:
        uploaded = await ann.upload(PNG)
        await ann.send("g", uploaded.payload())
        longest = tmp_path / ("n" * 255)
        await ann.download(uploaded.blob_id, longest)
        assert longest.read_bytes() == PNG
        longest.unlink()
        monkeypatch.setattr(Http, "call", None)
        for target, why in (
            (tmp_path, "folder"),
            (tmp_path / ("n" * 256), "too long"),
            (tmp_path / "none" / "got", "No such"),
        ):
            with pytest.raises(ConfigurationError, match=why):
                await ann.download(uploaded.blob_id, target)
        for name in ("a\0b", "\ud800"):
            with pytest.raises(BadRequestError, match="name"):
                await ann.download(uploaded.blob_id, tmp_path / name)

    assert names(tmp_path) == []


async def test_a_file_that_changes_while_it_is_uploaded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    async with world() as w, w.api("ann") as ann:
        for n, (change, why) in enumerate(
            (
                (lambda was: path.write_bytes(was[:-1] + b"x"), "changed"),
                (lambda was: path.write_bytes(was[:-1]), "changed"),
                (lambda was: path.write_bytes(was + b"x"), "changed"),
                (lambda was: path.write_bytes(b""), "changed"),
                (lambda was: path.unlink(missing_ok=True), "cannot read"),
            )
        ):
            was = BIG + bytes([n]) * PART_BYTES
            path.write_bytes(was)
            with pytest.raises(ConfigurationError, match=why):
                await ann.upload(path, on_progress=lambda *_, was=was, change=change: change(was))
            path.write_bytes(was)
            uploaded = await ann.upload(path)
            await ann.send("g", uploaded.payload())
            assert await ann.download(uploaded.blob_id) == was


async def test_a_name_that_is_no_text_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(PNG)
    async with world() as w, w.api("ann") as ann:
        assert (await ann.upload(path, name="cafe.png")).name == "cafe.png"
        monkeypatch.setattr(Http, "call", None)
        with pytest.raises(BadRequestError, match="not UTF-8"):
            await ann.upload(path)


async def test_a_body_shorter_than_was_said_is_an_error_of_ours() -> None:
    async def short() -> AsyncIterator[bytes]:
        yield b"x"

    async with world() as w, w.api("ann") as ann:
        reserved = await ann._http.call(
            "POST", "/v1/blobs", wire.UploadResult, body=wire.BlobBody("k", 2, "text/plain")
        )
        assert isinstance(reserved.url, str)
        with pytest.raises(ConnectionLostError, match="Too little data"):
            await ann._http.put(reserved.url, short(), {"content-length": "2"}, wire.UploadResult)


async def test_an_upload_that_is_refused_early_learns_why() -> None:
    big = BIG + bytes(7 * PART_BYTES)

    async def all_of_it() -> AsyncIterator[bytes]:
        for at in range(0, len(big), 65536):
            yield big[at : at + 65536]

    async with world() as w, w.api("ann") as ann:
        body = wire.BlobBody("k", len(big), "image/png")
        reserved = await ann._http.call("POST", "/v1/blobs", wire.UploadResult, body=body)
        assert isinstance(reserved.url, str)
        whole = {"content-length": str(len(big))}

        async def put(link: str, headers: dict[str, str]) -> wire.UploadResult:
            return await ann._http.put(link, all_of_it(), whole | headers, wire.UploadResult)

        for _ in range(5):
            with pytest.raises(ForbiddenError) as refused:
                await put(reserved.url + "x", {})
            assert refused.value.reason == "LINK"
            with pytest.raises(BadRequestError, match="are to come"):
                await put(reserved.url, {"upload-offset": "1"})
        assert (await put(reserved.url, {})).state == "READY"
        assert (await put(reserved.url, {})).state == "READY"


async def test_who_waits_for_100_continue_is_refused_before_the_body() -> None:
    async with world() as w, w.api("ann"):
        port = int(w.url.rpartition(":")[2])
        head = (
            f"PUT /v1/blobs/{'0' * 32}/content?user=ann&bytes=9&type=a%2Fb&expires=1&signature=x HTTP/1.1\r\n"
            "Host: chat\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
        )
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(head.encode())
            answer = await stream.receive()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"100 Continue" not in answer and b'"LINK"' in answer
