"""What the host does in a script, noted in the history; and a look into the log behind everybody's back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chatkit.errors import UnavailableError
from chatkit.server.server import ChatServer
from chatkit.storage.base import ConversationHead, Entry, Store
from chatkit.testing.recording import Recorder
from chatkit.types import ConversationType, Sent

from ..dumps import CompleteHistory
from .actor import text_of

_ENTRIES_MAX = 1_000


class Host:
    """The host of all servers.

    Args:
        history: Where it is noted.
        log: The store, past everything that is put before it.
        server: The server that it asks.

    Attributes:
        conversation_ids: Conversations that were created, in order.
    """

    def __init__(self, history: CompleteHistory, log: Store, server: Callable[[], ChatServer]) -> None:
        self._recorder = Recorder(history)
        self._log = log
        self._server = server
        self.conversation_ids: list[str] = []

    async def create(
        self, conversation_id: str, creator_id: str, *member_ids: str, kind: ConversationType = "GROUP"
    ) -> None:
        """Create a conversation."""
        self.conversation_ids.append(conversation_id)
        await self._recorder.call(
            "create",
            self._server().create_conversation(kind, creator_id, member_ids, conversation_id=conversation_id),
            user_id=creator_id,
            conversation_id=conversation_id,
            type=kind,
            member_ids=[creator_id, *member_ids],
        )

    async def send(self, conversation_id: str, sender_id: str, client_msg_id: str) -> Sent:
        """Send a message in the name of a user."""
        payload = {"type": "TEXT", "text": text_of(client_msg_id)}
        return await self._recorder.call(
            "send",
            self._server().send(conversation_id, sender_id, payload, client_msg_id=client_msg_id),
            user_id=sender_id,
            conversation_id=conversation_id,
            client_msg_id=client_msg_id,
            payload=payload,
        )

    async def add(self, conversation_id: str, by: str, user_id: str) -> None:
        """Make a user a member."""
        adding = self._server().add_members(conversation_id, by, [user_id])
        await self._recorder.call(
            "add", adding, user_id=by, conversation_id=conversation_id, user_ids=[user_id]
        )

    async def remove(self, conversation_id: str, by: str, user_id: str) -> None:
        """End a membership. Raises UnavailableError if storage refuses, or its answer is lost."""
        removing = self._server().remove_member(conversation_id, by, user_id)
        await self._recorder.call(
            "remove", removing, user_id=by, conversation_id=conversation_id, user_ids=[user_id]
        )

    async def renew_epoch(self, conversation_id: str) -> str:
        """Give a log a new epoch, and return it."""
        renewing = _as_answer(self._server().renew_epoch(conversation_id))
        answer = await self._recorder.call("renew_epoch", renewing, conversation_id=conversation_id)
        return answer["epoch"]

    # --- the log ---

    async def log(self, conversation_id: str) -> list[Entry]:
        """A log as the store holds it."""
        return await self._log.entries(conversation_id, 0, _ENTRIES_MAX)

    async def heads(self, user_id: str, device_id: str) -> list[ConversationHead]:
        """Where a user's conversations stand, in the order of HEADS."""
        return list(await self._log.heads(user_id, device_id))

    async def keys(self, conversation_id: str) -> list[str]:
        """The keys of users' messages in a log, in its order."""
        return [it.client_msg_id for it in await self.log(conversation_id) if it.client_msg_id is not None]

    async def stored(self, conversation_id: str, client_msg_id: str) -> Entry | None:
        """The message with this key; None if it is not stored."""
        entries = await self.log(conversation_id)
        return next((entry for entry in entries if entry.client_msg_id == client_msg_id), None)


async def unavailable(act: Awaitable[Any]) -> bool:
    """Whether a verb of the host ends with UNAVAILABLE."""
    try:
        await act
    except UnavailableError:
        return True
    return False


async def _as_answer(renewing: Awaitable[str]) -> dict[str, str]:
    return {"epoch": await renewing}
