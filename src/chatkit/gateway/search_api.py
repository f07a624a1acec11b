"""The HTTP request that searches. Listed among the operations of `http_api`."""

from __future__ import annotations

from starlette.responses import Response

from ..errors import BadRequestError
from ..server.entries import log_entry
from ..server.search_verbs import SEARCH_LIMIT_MAX, wanted_of
from ..server.searching import Found
from ..server.server import ChatServer
from ..wire import events as ev
from ..wire import http as wire
from ..wire.codec import JSON
from .call import Call, checked
from .openapi import Operation
from .responder import json_response

_LIMIT = 20


class SearchApi:
    """Handler of this request.

    Args:
        server: Whose messages are searched.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def operations(self) -> list[Operation]:
        """What there is."""
        query = ("q", "conversationId?", "senderId", "after", "before", "cursor", "limit")
        return [Operation("GET", "/v1/search", self._search, wire.SearchResult, query=query)]

    async def _search(self, call: Call) -> Response:
        given = call.request.query_params
        query = given.get("q")
        if query is None:
            raise BadRequestError("`q` is missing")
        wanted = wanted_of(
            call.user_id,
            query,
            _id(given.get("conversationId")),
            _id(given.get("senderId")),
            call.number("after", 0),
            call.number("before", ev.SEQ_MAX, least=1),
        )
        limit = min(call.limit(_LIMIT), SEARCH_LIMIT_MAX)
        self._server.allowance.search(call.user_id)
        async with self._server.reads.turn(call.user_id):
            page = await self._server.searching.search(wanted, given.get("cursor") or None, limit)
        return json_response(
            wire.SearchResult([_row(it) for it in page.found], page.next_cursor, page.up_to_date)
        )


def _id(text: str | None) -> str | None:
    return None if text is None else str(checked(text, ev.Id))


def _row(it: Found) -> wire.SearchRow:
    return wire.SearchRow(log_entry(it.entry, JSON), it.field, it.hit.highlights, it.hit.snippet)
