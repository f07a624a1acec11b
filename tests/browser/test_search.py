"""Search on the page: what is found, where it leads, and what is said where nothing is or can be found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]


def test_search_finds_leads_there_and_says_when_it_cannot(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    trip = server.conversation("ann", "ben", "cleo", kind="GROUP", title="Weekend")
    other = server.conversation("ann", "cleo")
    server.say("ben", trip, "the parcel is in 東京都 <b>now</b>", "k-0")
    for number in range(260):
        server.say("cleo", trip, f"line {number}", f"l-{number}")
    server.say("cleo", other, "Which parcels? “Parcel” 😀 parcel", "k-1")
    tab = new_tab().sign_in("ann", conversation=other)
    query = tab.page.get_by_role("searchbox", name="Search messages")
    hits = tab.page.locator("#hits li")
    found = tab.page.get_by_role("status").filter(has_text="found")

    query.fill("parc")
    expect(found).to_have_text("2 found, the newest first")
    expect(tab.page.locator("#conversations")).to_be_hidden()
    expect(hits.nth(0).locator("mark")).to_have_text(["parcels", "Parcel", "parcel"])
    expect(hits.nth(1).locator("strong")).to_have_text("Weekend")
    expect(hits.nth(1).locator(".preview")).to_have_text("ben: the parcel is in 東京都 <b>now</b>")
    tab.page.screenshot(path=shots / "search.png")
    hits.nth(1).get_by_role("button").click()
    expect(tab.page.locator("#title")).to_have_text("Weekend")
    row = tab.message("the parcel is in 東京都 <b>now</b>")
    expect(row).to_be_in_viewport()
    expect(row).to_be_focused()
    expect(tab.page).to_have_title("(261) chatkit")  # what came after it was not in view

    tab.page.get_by_label("Only in the open conversation").check()
    expect(found).to_have_text("1 found, the newest first")
    query.fill("京")
    expect(hits.locator("mark")).to_have_text(["京"])
    query.fill("line*")
    expect(found).to_have_text("20 or more found, the newest first")
    tab.page.get_by_role("button", name="Show more").click()
    expect(hits).to_have_count(40)
    query.fill("nobodysaidthis")
    expect(tab.page.locator("#found")).to_have_text("Nothing was found.")
    query.fill('"!?')
    expect(tab.page.locator("#found")).not_to_be_empty()
    expect(hits).to_have_count(0)

    problem = {"code": "FORBIDDEN", "detail": "Search is switched off.", "retryable": False}
    tab.page.route("**/v1/search*", lambda route: route.fulfill(status=403, body=json.dumps(problem)))
    query.fill("parcel")
    expect(tab.page.locator("#found")).to_have_text("Search is switched off on this server.")
    query.press("Escape")
    expect(query).to_have_value("")
    expect(tab.page.locator("#conversations")).to_be_visible()
    assert all("403" in line or "400" in line for line in tab.console), tab.console
    tab.console.clear()
