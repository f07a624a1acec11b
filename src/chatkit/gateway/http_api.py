"""The HTTP requests of the contract, over the same engine as the socket.

Each handler takes a `Call` (who asks, what for) and returns a body; errors become problem documents in one
place. `_list_operations` is the single list of requests: the routes and the OpenAPI document are made from it.
"""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from sys import intern  # `omit_defaults` compares words by identity
from typing import Any

from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..errors import (
    BadRequestError,
    ForbiddenError,
)
from ..server.entries import log_entries
from ..server.proof import Proof
from ..server.server import ChatServer
from ..storage.base import (
    Advanced,
    CreateConversation,
    Created,
    Done,
    Entry,
    MembersChanged,
    Page,
)
from ..types import Member
from ..wire import events as ev
from ..wire import http as wire
from ..wire.codec import JSON
from .about_api import AboutApi, conversation_result
from .admin_api import AdminApi
from .blobs_api import BlobsApi
from .call import Call, checked
from .list_api import ListApi, silenced_until
from .members_api import MembersApi
from .openapi import Operation, openapi_document
from .origins import Origins
from .problems import http_exception, problem
from .push_api import PushApi
from .responder import Responder, json_response
from .search_api import SearchApi
from .static_files import client_route

logger = logging.getLogger(__name__)

_LIST_LIMIT = 50


