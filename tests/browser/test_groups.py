"""What is said beside messages: who is mentioned, what is pinned, what a group is called; and messages that grow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from .conftest import ServerProcess, Tab, token

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
    about(ann, "Change the name")
    ann.page.get_by_label("What it is for").fill("Tea\nat four")
    ann.page.get_by_role("button", name="Change", exact=True).click()
    for tab in (ann, ben):
        expect(tab.page.locator("#subtitle")).to_have_text("Tea at four")
    path = f"/v1/conversations/{chat}"
    about(ann, "Change the name")
    ann.page.get_by_label("Name", exact=True).fill("Monday")
    ann.page.keyboard.press("Enter")
    for tab in (ann, ben):
        expect(tab.page.locator("#title")).to_have_text("Monday")
    assert server.api("ann", "GET", path)["description"] == "Tea\nat four", "which was not touched"
    about(ann, "Change the name")
    ann.page.get_by_label("What it is for").fill("Tea\nat five")
    ann.page.get_by_role("button", name="Change", exact=True).click()
    expect(notices.last).to_have_text("ann changed what the group is for")
    about(ben, "Change the name")
    expect(ben.page.get_by_label("What it is for")).to_have_value("Tea\nat five")
    ben.page.get_by_label("Name", exact=True).fill("Ben's")
    ben.page.keyboard.press("Enter")
    expect(ben.page.locator(".toast")).not_to_be_empty()
    assert all("403" in line for line in ben.console), ben.console
    ben.console.clear()
    expect(ben.page.locator("#log .message")).to_have_count(1)
    row = ben.page.locator(f'[data-conversation="{chat}"]')
    expect(row.locator(".preview")).to_have_text("ann changed what the group is for")

    other = server.conversation("ben", "ann")
    ben.choose(other)
    ann.write("here")
    expect(row.locator(".badge")).to_have_text("1")
    ann.write("@ben")
    expect(row.locator(".badge")).to_have_text("@ 2")

    ben.choose(chat)
    expect(row.locator(".badge")).to_be_hidden()
    ben.choose(other)
    last = server.say("ann", chat, "read by ben", "read")
    expect(row.locator(".badge")).to_have_text("1")
    ben.choose(chat)
    expect(row.locator(".badge")).to_be_hidden()
    ben.choose(other)
    mention = {"type": "TEXT", "text": "@ben", "mentions": ["ben"]}
    place = {"messageId": last["messageId"], "seq": last["seq"]}
    server.send("ann", chat, {"type": "EDIT", **place, "payload": mention}, "edit")
    expect(row.locator(".badge")).to_have_text("@")

    for number in range(4):  # more than the list has room for
        sent = server.say("ann", chat, f"{number} " + "long " * 8_000, f"long-{number}")
        place = {"messageId": sent["messageId"], "seq": sent["seq"]}
        server.send("ann", chat, {"type": "PINNED", **place, "pinned": True}, f"pin-{number}")
    about(ann, "Pinned messages")
    expect(ann.page.locator("#pinned .preview")).to_have_count(4)
    expect(ann.page.locator("#pinned .preview").last).to_have_text("An earlier pinned message")
    ann.page.locator("#pinned .preview").last.click()
    expect(ann.page.locator("#log .message:focus .body")).to_contain_text("0 long")


BEGIN = """async ([url, token, conversationId]) => {
  const { ChatClient } = await import(url + "/v1/client/chatkit.js");
  const client = new ChatClient({ url, token });
  await client.start();
  globalThis.begin = () => client.stream(conversationId);
  globalThis.stream = await begin();
}"""


def test_a_message_is_seen_to_grow_and_how_it_ended(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "bot")
    ann = new_tab().sign_in("ann", conversation=chat)
    bot = new_tab()
    bot.page.goto(f"{server.url}/own/blank")
    bot.page.evaluate(BEGIN, [server.url, token("bot"), chat])
    bodies, notes = ann.page.locator("#log .body"), ann.page.locator("#log .note")
    expect(bodies).to_have_text(["…"])
    expect(notes).to_have_text(["writing…"])
    expect(ann.page.locator("#log .chip")).to_have_count(0)
    bot.page.evaluate("stream.write('The capital ')")
    expect(bodies).to_have_text(["The capital "])
    ann.page.reload()  # who comes late gets the whole
    ann.expect_online()
    bot.page.evaluate("stream.write('of Peru is Lima.')")
    expect(bodies).to_have_text(["The capital of Peru is Lima."])
    bot.page.evaluate("stream.end()")
    expect(notes).to_have_text([""])
    bot.page.evaluate("begin().then(async (cut) => { await cut.write('It lies'); await cut.cutOff(); })")
    expect(notes).to_have_text(["", "not finished"])
    expect(bodies).to_have_text(["The capital of Peru is Lima.", "It lies"])
    expect(ann.page.locator(f'[data-conversation="{chat}"] .preview')).to_have_text("It lies")
