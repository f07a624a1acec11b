"""`ChatClient`: what an app holds. A facade: each method checks its arguments and hands them on to one object."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

import anyio

from .._arguments import check_callable, check_kind, check_number
from ..errors import (
    BadRequestError,
    ClientError,
    ClosedError,
    ConfigurationError,
    ProtocolError,
)
from ..observability.instrument import Instrument, Instruments
from ..ports import Ports
from ..transport.base import Connector
from ..transport.network import Network
from ..types import (
    ConversationSummary,
    Message,
    MessageRef,
    MessageStatus,
    Payload,
    Pin,
    SearchPage,
    Sent,
    UserPresence,
)
from ..wire import events as ev
from ..wire.http import FOR_EVER_MS
from ._http import ATTEMPTS_MAX, Http
from ._runtime import ClientRuntime, check_store, codec_named, connector_of, store_of
from ._token import Token, TokenSource
from .api import ChatApi, MemberPage, Status
from .config import ClientConfig
from .deliveries import CONCURRENCY_MAX, ErrorHandler, Handler
from .environment import device_options, token_in, url_in
from .events import ChatEvent
from .media import OnProgress, Upload
from .message_stream import MessageStream
from .outbox import Cancelled, PendingMessage
from .store.base import LocalStore
from .validate import (
    Address,
    Moment,
    address_of,
    canonical_of,
    check,
    check_client_msg_id,
    check_conversation_id,
    check_count,
    check_device_id,
    check_limit,
    check_message_id,
    check_seq,
    edit_payload,
    end_of_mute_ms,
    mentioning,
    pin_payload,
    reaction_payload,
    reply,
    stream_payload,
    wait_of,
)

TYPING_EVERY_S = 3.0


class EventStream:
    """The events of one client, for `async for`. Ends once the client is closed or has stopped for good."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[ChatEvent]:
        return self

    async def __anext__(self) -> ChatEvent:
        event = await self._client._next_event()
        if event is None:
            raise StopAsyncIteration
        return event


