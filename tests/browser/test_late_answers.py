"""What comes back late: the page may show something else by then, or want it no more."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Route, expect

from .conftest import ServerProcess, Tab
from .test_files import CONTENT, choose
from .test_groups import about

NewTab = Callable[..., Tab]
STORES_NOTHING = """() => {
  IDBObjectStore.prototype.put = () => { throw new DOMException("full", "QuotaExceededError"); };
}"""


def test_a_late_answer_changes_nothing_else(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    other = server.conversation("ann", "cleo")
    sent = server.say("ben", chat, "pinned", "k-1")
    place = {"messageId": sent["messageId"], "seq": sent["seq"]}
    server.send("ben", chat, {"type": "PINNED", **place, "pinned": True}, "k-2")
    server.say("cleo", other, "elsewhere", "k-3")
    ann = new_tab().sign_in("ann", conversation=chat)
    page, title, toasts = ann.page, ann.page.locator("#title"), ann.page.locator(".toast")
    held: list[Route] = []

    def answer() -> None:
        page.wait_for_timeout(100)
        (route,) = held
        held.clear()
        route.continue_()

    # pins: nobody goes elsewhere before they are here, and a link that opens another conversation closes them
    page.route("**/pins", lambda route: held.append(route))
    about(ann, "Pinned messages")
    dialog = page.get_by_role("dialog", name="Pinned messages")
    expect(dialog).to_contain_text("Loading")
    answer()
    expect(dialog).to_contain_text("ben: pinned")
    page.evaluate("id => { location.hash = `#conversation=${id}`; }", other)
    expect(title).to_have_text("cleo")
    expect(dialog).to_be_hidden()
    about(ann, "Pinned messages")
    page.keyboard.press("Escape")
    ann.choose(chat)
    expect(title).to_have_text("ben")
    answer()
    expect(dialog).to_be_hidden()

    # a new conversation: asked for once, and not gone to after Cancel
    page.route("**/v1/conversations", lambda route: held.append(route))
    for name, key in (("One", "Enter"), ("Two", "Escape")):
        page.get_by_role("button", name="New conversation").click()
        page.get_by_text("Group", exact=True).click()
        page.get_by_label("User ids").fill("ben")
        page.get_by_label("Name of the group").fill(name)
        page.keyboard.press("Enter")
        page.keyboard.press(key)
        answer()
        expect(page.locator("#conversations strong").get_by_text(name, exact=True)).to_have_count(1)
    expect(title).to_have_text("One")

    # a file: what fails while another conversation is open is told there, and what was not queued may be tried again
    page.route(CONTENT, lambda route: held.append(route))
    ann.choose(chat)
    choose(ann, "x.bin", "application/octet-stream", b"x")
    page.keyboard.press("Enter")
    ann.choose(other)
    page.wait_for_timeout(100)
    problem = {"code": "TOO_LARGE", "detail": "no", "retryable": False}
    held.pop().fulfill(status=413, body=json.dumps(problem))
    expect(toasts.last).to_have_text(
        "A file for another conversation was not sent: The file is larger than this server takes."
    )
    page.unroute(CONTENT)
    page.evaluate(STORES_NOTHING)
    ann.choose(chat)
    again = page.get_by_role("button", name="Try again")
    again.click()
    expect(page.locator("#uploads .problem")).to_have_text("The browser could not keep the message.")
    expect(again).to_be_visible()
    assert all("413" in line for line in ann.console), ann.console
    ann.console.clear()
