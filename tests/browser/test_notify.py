"""Notifications in a real browser: the button, what the server pushes, and what the service worker makes of it.

No push service can be reached, so the browser's subscription is stubbed and leads to one in this process. What our
server encrypts is decrypted there, and handed to the browser as DevTools hands pushes to a service worker.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, Error, Locator, Page, Worker, expect

from tests.push.stages import PEM, decrypted, subscription
from tests.servers.push_gateway import PushGateway, Reply, Request

from .conftest import ServerProcess, Tab, token

NewTab = Callable[..., Tab]
_PEOPLE = itertools.count()
STUB = """text => {
  const name = "stub of the push service";
  const key = () => Uint8Array.fromBase64(localStorage.getItem(name), { alphabet: "base64url" }).buffer;
  const held = {
    get options() { return { applicationServerKey: key() } },
    toJSON: () => JSON.parse(text),
    unsubscribe: async () => {
      localStorage.removeItem(name);
      globalThis.given_up = (globalThis.given_up ?? 0) + 1;
    },
  };
  PushManager.prototype.getSubscription = async () => localStorage.getItem(name) === null ? null : held;
  PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
    if (userVisibleOnly !== true) throw new Error("no browser allows that");
    localStorage.setItem(name, applicationServerKey);
    return held;
  };
}"""
SHOWN = """navigator.serviceWorker.getRegistration().then(one => one.getNotifications()).then(
  all => all.map(({ title, body, tag }) => [title, body, tag]))"""

UNTIL_SHOWN = f"""async wanted => {{
  const end = Date.now() + 20_000;
  for (;;) {{
    const shown = JSON.stringify((await {SHOWN}).sort());
    if (shown === JSON.stringify(wanted)) return;
    if (Date.now() > end) throw new Error(`shown are ${{shown}}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }}
}}"""


class PushService:
    """A push service in a thread of its own; `arrived` gives what it was sent, oldest first."""

    def __init__(self) -> None:
        self.requests: Queue[Request] = Queue()
        self.gateway = PushGateway(self._take)
        self._numbers = itertools.count()

    def _take(self, request: Request) -> Reply:
        self.requests.put(request)
        return Reply(201)

    def subscription(self) -> str:
        """Of another browser each time."""
        number = next(self._numbers)
        return subscription(f"{self.gateway.url}/push/{number}", number)

    def arrived(self, conversation_id: str) -> dict[str, Any]:
        """What a browser reads of the next push about a conversation."""
        while True:
            push = decrypted(self.requests.get(timeout=30))
            if push["conversationId"] == conversation_id:
                return push


@pytest.fixture(scope="module")
def push_service() -> Iterator[PushService]:
    service = PushService()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(service.gateway):
        yield service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, push_service: PushService) -> Iterator[ServerProcess]:
    """One for all tests, whose users differ. It pushes to browsers, by the push service here."""
    folder = tmp_path_factory.mktemp("server")
    key, authority = folder / "key.pem", folder / "authority.pem"
    key.write_text(PEM)
    authority.write_bytes(push_service.gateway.authority_pem)
    process = ServerProcess(folder, "--push", str(key), str(authority))
    process.start()
    yield process
    process.close()


FIRST = """async () => {
  const registration = await navigator.serviceWorker.register("/worker.js");
  await navigator.serviceWorker.ready;
  for (let tries = 0; tries < 200; tries += 1) {
    await registration.showNotification("first", { tag: "first" });
    if ((await registration.getNotifications()).length > 0) return;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  throw new Error("this browser keeps no notification");
}"""


@pytest.fixture(scope="module", autouse=True)
def first_notification(browser: Browser, server: ServerProcess) -> None:
    """Chromium may drop the first notification of its process, while it looks for the desktop that is not there."""
    with browser.new_context(permissions=["notifications"]) as context:
        page = context.new_page()
        page.goto(server.url)
        page.evaluate(FIRST)


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """One that pushes to nobody."""
    process = ServerProcess(tmp_path)
    process.start()
    yield process
    process.close()


@pytest.fixture
def ann() -> str:
    return f"ann-{next(_PEOPLE)}"


@pytest.fixture
def ben() -> str:
    return f"ben-{next(_PEOPLE)}"


@pytest.fixture
def cleo() -> str:
    return f"cleo-{next(_PEOPLE)}"


class Subscribing:
    """Makes tabs of browsers that may notify, and whose subscription is stubbed."""

    def __init__(self, new_tab: NewTab, service: PushService) -> None:
        self._new_tab = new_tab
        self._service = service

    def __call__(self, beside: Tab | None = None, *, allowed: bool = True) -> Tab:
        context = None if beside is None else beside.page.context
        tab = self._new_tab(context, service_workers="allow")
        if allowed:
            tab.page.context.grant_permissions(["notifications"])
        tab.page.add_init_script(f"({STUB})({json.dumps(self._service.subscription())})")
        return tab


@pytest.fixture
def subscribing(new_tab: NewTab, push_service: PushService) -> Subscribing:
    return Subscribing(new_tab, push_service)


def button(tab: Tab) -> Locator:
    return tab.page.get_by_role("button", name="Notify me")


def turn_on(tab: Tab) -> Worker:
    """Press the button; the page's service worker, once the server has the registration."""
    button(tab).click()
    expect(button(tab)).to_have_attribute("aria-pressed", "true")
    return worker_of(tab)


def worker_of(tab: Tab) -> Worker:
    (worker,) = tab.page.context.service_workers
    return worker


def deliver(page: Page, server: ServerProcess, push: dict[str, Any]) -> None:
    """Hand a push to the page's service worker, as the browser does with what a push service sends.

    The session stays: one that ends before the worker has started takes the push along.
    """
    session = page.context.new_cdp_session(page)
    found: list[dict[str, Any]] = []
    session.on("ServiceWorker.workerRegistrationUpdated", lambda event: found.extend(event["registrations"]))
    session.send("ServiceWorker.enable")
    while not found:
        page.evaluate("0")  # lets the event in
    origin, number = server.url, found[0]["registrationId"]
    data = {"origin": origin, "registrationId": number, "data": json.dumps(push)}
    session.send("ServiceWorker.deliverPushMessage", data)


def expect_shown(page: Page, *notifications: list[str]) -> None:
    """Wait until exactly these are shown."""
    page.evaluate(UNTIL_SHOWN, sorted(notifications))


def push_about(conversation_id: str, message_id: str = "m", **fields: Any) -> dict[str, Any]:
    return {
        "title": "ben",
        "body": "hello",
        "badge": 1,
        "collapseId": conversation_id,
        "conversationId": conversation_id,
        "messageId": message_id,
        **fields,
    }


def test_what_is_said_while_the_page_is_closed_is_shown_and_a_later_one_replaces_it(
    server: ServerProcess, subscribing: Subscribing, push_service: PushService, ann: str, ben: str
) -> None:
    chat = server.conversation(ann, ben)
    tab = subscribing().sign_in(ann)
    turn_on(tab)
    other = subscribing(tab)
    other.page.goto(f"{server.url}/")
    tab.page.close()

    server.say(ben, chat, "到了吗？", "k-1")
    first = push_service.arrived(chat)
    deliver(other.page, server, first)
    expect_shown(other.page, [ben, "到了吗？", chat])
    server.say(ben, chat, "hello?", "k-2")
    second = push_service.arrived(chat)
    deliver(other.page, server, second)
    expect_shown(other.page, [ben, "hello?", chat])
    assert (first["badge"], second["badge"]) == (1, 2)


def test_a_notification_leads_to_its_conversation(
    server: ServerProcess, subscribing: Subscribing, ann: str, ben: str, cleo: str
) -> None:
    chat, other = server.conversation(ann, ben), server.conversation(ann, cleo)
    tab = subscribing().sign_in(ann, conversation=other)
    worker = turn_on(tab)
    worker.evaluate("push => show(push)", push_about(chat))
    expect_shown(tab.page, ["ben", "hello", chat])
    with pytest.raises(Error, match="Not allowed to focus a window"):  # without a click of a person
        worker.evaluate("id => open(id)", chat)
    expect(tab.page.locator("#title")).to_have_text(ben)
    expect_shown(tab.page)


def test_who_clicks_with_no_window_open_signs_in_to_the_conversation(
    server: ServerProcess, new_tab: NewTab, ann: str, ben: str
) -> None:
    chat = server.conversation(ann, ben)
    tab = new_tab()
    tab.page.goto(f"{server.url}/#conversation={chat}")
    tab.page.get_by_label("Token").fill(token(ann))
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_have_text(ben)
    tab.page.evaluate("location.hash = '#conversation=nothing'")
    expect(tab.page.locator("#conversation")).to_be_hidden()
    expect(tab.page).to_have_url(f"{server.url}/")


def test_nothing_is_shown_of_a_conversation_that_is_looked_at_or_twice(
    server: ServerProcess, subscribing: Subscribing, ann: str, ben: str, cleo: str
) -> None:
    chat, other = server.conversation(ann, ben), server.conversation(ann, cleo)
    tab = subscribing().sign_in(ann, conversation=chat)
    worker = turn_on(tab)
    worker.evaluate("push => show(push)", push_about(chat))
    assert tab.page.evaluate(SHOWN) == []
    worker.evaluate("push => show(push)", push_about(other, title="cleo"))
    worker.evaluate("push => show(push)", push_about(other, title="shown again"))
    assert tab.page.evaluate(SHOWN) == [["cleo", "hello", other]]
    tab.choose(other)
    expect_shown(tab.page)


def test_another_users_window_does_not_count(
    server: ServerProcess, subscribing: Subscribing, ann: str, ben: str
) -> None:
    chat = server.conversation(ann, ben)
    tab = subscribing().sign_in(ann)
    worker = turn_on(tab)
    subscribing(tab).sign_in(ben, conversation=chat)
    worker.evaluate("push => show(push)", push_about(chat))
    assert tab.page.evaluate(SHOWN) == [["ben", "hello", chat]]


def test_whatever_a_push_holds_is_shown(server: ServerProcess, subscribing: Subscribing, ann: str) -> None:
    tab = subscribing().sign_in(ann)
    worker = turn_on(tab)
    deliver(tab.page, server, push_about("c-1", title=None, body=None))
    deliver(tab.page, server, push_about("c-2", title="New message", body=None))
    deliver(tab.page, server, push_about("c-3", title="<b>x</b>", body="<img src=x>"))
    for data in ("null", "{ json() { throw new SyntaxError() } }", "{ json: () => null }"):
        worker.evaluate(f"show(pushOf({data}))")
    expect_shown(
        tab.page,
        ["chatkit", "New message", "c-1"],
        ["New message", "", "c-2"],
        ["<b>x</b>", "<img src=x>", "c-3"],
        *[["chatkit", "New message", ""]] * 3,
    )


def test_a_message_that_came_to_a_hidden_page_is_shown_unless_muted(
    server: ServerProcess, subscribing: Subscribing, ann: str, ben: str, cleo: str
) -> None:
    chat = server.conversation(ann, ben, cleo, kind="GROUP", title="Trip")
    quiet = server.conversation(ann, cleo)
    server.api(ann, "PUT", f"/v1/conversations/{quiet}/mute", until=2**53 - 1)
    tab = subscribing().sign_in(ann)
    turn_on(tab)
    name = tab.page.locator(f'[data-conversation="{chat}"] strong')
    expect(name).to_have_text("Trip")  # and with the names the page knows what is muted
    tab.page.evaluate("Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' })")
    server.say(cleo, quiet, "nobody hears", "k-1")
    server.say(ann, server.conversation(ann, ben), "my own", "k-2")
    server.say(ben, chat, "hello", "k-3")
    expect_shown(tab.page, ["Trip", f"{ben}: hello", chat])


def test_signing_out_takes_the_registration_back(
    server: ServerProcess, subscribing: Subscribing, ann: str
) -> None:
    tab = subscribing().sign_in(ann, device_id="laptop")
    worker = turn_on(tab)
    worker.evaluate("push => show(push)", push_about("c-1"))
    with tab.page.expect_response(lambda it: it.request.method == "DELETE") as taken_back:
        tab.sign_out()
    assert (taken_back.value.status, taken_back.value.url) == (204, f"{server.url}/v1/devices/laptop/push")
    expect(tab.page.get_by_label("Token")).to_be_visible()
    assert tab.page.evaluate("localStorage.length") == 0
    assert tab.page.evaluate(SHOWN) == []


OWN_DEVICE = """() => {
  const key = Object.keys(sessionStorage).find((name) => name.endsWith(":device"));
  return sessionStorage.getItem(key);
}"""


def test_it_stays_on_in_later_tabs_and_is_turned_off_in_all(
    server: ServerProcess, subscribing: Subscribing, ann: str
) -> None:
    tab = subscribing().sign_in(ann)
    turn_on(tab)
    later = subscribing(tab)
    with later.page.expect_request(f"{server.url}/v1/devices") as registered:
        later.sign_in(ann)
    device_id = later.page.evaluate(OWN_DEVICE)
    assert registered.value.post_data_json["deviceId"] == device_id
    expect(button(later)).to_have_attribute("aria-pressed", "true")
    button(later).click()
    for each in (later, tab):
        expect(button(each)).to_have_attribute("aria-pressed", "false")


def test_a_subscription_that_the_browser_replaced_is_registered(
    server: ServerProcess, subscribing: Subscribing, ann: str
) -> None:
    tab = subscribing().sign_in(ann)
    worker = turn_on(tab)
    worker.evaluate("registration.pushManager.subscribe = async (options) => { self.asked = options }")
    with tab.page.expect_request(f"{server.url}/v1/devices") as registered:
        worker.evaluate("subscribeAgain()")
    assert registered.value.post_data_json["provider"] == "browsers"
    key = tab.page.evaluate("localStorage.getItem('stub of the push service')")
    assert worker.evaluate("asked") == {"userVisibleOnly": True, "applicationServerKey": key}


def test_a_subscription_with_an_earlier_key_of_the_server_is_given_up(
    server: ServerProcess, subscribing: Subscribing, ann: str
) -> None:
    tab = subscribing().sign_in(ann)
    turn_on(tab)
    key = tab.page.evaluate("localStorage.getItem('stub of the push service')")
    tab.page.evaluate("localStorage.setItem('stub of the push service', 'AAAA')")
    with tab.page.expect_request(f"{server.url}/v1/devices"):
        tab.page.reload()
    assert tab.page.evaluate("localStorage.getItem('stub of the push service')") == key
    assert tab.page.evaluate("given_up") == 1


def test_where_it_cannot_be_turned_on_the_page_says_so_or_has_no_button(
    server: ServerProcess, subscribing: Subscribing, ann: str
) -> None:
    refusing = subscribing(allowed=False).sign_in(ann)
    button(refusing).click()
    expect(refusing.page.locator(".toast")).to_contain_text("the browser does not allow them")
    expect(button(refusing)).to_have_attribute("aria-pressed", "false")

    without = subscribing()
    without.page.add_init_script("delete globalThis.PushManager")
    without.sign_in(ann)
    expect(without.page.locator("#conversations, #no-conversations").first).to_be_attached()
    expect(button(without)).to_be_hidden()


def test_a_server_without_web_push_has_no_button(plain_server: ServerProcess, new_tab: NewTab) -> None:
    tab = new_tab()
    tab.server = plain_server
    with tab.page.expect_response(f"{plain_server.url}/v1/push"):
        tab.sign_in("ann")
    expect(button(tab)).to_be_hidden()


def test_the_page_below_a_prefix_has_a_worker_of_its_own(
    server: ServerProcess, subscribing: Subscribing, ann: str
) -> None:
    tab = subscribing().sign_in(ann, path="/below/a/prefix/")
    worker = turn_on(tab)
    assert worker.evaluate("registration.scope") == f"{server.url}/below/a/prefix/"
    worker.evaluate("push => show(push)", push_about("c-1"))
    expect_shown(tab.page, ["ben", "hello", "c-1"])


def test_the_button_looks_its_part(
    server: ServerProcess, subscribing: Subscribing, shots: Path, ann: str, ben: str
) -> None:
    server.conversation(ann, ben)
    tab = subscribing().sign_in(ann)
    for scheme, width in (("light", 1200), ("dark", 390)):
        tab.page.set_viewport_size({"width": width, "height": 700})
        tab.page.emulate_media(color_scheme=scheme)
        tab.page.screenshot(path=shots / f"notify-off-{scheme}.png")
        turn_on(tab)
        tab.page.screenshot(path=shots / f"notify-on-{scheme}.png")
        button(tab).click()
        expect(button(tab)).to_have_attribute("aria-pressed", "false")
