"""Edits, reactions and replies on the page, in two tabs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, expect

from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]


def tool(tab: Tab, text: str, name: str) -> Locator:
    tab.message(text).hover()
    return tab.message(text).locator(".tools").get_by_role("button", name=name)


def test_a_message_is_edited_liked_and_answered(server: ServerProcess, new_tab: NewTab, shots: Path) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ben = new_tab().sign_in("ben", conversation=chat)
    ann.write("helo")
    ann.expect_state("helo", "READ")

    ann.page.get_by_role("textbox", name="Message").fill("half of the next")
    ann.act("helo", "Edit")
    expect(ann.page.get_by_role("textbox", name="Message")).to_have_value("helo")
    ann.write("hello")
    expect(ann.page.get_by_role("textbox", name="Message")).to_have_value("half of the next")
    for tab in (ann, ben):
        expect(tab.message("hello").locator(".note")).to_have_text("edited")
    expect(ben.message("helo")).to_have_count(0)

    tool(ben, "hello", "Like").click()
    for tab, pressed in ((ann, "false"), (ben, "true")):
        chip = tab.message("hello").locator(".reaction")
        expect(chip).to_have_text("👍 1")
        expect(chip).to_have_attribute("aria-pressed", pressed)

    tool(ben, "hello", "Reply").click()
    expect(ben.page.locator("#context")).to_contain_text("Answering ann: hello")
    ben.write("hi there")
    expect(ann.message("hi there").locator(".quote")).to_have_text("ann: hello")
    expect(ann.page.locator(f'[data-conversation="{chat}"] .preview')).to_have_text("hi there")
    ann.page.screenshot(path=shots / "marks.png")

    ben.page.reload()
    ben.expect_online()
    expect(ben.message("hello").locator(".reaction")).to_have_text("👍 1")
    ben.message("hello").locator(".reaction").click()
    for tab in (ann, ben):
        expect(tab.message("hello").locator(".reaction")).to_have_count(0)

    ann.act("hello", "Recall", "Recall for everyone?")
    for tab in (ann, ben):
        expect(tab.page.locator("#log .recalled")).to_have_count(1)
        expect(tab.message("hello")).to_have_count(0)
    expect(ben.message("hi there").locator(".quote")).to_have_text("ann: Message recalled")


def test_a_jump_within_sight_reads_on_and_a_refused_edit_comes_back(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat, other = server.conversation("ann", "ben"), server.conversation("ann", "cleo")
    ann = new_tab().sign_in("ann", conversation=chat)
    ben = new_tab().sign_in("ben", conversation=chat)
    ann.write("helo")
    ann.expect_state("helo", "READ")
    tool(ben, "helo", "Reply").click()
    ben.write("an answer")
    ann.message("an answer").locator(".quote").click()
    expect(ann.message("helo")).to_be_focused()
    ben.write("news")
    ben.expect_state("news", "READ")
    expect(ann.page.locator("#to-end")).to_be_hidden()

    field = ann.page.get_by_role("textbox", name="Message")
    ann.act("helo", "Edit")
    field.fill("hello")
    ann.choose(other)
    expect(field).to_have_value("")
    ann.choose(chat)
    expect(field).to_have_value("hello")
    field.fill("x" * 70_000)
    field.press("Enter")
    expect(ann.page.locator(".toast")).to_be_visible()
    expect(field).to_have_value("x" * 70_000)
    expect(ann.page.locator("#context")).to_contain_text("Editing: helo")


def test_escape_takes_an_edit_back_and_a_touch_shows_what_can_be_done(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben")
    tab = new_tab(viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    tab.sign_in("ann", conversation=chat)
    tab.write("draft")
    tab.expect_state("draft", "SENT")
    expect(tab.message("draft").locator(".tools")).to_be_hidden()
    tab.message("draft").locator(".body").tap()
    tab.page.screenshot(path=shots / "marks-narrow.png")
    tab.message("draft").get_by_role("button", name="More").tap()
    tab.page.get_by_role("menuitem", name="Edit").tap()
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#context")).to_be_hidden()
    expect(tab.page.get_by_role("textbox", name="Message")).to_have_value("")
    assert tab.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
