"""A server started in another way than by `python -m chatkit`: with fail points, or traced from its first breath."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import SECRET

ROOT = Path(__file__).parents[2]
CHATKIT_SERVE = (sys.executable, "-m", "chatkit", "serve")


class LaunchedServer(ServerProcess):
    """`chatkit serve` on a SQLite file, started by any program.

    Args:
        program: What comes before the options of `serve`; the server is its process.
        environment: Variables beside those of this process.
    """

    def __init__(
        self,
        folder: Path,
        program: Sequence[str] = CHATKIT_SERVE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.program = program
        self.environment = dict(environment or {})

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it without waiting for it to be ready."""
        command = [*self.program, "--port", str(self.port)]
        command += ["--storage", f"sqlite:///{self.folder / 'chat.db'}"]
        environment = os.environ | {"CHATKIT_JWT_SECRET": SECRET, "PYTHONUNBUFFERED": "1"} | self.environment
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=ROOT
            )
        return self.process
