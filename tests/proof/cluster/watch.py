"""A real Prometheus beside the cluster: it scrapes nodes and workers, evaluates the alerts, and answers what it saw.

It is the one of Debian's package (scripts/promtool). A fault of a test lasts minutes and not hours, so the rules are
hastened: every time in them is divided, and the scrapes come as much closer; thresholds stay.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chatkit.observability.prometheus import RULES
from tests.blackbox.server_process import free_port

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_READY_WITHIN_S = 30.0


def find() -> str:
    """Where prometheus is. Ends the program with a word on how to get one."""
    beside = Path(sys.executable).parent
    found = shutil.which("prometheus", path=f"{os.environ.get('PATH', '')}:{beside}")
    if found is None:
        sys.exit("there is no prometheus here: scripts/promtool gets one")
    return found


def hastened(rules: str, times: float) -> str:
    """Rules in which every time is divided; but for the day within which a worker must have run."""

    def shorter(match: re.Match[str]) -> str:
        before, number, unit = match.groups()
        if unit == "d":
            return match.group()
        return f"{before}{max(1, round(int(number) * _UNITS[unit] / times))}s"

    return re.sub(r"(\[|for: |offset )(\d+)([smhd])(?=\W)", shorter, rules)


class Prometheus:
    """One that runs.

    Args:
        folder: For its data.
        targets: `HOST:PORT` of each, by name.
        hasten: How much closer everything is in time.
    """

    def __init__(self, folder: Path, targets: dict[str, str], hasten: float) -> None:
        self._folder = folder
        self._port = free_port()
        folder.mkdir()
        (folder / "chatkit.rules.yml").write_text(hastened(RULES.read_text(), hasten))
        every = f"{max(1, round(15 / hasten))}s"
        scrapes: list[dict[str, Any]] = [
            {"targets": [address], "labels": {"instance": name}} for name, address in targets.items()
        ]
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(folder / "chatkit.rules.yml")],
            "scrape_configs": [{"job_name": "chatkit", "static_configs": scrapes}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the end of the block."""
        command = [
            find(),
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]
        with (self._folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                self._wait_ready(process)
                yield
            finally:
                process.terminate()

    def range(
        self, query: str, start_s: float, end_s: float
    ) -> list[tuple[dict[str, str], list[list[float]]]]:
        """The series of a query between two moments, second by second: labels, and [Unix seconds, value]."""
        found = self._get("query_range", query=query, start=start_s, end=end_s, step=1)
        return [
            (it["metric"], [[float(at), float(value)] for at, value in it["values"]])
            for it in found["data"]["result"]
        ]

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        until_s = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                self._get("query", query="1")
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.1)

    def _get(self, what: str, **arguments: object) -> Any:
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{what}?{query}", timeout=30) as it:
            return json.load(it)


def targets_of(ports: Sequence[int], what: str) -> dict[str, str]:
    """Names and addresses of what is scraped."""
    return {f"{what}-{number}": f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
