"""`examples/compose.yaml` and its neighbours fit chatkit: options, variables, times. No image is pulled."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatkit.assemble import open_bus, open_store
from chatkit.cli.commands import chatkit
from chatkit.cli.common import SECRET_ENV
from chatkit.cli.configured import all_names
from chatkit.cli.settings import fields, variable_of
from chatkit.server.config import ServerConfig
from tests.docs.snippets import ROOT
from tests.hosts.proxies import find
from tests.servers.nats import nats_process
from tests.servers.process import free_port, running

EXAMPLES = ROOT / "examples"
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
HAPROXY = (EXAMPLES / "haproxy.cfg").read_text(encoding="utf-8")
NODES = [name for name in SERVICES if name.startswith("node-")]
OURS = [*NODES, "worker"]
SECRETS = ("CHATKIT_JWT_SECRET", "POSTGRES_PASSWORD", "NATS_PASSWORD")
CONNECTIONS_OF_A_NODE = 20


def seconds(words: str) -> float:
    return float(words.removesuffix("s"))


def filled(text: str, value: str = "x" * 32) -> str:
    """As compose puts the variables in."""
    return re.sub(r"\$\{\w+:\?[^}]*\}", value, text)


@pytest.mark.parametrize("service", OURS)
def test_the_command_lines_are_those_of_chatkit(service: str) -> None:
    name, *arguments = SERVICES[service]["command"]
    settings = {it: filled(str(value)) for it, value in SERVICES[service]["environment"].items()}
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in settings.items():
            patch.setenv(variable, value)
        context = chatkit.commands[name].make_context(name, list(arguments))
    assert context.params["storage"] == settings["CHATKIT_STORAGE"]


@pytest.mark.parametrize("service", OURS)
def test_the_variables_are_those_of_chatkit(service: str) -> None:
    known = {variable_of((name,)) for name in all_names()} | {variable_of(path) for path, _ in fields()}
    given = {it for it in SERVICES[service]["environment"] if it.startswith("CHATKIT_")}
    assert given <= known | {SECRET_ENV}


def test_the_addresses_are_read() -> None:
    for name in NODES:
        environment = SERVICES[name]["environment"]
        assert type(open_store(filled(environment["CHATKIT_STORAGE"]))).__name__ == "PostgresStore"
        assert type(open_bus(filled(environment["CHATKIT_BUS"]))).__name__ == "NatsBus"
        assert "postgres" in SERVICES and "nats" in SERVICES, "the hosts of these addresses"
    log = {SERVICES[name]["environment"]["CHATKIT_STORAGE"] for name in NODES}
    assert log == {SERVICES["worker"]["environment"]["CHATKIT_STORAGE"]}, "all of them serve one log"


def test_a_drain_comes_to_its_end() -> None:
    drain_s = 2 * ServerConfig().drain_timeout_s + 2
    for name in OURS:
        assert seconds(SERVICES[name]["stop_grace_period"]) > drain_s
    assert seconds(SERVICES["balancer"]["stop_grace_period"]) > seconds(
        SERVICES[NODES[0]]["stop_grace_period"]
    )


def test_images_have_versions() -> None:
    images = [it["image"] for it in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == len(SERVICES) + 2
    assert [image for image in images if not re.search(r":\d+\.\d+(\.\d+)?(-\w+)*$", image)] == []


def test_secrets_come_from_outside_and_must_be_there() -> None:
    text = (EXAMPLES / "compose.yaml").read_text(encoding="utf-8")
    used = re.findall(r"\$\{(\w+)(:\?)?", text)
    assert {name for name, _ in used} == set(SECRETS)
    assert all(required for _, required in used)
    assert "ENV CHATKIT_JWT_SECRET" not in DOCKERFILE
    for ignored in (".dockerignore", ".gitignore"):
        assert ".env" in (ROOT / ignored).read_text(), (
            "the file with the secrets gets into no image and no clone"
        )


def test_no_secret_is_in_a_command_line() -> None:
    """Everybody on the host can read those."""
    words = [str(service.get("command")) + str(service.get("healthcheck")) for service in SERVICES.values()]
    assert [name for name in SECRETS if name in "".join(words)] == []


@pytest.mark.parametrize(
    "password", ["1" * 64, "5k", "2026-11-30", "true", "9f" * 32], ids=lambda it: it[:10]
)
async def test_nats_takes_the_password_of_its_variable(
    password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats = SERVICES["nats"]
    (mount,) = nats["volumes"]
    beside, place, _ = mount.split(":")
    assert nats["command"] == ["--config", place]
    monkeypatch.setenv("NATS_PASSWORD", filled(nats["environment"]["NATS_PASSWORD"], password))
    monitor = ["--http_port", str(free_port())]  # in place of the file's, which may be taken here
    with running(nats_process(tmp_path, "--config", str(EXAMPLES / beside), *monitor)) as server:
        command = Path(f"/proc/{server.pid}/cmdline")
        assert not command.exists() or password not in command.read_text()
        assert "http_port: 8222" in (EXAMPLES / beside).read_text() and ":8222/" in str(nats["healthcheck"])
        assert greeting(server.port, password) == b"PONG\r\n"
        assert b"Authorization Violation" in greeting(server.port, "another")


def greeting(port: int, password: str) -> bytes:
    """What NATS answers to a login."""
    login = {"user": "chatkit", "pass": password, "verbose": False}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as nats, nats.makefile("rb") as answers:
        answers.readline()  # INFO
        nats.sendall(b"CONNECT " + json.dumps(login).encode() + b"\r\nPING\r\n")
        return answers.readline()


def test_the_image_runs_as_somebody_else_than_root_with_the_extras_it_needs() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!root)\w+$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["chatkit"]' in last and "/readyz" in last and "STOPSIGNAL SIGTERM" in last
    (listed,) = re.findall(r"/src\[([\w,]+)\]", DOCKERFILE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"cli", "postgres", "nats"} <= set(listed.split(",")) <= set(extras)


def test_everybody_is_watched_and_the_log_is_kept() -> None:
    own = set(OURS) | {"balancer"}  # by the image's own check; HAProxy asks the nodes itself
    assert all("healthcheck" in service for name, service in SERVICES.items() if name not in own)
    name, _, place = SERVICES["postgres"]["volumes"][0].partition(":")
    assert name in COMPOSE["volumes"] and place == "/var/lib/postgresql/data"
    (room,) = re.findall(r"max_connections=(\d+)", str(SERVICES["postgres"]["command"]))
    assert int(room) > CONNECTIONS_OF_A_NODE * (len(NODES) + 1)


def test_the_balancer_knows_the_nodes_and_does_not_cut_quiet_websockets() -> None:
    assert re.findall(r"^    server \S+ (\S+):8080$", HAPROXY, re.MULTILINE) == NODES
    assert "option httpchk GET /readyz" in HAPROXY
    for what in ("client", "server", "tunnel"):
        (found,) = re.findall(rf"timeout {what} +(\d+)s", HAPROXY)
        assert int(found) > 2 * ServerConfig().heartbeat_s


def test_the_balancer_may_open_what_it_is_told_to() -> None:
    (connections,) = re.findall(r"maxconn (\d+)", HAPROXY)
    assert SERVICES["balancer"]["ulimits"]["nofile"]["soft"] > 2 * int(connections) + 100


def test_docker_reads_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker with its compose plugin here")
    done = subprocess.run(
        [docker, "compose", "--file", str(EXAMPLES / "compose.yaml"), "config", "--quiet"],
        env=os.environ | dict.fromkeys(SECRETS, "x" * 32),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_haproxy_reads_its_file() -> None:
    done = subprocess.run(
        [find("haproxy"), "-c", "-f", str(EXAMPLES / "haproxy.cfg")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
