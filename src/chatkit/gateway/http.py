"""The HTTP requests of the contract, over the same engine as the socket.

Each handler takes a `Call` (who asks, what for) and returns a body; errors become problem documents in one
place. `OPERATIONS` is the single list of requests: the routes and the OpenAPI document are made from it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import (
    BadRequestError,
    ForbiddenError,
    InternalError,
    NotFoundError,
    RefusedError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from ..server.server import ChatServer
from ..server.sync import log_entries
from ..storage.base import (
    Advanced,
    Appended,
    Conversation,
    Created,
    Entry,
    MembersChanged,
    Page,
    Recalled,
)
from ..types import Identity
from ..wire import events as ev
from ..wire import http as wire
from ..wire.codec import JSON, plain_words
from .openapi import Operation, openapi_document

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_LIST_LIMIT = 50
_DIGITS = re.compile(r"[0-9]{1,30}\Z")
_NOT_RUNNING = "chatkit is not running: enter `async with server:` in the host's lifespan"


class Call:
    """One authenticated request.

    Attributes:
        request: The request.
        identity: Who asks.
    """

    __slots__ = ("identity", "request")

    def __init__(self, request: Request, identity: Identity) -> None:
        self.request = request
        self.identity = identity

    @property
    def user_id(self) -> str:
        """The user who asks."""
        return self.identity.user_id

    @property
    def device_id(self) -> str | None:
        """The token's device, else the header `X-Device-Id`, else None."""
        header = self.request.headers.get("x-device-id")
        return self.identity.device_id or (None if header is None else checked(header, ev.Id))

    def path(self, name: str, kind: Any = ev.Id) -> str:
        """A checked part of the path."""
        value: str = checked(self.request.path_params[name], kind)
        return value

    def number(self, name: str, default: int | None, *, least: int = 0, most: int = ev.SEQ_MAX) -> int:
        """A number of the query. Raises BadRequestError if it is missing without default, or out of range."""
        text = self.request.query_params.get(name)
        if text is None:
            if default is None:
                raise BadRequestError(f"`{name}` is missing")
            return default
        value = int(text) if _DIGITS.match(text) else -1
        if not least <= value <= most:
            raise BadRequestError(f"`{name}` must be a whole number from {least} to {most}")
        return value

    def limit(self, default: int) -> int:
        """The page size; above the greatest it is the greatest."""
        return min(self.number("limit", default, least=1, most=10**30), ev.PAGE_MAX)

    def cursor(self) -> str | None:
        """The id after which a list goes on."""
        text = self.request.query_params.get("cursor")
        return checked(text, ev.Id) if text else None

    async def body(self, kind: type[_T]) -> _T:
        """The decoded JSON body. Raises TooLargeError or BadRequestError."""
        content_type = self.request.headers.get("content-type", "application/json")
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise BadRequestError("the body must be application/json")
        received = bytearray()
        async for chunk in self.request.stream():
            received += chunk
            if len(received) > ev.FRAME_BYTES_MAX:
                raise TooLargeError(f"the body is above {ev.FRAME_BYTES_MAX} bytes")
        try:
            return msgspec.json.decode(bytes(received), type=kind)
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"body: {plain_words(error)}") from None


