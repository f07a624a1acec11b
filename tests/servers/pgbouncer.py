"""pgbouncer in transaction mode before a PostgreSQL server: Debian's package (`scripts/pgbouncer`)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlsplit

from tests.blackbox.server_process import free_port

from . import missing

_READY_S = 10.0
_CONFIG = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
"""


@contextmanager
def pooling(address: str) -> Iterator[str]:
    """The address of the same database through a pooler of four connections."""
    binary = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        missing("pgbouncer is not installed: scripts/pgbouncer")
    parts = urlsplit(address)
    port = free_port()
    folder = Path(mkdtemp(prefix="chatkit-pgbouncer-"))
    folder.chmod(0o755)
    (folder / "users.txt").write_text(f'"{parts.username}" ""\n')
    config = folder / "pgbouncer.ini"
    config.write_text(_CONFIG.format(server=parts.port, port=port, folder=folder))
    user = "nobody" if os.geteuid() == 0 else None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, str(config)], user=user, stdout=log, stderr=log)
    try:
        _wait(port, process, folder)
        yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable&pooler=transaction"
    finally:
        process.terminate()
        process.wait(_READY_S)
        shutil.rmtree(folder)


def _wait(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline_s = time.monotonic() + _READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline_s, (folder / "log").read_text()
            time.sleep(0.05)
        else:
            return