class ChatClient:
    """One device of one user, connected for as long as `async with` lasts.

    Reconnects by itself. Messages are in the local store before the app is notified of them and before they are
    confirmed. Only for use inside `async with`, by any number of tasks. The end of `async with` raises ClosedError if
    the client had stopped for good before (banned, replaced, a login that is refused), unless the app had closed it
    with `aclose` or raises an error of its own; `stopped` says why, too.

    It may be left by another task than the one that entered it, and of several clients any may be left first. All its
    coroutines belong to the event loop it was entered in; in another one they raise ConfigurationError at once.
    WebSockets need asyncio; on trio a client needs a connector of its own.

    Args:
        url: The server: `ws://`, `wss://`, `http://` or `https://`, with the prefix it is mounted under.
        token: The login, or a callable (plain or async) that makes a fresh one: asked when the one before nears its end
            or was refused. A plain one must not block.
        device_id: Stable name of this installation; it owns the delivered cursor.
        store: A path keeps everything in a SQLite file that outlives the process; None keeps it in memory; a store of
            one's own is closed at the end.
        codec: `json` or `msgpack`.
        ssl_context: For `wss://` and `https://`; None for the system's trust store (docs/connecting.md#certificates).
        proxy: Its address; True for what the environment says, False for none (docs/connecting.md#proxies).
        headers: Sent with every handshake and every HTTP request.
        connector: Another way to the server than WebSockets to `url`.
        config: Deadlines and bounds.
        ports: Clock, random numbers and ids; the system's by default.
        instruments: Told what happens, such as metrics and traces; see `Instrument`.

    Raises:
        ConfigurationError: An argument can never work (its name is in the message), or the store is another program's
            or user's.
    """

    def __init__(
        self,
        url: Address,
        *,
        token: Token,
        device_id: str,
        store: LocalStore | str | os.PathLike[str] | None = None,
        codec: str = "json",
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | bool = True,
        headers: Mapping[str, str] | None = None,
        connector: Connector | None = None,
        config: ClientConfig | None = None,
        ports: Ports | None = None,
        instruments: Iterable[Instrument] = (),
    ) -> None:
        check_device_id(device_id)
        check_kind("config", config, ClientConfig, optional=True)
        check_kind("ports", ports, Ports, optional=True)
        check_store(store)
        self._url = address_of(url, "url")
        self._device_id = device_id
        self._config = config or ClientConfig()
        self._ports = ports or Ports()
        self._instruments = Instruments(instruments)
        self._store = store
        self._codec = codec_named(codec)
        self._tokens = TokenSource(token, self._config.token_timeout_s, self._ports)
        self._network = Network(ssl_context, proxy, headers)
        self._connector = connector_of(connector, self._url, self._config, self._network)
        self._runtime: ClientRuntime | None = None
        self._entered = False
        self._consuming = False
        self._typed_at_s: dict[str, float] = {}
        self._pending_count = 0
        self._stopped: Exception | None = None
        self._last_failure: Exception | None = None

    @classmethod
    def from_env(
        cls,
        *,
        device_id: str | None = None,
        store: LocalStore | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """A client as the environment says, for programs that are set up from outside.

        `CHATKIT_URL` is the server; `CHATKIT_TOKEN` the login, or `CHATKIT_TOKEN_FILE` a file with it, which is read
        again whenever a fresh one is needed; `CHATKIT_DEVICE_ID` the device, and `CHATKIT_STORE` the path of the local
        store, where these two are not given here.

        Args:
            device_id: As for `ChatClient`; goes before the environment.
            store: Likewise.
            options: Others of `ChatClient`: `codec`, `config`, `proxy`, and so on.

        Raises:
            ConfigurationError: A variable is missing or wrong; its name is in the message.
        """
        given = device_options(os.environ, device_id=device_id, store=None)
        if device_id is not None:
            given["device_id"] = device_id
        if store is not None:
            given["store"] = store
        url, token = url_in(os.environ), token_in(os.environ)
        return cls(url, **{"token": token, **given, **options})

    def __repr__(self) -> str:
        return f"<ChatClient {self._url} device {self._device_id}>"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ClosedError("a ChatClient can be entered once only; make another one")
        self._entered = True
        store = store_of(self._store, self._config)
        try:
            self._runtime = ClientRuntime(
                store=store,
                connector=self._connector,
                codec=self._codec,
                tokens=self._tokens,
                device_id=self._device_id,
                config=self._config,
                ports=self._ports,
                instruments=self._instruments,
            )
            await self._runtime.start()
        except BaseException:
            store.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        runtime = self._runtime
        assert runtime is not None, "entered before it is left"
        runtime.check_loop()
        status = runtime.status
        expected = runtime.closing or status.stopped is None
        try:
            if error is None and not runtime.closing:
                await self.aclose()
        finally:
            self._runtime = None
            self._pending_count = runtime.outbox.pending_count
            await runtime.stop()
            self._stopped, self._last_failure = status.stopped, status.last_failure
        if error is None and status.failure is not None:
            raise status.failure
        if error is None and not expected:
            status.check_running()

    async def aclose(self, timeout: float | None = None) -> int:
        """Take no more calls, and wait until every message is acknowledged. `async with` does this at its end.

        Whoever waits for something else than a message (`recall`, `history`, `status`, `wait_connected`) gets
        ClosedError at once; whoever still waits for a message at the end gets SendOutcomeUnknownError.

        Args:
            timeout: Seconds to wait; `close_timeout_s` by default.

        Returns:
            How many messages are still pending. A file store keeps them for the next start.

        Raises:
            BadRequestError: `timeout` is no number of seconds; the client stays open.
        """
        runtime = self._entered_runtime()
        runtime.check_loop()
        wait_s = wait_of(timeout, self._config.close_timeout_s)
        runtime.close()
        with anyio.move_on_after(wait_s):
            await runtime.drain()
        runtime.outbox.release(ClosedError("the client was closed"))
        runtime.events.close()
        return runtime.outbox.pending_count

    def events(self) -> EventStream:
        """Everything that happens, for `async for`: each event at most once. One consumer at a time.

        Each log entry comes once per local store, after it is stored, and in order of its conversation's seq; only an
        own `MessageSent` comes with its answer, maybe ahead of entries with a lower seq. An entry counts as taken as
        it is handed out: what was not comes at the next start, and the one that an app died over is in `history`
        (`consume` gives it again). When too many wait, the client stops receiving until the app has caught up;
        nothing is lost.

        Raises:
            ClientError: Another task consumes the events.
            UnavailableError: The local store is damaged, or its disk failed.
        """
        self._entered_runtime()
        return EventStream(self)

    async def consume(
        self, handler: Handler, *, concurrency: int = 1, on_error: ErrorHandler | None = None
    ) -> None:
        """Hand every event to `handler`, one after the other: each log entry at least once, until it is taken.

        An entry is taken when its handler has returned; one whose handler raised, was cancelled or died with the
        process comes again first, with a greater `attempt`, at the next `consume` on the same local store. Two things
        may come before it after a restart: that its log was replaced meanwhile, and, where it must be fetched, what the
        store holds of other conversations. What was taken does not come again, except that a process that is killed may
        see the one entry again whose handler had just returned. The order is that of `events`, in each conversation by
        seq.

        Repeated are `MessageReceived` (also of members that come and go), `MessageRecalled` and `EpochChanged`.
        All others come at most once: `send` gives an outcome again, `heads` says how things stand. A message
        that was recalled before it was taken comes without its body (`message.type` is `RECALLED`). Of an older
        log, nothing comes again after `EpochChanged`.

        What an earlier start left comes first, from the local store, also offline. Where the store has let go of
        entries (at a new membership), they are fetched, as often as it takes; what arrives waits meanwhile.

        With a `concurrency` above 1 events of different conversations are handed out side by side; of one conversation
        it is still one at a time, in order. What concerns no log (`Delivery.repeats` is false) counts as a conversation
        of its own. What waits behind a busy conversation counts in the bounds of the events that wait: 10,000 of one
        conversation hold up the others.

        Returns once the client is closed or has stopped for good, or after `stop_consuming`.

        Args:
            handler: Called with each `Delivery`, and awaited if it is async. After too many attempts it may return
                instead of raising. It may return a `Taken`, to keep something of the conversation.
            concurrency: Handlers that run at once, 1 to 1,000.
            on_error: Awaited with the `Delivery` and the error when the handler raises: after how many seconds the
                event is given again (what else comes of its conversation waits behind it); None takes it; what it
                raises ends `consume`.

        Raises:
            Exception: What the handler raised, if there is no `on_error`; the client goes on, and other handlers that
                ran are cancelled. ClientError if it let out a cancellation that was not meant for it, as of a task
                that it waited for.
            ConfigurationError: The handler is none, or a generator function, whose body would never run; nothing was
                taken. Also if it returned a generator, or a coroutine that nobody awaits; then its event comes again
                first.
            ClientError: Another task consumes the events.
            UnavailableError: The local store is damaged, or its disk failed.
        """
        runtime = self._entered_runtime()
        runtime.check_loop()
        check_callable("handler", handler, "a callable that takes a Delivery")
        check_number("concurrency", concurrency, whole=True, least=1)
        if concurrency > CONCURRENCY_MAX:
            raise ConfigurationError(f"concurrency is at most {CONCURRENCY_MAX}")
        if on_error is not None:
            check_callable("on_error", on_error, "a callable that takes a Delivery and an error")
        with self._sole_consumer():
            await runtime.deliveries.consume(handler, concurrency, on_error)

    def stop_consuming(self) -> None:
        """Have the `consume` that runs hand out nothing more, and return once the handlers that run have.

        What was not handed out comes with the next `consume`. Without one that runs, nothing happens.
        """
        runtime = self._entered_runtime()
        runtime.check_loop()
        if self._consuming:
            runtime.deliveries.stop()

    def app_state(self, conversation_id: str) -> bytes:
        """What a handler of `consume` kept of this conversation with `Taken`; b"" if nothing. Asks nobody.

        Raises:
            UnavailableError: The local store is damaged, or its disk failed.
        """
        runtime = self._entered_runtime()
        check_conversation_id(conversation_id)
        return runtime.store.app_state(conversation_id)

    async def send(
        self,
        conversation_id: str,
        content: str | Payload,
        *,
        reply_to: Message | Sent | MessageRef | None = None,
        mentions: Sequence[str] = (),
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Send a message; returns once it is durable on the server. Works offline too, up to its deadline.

        A call that is cancelled or passes its deadline leaves the message queued, and it is sent all the same. Give a
        `client_msg_id` of your own to be able to ask again: the same call then waits for the same message.

        Args:
            conversation_id: Where to.
            content: A text, or a payload (docs/protocol.md#payloads).
            reply_to: An earlier message of the conversation that it answers.
            mentions: Up to 50 users whom it mentions, by id; `*` for everybody. Who is no member is not mentioned.
            client_msg_id: Its key for ever; made here by default. The same call again gives the same answer.
            timeout: Seconds to wait; `send_timeout_s` by default.

        Raises:
            BadRequestError, TooLargeError: The server would refuse it; nothing was queued.
            QueueFullError: Too many messages wait; nothing was queued.
            UnavailableError: The local store refuses for now (disk full); nothing was queued.
            SendOutcomeUnknownError: No answer yet; it stays queued under its clientMsgId. Why there is no connection is
                in its message and its cause.
            SendCancelledError: `cancel` took it back.
            HeldError: A moderator keeps it for review. It stays queued, and `MessageSent` or `SendFailed` tells what
                became of it.
            RefusedError: The server refused it for good; it is no longer queued. ContentRefusedError: a moderator did.
                TooLargeError also where the server's host, or a proxy, takes no frame of its size.

        Source: docs/protocol.md#send_msg
        """
        runtime = self._sending_runtime()
        check_conversation_id(conversation_id)
        content = mentioning(content, mentions) if mentions else content
        payload = canonical_of(content if reply_to is None else reply(content, reply_to))
        key = self._new_key() if client_msg_id is None else client_msg_id
        check_client_msg_id(key)
        wait_s = wait_of(timeout, self._config.send_timeout_s)
        runtime.outbox.submit(conversation_id, key, payload)
        return await runtime.outbox.outcome(conversation_id, key, wait_s)

    async def edit(
        self,
        message: Message | Sent,
        content: str | Payload,
        *,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Say one's own message in other words; `history` shows them in its place, and what was said before stays.

        It is an entry of its own, and goes the way of `send`: queued, resent, stored once, in order.

        Args:
            message: Which one: as it came, or as it was sent.
            content: What is to be shown, a text or a payload.
            client_msg_id: The key of this edit.
            timeout: As of `send`.

        Raises:
            ForbiddenError: Somebody else's message, or one that was recalled.
            EditWindowPassedError: Too late.
            ChatkitError: As `send`.

        Source: docs/protocol.md#edit
        """
        payload = edit_payload(message, content)
        return await self.send(message.conversation_id, payload, client_msg_id=client_msg_id, timeout=timeout)

    def stream(
        self,
        conversation_id: str,
        text: str = "",
        *,
        reply_to: Message | Sent | MessageRef | None = None,
        fallback_text: str | None = None,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> MessageStream:
        """A message that grows while it is written: `async with client.stream(...) as stream: await stream.write(...)`.

        Members see it grow (`StreamGrew`), and who comes later gets the whole. It begins and ends by what `send` does,
        when the block is entered and left. What is written in between goes out as soon as it can, and is joined where
        the line is slow; `write` waits when more than 8 KiB are unacknowledged. After a cut it goes on where it was.

        An exception in the block ends it as cut off (`Message.is_cut_off`). So does the server, where nothing is heard
        of this device for a minute; when it comes back the end still brings all of it, within the time for edits.
        A recall ends it for good: `write` raises StreamEndedError. Where a moderator is set, members get it at its end.

        Args:
            conversation_id: Where to.
            text: What it begins with.
            reply_to: An earlier message of the conversation that it answers.
            fallback_text: Shown by clients that do not know of streams, until its end.
            client_msg_id: Its key for ever, at most 124 characters; its end has the key with `-end` or `-cut` after it.
                A stream that an earlier try began under it goes on without parts: its end is what counts.
            timeout: Seconds that its beginning and its end wait; `send_timeout_s` by default.

        Raises:
            BadRequestError, TooLargeError: The server would refuse its beginning.

        Entering the block raises what `send` does, and then the block has not run: SendCancelledError where the
        beginning found no connection in time, was taken back and never comes; SendOutcomeUnknownError where it may have
        left: then the message comes empty, and the server ends it as cut off, unless it goes on under the same key.

        Source: docs/protocol.md#stream
        """
        runtime = self._open_runtime()
        check_conversation_id(conversation_id)
        payload = stream_payload(text, reply_to, fallback_text)
        canonical_of(payload)
        key = self._new_key() if client_msg_id is None else client_msg_id
        check_client_msg_id(key)
        check_client_msg_id(f"{key}-end")

        def queue(key: str, said: Payload) -> None:
            self._sending_runtime().outbox.submit(conversation_id, key, canonical_of(said))

        return MessageStream(
            conversation_id,
            key,
            payload,
            queue,
            known=client_msg_id is not None,
            wait_s=wait_of(timeout, self._config.send_timeout_s),
            outbox=runtime.outbox,
            requests=runtime.requests,
            status=runtime.status,
            streams=runtime.streams,
            backoff=runtime.backoff,
            request_timeout_s=self._config.request_timeout_s,
            waiting=partial(runtime.call, math.inf),
        )

    async def react(
        self,
        message: Message | Sent,
        reaction: str,
        *,
        removed: bool = False,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """React to a message with an emoji or other short text, or (`removed`) no more; it goes the way of `send`.

        Args:
            message: Which one: as it came, or as it was sent.
            reaction: 1 to 64 characters.
            removed: Whether the reaction is taken back.
            client_msg_id: The key of this entry.
            timeout: As of `send`.

        Raises:
            BadRequestError: More reactions than one message, or one user, may have.
            ForbiddenError: The message was recalled.
            ChatkitError: As `send`.

        Source: docs/protocol.md#reaction
        """
        payload = reaction_payload(message, reaction, removed=removed)
        return await self.send(message.conversation_id, payload, client_msg_id=client_msg_id, timeout=timeout)

    async def pin(
        self,
        message: Message | Sent,
        *,
        pinned: bool = True,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Pin a message, or (`pinned=False`) unpin it; it goes the way of `send`. `pins` says what is pinned.

        Args:
            message: Which one: as it came, or as it was sent.
            pinned: Whether it is to be.
            client_msg_id: The key of this entry.
            timeout: As of `send`.

        Raises:
            BadRequestError: 50 are pinned already.
            ForbiddenError: The user's role does not allow it (`reason` ROLE), or the message was recalled.
            ChatkitError: As `send`.

        Source: docs/protocol.md#pinned
        """
        payload = pin_payload(message, pinned=pinned)
        return await self.send(message.conversation_id, payload, client_msg_id=client_msg_id, timeout=timeout)

    async def pins(self, conversation_id: str) -> list[Pin]:
        """What is pinned of what the user may see, pinned last first, at most 50; asked over HTTP.

        Raises:
            NotFoundError: Not a member.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        with self._asking() as api:
            return await api.pins(conversation_id)

    async def send_file(
        self,
        conversation_id: str,
        source: bytes | str | os.PathLike[str],
        *,
        mime: str | None = None,
        name: str | None = None,
        client_msg_id: str | None = None,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Sent:
        """Upload a file and send a message that shows it: IMAGE, VOICE, or FILE for all else.

        Called again with the same `client_msg_id` after it failed, it goes on with the upload where that was cut off,
        and sends the message once.

        Args:
            conversation_id: Where to.
            source: As of `upload`, like `mime` and `name`.
            client_msg_id: As of `send`.
            timeout: Seconds to wait for the answer to the message, as of `send`; the upload has its own deadlines.
            on_progress: As of `upload`.

        Raises:
            As `upload` and `send` do.
        """
        check_conversation_id(conversation_id)
        uploaded = await self.upload(source, mime=mime, name=name, on_progress=on_progress)
        return await self.send(
            conversation_id, uploaded.payload(), client_msg_id=client_msg_id, timeout=timeout
        )

    async def upload(
        self,
        source: bytes | str | os.PathLike[str],
        *,
        mime: str | None = None,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Upload:
        """Upload a file; returns once the server has all of it, durably. A message that names it is sent by `send`.

        A file without such a message is removed after a day or so. The same content finds its former upload: nothing is
        sent twice, and what was cut off goes on, in another process too. A try that gets no further is repeated a few
        times; there is no deadline for the whole.

        Args:
            source: The path of a file, which must not change meanwhile (it is compared as it is sent), or bytes.
            mime: Its type; None: by its content and name.
            name: What it is called; None: the name of the file.
            on_progress: Called with the bytes that are through and those of the whole.

        Raises:
            BadRequestError: It is empty, its content contradicts `mime`, or its name is not UTF-8.
            TooLargeError: It is larger than this server takes.
            QuotaError: The user has too much already.
            NotFoundError: The server keeps no files.
            ConfigurationError: It cannot be read, or changed meanwhile: upload it again.
            ConnectionLostError, DeadlineExceededError, UnavailableError: Not now; call again to go on.
            ClosedError: The client was closed.

        Source: docs/media.md
        """
        with self._transferring() as api:
            return await api.upload(source, mime=mime, name=name, on_progress=on_progress)

    @overload
    async def download(
        self, message: Message | str, to: None = None, *, on_progress: OnProgress | None = None
    ) -> bytes: ...

    @overload
    async def download(
        self,
        message: Message | str,
        to: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> Path: ...

    async def download(
        self,
        message: Message | str,
        to: str | os.PathLike[str] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> bytes | Path:
        """The file that a message names. What was cut off goes on, as `upload` does.

        Args:
            message: A message with a `blobId`, or that id.
            to: The path of a file, which is there once it is whole (until then beside it, under a hidden name); None:
                into memory, 64 MiB at most.
            on_progress: Called with the bytes that are here and those of the whole.

        Returns:
            The path, or the bytes.

        Raises:
            NotFoundError: The message was recalled or has expired, or is not this user's to see.
            BadRequestError: The message names no file.
            TooLargeError: It is too large for memory.
            ConfigurationError: `to` cannot be written, or is a folder.
            ConnectionLostError, DeadlineExceededError, UnavailableError: Not now; call again to go on.
            ClosedError: The client was closed.

        Source: docs/media.md
        """
        with self._transferring() as api:
            return await api.download(message, to, on_progress=on_progress)

    def pending(self) -> list[PendingMessage]:
        """The messages of this device that have no answer yet, oldest first; at most `pending_max`.

        What becomes of each is an event: `MessageSent` or `SendFailed`.
        """
        return self._entered_runtime().outbox.pending()

    def cancel(self, conversation_id: str, client_msg_id: str) -> Cancelled:
        """Take back a message that is queued and surely never left.

        A `send` that waits for it raises SendCancelledError.

        Returns:
            `CANCELLED`: it is not sent, now or later. `MAY_BE_SENT`: it was handed to a connection before, maybe by an
            earlier run, so it stays queued; once it is sent, `recall` withdraws it. `UNKNOWN`: nothing is pending under
            this key.

        Raises:
            UnavailableError: The local store refuses for now; nothing was changed.
        """
        runtime = self._open_runtime()
        check_conversation_id(conversation_id)
        check_client_msg_id(client_msg_id)
        return runtime.outbox.cancel(conversation_id, client_msg_id)

    async def history(
        self,
        conversation_id: str,
        *,
        before_seq: int | None = None,
        limit: int = 50,
        fetch: bool = True,
    ) -> list[Message]:
        """The newest entries below `before_seq`, ascending: from the local store, completed from the server.

        While connected, that is up to the head also while the client is catching up or its events are not consumed;
        while not connected, up to what this device holds without a hole.

        Args:
            conversation_id: Which one.
            before_seq: Where to end, not included; None for the newest.
            limit: At most so many, 1 to 200.
            fetch: False: ask nobody; what this device does not hold is left out.

        Raises:
            BadRequestError: An argument is out of range.
            NotFoundError: No such conversation, or no member of it; without `fetch` also one that this device has not
                heard of yet.
            DeadlineExceededError: Older entries are needed and could not be fetched in time; a retry is safe.
            UnavailableError: The local store cannot keep them for now; a retry is safe.
        """
        runtime = self._open_runtime()
        check_conversation_id(conversation_id)
        check_limit(limit)
        if before_seq is not None:
            check_seq(before_seq)
        check(fetch, bool, "fetch")
        if not fetch:
            return runtime.history.held(conversation_id, before_seq, limit)
        with runtime.call(self._config.request_timeout_s):
            messages = await runtime.history.read(conversation_id, before_seq, limit)
        runtime.streams.want(messages)
        return messages

    async def mark_read(self, conversation_id: str, up_to_seq: int) -> None:
        """Everything up to here was read, by this user. Returns once it is kept locally; it is sent by itself.

        `conversations` and `heads` show it at once.

        A lower value than before changes nothing. Survives reconnects, and restarts with a file store.

        Before the first login it is kept, and given up (with a warning in the log) if there turns out to be no such
        conversation.

        Raises:
            BadRequestError: Above the head of the conversation.
            NotFoundError: No such conversation.
            QueueFullError: More conversations that nobody knows yet than `conversations_max`.
            UnavailableError: The local store refuses for now; a retry is safe.
        """
        runtime = self._open_runtime()
        check_conversation_id(conversation_id)
        check_seq(up_to_seq)
        head_seq = runtime.conversations.head_of(conversation_id)
        if head_seq is not None and up_to_seq > head_seq:
            raise BadRequestError("up_to_seq is above the head of the conversation")
        if head_seq is None:
            runtime.cursors.check_room(conversation_id, self._config.conversations_max)
        runtime.cursors.want_read(conversation_id, up_to_seq)
        runtime.events.list_changed()
        runtime.wake.set()

    async def recall(self, message_id: str, *, timeout: float | None = None) -> Sent:
        """Withdraw one's own message. Safe to repeat; waits for a connection up to its deadline.

        Returns:
            The recall's own entry; its `client_msg_id` is empty.

        Raises:
            ForbiddenError: Not the author.
            RecallWindowPassedError: Too late.
            NotFoundError: No such message.
            ConnectionLostError: A try was lost with its connection, and its repeat came too late (the cause).
            DeadlineExceededError: No answer in time. After both of these whether it took effect is unknown; a retry is
                safe.

        Source: docs/protocol.md#recall
        """
        runtime = self._open_runtime()
        check_message_id(message_id)
        wait_s = wait_of(timeout, self._config.request_timeout_s)
        request = partial(runtime.requests.ask, ev.Recall(message_id=message_id), wait_s)
        with runtime.call(wait_s):
            answer = await runtime.status.over_connections(request)
        if not isinstance(answer, ev.MsgAck):
            raise ProtocolError("RECALL was answered by another event")
        return Sent(answer.conversation_id, "", answer.message_id, answer.seq, answer.server_ts, answer.epoch)

    async def report(self, message_id: str, reason: str, note: str = "") -> None:
        """Tell the administrators of a message of somebody else, as `ChatApi.report` says; asked over HTTP."""
        with self._asking() as api:
            await api.report(message_id, reason, note)

    async def typing(self, conversation_id: str) -> None:
        """Show the other members that the user is writing; at most every 3 s per conversation, never queued."""
        runtime = self._open_runtime()
        check_conversation_id(conversation_id)
        if runtime.connection is None:
            return
        now_s = self._ports.clock.now_s()
        lately = {id_: at_s for id_, at_s in self._typed_at_s.items() if now_s - at_s < TYPING_EVERY_S}
        if conversation_id not in lately:
            lately[conversation_id] = now_s
            runtime.connection.typing(conversation_id)
        self._typed_at_s = lately

    async def search(
        self,
        query: str,
        *,
        conversation_id: str | None = None,
        sender_id: str | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        cursor: str | None = None,
        limit: int = 20,
    ) -> SearchPage:
        """Messages at the server that the user may read and that match, as `ChatApi.search` says; asked over HTTP.

        Raises:
            BadRequestError: A query without any letter, digit or symbol.
            ForbiddenError: Search is switched off at this server.
            NotFoundError: Not a member.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        with self._asking() as api:
            return await api.search(
                query,
                conversation_id=conversation_id,
                sender_id=sender_id,
                after=after,
                before=before,
                cursor=cursor,
                limit=limit,
            )

    async def set_presence(self, state: Literal["ONLINE", "AWAY"]) -> None:
        """Say whether the user is at this device or away from it; it holds for later connections too.

        A device that says nothing is ONLINE while it is connected. Where the server has presence switched off, it has
        no effect.

        Raises:
            BadRequestError: Another state.
        """
        runtime = self._open_runtime()
        check(state, Literal["ONLINE", "AWAY"], "state")
        runtime.own_presence.set(state)

    async def presence(self, user_ids: Sequence[str]) -> list[UserPresence]:
        """Who of these is online now, in this order; asked over HTTP. `PresenceChanged` says what changes later.

        Left out are those whom the user may not know of: who shares no conversation with them that is small enough, or
        blocked them.

        Args:
            user_ids: 1 to 100.

        Raises:
            BadRequestError: None, too many, or no valid ids.
            ForbiddenError: Presence is switched off at this server.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        with self._asking() as api:
            return await api.presence(user_ids)

    async def status(self, message_id: str) -> Status:
        """How far one's own message has got, per user and device; asked over HTTP.

        Raises:
            NotFoundError: No such message, or another's.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        with self._asking() as api:
            return await api.status(message_id)

    async def register_push(self, provider: str, token: str, *, hide_body: bool = False) -> None:
        """This device is woken by pushes of this provider from now on, as `ChatApi.register_push` says; over HTTP.

        Raises:
            BadRequestError: The server has no such provider, or no push can be sent to this token.
            ForbiddenError: The login is another device's.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        with self._asking() as api:
            await api.register_push(provider, token, hide_body=hide_body)

    async def unregister_push(self) -> None:
        """This device is woken no more; without a registration nothing happens. Asked over HTTP.

        Raises:
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        with self._asking() as api:
            await api.unregister_push()

    async def mute(
        self,
        conversation_id: str,
        until: Moment | None = None,
        *,
        level: Literal["MENTIONS", "NONE"] = "NONE",
    ) -> None:
        """The user's devices are not woken for a conversation, as `ChatApi.mute` says; asked over HTTP.

        Args:
            conversation_id: Where the user is a member.
            until: When it ends: a datetime with its time zone, or Unix milliseconds. None for never.
            level: What wakes them all the same: what mentions the user (MENTIONS), or nothing.

        Raises:
            NotFoundError: Not a member.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
            UnavailableError: It holds, and the local store cannot note it for now; a retry is safe.
        """
        with self._asking() as api:
            await api.mute(conversation_id, until, level=level)
        self._entered_runtime().list.muted(conversation_id, end_of_mute_ms(until) or FOR_EVER_MS, level)

    async def unmute(self, conversation_id: str) -> None:
        """The user's devices are woken for a conversation again; asked over HTTP.

        Raises:
            NotFoundError: Not a member.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
            UnavailableError: It holds, and the local store cannot note it for now; a retry is safe.
        """
        with self._asking() as api:
            await api.unmute(conversation_id)
        self._entered_runtime().list.muted(conversation_id, 0, "ALL")

    def message_state(self, conversation_id: str, seq: int) -> MessageStatus:
        """SENT, DELIVERED or READ of one's own message, from what this device has heard; asks nobody.

        Exact in a SINGLE conversation. In a GROUP it rises once the receipts of this connection have named every other
        member (over 100 members: with the counts), and with the heads of each connect; so it may lag, and is never
        ahead. `status` is exact.
        """
        runtime = self._entered_runtime()
        check_conversation_id(conversation_id)
        check_seq(seq)
        conversation = runtime.conversations.get(conversation_id)
        return "SENT" if conversation is None else conversation.message_state(seq)

    async def conversations(self, *, limit: int = 50, fetch: bool = True) -> list[ConversationSummary]:
        """The user's conversations, newest activity first, each with its title, last message and unread count.

        What this device holds is exact, also offline, and `mark_read` counts at once. What it does not hold (the past
        of a device that is new, a title that changed) is fetched while there is a connection: one HTTP request for 200
        conversations, and none the next time. While there is no connection, such a row shows what is known of it.

        From the first call on `ConversationListChanged` says when to ask again.

        Args:
            limit: At most so many; each takes about 0.1 ms.
            fetch: False: ask nobody.

        Raises:
            BadRequestError: An argument is out of range.
            ConnectionLostError, DeadlineExceededError: What is lacking could not be fetched; a retry is safe.
            UnavailableError: The local store cannot keep it for now; a retry is safe.
        """
        runtime = self._open_runtime()
        check_count(limit, "limit")
        check(fetch, bool, "fetch")
        runtime.events.list_is_shown = True
        if fetch and runtime.status.connected:
            with runtime.call(self._config.request_timeout_s):
                await runtime.wait_heads()
            if runtime.list.lacks(runtime.list.newest(limit)):
                with self._asking() as api:
                    await runtime.list.complete(limit, api._recent_rows)
        with runtime.call(math.inf):  # no row is read once the client is closed
            return await runtime.list.summaries(limit)

    async def members(
        self, conversation_id: str, *, cursor: str | None = None, limit: int = 50
    ) -> MemberPage:
        """One page of the members, by user id; `next_cursor` leads to the next. Asked over HTTP.

        Raises:
            NotFoundError: Not a member.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        with self._asking() as api:
            return await api.members(conversation_id, cursor=cursor, limit=limit)

    @property
    def heads(self) -> dict[str, ev.Head]:
        """Where each of the user's conversations stands, by id.

        `delivered_seq` is what this device holds; `read_seq` counts what was marked read here, also offline.
        """
        runtime = self._entered_runtime()
        return runtime.conversations.snapshot(runtime.cursors.wanted_reads)

    @property
    def user_id(self) -> str:
        """The user's id, as the server gave it, also to the process before; "" before the first login."""
        return self._entered_runtime().conversations.user_id

    @property
    def device_id(self) -> str:
        """This device."""
        return self._device_id

    @property
    def stopped(self) -> Exception | None:
        """Why the client has stopped for good (a refused login, a ban, another session of this device, a fault).

        None while it runs or tries to, and when it was merely closed; readable after the end too. Once it is set,
        nothing is sent or received any more and the events end.
        """
        runtime = self._runtime
        return self._stopped if runtime is None else runtime.status.stopped

    @property
    def last_failure(self) -> Exception | None:
        """Why there is no connection: what the last try failed of, or the last connection ended with.

        None while connected, and before the first try ended; readable after the end too. Its message says what to look
        at (address, certificate, proxy, login); a `ConnectFailedError` has it as `kind` and `status`.
        """
        runtime = self._runtime
        return self._last_failure if runtime is None else runtime.status.last_failure

    @property
    def pending_count(self) -> int:
        """Messages without a final answer; readable after the end too."""
        runtime = self._runtime
        return self._pending_count if runtime is None else runtime.outbox.pending_count

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Return once a login holds.

        Raises:
            DeadlineExceededError: Not in time; the reason of the last failed try is in its message and its cause.
            ClosedError: The client is closed, or has stopped for good; then its cause says why.
        """
        runtime = self._open_runtime()
        with runtime.call(wait_of(timeout, self._config.request_timeout_s)):
            await runtime.status.wait_connected()

    def reconnect(self) -> None:
        """Make another connection at once: for an app that knows that the network changed.

        The connection there is ends, and so does a try under way, at whichever point; the wait before the next try is
        left out, but not what a server asked to wait.
        Nothing is lost by it. By itself the client does so only where the machine slept and the server does not answer
        any more.
        """
        self._open_runtime().reconnect()

    async def check_connection(self, timeout: float | None = None) -> bool:
        """Whether the server answers now, over the connection that there is. If not, another one is made at once.

        Without a connection, or once it has ended, the answer is False at once, and the wait before the next try is
        left out, but not what a server asked to wait; a try under way goes on.

        Args:
            timeout: Seconds to wait for a sign of life; `probe_timeout_s` by default.

        Raises:
            ClosedError: The client is closed.
        """
        runtime = self._open_runtime()
        wait_s = wait_of(timeout, self._config.probe_timeout_s)
        connection = runtime.connection
        with runtime.call(math.inf):  # the wait has its own end
            if connection is not None and await connection.answers(wait_s):
                return True
        if runtime.connection is None:
            runtime.hurry()
        elif runtime.connection is connection:
            runtime.reconnect()
        return False

    async def _next_event(self) -> ChatEvent | None:
        runtime = self._runtime
        if runtime is None:
            return None
        runtime.check_loop()
        with self._sole_consumer():
            delivery = await runtime.deliveries.take()
        return None if delivery is None else delivery.event

    @contextmanager
    def _sole_consumer(self) -> Iterator[None]:
        if self._consuming:
            raise ClientError("another task is consuming the events; there can be one at a time")
        self._consuming = True
        try:
            yield
        finally:
            self._consuming = False

    @contextmanager
    def _asking(self) -> Iterator[ChatApi]:
        """The HTTP side, for one call within its deadline."""
        api = self._api()
        with self._open_runtime().call(self._config.request_timeout_s):
            yield api

    @contextmanager
    def _transferring(self) -> Iterator[ChatApi]:
        """The HTTP side, for one call that takes as long as its bytes do."""
        api = self._api()
        with self._open_runtime().call(math.inf):
            yield api

    def _api(self) -> ChatApi:
        runtime = self._open_runtime()
        if runtime.api is None:
            runtime.api = ChatApi.over(self._http(self._config.request_timeout_s), self._ports)
        return runtime.api

    def _http(self, timeout_s: float) -> Http:
        return Http(
            self._url,
            self._tokens,
            self._device_id,
            timeout_s,
            ATTEMPTS_MAX,
            self._network,
            None,
            self._ports,
        )

    def _new_key(self) -> str:
        return self._ports.ids.token_bytes(16).hex()

    def _sending_runtime(self) -> ClientRuntime:
        runtime = self._open_runtime()
        runtime.status.check_running()
        runtime.batches.check_in_step()
        return runtime

    def _open_runtime(self) -> ClientRuntime:
        runtime = self._entered_runtime()
        runtime.check_open()
        return runtime

    def _entered_runtime(self) -> ClientRuntime:
        if self._runtime is None:
            raise ClosedError("use the client inside `async with`")
        return self._runtime
