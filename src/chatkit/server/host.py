"""The verbs for hosts, which act on their own authority: no token is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import BadRequestError
from ..storage.base import Appended, Conversation, Created, Done, MembersChanged, Store
from ..types import ConversationType, Payload, Sent
from ..wire import events as ev
from ..wire.http import Title
from .engine import Engine


class HostVerbs:
    """What a host may have done in the name of users; `ChatServer` is one.

    Attributes:
        engine: The verbs of users.
        store: For reads.
    """

    def __init__(self, engine: Engine, store: Store) -> None:
        self.engine = engine
        self.store = store

    async def create_conversation(
        self,
        kind: ConversationType,
        creator_id: str,
        member_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        title: str = "",
    ) -> Conversation:
        """Create a conversation, or return the existing one that is the same.

        Raises:
            BadRequestError: No valid ids, kind or title, not two members for a SINGLE, or too many for a group.
            ConflictError: The id belongs to another conversation.
            UnavailableError: Storage refused; a retry is safe.

        Source: docs/protocol.md#post-v1conversations
        """
        check_value(ConversationType, "kind of conversation", kind)
        check_value(Title, "title", title)
        check_ids(creator_id, *_listed(member_ids))
        if conversation_id is not None:
            check_ids(conversation_id)
        command = self.engine.create(kind, creator_id, tuple(member_ids), conversation_id, title)
        return (await self.engine.execute(command, Created)).conversation

    async def send(
        self, conversation_id: str, sender_id: str, content: str | Payload, *, client_msg_id: str
    ) -> Sent:
        """Send a message as a user; returns once it is durable. The same key again gets the same answer.

        Raises:
            RefusedError: It was not stored; the class says why and whether a retry may help.
        """
        check_ids(conversation_id, sender_id)
        check_value(ev.ClientMsgId, "clientMsgId", client_msg_id)
        payload = {"type": "TEXT", "text": content} if isinstance(content, str) else content
        command = self.engine.append(conversation_id, sender_id, client_msg_id, payload)
        entry = (await self.engine.execute(command, Appended)).entry
        return Sent(conversation_id, client_msg_id, entry.message_id, entry.seq, entry.server_ts, entry.epoch)

    async def add_members(self, conversation_id: str, by: str, user_ids: Sequence[str]) -> Conversation:
        """Add users to a group in the name of its creator. Raises RefusedError."""
        check_ids(conversation_id, by, *_listed(user_ids))
        command = self.engine.add(conversation_id, by, tuple(user_ids))
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def remove_member(self, conversation_id: str, by: str, user_id: str) -> Conversation:
        """End a membership; acts on live sessions at once. Raises RefusedError."""
        check_ids(conversation_id, by, user_id)
        command = self.engine.remove(conversation_id, by, user_id)
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def renew_epoch(self, conversation_id: str) -> str:
        """Give a restored log a new identity: all clients drop their cursors and sync afresh.

        Returns:
            The new epoch. Live sessions hear of it a moment later.

        Raises:
            BadRequestError: No valid id.
            NotFoundError: There is no such conversation.
            UnavailableError: Storage refused or did not answer in time; the log may have got a new epoch.
        """
        check_ids(conversation_id)
        command = self.engine.renew_epoch(conversation_id)
        await self.engine.execute(command, Done)
        return command.epoch


def check_ids(*values: object) -> None:
    """Hold ids that a host gives to the alphabet of ids. Raises BadRequestError."""
    for value in values:
        check_value(ev.Id, "id", value)


def _listed(user_ids: Sequence[str]) -> Sequence[str]:
    """A text is a sequence of texts too, and would name a user by each of its letters. Raises BadRequestError."""
    if isinstance(user_ids, str):
        raise BadRequestError(f"{user_ids[:128]!r} is one id; give a list of ids")
    return user_ids


def check_value(kind: Any, name: str, value: object, *, shown: bool = True) -> None:
    """Hold what a host gives to the values of the contract; a secret is not shown. Raises BadRequestError."""
    try:
        msgspec.convert(value, kind)
        str(value).encode()
    except (msgspec.ValidationError, UnicodeEncodeError):  # a lone surrogate cannot be stored
        words = repr(value)[:128] if shown else "this"
        raise BadRequestError(f"{words} is not a valid {name}") from None
