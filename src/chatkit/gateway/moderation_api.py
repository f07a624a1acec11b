"""The HTTP requests of administrators about what is held for review and what users reported.

Whoever asks is the actor in the audit. Listed among the operations of `admin_api`.
"""

from __future__ import annotations

from msgspec import UNSET
from starlette.responses import Response

from ..server.server import ChatServer
from ..types import ReviewOutcome
from ..wire import events as ev
from ..wire import http as wire
from .call import Call
from .openapi import Operation
from .responder import json_response


class ModerationApi:
    """Handlers of these requests."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def operations(self, prefix: str) -> list[Operation]:
        """What there is, below a path."""
        op, held, page = Operation, prefix + "/held", ("cursor", "limit")
        reports = prefix + "/reports"
        return [
            op("GET", held, self._held, wire.HeldMessagesResult, query=page),
            op("POST", held + "/{held_id}/release", self._release, wire.ReviewResult, body=wire.ReleaseBody),
            op("POST", held + "/{held_id}/refuse", self._refuse, wire.ReviewResult, body=wire.RefuseBody),
            op("GET", reports, self._reports, wire.ReportsResult, query=page),
            op(
                "POST",
                reports + "/{message_id}/resolve",
                self._resolve,
                None,
                body=wire.ResolveBody,
                status=204,
            ),
        ]

    async def _held(self, call: Call) -> Response:
        limit = call.limit(wire.PAGE_LIMIT)
        async with self._server.reads.turn(call.user_id):
            rows = await self._server.held_messages(call.number("cursor", 0), limit)
        return json_response(wire.HeldMessagesResult(rows, rows[-1].held_id if len(rows) == limit else None))

    async def _release(self, call: Call) -> Response:
        body = await call.body(wire.ReleaseBody)
        content = None if body.payload is UNSET else body.payload
        outcome = await self._server.release_held(_held_id(call), content=content, by=call.user_id)
        return json_response(_result(outcome))

    async def _refuse(self, call: Call) -> Response:
        body = await call.body(wire.RefuseBody)
        return json_response(
            _result(await self._server.refuse_held(_held_id(call), body.reason, by=call.user_id))
        )

    async def _reports(self, call: Call) -> Response:
        limit = call.limit(wire.PAGE_LIMIT)
        async with self._server.reads.turn(call.user_id):
            rows = await self._server.open_reports(call.number("cursor", 0), limit)
        return json_response(wire.ReportsResult(rows, rows[-1].report_id if len(rows) == limit else None))

    async def _resolve(self, call: Call) -> Response:
        body, message_id = await call.body(wire.ResolveBody), call.path("message_id", ev.MessageId)
        await self._server.resolve_reports(message_id, body.resolution, by=call.user_id)
        return Response(status_code=204)


def _held_id(call: Call) -> int:
    return call.path_number("held_id")


def _result(outcome: ReviewOutcome) -> wire.ReviewResult:
    stored = [
        wire.ReviewedMessage(it.client_msg_id, it.message_id, it.seq, it.server_ts) for it in outcome.stored
    ]
    return wire.ReviewResult(stored, list(outcome.refused))
