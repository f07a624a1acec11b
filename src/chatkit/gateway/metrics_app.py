"""The figures of a server over HTTP, for Prometheus: an ASGI app for a port or a path of its own (extra `metrics`).

Nothing in it says who chats with whom, but it says how much and how well: it is for operators. Do not serve it where
users come from; it asks nobody for a login (docs/metrics.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.types import Receive, Scope, Send

from .._arguments import check_has
from ..ports import Clock, SystemClock

if TYPE_CHECKING:
    from ..observability.metrics import Metrics

FRESH_S: Final = 1.0
"""For so long an answer serves everybody who asks: looking often costs the server nothing."""

_CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"


def metrics_app(metrics: Metrics, *, clock: Clock | None = None) -> MetricsApp:
    """An ASGI app that answers every GET with the figures of `metrics`, at most a second old.

    Mount it at `/metrics` in a host's own app, or serve it on a port of its own. Whoever reaches it may read it: bind
    it to loopback, or to a network of operators.

    Args:
        metrics: Whose registry is shown.
        clock: Says when an answer is old.

    Raises:
        ConfigurationError: `metrics` is none.
    """
    check_has("metrics", metrics, "exposition", "a Metrics")
    return MetricsApp(metrics, clock or SystemClock())


class MetricsApp:
    """As `metrics_app` makes it."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._made_s: float | None = None
        self._text = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self._answer(scope["method"], send)

    async def _answer(self, method: str, send: Send) -> None:
        status, body = (200, self._fresh()) if method in ("GET", "HEAD") else (405, b"only GET\n")
        headers = [
            (b"content-type", _CONTENT_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    def _fresh(self) -> bytes:
        now_s = self._clock.now_s()
        if self._made_s is None or now_s - self._made_s >= FRESH_S:
            self._made_s, self._text = now_s, self._metrics.exposition()
        return self._text


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
