"""The page under axe-core: no violation that it can find, in each view, on wide and narrow screens, light and dark."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import ServerProcess, Tab

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_axe_finds_nothing(server: ServerProcess, new_tab: NewTab, axe: str, scheme: str, width: int) -> None:
    chat = server.conversation("ann", "ben", "cleo", kind="GROUP", title="Weekend")
    server.say("ben", chat, "Morning!", "k-1")
    server.say("cleo", server.conversation("cleo", "ann"), "unread", "k-2")
    tab = new_tab(viewport={"width": width, "height": 780}, color_scheme=scheme, bypass_csp=True)
    tab.page.add_init_script(axe)

    def violations() -> list:
        tab.page.wait_for_function("document.getAnimations().length === 0")
        return tab.page.evaluate(RUN)

    tab.page.goto(server.url)
    assert violations() == [], "the sign-in"
    tab.sign_in("ann")
    expect(tab.page.locator("#conversations li")).to_have_count(2)
    assert violations() == [], "the list"
    tab.choose(chat)
    tab.write("an answer")
    tab.expect_state("an answer", "SENT")
    tab.message("Morning!").hover()
    tab.message("Morning!").get_by_role("button", name="Like").click()
    expect(tab.message("Morning!").locator(".reaction")).to_have_count(1)
    tab.message("Morning!").hover()
    tab.message("Morning!").get_by_role("button", name="Reply").click()
    assert violations() == [], "a conversation"
    if width > 1000:
        tab.page.get_by_role("button", name="New conversation").click()
        assert violations() == [], "the dialog"
