"""The app on a real client and a real server, driven by keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Static

from chatkit.cli._chat_files import store_path
from chatkit.client.events import CaughtUp
from chatkit.errors import ClosedError, ConfigurationError
from chatkit.server.server import ChatServer
from chatkit.storage.memory import MemoryStore
from chatkit.terminal.app import ChatApp
from chatkit.terminal.compose import Compose
from chatkit.terminal.message_list import MessageList
from chatkit.testing.recording import by_name
from chatkit.testing.rng import Rng
from chatkit.types import MessageRef

from .conftest import Showing
from .screen import Screen, client_of


async def test_a_conversation_is_listed_opened_and_written_to(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("SINGLE", "ann", ["bob"], conversation_id="c-ann-bob")
    async with client_of(server, "bob") as bob, showing("ann") as screen:
        await bob.send("c-ann-bob", "Tea at four?")
        await screen.until(lambda: "connected" in screen.state and "bob: Tea at four?" in screen.listed)
        assert "1  c-ann-bob" in screen.listed

        await screen.open("c-ann-bob")
        await screen.shows("  Tea at four?")
        await screen.until(lambda: "1  c-ann-bob" not in screen.listed)

        await screen.write("yes, please")
        await screen.shows("✓✓")
        entries = await bob.history("c-ann-bob")
        assert entries[-1].text == "yes, please"
        await bob.mark_read("c-ann-bob", entries[-1].seq)
        await screen.shows("✓✓ read")
        assert "you: yes, please" in screen.listed


async def test_edits_reactions_replies_and_recalls_are_shown(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-tea", title="Tea")
    async with client_of(server, "bob") as bob, showing("ann") as screen:
        first = await bob.send("c-tea", "Tea at foru?")
        await screen.open("Tea")
        await screen.shows("Tea at foru?")

        await bob.edit(first, "Tea at four?")
        await bob.react(first, "👍")
        second = await bob.send("c-tea", "or coffee", reply_to=first)
        await bob.send("c-tea", "just tea", reply_to=second)
        await screen.shows("just tea")
        assert "edited\n  Tea at four?\n  👍 1" in screen.messages
        assert "> bob: Tea at four?\n  or coffee" in screen.messages
        assert "foru" not in screen.messages

        await bob.recall(second.message_id)
        await screen.shows("> bob: recalled")
        assert "coffee" not in screen.messages
        assert "EDIT" not in screen.messages and "REACTION" not in screen.messages


async def test_older_messages_come_when_one_scrolls_up(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-tea", title="Tea")
    async with client_of(server, "bob") as bob:
        for number in range(120):
            await bob.send("c-tea", f"word {number}.")
    async with client_of(server, "ann", "phone") as phone:  # the terminal begins where this one has got to
        async for event in phone.events():
            if isinstance(event, CaughtUp):
                break
    async with showing("ann") as screen:
        await screen.open("Tea")
        await screen.shows("word 119.")
        assert "word 0." not in screen.messages
        for _ in range(40):
            await screen.press("pageup")
            if "word 0." in screen.messages:
                break
        await screen.shows("you began this conversation with bob")
        shown = screen.messages
        assert [shown.count(f"word {number}.") for number in range(120)] == [1] * 120


async def test_what_others_write_does_nothing_to_the_terminal(server: ChatServer, showing: Showing) -> None:
    title = "\x1b]0;owned\x07[red]Tea[/red] [@click=app.quit]end[/]"
    await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-tea", title=title)
    async with client_of(server, "bob") as bob, showing("ann") as screen:
        await bob.send("c-tea", "\x1b[2J\x1b[31mred\u202egnp.exe\r\n[bold]two[/bold]\x9b1A")
        await screen.open("Tea")
        await screen.shows("[bold]two[/bold]\\x9b1A")
        assert "\\x1b[2J\\x1b[31mred\\u202egnp.exe" in screen.messages
        assert "\\x1b]0;owned\\x07[red]Tea[/red]" in screen.listed
        await screen.until(lambda: "[@click=app.quit]end[/]" in screen.title)
        for shown in (screen.messages, screen.listed, screen.title):
            assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(shown)


async def test_what_is_refused_goes_back_to_where_it_was_written(
    server: ChatServer, showing: Showing
) -> None:
    await server.create_conversation("GROUP", "bob", ["ann"], conversation_id="c-tea", title="Tea")
    await server.create_conversation("GROUP", "bob", ["ann"], conversation_id="c-cake", title="Cake")
    async with showing("ann") as screen:
        await screen.open("Tea")
        await screen.press(*"too")
        screen.app.query_one(Compose).insert("\x00")
        await screen.press("enter")
        await screen.until(lambda: "not sent" in screen.note)
        assert screen.written == "too\x00"
        assert "too" not in screen.messages

        await screen.press("backspace", *" late")
        await screen.open("Cake")
        assert screen.written == ""
        await screen.write("cake")
        await screen.shows("  cake")
        await screen.open("Tea")
        assert screen.written == "too late"
        assert screen.note == ""


async def test_several_lines_are_one_message(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("GROUP", "ann", [], conversation_id="c-tea", title="Tea")
    async with showing("ann") as screen:
        await screen.open("Tea")
        await screen.press("enter", " ", "enter")
        assert screen.written == " "
        await screen.press(*"one", "ctrl+j", *"two", "enter")
        await screen.shows("   one\n  two")
        assert screen.written == ""


async def test_without_a_server_it_shows_what_is_on_disk_and_sends_later(
    server: ChatServer, showing: Showing, tmp_path: Path
) -> None:
    store = str(tmp_path / "chat.db")
    await server.create_conversation("SINGLE", "ann", ["bob"], conversation_id="c-1")
    async with client_of(server, "bob") as bob, showing("ann", store=store) as screen:
        await bob.send("c-1", "see you")
        await screen.until(lambda: "bob: see you" in screen.listed)

    unreachable = ChatServer(store=MemoryStore(ids=Rng(2).ports("store").ids), authenticate=by_name)
    async with client_of(unreachable, "ann", store=store) as client:
        async with ChatApp(client, "ws://chat").run_test(size=(100, 30)) as pilot:
            screen = Screen(pilot.app, pilot)  # type: ignore[arg-type]
            await screen.until(lambda: "no connection, next try in" in screen.state)
            await screen.open("c-1")
            await screen.shows("see you")
            await screen.write("on my way")
            await screen.shows("waits to be sent\n  on my way")
        assert client.pending_count == 1

    async with showing("ann", store=store) as screen:
        await screen.open("c-1")
        await screen.shows("✓\n  on my way")


async def test_a_client_that_was_ended_says_why(server: ChatServer) -> None:
    client = client_of(server, "ann")
    await client.__aenter__()
    async with ChatApp(client, "ws://chat").run_test() as pilot:
        screen = Screen(pilot.app, pilot)  # type: ignore[arg-type]
        await screen.until(lambda: "connected" in screen.state)
        async with client_of(server, "ann") as same_device:
            await same_device.wait_connected()
            await screen.until(lambda: "ended: " in screen.state)
    with pytest.raises(ClosedError):  # which is what the command ends with
        await client.__aexit__(None, None, None)


async def test_a_second_user_whose_token_is_no_jwt_is_told_to_name_a_store(
    server: ChatServer, showing: Showing, tmp_path: Path
) -> None:
    of_ann, of_bob = (str(store_path(tmp_path, "ws://chat", "terminal", token)) for token in ("ann", "bob"))
    assert of_ann == of_bob  # the server alone knows who they are
    async with showing("ann", store=of_ann) as screen:
        await screen.until(lambda: "connected" in screen.state)
    with pytest.raises(ConfigurationError, match=r"belongs to the user ann .*--store of chatkit chat"):
        async with showing("bob", store=of_bob) as screen:
            await screen.until(lambda: "ended: " in screen.state)


async def test_what_is_not_in_view_is_not_read(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-tea", title="Tea")
    async with client_of(server, "bob") as bob, showing("ann") as screen:
        for number in range(40):
            await bob.send("c-tea", f"word {number}.")
        await screen.open("Tea")
        await screen.shows("word 39.")
        await screen.until(lambda: not screen.listed.split("Tea")[0])
        await screen.press("pageup", "pageup")
        await bob.send("c-tea", "news")
        await screen.shows("news")
        await screen.until(lambda: "1  Tea" in screen.listed)
        await screen.press("pagedown", "pagedown", "pagedown")
        await screen.until(lambda: "1  Tea" not in screen.listed)


async def test_what_takes_room_below_leaves_the_newest_in_view(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-tea", title="Tea")
    async with client_of(server, "bob") as bob, showing("ann", size=(32, 30)) as screen:
        for number in range(40):
            await bob.send("c-tea", f"word {number}.")
        await screen.open("Tea")
        await screen.shows("word 39.")
        pane, compose = screen.app.query_one(MessageList), screen.app.query_one(Compose)
        assert compose.content_size.width > 10

        await screen.press("1", "ctrl+j", "2", "ctrl+j", "3", "ctrl+j", "4")
        await screen.until(lambda: compose.content_size.height == 4 and pane.at_end)
        screen.app.query_one("#note", Static).display = True
        await bob.send("c-tea", "news")
        await screen.shows("news")
        await screen.until(lambda: pane.at_end and not screen.listed.split("Tea")[0])
        await screen.press("enter")
        await screen.shows("  4")
        await screen.until(lambda: pane.at_end)


async def test_r_answers_the_chosen_message(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("GROUP", "bob", ["ann"], conversation_id="c-tea", title="Tea")
    async with client_of(server, "bob") as bob, showing("ann") as screen:
        first = await bob.send("c-tea", "Tea at four?")
        await screen.open("Tea")
        await screen.shows("Tea at four?")
        pane, compose = screen.app.query_one(MessageList), screen.app.query_one(Compose)
        pane.focus()
        await screen.press("home", "r")
        assert pane.has_focus  # that members came is nothing to be answered

        await screen.press("end", "r")
        await screen.until(lambda: compose.has_focus)
        assert compose.border_title == "answers Tea at four?"
        await screen.write("yes")
        await screen.shows("> bob: Tea at four?\n  yes")
        await screen.write("bye")
        await screen.shows("  bye")
        answer, bye = (await bob.history("c-tea"))[-2:]
        assert answer.reply_to == MessageRef(first.message_id, first.seq)
        assert bye.reply_to is None
