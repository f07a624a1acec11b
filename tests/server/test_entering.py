"""Entered again, left by another task, used from another event loop: it works, or says at once what to do."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit import ChatServer, open_archive, open_store
from chatkit.bus.local import LocalBus
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.ports import SystemIds
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.virtual_time import run_virtual

from .harness import HarnessServer, by_name, login

GIVEN: dict[str, Any] = {
    "kind": "GROUP",
    "creator_id": "ann",
    "member_ids": ["ben"],
    "conversation_id": "g-1",
    "sender_id": "ann",
    "content": "hi",
    "client_msg_id": "k1",
    "by": "ann",
    "user_ids": ["cat"],
    "user_id": "ben",
    "blocked_id": "cat",
    "title": "trip",
    "held_id": 1,
    "reason": "SPAM",
    "message_id": "1-e-1",
    "resolution": "DISMISSED",
    "role": "ADMIN",
    "description": "what it is for",
    "history": "FROM_START",
    "keep_s": 60.0,
    "up_to_seq": 1,
    "what": "audit",
    "query": "",
}
"""What the verbs are given, by the names of their parameters."""


def new_server(**options: Any) -> ChatServer:
    return ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=by_name, **options)


def calls(server: ChatServer) -> list[Callable[[], Awaitable[object]]]:
    """Every public coroutine of a server."""
    found: list[Callable[[], Awaitable[object]]] = []
    for name, function in inspect.getmembers(server, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            needed = [
                it.name for it in inspect.signature(function).parameters.values() if it.default is it.empty
            ]
            if name == "revoke":
                needed = ["user_id"]  # one of its options must be given
            found.append(partial(function, **{it: GIVEN[it] for it in needed}))
    return found


def in_another_loop(call: Callable[[], Awaitable[object]]) -> None:
    """As a plain `def` endpoint does who makes a loop of its own."""
    anyio.run(call)


async def test_a_server_may_be_entered_again() -> None:
    server = new_server()
    for key in ("k1", "k2"):
        async with server:
            assert server.ready
            await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
            sent = await server.send("g-1", "ann", "hi", client_msg_id=key)
        assert not server.running

    assert sent.seq == 3, "the log is as it was left"


def test_one_object_serves_in_one_event_loop_after_the_other(tmp_path: Path) -> None:
    """As with a second TestClient, and a second `asyncio.run`."""
    store = SqliteStore(str(tmp_path / "chat.db"), ids=SystemIds())
    server = HarnessServer(store=store, authenticate=by_name)

    async def serve(key: str) -> int:
        async with server:
            await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
            phone = await login(server, "ben")
            sent = await server.send("g-1", "ann", "hi", client_msg_id=key)
            await phone.hear("NEW_MSG")
            phone.leave()
        return sent.seq

    assert [anyio.run(serve, key) for key in ("k1", "k2")] == [2, 3]


def test_a_server_that_was_left_says_so_in_any_event_loop() -> None:
    """As in a test that forgot the lifespan after one that had it."""
    server = new_server()

    async def enter() -> None:
        async with server:
            pass

    async def ask() -> None:
        for call in (server.block("ann", "ben"), server.ban("ann")):
            with pytest.raises(UnavailableError, match="is not running: enter"):
                await call

    anyio.run(enter)
    anyio.run(ask)


async def test_a_server_is_entered_once_at_a_time() -> None:
    async with (server := new_server()):
        with pytest.raises(ConfigurationError, match="entered already"):
            await server.__aenter__()
        assert server.ready


async def test_a_start_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "not yet" / "chat.db"
    server = ChatServer(store=SqliteStore(str(path), ids=SystemIds(), threads=False), authenticate=by_name)
    with pytest.raises(ConfigurationError):
        await server.__aenter__()
    path.parent.mkdir()
    async with server:
        assert server.ready


def test_a_place_for_files_that_cannot_be_written_keeps_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    blobs = open_archive(f"dir://{tmp_path}/file")
    server = ChatServer(store=open_store("memory://"), authenticate=by_name, blobs=blobs)
    with pytest.raises(
        ConfigurationError, match=r"files cannot be kept \(`blobs=`, --blobs\): the archive .*file"
    ):
        anyio.run(server.__aenter__)


async def test_a_place_on_a_bus_is_used_once() -> None:
    server = new_server(bus=LocalBus().join())
    async with server:
        pass
    with pytest.raises(ConfigurationError, match="new place there"):
        await server.__aenter__()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_another_task_may_leave_it(backend: Any) -> None:
    async def main() -> int:
        server = new_server()
        async with anyio.create_task_group() as enters:
            enters.start_soon(server.__aenter__)
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        async with anyio.create_task_group() as leaves:
            leaves.start_soon(server.__aexit__, None, None, None)
        assert not server.running
        return (await server.store.head_seqs(["g-1"]))["g-1"][1]

    assert run_virtual(main, backend=backend) == 1


def test_every_coroutine_refuses_another_event_loop_at_once() -> None:
    anyio.run(_use_it_elsewhere)


async def _use_it_elsewhere() -> None:
    async with (server := new_server()):
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
        for call in calls(server):
            with pytest.raises(ConfigurationError, match="from_thread"):
                await anyio.to_thread.run_sync(in_another_loop, call)
        with pytest.raises(ConfigurationError, match="from_thread"):
            await anyio.to_thread.run_sync(in_another_loop, partial(server.__aexit__, None, None, None))
        assert server.ready


def test_a_worker_thread_reaches_it_as_the_refusal_says() -> None:
    async def main() -> int:
        async with (server := new_server()):
            await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g-1")
            send = partial(server.send, "g-1", "ann", "hi", client_msg_id="k1")
            return (await anyio.to_thread.run_sync(anyio.from_thread.run, send)).seq

    assert anyio.run(main) == 2


async def test_a_part_that_fails_stops_the_server_and_is_raised_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise LookupError("no such part")

    server = new_server()
    await server.__aenter__()
    server._background.start(fail)
    await anyio.sleep(0.1)
    still = (server.running, server.ready)
    with pytest.raises(ExceptionGroup) as left:
        await server.__aexit__(None, None, None)

    assert still == (False, False)
    assert left.group_contains(LookupError)
    assert "a part of the server failed" in caplog.text


async def test_work_that_asks_for_more_while_the_server_stops_ends_its_session_alone() -> None:
    async with (server := HarnessServer(store=MemoryStore(ids=SystemIds()), authenticate=by_name)):
        phone = await login(server, "ben")
        server._background.cancel()
        server._background.spawn(phone.session, anyio.sleep)
        assert phone.session.close_code == 4002
        phone.leave()
