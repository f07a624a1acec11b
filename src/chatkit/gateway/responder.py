"""From an HTTP request to its response: who asks is proved, the handler runs, and what is refused becomes a problem.

Called by the routes of `http_api` and `admin_api`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..errors import InternalError, RefusedError, TooLargeError, UnauthenticatedError, UnavailableError
from ..server.committer import NOT_RUNNING
from ..server.proof import Proof
from ..server.server import ChatServer
from ..wire.codec import JSON
from .call import NO_BEARER, Call, address_of, bearer, login_request
from .origins import Origins
from .problems import problem
from .strangers import reader_of

logger = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[Response]]
Prove = Callable[[Request], Awaitable[Proof]]


class Responder:
    """Answers requests of users.

    Args:
        server: Whom they ask.
        origins: Which pages may ask.
    """

    def __init__(self, server: ChatServer, origins: Origins) -> None:
        self._server = server
        self._origins = origins

    async def respond(self, request: Request, handler: Handler, prove: Prove | None = None) -> Response:
        """The handler's response, or the problem document of what it raised.

        Args:
            request: The request.
            handler: Answers it once it is known who asks.
            prove: Says who asks, or raises; None: `self.prove`.
        """
        try:
            if not self._server.running:
                self._server.warn_not_running()
                raise UnavailableError(NOT_RUNNING)
            proof = await (prove or self.prove)(request)
            self._server.allowance.request(proof.user_id)
            reader_of(request.scope).logged_in()
            response = await handler(Call(request, proof))
            if (
                request.method == "GET"
            ):  # what was read for somebody who was sent away meanwhile does not leave
                self._server.login.check(proof)
        except RefusedError as error:
            response = problem(error)
            if isinstance(error, TooLargeError):
                response.headers["connection"] = "close"  # the rest of the body is not read
        except ClientDisconnect:
            logger.debug("%s %s: the client hung up", request.method, request.url.path)
            response = Response(status_code=400)
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            response = problem(InternalError("the server failed"))
        return response

    async def prove(self, request: Request) -> Proof:
        """Who asks, before anything of the body is read. Raises RefusedError."""
        token, server = bearer(request), self._server
        if not token:
            if not server.login.by_request:
                raise UnauthenticatedError(NO_BEARER)
            self._origins.check_request(request.method, request.headers.get("origin"))
        came_with = login_request(request) if server.login.by_request else address_of(request)
        with server.admission.login(came_with.client_address, server.ports.clock.now_s()):
            return await server.login.prove(token, came_with)


def json_response(body: Any, status: int = 200) -> Response:
    """A body of `wire.http` as a response."""
    return Response(JSON.encode(body), status, media_type="application/json")
