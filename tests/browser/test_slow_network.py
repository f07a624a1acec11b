"""The page on a slow line, and a page that is reloaded in the middle of a send."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import WebSocketRoute, expect

from .conftest import ServerProcess, Tab
from .test_files import choose

NewTab = Callable[..., Tab]
SLOW = {"offline": False, "latency": 100, "downloadThroughput": 40_000, "uploadThroughput": 40_000}
HALFWAY = """() => {
  const bar = document.querySelector("progress");
  return bar.value > 0 && bar.value < bar.max;
}"""


class LostAnswers:
    """Lets everything of one tab through but the answers to what it sends."""

    def __init__(self, tab: Tab) -> None:
        self.is_over = False
        self.lost = 0
        tab.page.route_web_socket("**/v1/ws", self._socket)

    def _socket(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        if not self.is_over:
            server.on_message(lambda frame: self._frame(socket, frame))

    def _frame(self, socket: WebSocketRoute, frame: str | bytes) -> None:
        if "MSG_ACK" in str(frame):
            self.lost += 1
        else:
            socket.send(frame)


def test_a_reload_in_the_middle_of_a_send_sends_it_once(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ben = new_tab().sign_in("ben", conversation=chat)
    ann = new_tab()
    answers = LostAnswers(ann)
    ann.sign_in("ann", conversation=chat)
    ann.write("one")
    expect(ben.message("one")).to_be_visible()  # it is stored, and its author does not know
    ann.expect_state("one", "SENDING")
    ann.page.reload()
    ann.expect_online()
    expect(ann.message("one")).to_have_count(1)
    answers.is_over = True
    ann.write("two")
    ann.page.reload()
    ann.expect_state("one", "READ")
    ann.expect_state("two", "READ")
    assert answers.lost >= 1
    assert ben.page.locator("#log .body").all_text_contents() == ["one", "two"]


def test_on_a_slow_line_the_bar_moves_and_leaving_asks_first(server: ServerProcess, new_tab: NewTab) -> None:
    chat = server.conversation("ann", "ben")
    ann = new_tab().sign_in("ann", conversation=chat)
    devtools = ann.page.context.new_cdp_session(ann.page)
    devtools.send("Network.enable")
    devtools.send("Network.emulateNetworkConditions", SLOW)
    choose(ann, "long.bin", "", bytes(range(256)) * 400)
    ann.page.keyboard.press("Enter")
    ann.page.wait_for_function(HALFWAY)
    ann.write("said beside it")
    ann.expect_state("said beside it", "SENT")
    asked: list[str] = []
    ann.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    ann.page.close(run_before_unload=True)
    expect(ann.page.locator("#log .file")).to_contain_text("long.bin")
    assert asked == ["beforeunload"]
