"""The page on wide and narrow screens, light and dark: nothing overflows, and pictures for people to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]
NO_OVERFLOW = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
LINES = [
    ("ben", "Morning! Train leaves at 9:40, platform 6."),
    ("ann", "On my way. Shall I bring the tickets?"),
    ("ben", "Yes please"),
    (
        "ben",
        "and the map, if it still fits in your bag. The one on my phone stopped at the border last time.",
    ),
    ("cleo", "I am already here, the coffee is good ☕"),
    ("ann", "到了吗？"),
]


def fill(server: ServerProcess) -> tuple[str, str]:
    trip = server.conversation("ann", "ben", "cleo", kind="GROUP", title="Weekend in the hills")
    for number, (user_id, text) in enumerate(LINES):
        server.say(user_id, trip, text, f"t-{number}")
    server.say("dora", server.conversation("dora", "ann"), "Did you see the draft?", "d-1")
    server.say("ann", server.conversation("ann", "ben"), "See you there", "b-1")
    return trip, server.conversation("eli", "ann")


@pytest.mark.parametrize(("shape", "width", "height"), [("wide", 1200, 760), ("narrow", 390, 780)])
def test_page_fits(
    server: ServerProcess, new_tab: NewTab, shots: Path, shape: str, width: int, height: int
) -> None:
    trip, _ = fill(server)
    tab = new_tab(viewport={"width": width, "height": height}, has_touch=shape == "narrow").sign_in("ann")

    def shoot(name: str) -> None:
        for scheme in ("light", "dark"):
            tab.page.emulate_media(color_scheme=scheme)
            tab.page.screenshot(path=shots / f"{shape}-{scheme}-{name}.png")

    expect(tab.page.locator("#conversations li")).to_have_count(4)
    expect(tab.page.locator(f'[data-conversation="{trip}"] .preview')).to_have_text("You: 到了吗？")
    shoot("list")
    tab.choose(trip)
    expect(tab.page.locator("#log .body")).to_have_count(len(LINES))
    expect(tab.page.locator("#subtitle")).to_contain_text("3 members")
    tab.write("a" * 300)
    tab.expect_state("a" * 300, "SENT")
    assert tab.page.evaluate(NO_OVERFLOW)
    shoot("chat")


def test_phone_shows_one_pane_at_a_time(server: ServerProcess, new_tab: NewTab) -> None:
    trip, _ = fill(server)
    tab = new_tab(viewport={"width": 360, "height": 640}).sign_in("ann")
    expect(tab.page.locator("#pane")).to_be_hidden()
    tab.choose(trip)
    expect(tab.page.locator("#sidebar")).to_be_hidden()
    expect(tab.message("到了吗？")).to_be_in_viewport()
    tab.page.get_by_role("button", name="Back to conversations").click()
    expect(tab.page.locator("#conversations")).to_be_visible()
    expect(tab.page.locator(f'[data-conversation="{trip}"]')).to_be_focused()


def test_dialog_and_sign_in_look_their_part(server: ServerProcess, new_tab: NewTab, shots: Path) -> None:
    tab = new_tab()
    tab.page.goto(server.url)
    expect(tab.page.get_by_label("Token")).to_be_focused()
    tab.page.screenshot(path=shots / "sign-in.png")
    tab.sign_in("ann")
    tab.page.get_by_role("button", name="New conversation").click()
    tab.page.get_by_text("Group", exact=True).click()
    expect(tab.page.get_by_role("dialog")).to_be_visible()
    tab.page.screenshot(path=shots / "dialog.png")
