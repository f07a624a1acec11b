"""The page without a pointer, from right to left, and in the colours that the user chose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]
FOCUSED = "document.activeElement?.querySelector('.body')?.textContent ?? document.activeElement?.ariaLabel"
NO_OVERFLOW = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def test_messages_and_menus_by_keyboard(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    for number, text in enumerate(("one", "two", "three")):
        server.say("ben", chat, text, f"k-{number}")
    tab = new_tab().sign_in("ann", conversation=chat)
    expect(tab.message("three")).to_be_visible()

    def press(*keys: str) -> str:
        for key in keys:
            tab.page.keyboard.press(key)
        return tab.page.evaluate(FOCUSED)

    tab.page.get_by_role("textbox", name="Message").focus()
    assert press("Shift+Tab", "Shift+Tab") == "three"  # one stop for all messages, at the newest
    assert press("ArrowUp") == "two"
    assert press("Home") == "one"
    assert press("ArrowUp", "ArrowDown") == "two"

    menu = tab.page.get_by_role("menu")
    assert press("Enter") == "Like"
    expect(menu).to_be_visible()
    assert press("ArrowLeft", "ArrowRight", "ArrowRight") == "Love"
    assert press("Escape") == "two"
    expect(menu).to_be_hidden()
    press("Enter", "ArrowDown", "Enter")
    expect(tab.message("two").locator(".reaction")).to_have_count(1)
    expect(tab.message("two").locator(".reaction")).to_have_attribute("data-reaction", "❤️")
    press("Enter", *["ArrowDown"] * 6)
    expect(menu.get_by_text("Reply", exact=True)).to_be_focused()
    press("Enter")
    expect(tab.page.locator("#context")).to_have_text("Answering ben: two ✕")
    expect(tab.page.get_by_role("textbox", name="Message")).to_be_focused()
    press("Escape")

    settings = tab.page.get_by_role("button", name="Settings")
    settings.press("Enter")
    expect(settings).to_have_attribute("aria-expanded", "true")
    press("Tab")
    expect(menu).to_be_hidden()
    expect(settings).to_have_attribute("aria-expanded", "false")


def test_colours_are_the_users_in_all_tabs(server: ServerProcess, new_tab: NewTab, shots: Path) -> None:
    tab = new_tab(color_scheme="light").sign_in("ann")
    other = new_tab(tab.page.context).sign_in("ann")

    def choose(name: str) -> None:
        tab.page.get_by_role("button", name="Settings").click()
        item = tab.page.get_by_role("menuitemradio", name=name)
        item.click()
        tab.page.get_by_role("button", name="Settings").click()
        expect(item).to_have_attribute("aria-checked", "true")
        tab.page.screenshot(path=shots / f"settings-{name}.png")
        tab.page.keyboard.press("Escape")

    choose("Dark")
    for one in (tab, other):
        expect(one.page.locator("#sidebar")).to_have_css("background-color", "rgb(25, 28, 27)")
    other.page.reload()
    expect(other.page.locator("#sidebar")).to_have_css("background-color", "rgb(25, 28, 27)")
    tab.page.emulate_media(color_scheme="dark")
    choose("Light")
    expect(tab.page.locator("#sidebar")).to_have_css("background-color", "rgb(255, 254, 251)")
    choose("As the system has it")
    expect(tab.page.locator("#sidebar")).to_have_css("background-color", "rgb(25, 28, 27)")
    assert tab.page.evaluate("Object.keys(localStorage).filter((name) => name.endsWith('theme'))") == []


def test_from_right_to_left(server: ServerProcess, new_tab: NewTab, shots: Path) -> None:
    group = server.conversation("ann", "ben", "cleo", kind="GROUP", title="טיול בסוף השבוע")
    server.say("ben", group, "שלום, מתי הרכבת?", "k-1")
    server.say("cleo", group, "الساعة ٩:٤٠ — platform 6, не опаздывай", "k-2")
    tab = new_tab().sign_in("ann", conversation=group)
    expect(tab.message("שלום, מתי הרכבת?")).to_be_visible()
    content = tab.message("שלום, מתי הרכבת?").locator(".content")
    expect(content).to_have_css("direction", "rtl")
    tab.write("an answer in English")
    tab.expect_state("an answer in English", "SENT")
    expect(tab.message("an answer in English").locator(".content")).to_have_css("direction", "ltr")
    tab.page.screenshot(path=shots / "rtl-text.png")

    tab.page.evaluate("document.documentElement.dir = 'rtl'")
    own = tab.message("an answer in English").locator(".bubble").bounding_box()
    theirs = tab.message("שלום, מתי הרכבת?").locator(".bubble").bounding_box()
    sidebar, pane = (tab.page.locator(name).bounding_box() for name in ("#sidebar", "#pane"))
    assert own and theirs and sidebar and pane
    assert own["x"] < theirs["x"]
    assert sidebar["x"] > pane["x"]
    tab.act("שלום, מתי הרכבת?", "Reply")
    tab.write("כן")
    expect(tab.message("כן").locator(".quote")).to_have_text("ben: שלום, מתי הרכבת?")
    tab.page.get_by_role("button", name="Settings").click()
    assert tab.page.evaluate(NO_OVERFLOW)
    tab.page.screenshot(path=shots / "rtl-page.png")
    tab.page.keyboard.press("Escape")
    tab.page.set_viewport_size({"width": 390, "height": 780})
    assert tab.page.evaluate(NO_OVERFLOW)
    tab.page.screenshot(path=shots / "rtl-narrow.png")
