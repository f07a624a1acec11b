"""What others write is text and nothing else; the page is strict about where code comes from."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]
HOSTILE = [
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script>",
    '"><svg onload="document.title=\'owned\'">',
    "javascript:document.title='owned'",
    "{{constructor.constructor('document.title=1')()}}",
]


def test_markup_in_messages_and_titles_stays_text(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben", "cleo", kind="GROUP", title=HOSTILE[0])
    for number, text in enumerate(HOSTILE):
        server.say("ben", chat, text, f"k-{number}")
    payload = {"schema": "x", "data": {}, "fallbackText": HOSTILE[0]}
    server.api(
        "ben",
        "POST",
        "/v1/messages/send",
        conversationId=chat,
        clientMsgId="c",
        type="CUSTOM",
        content=payload,
    )
    ann = new_tab().sign_in("ann", conversation=chat)
    expect(ann.page.locator("#log .body")).to_have_text([*HOSTILE, HOSTILE[0]])
    expect(ann.page.locator("#title")).to_have_text(HOSTILE[0])
    expect(ann.page.locator("#log img, #log script, #log svg[onload], #log a, #sidebar img")).to_have_count(0)
    expect(ann.page).to_have_title("chatkit")


def test_odd_ids_break_nothing(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "b.e-n:1@x_", conversationId="a.b:c@d-e_f")
    server.say("b.e-n:1@x_", chat, "hello", "k")
    ann = new_tab().sign_in("ann")
    ann.choose(chat)
    expect(ann.message("hello")).to_be_visible()
    ann.write("yes")
    ann.expect_state("yes", "SENT")


def test_policy_stops_inline_script_and_foreign_images(server: ServerProcess, new_tab: NewTab) -> None:
    ann = new_tab().sign_in("ann")
    ann.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'owned'";
          document.body.append(script);
          const image = document.createElement("img");
          image.src = "http://127.0.0.1:9/x.png";
          document.body.append(image);
        }"""
    )
    expect(ann.page).to_have_title("chatkit")
    assert len(ann.console) == 2
    assert all("Content Security Policy" in line for line in ann.console), ann.console
    ann.console.clear()
