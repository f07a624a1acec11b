"""`chatkit serve` and `chatkit token`: what they print, and the exit codes 0 ok, 1 failed, 2 misuse."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from importlib.metadata import version
from pathlib import Path

import httpx
import jwt
import pytest

from chatkit import ChatApi

from .command import SECRET, TIMEOUT_S, chatkit, next_line, started


@pytest.mark.parametrize("command", [[], ["serve"], ["token"], ["demo"], ["verify"]])
def test_help(command: list[str], tmp_path: Path) -> None:
    done = chatkit(*command, "--help", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: chatkit" in done.stdout


def test_version(tmp_path: Path) -> None:
    done = chatkit("--version", cwd=tmp_path)

    assert (0, f"chatkit, version {version('chatkit-engine')}\n") == (done.returncode, done.stdout)


def test_a_token_has_the_claims_of_the_contract(tmp_path: Path) -> None:
    done = chatkit("token", "--user", "u-1", "--device", "phone", "--ttl", "60", cwd=tmp_path)

    assert done.returncode == 0
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert {"sub", "dev", "iat", "exp", "scope"} == set(claims)
    assert (claims["sub"], claims["dev"]) == ("u-1", "phone")


def test_a_token_as_json(tmp_path: Path) -> None:
    done = chatkit("token", "--user", "u-1", "--json", cwd=tmp_path)

    printed = json.loads(done.stdout)
    assert (done.returncode, printed["user"], printed["device"], printed["ttl"]) == (0, "u-1", None, 3600)
    assert jwt.decode(printed["token"], SECRET, algorithms=["HS256"])["sub"] == "u-1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--storage", "mysql://localhost/chat"], "unknown storage address"),
        (
            ["serve", "--port", "0", "--bus", "nats://127.0.0.1:1"],
            "the bus at nats://127.0.0.1:1 cannot be reached",
        ),
        (
            ["serve", "--port", "0", "--bus", "redis://:pw@127.0.0.1:1"],
            "the bus at redis://127.0.0.1:1 cannot be reached",
        ),
        (["serve", "--bus", "nats://localhost:port"], "such as nats://"),
        (["serve", "--queue", "nats://localhost"], "unknown queue address"),
        (["serve", "--storage", "memory://somewhere"], "unknown storage address"),
        (["serve", "--bus", "carrier-pigeon://"], "unknown bus address"),
        (
            ["serve", "--storage", "sqlite:///no/such/folder/chat.db", "--port", "0"],
            "cannot open the lock file",
        ),
        (["serve", "--port", "65536"], "65536"),
        (["token", "--user", "no spaces"], "--user takes"),
        (["token", "--user", ".."], "--user takes"),
        (["token", "--user", "u" * 129], "--user takes"),
        (["token", "--user", "u-1", "--device", "ü"], "--device takes"),
        (["token", "--user", "u-1", "--ttl", "0"], "--ttl"),
        (["token"], "--user"),
        (["verify"], "FILE"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_misuse_is_told_in_a_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = chatkit(*arguments, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["token", "--user", "u-1"]])
@pytest.mark.parametrize("secret", [None, ""])
def test_a_missing_secret_is_misuse(command: list[str], secret: str | None, tmp_path: Path) -> None:
    done = chatkit(*command, cwd=tmp_path, env={"CHATKIT_JWT_SECRET": secret})

    assert (done.returncode, done.stdout) == (2, "")
    assert "CHATKIT_JWT_SECRET" in done.stderr.splitlines()[-1]


def test_the_secret_may_be_in_another_variable(tmp_path: Path) -> None:
    command = ["token", "--user", "u-1", "--jwt-secret-env", "ELSEWHERE"]

    done = chatkit(*command, cwd=tmp_path, env={"ELSEWHERE": "x" * 32, "CHATKIT_JWT_SECRET": None})

    assert jwt.decode(done.stdout.strip(), "x" * 32, algorithms=["HS256"])["sub"] == "u-1"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_ends_with_0_and_frees_the_port(stop: signal.Signals, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'chat.db'}"
    with started("serve", "--port", "0", "--storage", storage, "--json", cwd=tmp_path) as process:
        address = json.loads(next_line(process))
        url = f"http://{address['host']}:{address['port']}"
        token = chatkit("token", "--user", "u-1", cwd=tmp_path).stdout.strip()
        async with ChatApi(url, token=token) as api:
            assert await api.ready()
            created = await api.create_conversation("GROUP", ["u-2"])
        process.send_signal(stop)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert [line for line in process.stderr if "SQLite" not in line] == [], "an old SQLite is warned of"
    socket.create_server((address["host"], address["port"])).close()
    with sqlite3.connect(tmp_path / "chat.db") as database:
        found = database.execute("SELECT count(*) FROM conversation").fetchone()
    database.close()
    assert (created.member_ids[0], found) == ("u-1", (1,))


def test_the_address_is_told_to_people_too(tmp_path: Path) -> None:
    with started("serve", "--port", "0", "--storage", "memory://", cwd=tmp_path) as process:
        url = next_line(process).split()[-1]
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0


def test_a_taken_port_is_told_in_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = chatkit("serve", "--port", port, "--storage", "memory://", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    words = "Address already in use; stop what listens there, or give another port with --port"
    assert done.stderr.splitlines()[-1] == f"Error: cannot listen on 127.0.0.1:{port}: {words}"
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_log_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)

    done = chatkit("serve", "--port", "0", "--storage", "sqlite:///notes.txt", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot open the SQLite file" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
