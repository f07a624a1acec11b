"""Clients and servers that write down what they are asked and what they tell, for the checker.

They are the real ones with a `History` beside them; what a call answers or raises is not changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from ..client.client import ChatClient, EventStream
from ..client.events import ChatEvent
from ..errors import QueueFullError, RefusedError, UnavailableError
from ..server.server import ChatServer
from ..storage.base import Conversation
from ..types import ConversationType, Identity, Message, Payload, Sent
from ..wire.codec import CODECS
from .history import Call, History
from .line import Line
from .network import Observe

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
        self, op: str, act: Awaitable[_Answer], *, user_id: str | None = None, **args: Any
    ) -> _Answer:
        """Await `act`, noted from its invocation to its end.

        Args:
            user_id: In whose name, if the host acts.
        """
        user_id = self._user_id if user_id is None else user_id
        call = self.history.invoke(user_id, self._device_id, op, **args)
        try:
            answer = await act
        except BaseException as error:
            self._ended(call, error)
            raise
        self.history.ok(call, **plain(answer))
        return answer

    def tell(self, life: int, event: ChatEvent) -> None:
        """Note an event that the app is given in one of its lives."""
        self.history.tell(self._user_id, self._device_id, life, event)

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
    """The events of a client, each noted as it is told."""

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
        life: How often this device was started, from 1.
        options: Those of `ChatClient`.
    """

    def __init__(self, recorder: Recorder, life: int, **options: Any) -> None:
        super().__init__("ws://chat.test", **options)
        self._recorder = recorder
        self._life = life

    def events(self) -> RecordingStream:
        """As `ChatClient.events`."""
        super().events()
        return RecordingStream(self, partial(self._recorder.tell, self._life))

    async def send(
        self,
        conversation_id: str,
        content: str | Payload,
        *,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """As `ChatClient.send`."""
        key = self._new_key() if client_msg_id is None else client_msg_id
        return await self._recorder.call(
            "send",
            super().send(conversation_id, content, client_msg_id=key, timeout=timeout),
            conversation_id=conversation_id,
            client_msg_id=key,
            payload=payload_of(content),
        )

    async def history(
        self, conversation_id: str, *, before_seq: int | None = None, limit: int = 50
    ) -> list[Message]:
        """As `ChatClient.history`."""
        return await self._recorder.call(
            "history",
            super().history(conversation_id, before_seq=before_seq, limit=limit),
            conversation_id=conversation_id,
            before_seq=before_seq,
            limit=limit,
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
            "recall", super().recall(message_id, timeout=timeout), message_id=message_id
        )


class RecordingServer(ChatServer):
    """A `ChatServer` whose host's calls are noted; what its clients do is noted by them.

    Args:
        history: Where.
        parts: Those of `ChatServer`.
    """

    def __init__(self, history: History, **parts: Any) -> None:
        super().__init__(**parts)
        self._recorder = Recorder(history)

    async def create_conversation(
        self,
        kind: ConversationType,
        creator_id: str,
        member_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        title: str = "",
    ) -> Conversation:
        """As `ChatServer.create_conversation`."""
        return await self._recorder.call(
            "create",
            super().create_conversation(
                kind, creator_id, member_ids, conversation_id=conversation_id, title=title
            ),
            user_id=creator_id,
            conversation_id=conversation_id,
            type=kind,
            member_ids=[creator_id, *member_ids],
        )

    async def send(
        self, conversation_id: str, sender_id: str, content: str | Payload, *, client_msg_id: str
    ) -> Sent:
        """As `ChatServer.send`."""
        return await self._recorder.call(
            "send",
            super().send(conversation_id, sender_id, content, client_msg_id=client_msg_id),
            user_id=sender_id,
            conversation_id=conversation_id,
            client_msg_id=client_msg_id,
            payload=payload_of(content),
        )

    async def add_members(self, conversation_id: str, by: str, user_ids: Sequence[str]) -> Conversation:
        """As `ChatServer.add_members`."""
        return await self._recorder.call(
            "add",
            super().add_members(conversation_id, by, user_ids),
            user_id=by,
            conversation_id=conversation_id,
            user_ids=list(user_ids),
        )

    async def remove_member(self, conversation_id: str, by: str, user_id: str) -> Conversation:
        """As `ChatServer.remove_member`."""
        return await self._recorder.call(
            "remove",
            super().remove_member(conversation_id, by, user_id),
            user_id=by,
            conversation_id=conversation_id,
            user_ids=[user_id],
        )

    async def renew_epoch(self, conversation_id: str) -> str:
        """As `ChatServer.renew_epoch`."""
        answer = await self._recorder.call(
            "renew_epoch", _epoch(super().renew_epoch(conversation_id)), conversation_id=conversation_id
        )
        return answer["epoch"]


async def _epoch(renewing: Awaitable[str]) -> dict[str, str]:
    return {"epoch": await renewing}


def payload_of(content: str | Payload) -> Payload:
    """What a text stands for."""
    return {"type": "TEXT", "text": content} if isinstance(content, str) else content


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
