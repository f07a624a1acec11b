"""A log that lost its end: proved by clients with what the server signed for them, and noticed at the start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit.drivers.file_lock import FileLock
from chatkit.errors import UnavailableError
from chatkit.storage.base import Command, Outcome, RenewEpoch
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.last_served import LastServed
from chatkit.wire.events import CloseCode

from ..storage.ids import seeded_ids
from .harness import HarnessServer, Peer, by_name, group, login, serving


def log() -> Any:
    """Logs made by this have the same secret, as a log and its backup have."""
    return MemoryStore(ids=seeded_ids(7))


async def proof(peer: Peer) -> str:
    peer.say({"event": "PING"})
    (pong,) = await peer.hear("PONG")
    return str(pong["logToken"])


async def log_in_with(server: HarnessServer, log_token: str, user_id: str = "ann") -> tuple[Peer, list[Any]]:
    peer = Peer(server)
    peer.say({"event": "HELLO", "token": user_id, "deviceId": "phone", "logToken": log_token})
    return peer, await peer.hear("WELCOME", "HEADS")


async def far_ahead(messages: int = 9) -> str:
    """What a server signs whose log has got far."""
    async with serving(log()) as server:
        await group(server, "ann", "ben")
        for number in range(messages):
            await server.send("g-1", "ann", "hi", client_msg_id=f"k{number}")
        await anyio.sleep(6)  # a token is made every few seconds
        return await proof(await login(server, "ann"))


async def test_a_token_from_beyond_the_end_renews_every_conversation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ahead = await far_ahead()
    async with serving(log()) as server:
        await group(server, "ann", "ben")
        await group(server, "cat", conversation_id="g-2")
        before = await server.store.head_seqs(["g-1", "g-2"])
        ben = await login(server, "ben")
        _, (_, heads) = await log_in_with(server, ahead)
        after = await server.store.head_seqs(["g-1", "g-2"])
        (behind,) = await ben.hear("BEHIND")

        assert all(after[name][0] != before[name][0] for name in before)
        assert heads["conversations"][0]["epoch"] == behind["epoch"] == after["g-1"][0]
        assert "a backup was put back" in caplog.text
        await anyio.sleep(6)
        await log_in_with(server, await proof(ben))
        assert await server.store.head_seqs(["g-1", "g-2"]) == after, "its own tokens are no proof"


async def test_one_loss_is_renewed_once_whoever_proves_it_and_how_often() -> None:
    tokens = [await far_ahead(messages) for messages in (9, 20)]
    store = log()
    async with serving(store) as server:
        await group(server, "ann", "ben")
        await log_in_with(server, tokens[0])
        after = await server.store.head_seqs(["g-1"])
        resume_token = (await log_in_with(server, ""))[1][0]["resumeToken"]
        for token in (tokens[0], *tokens):
            await log_in_with(server, token, "ben")
        assert await server.store.head_seqs(["g-1"]) == after
        peer = Peer(server)
        peer.say({"event": "HELLO", "resumeToken": resume_token, "deviceId": "phone"})
        await peer.hear("WELCOME")
    async with serving(store) as server:
        await log_in_with(server, tokens[1])
        assert await server.store.head_seqs(["g-1"]) == after


@pytest.mark.parametrize("messages", [0, 20])
async def test_a_log_that_is_set_back_behind_its_renewal_is_renewed_once_more(messages: int) -> None:
    """Also if it has more entries than the renewed one had."""
    ahead = await far_ahead()
    async with serving(log()) as server:
        await group(server, "ann", "ben")
        await log_in_with(server, ahead)
        for number in range(5):
            await server.send("g-1", "ann", "hi", client_msg_id=f"k{number}")
        await anyio.sleep(6)
        renewed = await proof(await login(server, "ann"))
    async with serving(log()) as server:
        await group(server, "ann", "ben")
        for number in range(messages):
            await server.send("g-1", "ann", "hi", client_msg_id=f"k{number}")
        before = await server.store.head_seqs(["g-1"])
        await log_in_with(server, renewed)
        after = await server.store.head_seqs(["g-1"])
        assert after["g-1"][0] != before["g-1"][0]
        await log_in_with(server, renewed)
        await log_in_with(server, ahead)
        assert await server.store.head_seqs(["g-1"]) == after


class BusyStore(MemoryStore):
    """Refuses batches with a renewal while it is told to, and counts as put back."""

    is_busy = True
    is_put_back = False

    @property
    def restored(self) -> bool:
        return self.is_put_back

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        if self.is_busy and any(isinstance(it, RenewEpoch) for it in commands):
            raise UnavailableError("busy", retry_after_s=1.0)
        return await super().commit(commands)


async def test_a_renewal_that_storage_refuses_is_refused_by_a_typed_error_and_begins_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ahead, store = await far_ahead(), BusyStore(ids=seeded_ids(7))
    async with serving(store) as server:  # type: ignore[arg-type]
        await group(server, "ann", "ben")
        await group(server, "ann", "ben", conversation_id="g-2")
        before = await server.store.head_seqs(["g-1", "g-2"])
        peer = Peer(server)
        peer.say({"event": "HELLO", "token": "ann", "deviceId": "phone", "logToken": ahead})
        assert await peer.closed() == CloseCode.OVERLOADED
        assert "failed" not in caplog.text, "no stack trace for what is expected"
        store.is_busy = False
        await log_in_with(server, ahead)
        after = await server.store.head_seqs(["g-1", "g-2"])
        assert all(after[name][0] != before[name][0] for name in before)

    store.is_busy = store.is_put_back = True
    with pytest.raises(UnavailableError, match="busy"):
        async with serving(store):  # type: ignore[arg-type]
            raise AssertionError("it is not served")


@pytest.mark.parametrize("forged", ["", "x", "ff-00", "f" * 64, "-1-" + "0" * 32, "9" * 31 + "-" + "0" * 32])
async def test_what_was_not_signed_here_proves_nothing(forged: str) -> None:
    async with serving(log()) as server:
        await group(server, "ann", "ben")
        before = await server.store.head_seqs(["g-1"])
        await log_in_with(server, forged)
        assert await server.store.head_seqs(["g-1"]) == before


async def test_a_token_of_another_log_proves_nothing() -> None:
    ahead = await far_ahead()
    async with serving(MemoryStore(ids=seeded_ids(8))) as server:  # type: ignore[arg-type]
        await group(server, "ann", "ben")
        before = await server.store.head_seqs(["g-1"])
        await log_in_with(server, ahead)
        assert await server.store.head_seqs(["g-1"]) == before


async def test_an_older_log_is_renewed_at_the_start_and_its_logins_end(tmp_path: Path) -> None:
    """The word beside the file says that more was served; a start that was interrupted begins again."""
    path = str(tmp_path / "chat.db")
    async with HarnessServer(
        store=SqliteStore(path, ids=seeded_ids(1), threads=False), authenticate=by_name
    ) as server:
        await group(server, "ann", "ben")
        resume_token = (await log_in_with(server, ""))[1][0]["resumeToken"]
        before = await server.store.head_seqs(["g-1"])
    lock = FileLock.acquire(path)
    assert lock is not None
    LastServed(lock, path).note(99)
    lock.release()

    interrupted = SqliteStore(path, ids=seeded_ids(2), threads=False)
    await interrupted.migrate()
    assert interrupted.restored
    await interrupted.commit([])
    await interrupted.aclose()
    store = SqliteStore(path, ids=seeded_ids(3), threads=False)
    async with HarnessServer(store=store, authenticate=by_name) as server:
        assert not store.restored
        assert (await server.store.head_seqs(["g-1"]))["g-1"][0] != before["g-1"][0]
        peer = Peer(server)
        peer.say({"event": "HELLO", "resumeToken": resume_token, "deviceId": "phone"})
        (error,) = await peer.hear("ERROR")
        assert error["code"] == "TOKEN_REVOKED"
    again = SqliteStore(path, ids=seeded_ids(4), threads=False)
    await again.migrate()
    assert not again.restored
    await again.aclose()


async def test_an_empty_log_where_another_was_served_is_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chat.db"
    for number in range(2):
        store = SqliteStore(str(path), ids=seeded_ids(1), threads=False)
        async with HarnessServer(store=store, authenticate=by_name) as server:
            assert "one was served from this place before" not in caplog.text
            await group(server, "ann", "ben", conversation_id=f"g-{number}")
    path.unlink()
    store = SqliteStore(str(path), ids=seeded_ids(2), threads=False)
    async with HarnessServer(store=store, authenticate=by_name):
        assert "one was served from this place before" in caplog.text


class PutBackStore(MemoryStore):
    """A log that somebody puts back under a server that runs."""

    put_back = False

    @property
    def restored(self) -> bool:
        return self.put_back

    async def confirm_restored(self, proved: int = 0) -> None:
        await super().confirm_restored(proved)
        self.put_back = False


async def test_a_log_that_is_put_back_under_a_running_server_is_renewed_within_seconds() -> None:
    store = PutBackStore(ids=seeded_ids(7))
    async with serving(store) as server:
        await group(server, "ann", "ben")
        peer = await login(server, "ann")
        before = await store.head_seqs(["g-1"])
        store.put_back = True
        await anyio.sleep(6)
        after = await store.head_seqs(["g-1"])
        assert after["g-1"][0] != before["g-1"][0]
        assert not store.put_back
        (behind,) = await peer.hear("BEHIND")
        assert behind["epoch"] == after["g-1"][0]
        await anyio.sleep(6)
        assert await store.head_seqs(["g-1"]) == after, "once"
        await log_in_with(server, await proof(peer), "ben")
        assert await store.head_seqs(["g-1"]) == after, "the tokens made since are no proof"
