"""The app as its user has it, and what it runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from chatkit import ChatClient, ClientConfig
from chatkit.errors import ChatkitError
from chatkit.gateway.memory import MemoryConnector
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.server import ChatServer
from chatkit.storage.memory import MemoryStore
from chatkit.terminal.app import ChatApp
from chatkit.terminal.compose import Compose
from chatkit.terminal.message_list import MessageList
from chatkit.testing.recording import by_name
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import VirtualClock

ROUNDS_MAX = 400


class Screen:
    """The app as its user has it: keys in, words out."""

    def __init__(self, app: ChatApp, pilot: Pilot[ChatkitError | None]) -> None:
        self.app = app
        self.press = pilot.press
        self._pilot = pilot

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the app go on until something holds."""
        for _ in range(ROUNDS_MAX):
            if holds():
                return
            await self._pilot.pause()
        raise AssertionError(
            f"never shown; there is:\n{self.state}\n{self.listed}\n{self.messages}\n{self.note}"
        )

    async def shows(self, words: str) -> None:
        """Wait for words in the open conversation."""
        await self.until(lambda: words in self.messages)

    async def open(self, words: str) -> None:
        """Open the conversation with these words in its row, as the first or by going down."""
        pane = self.app.query_one("#conversations", OptionList)
        await self.until(lambda: words in self.listed)
        pane.focus()
        while words not in str(pane.get_option_at_index(pane.highlighted or 0).prompt):
            await self.press("down")
        await self.press("enter")
        await self.until(lambda: self.app.query_one("#compose").has_focus)

    async def write(self, text: str) -> None:
        """Type a text and send it."""
        await self.press(*text, "enter")

    @property
    def written(self) -> str:
        """What is not sent yet."""
        return self.app.query_one(Compose).text

    @property
    def title(self) -> str:
        """The title of the open conversation."""
        return Content.from_markup(self.app.query_one(MessageList).border_title or "").plain

    @property
    def state(self) -> str:
        """The line at the top."""
        return str(self.app.query_one("#state", Static).content)

    @property
    def note(self) -> str:
        """What the app says of what did not work."""
        return str(self.app.query_one("#note", Static).content)

    @property
    def listed(self) -> str:
        """The list of conversations."""
        return "\n".join(str(it.prompt) for it in self.app.query_one("#conversations", OptionList).options)

    @property
    def messages(self) -> str:
        """The open conversation."""
        return "\n".join(str(it.prompt) for it in self.app.query_one(MessageList).options)


@asynccontextmanager
async def running_server() -> AsyncIterator[ChatServer]:
    """A server in memory, in virtual time."""
    rng = Rng(1)
    store = MemoryStore(ids=rng.ports("store").ids)
    config = ServerConfig(limits=Limits.unlimited())
    ports = rng.ports("server", VirtualClock())
    async with ChatServer(store=store, authenticate=by_name, config=config, ports=ports) as server:
        yield server


def client_of(
    server: ChatServer, user_id: str, device_id: str = "terminal", store: str | None = None
) -> ChatClient:
    """A client that reaches the server in memory; what it asks over HTTP reaches nobody."""
    return ChatClient(
        "ws://127.0.0.1:1",
        token=user_id,
        device_id=device_id,
        store=store,
        connector=MemoryConnector(server),
        config=ClientConfig(request_timeout_s=5, close_timeout_s=0),
    )
