"""The picture of docs/terminal.md, made on a real server: `python -m tests.terminal.screenshot`."""

from __future__ import annotations

import re
from pathlib import Path

from chatkit import ChatClient
from chatkit.server.server import ChatServer
from chatkit.terminal.app import ChatApp
from chatkit.testing.virtual_time import run_virtual

from .screen import Screen, client_of, running_server

PICTURE = Path(__file__).parents[2] / "docs/images/terminal.svg"

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Which would be fetched from elsewhere."""


async def picture() -> str:
    """What ann sees, as SVG."""
    async with running_server() as server, client_of(server, "bob") as bob, client_of(server, "eve") as eve:
        await _talk(server, bob, eve)
        async with client_of(server, "ann") as ann:
            app = ChatApp(ann, "wss://chat.example.org")
            async with app.run_test(size=(92, 26)) as pilot:
                await _look(Screen(app, pilot), bob)
                return _FONTS.sub("", app.export_screenshot(title="chatkit chat"))


async def _look(screen: Screen, bob: ChatClient) -> None:
    await screen.open("Saturday")
    await screen.write("I bring the bread")
    await screen.shows("✓✓")
    await bob.send("ann-bob", "See you there")
    await screen.until(lambda: "bob: See you" in screen.listed)
    await screen.press(*"and some che")


async def _talk(server: ChatServer, bob: ChatClient, eve: ChatClient) -> None:
    await server.create_conversation("GROUP", "bob", ["ann", "eve"], conversation_id="c-team", title="Team")
    await server.create_conversation(
        "GROUP", "eve", ["ann", "bob"], conversation_id="c-sat", title="Saturday"
    )
    await server.create_conversation("SINGLE", "bob", ["ann"], conversation_id="ann-bob")
    await bob.send("c-team", "The report is out")
    await bob.send("c-team", "Thank you all")
    plan = await eve.send("c-sat", "Picnic by the lake at noon?")
    await eve.edit(plan, "Picnic by the lake at eleven?")
    await bob.react(plan, "👍")
    answer = await bob.send("c-sat", "Yes! Who brings what?", reply_to=plan)
    wrong = await bob.send("c-sat", "I bring nothing")
    await bob.recall(wrong.message_id)
    await eve.send("c-sat", "Salad and lemonade from me", reply_to=answer)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(run_virtual(picture), encoding="utf-8")
    print(PICTURE)
