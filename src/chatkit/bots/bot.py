"""`Bot`: handlers by event and by command, and how they are run on a client."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar, get_args, overload

from .._arguments import check_kind, check_number
from ..client.client import ChatClient
from ..client.deliveries import CONCURRENCY_MAX
from ..client.environment import device_options
from ..client.events import (
    CaughtUp,
    ChatEvent,
    Connected,
    Connecting,
    ConversationChanged,
    ConversationListChanged,
    Disconnected,
    EpochChanged,
    MessageEdited,
    MessageHeld,
    MessageRecalled,
    MessageReceived,
    MessageSent,
    PresenceChanged,
    ReactionChanged,
    ReceiptChanged,
    ReceiptCounts,
    Reconnecting,
    SendFailed,
    StreamGrew,
    Typing,
)
from ..errors import ConfigurationError
from ._process import run_until_signalled
from ._session import BotSession
from .commands import CommandHandler, Commands, answer_help
from .contexts import EventContext, MessageContext
from .retries import Failure, RetryPolicy, log_failure

GRACE_S = 10.0
"""So long handlers may go on once the bot is stopped."""

PREFIX_MAX = 8
"""Characters of what commands begin with."""

OtherEvent = TypeVar(
    "OtherEvent",
    CaughtUp,
    Connected,
    Connecting,
    ConversationChanged,
    ConversationListChanged,
    Disconnected,
    EpochChanged,
    MessageEdited,
    MessageHeld,
    MessageRecalled,
    MessageSent,
    PresenceChanged,
    ReactionChanged,
    ReceiptChanged,
    ReceiptCounts,
    Reconnecting,
    SendFailed,
    StreamGrew,
    Typing,
)
MessageHandler = TypeVar("MessageHandler", bound=Callable[[MessageContext], Awaitable[object]])
AnyCommandHandler = TypeVar("AnyCommandHandler", bound=CommandHandler)
EventHandler = Callable[[EventContext[OtherEvent]], Awaitable[object]]
CallNext = Callable[[EventContext[Any]], Awaitable[None]]
Middleware = TypeVar("Middleware", bound=Callable[[EventContext[Any], CallNext], Awaitable[object]])
FailureHandler = TypeVar("FailureHandler", bound=Callable[[Failure], Awaitable[object]])


class Bot:
    """Handlers of what happens in the conversations of one user, and of commands.

    It holds no connection: `run`, `serve` and `serving` are given a client, or make one as the environment says. Of
    each conversation one event is handled at a time, in order; of different conversations up to `concurrency` at once.
    An event is taken when its handlers have returned; one over which the process died comes again at the next start on
    the same local store. All handlers are `async def`.

    Args:
        prefix: What commands begin with, 1 to 8 characters.
        concurrency: Conversations that are handled at once, 1 to 1,000.
        retries: What follows when a handler raises.
        grace_s: Seconds that running handlers have to end once the bot is stopped; then they are cancelled, and their
            events come again at the next start.

    Raises:
        ConfigurationError: An argument can never work.
    """

    def __init__(
        self,
        *,
        prefix: str = "/",
        concurrency: int = 20,
        retries: RetryPolicy | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        check_number("concurrency", concurrency, whole=True, least=1)
        if concurrency > CONCURRENCY_MAX:
            raise ConfigurationError(f"concurrency is at most {CONCURRENCY_MAX}")
        check_number("grace_s", grace_s, least=0)
        check_kind("retries", retries, RetryPolicy, optional=True)
        if not isinstance(prefix, str) or not 1 <= len(prefix) <= PREFIX_MAX or len(prefix.split()) != 1:
            raise ConfigurationError(
                f"prefix must be 1 to {PREFIX_MAX} characters without a space, not {prefix!r:.80}"
            )
        self.concurrency = concurrency
        self.retries = retries or RetryPolicy()
        self.grace_s = grace_s
        self._commands = Commands(prefix)
        self._middlewares: list[Callable[..., Awaitable[object]]] = []
        self._error_handler: Callable[[Failure], Awaitable[object]] = log_failure
        self._handlers: dict[type, list[tuple[Collection[str] | None, Callable[..., Awaitable[object]]]]] = {}
        self._sessions: list[BotSession] = []

    @overload
    def on(
        self, event: type[MessageReceived], *, types: Collection[str] | None = None
    ) -> Callable[[MessageHandler], MessageHandler]: ...

    @overload
    def on(
        self, event: type[OtherEvent]
    ) -> Callable[[EventHandler[OtherEvent]], EventHandler[OtherEvent]]: ...

    def on(self, event: type, *, types: Collection[str] | None = None) -> Callable[[Any], Any]:
        """Have a function called with each event of this kind; several are called in the order they were given in.

        `MessageReceived` brings what others wrote and what is no command of this bot. The bot's own messages never
        come; members that come and go (MEMBER), pins (PINNED), new titles (TITLE) and recalled messages only if `types`
        names them. A streamed message comes once, when it has ended, instead of its last `MessageEdited`: with all of
        its text, and as `is_cut_off` where its author did not finish it; who comes back with the rest brings it again.

        Args:
            event: A class such as `MessageReceived`, `MessageRecalled`, `ConversationChanged`.
            types: Of MessageReceived: only these types of payload, such as `["IMAGE"]` or `["MEMBER"]`. A streamed
                message is a STREAM, and also what it became in the end: mostly a TEXT.

        Raises:
            ConfigurationError: It is no event, or the function is not async.
        """
        if event not in get_args(ChatEvent):
            raise ConfigurationError(f"on takes a kind of event such as MessageReceived, not {event!r:.80}")
        if types is not None and (event is not MessageReceived or isinstance(types, str)):
            raise ConfigurationError('types is for MessageReceived, and a list such as ["IMAGE"]')
        chosen = None if types is None else frozenset(types)

        def add(handler: Any) -> Any:
            _check_async(handler)
            self._handlers.setdefault(event, []).append((chosen, handler))
            return handler

        return add

    def command(
        self, name: str | None = None, *, help: str | None = None
    ) -> Callable[[AnyCommandHandler], AnyCommandHandler]:
        """Have a function called with each message such as `/name 3 coffee`, its words as typed arguments.

        The first argument is the message. Each further one takes a word, or several in double quotes, as its
        annotation says: `int`, `float`, `str`, `bool`, a `Literal`, each with `| None`, or with a default that makes
        it optional. A keyword-only `str` takes the rest of the text. Wrong arguments are answered with what is wrong
        and the usage; `/help` lists all commands, `/help name` explains one.

        Args:
            name: What is written, without the prefix; upper or lower case. The function's name by default.
            help: What it does, for people; the function's docstring by default.

        Raises:
            ConfigurationError: The name is taken or none, or no text can be made into an argument.
        """
        if callable(name):
            raise ConfigurationError("write @bot.command() or @bot.command('name'), with parentheses")

        def add(handler: AnyCommandHandler) -> AnyCommandHandler:
            _check_async(handler)
            if not self._commands:
                self._commands.add("help", None, partial(answer_help, self._commands))
            self._commands.add(name, help, handler)
            return handler

        return add

    def middleware(self, function: Middleware) -> Middleware:
        """Have a function called around the handlers of each event: `await call_next(context)` goes on.

        One that does not go on keeps the event from all handlers, and takes it. The first that was given is outermost.

        Raises:
            ConfigurationError: It is not async.
        """
        _check_async(function)
        self._middlewares.append(function)
        return function

    def error(self, function: FailureHandler) -> FailureHandler:
        """Have a function called with each `Failure` of a handler or middleware, instead of writing it to the log.

        It decides nothing: whether the event is given again is said by `retries`. If it raises, that and the failure
        are logged.

        Raises:
            ConfigurationError: It is not async.
        """
        _check_async(function)
        self._error_handler = function
        return function

    def run(self, client: ChatClient | None = None) -> None:
        """Run the bot as this process, until SIGINT or SIGTERM.

        Then it takes nothing new, lets running handlers end within `grace_s`, sends what is queued, and returns; a
        second signal cancels the handlers. Outside the main thread no signals are looked for, and what would end the
        process is raised as it is.

        Args:
            client: Not entered yet. By default `ChatClient.from_env()`, with the device `bot` and the store `bot.db`
                where the environment names no others.

        Raises:
            ConfigurationError: An event loop runs already (use `await bot.serve()`).
            SystemExit: With 2 after a wrong set-up (a setting that is missing, a file that cannot be used), with 1
                when the client has stopped for good (banned, replaced, a login that is refused). One line on stderr
                says why, and the error is the `__cause__`.
        """
        run_until_signalled(partial(self.serve, client), self.stop)

    async def serve(self, client: ChatClient | None = None) -> None:
        """Run the bot inside an event loop, until `stop`, or for ever.

        Args:
            client: As for `run`.

        Raises:
            ConfigurationError: A setting is missing.
            ClosedError: The client has stopped for good.
        """
        session = self._session(client)
        self._sessions.append(session)
        try:
            await session.serve()
        finally:
            self._sessions.remove(session)

    @asynccontextmanager
    async def serving(self, client: ChatClient | None = None) -> AsyncIterator[ChatClient]:
        """Run the bot beside the body of `async with`; it is stopped, as by `stop`, at the end.

        Args:
            client: As for `run`.

        Returns:
            The client, entered.

        Raises:
            ConfigurationError: A setting is missing.
            ClosedError: The client has stopped for good; the body was cancelled then.
        """
        session = self._session(client)
        self._sessions.append(session)
        try:
            async with session.serving() as entered:
                yield entered
        finally:
            self._sessions.remove(session)

    def stop(self) -> None:
        """Have it end: nothing new is handed out, running handlers have `grace_s`. A second call cancels them.

        Called inside its event loop; from a handler too.
        """
        for session in self._sessions:
            session.stop()

    def _handlers_of(self, event: ChatEvent) -> list[Callable[..., Awaitable[object]]]:
        """The functions that are given this event, in order; the bot's own messages are not looked for here."""
        found = self._handlers.get(type(event), [])
        if not isinstance(event, MessageReceived):
            return [handler for _, handler in found]
        message = event.message
        is_asked = message.is_user_message and message.type != "RECALLED"
        kinds = {message.type, message.content.get("type")} if message.type == "STREAM" else {message.type}
        return [
            handler
            for types, handler in found
            if (is_asked if types is None else not kinds.isdisjoint(types))
        ]

    def _session(self, client: ChatClient | None) -> BotSession:
        check_kind("client", client, ChatClient, optional=True)
        if client is None:
            client = ChatClient.from_env(**device_options(os.environ, device_id="bot", store="bot.db"))
        return BotSession(self, client)


def _check_async(function: object) -> None:
    """Raises ConfigurationError for what cannot be awaited when it is called."""
    called = getattr(function, "func", function)  # of a functools.partial
    if inspect.iscoroutinefunction(called):
        return
    if callable(called) and inspect.iscoroutinefunction(type(called).__call__):
        return
    name = getattr(function, "__qualname__", repr(function))
    raise ConfigurationError(
        f"{name:.80} must be `async def`; blocking code goes into anyio.to_thread.run_sync"
    )
