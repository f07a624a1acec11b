"""Files on the page: chosen, pasted or dropped, described, uploaded with a bar, shown by links."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Route, expect

from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]
CONTENT = "**/v1/blobs/*/content*"
HOSTILE_NAME = "\u202e\"><img src=x onerror=document.title='owned'>.svg"
HOSTILE_SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>"
GIVE = """(text, [kind, name, type, bytes, words = null]) => {
  const data = new DataTransfer();
  if (words !== null) data.setData("text/plain", words);
  data.items.add(new File([Uint8Array.from(bytes)], name, { type }));
  const options = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
  text.dispatchEvent(kind === "paste" ? new ClipboardEvent(kind, options) : new DragEvent(kind, options));
}"""


def png(width: int, height: int, shift: int = 0) -> bytes:
    """A picture of slanting stripes."""
    rows = bytearray()
    for y in range(height):
        rows += b"\0"
        for x in range(width):
            rows += bytes(((x + y + shift) * 2 % 256, y * 255 // height, 140))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def choose(tab: Tab, name: str, mime: str, content: bytes) -> None:
    tab.page.locator("#file").set_input_files({"name": name, "mimeType": mime, "buffer": content})
    expect(tab.page.get_by_role("dialog", name="Send a file")).to_be_visible()


def test_a_picture_is_described_sent_shown_to_both_and_recalled(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ben = new_tab().sign_in("ben", conversation=chat)
    ann.write("look")
    ben.act("look", "Reply")
    choose(ben, "hills.png", "image/png", png(320, 200))
    expect(ben.page.locator("#attachment-name")).to_contain_text("hills.png · ")
    ben.page.get_by_label("What it shows").fill("Stripes over hills")
    ben.page.screenshot(path=shots / "attachment.png")
    ben.page.keyboard.press("Enter")
    expect(ben.page.locator("#uploads li")).to_have_count(0)
    for tab in (ann, ben):
        picture = tab.page.get_by_role("img", name="Stripes over hills")
        expect(picture).to_be_visible()
        tab.page.wait_for_function("() => document.querySelector('.picture img').naturalWidth === 320")
        expect(tab.page.locator(".message", has=picture).locator(".quote")).to_have_text("ann: look")
    expect(ann.page.locator(f'[data-conversation="{chat}"] .preview')).to_have_text(
        "Picture: Stripes over hills"
    )
    ann.page.screenshot(path=shots / "picture.png")

    ann.page.get_by_role("button", name="Picture: Stripes over hills", exact=True).click()
    viewer = ann.page.get_by_role("dialog", name="Stripes over hills")
    expect(viewer.get_by_role("img")).to_be_visible()
    with ann.page.expect_download() as saved:
        viewer.get_by_role("button", name="Download").click()
    assert saved.value.suggested_filename == "hills.png"
    assert saved.value.path().read_bytes() == png(320, 200)
    ann.page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()

    page = server.api("ann", "GET", f"/v1/sync?conversationId={chat}&lastSeq=0")
    (sent,) = [entry for entry in page["messages"] if entry["payload"]["type"] == "IMAGE"]
    assert (sent["payload"]["width"], sent["payload"]["height"], sent["payload"]["mime"]) == (
        320,
        200,
        "image/png",
    )
    server.api("ben", "POST", f"/v1/messages/{sent['messageId']}/recall")
    for tab in (ann, ben):
        expect(tab.message("Message recalled")).to_be_visible()
        expect(tab.page.locator(".picture")).to_have_count(0)


def test_uploads_are_stopped_fail_and_go_on_and_odd_files_do_nothing(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    ann.expect_lost_connections()
    held: list[Route] = []
    ann.page.route(CONTENT, lambda route: held.append(route))
    choose(ann, "slow.bin", "application/octet-stream", b"slow" * 1000)
    expect(ann.page.locator("#attachment-words")).to_be_hidden()
    ann.page.keyboard.press("Enter")
    bar = ann.page.get_by_role("progressbar", name="Upload of slow.bin")
    expect(bar).to_be_visible()
    ann.write("meanwhile")
    ann.expect_state("meanwhile", "SENT")
    ann.page.screenshot(path=shots / "upload.png")
    ann.page.get_by_role("button", name="Cancel slow.bin").click()
    expect(bar).to_have_count(0)

    problem = {"code": "TOO_LARGE", "detail": "no", "retryable": False}
    ann.page.route(CONTENT, lambda route: route.fulfill(status=413, body=json.dumps(problem)))
    choose(ann, HOSTILE_NAME, "image/svg+xml", HOSTILE_SVG)
    ann.page.keyboard.press("Enter")
    row = ann.page.locator("#uploads li")
    expect(row.get_by_role("alert")).to_have_text("The file is larger than this server takes.")
    ann.page.unroute(CONTENT)
    row.get_by_role("button", name="Try again").click()
    chip = ann.page.locator("#log .file")
    expect(chip).to_contain_text(HOSTILE_NAME.removeprefix("\u202e"))
    expect(chip).not_to_contain_text("\u202e")
    expect(ann.page.locator("#log img")).to_have_count(0)
    with ann.page.expect_download() as saved:
        chip.click()
    assert saved.value.path().read_bytes() == HOSTILE_SVG

    text = ann.page.get_by_role("textbox", name="Message")
    for kind, mark in (("paste", 1), ("drop", 2)):
        text.evaluate(GIVE, [kind, f"{kind}.png", "image/png", list(png(8, 8, mark))])
        ann.page.get_by_role("dialog", name="Send a file").get_by_role("button", name="Send").click()
        expect(ann.page.get_by_role("img", name=f"{kind}.png")).to_be_visible()

    text.evaluate(GIVE, ["paste", "cells.png", "image/png", list(png(8, 8, 3)), "cells of a table"])
    expect(ann.page.get_by_role("dialog")).to_have_count(0)

    # what could not be loaded says so: cut off, refused once as a link that ended is, and refused for good
    links, pictures = re.compile(r"/v1/blobs/\w+$"), ann.page.locator("#log .picture")
    ann.page.route(links, lambda route: route.abort())
    ann.page.reload()
    expect(pictures).to_have_text(["Not loaded. Press to try again"] * 2)
    ann.page.unroute(links)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url.split("?")[0])
        route.fulfill(status=403) if refused.count(refused[-1]) == 1 else route.continue_()

    ann.page.route(CONTENT, refuse)
    pictures.first.click()
    expect(pictures.first.get_by_role("img")).to_be_visible()
    ann.page.unroute(CONTENT)
    ann.page.route(CONTENT, lambda route: route.fulfill(status=403))
    pictures.last.click()
    expect(pictures.last).to_have_text("The browser cannot show this picture. Press to download")
    ann.page.unroute(CONTENT)
    with ann.page.expect_download() as saved:
        pictures.last.click()
    assert saved.value.path().read_bytes() == png(8, 8, 2)

    foreign = {
        "type": "IMAGE",
        "mime": "image/png",
        "bytes": 5,
        "url": "https://foreign.example/x.png",
        "name": "elsewhere",
    }
    asked: list[str] = []
    ann.page.on("request", lambda request: asked.append(request.url))
    server.send("ben", chat, foreign, "k-1")
    expect(ann.message("Picture · elsewhere · 5 B")).to_be_visible()
    assert [url for url in asked if not url.startswith(server.url)] == []
    expect(ann.page).to_have_title("chatkit")
    assert all("413" in line or "403" in line for line in ann.console), ann.console
    ann.console.clear()