def checked(value: Any, kind: Any) -> Any:
    """A value of a path, query or header, held to its type. Raises BadRequestError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise BadRequestError("not a valid id") from None


class HttpRoad:
    """The HTTP half of the gateway.

    Attributes:
        routes: Starlette routes, one per operation.
        exception_handlers: For paths and methods that do not exist.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._operations = self._list_operations()
        self.routes = [
            *(self._route(operation) for operation in self._operations),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/v1/openapi.json", self._openapi),
        ]
        self.exception_handlers: dict[Any, Any] = {HTTPException: _http_exception}

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
                "/v1/conversations",
                self._create,
                wire.ConversationResult,
                body=wire.CreateBody,
                status=201,
            ),
            op(
                "GET",
                "/v1/conversations",
                self._conversations,
                wire.ConversationsResult,
                query=("cursor", "limit"),
            ),
            op("GET", conversation, self._conversation, wire.ConversationResult),
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
        ]

    # --- messages ---

    async def _send(self, call: Call) -> Response:
        body = await call.body(wire.SendBody)
        if body.sender_id is not UNSET and body.sender_id != call.user_id:
            raise ForbiddenError("`senderId` must be the token's user")
        command = self._server.engine.append(
            body.conversation_id, call.user_id, body.client_msg_id, _payload(body)
        )
        outcome = await self._server.engine.execute(command, Appended)
        return _json(_send_result(outcome.entry))

    async def _history(self, call: Call) -> Response:
        from_seq = call.number("fromSeq", 1, least=1)
        return await self._page(call, call.path("conversation_id"), from_seq - 1, call.limit(_LIST_LIMIT))

    async def _sync(self, call: Call) -> Response:
        conversation_id = checked(call.request.query_params.get("conversationId"), ev.Id)
        return await self._page(call, conversation_id, call.number("lastSeq", None), call.limit(ev.PAGE_MAX))

    async def _page(self, call: Call, conversation_id: str, after_seq: int, limit: int) -> Response:
        page = await self._server.sync.page(conversation_id, call.user_id, after_seq, limit)
        return _json(_page_result(page))

    async def _delivered(self, call: Call) -> Response:
        device_id = call.device_id
        if device_id is None:
            raise BadRequestError("name the device by the token or by `X-Device-Id`")
        message_id = call.path("message_id", ev.MessageId)
        command = self._server.engine.confirm(message_id, call.user_id, device_id)
        await self._server.engine.execute(command, Advanced)
        return Response(status_code=204)

    async def _read(self, call: Call) -> Response:
        up_to_seq = call.number("upToSeq", None)
        command = self._server.engine.advance_read(call.path("conversation_id"), call.user_id, up_to_seq)
        outcome = await self._server.engine.execute(command, Advanced)
        return _json(wire.ReadResult(outcome.read_seq))

    async def _status(self, call: Call) -> Response:
        message_id = call.path("message_id", ev.MessageId)
        after = _device_cursor(call.request.query_params.get("cursor"))
        status = await self._server.store.status(message_id, call.user_id, after, call.limit(_LIST_LIMIT))
        next_cursor = status.next_cursor
        return _json(
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

    async def _recall(self, call: Call) -> Response:
        command = self._server.engine.withdraw(call.path("message_id", ev.MessageId), call.user_id)
        outcome = await self._server.engine.execute(command, Recalled)
        return _json(_send_result(outcome.entry))

    # --- conversations ---

    async def _create(self, call: Call) -> Response:
        body = await call.body(wire.CreateBody)
        command = self._server.engine.create(
            body.type,
            call.user_id,
            tuple(body.member_ids),
            None if body.conversation_id is UNSET else body.conversation_id,
            body.title,
        )
        outcome = await self._server.engine.execute(command, Created)
        return _json(_conversation_result(outcome.conversation), 201 if outcome.created else 200)

    async def _conversation(self, call: Call) -> Response:
        found = await self._server.store.conversation(call.path("conversation_id"), call.user_id)
        return _json(_conversation_result(found))

    async def _conversations(self, call: Call) -> Response:
        limit = call.limit(_LIST_LIMIT)
        rows = await self._server.store.conversations(call.user_id, call.device_id, call.cursor(), limit)
        result = [
            wire.ConversationRow(
                **msgspec.structs.asdict(row.head),
                title=row.title,
                unread=row.unread,
                last_activity_ts=row.last_activity_ms,
            )
            for row in rows
        ]
        last = rows[-1].head.conversation_id if len(rows) == limit else None
        return _json(wire.ConversationsResult(result, last))

    async def _members(self, call: Call) -> Response:
        limit = call.limit(_LIST_LIMIT)
        conversation_id = call.path("conversation_id")
        rows = await self._server.store.members(conversation_id, call.user_id, call.cursor(), limit)
        last = rows[-1].member.user_id if len(rows) == limit else None
        return _json(wire.MembersResult([row.member for row in rows], last))

    async def _receipts(self, call: Call) -> Response:
        limit = call.limit(_LIST_LIMIT)
        conversation_id = call.path("conversation_id")
        rows = await self._server.store.members(conversation_id, call.user_id, call.cursor(), limit)
        last = rows[-1].member.user_id if len(rows) == limit else None
        receipts = [wire.ReceiptRow(row.member.user_id, row.delivered_seq, row.read_seq) for row in rows]
        return _json(wire.ReceiptsResult(receipts, last))

    async def _add_members(self, call: Call) -> Response:
        body = await call.body(wire.MembersBody)
        command = self._server.engine.add(call.path("conversation_id"), call.user_id, tuple(body.user_ids))
        return _members_changed(await self._server.engine.execute(command, MembersChanged))

    async def _remove_member(self, call: Call) -> Response:
        command = self._server.engine.remove(call.path("conversation_id"), call.user_id, call.path("user_id"))
        return _members_changed(await self._server.engine.execute(command, MembersChanged))

    # --- the road itself ---

    def _route(self, operation: Operation) -> Route:
        async def endpoint(request: Request) -> Response:
            return await self._answer(request, operation.handler)

        return Route(operation.path, endpoint, methods=[operation.method], name=operation.operation_id)

    async def _answer(self, request: Request, handler: Callable[[Call], Awaitable[Response]]) -> Response:
        try:
            if not self._server.running:
                raise UnavailableError(_NOT_RUNNING)
            token = _bearer(request)
            response = await handler(Call(request, await self._server.login.identify(token)))
        except RefusedError as error:
            response = problem(error)
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            response = problem(InternalError("the server failed"))
        response.headers["cache-control"] = "no-store"
        return response

    async def _healthz(self, request: Request) -> Response:
        return _json(wire.Health("ok"))

    async def _readyz(self, request: Request) -> Response:
        if self._server.ready:
            return _json(wire.Health("ok"))
        return _json(wire.Health("unavailable"), 503)

    async def _openapi(self, request: Request) -> Response:
        document = openapi_document(self._operations, request.scope.get("root_path", ""))
        return Response(msgspec.json.encode(document), media_type="application/json")


def problem(error: RefusedError, status: int | None = None) -> Response:
    """The problem document of a refusal, with `Retry-After` where it says when.

    Args:
        error: What is refused.
        status: HTTP status where it is not the one of the error's code.
    """
    after_s = error.retry_after_s
    status = status or error.status
    body = wire.Problem(
        title=error.code.replace("_", " ").capitalize(),
        status=status,
        detail=str(error),
        code=error.code,
        retryable=error.retryable,
        retry_after_ms=UNSET if after_s is None else int(after_s * 1000),
    )
    response = Response(msgspec.json.encode(body), status, media_type="application/problem+json")
    if after_s is not None:
        response.headers["retry-after"] = str(max(1, round(after_s)))
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


async def _http_exception(request: Request, error: HTTPException) -> Response:
    """Paths and methods that do not exist."""
    if error.status_code == 404:
        return problem(NotFoundError("no such path"))
    response = problem(BadRequestError(str(error.detail)), error.status_code)
    response.headers.update(error.headers or {})
    return response


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("`Authorization: Bearer TOKEN` is needed")
    return token.strip()


def _payload(body: wire.SendBody) -> dict[str, Any]:
    if body.type == "TEXT":
        return {"type": "TEXT", "text": body.content}
    if type(body.content) is not dict:
        raise BadRequestError("`content` must be an object for this type")
    return {**body.content, "type": body.type}


def _device_cursor(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    user_id, _, device_id = text.partition("/")
    return checked(user_id, ev.Id), checked(device_id, ev.Id)


def _json(body: Any, status: int = 200) -> Response:
    return Response(JSON.encode(body), status, media_type="application/json")


def _send_result(entry: Entry) -> wire.SendResult:
    return wire.SendResult(entry.message_id, entry.seq, entry.server_ts)


def _page_result(page: Page) -> wire.PageResult:
    return wire.PageResult(
        page.conversation_id, page.epoch, page.head_seq, log_entries(page, JSON), page.up_to_seq, page.more
    )


def _conversation_result(found: Conversation) -> wire.ConversationResult:
    return wire.ConversationResult(
        found.conversation_id,
        found.type,
        found.title,
        found.epoch,
        found.head_seq,
        list(found.member_ids),
        found.member_count,
    )


def _members_changed(outcome: MembersChanged) -> Response:
    return _json(
        wire.MembersChangedResult(
            outcome.conversation.conversation_id,
            list(outcome.added),
            list(outcome.removed),
            outcome.conversation.member_count,
        )
    )
