"""Uploaded files on a server: slow peers, too many of them, and what nothing names any more."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from chatkit import ChatServer, Identity, asgi_app, open_store
from chatkit.archive.memory import MemoryArchive
from chatkit.errors import (
    ConfigurationError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    UnavailableError,
)
from chatkit.ports import Ports
from chatkit.server.blobs.blob_bytes import PART_BYTES
from chatkit.server.blobs.config import SIZE_MAX, BlobConfig
from chatkit.server.blobs.transfers import Transfers
from chatkit.server.proof import Proof
from chatkit.testing.virtual_time import VirtualClock

PNG = b"\x89PNG\r\n\x1a\n" + bytes(5_000)
BIG = PNG + bytes(PART_BYTES)
KEEP_S = 1_200
STOPS = PART_BYTES // 10_000 + 1
"""How much of `BIG` a peer sends that stops behind its first part, in chunks."""


async def by_name(token: str) -> Identity:
    return Identity(token)


class Objects(MemoryArchive):
    """A place for objects that can be down, or keep some."""

    is_down = False

    def __init__(self) -> None:
        super().__init__()
        self.stuck: set[str] = set()
        """Files whose folders nobody may change."""

    async def delete(self, name: str) -> None:
        if self.is_down:
            raise UnavailableError("the place for objects does not answer")
        if not self.stuck.isdisjoint(name.split("/")):
            raise ConfigurationError("the archive does not let this program in")
        await super().delete(name)


class Away(MemoryArchive):
    """A place for objects that gives no answer."""

    async def put(self, name: str, data: bytes) -> None:
        raise UnavailableError("the place for objects does not answer")


class World:
    """A server that keeps files, with a group of ann and ben."""

    def __init__(self, server: ChatServer, objects: Objects) -> None:
        self.server, self.objects = server, objects
        self.app = asgi_app(server)

    async def upload(self, data: bytes = PNG, key: str = "k") -> str:
        """A file of ann."""
        blobs = self.server.blob_service
        assert blobs is not None
        found = await blobs.reserve(Proof(Identity("ann"), b"", 0), key, len(data), "image/png")
        if found.url is not None:
            answer = await self.request("PUT", found.url, data)
            assert answer.status == 200, answer.body
        return found.row.blob_id

    async def send(self, blob_id: str, size: int = len(PNG)) -> str:
        """A message of ann that names it."""
        payload = {"type": "IMAGE", "blobId": blob_id, "mime": "image/png", "bytes": size}
        return (await self.server.send("g", "ann", payload, client_msg_id=blob_id)).message_id

    async def upload_link(self, size: int = len(BIG)) -> str:
        """A link for ann to upload a file by."""
        assert self.server.blob_service is not None
        found = await self.server.blob_service.reserve(Proof(Identity("ann"), b"", 0), "k", size, "image/png")
        assert found.url is not None
        return found.url

    async def link(self, blob_id: str) -> str:
        assert self.server.blob_service is not None
        return (await self.server.blob_service.link("ben", blob_id))[1]

    async def request(self, method: str, url: str, body: bytes = b"", **peer: Any) -> Answer:
        answer = Answer(body, **peer)
        path, _, query = url.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [],
            "client": None,
        }
        await self.app(scope, answer.receive, answer.send)
        return answer


class Answer:
    """A peer: sends a body, at a pause if it is slow (after `fast` chunks), and reads as much of the answer as it
    likes."""

    def __init__(
        self, body: bytes, *, stops_after: int | None = None, pause_s: float = 0.0, fast: int = 0
    ) -> None:
        self._chunks = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
        self._sent_all = False
        self._stops_after, self._pause_s, self._fast = stops_after, pause_s, fast
        self.paused = 0
        self.status, self.body, self.ended = 0, b"", False
        self.largest = 0

    @property
    def left(self) -> int:
        """Chunks of the body that were not read."""
        return len(self._chunks)

    async def receive(self) -> dict[str, Any]:
        if self._sent_all:
            await anyio.sleep_forever()
        await self._pause()
        if self._stops_after is not None and self._chunks:
            if not self._stops_after:
                await anyio.sleep_forever()
            self._stops_after -= 1
        chunk = self._chunks.pop(0) if self._chunks else b""
        self._sent_all = not self._chunks
        return {"type": "http.request", "body": chunk, "more_body": not self._sent_all}

    async def _pause(self) -> None:
        if self._fast:
            self._fast -= 1
        elif self._pause_s:
            self.paused += not self.status
            await anyio.sleep(self._pause_s)

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        await self._pause()
        if self._stops_after is not None and self.status == 200:
            if not self._stops_after:
                await anyio.sleep_forever()
            self._stops_after -= 1
        self.largest = max(self.largest, len(message["body"]))
        self.body += message["body"]
        self.ended = not message.get("more_body", False)


@asynccontextmanager
async def world(**config: Any) -> AsyncIterator[World]:
    objects = Objects()
    server = ChatServer(
        store=open_store("memory://"),
        authenticate=by_name,
        blobs=objects,
        blob_config=BlobConfig(**{"keep_s": KEEP_S, "size_max": 4 * PART_BYTES, **config}),
        ports=Ports(clock=VirtualClock()),
    )
    async with server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        yield World(server, objects)


async def test_an_upload_that_stands_still_is_cut_off_and_keeps_its_parts() -> None:
    async with world() as w:
        assert w.server.blob_service is not None
        proof = Proof(Identity("ann"), b"", 0)
        found = await w.server.blob_service.reserve(proof, "k", len(BIG), "image/png")
        assert found.url is not None
        answer = await w.request("PUT", found.url, BIG, stops_after=PART_BYTES // 10_000 + 1)
        assert answer.status == 503
        assert len(w.server.blob_service.transfers) == 0
        again = await w.server.blob_service.reserve(proof, "k", len(BIG), "image/png")
        assert again.received_bytes == PART_BYTES


async def test_an_upload_that_trickles_is_cut_off() -> None:
    async with world(bytes_per_s_min=10_000) as w:
        assert w.server.blob_service is not None
        found = await w.server.blob_service.reserve(
            Proof(Identity("ann"), b"", 0), "k", len(BIG), "image/png"
        )
        assert found.url is not None
        assert (await w.request("PUT", found.url, BIG, pause_s=29.0)).status == 503


@pytest.mark.parametrize(
    ("pause_s", "read"),
    [
        (0.5, 106),  # all of it, in 53 s
        (0.61, 98),  # what comes within 60 s
        (2.0, 3),  # slower than 16 KiB a second by 1.4 s with each, of which 5 s are allowed
    ],
)
async def test_the_rest_of_a_refused_upload_is_read_while_it_comes_fast_enough(
    pause_s: float, read: int
) -> None:
    async with world() as w:
        answer = await w.request("PUT", await w.upload_link() + "x", BIG, pause_s=pause_s)
        assert (answer.status, answer.ended, 106 - answer.left) == (403, True, read)


async def test_of_many_refused_uploads_not_all_are_read_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatkit.gateway.blobs_api.UNREAD_MAX", 1)
    async with world() as w:
        url, answers = await w.upload_link() + "x", []

        async def put() -> None:
            answers.append(await w.request("PUT", url, BIG, pause_s=0.5))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put)
            tasks.start_soon(put)
        assert [(answer.status, 106 - answer.left) for answer in answers] == [(403, 9), (403, 106)]
        assert (await w.request("PUT", url, BIG, pause_s=0.5)).left == 0


async def test_a_download_that_nobody_reads_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with world() as w:
        blob_id = await w.upload(BIG)
        await w.send(blob_id, len(BIG))
        answer = await w.request("GET", await w.link(blob_id), stops_after=2)
        assert (answer.status, answer.ended) == (200, False)
        assert 0 < len(answer.body) < len(BIG)
        assert w.server.blob_service is not None
        assert len(w.server.blob_service.transfers) == 0
    assert "too slow" in caplog.text


async def test_a_file_goes_out_in_chunks() -> None:
    async with world() as w:
        blob_id = await w.upload(BIG)
        await w.send(blob_id, len(BIG))
        answer = await w.request("GET", await w.link(blob_id))
        assert (answer.body, answer.ended) == (BIG, True)
        assert answer.largest == 64 * 1024


async def test_transfers_are_counted_and_refused_beyond() -> None:
    async with world(transfers_max=2, transfers_per_user=1) as w:
        blob_id = await w.upload()
        await w.send(blob_id)
        url = await w.link(blob_id)
        assert w.server.blob_service is not None
        async with w.server.blob_service.transfers.one("ben"):
            assert (await w.request("GET", url)).status == 429
        async with w.server.blob_service.transfers.one("ann"), w.server.blob_service.transfers.one("cat"):
            assert (await w.request("GET", url)).status == 503
        assert (await w.request("GET", url)).status == 200


async def test_a_file_takes_at_most_twice_its_room_however_many_send_it_at_once() -> None:
    async with world() as w:
        url = await w.upload_link()
        statuses: list[int] = []

        async def put_and_leave(number: int) -> None:
            body = PNG + bytes([number]) * PART_BYTES
            statuses.append((await w.request("PUT", url, body, stops_after=STOPS)).status)

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(put_and_leave, number)
        assert sorted(statuses) == [409] * 4 + [503] * 4
        assert len(w.objects.objects) == 4  # a file of two parts


async def test_of_a_file_that_two_send_with_other_contents_one_remains() -> None:
    async with world() as w:
        url = await w.upload_link()
        answers: list[Answer] = []

        async def put(body: bytes, stops_after: int | None) -> None:
            answers.append(await w.request("PUT", url, body, stops_after=stops_after))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put, PNG + b"x" * PART_BYTES, STOPS)  # leaves behind a part
            tasks.start_soon(put, BIG, None)
        assert [answer.status for answer in answers] == [200, 503]
        assert len(w.objects.objects) == 2
        blob_id = await w.upload(BIG)  # which is there
        await w.send(blob_id, len(BIG))
        answer = await w.request("GET", await w.link(blob_id))
        assert answer.body.count(0) == BIG.count(0)  # quick to say where it fails


async def test_an_upload_that_waited_while_another_ended_leaves_nothing_behind() -> None:
    async with world(transfers_max=1, transfers_per_user=2) as w:
        blobs = w.server.blob_service
        assert blobs is not None
        found = await blobs.reserve(Proof(Identity("ann"), b"", 0), "k", len(BIG), "image/png")
        url = found.url
        assert url is not None
        answers: list[Answer] = []

        async def put_other() -> None:
            answers.append(await w.request("PUT", url, PNG + b"x" * PART_BYTES, fast=STOPS, pause_s=40.0))

        one, waiting = blobs.transfers.one, anyio.Event()

        @asynccontextmanager
        async def one_later(user_id: str) -> AsyncIterator[None]:
            await waiting.wait()
            async with one(user_id):
                yield

        blobs.transfers.one = one_later  # type: ignore[method-assign]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put_other)
            await anyio.sleep(1)
            blobs.transfers.one = one  # type: ignore[method-assign]
            assert (await w.request("PUT", url, BIG)).status == 200
            waiting.set()
        assert [answer.status for answer in answers] == [200]
        assert len(w.objects.objects) == 2


async def test_eight_users_do_not_keep_everybody_out() -> None:
    async with world() as w, anyio.create_task_group() as tasks:
        assert w.server.blob_service is not None
        transfers = w.server.blob_service.transfers
        ended: list[str] = []

        async def hold(user_id: str) -> None:
            try:
                async with transfers.one(user_id):
                    await anyio.sleep_forever()
            except UnavailableError:
                ended.append(user_id)

        for user in range(8):
            for _ in range(8):
                tasks.start_soon(hold, f"u-{user}")
        await anyio.wait_all_tasks_blocked()
        assert len(transfers) == 64
        with pytest.raises(RateLimitedError):
            async with transfers.one("u-0"):
                pass
        blob_id = await w.upload()
        await w.send(blob_id)
        assert (await w.request("GET", await w.link(blob_id))).body == PNG
        assert ended == ["u-0"]
        assert len(transfers) == 63
        tasks.cancel_scope.cancel()


async def test_a_place_is_given_once_whoever_had_it_has_ended() -> None:
    transfers = Transfers(2, 2)
    running = most = 0

    async def run(user_id: str) -> None:
        nonlocal running, most
        with suppress(UnavailableError):
            async with transfers.one(user_id):
                running += 1
                most = max(most, running)
                try:
                    await anyio.sleep(60)
                finally:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(5)
                    running -= 1

    async with anyio.create_task_group() as tasks:
        for user_id in ("a", "a", "b"):
            tasks.start_soon(run, user_id)
        await anyio.sleep(1)
        with pytest.raises(OverloadedError):
            async with transfers.one("c"):
                pass
    assert (most, len(transfers)) == (2, 0)


async def test_a_download_that_gives_up_its_place_is_not_taken_for_the_whole() -> None:
    async with world(transfers_max=2, transfers_per_user=2) as w:
        blob_id = await w.upload(BIG)
        await w.send(blob_id, len(BIG))
        url = await w.link(blob_id)
        answers: list[Answer] = []

        async def get() -> None:
            answers.append(await w.request("GET", url, stops_after=3))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(get)
            tasks.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            assert w.server.blob_service is not None
            async with w.server.blob_service.transfers.one("cat"):
                assert [(it.status, it.ended) for it in answers] == [(200, False)]
                assert 0 < len(answers[0].body) < len(BIG)
                answers.clear()
                tasks.cancel_scope.cancel()


async def test_what_came_fast_before_buys_no_time_for_later() -> None:
    async with world() as w:  # 16 KiB a second
        assert w.server.blob_service is not None
        found = await w.server.blob_service.reserve(
            Proof(Identity("ann"), b"", 0), "k", 2 * len(BIG), "image/png"
        )
        assert found.url is not None
        answer = await w.request("PUT", found.url, 2 * BIG, fast=len(BIG) // 10_000, pause_s=20.0)
        assert (answer.status, answer.paused) == (503, 2)  # 40 s, though 64 s have been earned


async def test_what_nothing_names_goes_after_a_while_and_what_is_named_stays() -> None:
    async with world() as w:
        named, unnamed = await w.upload(key="1"), await w.upload(key="2")
        await w.send(named)
        await anyio.sleep(KEEP_S - 120)
        assert len(w.objects.objects) == 2
        await anyio.sleep(240)
        assert [name.split("/")[2] for name in w.objects.objects] == [named]
        assert await w.upload(key="2") != unnamed
        await anyio.sleep(KEEP_S)
        answer = await w.request("GET", await w.link(named))
        assert (answer.status, answer.body) == (200, PNG)


async def test_a_recalled_file_goes_soon() -> None:
    async with world() as w:
        blob_id = await w.upload()
        message_id = await w.send(blob_id)
        await w.server.recall(message_id)
        await anyio.sleep(800)
        assert not w.objects.objects


async def test_a_place_for_objects_that_is_down_is_gone_on_with() -> None:
    async with world() as w:
        blob_id = await w.upload()
        w.objects.is_down = True
        await anyio.sleep(KEEP_S + 120)
        assert len(w.objects.objects) == 1
        with pytest.raises(NotFoundError, match="no such blob"):
            await w.send(blob_id)
        w.objects.is_down = False
        await anyio.sleep(KEEP_S)
        assert not w.objects.objects
        store: Any = w.server.store
        assert await store.upload(blob_id) is None


async def test_files_that_cannot_be_removed_keep_no_other_one(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as w:
        stuck = [
            await w.upload(key=f"stuck {n}") for n in range(60)
        ]  # more than the collector looks at at once
        w.objects.stuck.update(stuck)
        await anyio.sleep(1)
        others = [await w.upload(key=f"other {n}") for n in range(40)]
        await anyio.sleep(2 * KEEP_S)
        store: Any = w.server.store
        assert {name.split("/")[2] for name in w.objects.objects} == {*stuck}
        assert [await store.upload(blob_id) for blob_id in others] == [None] * 40
        told = [it for it in caplog.messages if f"the file {stuck[0]} cannot be removed now" in it]
        assert 1 <= len(told) <= 4  # not each minute
        w.objects.stuck.clear()
        await anyio.sleep(KEEP_S)
        assert not w.objects.objects
        assert [await store.upload(blob_id) for blob_id in stuck] == [None] * 60


async def test_what_others_put_beside_the_parts_of_a_file_is_passed_over() -> None:
    async with world() as w:
        blob_id = await w.upload()
        (name,) = w.objects.objects
        foreign = {
            f"{name.rpartition('/')[0]}/{it}": b""
            for it in ("Thumbs.db", "0000-ab", f"x/{'0' * 4}-{'0' * 64}")
        }
        w.objects.objects.update(foreign)
        assert blob_id == await w.upload()
        await anyio.sleep(2 * KEEP_S)
        store: Any = w.server.store
        assert w.objects.objects == foreign
        assert await store.upload(blob_id) is None


async def test_a_link_ends() -> None:
    async with world(link_s=60) as w:
        blob_id = await w.upload()
        await w.send(blob_id)
        url = await w.link(blob_id)
        await anyio.sleep(59)
        assert (await w.request("GET", url)).status == 200
        await anyio.sleep(2)
        assert (await w.request("GET", url)).status == 403


async def test_links_of_another_key_do_not_hold() -> None:
    async with world(link_key="a key of sixteen letters") as w:
        blob_id = await w.upload()
        await w.send(blob_id)
        url = await w.link(blob_id)
        assert (await w.request("GET", url)).status == 200
        assert w.server.blob_service is not None
        w.server.blob_service.config = BlobConfig(link_key="another key of sixteen")
        await w.server.blob_service.start(b"")
        assert (await w.request("GET", url)).status == 403


async def test_an_erased_user_leaves_no_files() -> None:
    async with world() as w:
        await w.send(await w.upload(key="1"))
        await w.upload(key="2")
        await w.server.erase_user("ann", bodies="erase")
        await anyio.sleep(800)
        assert not w.objects.objects


@pytest.mark.parametrize(
    "config",
    [
        {"size_max": 0},
        {"size_max": SIZE_MAX + 1},
        {"size_max": 1.5},
        {"quota_bytes": 2**60},
        {"link_s": 0},
        {"link_s": 90_000},
        {"keep_s": 1},
        {"link_key": "short"},
        {"link_key": 5},
        {"transfers_max": True},
    ],
)
def test_wrong_settings_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        BlobConfig(**config)


def test_the_key_of_links_is_not_shown() -> None:
    config = BlobConfig(link_key="0123456789abcdef-secret", size_max=7)

    assert "secret" not in f"{config!r} {config} {[config]}"
    assert "size_max=7" in repr(config) and "link_key='...'" in repr(config)
    assert "link_key=None" in repr(BlobConfig())


async def test_a_place_that_is_away_is_told_and_the_server_starts(caplog: pytest.LogCaptureFixture) -> None:
    async with ChatServer(store=open_store("memory://"), authenticate=by_name, blobs=Away()) as server:
        assert server.ready
    assert "uploads are refused until they can: the place for objects does not answer" in caplog.text


async def test_the_look_at_the_start_leaves_nothing_behind() -> None:
    objects = MemoryArchive()
    async with ChatServer(store=open_store("memory://"), authenticate=by_name, blobs=objects):
        assert await objects.names("", "", 10) == []
