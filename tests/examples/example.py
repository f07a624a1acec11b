"""Examples as their readers run them: loaded as modules, or served by a process of their own."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import httpx

FOLDER = Path(__file__).parents[2] / "examples"
SECRET = "a-secret-of-the-tests-with-more-than-thirty-two-bytes"
READY_S = 20.0
POLL_S = 0.02


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    if (
        str(FOLDER) not in sys.path
    ):  # as Python puts it there for a script: some have `site_users.py` beside them
        sys.path.append(str(FOLDER))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(
        spec
    )  # its annotations are looked up there
    spec.loader.exec_module(module)
    return module


@contextmanager
def serving(
    name: str,
    *arguments: str,
    folder: Path,
    prefix: str = "",
    says: tuple[str, ...] = (),
    fault: str | None = None,
) -> Iterator[str]:
    """`python examples/NAME.py PORT ...`, ready; ended by SIGTERM. Gives its address. It may say what is named; with a
    fault of `faulty.py` anything."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = [str(FOLDER / f"{name}.py")]
    if fault is not None:
        script, says = [str(Path(__file__).with_name("faulty.py")), *script, fault], ("",)
    command = [sys.executable, *script, str(port), *arguments]
    env = {**os.environ, "CHATKIT_JWT_SECRET": SECRET}
    with (folder / "example.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_ready(process, f"{url}{prefix}/readyz", folder / "example.log")
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(READY_S) in (0, -signal.SIGTERM)
        lines = (folder / "example.log").read_text().splitlines()
        assert [
            line for line in lines if not line.startswith(("SQLite ", *says))
        ] == []  # old ones are warned of
    finally:
        process.kill()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not _answers(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:  # between two looks at /readyz: there is no event to wait for
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
