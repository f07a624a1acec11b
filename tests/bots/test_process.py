"""Bots as processes, on a real server: killed at any moment, stopped by signals, set up by the environment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from chatkit import ChatApi, ChatClient, ConfigurationError
from chatkit.bots import Bot

from ..blackbox.server_process import ServerProcess
from ..blackbox.tokens import token

ROOT = Path(__file__).parents[2]
USERS = ("ann", "ben", "cem")
TEXTS = 40
KILLS = 8
"""In each of them the bot handles at most 11 messages, so there are always some left."""

END_S = 20.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path)
    process.start()
    yield process
    process.stop()


@contextmanager
def running(
    server: ServerProcess, folder: Path, *arguments: str, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """The bot in a process of its own; killed at the end."""
    set_up = {
        "CHATKIT_URL": server.http_url,
        "CHATKIT_TOKEN": token("bot"),
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bots.dying_bot", *arguments],
        cwd=folder,
        env={**os.environ, **set_up, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def lines_until(child: subprocess.Popen[str], word: str, count: int = 1) -> list[str]:
    """What it says, up to the `count`th line that begins with a word, or its end."""
    assert child.stdout is not None
    lines: list[str] = []
    for line in child.stdout:
        lines.append(line.strip())
        count -= line.startswith(word)
        if count == 0:
            break
    return lines


async def talk(server: ServerProcess, user: str) -> None:
    async with ChatClient(server.http_url, token=token(user), device_id="phone") as chat:
        for number in range(TEXTS):
            await chat.send(f"c-{user}", f"{user} {number}", timeout=120)


async def written(server: ServerProcess, user: str) -> list[tuple[str, str]]:
    async with ChatApi(server.http_url, token=token(user)) as api:
        page = await api.history(f"c-{user}", from_seq=1, limit=200)
    return [(it.sender_id, it.text) for it in page.messages if it.type == "TEXT"]


async def answer_count(server: ServerProcess) -> int:
    said = [await written(server, user) for user in USERS]
    return sum(sender == "bot" for lines in said for sender, _ in lines)


@pytest.mark.parametrize("seed", range(2))
async def test_killed_again_and_again_it_answers_every_message_once_and_counts_it_once(
    server: ServerProcess, tmp_path: Path, seed: int
) -> None:
    """SIGKILL at any point of a message, also of the server: three conversations, none loses or doubles an answer."""
    rng = random.Random(seed)
    async with ChatApi(server.http_url, token=token("bot")) as api:
        for user in USERS:
            await api.create_conversation("SINGLE", ["bot", user], conversation_id=f"c-{user}")
    async with anyio.create_task_group() as tasks:
        for user in USERS:
            tasks.start_soon(talk, server, user)
        for round_ in range(KILLS):
            with running(server, tmp_path) as child:
                word = rng.choice(["begun", "answered", "handled"])
                await anyio.to_thread.run_sync(lines_until, child, word, rng.randint(1, 9))
                child.send_signal(signal.SIGKILL)
            if round_ == KILLS // 2:
                server.kill()
                server.start()
    with running(server, tmp_path) as child:
        while await answer_count(server) < len(USERS) * TEXTS:
            await anyio.to_thread.run_sync(lines_until, child, "handled")
        child.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(child.wait) == 0
    for user in USERS:
        said = [text for sender, text in await written(server, user) if sender == "bot"]
        assert said == [f"{number + 1}. {user} {number}" for number in range(TEXTS)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_handler_end_and_the_process_with_exit_code_0(
    server: ServerProcess, tmp_path: Path, number: signal.Signals
) -> None:
    async with ChatApi(server.http_url, token=token("ann")) as api:
        await api.create_conversation("SINGLE", ["ann", "bot"], conversation_id="c-ann")
        with running(server, tmp_path, "1") as child:
            await anyio.to_thread.run_sync(lines_until, child, "connected")
            await api.send("c-ann", "one")
            await anyio.to_thread.run_sync(lines_until, child, "answered")
            child.send_signal(number)
            lines = await anyio.to_thread.run_sync(lines_until, child, "ended")
            assert lines == ["handled one", "ended"]
            assert await anyio.to_thread.run_sync(child.wait) == 0
            assert child.stderr is not None
            assert child.stderr.read() == ""


async def test_a_second_signal_cancels_the_handler(server: ServerProcess, tmp_path: Path) -> None:
    async with ChatApi(server.http_url, token=token("ann")) as api:
        await api.create_conversation("SINGLE", ["ann", "bot"], conversation_id="c-ann")
        with running(server, tmp_path, "1000") as child:
            await anyio.to_thread.run_sync(lines_until, child, "connected")
            await api.send("c-ann", "one")
            await anyio.to_thread.run_sync(lines_until, child, "answered")
            child.send_signal(signal.SIGINT)
            child.send_signal(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(lines_until, child, "ended") == ["ended"]
            assert await anyio.to_thread.run_sync(child.wait) == 0
        with running(server, tmp_path) as child:
            lines = await anyio.to_thread.run_sync(lines_until, child, "handled")
        assert "begun one" in lines
    assert await written(server, "ann") == [("ann", "one"), ("bot", "1. one")]


async def last_words(server: ServerProcess, folder: Path, refused_token: str) -> str:
    """The last line of a bot whose login is refused: it ends with 1, tries no more, and shows no traceback."""
    with running(server, folder, CHATKIT_TOKEN=refused_token) as child:
        _, errors = await anyio.to_thread.run_sync(child.communicate)
    assert child.returncode == 1
    assert "Traceback" not in errors
    assert "trying again" not in errors
    return str(errors.splitlines()[-1])


async def test_a_login_that_is_refused_ends_it_with_a_word_and_exit_code_1(
    server: ServerProcess, tmp_path: Path
) -> None:
    assert await last_words(server, tmp_path, "nonsense") == (
        "the bot has ended: the client has stopped: 4101 the token is not valid: it may be signed with"
        " another secret than the server's (CHATKIT_JWT_SECRET of both), or CHATKIT_URL is another server"
    )


async def test_a_login_that_has_expired_ends_it_with_what_to_do(
    server: ServerProcess, tmp_path: Path
) -> None:
    assert await last_words(server, tmp_path, token("bot", ttl_s=-3600)) == (
        "the bot has ended: the client has stopped: 4100 the token has expired: start it with a new one, which"
        " lasts longer (`chatkit token --ttl SECONDS`), or with CHATKIT_TOKEN_FILE, a file that you renew"
    )


async def test_a_second_one_in_the_same_folder_says_why_it_cannot_run(
    server: ServerProcess, tmp_path: Path
) -> None:
    with running(server, tmp_path) as first:
        await anyio.to_thread.run_sync(lines_until, first, "connected")
        with running(server, tmp_path) as second:
            _, errors = await anyio.to_thread.run_sync(second.communicate)
    assert errors.startswith("the bot has ended: the local store cannot be used")
    assert (second.returncode, errors.count("\n")) == (2, 1)
    with running(server, tmp_path, CHATKIT_TOKEN=token("other")) as third:
        _, errors = await anyio.to_thread.run_sync(third.communicate)
    assert (
        "bot.db belongs to the user bot on the device bot:"
        " name another file (store, --store of chatkit chat, or CHATKIT_STORE)" in errors
    )
    assert (third.returncode, errors.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "CHATKIT_URL is not set"),
        ({"CHATKIT_URL": "http://127.0.0.1:1"}, "CHATKIT_TOKEN is not set"),
        ({"CHATKIT_URL": "http://127.0.0.1:1", "CHATKIT_TOKEN": "t", "CHATKIT_TOKEN_FILE": "f"}, "both set"),
        ({"CHATKIT_URL": "http://127.0.0.1:1", "CHATKIT_TOKEN_FILE": "/nowhere/at/all"}, "cannot be read"),
        ({"CHATKIT_URL": "ftp://x", "CHATKIT_TOKEN": "t"}, "address must begin"),
        (
            {"CHATKIT_URL": "http://127.0.0.1:1", "CHATKIT_TOKEN": "t", "CHATKIT_DEVICE_ID": "a b"},
            "device_id",
        ),
    ],
)
def test_what_is_missing_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    env: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "TOKEN", "TOKEN_FILE", "DEVICE_ID", "STORE"):
        monkeypatch.delenv(f"CHATKIT_{name}", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        Bot().run()
    assert ended.value.code == 2
    assert isinstance(ended.value.__cause__, ConfigurationError)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the bot has ended: ")
    assert said in line


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: Bot, client: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Bot, "serve", fails)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        Bot().run()


def test_outside_the_main_thread_the_error_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATKIT_URL", raising=False)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            Bot().run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [type(it) for it in raised] == [ConfigurationError]


async def test_run_refuses_in_a_loop_with_advice() -> None:
    with pytest.raises(ConfigurationError, match=r"await bot\.serve"):
        Bot().run()


async def test_run_in_another_thread_looks_for_no_signals(server: ServerProcess) -> None:
    bot, loops, has_begun = Bot(), [], threading.Event()

    @bot.middleware
    async def note(context: object, call_next: object) -> None:
        loops.append(asyncio.get_running_loop())
        has_begun.set()

    client = ChatClient(server.http_url, token=token("bot"), device_id="d")
    thread = threading.Thread(target=bot.run, args=(client,))
    thread.start()
    assert await anyio.to_thread.run_sync(has_begun.wait, END_S)
    loops[0].call_soon_threadsafe(bot.stop)
    await anyio.to_thread.run_sync(thread.join)
    assert client.stopped is None
