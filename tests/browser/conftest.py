"""Fixtures of the browser tests: a Chromium, a server process to kill, and tabs whose consoles are watched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from chatkit import sign_token

SECRET = "a secret of the browser tests, long enough for HS256"
ROOT = Path(__file__).parents[2]
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PLAIN: Mapping[str, object] = {"viewport": {"width": 1200, "height": 800}, "service_workers": "block"}
expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


def find_chromium() -> str | None:
    named = os.environ.get("CHATKIT_CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((path for path in map(shutil.which, names) if path), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        message = "no Chromium found: run scripts/browser, or name one in CHATKIT_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


class ServerProcess:
    """The app of `tests.browser.app` in a process of its own, on one port and one file through all restarts."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._options = options
        self._database = directory / "chat.db"
        self._process: subprocess.Popen[str] | None = None
        self._http = httpx.Client()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *more: str) -> None:
        """Returns once the server takes messages; with `more` options than it was made with."""
        command = [
            sys.executable,
            "-m",
            "tests.browser.app",
            "--port",
            str(self.port),
            "--db",
            str(self._database),
            *self._options,
            *more,
        ]
        environment = {**os.environ, "CHATKIT_JWT_SECRET": SECRET}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready "):
            self.close()
            pytest.fail(f"the server process did not start, its stderr is above; it said {line!r}")
        self.port = int(line.removeprefix("ready "))

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        self._process = None
        self._http.close()
        self._http = httpx.Client()

    def back_up(self) -> None:
        """Copy the log, while the server is down."""
        for path in self._files():
            shutil.copy(path, path.with_name(f"backup-{path.name}"))

    def restore(self) -> None:
        """Put the copy in the place of the log, while the server is down."""
        for path in self._files():
            path.unlink()
        for path in self._database.parent.glob("backup-*"):
            shutil.copy(path, path.with_name(path.name.removeprefix("backup-")))

    def _files(self) -> list[Path]:
        return [path for path in self._database.parent.glob("chat.db*") if path.suffix != ".db-owner"]

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        self._http.close()

    def api(self, user_id: str, method: str, path: str, **body: object) -> dict:
        """One HTTP request as that user, for what a test needs beforehand."""
        headers = {"Authorization": f"Bearer {token(user_id)}"}
        answer = self._http.request(method, f"{self.url}{path}", headers=headers, json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else {}

    def conversation(self, *user_ids: str, kind: str = "SINGLE", **fields: object) -> str:
        """A conversation of these users, made by the first; returns its id."""
        body = {"type": kind, "memberIds": list(user_ids), **fields}
        return self.api(user_ids[0], "POST", "/v1/conversations", **body)["conversationId"]

    def say(self, user_id: str, conversation_id: str, text: str, key: str) -> dict:
        """A text by HTTP."""
        return self.send(user_id, conversation_id, {"type": "TEXT", "text": text}, key)

    def send(self, user_id: str, conversation_id: str, payload: dict, key: str) -> dict:
        """A message by HTTP."""
        fields = {name: value for name, value in payload.items() if name != "type"}
        content = fields["text"] if payload["type"] == "TEXT" else fields
        body = {
            "conversationId": conversation_id,
            "clientMsgId": key,
            "type": payload["type"],
            "content": content,
        }
        return self.api(user_id, "POST", "/v1/messages/send", **body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path)
    process.start()
    yield process
    process.close()


def token(user_id: str, device_id: str | None = None) -> str:
    return sign_token(SECRET, user_id=user_id, device_id=device_id, ttl_s=3600)


LOST = ("net::ERR_", "WebSocket", "names were not", "notifications were not")
"""What the console says of requests that were cut off: the browser's words, and the page's for what it did not get."""
NO_WORKER = "Service Worker registration blocked by Playwright"


class Tab:
    """One page, and everything its console said."""

    def __init__(self, page: Page, server: ServerProcess) -> None:
        self.page = page
        self.server = server
        self.console: list[str] = []
        self._loses_connections = False
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.text == NO_WORKER:
            return
        if not (self._loses_connections and any(words in message.text for words in LOST)):
            self.console.append(f"{message.type}: {message.text}")

    def expect_lost_connections(self) -> None:
        """From now on requests of this page may end half-way, which is no complaint; everything else is one."""
        self._loses_connections = True

    def sign_in(
        self, user_id: str, *, device_id: str | None = None, conversation: str = "", path: str = "/"
    ) -> Tab:
        """Open the page with a token behind `#` and wait until it is online."""
        chosen = f"&conversation={conversation}" if conversation else ""
        self.page.goto(f"{self.server.url}{path}#token={token(user_id, device_id)}{chosen}")
        self.expect_online()
        return self

    def expect_online(self) -> None:
        expect(self.page.locator("#app")).to_have_attribute("data-connection", "online")

    def choose(self, conversation_id: str) -> None:
        self.page.locator(f'[data-conversation="{conversation_id}"]').click()

    def write(self, text: str) -> None:
        self.page.get_by_role("textbox", name="Message").fill(text)
        self.page.keyboard.press("Enter")

    def message(self, text: str) -> Locator:
        """The bubble whose body is exactly this text."""
        body = self.page.locator(".body").get_by_text(text, exact=True)
        return self.page.locator("#log .message").filter(has=body)

    def act(self, text: str, *names: str) -> None:
        """Press these items of a message's menu, one after the other."""
        self.message(text).hover()
        self.message(text).get_by_role("button", name="More").click()
        for name in names:
            self.page.get_by_role("menu").get_by_text(name, exact=True).click()

    def sign_out(self) -> None:
        self.page.get_by_role("button", name="Settings").click()
        self.page.get_by_role("menuitem", name="Sign out").click()

    def expect_state(self, text: str, state: str) -> None:
        expect(self.message(text)).to_have_count(1)
        expect(self.message(text)).to_have_attribute("data-state", state)


@pytest.fixture
def new_tab(browser: Browser, server: ServerProcess) -> Iterator[Callable[..., Tab]]:
    """Makes tabs, each in a fresh context unless one is given; at the end no console may have complained.

    They load their files from the server, without a service worker, unless `service_workers="allow"` is given.
    A test that breaks the connection on purpose says so before (`Tab.expect_lost_connections`).
    """
    tabs: list[Tab] = []
    contexts: list[BrowserContext] = []

    def make(context: BrowserContext | None = None, **options: object) -> Tab:
        if context is None:
            context = browser.new_context(**{**PLAIN, **options})
            contexts.append(context)
        tabs.append(Tab(context.new_page(), server))
        return tabs[-1]

    yield make
    for context in contexts:
        context.close()
    assert [line for tab in tabs for line in tab.console] == []


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: CHATKIT_SCREENSHOTS, or a temporary directory that is printed."""
    named = os.environ.get("CHATKIT_SCREENSHOTS")
    directory = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    print(f"screenshots: {directory}")
    return directory
