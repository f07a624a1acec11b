"""The JavaScript client in pages of a host's own: the page of the docs, offline, over reloads, and in several tabs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from playwright.sync_api import Error as PlaywrightError

from tests.docs.snippets import blocks

from .app import PREFIX
from .conftest import ROOT, SECRET, ServerProcess, Tab, token

NewTab = Callable[..., Tab]

START = """async ({ token, from, options }) => {
  const { ChatClient } = await import(`${from}/v1/client/chatkit.js`);
  globalThis.client = new ChatClient({ token: async () => token, ...options });
  globalThis.told = [];
  for (const type of ["message", "sent", "failed", "recalled", "error", "caughtup"]) {
    client.addEventListener(type, ({ detail }) => told.push(detail));
  }
  await client.start();
}"""
TEXTS = "(id) => client.conversation(id).messages.map(({ payload }) => payload.text ?? payload.type)"
KEPT = """() => new Promise((done) => {
  indexedDB.open("chatkit").onsuccess = ({ target }) => {
    const request = target.result.transaction("pending").objectStore("pending").count();
    request.onsuccess = () => done(request.result);
  };
})"""


def own_page(tab: Tab, user_id: str, **options: object) -> Page:
    """An empty page with a client that has started."""
    tab.page.goto(f"{tab.server.url}/own/blank")
    start(tab.page, user_id, **options)
    return tab.page


def start(page: Page, user_id: str, *, origin: str = "", **options: object) -> None:
    page.evaluate(START, {"token": token(user_id), "from": origin, "options": options})


def wait_for(page: Page, condition: str, argument: object = None) -> None:
    page.wait_for_function(condition, arg=argument, polling=50)


def cut_off(tab: Tab) -> None:
    """No request of the API gets through, nor does a connection; the page and the client's modules do."""
    tab.expect_lost_connections()
    tab.page.route_web_socket("**/v1/ws", lambda socket: socket.close())
    tab.page.route("**/v1/conversations**", Route.abort)


