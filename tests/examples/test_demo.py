"""`chatkit demo`, run as a process: it tells the story, replays, cleans up, and fails aloud."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import anyio
import httpx
import pytest
from click.testing import CliRunner
from rich.console import Console as Output

from chatkit import (
    ChatApi,
    ChatClient,
    ChatkitError,
    Message,
    MessageReceived,
    SendOutcomeUnknownError,
    sign_token,
)
from chatkit._demo import main as demo_main
from chatkit._demo.console import Console, ExpectationError, counted, expect, within
from chatkit._demo.node import NodeProcess
from chatkit._demo.playground import BOT, answer
from chatkit._demo.replay import Member, Row
from chatkit._demo.story import StoryResult
from chatkit.cli.demo import demo
from chatkit.ports import SystemClock
from tests.cli.command import SECRET, TIMEOUT_S, chatkit, next_line, started

PRINTED = [
    "PENDING on Omar's phone and on his tablet",
    "omar's phone   receives seq 4: I wait by the fountain.",
    "omar's tablet  receives seq 4: I wait by the fountain.",
    "lina's phone   DELIVERED up to seq 4",
    "omar's tablet  shows seq 4 as read",
    "lina's phone   READ up to seq 4",
    "the message left twice under one key",
    "the log holds it once",
    "is dead: exit status -9",
    "all 5 entries from before are there, and one more",
    "60 lines: 49 messages, 5 actions, 6 joins, leaves and renames, 0 others",
    "the logs of all 8 members are the same as the server's",
    "was asked to end (SIGTERM) and did: exit status 0",
    "Summary",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder without real logs beside it, and one for temporary files."""
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    return tmp_path


def environment(place: Path) -> dict[str, str | None]:
    return {"TMPDIR": str(place / "temporary"), "CHATKIT_JWT_SECRET": None}


def assert_nothing_is_left(place: Path, printed: str) -> None:
    assert list((place / "temporary").iterdir()) == []
    pids = [int(pid) for pid in re.findall(r"process (\d+)", printed)]
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_whole_demo_on_the_transcript_that_ships(place: Path) -> None:
    done = chatkit("demo", "--limit", "60", cwd=place / "work", env=environment(place))

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    places = [done.stdout.find(words) for words in PRINTED]
    assert places == sorted(places), done.stdout
    assert -1 not in places, (PRINTED[places.index(-1)], done.stdout)
    assert_nothing_is_left(place, done.stdout)


def test_the_results_as_json(place: Path) -> None:
    log = place / "work" / "a.log"
    log.write_text("[10:00] <a|b> hi\n=== c [c@d]  has joined #x\n[10:01]  * c waves\n\n[10:02] <a|b> \xfc\n")

    done = chatkit("demo", "a.log", "--json", cwd=place / "work", env=environment(place))

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["ok"], result["transcript"]) == (True, "a.log")
    assert tuple(result["story"][name] for name in ("entries", "connectionsCut", "serversKilled")) == (
        6,
        1,
        1,
    )
    assert result["replay"]["kinds"] == {"text": 2, "action": 1, "event": 1, "unknown": 1}
    assert tuple(result["replay"][name] for name in ("lines", "members", "deliveries")) == (5, 3, 10)
    assert_nothing_is_left(place, done.stderr)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_an_interruption(stop: signal.Signals, place: Path) -> None:
    with started("demo", cwd=place / "work", env=environment(place)) as process:
        printed = ""
        while "SENT as seq" not in printed:
            line = next_line(process)
            assert line, printed
            printed += line
        process.send_signal(stop)
        assert process.wait(TIMEOUT_S) == 1
        assert process.stdout is not None
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        printed += process.stdout.read()
    assert_nothing_is_left(place, printed)


def test_nothing_is_left_when_nobody_reads_on(place: Path) -> None:
    with started("demo", cwd=place / "work", env=environment(place)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        next_line(process)
        process.stdout.close()
        assert process.wait(TIMEOUT_S) == 1
        assert process.stderr.read() == ""
    assert list((place / "temporary").iterdir()) == []


def test_a_log_of_another_program_is_refused(place: Path) -> None:
    log = place / "work" / "export.txt"
    log.write_text("2024-05-01 12:00:00 ann: hello\n2024-05-01 12:00:07 ben: hi\n")
    done = chatkit("demo", str(log), cwd=place / "work", env=environment(place))

    assert done.returncode == 2
    assert "there is nothing to replay" in done.stderr.splitlines()[-1]
    assert "every expectation held" not in done.stdout


def test_what_a_log_says_is_harmless_to_a_terminal() -> None:
    output = Output(file=io.StringIO(), width=200, highlight=False)
    console = Console(output, SystemClock())
    console.saw("ann\x1b[2J", "says [bold]hi[/bold]\x07\u202e")

    assert isinstance(output.file, io.StringIO)
    assert output.file.getvalue().strip().endswith("ann\\x1b[2J     says [bold]hi[/bold]\\x07\\x202e")


def test_counts_are_words() -> None:
    assert (counted(1, "member"), counted(2, "member"), counted(0, "line")) == (
        "1 member",
        "2 members",
        "0 lines",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-file.txt"], "no-such-file.txt"),
        (["."], "directory"),
        (["empty.txt"], "holds no line"),
        (["crowd.txt"], "nicks are more than"),
        (["--limit", "0"], "--limit"),
        (["--port", "0"], "go with --serve"),
        (["--serve", "--limit", "5"], "--serve replays nothing"),
        (["--serve", "--storage", "mysql://x"], "unknown storage address"),
    ],
)
def test_misuse(arguments: list[str], says: str, place: Path) -> None:
    (place / "work" / "empty.txt").touch()
    (place / "work" / "crowd.txt").write_text("".join(f"[10:00] <n{n}> hi\n" for n in range(1000)))

    done = chatkit("demo", *arguments, cwd=place / "work", env=environment(place))

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[-1]
    assert list((place / "temporary").iterdir()) == []


