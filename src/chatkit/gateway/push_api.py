"""The HTTP requests about being woken: a device registers for push, a member mutes a conversation.

What is sent to whom, and when, is the delivery worker's. Listed among the operations of `http_api`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from .._abilities import offers
from ..errors import BadRequestError, ForbiddenError
from ..push.base import ChecksTokens, PushProvider, SubscribesBrowsers
from ..server.server import ChatServer
from ..storage.base import Done, Mute
from ..wire import http as wire
from ..wire.codec import JSON
from .call import Call
from .openapi import Operation


class PushApi:
    """Handlers of these requests.

    Args:
        server: Whose engine carries them out. A server that was given no push providers keeps what devices register for
            the workers of other processes; it can hold neither provider nor token to more than its form.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def operations(self) -> list[Operation]:
        """What there is."""
        op, mute = Operation, "/v1/conversations/{conversation_id}/mute"
        return [
            op("GET", "/v1/push", self._push_providers, wire.PushResult, public=True),
            op("POST", "/v1/devices", self._register_push, None, body=wire.RegisterPushBody, status=204),
            op("DELETE", "/v1/devices/{device_id}/push", self._unregister_push, None, status=204),
            op("PUT", mute, self._mute, None, body=wire.MuteBody, status=204),
            op("DELETE", mute, self._unmute, None, status=204),
        ]

    async def _push_providers(self, request: Request) -> Response:
        return Response(JSON.encode(_described(self._server.push or {})), media_type="application/json")

    async def _register_push(self, call: Call) -> Response:
        body = await call.body(wire.RegisterPushBody)
        device_id = _own_device(call, body)
        self._check(body.provider, body.token)
        command = self._server.engine.register_push(
            call.proof, device_id, body.provider, body.token, hide_body=body.hide_body
        )
        await self._server.engine.execute(command, Done, call.proof)
        return Response(status_code=204)

    async def _unregister_push(self, call: Call) -> Response:
        command = self._server.engine.unregister_push(call.user_id, call.path("device_id"))
        await self._server.engine.execute(command, Done, call.proof)
        return Response(status_code=204)

    async def _mute(self, call: Call) -> Response:
        body = await call.body(wire.MuteBody)
        until_ms = wire.FOR_EVER_MS if body.until is None else body.until
        return await self._mute_until(call, until_ms, but_mentions=body.level == "MENTIONS")

    async def _unmute(self, call: Call) -> Response:
        return await self._mute_until(call, 0)

    async def _mute_until(self, call: Call, until_ms: int, *, but_mentions: bool = False) -> Response:
        command: Mute = self._server.engine.mute(
            call.path("conversation_id"), call.user_id, until_ms, but_mentions=but_mentions
        )
        await self._server.engine.execute(command, Done, call.proof)
        return Response(status_code=204)

    def _check(self, provider: str, token: str) -> None:
        """Raises BadRequestError for what no push could ever be sent with."""
        providers = self._server.push
        if providers is None:
            return
        found = providers.get(provider)
        if found is None:
            names = ", ".join(sorted(providers)) or "none"
            raise BadRequestError(f"`provider` is none of this server's push providers: {names}")
        if offers(found, ChecksTokens):
            found.check_token(token)


def _own_device(call: Call, body: wire.RegisterPushBody) -> str:
    """The device that registers: the token's, else that of `X-Device-Id`, else the body's; all that are given agree."""
    known = call.device_id
    if body.device_id is UNSET:
        if known is None:
            raise BadRequestError("name the device by the token, by `X-Device-Id` or by `deviceId`")
        return known
    if known not in (None, body.device_id):
        raise ForbiddenError("`deviceId` is another device than that of the token or of `X-Device-Id`")
    return body.device_id


def _described(providers: Mapping[str, PushProvider]) -> wire.PushResult:
    """The names, and the first provider that browsers can subscribe with."""
    for name, provider in providers.items():
        if offers(provider, SubscribesBrowsers):
            return wire.PushResult(sorted(providers), name, provider.application_server_key)
    return wire.PushResult(sorted(providers))
