"""`examples/chatkit.service` fits chatkit, and systemd takes it: its tools need no running systemd."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit.cli.configured import all_names
from chatkit.cli.settings import fields, variable_of
from chatkit.server.config import ServerConfig
from tests.cli.command import SECRET, TIMEOUT_S, chatkit, next_line, started
from tests.docs.snippets import ROOT, blocks

UNIT = (ROOT / "examples/chatkit.service").read_text(encoding="utf-8")
PROGRAM = "/opt/chatkit/bin/chatkit"
EXPOSURE_MAX = 20
"""Of 100; the words of `systemd-analyze security` below it are "OK"."""


def values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def variables() -> dict[str, str]:
    return dict(it.split("=", 1) for it in values("Environment"))


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze here")
    return subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_reads_every_line_of_it(tmp_path: Path) -> None:
    unit = tmp_path / "chatkit.service"
    unit.write_text(UNIT.replace(PROGRAM, sys.executable))
    done = systemd_analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    unit.write_text(UNIT.replace(PROGRAM, sys.executable).replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in systemd_analyze("verify", "--man=no", str(unit)).stderr, "a wrong line is seen"


def test_little_is_open_to_it(tmp_path: Path) -> None:
    unit = tmp_path / "chatkit.service"
    unit.write_text(UNIT)
    threshold = f"--threshold={EXPOSURE_MAX}"
    done = systemd_analyze("security", "--offline=true", threshold, str(unit))
    assert done.returncode == 0, done.stdout

    unit.write_text(
        "\n".join(line for line in UNIT.splitlines() if not line.startswith(("Protect", "System")))
    )
    assert systemd_analyze("security", "--offline=true", threshold, str(unit)).returncode != 0


def test_its_variables_and_command_are_those_of_chatkit() -> None:
    known = {variable_of((name,)) for name in all_names()} | {variable_of(path) for path, _ in fields()}
    assert set(variables()) <= known
    assert values("ExecStart") == [f"{PROGRAM} serve"]
    assert values("ExecStartPre") == [f"{PROGRAM} config check serve"]


def test_a_drain_comes_to_its_end_and_sockets_have_room() -> None:
    config = ServerConfig()
    drain_s = config.drain_spread_s + 2 * config.drain_timeout_s + 2
    assert int(values("TimeoutStopSec")[0]) > drain_s
    assert int(values("LimitNOFILE")[0]) >= 2 * config.sessions_max


def test_the_secret_is_a_credential_and_nowhere_in_it() -> None:
    (credential,) = values("LoadCredential")
    name, _, source = credential.partition(":")
    assert variables()["CHATKIT_JWT_SECRET_FILE"] == f"%d/{name}"
    assert f"> {source}" in (ROOT / "docs/deploying.md").read_text(encoding="utf-8"), "the page makes it"


def test_the_page_shows_it_as_it_is() -> None:
    shown = [it.text for it in blocks(ROOT / "docs/deploying.md", "ini")]
    assert UNIT.partition("[Unit]")[2] in [it.partition("[Unit]")[2] for it in shown]


def test_its_commands_run_with_its_settings(tmp_path: Path) -> None:
    """As the unit says, but for where the files are and which port is free."""
    (tmp_path / "jwt-secret").write_text(SECRET + "\n")
    places = {"%d": str(tmp_path), "/var/lib/chatkit": str(tmp_path)}
    env: dict[str, str | None] = {"CHATKIT_JWT_SECRET": None}
    for name, value in variables().items():
        for there, here in places.items():
            value = value.replace(there, here)
        env[name] = value
    env["CHATKIT_PORT"] = "0"

    checked = chatkit("config", "check", "serve", cwd=tmp_path, env=env)
    assert (checked.returncode, checked.stderr) == (0, "")
    wrong = chatkit("serve", cwd=tmp_path, env={**env, "CHATKIT_PORT": "x"})
    assert str(wrong.returncode) in values("RestartPreventExitStatus")
    with started("serve", "--json", cwd=tmp_path, env=env) as process:
        assert json.loads(next_line(process))["host"] == "127.0.0.1"
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    assert (tmp_path / "chat.db").exists()
