"""moto's server: S3's protocol over HTTP on loopback, with its objects in memory."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import missing
from .process import ServerProcess, running

KEY = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def s3_process(folder: Path) -> ServerProcess:
    """Not started yet."""
    if importlib.util.find_spec("moto") is None:
        missing("moto (pip install 'moto[server]')")
    return ServerProcess(
        lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        folder,
        _greets,
    )


def _greets(probe: socket.socket) -> bool:
    probe.sendall(b"GET /moto-api/data.json HTTP/1.0\r\n\r\n")
    return probe.recv(5) == b"HTTP/"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests of this process, which make buckets of their own."""
    with running(s3_process(tmp_path_factory.mktemp("s3"))) as server:
        yield server


def make_bucket(server: ServerProcess, name: str) -> None:
    """A new bucket."""
    import urllib.request

    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/{name}", method="PUT")
    request.add_header(
        "Authorization", f"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, {_REST}"
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200, answer.status


_REST = "SignedHeaders=host, Signature=none"
