"""The HTTP requests of administrators, all below `/v1/admin/`.

An administrator is who logs in with the word `chat:admin` in the scope of their token. For everybody else these paths
do not exist: the answer is that of any unknown path, to the byte. `_list_operations` is the single list of requests;
only administrators read their description, at `/v1/admin/openapi.json`.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..errors import BadRequestError, NotFoundError, RefusedError
from ..server.explain import READERS_SHOWN
from ..server.proof import Proof
from ..server.server import ChatServer
from ..storage.base import READERS_MAX
from ..types import Explanation
from ..wire import events as ev
from .call import Call, checked
from .moderation_api import ModerationApi
from .openapi import Operation, openapi_document
from .person_api import PersonApi
from .problems import NO_SUCH_PATH, problem
from .responder import Responder, json_response

ADMIN_SCOPE: Final = "chat:admin"
"""The word in a login's scope, which is words between spaces (RFC 8693 section 4.2), that makes an administrator."""

PREFIX: Final = "/v1/admin"


_NOT_AUDITED: Final = ("openapi.json",)
_NOTED_MAX: Final = 512


class AdminApi:
    """Handlers of these requests.

    Args:
        server: Whom they ask.
        responder: Answers them.

    Attributes:
        route: Everything below `/v1/admin/`. Which of its paths and methods exist is looked up only for administrators.
        methods: What the operations are asked by.
    """

    def __init__(self, server: ChatServer, responder: Responder) -> None:
        self._server = server
        self._responder = responder
        operations = self._list_operations()
        self._routes = [
            (operation, Route(operation.path, _never, methods=[operation.method])) for operation in operations
        ]
        self._document = lru_cache(8)(partial(openapi_document, operations))  # by prefix
        self.route = Mount(PREFIX, self._answer)
        self.methods = {operation.method for operation in operations}

    def _list_operations(self) -> list[Operation]:
        op = Operation
        return [
            op("GET", PREFIX + "/openapi.json", self._openapi, None),
            op("GET", PREFIX + "/messages/{message_id}", self._message, Explanation, query=("user", "limit")),
            *ModerationApi(self._server).operations(PREFIX + "/moderation"),
            *PersonApi(self._server).operations(PREFIX),
        ]

    async def _openapi(self, call: Call) -> Response:
        return Response(self._document(_root_path(call.request.scope)), media_type="application/json")

    async def _message(self, call: Call) -> Response:
        message_id = call.path("message_id", ev.MessageId)
        user = call.request.query_params.get("user")
        user_id = None if user is None else checked(user, ev.Id)
        limit = call.number("limit", READERS_SHOWN, least=1, most=READERS_MAX)
        async with self._server.reads.turn(call.user_id):
            found = await self._server.explain(message_id, user_id=user_id, limit=limit)
        return json_response(found)

    # --- how each is answered ---

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)  # as for any unknown path
            return
        response = await self._responder.respond(Request(scope, receive), self._dispatch, self._prove)
        await response(scope, receive, send)

    async def _prove(self, request: Request) -> Proof:
        """Who asks, if they are an administrator.

        Raises:
            NotFoundError: They are none, or prove nothing.
            RefusedError: A retryable one: nobody can say now.
        """
        try:
            proof = await self._responder.prove(request)
        except RefusedError as error:
            if error.retryable:
                raise
            raise NotFoundError(NO_SUCH_PATH) from None
        if ADMIN_SCOPE not in proof.identity.scope.split(" "):
            raise NotFoundError(NO_SUCH_PATH)
        return proof

    async def _dispatch(self, call: Call) -> Response:
        """Have the operation of this path and method answer."""
        scope = {**call.request.scope, "root_path": _root_path(call.request.scope)}
        methods = set[str]()
        for operation, route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                call.request.scope.update(found)
                await self._note(call)
                response: Response = await operation.handler(call)
                return response
            if match is Match.PARTIAL:
                methods.update(route.methods or ())
        if not methods:
            raise NotFoundError(NO_SUCH_PATH)
        response = problem(BadRequestError("Method Not Allowed"), 405)
        response.headers["allow"] = ", ".join(sorted(methods))
        return response

    async def _note(self, call: Call) -> None:
        """Whatever an administrator reads of others is in the audit before they have it; what they change is anyway."""
        scope = call.request.scope
        name = _plain(scope["path"].rpartition(PREFIX + "/")[2].encode("utf-8", "surrogatepass"))
        if scope["method"] in ("GET", "HEAD") and name not in _NOT_AUDITED:
            await self._server.note_read(call.user_id, name, _plain(scope["query_string"]))


def _plain(part: bytes) -> str:
    """A part of an URL as the audit keeps it: nothing in it but ASCII that can be printed, and not too much."""
    return quote(part, safe="/:@=&%+,;")[:_NOTED_MAX]


def _root_path(scope: Scope) -> str:
    """Where the whole app is mounted; inside a `Mount` the scope names that one's path too."""
    path: str = scope["root_path"]
    return path.removesuffix(PREFIX)


async def _never(request: Request) -> Response:
    raise AssertionError("the routes are only matched")
