"""FCM: what Google is sent, how its words are understood, and where the access token comes from."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chatkit.errors import ConfigurationError
from chatkit.push import fcm
from chatkit.push.base import Dead, Delivered, Push, Refused, Result, Retry, Unknown
from chatkit.push.fcm import QUOTA_WAIT_S, SCOPE, TOKEN_AGE_MAX_S, FcmPushProvider
from tests.servers.push_gateway import Fault, Reply, Request

from .stages import FakeCredentials, FcmStage, fcm_error


@pytest.fixture
async def stage() -> AsyncIterator[FcmStage]:
    async with FcmStage() as stage:
        yield stage


async def one(stage: FcmStage, reply: Reply | Fault | None = None, push: Push | None = None) -> Result:
    """The result of a push that is answered so."""
    if reply is not None:
        stage.gateway.answer = lambda request: reply
    (result,) = await stage.provider.send([push or stage.push()])
    return result


async def test_what_google_is_sent(stage: FcmStage) -> None:
    push = stage.push(badge=3, data={"x": "y"}, expires_at_ms=stage.clock.now_ms() + 60_500)
    assert await one(stage, push=push) == Delivered("projects/chat/messages/0:1")
    (request,) = stage.gateway.seen

    assert request.path == "/v1/projects/chat/messages:send"
    assert request.headers["authorization"] == "Bearer access-1"
    assert json.loads(request.body) == {
        "message": {
            "token": push.token,
            "notification": {"title": "Ann", "body": "hello"},
            "data": {
                "conversationId": "c-0",
                "messageId": "m-0",
                "pushId": push.id,
                "data": '{"x":"y"}',
            },
            "android": {
                "priority": "HIGH",
                "ttl": "60s",
                "notification": {"tag": "c-0", "notification_count": 3},
            },
            "apns": {
                "headers": {"apns-priority": "10", "apns-expiration": str(push.expires_at_ms // 1000)},
                "payload": {"aps": {"thread-id": "c-0", "badge": 3}},
            },
        }
    }


async def test_without_words_only_data_is_sent(stage: FcmStage) -> None:
    await one(stage, push=stage.push(title=None, body=None))
    message = json.loads(stage.gateway.seen[0].body)["message"]

    assert "notification" not in message
    assert message["android"]["collapse_key"] == "c-0"
    assert message["apns"]["payload"]["aps"] == {"content-available": 1}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Refused),
        (fcm_error(404, "NOT_FOUND", "UNREGISTERED"), Dead),
        (fcm_error(404, "NOT_FOUND", ""), Retry),
        (fcm_error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Refused),
        (fcm_error(403, "PERMISSION_DENIED", ""), Retry),
        (fcm_error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Retry),
        (fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), Retry),
        (fcm_error(500, "INTERNAL", "INTERNAL"), Retry),
        (fcm_error(503, "UNAVAILABLE", "UNAVAILABLE"), Retry),
        (Reply(404, {}, b"<html>"), Retry),
        (Reply(302, {"location": "https://127.0.0.1/"}), Retry),
        (Reply(200, {}, b"<html>"), Unknown),
        (Reply(200, {}, b"[" * 100_000), Unknown),
        (Fault.RESET, Unknown),
        (Fault.ENDLESS, Unknown),
    ],
)
async def test_what_googles_words_mean(stage: FcmStage, reply: Reply | Fault, kind: type[Any]) -> None:
    assert type(await one(stage, reply)) is kind


async def test_a_quota_without_a_time_waits_a_minute(stage: FcmStage) -> None:
    result = await one(stage, fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"))

    assert isinstance(result, Retry)
    assert QUOTA_WAIT_S <= result.after_s <= 1.5 * QUOTA_WAIT_S


async def test_a_quota_that_one_device_is_over_stops_no_other_one(stage: FcmStage) -> None:
    taken = stage.gateway.answer
    stage.gateway.answer = lambda request: fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    await stage.provider.send([stage.push(0, message_id=f"m-{number}") for number in range(20)])
    stage.gateway.answer = taken
    (other,) = await stage.provider.send([stage.push(1)])

    assert isinstance(other, Delivered)


async def test_one_access_token_for_many_pushes_until_it_gets_old(stage: FcmStage) -> None:
    await stage.provider.send([stage.push(number) for number in range(20)])
    assert stage.credentials.refreshed == 1
    stage.pass_s(TOKEN_AGE_MAX_S + 1)
    await stage.provider.send([stage.push(number) for number in range(20)])

    assert stage.credentials.refreshed == 2, "google-auth takes one without an end for one that never ends"


async def test_a_refused_access_token_is_replaced_once_for_all(stage: FcmStage) -> None:
    plain = stage.gateway.answer
    stage.gateway.answer = lambda request: (
        Reply(401) if request.headers["authorization"].endswith("-1") else plain(request)
    )
    results = await stage.provider.send([stage.push(number) for number in range(10)])

    assert {type(result) for result in results} == {Delivered}
    assert stage.credentials.refreshed == 2


async def test_an_access_token_that_does_not_come_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(FakeCredentials):
        def refresh(self, request: Any) -> None:
            release.wait(10.0)
            super().refresh(request)

    release = threading.Event()
    monkeypatch.setattr(fcm, "REFRESH_TIMEOUT_S", 0.1)
    async with FcmStage(Stuck()) as stage:
        try:
            with anyio.fail_after(3.0):
                first = await stage.provider.send([stage.push(number) for number in range(3)])
                again = await stage.provider.send([stage.push()])
        finally:
            release.set()

        assert {type(result) for result in (*first, *again)} == {Retry}
        assert stage.gateway.seen == []


def account(url: str) -> dict[str, str]:
    """The content of a service account's file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": "chat",
        "private_key_id": "k",
        "private_key": pem,
        "client_email": "push@chat.example.org",
        "token_uri": f"{url}/token",
    }


