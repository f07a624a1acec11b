"""A log put back from a backup, on the real server: noticed by itself, and nothing shown before is told as new."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from chatkit import ChatApi, ChatClient, ClientConfig
from chatkit.client.events import ChatEvent, EpochChanged, MessageReceived
from tests.servers.litestream import Litestream

from ..blackbox.server_process import ServerProcess
from ..blackbox.tokens import token
from ..cli.command import chatkit

SOON_S = 30.0
QUICK = ClientConfig(backoff_base_s=0.05, backoff_max_s=0.2)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def backup(path: Path, to: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def cold_copy(server: ServerProcess, folder: Path) -> None:
    """Stop the server, copy all of its files, start it again."""
    server.terminate()
    server.exit_code()
    (folder / "cold").mkdir()
    for name in folder.glob("chat.db*"):
        shutil.copy2(name, folder / "cold" / name.name)
    server.start()


def copied_over(backup_path: Path, path: Path) -> None:
    """As an operator with `cp` and `rm`: the file stays the same one, with older contents."""
    shutil.copyfile(backup_path, path)
    _rm_rest(path)


def moved_in(backup_path: Path, path: Path) -> None:
    """As an operator with `mv`: another file under the same name."""
    shutil.copyfile(backup_path, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    _rm_rest(path)


def alone_in_its_folder(backup_path: Path, path: Path) -> None:
    """As on a new machine: nothing but the file."""
    for name in list(path.parent.glob("chat.db*")):
        if name != backup_path:
            name.unlink()
    shutil.copyfile(backup_path, path)


def by_command(backup_path: Path, path: Path) -> None:
    done = chatkit("restore", str(backup_path), str(path), cwd=path.parent)
    assert done.returncode == 0, done.stderr
    kept = min(path.parent.glob("chat.db.replaced-*"))  # and its write-ahead log
    assert f"kept as {kept}" in done.stdout
    assert oct(path.stat().st_mode)[-3:] == "600"


def the_whole_folder(backup_path: Path, path: Path) -> None:
    """As with `cp chat.db* .`: the word beside the log goes back with it, and every file stays the same one."""
    for saved in backup_path.parent.glob("cold/chat.db*"):
        shutil.copyfile(saved, path.parent / saved.name)
    _rm_rest(path)


def _rm_rest(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


async def events(chat: ChatClient, last_text: str) -> list[ChatEvent]:
    found: list[ChatEvent] = []
    with anyio.fail_after(SOON_S):
        async for event in chat.events():
            found.append(event)
            if isinstance(event, MessageReceived) and event.message.text == last_text:
                return found
    raise AssertionError("the events ended")


def texts(found: list[ChatEvent]) -> list[str]:
    return [
        event.message.text for event in found if isinstance(event, MessageReceived) and event.message.text
    ]


@pytest.mark.parametrize(
    "put_back", [copied_over, moved_in, alone_in_its_folder, the_whole_folder, by_command]
)
async def test_an_older_log_is_noticed_and_its_clients_go_on(
    server: ServerProcess, tmp_path: Path, put_back: object
) -> None:
    """Ten messages, a backup, five more; the backup is put back after a kill; then seven new ones are written."""
    assert callable(put_back)
    log, copy = tmp_path / "chat.db", tmp_path / "backup.sqlite"

    def bob() -> ChatClient:
        store = str(tmp_path / "bob.client")
        return ChatClient(
            server.http_url, token=token("bob", "phone"), device_id="phone", store=store, config=QUICK
        )

    async with ChatApi(server.http_url, token=token("ann")) as ann:
        conversation = await ann.create_conversation("SINGLE", ["bob"])
        id_ = conversation.conversation_id
        async with bob() as chat:
            for number in range(15):
                if number == 10:
                    backup(log, copy)
                    cold_copy(server, tmp_path)
                await ann.send(id_, f"before {number}", client_msg_id=f"k{number}")
            before = texts(await events(chat, "before 14"))
        server.kill()
        put_back(copy, log)
        server.start()
        for number in range(7):
            await ann.send(id_, f"after {number}", client_msg_id=f"n{number}")
        async with bob() as chat:
            after = await events(chat, "after 6")
            history = [message.text for message in await chat.history(id_, limit=100) if message.text]

    kept = [f"before {number}" for number in range(10)]
    anew = [f"after {number}" for number in range(7)]
    assert before == [f"before {number}" for number in range(15)]
    (changed,) = [event for event in after if isinstance(event, EpochChanged)]
    assert (changed.kept_seq, changed.epoch != conversation.epoch) == (11, True)
    assert texts(after) == anew
    assert history == kept + anew
    assert "a backup was put back" in server.log


async def test_a_server_that_merely_restarts_renews_nothing(server: ServerProcess, tmp_path: Path) -> None:
    async with ChatApi(server.http_url, token=token("ann")) as ann:
        conversation = await ann.create_conversation("SINGLE", ["bob"])
        for end in (server.kill, server.terminate):
            await ann.send(conversation.conversation_id, "on", client_msg_id=end.__name__)
            end()
            server.exit_code()
            server.start()
        page = await ann.history(conversation.conversation_id)
    assert page.epoch == conversation.epoch
    assert "put back" not in server.log


async def test_litestream_that_starts_later_and_ends_sooner_is_no_restore(
    server: ServerProcess, tmp_path: Path
) -> None:
    """It writes to the file; what it writes after the server has ended would count as another program's."""
    litestream = Litestream(tmp_path / "chat.db", tmp_path / "replica")
    async with ChatApi(server.http_url, token=token("ann")) as ann:
        conversation = await ann.create_conversation("SINGLE", ["bob"])
        for number in range(2):
            litestream.start()
            try:
                for count in range(20):
                    await ann.send(conversation.conversation_id, "on", client_msg_id=f"{number}-{count}")
                await anyio.to_thread.run_sync(litestream.wait)
            finally:
                litestream.stop()
            server.terminate()
            assert server.exit_code() == 0
            server.start()
        page = await ann.history(conversation.conversation_id)
    assert page.epoch == conversation.epoch
    assert "put back" not in server.log


def test_a_place_that_is_held_and_a_damaged_backup_are_refused(server: ServerProcess, tmp_path: Path) -> None:
    log, copy = tmp_path / "chat.db", tmp_path / "backup.sqlite"
    backup(log, copy)
    held = chatkit("restore", "backup.sqlite", "chat.db", cwd=tmp_path)
    assert (held.returncode, "stop it first" in held.stderr) == (2, True)

    copy.write_bytes(copy.read_bytes()[:5000])
    damaged = chatkit("restore", "backup.sqlite", "other.db", cwd=tmp_path)
    assert (damaged.returncode, "damaged" in damaged.stderr) == (2, True)
    assert not os.path.exists(tmp_path / "other.db")
