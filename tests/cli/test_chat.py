"""`chatkit chat` up to its screen, which `tests/terminal` drives; and once on a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from chatkit import ChatApi, sign_token
from chatkit.cli._chat_files import device_id, state_folder, store_path
from chatkit.cli.commands import chatkit

from .command import SECRET
from .test_bench import serving

WAIT_S = 60.0


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        self._main, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chatkit", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **env},
            start_new_session=True,
        )
        os.close(other)
        self.shown = ""

    def until(self, words: str) -> None:
        """Read what it writes until there are these words."""
        while words not in self.shown:
            ready, _, _ = select.select([self._main], [], [], WAIT_S)
            assert ready, f"{words!r} was never shown: {self.shown[-2000:]!r}"
            self.shown += self._read()

    def end(self) -> int:
        """Read to its end; the exit code."""
        with suppress(OSError):
            while text := self._read():
                self.shown += text
        return self.process.wait(WAIT_S)

    def press(self, keys: str) -> None:
        """Type these."""
        os.write(self._main, keys.encode())

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_S)
        os.close(self._main)

    def _read(self) -> str:
        return os.read(self._main, 65536).decode(errors="replace")


def test_two_users_talk_over_a_real_terminal_and_a_real_server(tmp_path: Path) -> None:
    token, cat_token = sign_token(SECRET, user_id="ann"), sign_token(SECRET, user_id="cat")
    with serving(tmp_path) as url:
        anyio.run(_begin, url, cat_token)
        env = {"CHATKIT_TOKEN": token, "XDG_STATE_HOME": str(tmp_path / "state")}
        with closing(Terminal("chat", url, env=env)) as terminal:
            terminal.until("cat: Hello")  # from before this device was there
            terminal.press("\r")
            terminal.until("New line")  # of the keys that are shown at the bottom
            terminal.press("Good morning\r")
            terminal.until("✓")
            terminal.press("and bye\r\x11")  # in one burst, as over a slow line
            assert terminal.end() == 0
        assert anyio.run(_texts, url, cat_token) == ["Hello", "Good morning", "and bye"]
    assert "\x1b[?1049l" in terminal.shown  # the screen before is back
    assert token not in terminal.shown
    (store,) = (tmp_path / "state/chatkit").glob("*.db")
    assert [path.stat().st_mode & 0o777 for path in (store, store.parent)] == [0o600, 0o700]


async def _begin(url: str, token: str) -> None:
    async with ChatApi(url, token=token) as cat:
        await cat.create_conversation("GROUP", ["ann"], conversation_id="c-tea", title="Tea")
        await cat.send("c-tea", "Hello")


async def _texts(url: str, token: str) -> list[str]:
    async with ChatApi(url, token=token) as cat:
        return [it.text for it in (await cat.history("c-tea")).messages if it.type == "TEXT"]


def test_a_login_that_is_refused_is_said_and_ends_with_1(tmp_path: Path) -> None:
    store, log = tmp_path / "ann.db", tmp_path / "warnings.log"
    options = ("--device", "laptop", "--store", str(store), "--log-file", str(log), "--token-env", "ANN")
    with serving(tmp_path) as url:
        env = {"ANN": "no-token", "XDG_STATE_HOME": str(tmp_path / "state")}
        with closing(Terminal("chat", url, *options, env=env)) as terminal:
            terminal.until("ended:")
            terminal.press("\x11")
            assert terminal.end() == 1
    assert "Error: " in terminal.shown
    assert "Traceback" not in terminal.shown
    assert "no-token" not in terminal.shown + log.read_text()
    assert store.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "state").exists()  # nothing of it is needed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "CHATKIT_TOKEN is not set"),
        (("--token-file", "none"), "'none' cannot be read"),
        (("--token", "secret-words"), "No such option"),
    ],
)
def test_without_a_login_it_says_how_to_give_one(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("CHATKIT_TOKEN", raising=False)
    done = CliRunner().invoke(chatkit, ["chat", "ws://127.0.0.1:1", *arguments])
    assert done.exit_code == 2
    assert words in done.output
    assert "secret-words" not in done.output


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "textual", None)
    for name in [it for it in sys.modules if it.startswith(("textual.", "chatkit.terminal"))]:
        monkeypatch.delitem(sys.modules, name)
    done = CliRunner().invoke(chatkit, ["chat", "ws://127.0.0.1:1"], env={"CHATKIT_TOKEN": "t"})
    assert done.exit_code == 2
    assert 'pip install "chatkit-engine[terminal]"' in done.output


def test_an_installation_keeps_its_name_and_each_user_has_a_store(tmp_path: Path) -> None:
    folder = state_folder({"XDG_STATE_HOME": str(tmp_path)})
    device = device_id(folder)
    assert device.startswith("terminal-") and device_id(folder) == device
    assert (folder / "device").stat().st_mode & 0o777 == 0o600
    tokens = [sign_token(SECRET, user_id=user) for user in ("ann", "ann", "bob")]
    ann, ann_later, bob = (store_path(folder, "ws://chat", device, token) for token in tokens)
    assert ann == ann_later != bob
    assert store_path(folder, "ws://other", device, tokens[0]) != ann
    assert store_path(folder, "ws://chat", device, "no-jwt").parent == folder


def test_a_state_folder_that_is_no_absolute_path_is_not_used() -> None:
    assert state_folder({"XDG_STATE_HOME": "state"}) == Path.home() / ".local/state/chatkit"
