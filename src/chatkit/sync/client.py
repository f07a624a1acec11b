"""`ChatClient` without `await`. Made by `make sync`; changes belong into client/client.py."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

from ..client import client as module
from ..client._token import Token
from ..client.api import MemberPage, Status
from ..client.config import ClientConfig
from ..client.events import ChatEvent, Delivery
from ..client.media import OnProgress, Upload
from ..client.outbox import Cancelled, PendingMessage
from ..client.store.base import LocalStore
from ..client.validate import Address, Moment
from ..observability.instrument import Instrument
from ..ports import Ports
from ..transport.base import Connector
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
from ._blocking import Blocking, in_thread


class ChatClient(Blocking[module.ChatClient]):
    """As `chatkit.ChatClient`, which says more, without `await`: each call blocks its thread.

    Only for use inside `with`, by any number of threads.
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
        super().__init__(
            module.ChatClient(
                url,
                token=token,
                device_id=device_id,
                store=store,
                codec=codec,
                ssl_context=ssl_context,
                proxy=proxy,
                headers=headers,
                connector=connector,
                config=config,
                ports=ports,
                instruments=instruments,
            )
        )

    @classmethod
    def from_env(
        cls,
        *,
        device_id: str | None = None,
        store: LocalStore | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """A client as the environment says, for programs that are set up from outside.

        As `from_env` of `chatkit.ChatClient`, which says more.
        """
        blocking = cls.__new__(cls)
        Blocking.__init__(blocking, module.ChatClient.from_env(device_id=device_id, store=store, **options))
        return blocking

    def events(self) -> Iterator[ChatEvent]:
        """Everything that happens, for `for`: each event at most once. One consumer at a time.

        As `events` of `chatkit.ChatClient`, which says more.
        """
        return self._iterate(self._made.events())

    def consume(
        self,
        handler: Callable[[Delivery], object],
        *,
        concurrency: int = 1,
        on_error: Callable[[Delivery, Exception], float | None] | None = None,
    ) -> None:
        """Hand every event to `handler`, at least once: in a worker thread, where it may block and use this object.

        As `consume` of `chatkit.ChatClient`, which says more.
        """
        errors = None if on_error is None else in_thread(on_error)
        self._wait(self._made.consume, in_thread(handler), concurrency=concurrency, on_error=errors)

    def stop_consuming(self) -> None:
        """Have the `consume` that runs hand out nothing more, and return once the handlers that run have.

        As `stop_consuming` of `chatkit.ChatClient`, which says more.
        """
        return self._run(self._made.stop_consuming)

    def app_state(self, conversation_id: str) -> bytes:
        """What a handler of `consume` kept of this conversation with `Taken`; b"" if nothing. Asks nobody.

        As `app_state` of `chatkit.ChatClient`, which says more.
        """
        return self._run(self._made.app_state, conversation_id)

    def send(
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

        As `send` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(
            self._made.send,
            conversation_id,
            content,
            reply_to=reply_to,
            mentions=mentions,
            client_msg_id=client_msg_id,
            timeout=timeout,
        )

    def edit(
        self,
        message: Message | Sent,
        content: str | Payload,
        *,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Say one's own message in other words; `history` shows them in its place, and what was said before stays.

        As `edit` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.edit, message, content, client_msg_id=client_msg_id, timeout=timeout)

    def react(
        self,
        message: Message | Sent,
        reaction: str,
        *,
        removed: bool = False,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """React to a message with an emoji or other short text, or (`removed`) no more; it goes the way of `send`.

        As `react` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(
            self._made.react, message, reaction, removed=removed, client_msg_id=client_msg_id, timeout=timeout
        )

    def pin(
        self,
        message: Message | Sent,
        *,
        pinned: bool = True,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Pin a message, or (`pinned=False`) unpin it; it goes the way of `send`. `pins` says what is pinned.

        As `pin` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(
            self._made.pin, message, pinned=pinned, client_msg_id=client_msg_id, timeout=timeout
        )

    def pins(self, conversation_id: str) -> list[Pin]:
        """What is pinned of what the user may see, pinned last first, at most 50; asked over HTTP.

        As `pins` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.pins, conversation_id)

    def send_file(
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

        As `send_file` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(
            self._made.send_file,
            conversation_id,
            source,
            mime=mime,
            name=name,
            client_msg_id=client_msg_id,
            timeout=timeout,
            on_progress=on_progress,
        )

    def upload(
        self,
        source: bytes | str | os.PathLike[str],
        *,
        mime: str | None = None,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Upload:
        """Upload a file; returns once the server has all of it, durably. A message that names it is sent by `send`.

        As `upload` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.upload, source, mime=mime, name=name, on_progress=on_progress)

    @overload
    def download(
        self, message: Message | str, to: None = None, *, on_progress: OnProgress | None = None
    ) -> bytes: ...

    @overload
    def download(
        self, message: Message | str, to: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> Path: ...

    def download(
        self,
        message: Message | str,
        to: str | os.PathLike[str] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> bytes | Path:
        """The file that a message names. What was cut off goes on, as `upload` does.

        As `download` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.download, message, to, on_progress=on_progress)  # type: ignore[arg-type]

    def pending(self) -> list[PendingMessage]:
        """The messages of this device that have no answer yet, oldest first; at most `pending_max`.

        As `pending` of `chatkit.ChatClient`, which says more.
        """
        return self._run(self._made.pending)

    def cancel(self, conversation_id: str, client_msg_id: str) -> Cancelled:
        """Take back a message that is queued and surely never left.

        As `cancel` of `chatkit.ChatClient`, which says more.
        """
        return self._run(self._made.cancel, conversation_id, client_msg_id)

    def history(
        self, conversation_id: str, *, before_seq: int | None = None, limit: int = 50, fetch: bool = True
    ) -> list[Message]:
        """The newest entries below `before_seq`, ascending: from the local store, completed from the server.

        As `history` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(
            self._made.history, conversation_id, before_seq=before_seq, limit=limit, fetch=fetch
        )

    def mark_read(self, conversation_id: str, up_to_seq: int) -> None:
        """Everything up to here was read, by this user. Returns once it is kept locally; it is sent by itself.

        As `mark_read` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.mark_read, conversation_id, up_to_seq)

    def recall(self, message_id: str, *, timeout: float | None = None) -> Sent:
        """Withdraw one's own message. Safe to repeat; waits for a connection up to its deadline.

        As `recall` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.recall, message_id, timeout=timeout)

    def report(self, message_id: str, reason: str, note: str = "") -> None:
        """Tell the administrators of a message of somebody else, as `ChatApi.report` says; asked over HTTP.

        As `report` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.report, message_id, reason, note)

    def typing(self, conversation_id: str) -> None:
        """Show the other members that the user is writing; at most every 3 s per conversation, never queued.

        As `typing` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.typing, conversation_id)

    def search(
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

        As `search` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(
            self._made.search,
            query,
            conversation_id=conversation_id,
            sender_id=sender_id,
            after=after,
            before=before,
            cursor=cursor,
            limit=limit,
        )

    def set_presence(self, state: Literal["ONLINE", "AWAY"]) -> None:
        """Say whether the user is at this device or away from it; it holds for later connections too.

        As `set_presence` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.set_presence, state)

    def presence(self, user_ids: Sequence[str]) -> list[UserPresence]:
        """Who of these is online now, in this order; asked over HTTP. `PresenceChanged` says what changes later.

        As `presence` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.presence, user_ids)

    def status(self, message_id: str) -> Status:
        """How far one's own message has got, per user and device; asked over HTTP.

        As `status` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.status, message_id)

    def register_push(self, provider: str, token: str, *, hide_body: bool = False) -> None:
        """This device is woken by pushes of this provider from now on, as `ChatApi.register_push` says; over HTTP.

        As `register_push` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.register_push, provider, token, hide_body=hide_body)

    def unregister_push(self) -> None:
        """This device is woken no more; without a registration nothing happens. Asked over HTTP.

        As `unregister_push` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.unregister_push)

    def mute(
        self,
        conversation_id: str,
        until: Moment | None = None,
        *,
        level: Literal["MENTIONS", "NONE"] = "NONE",
    ) -> None:
        """The user's devices are not woken for a conversation, as `ChatApi.mute` says; asked over HTTP.

        As `mute` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.mute, conversation_id, until, level=level)

    def unmute(self, conversation_id: str) -> None:
        """The user's devices are woken for a conversation again; asked over HTTP.

        As `unmute` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.unmute, conversation_id)

    def message_state(self, conversation_id: str, seq: int) -> MessageStatus:
        """SENT, DELIVERED or READ of one's own message, from what this device has heard; asks nobody.

        As `message_state` of `chatkit.ChatClient`, which says more.
        """
        return self._run(self._made.message_state, conversation_id, seq)

    def conversations(self, *, limit: int = 50, fetch: bool = True) -> list[ConversationSummary]:
        """The user's conversations, newest activity first, each with its title, last message and unread count.

        As `conversations` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.conversations, limit=limit, fetch=fetch)

    def members(self, conversation_id: str, *, cursor: str | None = None, limit: int = 50) -> MemberPage:
        """One page of the members, by user id; `next_cursor` leads to the next. Asked over HTTP.

        As `members` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.members, conversation_id, cursor=cursor, limit=limit)

    @property
    def heads(self) -> dict[str, ev.Head]:
        """Where each of the user's conversations stands, by id.

        As `heads` of `chatkit.ChatClient`, which says more.
        """
        return self._run(lambda: self._made.heads)

    @property
    def user_id(self) -> str:
        """The user's id, as the server gave it, also to the process before; "" before the first login.

        As `user_id` of `chatkit.ChatClient`, which says more.
        """
        return self._run(lambda: self._made.user_id)

    @property
    def device_id(self) -> str:
        """This device.

        As `device_id` of `chatkit.ChatClient`, which says more.
        """
        return self._run(lambda: self._made.device_id)

    @property
    def stopped(self) -> Exception | None:
        """Why the client has stopped for good (a refused login, a ban, another session of this device, a fault).

        As `stopped` of `chatkit.ChatClient`, which says more.
        """
        return self._run(lambda: self._made.stopped)

    @property
    def last_failure(self) -> Exception | None:
        """Why there is no connection: what the last try failed of, or the last connection ended with.

        As `last_failure` of `chatkit.ChatClient`, which says more.
        """
        return self._run(lambda: self._made.last_failure)

    @property
    def pending_count(self) -> int:
        """Messages without a final answer; readable after the end too.

        As `pending_count` of `chatkit.ChatClient`, which says more.
        """
        return self._run(lambda: self._made.pending_count)

    def wait_connected(self, timeout: float | None = None) -> None:
        """Return once a login holds.

        As `wait_connected` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.wait_connected, timeout)

    def reconnect(self) -> None:
        """Make another connection at once: for an app that knows that the network changed.

        As `reconnect` of `chatkit.ChatClient`, which says more.
        """
        return self._run(self._made.reconnect)

    def check_connection(self, timeout: float | None = None) -> bool:
        """Whether the server answers now, over the connection that there is. If not, another one is made at once.

        As `check_connection` of `chatkit.ChatClient`, which says more.
        """
        return self._wait(self._made.check_connection, timeout)