class HttpApi:
    """The HTTP half of the gateway.

    Attributes:
        routes: Starlette routes, one per operation, and one for those of administrators.
        methods: What the operations are asked by: what pages of other origins must be allowed.
        exception_handlers: For paths and methods that do not exist.
    """

    def __init__(self, server: ChatServer, origins: Origins) -> None:
        self._server = server
        self._responder = Responder(server, origins)
        self._push, self._members_api, self._list = PushApi(server), MembersApi(server), ListApi(server)
        self._search_api, self._about = SearchApi(server), AboutApi(server)
        self._blobs = BlobsApi(server)
        admin = AdminApi(server, self._responder)
        self._operations = self._list_operations()
        self.routes: list[BaseRoute] = [
            *(self._route(operation) for operation in self._operations),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/v1/openapi.json", self._openapi),
            Route("/v1/ws", self._websocket),
            client_route(),
            admin.route,
        ]
        self._document = lru_cache(8)(partial(openapi_document, self._operations))  # by prefix
        self.methods = sorted(admin.methods.union(operation.method for operation in self._operations))
        self.exception_handlers: dict[Any, Any] = {HTTPException: http_exception}

    def _list_operations(self) -> list[Operation]:
        op = Operation
        conversation = "/v1/conversations/{conversation_id}"
        return [
            op("POST", "/v1/messages/send", self._send, wire.SendResult, body=wire.SendBody),
            op("GET", conversation + "/messages", self._history, wire.PageResult, query=("fromSeq", "limit")),
            op("POST", "/v1/messages/{message_id}/delivered", self._delivered, None, status=204),
            op("POST", conversation + "/read", self._read, wire.ReadResult, query=("upToSeq",)),
            op("GET", "/v1/sync", self._sync, wire.PageResult, query=("conversationId", "lastSeq", "limit")),
            op(
                "GET",
                "/v1/messages/{message_id}/status",
                self._status,
                wire.StatusResult,
                query=("cursor", "limit"),
            ),
            op("POST", "/v1/messages/{message_id}/recall", self._recall, wire.SendResult),
            op(
                "POST",
                "/v1/messages/{message_id}/report",
                self._report,
                None,
                body=wire.ReportBody,
                status=204,
            ),
            op(
                "POST",
                "/v1/conversations",
                self._create,
                wire.ConversationResult,
                body=wire.CreateBody,
                status=201,
            ),
            *self._list.operations(),
            op("GET", conversation, self._conversation, wire.ConversationResult),
            *self._about.operations(),
            op(
                "GET", conversation + "/members", self._members, wire.MembersResult, query=("cursor", "limit")
            ),
            op(
                "GET",
                conversation + "/receipts",
                self._receipts,
                wire.ReceiptsResult,
                query=("cursor", "limit"),
            ),
            op(
                "POST",
                conversation + "/members",
                self._add_members,
                wire.MembersChangedResult,
                body=wire.MembersBody,
            ),
            op(
                "DELETE",
                conversation + "/members/{user_id}",
                self._remove_member,
                wire.MembersChangedResult,
            ),
            op("GET", "/v1/presence", self._presence, wire.PresenceResult, query=("users",)),
            op("GET", "/v1/blocks", self._blocks, wire.BlocksResult, query=("cursor", "limit")),
            op("POST", "/v1/blocks/{user_id}", self._block, None, status=204),
            op("DELETE", "/v1/blocks/{user_id}", self._unblock, None, status=204),
            *self._members_api.operations(),
            *self._push.operations(),
            *self._search_api.operations(),
            *self._blobs.operations(),
        ]

    # --- messages ---

    async def _send(self, call: Call) -> Response:
        body = await call.body(wire.SendBody)
        if body.sender_id is not UNSET and body.sender_id != call.user_id:
            raise ForbiddenError("`senderId` must be the token's user")
        sent = await self._server.engine.send_and_wait(
            call.proof, body.conversation_id, body.client_msg_id, _payload(body)
        )
        payload = UNSET if sent.payload is None else sent.payload
        return json_response(wire.SendResult(sent.message_id, sent.seq, sent.server_ts, payload=payload))

    async def _history(self, call: Call) -> Response:
        from_seq = call.number("fromSeq", 1, least=1)
        bounds = (from_seq - 1, call.limit(_LIST_LIMIT))
        return await self._page(call, call.path("conversation_id"), *bounds, history=True)

    async def _sync(self, call: Call) -> Response:
        conversation_id = checked(call.request.query_params.get("conversationId"), ev.Id)
        bounds = (call.number("lastSeq", None), call.limit(ev.PAGE_MAX))
        return await self._page(call, conversation_id, *bounds, history=False)

    async def _page(
        self, call: Call, conversation_id: str, after_seq: int, limit: int, *, history: bool
    ) -> Response:
        page = await self._server.sync.page(conversation_id, call.user_id, after_seq, limit, history=history)
        return json_response(_page_result(page))

    async def _delivered(self, call: Call) -> Response:
        device_id = call.device_id
        if device_id is None:
            raise BadRequestError("name the device by the token or by `X-Device-Id`")
        message_id = call.path("message_id", ev.MessageId)
        command = self._server.engine.confirm(message_id, call.user_id, device_id)
        await self._server.engine.execute(command, Advanced, call.proof)
        return Response(status_code=204)

    async def _read(self, call: Call) -> Response:
        up_to_seq = call.number("upToSeq", None)
        command = self._server.engine.advance_read(call.path("conversation_id"), call.user_id, up_to_seq)
        outcome = await self._server.engine.execute(command, Advanced, call.proof)
        return json_response(wire.ReadResult(outcome.read_seq))

    async def _status(self, call: Call) -> Response:
        message_id = call.path("message_id", ev.MessageId)
        after = _device_cursor(call.request.query_params.get("cursor"))
        async with self._server.reads.turn(call.user_id):
            status = await self._server.store.status(message_id, call.user_id, after, call.limit(_LIST_LIMIT))
        next_cursor = status.next_cursor
        return json_response(
            wire.StatusResult(
                status=status.status,
                member_count=status.member_count,
                delivered_count=status.delivered_count,
                read_count=status.read_count,
                deliveries=[
                    wire.DeliveryRow(d.user_id, d.device_id, d.state, d.updated_ms) for d in status.deliveries
                ],
                next_cursor=None if next_cursor is None else "/".join(next_cursor),
            )
        )

    async def _report(self, call: Call) -> Response:
        body, message_id = await call.body(wire.ReportBody), call.path("message_id", ev.MessageId)
        await self._server.engine.report_and_wait(call.proof, message_id, body.reason, body.note)
        return Response(status_code=204)

    async def _recall(self, call: Call) -> Response:
        message_id = call.path("message_id", ev.MessageId)
        recalled = await self._server.engine.recall_and_wait(call.proof, message_id)
        return json_response(_send_result(recalled.entry))

    # --- conversations ---

    async def _create(self, call: Call) -> Response:
        body = await call.body(wire.CreateBody)
        command = self._server.engine.create(
            body.type,
            call.user_id,
            tuple(body.member_ids),
            None if body.conversation_id is UNSET else body.conversation_id,
            body.title,
            history=body.history,
        )
        outcome = await self._create_within(call.proof, command)
        return json_response(conversation_result(outcome.conversation), 201 if outcome.created else 200)

    async def _create_within(self, proof: Proof, command: CreateConversation) -> Created:
        """Create what the user may still create; what was refused, or existed already, does not count."""
        allowance, created = self._server.allowance, False
        allowance.create(proof.user_id, command.member_ids)
        try:
            outcome = await self._server.engine.execute(command, Created, proof)
            created = outcome.created
            return outcome
        finally:
            if not created:
                allowance.not_created(proof.user_id, command.member_ids)

    async def _conversation(self, call: Call) -> Response:
        async with self._server.reads.turn(call.user_id):
            found = await self._server.store.conversation(call.path("conversation_id"), call.user_id)
        return json_response(conversation_result(found))

    async def _members(self, call: Call) -> Response:
        limit = call.limit(_LIST_LIMIT)
        conversation_id = call.path("conversation_id")
        async with self._server.reads.turn(call.user_id):
            rows = await self._server.store.members(conversation_id, call.user_id, call.cursor(), limit)
        last = rows[-1].member.user_id if len(rows) == limit else None
        now_ms = self._server.ports.clock.now_ms()
        return json_response(wire.MembersResult([_member_row(row.member, now_ms) for row in rows], last))

    async def _receipts(self, call: Call) -> Response:
        limit = call.limit(_LIST_LIMIT)
        conversation_id = call.path("conversation_id")
        async with self._server.reads.turn(call.user_id):
            rows = await self._server.store.members(conversation_id, call.user_id, call.cursor(), limit)
        last = rows[-1].member.user_id if len(rows) == limit else None
        receipts = [wire.ReceiptRow(row.member.user_id, row.delivered_seq, row.read_seq) for row in rows]
        return json_response(wire.ReceiptsResult(receipts, last))

    async def _add_members(self, call: Call) -> Response:
        body = await call.body(wire.MembersBody)
        user_ids = tuple(body.user_ids)
        command = self._server.engine.add(call.path("conversation_id"), call.user_id, user_ids, body.role)
        allowance, added = self._server.allowance, frozenset[str]()
        allowance.add(call.user_id, command.user_ids)
        try:
            outcome = await self._server.engine.execute(command, MembersChanged, call.proof)
            added = frozenset(outcome.added)
            return _members_changed(outcome)
        finally:
            allowance.not_added(call.user_id, [it for it in command.user_ids if it not in added])

    async def _remove_member(self, call: Call) -> Response:
        command = self._server.engine.remove(call.path("conversation_id"), call.user_id, call.path("user_id"))
        return _members_changed(await self._server.engine.execute(command, MembersChanged, call.proof))

    # --- blocks ---

    async def _blocks(self, call: Call) -> Response:
        limit = call.limit(_LIST_LIMIT)
        async with self._server.reads.turn(call.user_id):
            rows = await self._server.store.blocks(call.user_id, call.cursor(), limit)
        last = rows[-1].user_id if len(rows) == limit else None
        return json_response(
            wire.BlocksResult([wire.BlockRow(row.user_id, row.since_ms) for row in rows], last)
        )

    async def _block(self, call: Call) -> Response:
        command = self._server.engine.block(call.user_id, call.path("user_id"))
        await self._server.engine.execute(command, Done, call.proof)
        return Response(status_code=204)

    async def _unblock(self, call: Call) -> Response:
        command = self._server.engine.unblock(call.user_id, call.path("user_id"))
        await self._server.engine.execute(command, Done, call.proof)
        return Response(status_code=204)

    async def _presence(self, call: Call) -> Response:
        user_ids = call.ids("users", wire.PresenceUsers)
        async with self._server.reads.turn(call.user_id):
            found = await self._server.presence.of(call.user_id, user_ids)
        rows = [wire.PresenceRow(it.user_id, it.state, it.last_seen_ts) for it in found]
        return json_response(wire.PresenceResult(rows))

    # --- how each is answered ---

    def _route(self, operation: Operation) -> Route:
        if operation.public:
            return Route(
                operation.path, operation.handler, methods=[operation.method], name=operation.operation_id
            )

        async def endpoint(request: Request) -> Response:
            return await self._responder.respond(request, operation.handler)

        return Route(operation.path, endpoint, methods=[operation.method], name=operation.operation_id)

    async def _websocket(self, request: Request) -> Response:
        """A plain request for the WebSocket: from somebody who looks around, or a proxy that takes the upgrade away."""
        words = "this address is a WebSocket; a proxy before it must pass on `Upgrade` and `Connection`"
        response = problem(BadRequestError(words), 426)
        response.headers["upgrade"] = "websocket"
        response.headers["connection"] = "upgrade"
        return response

    async def _healthz(self, request: Request) -> Response:
        return json_response(wire.Health("ok"))

    async def _readyz(self, request: Request) -> Response:
        if self._server.ready:
            return json_response(wire.Health("ok"))
        return json_response(wire.Health("unavailable"), 503)

    async def _openapi(self, request: Request) -> Response:
        document = self._document(request.scope.get("root_path", ""))
        return Response(document, media_type="application/json")


