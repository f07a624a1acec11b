"""A database put back by PostgreSQL's own tools, under a real server: what docs/backup.md says step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest

from chatkit import ChatApi, ChatClient
from chatkit.client.events import EpochChanged
from tests.servers.postgres import PostgresServer, serving

from ..blackbox.server_process import ServerProcess
from ..blackbox.tokens import token
from ..cli.command import chatkit
from .test_restore import QUICK, events, texts

BEFORE, AT, AFTER = 15, 10, 7
"""Messages before the loss, messages that the backup has, and new ones after it."""
_ARCHIVED_S = 30.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Dump:
    """`pg_dump` while servers write, `pg_restore` into a new database of another cluster."""

    settings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server, self._database = server, database
        self._file = server.shared / "log.dump"

    def take(self) -> None:
        self._server.dump(self._database, self._file)

    def put_back(self, stack: ExitStack) -> str:
        server = stack.enter_context(serving(alike=False))
        address = server.new_database()
        server.load(self._file, address.rsplit("/", 1)[1].partition("?")[0])
        return address


class Recovery:
    """A base backup and the write-ahead log, played up to a moment; then somebody has to say so."""

    settings: ClassVar[Mapping[str, str]] = {"archive_mode": "on", "archive_command": "cp %p ../shared/%f"}

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server, self._database = server, database
        self._copy = server.shared / "base"
        server.back_up(self._copy)

    def take(self) -> None:
        point = "SELECT pg_walfile_name(pg_create_restore_point('ten')), pg_switch_wal()"
        wanted = self._server.query(self._database, point).partition("|")[0]
        deadline_s = time.monotonic() + _ARCHIVED_S
        while not (self._server.shared / wanted).exists():
            assert time.monotonic() < deadline_s, self._server.log()
            time.sleep(0.05)

    def put_back(self, stack: ExitStack) -> str:
        (self._copy / "recovery.signal").touch()
        server = stack.enter_context(
            serving(
                backup=self._copy,
                restore_command=f"cp {self._server.shared}/%f %p",
                recovery_target_name="ten",
                recovery_target_action="promote",
            )
        )
        deadline_s = time.monotonic() + _ARCHIVED_S
        while (
            server.query(self._database, "SELECT pg_is_in_recovery()") != "f"
        ):  # it takes connections before that
            assert time.monotonic() < deadline_s, server.log()
            time.sleep(0.05)
        address = server.address(self._database)
        done = chatkit("restore", "--storage", address, cwd=self._server.shared)
        assert done.returncode == 0, done.stderr
        assert "counts as put back" in done.stdout
        return address


@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", [Dump, Recovery])
async def test_clients_go_on_with_the_older_log(
    way: Callable[[PostgresServer, str], Dump | Recovery], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(serving(**way.settings))  # type: ignore[attr-defined]
        address = postgres.new_database()
        server = ServerProcess(tmp_path, storage=address)
        stack.callback(server.stop)
        server.start()
        backup = way(postgres, address.rsplit("/", 1)[1].partition("?")[0])

        def bob() -> ChatClient:
            store = str(tmp_path / "bob.client")
            return ChatClient(
                server.http_url, token=token("bob", "phone"), device_id="phone", store=store, config=QUICK
            )

        async with ChatApi(server.http_url, token=token("ann")) as ann:
            conversation = await ann.create_conversation("SINGLE", ["bob"])
            id_ = conversation.conversation_id
            async with bob() as chat:
                for number in range(BEFORE):
                    if number == AT:
                        backup.take()
                    await ann.send(id_, f"before {number}", client_msg_id=f"k{number}")
                before = texts(await events(chat, f"before {BEFORE - 1}"))
            server.kill()
            postgres.kill()
            server.storage = backup.put_back(stack)
            server.start()
            for number in range(AFTER):
                await ann.send(id_, f"after {number}", client_msg_id=f"n{number}")
            async with bob() as chat:
                after = await events(chat, f"after {AFTER - 1}")
                history = [message.text for message in await chat.history(id_, limit=100) if message.text]
        verified = chatkit("verify", "--storage", server.storage, cwd=tmp_path)

    kept = [f"before {number}" for number in range(AT)]
    anew = [f"after {number}" for number in range(AFTER)]
    assert before == [f"before {number}" for number in range(BEFORE)]
    (changed,) = [event for event in after if isinstance(event, EpochChanged)]
    assert (changed.kept_seq, changed.epoch != conversation.epoch) == (AT + 1, True)
    assert texts(after) == anew
    assert history == kept + anew
    assert "a backup was put back" in server.log
    assert verified.returncode == 0, verified.stdout
