"""The webhook: what a receiver gets, and how it knows from whom."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatkit.errors import ConfigurationError
from chatkit.push.base import Dead, Delivered, Refused, Retry, Unknown
from chatkit.push.webhook import WebhookPushProvider
from tests.servers.push_gateway import Fault, Reply

from .stages import SECRET, WebhookStage


@pytest.fixture
async def stage() -> AsyncIterator[WebhookStage]:
    async with WebhookStage() as stage:
        yield stage


async def test_what_a_receiver_gets(stage: WebhookStage) -> None:
    push = stage.push(badge=3, data={"x": "y"}, priority="normal")
    assert await stage.provider.send([push]) == [Delivered(push.id)]
    (request,) = stage.gateway.seen

    assert request.path == "/hook"
    assert request.headers["chatkit-push-id"] == push.id
    assert json.loads(request.body) == {
        "id": push.id,
        "token": push.token,
        "title": "Ann",
        "body": "hello",
        "badge": 3,
        "priority": "normal",
        "expiresAtMs": push.expires_at_ms,
        "collapseId": "c-0",
        "conversationId": "c-0",
        "messageId": "m-0",
        "data": {"x": "y"},
    }


async def test_a_receiver_knows_from_whom_it_is(stage: WebhookStage) -> None:
    await stage.provider.send([stage.push()])
    (request,) = stage.gateway.seen
    fields = dict(field.split("=", 1) for field in request.headers["chatkit-signature"].split(","))
    signed = fields["t"].encode() + b"." + request.body

    assert abs(int(fields["t"]) - stage.clock.now_ms() / 1000) < 5
    assert fields["v1"] == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200), Delivered),
        (Reply(204), Delivered),
        (Reply(301, {"location": "https://127.0.0.1/"}), Retry),
        (Reply(400), Refused),
        (Reply(401), Retry),
        (Reply(404), Refused),
        (Reply(410), Dead),
        (Reply(413), Refused),
        (Reply(429), Retry),
        (Reply(503), Retry),
        (Fault.RESET, Unknown),
    ],
)
async def test_what_a_status_means(stage: WebhookStage, reply: Reply | Fault, kind: type[Any]) -> None:
    stage.gateway.answer = lambda request: reply
    (result,) = await stage.provider.send([stage.push()])

    assert type(result) is kind


async def test_no_proxy_of_the_environment(stage: WebhookStage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    provider = stage.made()
    (direct,) = await provider.send([stage.push()])
    await provider.aclose()
    through = stage.made(proxy="http://127.0.0.1:1")
    (lost,) = await through.send([stage.push()])
    await through.aclose()

    assert isinstance(direct, Delivered)
    assert isinstance(lost, Retry)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("url", "ftp://example.org"),
        ("url", "https://"),
        ("url", "https://a@example.org"),
        ("url", "https://example.org/a b"),
        ("url", "https://example.org:port"),
        ("url", b"https://example.org"),
        ("url", None),
        ("secret", "short"),
        ("secret", None),
    ],
)
async def test_a_wrong_argument_is_named(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        WebhookPushProvider(**({"url": "https://example.org", "secret": SECRET} | {argument: value}))
