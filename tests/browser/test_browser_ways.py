"""What browsers and machines do to a page: site data blocked, timers that stand still, sleep, the network's events."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import WebSocketRoute, expect

from .conftest import ServerProcess, Tab, token

NewTab = Callable[..., Tab]
STOPPED = "window.setTimeout = window.setInterval = () => 0"
BLOCKED = """for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, { get() { throw new DOMException("blocked", "SecurityError"); } });
}"""


class Line:
    """The page's WebSocket, which can be made to swallow what the server says."""

    def __init__(self, tab: Tab) -> None:
        self.swallows = False
        self.opened = 0
        tab.page.route_web_socket("**/v1/ws", self._open)

    def _open(self, page: WebSocketRoute) -> None:
        self.opened += 1
        self.swallows = False
        server = page.connect_to_server()
        server.on_message(lambda frame: None if self.swallows else page.send(frame))


def test_page_works_in_memory_where_site_data_is_blocked(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    tab = new_tab()
    tab.page.add_init_script(BLOCKED)
    tab.sign_in("ann", device_id="laptop", conversation=chat)
    assert "token" not in tab.page.url
    expect(tab.page.locator("#toasts")).to_contain_text("keeps nothing")
    tab.write("from memory")
    tab.expect_state("from memory", "SENT")

    follow = "fragment => { location.hash = fragment; }"
    other = server.conversation("ann", "cleo")
    tab.page.evaluate(follow, f"#token={token('ann', 'laptop')}&conversation={other}")
    expect(tab.page.locator("#title")).to_have_text("cleo")
    tab.page.evaluate(follow, f"#token={token('ben')}&conversation={chat}")
    expect(tab.page.locator("#me-name")).to_have_text("ben")
    expect(tab.message("from memory")).to_be_visible()
    assert "token" not in tab.page.url
    tab.expect_lost_connections()
    tab.page.reload()
    expect(tab.page.get_by_label("Token")).to_be_visible()


def test_page_comes_back_while_its_own_timers_stand_still_as_in_a_hidden_tab(
    server: ServerProcess, new_tab: NewTab
) -> None:
    tab = new_tab()
    tab.page.add_init_script(STOPPED)
    tab.sign_in("ann")
    tab.expect_lost_connections()
    server.kill()
    expect(tab.page.locator("#app")).not_to_have_attribute("data-connection", "online")
    server.start()
    tab.expect_online()


def test_after_a_sleep_the_page_says_online_only_once_it_has_heard(
    server: ServerProcess, new_tab: NewTab
) -> None:
    chat = server.conversation("ben", "ann")
    tab = new_tab()
    tab.expect_lost_connections()  # names may be on their way when the page ends
    tab.page.clock.install()
    line = Line(tab)
    tab.sign_in("ann")
    expect(tab.page.locator("#conversations strong")).to_have_text("ben")
    line.swallows = True
    tab.page.clock.fast_forward("01:00:00")
    expect(tab.page.locator("#app")).to_have_attribute("data-connection", "checking")
    expect(tab.page.locator("#me-state")).to_have_text("Offline")
    line.swallows = False
    server.say("ben", chat, "good morning", "k-1")
    tab.expect_online()
    expect(tab.page.locator("#me-state")).to_have_text("Online")
    assert line.opened == 1


def test_network_that_comes_back_is_looked_at_at_once(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ben", "ann")
    tab = new_tab()
    tab.expect_lost_connections()  # names may be on their way when the page ends
    line = Line(tab)
    tab.sign_in("ann")
    expect(tab.page.locator("#conversations strong")).to_have_text("ben")
    line.swallows = True
    tab.page.evaluate("dispatchEvent(new Event('offline'))")
    expect(tab.page.locator("#app")).to_have_attribute("data-connection", "checking")
    line.swallows = False
    server.say("ben", chat, "hello", "k-1")
    tab.expect_online()
    assert line.opened == 1
