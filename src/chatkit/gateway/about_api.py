"""The HTTP requests about what a conversation is called, what it is for and what is pinned in it.

Listed among the operations of `http_api`.
"""

from __future__ import annotations

from sys import intern  # `omit_defaults` compares words by identity

from msgspec import UNSET
from starlette.responses import Response

from ..server.entries import log_entry
from ..server.server import ChatServer
from ..storage.base import Conversation, Updated
from ..wire import http as wire
from ..wire.codec import JSON
from ..wire.payload import title_payload
from .call import Call
from .openapi import Operation
from .responder import json_response


class AboutApi:
    """Handlers of these requests.

    Args:
        server: Whose engine carries them out.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def operations(self) -> list[Operation]:
        """What there is."""
        conversation = "/v1/conversations/{conversation_id}"
        return [
            Operation("PATCH", conversation, self._update, wire.ConversationResult, body=wire.UpdateBody),
            Operation("GET", conversation + "/pins", self._pins, wire.PinsResult),
        ]

    async def _update(self, call: Call) -> Response:
        """The title and the description first; then what is no text. Each is done, or refused, by itself."""
        body, conversation_id = await call.body(wire.UpdateBody), call.path("conversation_id")
        await self._retitle(call, conversation_id, body)
        command = self._server.engine.update(
            conversation_id,
            call.user_id,
            owner_id=None if body.owner_id is UNSET else body.owner_id,
            history=None if body.history is UNSET else body.history,
        )
        outcome = await self._server.engine.execute(command, Updated, call.proof)
        return json_response(conversation_result(outcome.conversation))

    async def _retitle(self, call: Call, conversation_id: str, body: wire.UpdateBody) -> None:
        """Send a TITLE entry with what is another than before; a moderator is asked about it first."""
        title = None if body.title is UNSET else body.title
        description = None if body.description is UNSET else body.description
        if (title, description) == (None, None):
            return
        async with self._server.reads.turn(call.user_id):
            found = await self._server.store.conversation(conversation_id, call.user_id)
        title = None if title == found.title else title
        description = None if description == found.description else description
        if (title, description) != (None, None):
            payload, key = title_payload(title, description), self._server.engine.new_key()
            await self._server.engine.send_and_wait(call.proof, conversation_id, key, payload)

    async def _pins(self, call: Call) -> Response:
        found = await self._server.sync.pins(call.path("conversation_id"), call.user_id)
        rows = [
            wire.PinRow(
                pin.seq,
                pin.by_id,
                pin.at_ms,
                pin.pinned_by_seq,
                UNSET if pin.entry is None else log_entry(pin.entry, JSON),
            )
            for pin in found
        ]
        return json_response(wire.PinsResult(rows))


def conversation_result(found: Conversation) -> wire.ConversationResult:
    """A conversation as it travels."""
    return wire.ConversationResult(
        found.conversation_id,
        found.type,
        found.title,
        found.epoch,
        found.head_seq,
        list(found.member_ids),
        found.member_count,
        intern(found.history),
        intern(found.description),
    )