class DocumentedHost:
    """The host and the page of docs/javascript.md, in a folder of their own, as a process."""

    def __init__(self, folder: Path) -> None:
        page = ROOT / "docs/javascript.md"
        (folder / "app.py").write_text(blocks(page, "python")[0].text)
        (folder / "index.html").write_text(blocks(page, "html")[0].text)
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> None:
        """Returns once it listens; on the same port as before."""
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(self.port), "--no-access-log"]
        environment = {**os.environ, "CHATKIT_JWT_SECRET": SECRET}
        self._process = subprocess.Popen(
            command, cwd=self._folder, env=environment, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        pytest.fail("the host of docs/javascript.md did not start")

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.communicate(timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[DocumentedHost]:
    (tmp_path / "documented").mkdir()
    host = DocumentedHost(tmp_path / "documented")
    host.start()
    yield host
    host.stop()


def test_the_host_and_the_page_of_the_docs_chat_in_two_tabs(
    documented: DocumentedHost, new_tab: NewTab
) -> None:
    tabs = [new_tab(), new_tab()]
    ann, ben = (tab.page for tab in tabs)
    given = ["", " "]  # a login that gives nothing at first does not end the page
    ann.route("**/token?*", lambda it: it.fulfill(body=given.pop()) if given else it.continue_())
    ann.goto(f"{documented.url}/?user=ann")
    ben.goto(f"{documented.url}/?user=ben")
    expect(ann.locator("#state")).to_have_text("ann: online")
    assert given == []
    for page, text in ((ann, "hello"), (ben, "hello yourself")):
        page.locator("#text").fill(text)
        page.keyboard.press("Enter")
    for page in (ann, ben):
        expect(page.locator("#log li").last).to_contain_text("ben: hello yourself")
        expect(page.locator("#log")).to_contain_text("ann: hello")
    expect(ann.locator("#log")).to_contain_text("ann: hello READ")
    expect(ben.locator("#log li").last).to_have_text("ben: hello yourself READ")
    for tab in tabs:
        tab.expect_lost_connections()
    documented.stop()
    expect(ann.locator("#state")).not_to_have_text("ann: online")
    ann.locator("#text").fill("written while it was away")
    ann.keyboard.press("Enter")
    expect(ann.locator("#log li").last).to_have_text("you: written while it was away SENDING")
    documented.start()
    expect(ben.locator("#log li").last).to_have_text("ann: written while it was away")
    ann.reload()
    expect(ann.locator("#log li").last).to_have_text("ann: written while it was away READ")
    ann.locator("#text").fill("")
    ann.keyboard.press("Enter")  # sends nothing
    ben.evaluate(
        """async () => {
          const headers = { Authorization: `Bearer ${await (await fetch("/token?user=ann")).text()}` };
          const { ok } = await fetch("v1/conversations/lobby/members/ben", { method: "DELETE", headers });
          if (!ok) throw new Error("ben is a member still");
        }"""
    )
    ben.locator("#text").fill("may not be")
    ben.keyboard.press("Enter")
    refused = ben.locator("#log li").last
    expect(refused).to_have_text("you: may not be FAILED")
    refused.click()
    for page in (ann, ben):
        expect(page.locator("#log li").last).to_contain_text("ann: written while it was away")
        expect(page.locator("#log li")).to_have_count(3)


def test_the_page_of_the_docs_says_what_its_address_lacks(
    documented: DocumentedHost, browser: Browser
) -> None:
    page = browser.new_page()  # its console complains of the 400
    page.goto(documented.url)
    expect(page.locator("#state")).to_contain_text("add ?user=ann to the address")
    page.goto(f"{documented.url}/?user=cat")
    expect(page.locator("#state")).to_have_text("cat: online")
    expect(page.locator("#log li")).to_have_count(0)
    page.locator("#text").fill("let me in")
    page.keyboard.press("Enter")
    expect(page.locator("#log li")).to_have_text("you: let me in FAILED")
    page.close()


def test_the_host_of_the_docs_says_that_it_needs_a_secret(documented: DocumentedHost, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CHATKIT_JWT_SECRET"}
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app:app"],
        cwd=tmp_path / "documented",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == "CHATKIT_JWT_SECRET is not set\n"


def test_two_clients_talk_and_events_can_be_iterated(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann, ben = own_page(new_tab(), "ann"), own_page(new_tab(), "ben")
    ben.evaluate(
        """() => void (async () => {
          for await (const { type, message, conversationId } of client.events()) {
            if (type === "message" && message.payload.text === "ping") client.send(conversationId, "pong");
          }
        })()"""
    )
    sent = ann.evaluate("(id) => client.send(id, 'ping')", chat)
    assert sent["seq"] == 2
    wait_for(ann, "told.some(({ type, message }) => type === 'message' && message.payload.text === 'pong')")
    assert ann.evaluate(TEXTS, chat) == ["MEMBER", "ping", "pong"]
    assert ann.evaluate("(id) => client.history(id, { beforeSeq: 3 }).then((it) => it.length)", chat) == 2
    ben.evaluate("(id) => client.markRead(id)", chat)
    wait_for(ann, "(id) => client.conversation(id).stateOf(2) === 'READ'", chat)
    recalled = ann.evaluate("(id) => client.recall(client.conversation(id).messages[1].messageId)", chat)
    assert recalled["seq"] == 4
    wait_for(ben, "told.some(({ type, seq }) => type === 'recalled' && seq === 2)")
    rows = ben.evaluate(
        "client.conversations().map(({ name, unread, lastMessage }) => [name, unread.count, lastMessage.seq])"
    )
    assert rows == [["ann", 0, 3]]


def test_offline_over_reloads_everything_is_there_and_goes_out_once(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat = server.conversation("ann", "ben")
    server.say("ben", chat, "before", "k-1")
    tab = new_tab()
    page = own_page(tab, "ann")
    wait_for(
        page, "(id) => client.conversation(id)?.loaded && told.some(({ type }) => type === 'caughtup')", chat
    )
    wait_for(page, "(id) => client.conversation(id).storedUpTo === 2", chat)
    cut_off(tab)
    page.reload()
    start(page, "ann")
    assert page.evaluate(TEXTS, chat) == ["MEMBER", "before"]
    page.evaluate("(id) => { client.send(id, 'one'); client.send(id, 'two'); }", chat)
    assert page.evaluate(KEPT) == 2
    page.reload()
    start(page, "ann")
    assert page.evaluate("client.pending().map(({ payload }) => payload.text)") == ["one", "two"]
    page.close()

    other = Tab(page.context.new_page(), server)  # the tab is gone; the next one takes its place
    page = own_page(other, "ann")
    wait_for(page, "told.filter(({ type }) => type === 'sent').length === 2")
    assert page.evaluate("client.pending().length") == 0
    wait_for(page, "(id) => client.conversation(id).timeline.upTo === 4", chat)
    assert page.evaluate(TEXTS, chat) == ["MEMBER", "before", "one", "two"]


UPLOAD = """async ([conversationId, size]) => {
  const bytes = new Uint8Array(size).map((_, index) => index >> 10);
  bytes.set([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  globalThis.progress = [];
  const options = { onProgress: (done, whole) => progress.push([done, whole]) };
  const sent = await client.sendFile(conversationId, new File([bytes], "cat.png"), options);
  await client.sendFile(conversationId, bytes, { clientMsgId: "again" });
  return { seq: sent.seq, last: progress.at(-1) };
}"""
DOWNLOAD = """async ([conversationId, seq]) => {
  const message = client.conversation(conversationId).messages.find((one) => one.seq === seq);
  const blob = await client.download(message);
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const isSame = bytes.every((byte, index) => index < 8 || byte === ((index >> 10) & 255));
  const linked = await fetch((await client.fileLink(message)).url);
  const { type, size } = blob;
  return { payload: message.payload, type, size, isSame, linked: linked.headers.get("content-type") };
}"""


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_file_goes_up_and_down_wherever_the_api_is(
    server: ServerProcess, new_tab: NewTab, prefix: str
) -> None:
    chat, size = server.conversation("ann", "ben"), 5_000_000
    tab = new_tab()
    ann = own_page(tab, "ann", url=f"{server.url}{prefix}/")
    ben = own_page(new_tab(), "ben", url=f"{server.url}{prefix}/")
    requests: list[str] = []
    ann.on("request", lambda it: requests.append(f"{it.method} {it.url.partition('?')[0]}"))
    cut: list[str] = []

    def cut_once(route: Route) -> None:
        cut.append(route.request.method)
        if len(cut) == 1:
            route.abort()
        else:
            route.continue_()

    tab.expect_lost_connections()
    ann.route("**/content?**", cut_once)
    sent = ann.evaluate(UPLOAD, [chat, size])
    assert (sent["last"], cut) == ([size, size], ["PUT", "PUT"])
    wait_for(
        ben, "([id, seq]) => client.conversation(id)?.messages.some((one) => one.seq === seq)", [chat, 3]
    )
    got = ben.evaluate(DOWNLOAD, [chat, sent["seq"]])
    assert got["payload"] == {
        **got["payload"],
        "type": "IMAGE",
        "mime": "image/png",
        "bytes": size,
        "name": "cat.png",
    }
    assert (got["type"], got["size"], got["isSame"]) == ("image/png", size, True)
    assert got["linked"] == "image/png"
    posts = [it for it in requests if it.startswith("POST")]
    assert posts == [f"POST {server.url}{prefix}/v1/blobs"] * 3  # begun, gone on with, and found again
    refused = ann.evaluate(
        "(type) => client.upload(new Uint8Array(9), { mime: type }).catch(({ code, reason }) => [code, reason])",
        "image/png",
    )
    assert refused == ["BAD_REQUEST", "TYPE"]


def test_search_members_mute_and_who_is_away(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben", kind="GROUP", title="Trip")
    server.say("ben", chat, "🎉 which parcel?", "k-1")
    page = own_page(new_tab(), "ann")
    wait_for(page, "told.some(({ type }) => type === 'caughtup')")
    hits = """async (query) => (await client.search(query)).hits.map((hit) =>
      [hit.message.senderId, hit.highlights.map(([start, end]) => hit.text.slice(start, end))])"""
    page.wait_for_function("async () => (await client.search('par*')).upToDate", polling=200)
    assert page.evaluate(hits, "par*") == [["ben", ["parcel"]]]
    assert page.evaluate(hits, "nothing") == []
    members = "async (id) => (await client.members(id)).members.map(({ userId, role }) => [userId, role])"
    assert page.evaluate(members, chat) == [["ann", "OWNER"], ["ben", "MEMBER"]]
    page.evaluate("(id) => client.mute(id)", chat)
    page.reload()
    start(page, "ann")
    wait_for(page, "(id) => client.conversation(id).mutedUntil === Number.MAX_SAFE_INTEGER", chat)
    page.evaluate("(id) => client.unmute(id)", chat)
    assert server.api("ann", "GET", "/v1/conversations")["conversations"][0].get("mutedUntil") is None
    row = """(id) => {
      const { name, unread, lastMessage } = client.conversation(id);
      return [name, unread, lastMessage.seq];
    }"""
    assert page.evaluate(row, chat) == ["Trip", {"count": 1, "more": False}, 2]


def test_a_message_grows_over_a_cut_and_mentions_and_pins_are_told(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat = server.conversation("ann", "ben", kind="GROUP")
    tabs = [new_tab(), new_tab()]
    ann, ben = own_page(tabs[0], "ann"), own_page(tabs[1], "ben")
    for page in (ann, ben):
        wait_for(page, "told.some(({ type }) => type === 'caughtup')")
    ben.evaluate("client.addEventListener('streamgrew', ({ detail }) => told.push(detail))")
    ann.evaluate("async (id) => { globalThis.stream = await client.stream(id, 'To'); }", chat)
    ann.evaluate("stream.write(' be')")
    wait_for(ben, "told.some(({ type, text }) => type === 'streamgrew' && text === 'To be')")
    for tab in tabs:
        tab.expect_lost_connections()
    server.kill()
    ann.evaluate("stream.write(' or not')")
    server.start()
    wait_for(ben, "told.some(({ type, text }) => type === 'streamgrew' && text === 'To be or not')")
    ben.reload()  # who comes later gets the whole, and follows it
    start(ben, "ben")
    wait_for(
        ben, "(id) => client.conversation(id)?.messages.at(-1).marks?.stream?.text === 'To be or not'", chat
    )
    ann.evaluate("stream.end('To be, or not to be')")
    wait_for(ben, "(id) => client.conversation(id).messages.at(-1).marks.edit?.ends === 'WHOLE'", chat)
    assert ben.evaluate("(id) => client.conversation(id).messages.at(-1).marks.edit.payload.text", chat) == (
        "To be, or not to be"
    )
    ann.evaluate("(id) => client.send(id, '@ben', { mentions: ['ben'] })", chat)
    wait_for(ben, "(id) => client.conversation(id).unreadMentions === 1", chat)
    assert ben.evaluate("(id) => client.conversation(id).unread.count", chat) == 2
    ann.evaluate("(id) => client.pin(client.conversation(id).messages.at(-1))", chat)
    pinned = ben.evaluate(
        "async (id) => (await client.pins(id)).map(({ by, message }) => [by, message.payload.text])", chat
    )
    assert pinned == [["ann", "@ben"]]
    ann.evaluate("(id) => client.setTitle(id, 'Sunday')", chat)
    wait_for(ben, "(id) => client.conversation(id).title === 'Sunday'", chat)


def test_two_tabs_are_two_devices_and_a_reload_is_the_same(
    browser_context: BrowserContext, server: ServerProcess, new_tab: NewTab
) -> None:
    first, second = new_tab(browser_context), new_tab(browser_context)
    pages = [own_page(first, "ann"), own_page(second, "ann")]
    ids = [page.evaluate("client.deviceId") for page in pages]
    assert len(set(ids)) == 2
    for page in pages:
        wait_for(page, "client.online")
        page.reload()
        start(page, "ann")
    assert [page.evaluate("client.deviceId") for page in pages] == ids


@pytest.fixture
def browser_context(browser: object) -> BrowserContext:
    context = browser.new_context()  # type: ignore[attr-defined]
    yield context
    context.close()


def test_a_page_of_an_allowed_origin_uses_it_and_one_of_another_cannot(
    server: ServerProcess, new_tab: NewTab, tmp_path: Path
) -> None:
    """The pages are of `server`, and import the client from another one, which allows one name of their host only."""
    named = server.url.replace("127.0.0.1", "localhost")
    (tmp_path / "other").mkdir()
    other = ServerProcess(tmp_path / "other", "--origin", server.url)
    other.start()
    try:
        chat = other.conversation("ann", "ben")
        tab, foreign = new_tab(), new_tab()
        tab.page.goto(f"{server.url}/own/blank")
        start(tab.page, "ann", origin=other.url)
        wait_for(tab.page, "told.some(({ type }) => type === 'caughtup')")
        assert tab.page.evaluate("(id) => client.send(id, 'from elsewhere')", chat)["seq"] == 2
        uploaded = tab.page.evaluate("() => client.upload(new Blob(['words'])).then(({ size }) => size)")
        assert uploaded == 5
        assert tab.page.evaluate("(id) => client.sendFile(id, new Blob(['words']))", chat)["seq"] == 3
        foreign.expect_lost_connections()
        foreign.page.goto(f"{named}/own/blank")
        with pytest.raises(PlaywrightError, match="Failed to fetch dynamically imported module"):
            start(foreign.page, "ann", origin=other.url)
        assert any("CORS" in line for line in foreign.console)
        foreign.console.clear()
        tab.page.evaluate("client.close()")  # before its server goes
    finally:
        other.close()


def test_a_refusal_is_an_error_with_the_servers_code(server: ServerProcess, new_tab: NewTab) -> None:
    tab = new_tab()
    page = own_page(tab, "ann")
    wait_for(page, "client.online")
    code = "(action) => Promise.resolve().then(action).then(() => 'none', (error) => error.code)"
    calls = {
        "client.send('c-none', 'x')": "NOT_FOUND",
        "client.send('no id', 'x')": "BAD_REQUEST",
        "client.send('c-none', 'x'.repeat(70000))": "TOO_LARGE",
        "client.history('c-none')": "NOT_FOUND",
        "client.request('GET', '/v1/conversations/c-none')": "NOT_FOUND",
    }
    found = {call: page.evaluate(f"() => ({code})(() => {call})") for call in calls}
    assert found == calls
    assert page.evaluate("client.pending().map(({ state }) => state)") == ["FAILED"]
    assert page.evaluate("client.cancel('c-none', client.pending()[0].clientMsgId)") == "CANCELLED"
    assert ["404" in line for line in tab.console] == [True]  # the browser tells of each such request
    tab.console.clear()
