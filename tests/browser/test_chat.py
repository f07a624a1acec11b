"""Two people in two tabs: messages, ticks, history, a killed server, recall, a second tab of one device."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from .app import PREFIX
from .conftest import ServerProcess, Tab, token

NewTab = Callable[..., Tab]


def test_message_and_ticks_go_from_sent_to_delivered_to_read(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ann.write("到了吗？")
    ann.expect_state("到了吗？", "SENT")

    ben = new_tab().sign_in("ben")
    ann.expect_state("到了吗？", "DELIVERED")
    row = ben.page.locator(f'[data-conversation="{chat}"]')
    expect(row.locator(".badge")).to_have_text("1")
    expect(row.locator(".preview")).to_have_text("到了吗？")

    ben.choose(chat)
    expect(ben.message("到了吗？")).to_be_visible()
    ann.expect_state("到了吗？", "READ")
    expect(row.locator(".badge")).to_be_hidden()
    expect(ann.message("到了吗？").get_by_role("img", name="Read")).to_be_visible()

    ben.write("快了\n五分钟")
    expect(ann.message("快了\n五分钟")).to_have_count(1)
    ben.expect_state("快了\n五分钟", "READ")


def test_enter_sends_and_shift_enter_breaks_the_line(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    field = ann.page.get_by_role("textbox", name="Message")
    field.press_sequentially("one")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    expect(field).to_have_value("one\ntwo")
    ann.choose(server.conversation("ann", "cleo"))
    expect(field).to_have_value("")  # nothing is sent to whom it was not written to
    ann.choose(chat)
    expect(field).to_have_value("one\ntwo")
    field.press("Enter")
    expect(field).to_have_value("")
    ann.expect_state("one\ntwo", "SENT")


def test_typing_is_shown_to_the_other(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ben = new_tab().sign_in("ben", conversation=chat)
    ben.page.get_by_role("textbox", name="Message").press_sequentially("hm")
    expect(ann.page.locator("#typing")).to_have_text("ben is typing…")
    ben.page.keyboard.press("Enter")
    expect(ann.message("hm")).to_be_visible()
    expect(ann.page.locator("#typing")).to_have_text("")


def test_on_a_phone_an_unknown_conversation_leaves_the_list_and_typing_ends_there(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat = server.conversation("ann", "ben")
    server.say("ben", chat, "before", "k-1")
    ann = new_tab(viewport={"width": 390, "height": 780}).sign_in("ann", conversation="gone")
    ben = new_tab().sign_in("ben", conversation=chat)
    preview = ann.page.locator(f'[data-conversation="{chat}"] .preview')
    expect(preview).to_be_visible()
    ben.page.get_by_role("textbox", name="Message").press_sequentially("hm")
    expect(preview).to_have_text("typing…")
    expect(preview).to_have_text("before")
    ann.choose(chat)
    ann.page.get_by_role("button", name="Back to conversations").click()
    expect(preview).to_be_visible()


def test_reload_shows_the_history_with_its_ticks(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ben = new_tab().sign_in("ben", conversation=chat)
    ann.write("first")
    ann.expect_state("first", "READ")
    ben.page.close()
    ann.write("second")
    ann.expect_state("second", "SENT")

    assert "token" not in ann.page.url
    ann.page.reload()
    ann.expect_online()
    ann.expect_state("first", "READ")
    ann.expect_state("second", "SENT")
    bodies = ann.page.locator("#log .message .body")
    expect(bodies).to_have_text(["first", "second"])


def test_long_history_is_loaded_from_its_end_and_older_on_demand(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat = server.conversation("ann", "ben")
    for number in range(1, 251):
        server.say("ben", chat, f"line {number}", f"k-{number}")
    ann = new_tab().sign_in("ann", conversation=chat)
    bodies = ann.page.locator("#log .message .body")
    expect(bodies).to_have_count(200)
    expect(bodies.last).to_have_text("line 250")
    expect(ann.message("line 250")).to_be_in_viewport()
    ann.page.get_by_role("button", name="Load older messages").click()
    expect(bodies).to_have_text([f"line {number}" for number in range(1, 251)])
    expect(ann.page.get_by_role("button", name="Load older messages")).to_be_hidden()


def test_killed_server_heals_and_what_was_written_meanwhile_is_sent_once(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ben = new_tab().sign_in("ben", conversation=chat)
    ann.write("before")
    ann.expect_state("before", "READ")

    ann.expect_lost_connections()
    ben.expect_lost_connections()
    server.kill()
    expect(ann.page.locator("#banner")).to_contain_text("Offline")
    expect(ben.page.locator("#banner")).to_contain_text("Offline")
    ann.write("while it was down")
    ann.expect_state("while it was down", "SENDING")
    ann.page.screenshot(path=shots / "offline.png")
    server.start()

    ann.expect_online()
    ann.expect_state("while it was down", "READ")
    expect(ben.message("while it was down")).to_have_count(1)
    page = server.api("ben", "GET", f"/v1/sync?conversationId={chat}&lastSeq=0")
    texts = [entry["payload"].get("text") for entry in page["messages"]]
    assert texts.count("while it was down") == 1


def test_message_written_while_down_is_sent_by_the_next_load(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    expect(ann.page.get_by_role("textbox", name="Message")).to_be_enabled()
    ann.expect_lost_connections()
    server.kill()
    ann.write("kept")
    ann.expect_state("kept", "SENDING")
    ann.page.goto("about:blank")

    server.start()
    ann.page.goto(server.url)
    ann.expect_online()
    ann.expect_state("kept", "SENT")
    expect(ann.page.locator("#log .message")).to_have_count(1)


def test_log_put_back_from_a_backup_keeps_what_it_has_in_its_place(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ann.write("in both")
    ann.expect_state("in both", "SENT")
    ann.expect_lost_connections()
    server.kill()
    server.back_up()
    server.start()
    ann.expect_online()
    ann.write("lost")
    ann.expect_state("lost", "SENT")
    ann.message("in both").evaluate("element => { element.mark = 'same element'; }")
    server.kill()
    server.restore()
    server.start()
    server.say("ben", chat, "after it", "k-1")
    ann.expect_online()
    expect(ann.page.locator("#log .message .body")).to_have_text(["in both", "after it"])
    assert ann.message("in both").evaluate("element => element.mark") == "same element"
    ann.write("goes on")
    ann.expect_state("goes on", "SENT")


class Outage:
    """Cuts one tab off from the API, while the page's own files still come, as from a cache or another host."""

    def __init__(self, tab: Tab) -> None:
        self.is_over = False
        tab.page.route("**/v1/**", self._request)
        tab.page.route_web_socket("**/v1/ws", self._socket)

    def _request(self, route: Route) -> None:
        if self.is_over or "/v1/client/" in route.request.url:
            route.continue_()
        else:
            route.abort("connectionrefused")

    def _socket(self, socket: WebSocketRoute) -> None:
        if self.is_over:
            socket.connect_to_server()
        else:
            socket.close()


