"""The page as an app: it can be installed, stays signed in, and starts offline with what the browser keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from .app import PREFIX
from .conftest import ServerProcess, Tab

NewTab = Callable[..., Tab]
KEEP_OTHER = """async () => {
  const hash = FILES["static/chat.css"];
  FILES["static/chat.css"] = "sha256-" + "A".repeat(43) + "=";
  const said = await keepAll().then(() => "kept", (error) => error.message);
  FILES["static/chat.css"] = hash;
  return said;
}"""
RUNNING = "navigator.serviceWorker.ready.then(() => caches.keys())"


def test_page_starts_offline_with_what_the_browser_keeps_and_sends_what_was_written(
    server: ServerProcess, new_tab: NewTab, shots: Path
) -> None:
    chat = server.conversation("ann", "ben")
    server.say("ben", chat, "before", "k-1")
    first = new_tab(service_workers="allow").sign_in("ann", conversation=chat)
    expect(first.message("before")).to_be_visible()
    assert len(first.page.evaluate(RUNNING)) == 1
    first.page.get_by_role("button", name="Settings").click()
    first.page.get_by_role("menuitemcheckbox", name="Stay signed in here").click()
    first.expect_lost_connections()
    context = first.page.context
    first.page.close()
    server.kill()

    app = new_tab(context)
    app.expect_lost_connections()
    app.page.goto(f"{server.url}/")
    expect(app.page.locator("#banner")).to_contain_text("Cannot reach the server.")
    app.choose(chat)
    expect(app.message("before")).to_be_visible()
    app.write("on the train")
    app.expect_state("on the train", "SENDING")
    app.page.screenshot(path=shots / "installed-offline.png")
    app.page.reload()
    app.expect_state("on the train", "SENDING")
    app.page.close()

    server.start()
    again = new_tab(context)
    again.page.goto(f"{server.url}/")
    again.expect_online()
    again.choose(chat)
    again.expect_state("on the train", "SENT")
    expect(again.page.locator("#log .body")).to_have_text(["before", "on the train"])
    again.sign_out()
    expect(again.page.get_by_label("Token")).to_be_visible()
    assert "token" not in again.page.evaluate("JSON.stringify([localStorage, sessionStorage])")


def test_browser_may_install_it_and_the_menu_offers_it(server: ServerProcess, new_tab: NewTab) -> None:
    tab = new_tab(service_workers="allow").sign_in("ann", path=f"{PREFIX}/")
    tab.page.evaluate(RUNNING)
    devtools = tab.page.context.new_cdp_session(tab.page)
    found = devtools.send("Page.getAppManifest")
    assert (found["url"], found["errors"]) == (f"{server.url}{PREFIX}/static/chat.webmanifest", [])
    errors = devtools.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert [one["errorId"] for one in errors if one["errorId"] != "in-incognito"] == []

    menu = tab.page.get_by_role("menu")
    tab.page.get_by_role("button", name="Settings").click()
    expect(menu.get_by_text("Install as an app")).to_have_count(0)
    tab.page.keyboard.press("Escape")
    tab.page.evaluate(
        """() => {
          const offer = new Event("beforeinstallprompt", { cancelable: true });
          offer.prompt = () => { document.title = `asked: ${offer.defaultPrevented}`; };
          dispatchEvent(offer);
        }"""
    )
    tab.page.get_by_role("button", name="Settings").click()
    menu.get_by_text("Install as an app").click()
    expect(tab.page).to_have_title("asked: true")
    tab.page.get_by_role("button", name="Settings").click()
    expect(menu.get_by_text("Install as an app")).to_have_count(0)
    stays = menu.get_by_role("menuitemcheckbox", name="Stay signed in here")
    expect(stays).to_have_attribute("aria-checked", "false")
    tab.page.keyboard.press("Escape")
    tab.page.evaluate("dispatchEvent(new Event('appinstalled'))")
    tab.page.get_by_role("button", name="Settings").click()
    expect(stays).to_have_attribute("aria-checked", "true")


def test_a_later_page_is_told_of_and_comes_with_the_next_load_all_of_one_version(
    server: ServerProcess, new_tab: NewTab
) -> None:
    tab = new_tab(service_workers="allow").sign_in("ann")
    (kept,) = tab.page.evaluate(RUNNING)
    tab.page.reload()
    tab.expect_online()
    assert tab.page.evaluate("navigator.serviceWorker.controller !== null")
    (worker,) = tab.page.context.service_workers
    refused = worker.evaluate(KEEP_OTHER)
    assert "chat.css" in refused or "fetch" in refused, refused
    tab.console.clear()  # the browser says what it found instead

    tab.expect_lost_connections()
    server.kill()
    server.start("--edition", "/* later */")
    tab.page.reload()
    expect(tab.page.locator(".toast")).to_contain_text("A newer version of this page is here")
    tab.page.wait_for_function("async (kept) => !(await caches.has(kept))", arg=kept)
    tab.page.reload()
    tab.expect_online()
    assert "/* later */" in tab.page.evaluate("fetch('static/chat.css').then((answer) => answer.text())")
    assert len(tab.page.evaluate(RUNNING)) == 1
