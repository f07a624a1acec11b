"""What is said beside messages: who is mentioned, what is pinned, what a group is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]
SAID = "@ben, @ben-2 and @nobody: write to a@cleo.example, and @cleo."


def about(tab: Tab, name: str) -> None:
    tab.page.get_by_role("button", name="About this conversation").click()
    tab.page.get_by_role("menu").get_by_text(name, exact=True).click()


def test_mentions_pins_and_names_are_shown_to_all_and_refused_to_who_may_not(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben", "cleo", kind="GROUP", title="Weekend")
    ann = new_tab().sign_in("ann", conversation=chat)
    expect(ann.page.locator("#subtitle")).to_contain_text("3 members")
    ben = new_tab().sign_in("ben", conversation=chat)
    ann.write(SAID)
    expect(ben.message(SAID).locator(".mention")).to_have_text(["@ben", "@cleo"])
    expect(ben.message(SAID).locator(".mention.me")).to_have_text("@ben")
    page = server.api("ben", "GET", f"/v1/sync?conversationId={chat}&lastSeq=1")
    assert page["messages"][0]["payload"]["mentions"] == ["ben", "cleo"]

    ann.act(SAID, "Pin")
    notices = ben.page.locator("#log .notice")
    expect(ann.page.get_by_text("Pinned for everybody.")).to_be_visible()
    about(ben, "Pinned messages")
    expect(ben.page.locator("#pinned .preview")).to_have_text(f"ann: {SAID}")
    ben.page.screenshot(path=shots / "pins.png")
    ben.page.locator("#pinned .preview").click()
    expect(ben.message(SAID)).to_be_focused()
    about(ann, "Pinned messages")
    ann.page.get_by_role("button", name="Unpin").click()
    expect(ann.page.get_by_text("No longer pinned.")).to_be_visible()
    about(ann, "Pinned messages")
    expect(ann.page.get_by_role("dialog")).to_contain_text("Nothing is pinned here.")
    ann.page.get_by_role("button", name="Close").click()

    about(ann, "Change the name")
    ann.page.get_by_label("Name", exact=True).fill("<b>Sunday</b>")
    ann.page.keyboard.press("Enter")
    expect(notices.last).to_have_text("ann named the group “<b>Sunday</b>”")
    for tab in (ann, ben):
        expect(tab.page.locator("#title")).to_have_text("<b>Sunday</b>")
    about(ben, "Change the name")
    ben.page.keyboard.press("Enter")
    expect(ben.page.locator(".toast")).not_to_be_empty()
    expect(ben.page.locator("#log .message")).to_have_count(1)
    expect(ben.page.locator(f'[data-conversation="{chat}"] .preview')).to_have_text(
        "ann named the group “<b>Sunday</b>”"
    )
