"""The page under axe-core: no violation that it can find, in each state, on wide and narrow screens, light and dark."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import ServerProcess, Tab
from .test_files import CONTENT, choose, png
from .test_groups import about

NewTab = Callable[..., Tab]
AXE = Path(sys.prefix) / "node/node_modules/axe-core/axe.min.js"
RUN = "() => axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.map((it) => it.html)]))"


@pytest.fixture
def axe() -> str:
    if not AXE.exists():
        message = "no axe-core found: run scripts/node"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return AXE.read_text()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_axe_finds_nothing(server: ServerProcess, new_tab: NewTab, axe: str, scheme: str, width: int) -> None:
    chat = server.conversation("ann", "ben", "cleo", kind="GROUP", title="Weekend")
    server.say("ben", chat, "Morning!", "k-1")
    server.say("cleo", server.conversation("cleo", "ann"), "unread", "k-2")
    tab = new_tab(viewport={"width": width, "height": 780}, color_scheme=scheme, bypass_csp=True)
    tab.page.add_init_script(axe)
    page = tab.page

    def check(state: str) -> None:
        page.wait_for_function("document.getAnimations().length === 0")
        assert page.evaluate(RUN) == [], state

    page.goto(server.url)
    check("the sign-in")
    tab.sign_in("ann")
    expect(page.locator("#conversations li")).to_have_count(2)
    check("the list")
    page.get_by_role("searchbox").fill("morning")
    expect(page.locator("#hits mark")).to_have_text(["Morning"])
    check("search")
    page.get_by_role("searchbox").press("Escape")
    page.get_by_role("button", name="Settings").click()
    check("the settings")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="New conversation").click()
    check("the dialog for a conversation")
    page.keyboard.press("Escape")

    tab.choose(chat)
    tab.write("an answer, @ben")
    tab.expect_state("an answer, @ben", "SENT")
    tab.message("Morning!").hover()
    tab.message("Morning!").get_by_role("button", name="Like").click()
    expect(tab.message("Morning!").locator(".reaction")).to_have_count(1)
    tab.message("Morning!").get_by_role("button", name="More").click()
    check("the menu of a message")
    page.keyboard.press("Escape")
    tab.act("Morning!", "Pin")
    expect(page.get_by_text("Pinned for everybody.")).to_be_visible()
    about(tab, "Pinned messages")
    check("what is pinned")
    page.keyboard.press("Escape")
    about(tab, "Change the name")
    check("the dialog for a name")
    page.keyboard.press("Escape")
    choose(tab, "a.png", "image/png", png(60, 40))
    check("the dialog for a file")
    page.keyboard.press("Enter")
    picture = page.get_by_role("button", name="Picture: a.png", exact=True)
    picture.click()
    check("a picture")
    page.keyboard.press("Escape")
    choose(tab, "a.bin", "", b"binary")
    page.keyboard.press("Enter")
    expect(page.locator("#log .file")).to_be_visible()
    page.route(CONTENT, lambda route: None)
    choose(tab, "b.bin", "", b"never there")
    page.keyboard.press("Enter")
    tab.act("Morning!", "Reply")
    expect(page.get_by_role("progressbar")).to_be_visible()
    check("a conversation")
    page.evaluate("document.documentElement.dir = 'rtl'")
    check("a conversation from right to left")
