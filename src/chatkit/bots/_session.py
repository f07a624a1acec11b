"""One run of a bot on one client: each event to its handlers, what they raise to the error handler. Made by `bot`."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..client._calls import call
from ..client.client import ChatClient
from ..client.events import Delivery, Taken
from ..errors import ClosedError, DeadlineExceededError
from .commands import Call
from .contexts import EventContext, MessageContext, context_of, told_of
from .retries import Failure, Failures, log_failure

if TYPE_CHECKING:
    from .bot import Bot

logger = logging.getLogger("chatkit.bots")


class BotSession:
    """A bot that runs.

    Args:
        bot: Whose handlers are called.
        client: Not entered yet.
    """

    def __init__(self, bot: Bot, client: ChatClient) -> None:
        self._bot = bot
        self._client = client
        self._failures = Failures(bot.retries)
        self._connecting = anyio.CancelScope()
        self._handling = anyio.CancelScope()
        self._is_stopping = False
        self._is_consuming = False
        self._call = self._composed()

    async def serve(self) -> None:
        """Handle events until stopped. Raises ClosedError if the client has stopped for good."""
        async with self._client:
            await self._consume()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ChatClient]:
        """Handle events beside the body. Raises what `serve` raises; the body is cancelled then."""
        failures: list[Exception] = []

        async def consume() -> None:
            try:
                await self._consume()
            except Exception as error:
                failures.append(error)
            if failures or self._client.stopped is not None:
                tasks.cancel_scope.cancel()

        async with self._client as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume)
                try:
                    yield client
                except Exception as error:  # a group would wrap it
                    failures.append(error)
                if not self._is_stopping:
                    self.stop()
            for other in failures[1:]:  # only one can be raised
                logger.error("the body of the bot's `async with` failed, too", exc_info=other)
            if failures:
                raise failures[0]

    def stop(self) -> None:
        """Hand out nothing more, and cancel what still runs after the bot's `grace_s`; at once if called again."""
        if self._is_stopping:
            self._handling.cancel()
            return
        self._is_stopping = True
        self._handling.deadline = anyio.current_time() + self._bot.grace_s
        self._connecting.cancel()
        if self._is_consuming:
            self._client.stop_consuming()

    async def _consume(self) -> None:
        with self._connecting:
            # who the bot is must be known first: its own messages are not for it
            await self._client.wait_connected(math.inf)
        with self._handling:
            if self._is_stopping:
                return
            self._is_consuming = True
            try:
                await self._client.consume(
                    self._handle, concurrency=self._bot.concurrency, on_error=self._handle_error
                )
            finally:
                self._is_consuming = False

    async def _handle(self, delivery: Delivery) -> Taken | None:
        event = await told_of(self._client, delivery.event)
        if event is None:
            return None
        context = context_of(self._client, delivery, event)
        self._failures.check(delivery)
        await self._call(context)
        state = context.changed_state()
        self._failures.handled(delivery)
        return Taken(state)

    def _composed(self) -> Callable[[EventContext[Any]], Awaitable[Any]]:
        call: Callable[[EventContext[Any]], Awaitable[Any]] = self._dispatch
        for middleware in reversed(self._bot._middlewares):
            call = partial(_through, middleware, call)
        return call

    async def _dispatch(self, context: EventContext[Any]) -> None:
        if isinstance(context, MessageContext):
            if context.sender_id == self._client.user_id:
                return  # from another device of the bot's own
            call = self._command_in(context)
            if call is not None and await self._command(context, call):
                return
        for handler in self._bot._handlers_of(context.event):
            await handler(context)

    def _command_in(self, message: MessageContext) -> Call | None:
        said = message.message
        if not self._bot._commands or said.content.get("type") != "TEXT" or said.is_cut_off:
            return None
        call = self._bot._commands.call_in(message.text)
        return None if call is None or call.addressee not in ("", self._client.user_id) else call

    async def _command(self, message: MessageContext, call: Call) -> bool:
        """Returns whether it was one of this bot's, or was answered as one that there is not."""
        command = self._bot._commands.get(call.name)
        if command is not None:
            await command.call(message, call.text, self._bot._commands.prefix)
            return True
        if self._bot._handlers_of(message.event) or not self._is_meant(message, call):
            return False
        await message.reply(self._bot._commands.unknown(call.name))
        return True

    def _is_meant(self, message: MessageContext, call: Call) -> bool:
        """Whether nobody else can be: in groups there may be other bots."""
        head = self._client.heads.get(message.conversation_id)
        return bool(call.addressee) or (head is not None and head.type == "SINGLE")

    async def _handle_error(self, delivery: Delivery, error: Exception) -> float | None:
        """Seconds until the next try, or None. Raises ClosedError once the client is closed or stopped."""
        stopped = self._client.stopped
        if stopped is not None and not isinstance(error, ClosedError):
            logger.warning("a handler failed after the client had stopped", exc_info=error)
            raise ClosedError(f"the client has stopped: {stopped}") from stopped
        if isinstance(error, ClosedError):
            with suppress(DeadlineExceededError):  # if it is another client that is closed
                await self._client.wait_connected(0)
        retry_in_s = self._failures.failed(delivery, error)
        event = await told_of(self._client, delivery.event) or delivery.event  # which was recalled meanwhile
        failure = Failure(context_of(self._client, delivery, event, "error"), error, retry_in_s)
        try:
            await call("the error handler", self._bot._error_handler, failure)
        except Exception:
            logger.exception("the error handler of the bot failed; what it was given follows")
            await log_failure(failure)
        return retry_in_s


async def _through(
    middleware: Callable[..., Awaitable[object]],
    call_next: Callable[[EventContext[Any]], Awaitable[Any]],
    context: EventContext[Any],
) -> None:
    await middleware(context, call_next)
