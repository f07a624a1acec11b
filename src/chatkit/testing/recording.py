"""Clients and servers that write down what they are asked, what they answer and which events they give.

They are the real ones with a `History` beside them; what a call answers or raises is not changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from ..client.client import ChatClient, EventStream
from ..client.events import ChatEvent
from ..client.validate import mentioning, payload_of, reply
from ..errors import QueueFullError, RefusedError, UnavailableError
from ..server.login_request import LoginRequest
from ..server.pending import PendingCommand
from ..server.server import ChatServer
from ..server.session import Session
from ..storage.base import (
    AddMembers,
    AdvanceDelivered,
    AdvanceRead,
    Append,
    Appended,
    Command,
    ConfirmMessage,
    CreateConversation,
    Created,
    MembersChanged,
    Outcome,
    Recall,
    Recalled,
    RemoveMember,
    RenewEpoch,
)
from ..types import Identity, Message, MessageRef, Payload, Sent
from ..wire.codec import CODECS, Codec
from .history import Call, History
from .line import Line
from .network import LineEvent, Observe, ObserveLine
from .virtual_time import on_virtual_loop

_Answer = TypeVar("_Answer")

_REFUSED_HERE = ("send", "mark_read")
"""What a client does in its local store first: UNAVAILABLE means that the store refused, and nothing was done."""


class Recorder:
    """Writes the calls of one app, or of the host, into a history.

    Args:
        user_id: Whose; empty for the host.
        device_id: From where; empty for the host.
    """

    def __init__(self, history: History, user_id: str = "", device_id: str = "") -> None:
        self.history = history
        self._user_id = user_id
        self._device_id = device_id

    async def call(
        self,
        op: str,
        act: Awaitable[_Answer],
        *,
        user_id: str | None = None,
        noted: Callable[[_Answer], Any] | None = None,
        **args: Any,
    ) -> _Answer:
        """Await `act`, noted from its invocation to its end.

        Args:
            user_id: In whose name, if the host acts.
            noted: What of the answer is noted; None: all of it.
        """
        user_id = self._user_id if user_id is None else user_id
        call = self.history.invoke(user_id, self._device_id, op, **args)
        try:
            answer = await act
        except BaseException as error:
            self._ended(call, error)
            raise
        self.history.ok(call, **plain(answer if noted is None else noted(answer)))
        return answer

    def app_event(self, incarnation: int, event: ChatEvent) -> None:
        """Note an event that the app is given after its start number `incarnation`."""
        self.history.app_event(self._user_id, self._device_id, incarnation, event)

    def _ended(self, call: Call, error: BaseException) -> None:
        """A refusal had no effect; of anything else nobody knows."""
        (self.history.fail if self._refused(call.op, error) else self.history.info)(call, error)

    def _refused(self, op: str, error: BaseException) -> bool:
        if isinstance(error, UnavailableError):
            return bool(self._device_id) and op in _REFUSED_HERE
        if isinstance(error, RefusedError):
            return not error.retryable
        return isinstance(error, QueueFullError)


def plain(answer: Any) -> dict[str, Any]:
    """An answer as the history keeps it: its fields by name; what is a list, as `items`."""
    if answer is None:
        return {}
    if isinstance(answer, dict):
        return answer
    if isinstance(answer, list):
        return {"items": answer}
    return {name: getattr(answer, name) for name in answer.__struct_fields__}


class RecordingStream(EventStream):
    """The events of a client, each noted as the app gets it."""

    def __init__(self, client: ChatClient, tell: Callable[[ChatEvent], None]) -> None:
        super().__init__(client)
        self._tell = tell

    async def __anext__(self) -> ChatEvent:
        event = await super().__anext__()
        self._tell(event)
        return event


class RecordingClient(ChatClient):
    """A `ChatClient` of a user that is known before the login.

    Args:
        recorder: Of this user and device.
        incarnation: How often this device was started, from 1.
        options: Those of `ChatClient`.
    """

    def __init__(self, recorder: Recorder, incarnation: int, **options: Any) -> None:
        super().__init__("ws://chat.test", **options)
        self._recorder = recorder
        self._incarnation = incarnation

    def events(self) -> RecordingStream:
        """As `ChatClient.events`."""
        super().events()
        return RecordingStream(self, partial(self._recorder.app_event, self._incarnation))

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
        """As `ChatClient.send`."""
        key = self._new_key() if client_msg_id is None else client_msg_id
        content = mentioning(content, mentions) if mentions else content
        content = content if reply_to is None else reply(content, reply_to)
        return await self._recorder.call(
            "send",
            super().send(conversation_id, content, client_msg_id=key, timeout=timeout),
            conversation_id=conversation_id,
            client_msg_id=key,
            payload=payload_of(content),
            **_deadline(self._config.send_timeout_s if timeout is None else timeout),
        )

    async def history(
        self,
        conversation_id: str,
        *,
        before_seq: int | None = None,
        limit: int = 50,
        fetch: bool = True,
    ) -> list[Message]:
        """As `ChatClient.history`. A look at what the device holds is no call to a server, and is not noted."""
        if fetch is False:
            return await super().history(conversation_id, before_seq=before_seq, limit=limit, fetch=False)
        return await self._recorder.call(
            "history",
            super().history(conversation_id, before_seq=before_seq, limit=limit, fetch=fetch),
            conversation_id=conversation_id,
            before_seq=before_seq,
            limit=limit,
            **_deadline(self._config.request_timeout_s),
        )

    async def mark_read(self, conversation_id: str, up_to_seq: int) -> None:
        """As `ChatClient.mark_read`."""
        await self._recorder.call(
            "mark_read",
            super().mark_read(conversation_id, up_to_seq),
            conversation_id=conversation_id,
            up_to_seq=up_to_seq,
        )

    async def recall(self, message_id: str, *, timeout: float | None = None) -> Sent:
        """As `ChatClient.recall`."""
        return await self._recorder.call(
            "recall",
            super().recall(message_id, timeout=timeout),
            message_id=message_id,
            **_deadline(self._config.request_timeout_s if timeout is None else timeout),
        )


def _deadline(timeout_s: float) -> dict[str, Any]:
    """The argument that says how long a call may last; none in real time, where nobody returns to the millisecond."""
    return {"timeout_s": timeout_s} if on_virtual_loop() else {}


class RecordingServer(ChatServer):
    """A `ChatServer` that notes whatever is asked of its engine: by the host, and over HTTP.

    What comes through sessions is noted by a `RecordingClient`, if one is at the other end.

    Args:
        history: Where.
        parts: Those of `ChatServer`.

    Attributes:
        sessions: All that were ever opened.
    """

    def __init__(self, history: History, **parts: Any) -> None:
        super().__init__(**parts)
        self.sessions: list[Session] = []
        self._recorder = Recorder(history)
        # The engine is made by the server, and this is the one place where those meet who wait for an answer.
        vars(self.engine)["submit"] = partial(self._submit, self.engine.submit)

    def connect(self, codec: Codec, wake: Callable[[], None], request: LoginRequest | None = None) -> Session:
        """As `ChatServer.connect`."""
        session = super().connect(codec, wake, request)
        self.sessions.append(session)
        return session

    async def _submit(
        self, submit: Callable[..., Awaitable[Any]], pending: PendingCommand, expected: type[Outcome]
    ) -> Any:
        asked = _asked(pending.command)
        if asked is None:
            return await submit(pending, expected)
        op, user_id, args = asked
        noted = partial(_noted, pending.command)
        return await self._recorder.call(op, submit(pending, expected), user_id=user_id, noted=noted, **args)


def _asked(command: Command) -> tuple[str, str, dict[str, Any]] | None:
    """A command as a call: its verb, in whose name, its arguments. None for those of logins and workers."""
    match command:
        case Append(conversation_id=name, sender_id=user_id, client_msg_id=key, payload=body):
            payload = msgspec.json.decode(body)
            return "send", user_id, {"conversation_id": name, "client_msg_id": key, "payload": payload}
        case Recall(message_id=message_id, by=by):
            return "recall", by or "", {"message_id": message_id}
        case CreateConversation(conversation_id=name, type=kind, creator_id=user_id, member_ids=member_ids):
            args = {"conversation_id": name, "type": kind, "member_ids": list(member_ids)}
            return "create", user_id, args | ({"title": command.title} if command.title else {})
        case AddMembers(conversation_id=name, by=by, user_ids=user_ids):
            return "add", by or "", {"conversation_id": name, "user_ids": list(user_ids)}
        case RemoveMember(conversation_id=name, by=by, user_id=removed):
            return "remove", by or "", {"conversation_id": name, "user_ids": [removed]}
        case RenewEpoch(conversation_id=name):
            return "renew_epoch", "", {"conversation_id": name}
        case AdvanceRead(conversation_id=name, user_id=user_id, up_to_seq=seq):
            return "mark_read", user_id, {"conversation_id": name, "up_to_seq": seq}
        case AdvanceDelivered(conversation_id=name, user_id=user_id, up_to_seq=seq):
            return "confirm", user_id, {"conversation_id": name, "up_to_seq": seq}
        case ConfirmMessage(message_id=message_id, user_id=user_id):
            return "confirm", user_id, {"message_id": message_id}
    return None


def _noted(command: Command, outcome: Outcome) -> Any:
    """What the answer to a call says, of the outcome of its command."""
    match outcome:
        case Appended(entry=it) | Recalled(entry=it):
            key = it.client_msg_id or ""
            return Sent(it.conversation_id, key, it.message_id, it.seq, it.server_ts, it.epoch)
        case Created(conversation=it) | MembersChanged(conversation=it):
            return it
    return {"epoch": command.epoch} if isinstance(command, RenewEpoch) else None


async def by_name(token: str) -> Identity:
    """An authenticator: every token is good, and is the id of its user."""
    return Identity(token)


def frames_into(history: History) -> Observe:
    """An observer for a `Network` that notes every frame."""

    def observe(line: Line, up: bool, frame: bytes | str) -> None:
        codec = CODECS[line.subprotocol]
        history.frame(
            line.user_id, line.device_id, frame, codec, up=up, connection=line.number, node=line.node
        )

    return observe


def lines_into(history: History) -> ObserveLine:
    """An observer for a `Network` that notes the beginning and the ends of each connection."""

    def observe(line: Line, event: LineEvent, code: int | None) -> None:
        detail = f"{line.number}, {line.user_id}/{line.device_id} and {line.node}"
        history.happened(f"connection {event}", detail if code is None else f"{detail}, {code}")

    return observe
