"""The HTTP requests of administrators about the audit, and about all there is of one user.

Whoever asks is the actor in the audit. Listed among the operations of `admin_api`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

from msgspec import Meta
from starlette.responses import Response, StreamingResponse

from ..server.server import ChatServer
from ..storage.base import AuditFilter
from ..wire import events as ev
from ..wire import http as wire
from .call import Call, checked
from .openapi import Operation
from .responder import json_response

_NDJSON: Final = "application/x-ndjson"
_NEWEST: Final = 2**63 - 1
_Action = Annotated[str, Meta(pattern=r"^[A-Z_]{1,64}\Z")]
_FILTERS: Final = ("conversation", "user", "actor", "action", "sinceMs")


class PersonApi:
    """Handlers of these requests."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def operations(self, prefix: str) -> list[Operation]:
        """What there is, below a path."""
        user = prefix + "/users/{user_id}"
        return [
            Operation(
                "GET",
                prefix + "/audit",
                self._audit,
                wire.AuditResult,
                query=(*_FILTERS, "after", "before", "limit"),
            ),
            Operation("GET", user + "/export", self._export, None),
            Operation("POST", user + "/erase", self._erase, wire.EraseResult, body=wire.EraseBody),
        ]

    async def _audit(self, call: Call) -> Response:
        """With `after` in order, else the newest first."""
        wanted, limit = _filter(call), call.limit(wire.PAGE_LIMIT)
        async with self._server.reads.turn(call.user_id):
            if "after" in call.request.query_params:
                rows = await self._server.store.acts(wanted, call.number("after", 0), limit)
            else:
                before = call.number("before", ev.SEQ_MAX)
                rows = await self._server.store.newest_acts(wanted, before, limit)
        return json_response(wire.AuditResult(rows, rows[-1].audit_id if len(rows) == limit else None))

    async def _export(self, call: Call) -> Response:
        lines = self._server.export_user(call.path("user_id"), by=call.user_id)
        first = await anext(
            lines
        )  # what is wrong with the request is known by then, and that it was made audited

        async def all_lines() -> AsyncIterator[bytes]:
            yield first
            async for line in lines:
                yield line

        return StreamingResponse(all_lines(), media_type=_NDJSON, headers={"cache-control": "no-store"})

    async def _erase(self, call: Call) -> Response:
        body = await call.body(wire.EraseBody)
        erased = await self._server.erase_user(call.path("user_id"), bodies=body.bodies, by=call.user_id)
        return json_response(wire.EraseResult(erased.conversations, erased.messages))


def _filter(call: Call) -> AuditFilter:
    given = call.request.query_params
    names = {name: checked(given[name], ev.Id) for name in ("conversation", "user") if name in given}
    actor = given.get("actor")
    return AuditFilter(
        names.get("conversation"),
        names.get("user"),
        None if actor is None else actor and checked(actor, ev.Id),
        checked(given["action"], _Action) if "action" in given else None,
        call.number("sinceMs", 0) or None,
    )
