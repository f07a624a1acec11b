"""A moderator that asks a service over HTTP: a whole batch in one request, tried again within its deadline.

The service gets `{"messages": [{"sender": ..., "text": ...}, ...]}` and answers `{"verdicts": [{"action": "allow"},
{"action": "refuse", "reason": ...}, {"action": "rewrite", "text": ...}, {"action": "hold"}, ...]}`, one for each
message in order. Whatever else it answers is an error: chatkit then does what `closed` (messages are refused for now
and come again) or `open` (they are stored as they are) says.

Run: `python examples/moderation_http.py 8000 http://127.0.0.1:9000/moderate closed`, with `CHATKIT_JWT_SECRET` set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal, cast

import anyio
import httpx
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from chatkit import (
    Allow,
    ChatServer,
    Hold,
    ModerationConfig,
    ModeratorVerdict,
    Refuse,
    Rewrite,
    Submission,
    asgi_app,
    jwt_authenticator,
    open_store,
)

DEADLINE_S = 2.0
PAUSE_S = 0.1


class Judged(msgspec.Struct):
    """What the service says of one message."""

    action: Literal["allow", "refuse", "rewrite", "hold"]
    reason: str = ""
    text: str = ""


class Answer(msgspec.Struct):
    """What it says of a batch."""

    verdicts: list[Judged]


class HttpModerator:
    """Asks a service; what it raises is chatkit's to answer.

    Args:
        http: The client, whose connections are kept.
        url: Where the service is.
    """

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    async def __call__(self, submissions: Sequence[Submission]) -> list[ModeratorVerdict]:
        """The verdicts. Raises what httpx, the deadline or an answer that does not fit raises."""
        messages = [{"sender": it.sender_id, "text": it.text} for it in submissions]
        with anyio.fail_after(DEADLINE_S):
            answer = await self._ask({"messages": messages})
        return [_verdict(it) for it in answer.verdicts]

    async def _ask(self, body: object) -> Answer:
        """Asking twice about the same messages does no harm; what is wrong with them, no repeat makes right."""
        while True:
            try:
                response = await self._http.post(self._url, json=body)
                response.raise_for_status()
                return msgspec.json.decode(response.content, type=Answer)
            except httpx.HTTPStatusError as error:
                if error.response.status_code < 500 and error.response.status_code != 429:
                    raise
            except httpx.TransportError:
                pass
            await anyio.sleep(PAUSE_S)


def _verdict(judged: Judged) -> ModeratorVerdict:
    match judged.action:
        case "refuse":
            return Refuse(judged.reason or "this message is not allowed here")
        case "rewrite":
            return Rewrite(judged.text)
        case "hold":
            return Hold(judged.reason)
    return Allow()


def create_app(url: str, on_failure: Literal["closed", "open"], secret: str) -> Starlette:
    """The chat, moderated by the service at `url`."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with http, server:
            yield

    http = httpx.AsyncClient(timeout=DEADLINE_S, trust_env=False)
    server = ChatServer(
        store=open_store("memory://"),
        authenticate=jwt_authenticator(secret),
        moderator=HttpModerator(http, url),
        moderation=ModerationConfig(on_failure=on_failure, timeout_s=2 * DEADLINE_S, retry_s=1.0),
    )
    return Starlette(routes=[Mount("/", asgi_app(server))], lifespan=lifespan)


if __name__ == "__main__":
    when_it_fails = cast("Literal['closed', 'open']", sys.argv[3])
    app = create_app(sys.argv[2], when_it_fails, os.environ["CHATKIT_JWT_SECRET"])
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
