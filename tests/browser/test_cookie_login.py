"""Login by cookie in a real browser: the site's own page gets in, a page of another origin does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.examples.example import serving

TRY = """address => new Promise(done => {
  const socket = new WebSocket(address, "chatkit.v1.json");
  socket.onopen = () => done("open");
  socket.onclose = event => done(`closed ${event.code}`);
})"""
UNKNOWN = TRY.replace("chatkit.v1.json", "chatkit.v9.json").replace('socket.onopen = () => done("open");', "")
READ = """address => fetch(address, {credentials: "include"}).then(
  answer => `read ${answer.status}`, () => "blocked")"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serving("cookie_login", folder=tmp_path, prefix="/chat") as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


def log_in(page: Page) -> None:
    page.locator("[name=user]").fill("lina")
    page.locator("[name=password]").fill("lighthouse")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#state")).to_have_text("logged in as lina")


def test_the_sites_own_page_is_logged_in_by_its_cookie(url: str, page: Page) -> None:
    page.goto(url)
    expect(page.locator("#state")).to_have_text("log in on the page first")
    log_in(page)
    assert page.evaluate("document.cookie") == ""
    page.locator("[name=text]").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#log")).to_contain_text("lina: Hello")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#state")).to_have_text("log in on the page first")


def test_a_page_of_another_origin_gets_nothing_by_the_users_cookie(url: str, page: Page) -> None:
    page.goto(url)
    log_in(page)
    socket = url.replace("http", "ws") + "/chat/v1/ws"
    assert page.evaluate(TRY, socket) == "open"
    assert page.evaluate(READ, f"{url}/chat/v1/conversations") == "read 200"

    page.goto(url.replace("127.0.0.1", "localhost"))  # the same server, but another origin
    assert page.evaluate(TRY, socket) == "closed 1006"
    assert page.evaluate(READ, f"{url}/chat/v1/conversations") == "blocked"


def test_a_browser_sees_4204(url: str, page: Page) -> None:
    page.goto(url)
    assert page.evaluate(UNKNOWN, url.replace("http", "ws") + "/chat/v1/ws") == "closed 4204"
