"""The app on a real client and a real server, driven by keys."""

from __future__ import annotations

from chatkit.client.events import CaughtUp
from chatkit.server.server import ChatServer

from .conftest import Showing
from .screen import client_of


async def test_a_conversation_is_listed_opened_and_written_to(server: ChatServer, showing: Showing) -> None:
    await server.create_conversation("SINGLE", "ann", ["bob"], conversation_id="c-ann-bob")
    async with client_of(server, "bob") as bob, showing("ann") as screen:
        await bob.send("c-ann-bob", "Tea at four?")
        await screen.until(lambda: "connected" in screen.state and "bob: Tea at four?" in screen.listed)
        assert "c-ann-bob  1" in screen.listed

        await screen.open("c-ann-bob")
        await screen.shows("  Tea at four?")
        await screen.until(lambda: "c-ann-bob  1" not in screen.listed)

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
    title = "\x1b]0;owned\x07[red]Tea[/red]"
    await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-tea", title=title)
    async with client_of(server, "bob") as bob, showing("ann") as screen:
        await bob.send("c-tea", "\x1b[2J\x1b[31mred\u202egnp.exe\r\n[bold]two[/bold]\x9b1A")
        await screen.open("Tea")
        await screen.shows("[bold]two[/bold]\\x9b1A")
        assert "\\x1b[2J\\x1b[31mred\\u202egnp.exe" in screen.messages
        assert "\\x1b]0;owned\\x07[red]Tea[/red]" in screen.listed
        for shown in (screen.messages, screen.listed):
            assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(shown)
