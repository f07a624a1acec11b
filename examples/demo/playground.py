"""`chatkit demo --serve`: a server in this process with the web page, two users and a bot, until it is told to stop.

The conversations it starts with are made over HTTP and the bot is a client like any other; both can be repeated on a
file from an earlier run. Called by `chatkit demo --serve`.
"""

from __future__ import annotations

import click
import msgspec

from chatkit.assemble import open_store
from chatkit.cli.serve import run
from chatkit.cli.web import listen
from chatkit.client.api import ChatApi
from chatkit.client.client import ChatClient
from chatkit.client.events import MessageReceived
from chatkit.errors import (
    ChatkitError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    SendOutcomeUnknownError,
)
from chatkit.gateway.webpage import web_page_routes
from chatkit.ports import SystemIds
from chatkit.server.auth import jwt_authenticator, sign_token
from chatkit.server.server import ChatServer
from chatkit.types import Message

USERS = ("lina", "omar")
BOT = "echo-bot"
_TOKEN_TTL_S = 7 * 86_400.0
_PAIR, _GROUP = "lina-and-omar", "weekend"


class Links(msgspec.Struct, frozen=True):
    """Where each user opens the page; the token is behind the `#`, which browsers keep to themselves."""

    lina: str
    omar: str


class Playground:
    """The parts beside the server.

    Args:
        as_json: Print the links as a JSON object.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._secret = SystemIds().token_bytes(32).hex()

    def serve(self, storage: str, port: int) -> None:
        """Serve until SIGTERM or Ctrl-C. Returns after a clean end.

        Raises:
            ConfigurationError: The store cannot be opened or holds other conversations under the demo's ids, or the
                port is taken. May come inside an exception group.
        """
        server = ChatServer(store=open_store(storage), authenticate=jwt_authenticator(self._secret))
        run(server, listen("127.0.0.1", port), self._live, extra_routes=web_page_routes())

    async def _live(self, http_url: str) -> None:
        """Seed the conversations, print the links, then answer as the bot until cancelled."""
        try:
            for user_id in USERS:
                await self._seed(http_url, user_id)
        except (ConflictError, NotFoundError):  # an id is taken, or the two users talk under another one
            raise ConfigurationError(
                "this storage holds other conversations or messages under the demo's ids; name another --storage"
            ) from None
        self._announce(Links(*(self._link(http_url, user_id) for user_id in USERS)))
        await self._echo(http_url)

    async def _seed(self, http_url: str, user_id: str) -> None:
        async with ChatApi(http_url, token=self._token(user_id)) as api:
            await api.create_conversation("SINGLE", [user_id, BOT], conversation_id=f"{user_id}-and-echo")
            await api.create_conversation("SINGLE", list(USERS), conversation_id=_PAIR)
            if user_id == "lina":
                await api.create_conversation("GROUP", [*USERS, BOT], conversation_id=_GROUP, title="Weekend")
                await api.send(_PAIR, "到了吗?", client_msg_id="seed-1")
                await api.send(_GROUP, "Who comes along on Saturday?", client_msg_id="seed-2")
            else:
                await api.send(_PAIR, "Nearly. Save me a seat!", client_msg_id="seed-3")

    def _announce(self, links: Links) -> None:
        if self._as_json:
            click.echo(msgspec.json.encode(links))
            return
        click.echo("chatkit is up. Open these two links in two tabs and let Lina and Omar chat:")
        click.echo(f"  Lina  {links.lina}\n  Omar  {links.omar}")
        click.echo(f"{BOT} answers in its conversations. Ctrl-C ends it.")

    def _link(self, http_url: str, user_id: str) -> str:
        return f"{http_url}/#token={self._token(user_id)}&conversation={_PAIR}"

    async def _echo(self, http_url: str) -> None:
        ws_url = http_url.replace("http", "ws", 1)
        async with ChatClient(ws_url, token=self._bot_token, device_id="bot") as chat:
            async for event in chat.events():
                match event:
                    case MessageReceived(message=message) if _is_for_bot(message):
                        await answer(chat, message)
                    case _:
                        pass

    async def _bot_token(self) -> str:
        return self._token(BOT)

    def _token(self, user_id: str) -> str:
        return sign_token(self._secret, user_id=user_id, ttl_s=_TOKEN_TTL_S)


def _is_for_bot(message: Message) -> bool:
    """Everything people write to it; in the group only what names it."""
    if message.sender_id == BOT or message.type != "TEXT":
        return False
    return message.conversation_id != _GROUP or "echo" in message.text.lower()


async def answer(chat: ChatClient, message: Message) -> None:
    """Mark a message read and answer it once; what fails is told on stderr."""
    key = f"echo-{message.message_id}"  # made from the message: answering it twice is one answer
    try:
        await chat.mark_read(message.conversation_id, message.seq)
        await chat.send(message.conversation_id, f"{message.text}, you said", client_msg_id=key)
    except SendOutcomeUnknownError:  # still queued: the client sends it again
        click.echo(f"{BOT}'s answer to {message.message_id} waits for the server", err=True)
    except ChatkitError as error:
        click.echo(f"{BOT} could not answer {message.message_id}: {error}", err=True)