def test_page_without_a_server_says_so_keeps_what_is_written_and_heals(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben")
    server.say("ben", chat, "before", "k-1")
    ann = new_tab().sign_in("ann", conversation=chat)
    expect(ann.message("before")).to_be_visible()
    ann.expect_lost_connections()
    outage = Outage(ann)
    ann.page.reload()
    expect(ann.page.locator("#banner")).to_contain_text("Cannot reach the server. Next try in ")
    expect(ann.page.locator("#me-name")).to_have_text("ann")
    expect(ann.message("before")).to_be_visible()  # kept by the browser
    ann.write("first")
    ann.expect_state("first", "SENDING")
    ann.page.reload()
    ann.expect_state("first", "SENDING")
    ann.write("second")
    ann.expect_state("second", "SENDING")
    assert ann.page.locator("#log .message .body").all_text_contents() == ["before", "first", "second"]
    expect(ann.page.locator("#banner")).to_contain_text("Messages are kept and sent later")
    ann.page.screenshot(path=shots / "unreached-conversation.png")

    outage.is_over = True
    ann.page.locator("#banner-action").dispatch_event("click")  # its own next try may come first and hide it
    ann.expect_online()
    ann.page.locator("#banner-action").dispatch_event("click")  # comes too late, and does nothing
    ann.expect_state("second", "SENT")
    expect(ann.page.locator("#log .message .body")).to_have_text(["before", "first", "second"])


@pytest.mark.parametrize("width", [1200, 390])
def test_page_without_a_server_and_with_nothing_open_is_not_empty(
    server: ServerProcess, new_tab: NewTab, shots: Path, width: int
) -> None:
    tab = new_tab(viewport={"width": width, "height": 700})
    tab.expect_lost_connections()
    Outage(tab)
    tab.page.goto(f"{server.url}/#token={token('ann')}")
    expect(tab.page.locator("#banner")).to_contain_text("Cannot reach the server. Next try in ")
    expect(tab.page.locator("#no-conversations")).to_have_text(
        "Your conversations appear here as soon as the server answers."
    )
    tab.page.screenshot(path=shots / f"unreached-list-{width}.png")
    tab.page.get_by_role("button", name="New conversation").click()
    tab.page.get_by_label("User id").fill("ben")
    tab.page.get_by_role("button", name="Start").click()
    expect(tab.page.locator("#create-problem")).to_have_text("Cannot reach the server.")


def test_recall_leaves_a_placeholder_on_both_sides(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ben = new_tab().sign_in("ben", conversation=chat)
    ann.write("the wrong window")
    expect(ben.message("the wrong window")).to_be_visible()
    ann.write("the right one")
    ann.expect_state("the right one", "READ")

    ann.act("the wrong window", "Recall")
    ann.page.screenshot(path=shots / "recall.png")
    ann.page.get_by_role("menuitem", name="Recall for everyone?").click()
    for tab in (ann, ben):
        expect(tab.message("Message recalled")).to_be_visible()
        expect(tab.page.get_by_text("the wrong window")).to_have_count(0)
    expect(ben.message("Message recalled").get_by_role("button")).to_have_count(0)
    ben.page.screenshot(path=shots / "recalled.png")


def test_second_tab_of_a_device_replaces_the_first_which_can_take_over(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat = server.conversation("ann", "ben")
    first = new_tab().sign_in("ann", device_id="laptop", conversation=chat)
    second = new_tab(first.page.context).sign_in("ann", device_id="laptop", conversation=chat)
    expect(first.page.locator("#banner")).to_contain_text("open in another tab")
    expect(first.page.get_by_role("textbox", name="Message")).to_be_disabled()

    first.page.get_by_role("button", name="Use here").click()
    first.expect_online()
    expect(second.page.locator("#banner")).to_contain_text("open in another tab")
    first.write("from the first")
    first.expect_state("from the first", "SENT")


def test_group_is_made_on_the_page_and_counts_its_slowest_reader(
    server: ServerProcess, new_tab: NewTab
) -> None:
    ann = new_tab().sign_in("ann")
    ann.page.get_by_role("button", name="New conversation").click()
    ann.page.get_by_text("Group", exact=True).click()
    ann.page.get_by_label("User ids").fill("ben, cleo")
    ann.page.get_by_label("Name of the group").fill("Trip")
    ann.page.get_by_role("button", name="Start").click()
    expect(ann.page.get_by_role("heading", name="Trip")).to_be_visible()
    expect(ann.page.locator("#log .notice")).to_have_text("You started the group with ben, cleo")

    ann.write("who is in?")
    ann.expect_state("who is in?", "SENT")
    ben = new_tab().sign_in("ben")
    ben.page.get_by_role("button", name="Trip").click()
    expect(ben.message("who is in?").locator(".sender")).to_have_text("ann")
    cleo = new_tab().sign_in("cleo")
    ann.expect_state("who is in?", "DELIVERED")
    cleo.page.get_by_role("button", name="Trip").click()
    ann.expect_state("who is in?", "READ")

    row = ann.page.locator("#conversations button")
    unmuted, muted = re.compile("^[^m]*[0-9]"), re.compile("^muted · ")
    for level, stamp in (
        ("Only of mentions", muted),
        ("Of nothing", muted),
        ("Notify me of everything", unmuted),
    ):
        ann.page.get_by_role("button", name="About this conversation").click()
        ann.page.get_by_role("menuitemradio", name=level).click()
        expect(row.locator(".stamp")).to_have_text(stamp)
    ben.page.get_by_role("button", name="About this conversation").click()
    ben.page.get_by_role("menuitem", name="Leave").click()
    ben.page.get_by_role("menuitem", name="Leave for good?").click()
    expect(ben.page.get_by_placeholder("You are no longer in this conversation")).to_be_disabled()
    expect(ann.page.locator("#log .notice").last).to_have_text("ben left")


def test_dialog_says_why_a_conversation_was_refused(server: ServerProcess, new_tab: NewTab) -> None:
    ann = new_tab().sign_in("ann")
    ann.page.get_by_role("button", name="New conversation").click()
    ann.page.get_by_label("User id").fill("<ben>")
    ann.page.get_by_role("button", name="Start").click()
    expect(ann.page.locator("#create-problem")).not_to_be_empty()
    ann.page.get_by_role("button", name="Cancel").click()
    expect(ann.page.get_by_role("dialog")).to_be_hidden()
    assert all("400" in line for line in ann.console)
    ann.console.clear()


def test_page_works_below_a_prefix(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat, path=f"{PREFIX}/")
    ann.write("from below")
    ann.expect_state("from below", "SENT")
    ben = new_tab().sign_in("ben", conversation=chat)
    expect(ben.message("from below")).to_be_visible()


def test_without_a_token_the_page_asks_for_one(server: ServerProcess, new_tab: NewTab) -> None:
    tab = new_tab()
    tab.page.goto(server.url)
    tab.page.get_by_label("Token").fill(token("ann"))
    tab.page.get_by_role("button", name="Sign in").click()
    tab.expect_online()
    expect(tab.page.locator("#me-name")).to_have_text("ann")
    tab.sign_out()
    expect(tab.page.get_by_label("Token")).to_be_visible()


def test_bad_token_ends_at_a_clear_banner(server: ServerProcess, new_tab: NewTab) -> None:
    tab = new_tab()
    tab.page.goto(f"{server.url}/#token=not-a-token")
    expect(tab.page.locator("#banner")).to_contain_text("sign-in has ended")
    tab.console.clear()  # the failed HTTP request for names, where it was tried