def _payload(body: wire.SendBody) -> dict[str, Any]:
    if body.type == "TEXT" and type(body.content) is not dict:
        return {"type": "TEXT", "text": body.content}
    if type(body.content) is not dict:
        raise BadRequestError("`content` must be an object for this type")
    return {**body.content, "type": body.type}


def _device_cursor(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    user_id, _, device_id = text.partition("/")
    return checked(user_id, ev.Id), checked(device_id, ev.Id)


def _send_result(entry: Entry) -> wire.SendResult:
    return wire.SendResult(entry.message_id, entry.seq, entry.server_ts)


def _page_result(page: Page) -> wire.PageResult:
    return wire.PageResult(
        page.conversation_id,
        page.epoch,
        page.head_seq,
        log_entries(page, JSON),
        page.up_to_seq,
        page.more,
        page.floor_seq or UNSET,
    )


def _member_row(member: Member, now_ms: int) -> wire.MemberRow:
    return wire.MemberRow(
        member.user_id,
        "CREATOR" if member.role == "OWNER" else "MEMBER",
        member.joined_seq,
        intern(member.role),
        silenced_until(member, now_ms),
    )


def _members_changed(outcome: MembersChanged) -> Response:
    return json_response(
        wire.MembersChangedResult(
            outcome.conversation.conversation_id,
            list(outcome.added),
            list(outcome.removed),
            outcome.conversation.member_count,
        )
    )
