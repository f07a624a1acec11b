"""The HTTP requests about what members are: roles, silence and bans of a conversation.

Who may do what is decided by the server's policy, in the store's transaction. Listed among the operations of
`http_api`.
"""

from __future__ import annotations

from starlette.responses import Response

from ..server.server import ChatServer
from ..storage.base import MembersChanged, Updated
from ..wire import http as wire
from .call import Call
from .openapi import Operation
from .responder import json_response

_LIST_LIMIT = 50


class MembersApi:
    """Handlers of these requests.

    Args:
        server: Whose engine carries them out.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def operations(self) -> list[Operation]:
        """What there is."""
        op, conversation = Operation, "/v1/conversations/{conversation_id}"
        silence, ban = conversation + "/members/{user_id}/silence", conversation + "/bans/{user_id}"
        role = conversation + "/members/{user_id}/role"
        return [
            op("PUT", role, self._set_role, None, body=wire.RoleBody, status=204),
            op("PUT", silence, self._silence, None, body=wire.SilenceBody, status=204),
            op("DELETE", silence, self._unsilence, None, status=204),
            op("GET", conversation + "/bans", self._bans, wire.BansResult, query=("cursor", "limit")),
            op("PUT", ban, self._ban_member, None, status=204),
            op("DELETE", ban, self._unban_member, None, status=204),
        ]

    async def _set_role(self, call: Call) -> Response:
        body = await call.body(wire.RoleBody)
        engine, (conversation_id, user_id) = self._server.engine, _place(call)
        command = engine.set_role(conversation_id, call.user_id, user_id, body.role)
        await engine.execute(command, Updated, call.proof)
        return Response(status_code=204)

    async def _silence(self, call: Call) -> Response:
        body = await call.body(wire.SilenceBody)
        return await self._silence_until(call, wire.FOR_EVER_MS if body.until is None else body.until)

    async def _unsilence(self, call: Call) -> Response:
        return await self._silence_until(call, 0)

    async def _silence_until(self, call: Call, until_ms: int) -> Response:
        engine, (conversation_id, user_id) = self._server.engine, _place(call)
        command = engine.silence(conversation_id, call.user_id, user_id, until_ms)
        await engine.execute(command, Updated, call.proof)
        return Response(status_code=204)

    async def _bans(self, call: Call) -> Response:
        limit, conversation_id = call.limit(_LIST_LIMIT), call.path("conversation_id")
        policy, after = self._server.engine.policy, call.cursor()
        async with self._server.reads.turn(call.user_id):
            rows = await self._server.store.bans(conversation_id, call.user_id, policy, after, limit)
        last = rows[-1].user_id if len(rows) == limit else None
        bans = [wire.BanRow(row.user_id, row.by_id, row.since_ms) for row in rows]
        return json_response(wire.BansResult(bans, last))

    async def _ban_member(self, call: Call) -> Response:
        engine, (conversation_id, user_id) = self._server.engine, _place(call)
        command = engine.ban(conversation_id, call.user_id, user_id)
        await engine.execute(command, MembersChanged, call.proof)
        return Response(status_code=204)

    async def _unban_member(self, call: Call) -> Response:
        engine, (conversation_id, user_id) = self._server.engine, _place(call)
        command = engine.unban(conversation_id, call.user_id, user_id)
        await engine.execute(command, MembersChanged, call.proof)
        return Response(status_code=204)


def _place(call: Call) -> tuple[str, str]:
    """The conversation and the member that the path names."""
    return call.path("conversation_id"), call.path("user_id")
