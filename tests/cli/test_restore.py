"""`chatkit restore`: of a file it is in `tests/client/test_restore.py`; here what it says of a database, and misuse."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from chatkit.storage.postgres import PostgresStore
from tests.servers.postgres import serving

from ..storage.ids import seeded_ids
from .command import chatkit


async def _made(address: str) -> None:
    store = PostgresStore(address, ids=seeded_ids())
    await store.migrate()
    await store.aclose()


def test_a_database_counts_as_put_back(tmp_path: Path) -> None:
    with serving() as server:
        address = server.new_database()
        anyio.run(_made, address)
        login = address.replace("chatkit@", "chatkit:hunter2@")
        done = chatkit("restore", "--storage", login, cwd=tmp_path)
        again = chatkit("restore", "--storage", login, "--json", cwd=tmp_path)
        empty = chatkit("restore", "--storage", server.new_database(), cwd=tmp_path)
        server.stop()
        gone = chatkit("restore", "--storage", login, cwd=tmp_path)
    name = address.replace("chatkit@", "")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{name} counts as put back: ")
    assert json.loads(again.stdout) == {"storage": name, "put_back": True}
    assert (empty.returncode, "has no log of chatkit" in empty.stderr) == (2, True)
    assert (gone.returncode, "no PostgreSQL" in gone.stderr) == (1, True)
    assert "hunter2" not in done.stdout + again.stdout + gone.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("backup.db",),
        ("backup.db", "chat.db", "--storage", "postgresql://x/y"),
        ("--storage", "sqlite:///chat.db"),
    ],
)
def test_misuse(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = chatkit("restore", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "--storage" in done.stderr.splitlines()[-1]
