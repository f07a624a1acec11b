"""`GET /v1/conversations`: the list of a user's conversations, by id or by activity. Its route is in `http_api`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from sys import intern  # `omit_defaults` compares words by identity
from typing import Final

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from ..errors import BadRequestError
from ..server.entries import log_entry, notify_of
from ..server.server import ChatServer
from ..storage.base import ListedConversation, RecentPlace
from ..types import Member
from ..wire import events as ev
from ..wire import http as wire
from ..wire.codec import JSON
from .call import Call, checked
from .openapi import Operation
from .responder import json_response

PREVIEW_BYTES_MAX: Final = 512 * 1024
"""About so many bytes of last messages are in one page, and one of any size."""


class ListApi:
    """The list, for one server."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def operations(self) -> list[Operation]:
        """The requests of this part."""
        query = ("order", "cursor", "limit")
        return [
            Operation("GET", "/v1/conversations", self._conversations, wire.ConversationsResult, query=query)
        ]

    async def _conversations(self, call: Call) -> Response:
        order = call.request.query_params.get("order", "id")
        if order == "activity":
            return await self._by_activity(call)
        if order != "id":
            raise BadRequestError("`order` must be id or activity")
        limit = call.limit(wire.PAGE_LIMIT)
        async with self._server.reads.turn(call.user_id):
            rows = await self._server.store.conversations(call.user_id, call.device_id, call.cursor(), limit)
        return self._answer(rows, rows[-1].head.conversation_id if len(rows) == limit else None)

    async def _by_activity(self, call: Call) -> Response:
        limit, place = call.limit(wire.PAGE_LIMIT), _place(call.request.query_params.get("cursor"))
        bounds = (call.device_id, place, limit, PREVIEW_BYTES_MAX)
        async with self._server.reads.turn(call.user_id):
            page = await self._server.store.recent(call.user_id, *bounds)
        return self._answer(page.rows, None if page.next_place is None else "{}/{}".format(*page.next_place))

    def _answer(self, rows: Sequence[ListedConversation], next_cursor: str | None) -> Response:
        now_ms = self._server.ports.clock.now_ms()
        return json_response(wire.ConversationsResult([_row(row, now_ms) for row in rows], next_cursor))


def silenced_until(member: Member, now_ms: int) -> int:
    """Until when a member may not write; 0 once that is over."""
    return member.silenced_until_ms if member.silenced_until_ms > now_ms else 0


def _place(text: str | None) -> RecentPlace | None:
    """Where a list by activity goes on: its cursor, which nobody else need understand."""
    if not text:
        return None
    activity_ms, _, conversation_id = text.partition("/")
    if not re.fullmatch("[0-9]{1,16}", activity_ms):
        raise BadRequestError("`cursor` is not one of a list by activity")
    return int(activity_ms), checked(conversation_id, ev.Id)


def _row(row: ListedConversation, now_ms: int) -> wire.ConversationRow:
    return wire.ConversationRow(
        **msgspec.structs.asdict(row.head),
        title=row.title,
        unread=row.unread,
        last_activity_ts=row.last_activity_ms,
        muted_until=row.muted_until_ms if row.muted_until_ms > now_ms else 0,
        notify=notify_of(row.muted_until_ms if row.muted_until_ms > now_ms else 0, row.but_mentions),
        unread_mentions=row.unread_mentions,
        description=intern(row.description),
        member_role=intern(row.member.role),
        silenced_until=silenced_until(row.member, now_ms),
        history=intern(row.history),
        last_message=log_entry(row.last, JSON) if row.last is not None and row.last.payload else UNSET,
    )