def test_a_failed_expectation_ends_with_1_and_says_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = []

    async def tell_story(node: NodeProcess, *_: object) -> NoReturn:
        pids.append(node.pid)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            expect(False, "one entry in the log", [5, 6])
        raise AssertionError("an expectation that failed went on")

    monkeypatch.setattr(demo_main, "tell_story", tell_story)

    result = CliRunner().invoke(demo, ["--limit", "1"])

    assert result.exit_code == 1, result.output
    assert "Error: expected one entry in the log; found [5, 6]" in result.output
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.parametrize("spoil", [lambda rows: rows[:-1], lambda rows: [rows[1], rows[0], *rows[2:]]])
def test_a_log_that_differs_is_noticed(
    spoil: Callable[[list[Row]], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell_story(*_: object) -> StoryResult:
        return StoryResult(0, 0, 0, 0, 0.0)

    rows = Member.rows
    monkeypatch.setattr(demo_main, "tell_story", tell_story)
    monkeypatch.setattr(Member, "rows", lambda member: spoil(rows(member)))

    result = CliRunner().invoke(demo, ["--limit", "5"])

    assert result.exit_code == 1
    assert "Error: expected the server's log at irc:" in result.output


async def test_what_does_not_come_in_time_is_named() -> None:
    message = "expected a miracle within 0 s; it did not come"
    with pytest.raises(ExpectationError, match=message), within("a miracle", 0):
        await anyio.sleep_forever()


async def test_the_playground_serves_the_page_two_users_and_a_bot(place: Path) -> None:
    with started("demo", "--serve", "--json", cwd=place / "work", env=environment(place)) as process:
        links = json.loads(next_line(process))
        url, _, fragment = links["lina"].partition("/#token=")
        token = fragment.split("&")[0]
        assert links["omar"].startswith(f"{url}/#token=")
        async with httpx.AsyncClient(trust_env=False) as web:
            assert "<!doctype html" in (await web.get(url)).text.lower()
        async with ChatApi(url, token=token) as api:
            known = {row.conversation_id async for row in api.all_conversations()}
            assert {"lina-and-omar", "lina-and-echo", "weekend"} == known
        async with ChatClient(url, token=token, device_id="phone") as chat:
            await chat.send("lina-and-echo", "Hello bot")
            assert await first_answer(chat) == "Hello bot, you said"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert list((place / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"type": "GROUP", "member_ids": ["zoe"], "conversation_id": "weekend"},
        {"type": "SINGLE", "member_ids": ["omar"], "conversation_id": "their-own"},
    ],
)
async def test_a_storage_with_other_conversations_is_named_in_a_line(
    other: dict[str, Any], place: Path
) -> None:
    storage = f"sqlite:///{place / 'work' / 'chat.db'}"
    with started("serve", "--port", "0", "--storage", storage, cwd=place / "work") as process:
        url = next_line(process).split()[-1]
        async with ChatApi(url, token=sign_token(SECRET, user_id="lina")) as api:
            await api.create_conversation(**other)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0

    command = ["demo", "--serve", "--storage", storage]
    done = chatkit(*command, cwd=place / "work", env=environment(place))

    assert (done.returncode, done.stdout) == (2, "")
    assert "this storage holds other conversations" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list((place / "temporary").iterdir()) == []


async def first_answer(chat: ChatClient) -> str:
    async for event in chat.events():
        match event:
            case MessageReceived(message=message) if message.sender_id == "echo-bot" and message.text:
                return message.text
    raise AssertionError("the client stopped")


class RefusingClient:
    """A client whose every send fails in one way."""

    def __init__(self, failure: ChatkitError) -> None:
        self._failure = failure

    async def mark_read(self, conversation_id: str, up_to_seq: int) -> None: ...

    async def send(self, conversation_id: str, text: str, client_msg_id: str) -> NoReturn:
        raise self._failure


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (
            SendOutcomeUnknownError("no answer yet", conversation_id="c", client_msg_id="k"),
            f"{BOT}'s answer to m-1 waits for the server\n",
        ),
        (ChatkitError("too long"), f"{BOT} could not answer m-1: too long\n"),
    ],
)
async def test_the_bot_tells_a_late_answer_from_a_refused_one(
    failure: ChatkitError, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await answer(RefusingClient(failure), Message("c", 1, "m-1", "lina", 0, {"type": "TEXT", "text": "hi"}))

    assert capsys.readouterr().err == says
