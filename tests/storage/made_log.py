"""An empty log on SQLite as the migrations of now leave it, copied: what tests the store need not make one each time.

Without the secret and what a store writes when it opens: that is made anew. Tests of migrations and of opening make
their files themselves.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from chatkit.drivers.migrations import migrate, migration_files
from chatkit.drivers.sqlite import open_sqlite
from chatkit.storage.sqlite.store import APPLICATION_ID


@cache
def _made() -> bytes:
    """Once in each process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.db"
        connection = open_sqlite(str(path))
        migrate(connection, migration_files("chatkit.storage.sqlite"), APPLICATION_ID)
        connection.close()
        assert [file.name for file in Path(folder).iterdir()] == ["made.db"], (
            "nothing is left beside the file"
        )
        return path.read_bytes()


def put_made_log(path: str) -> None:
    """Make the file."""
    Path(path).write_bytes(_made())
