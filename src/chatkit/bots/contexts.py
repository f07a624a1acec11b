"""What a handler holds: the event with its conversation, its state, and the ways to answer.

Made by `bot` for each try of each event. A handler that is called again gets a new one, with the state as it was.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeVar

import msgspec

from ..client.client import ChatClient
from ..client.deliveries import STATE_BYTES_MAX
from ..client.events import ChatEvent, Delivery, MessageEdited, MessageReceived, MessageSent, ReceiptChanged
from ..errors import (
    BadRequestError,
    ConfigurationError,
    ConflictError,
    HeldError,
    NotFoundError,
    TooLargeError,
)
from ..types import Marks, Message, Payload, Sent

KEY_MAX = 48
"""Characters of an answer's key: with the message's id before it, it fits into a clientMsgId."""

E = TypeVar("E", bound=ChatEvent)

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class EventContext(Generic[E]):
    """One event, for one call of its handlers.

    Attributes:
        event: What happened.
        client: The bot's client.
        attempt: Which try this is, from 1; it counts on across restarts.
        conversation_id: Where it happened; "" for what belongs to no conversation.
    """

    def __init__(self, client: ChatClient, delivery: Delivery, event: E) -> None:
        self.client = client
        self.event = event
        self.attempt = delivery.attempt
        self.conversation_id = delivery.conversation_id or _conversation_of(event)
        self._delivery = delivery
        self._stored = b""
        self._state: dict[str, Any] | None = None

    @property
    def state(self) -> dict[str, Any]:
        """What this bot keeps of the conversation: JSON values by name, at most 16 KiB. Change it as you like.

        It is stored when the handlers have returned, in the transaction that takes the event: a handler that raises, or
        dies with its process, finds it as it was. So what is counted here is counted once. Only for events of a log
        (messages, recalls, replaced logs); for others it can be read.

        Raises:
            ConfigurationError: The event belongs to no conversation.
        """
        if not self.conversation_id:
            raise ConfigurationError(
                f"{type(self.event).__name__} belongs to no conversation, so there is no state"
            )
        if self._state is None:
            self._stored = self.client.app_state(self.conversation_id)
            self._state = _decode(self._stored) if self._stored else {}
        return self._state

    def changed_state(self) -> bytes | None:
        """What is to be stored; None if nothing changed. The bot calls it.

        Raises:
            BadRequestError: It is more than JSON can hold.
            TooLargeError: It is above its bound.
            ConfigurationError: The event is none of a log.
        """
        if self._state is None:
            return None
        try:
            encoded = _encode(self._state) if self._state else b""
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadRequestError(f"state: {error}; keep JSON values only") from None
        if encoded == self._stored:
            return None
        if not self._delivery.repeats:
            raise ConfigurationError(
                f"state cannot be changed by {type(self.event).__name__}, which comes at most once"
            )
        if len(encoded) > STATE_BYTES_MAX:
            raise TooLargeError(f"state is {len(encoded)} bytes as JSON, and may be {STATE_BYTES_MAX}")
        return encoded


class MessageContext(EventContext[MessageReceived]):
    """One message that somebody wrote.

    Attributes:
        message: All of it: `seq`, `server_ts`, `payload`, and so on.
        text: Its text; the fallback text of what is no TEXT.
        sender_id: Who wrote it.
    """

    def __init__(
        self, client: ChatClient, delivery: Delivery, event: MessageReceived, answers: str = "re"
    ) -> None:
        super().__init__(client, delivery, event)
        self._answers = answers
        self.message: Message = event.message
        self.text = event.message.text
        self.sender_id = event.message.sender_id
        self._keys: set[tuple[str, str]] = set()

    async def reply(
        self, content: str | Payload, *, key: str | None = None, timeout: float = math.inf
    ) -> Sent | None:
        """Answer in the same conversation; returns once the answer is durable on the server.

        Its clientMsgId is made from the message and a number, from 1 in each try: so the n-th answer to a message is
        stored once, however often the handler runs. Where handlers answer in another order at the next try, give each
        answer a `key`.

        Args:
            content: A text, or a payload (docs/protocol.md#payloads).
            key: Names the answer among those to this message, instead of its number; 1 to 48 characters.
                It must be new in this try.
            timeout: Seconds to wait; for ever by default, for what is queued is sent once the server is back.

        Returns:
            What the server said. None if an earlier try gave this answer in other words, which stand; also if a
            moderator keeps it for review (docs/moderation.md).

        Raises:
            RefusedError: The server refused it for good; the others that `ChatClient.send` names, if `timeout` is set
                or nothing could be queued.
        """
        return await self.send(self.conversation_id, content, key=key, timeout=timeout)

    async def send(
        self,
        conversation_id: str,
        content: str | Payload,
        *,
        key: str | None = None,
        timeout: float = math.inf,
    ) -> Sent | None:
        """Send to another conversation because of this message, once, as `reply` does."""
        client_msg_id = self._key(conversation_id, key)
        try:
            return await self.client.send(
                conversation_id, content, client_msg_id=client_msg_id, timeout=timeout
            )
        except (ConflictError, HeldError):
            return None

    def _key(self, conversation_id: str, key: str | None) -> str:
        """The clientMsgId of an answer. Raises BadRequestError for a key that is none, or is used already."""
        if key is None:
            key = str(sum(used_in == conversation_id for used_in, _ in self._keys) + 1)
        elif not isinstance(key, str) or not 1 <= len(key) <= KEY_MAX:
            raise BadRequestError(f"key must be a text of 1 to {KEY_MAX} characters")
        if (conversation_id, key) in self._keys:
            raise BadRequestError(f"there is an answer with the key {key!r} already; give each its own")
        self._keys.add((conversation_id, key))
        return f"{self._answers}-{self.message.message_id}-{key}"

    async def stream(
        self,
        source: AsyncIterable[str],
        *,
        key: str | None = None,
        text: str = "",
        fallback_text: str | None = None,
        timeout: float = math.inf,
    ) -> Sent | None:
        """Answer with a message that grows as the texts of `source` come, such as those of a language model.

        Members watch it grow. Stored once, as `reply` says; a handler that is run again gives the whole at its end. An
        error of the source ends the message as cut off, and is raised, whatever it is. The source is closed at the end,
        also where it is not used up: a model does not go on for nobody.

        Args:
            source: Gives texts, all of which together are the message: at most 60 KiB.
            key: As of `reply`.
            text: What it begins with.
            fallback_text: Shown by clients that do not know of streams, until its end.
            timeout: As of `reply`, for its beginning and its end each.

        Returns:
            What the server said to its end. None as of `reply`.

        Raises:
            StreamEndedError: The answer was recalled meanwhile.
            TooLargeError: The source gives more than a message holds; it is cut off before that.
            RefusedError: As of `reply`.
        """
        stream = self.client.stream(
            self.conversation_id,
            text,
            fallback_text=fallback_text,
            client_msg_id=self._key(self.conversation_id, key),
            timeout=timeout,
        )
        async with AsyncExitStack() as stack:
            texts = await stack.enter_async_context(_closing(source))
            try:
                await stack.enter_async_context(stream)
            except (ConflictError, HeldError):
                return None
            async for more in texts:
                await stream.write(more)
            try:
                return await stream.end()
            except (ConflictError, HeldError):
                return None

    async def mark_read(self) -> None:
        """Everything up to this message was read, by the bot's user."""
        await self.client.mark_read(self.conversation_id, self.message.seq)

    async def typing(self) -> None:
        """Show the others that the bot is writing, for some seconds."""
        await self.client.typing(self.conversation_id)


async def told_of(client: ChatClient, event: ChatEvent) -> ChatEvent | None:
    """What a bot is told of an event: of a streamed message all of it, once it has ended. None: nothing."""
    if isinstance(event, MessageReceived) and event.message.type == "STREAM":
        return None  # its end is an event of its own
    if isinstance(event, MessageEdited) and event.edit.ends is not None:
        message = await _ended(client, event)
        now = message.edit
        # a later end, of an author who came back with all of it, is an event of its own
        ends_later = now is not None and now.ends is not None and now.seq > event.edit.seq
        return None if message.type == "RECALLED" or ends_later else MessageReceived(message)
    return event


async def _ended(client: ChatClient, event: MessageEdited) -> Message:
    """A streamed message, as it reads now; where this device does not hold it, what its end says of it."""
    try:
        held = await client.history(event.conversation_id, before_seq=event.seq + 1, limit=1, fetch=False)
    except NotFoundError:  # it was left meanwhile
        held = []
    if held and held[-1].seq == event.seq:
        return held[-1]
    return Message(
        event.conversation_id,
        event.seq,
        event.message_id,
        event.by,
        event.edit.server_ts,
        {"type": "STREAM", "text": ""},
        marks=Marks(event.edit.seq, event.edit),
    )


def context_of(
    client: ChatClient, delivery: Delivery, event: ChatEvent, answers: str = "re"
) -> EventContext[Any]:
    """The context of an event, by its kind.

    Args:
        client: The bot's client.
        delivery: How it came.
        event: What `told_of` made of it.
        answers: What the keys of answers begin with: those of the handlers and of the error handler are apart.
    """
    if isinstance(event, MessageReceived):
        return MessageContext(client, delivery, event, answers)
    return EventContext(client, delivery, event)


@asynccontextmanager
async def _closing(source: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[str]]:
    """The texts of a source, which is closed at the end if it can be."""
    texts = aiter(source)
    try:
        yield texts
    finally:
        close = getattr(texts, "aclose", None)
        if close is not None:
            await close()


def _conversation_of(event: ChatEvent) -> str:
    if isinstance(event, MessageSent):
        return event.sent.conversation_id
    if isinstance(event, ReceiptChanged):
        return event.receipt.conversation_id
    return getattr(event, "conversation_id", "")