async def test_a_service_account_gets_its_token_over_our_own_connection(
    stage: FcmStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    asked: list[Request] = []
    plain = stage.gateway.answer

    def answer(request: Request) -> Reply | Fault:
        if request.path != "/token":
            return plain(request)
        asked.append(request)
        return Reply(200, {}, b'{"access_token": "from-google", "expires_in": 3600}')

    stage.gateway.answer = answer
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account(stage.gateway.url)))
    for given in (file, str(file), json.loads(file.read_text())):
        provider = stage.made(credentials=given)
        results = await provider.send([stage.push(number) for number in range(3)])
        await provider.aclose()

        assert {type(result) for result in results} == {Delivered}
    assert stage.gateway.seen[-1].headers["authorization"] == "Bearer from-google"
    assert len(asked) == 3
    assert "assertion" in parse_qs(asked[0].body.decode())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {}, b'{"error": "invalid_grant"}'),
        Reply(200, {}, b"no json"),
        Reply(200, {}, b'{"access_token": null}'),
        Reply(200, {}, b"[]"),
        Fault.CUT,
    ],
)
async def test_no_access_token_is_worth_a_retry(stage: FcmStage, reply: Reply | Fault) -> None:
    provider = stage.made(credentials=account(stage.gateway.url), timeout_s=5.0)
    stage.gateway.answer = lambda request: reply
    (result,) = await provider.send([stage.push()])
    await provider.aclose()

    assert isinstance(result, Retry)
    assert {request.path for request in stage.gateway.seen} == {"/token"}


async def test_the_scope_is_for_messaging_alone() -> None:
    provider = FcmPushProvider(project_id="chat", credentials=account("https://localhost"))

    assert provider._tokens._credentials.scopes == [SCOPE]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("project_id", None),
        ("credentials", None),
        ("credentials", "no-such-file.json"),
        ("credentials", {"type": "service_account"}),
        ("url", "http://localhost"),
    ],
)
async def test_a_wrong_argument_is_named(argument: str, value: Any) -> None:
    good: dict[str, Any] = {"project_id": "chat", "credentials": FakeCredentials()}
    with pytest.raises(ConfigurationError, match=argument):
        FcmPushProvider(**(good | {argument: value}))
