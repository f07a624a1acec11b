"""`chatkit bench` against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .command import chatkit, next_line, started


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server on a file."""
    with started("serve", "--port", "0", "--json", "--storage", "sqlite:///chat.db", cwd=folder) as server:
        yield f"http://127.0.0.1:{json.loads(next_line(server))['port']}"


def test_it_says_how_long_messages_took(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        asked = ("--pairs", "3", "--rate", "20", "--seconds", "1")
        done = chatkit("bench", url, *asked, "--json", cwd=tmp_path)
        shown = chatkit("bench", url, *asked, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["run"].startswith("chatkit-bench-")
    assert (found["pairs"], found["sent"], found["acked"], found["delivered"]) == (3, 20, 20, 20)
    assert found["errors"] == {}
    for times in (found["send_to_ack_ms"], found["delivery_ms"]):
        assert 0 < times["p50"] <= times["p95"] <= times["p99"]
    assert shown.returncode == 0, shown.stderr
    assert "acknowledged 20 (20/s), delivered 20 (20/s)" in shown.stdout


def test_each_run_has_users_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        asked = ("--pairs", "1", "--rate", "5", "--seconds", "1", "--json")
        runs = [json.loads(chatkit("bench", url, *asked, cwd=tmp_path).stdout)["run"] for _ in range(2)]

    assert runs[0] != runs[1]


def test_a_secret_that_the_server_does_not_know_is_said(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        env = {"CHATKIT_JWT_SECRET": "another-secret-of-more-than-thirty-two-bytes"}
        done = chatkit("bench", url, "--pairs", "1", "--rate", "1", cwd=tmp_path, env=env)

    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rate", "100"), "--pairs 13 at least"),
        (("--pairs", "0"), "0 is not in the range"),
        (("--pairs", "501"), "501 is not in the range"),
        (("--seconds", "301"), "301"),
        (("--rate", "nan"), "are numbers"),
        (("--seconds", "nan"), "are numbers"),
        (("--text", "1"), "1 is not in the range"),
    ],
)
def test_nonsense_is_refused_before_anything_is_asked(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = chatkit("bench", "http://127.0.0.1:1", *arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1", "http://"])
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    done = chatkit("bench", url, cwd=tmp_path)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_without_a_secret_it_says_which_one(tmp_path: Path) -> None:
    done = chatkit("bench", "http://127.0.0.1:1", cwd=tmp_path, env={"CHATKIT_JWT_SECRET": None})

    assert done.returncode == 2
    assert "CHATKIT_JWT_SECRET" in done.stderr
