"""Web Push: what a browser reads, whom a push service trusts, and endpoints that strangers choose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from chatkit.errors import BadRequestError, ConfigurationError
from chatkit.push import _address
from chatkit.push._address import NotPublicError, PublicOnly, is_public
from chatkit.push.base import Dead, Delivered, Refused, Result, Retry, Unknown
from chatkit.push.webpush import PUSH_SERVICES, VAPID_S, VAPID_TOKENS_MAX, WebPushProvider
from chatkit.testing.contracts.push import Act
from tests.servers.push_gateway import Fault, Reply

from .stages import KEY, PEM, WebPushStage, decrypted, encoded, subscription


@pytest.fixture
async def stage() -> AsyncIterator[WebPushStage]:
    async with WebPushStage() as stage:
        yield stage


async def one(stage: WebPushStage, reply: Reply | Fault | None = None, **changes: Any) -> Result:
    """The result of a push that is answered so."""
    if reply is not None:
        stage.gateway.answer = lambda request: reply
    (result,) = await stage.provider.send([stage.push(**changes)])
    return result


async def test_the_browser_reads_what_was_pushed(stage: WebPushStage) -> None:
    push = stage.push(badge=3, data={"x": "y"}, expires_at_ms=stage.clock.now_ms() + 60_500)
    assert await stage.provider.send([push]) == [Delivered("https://push.test/m/1")]
    (request,) = stage.gateway.seen

    assert decrypted(request) == {
        "id": push.id,
        "title": "Ann",
        "body": "hello",
        "badge": 3,
        "collapseId": "c-0",
        "conversationId": "c-0",
        "messageId": "m-0",
        "data": {"x": "y"},
    }
    assert request.headers["content-encoding"] == "aes128gcm"
    assert request.headers["ttl"] == "60"
    assert request.headers["urgency"] == "high"
    assert len(request.headers["topic"]) == 32
    assert b"hello" not in request.body


async def test_every_message_has_a_key_of_its_own(stage: WebPushStage) -> None:
    await stage.provider.send([stage.push(), stage.push()])
    first, second = stage.gateway.seen

    assert first.body[21:86] != second.body[21:86]
    assert first.body[:16] != second.body[:16], "and a salt"


async def test_the_longest_words_fit_what_a_push_service_must_take(stage: WebPushStage) -> None:
    await stage.provider.send([stage.push(body="\U0001f600" * 5000)])
    (request,) = stage.gateway.seen

    assert 4096 - 8 < len(request.body) <= 4096
    assert set(decrypted(request)["body"]) == {"\U0001f600", "…"}


async def test_the_push_service_can_check_who_sends(stage: WebPushStage) -> None:
    await stage.provider.send([stage.push(), stage.push(1)])
    stage.pass_s(VAPID_S / 2 + 1)
    await stage.provider.send([stage.push()])
    headers = [request.headers["authorization"] for request in stage.gateway.seen]
    kind, _, rest = headers[0].partition(" ")
    fields = dict(field.strip().split("=", 1) for field in rest.split(","))
    claims = jwt.decode(
        fields["t"], KEY.public_key(), algorithms=["ES256"], audience=stage.gateway.url, subject=None
    )

    assert kind == "vapid"
    assert fields["k"] == stage.provider.application_server_key
    assert claims["sub"] == "mailto:ops@example.org"
    assert 0 < claims["exp"] - stage.clock.now_ms() / 1000 < 24 * 3600
    assert headers[0] == headers[1] != headers[2], "kept for a while"


async def test_signed_tokens_are_kept_for_so_many_push_services(stage: WebPushStage) -> None:
    for number in range(VAPID_TOKENS_MAX + 5):
        stage.provider._vapid.header(f"https://{number}.test")

    assert len(stage.provider._vapid._kept) == VAPID_TOKENS_MAX


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200), Delivered),
        (Reply(201), Delivered),
        (Reply(202), Delivered),
        (Reply(204), Delivered),
        (Reply(400), Refused),
        (Reply(401), Retry),
        (Reply(403), Retry),
        (Reply(404), Dead),
        (Reply(410), Dead),
        (Reply(413), Refused),
        (Reply(429), Retry),
        (Reply(500), Retry),
        (Reply(301, {"location": "https://127.0.0.1/"}), Retry),
        (Reply(307, {"location": "https://127.0.0.1/"}), Retry),
        (Fault.ENDLESS, Delivered),
        (Fault.RESET, Unknown),
    ],
)
async def test_what_a_status_means(stage: WebPushStage, reply: Reply | Fault, kind: type[Any]) -> None:
    assert type(await one(stage, reply)) is kind
    assert len(stage.gateway.seen) == 1, "no redirect is followed"


async def test_a_date_says_when_to_come_back(stage: WebPushStage) -> None:
    result = await one(stage, Reply(429, {"retry-after": "Fri, 31 Dec 2099 23:59:59 GMT"}))

    assert isinstance(result, Retry)
    assert 3600 <= result.after_s <= 5400, "nobody may ask for longer than an hour"


@pytest.mark.parametrize(
    "said", ["soon", "-5", "1e9", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT"]
)
async def test_whatever_is_said_of_the_time_is_bounded(stage: WebPushStage, said: str) -> None:
    stage.gateway.answer = lambda request: Reply(503, {"retry-after": said})
    (result,) = await stage.provider.send([stage.push()])

    assert isinstance(result, Retry)
    assert 1 <= result.after_s <= 5400


@pytest.mark.parametrize(
    "token",
    [
        "no json",
        "{}",
        '{"endpoint": "https://push.test/1"}',
        subscription("http://push.test/1"),
        subscription("https://user@push.test/1"),
        subscription("https://push.test:port/1"),
        subscription("https:///1"),
        subscription("https://push.test/a b"),
        subscription("https://push.test/\r\nx"),
        subscription("https://push.test/é"),
        json.dumps({"endpoint": "https://push.test/", "keys": {"p256dh": "AA", "auth": "AA"}}),
        json.dumps({"endpoint": "https://push.test/", "keys": {"p256dh": "!", "auth": "é"}}),
        json.dumps(
            {
                "endpoint": "https://push.test/",
                "keys": {"p256dh": encoded(b"\4" * 65), "auth": encoded(b"a" * 16)},
            }
        ),
    ],
)
async def test_what_is_no_subscription_goes_nowhere_and_is_not_registered(
    stage: WebPushStage, token: str
) -> None:
    result = await one(stage, token=token)
    assert isinstance(result, Refused)
    with pytest.raises(BadRequestError) as refused:
        stage.provider.check_token(token)
    assert str(refused.value) == result.reason


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
        "[fc00::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
async def test_no_endpoint_leads_into_the_hosts_own_network(stage: WebPushStage, host: str) -> None:
    provider = stage.made(private_addresses=False)
    token = subscription(f"https://{host}:{stage.gateway.port}/push/0")
    (result,) = await provider.send([stage.push(token=token)])
    await provider.aclose()

    assert isinstance(result, Refused)
    assert "not public" in result.reason
    assert stage.gateway.opened == 0


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
async def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


async def test_the_address_that_was_checked_is_connected_to(
    stage: WebPushStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is asked for once: what it would resolve to a moment later does not matter."""
    asked: list[str] = []

    def look(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(0, 0, 0, "", ("127.0.0.1" if len(asked) > 1 else "203.0.114.1", port))]

    connected: list[str] = []

    async def connect(self: Any, host: str, *_: Any) -> Any:
        connected.append(host)
        raise OSError("nobody there")

    monkeypatch.setattr(_address.socket, "getaddrinfo", look)
    monkeypatch.setattr(_address.httpcore.AnyIOBackend, "connect_tcp", connect)
    with pytest.raises(OSError, match="nobody"):
        await PublicOnly().connect_tcp("rebinding.test", 443)

    assert (asked, connected) == (["rebinding.test"], ["203.0.114.1"])


async def test_one_private_address_among_public_ones_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(_address.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(NotPublicError):
        await PublicOnly().connect_tcp("mixed.test", 443)


async def test_a_name_that_is_none_is_no_crash(stage: WebPushStage) -> None:
    provider = stage.made(private_addresses=False)
    names = ["no-such-host.invalid", "x" * 300 + ".test", "a..b"]
    tokens = [subscription(f"https://{name}/push/0") for name in names]
    results = await provider.send([stage.push(token=token) for token in tokens])
    await provider.aclose()

    assert {type(result) for result in results} == {Retry}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[fe80::1%25eth0]"]
)
async def test_an_address_of_the_hosts_own_network_is_not_registered(stage: WebPushStage, host: str) -> None:
    provider = stage.made(private_addresses=False)
    with pytest.raises(BadRequestError, match="not public"):
        provider.check_token(subscription(f"https://{host}/push/0"))
    provider.check_token(subscription("https://[2606:4700:4700::1111]/push/0"))
    provider.check_token(subscription("https://push.example.org/push/0"))
    await provider.aclose()


async def test_only_push_services_that_the_host_names(stage: WebPushStage) -> None:
    provider = stage.made(services=PUSH_SERVICES)
    assert isinstance((await provider.send([stage.push()]))[0], Refused)
    with pytest.raises(BadRequestError, match="no push service that the host allows"):
        provider.check_token(stage.token(0))
    provider.check_token(subscription("https://fcm.googleapis.com/fcm/send/1"))
    await provider.aclose()
    allowing = stage.made(services=["localhost"])
    allowing.check_token(stage.token(0))
    assert isinstance((await allowing.send([stage.push()]))[0], Delivered)
    await allowing.aclose()


async def test_a_push_service_that_fails_stops_no_other_one(stage: WebPushStage) -> None:
    """Both are the same gateway under two names."""
    evil = [stage.push(number, message_id=f"evil-{number}") for number in range(20)]
    for push in evil:
        stage.plan(push, Act.FAIL)
        await stage.provider.send([push])
    before = len(stage.gateway.seen)
    other = stage.push(token=subscription(f"https://127.0.0.1:{stage.gateway.port}/push/0"))
    mine, its = await stage.provider.send([other, stage.push(30)])

    assert before < 20, "one was left alone"
    assert isinstance(mine, Delivered)
    assert isinstance(its, Retry)


@pytest.mark.parametrize(
    "reply",
    [Reply(401), Reply(403), Reply(301, {"location": "https://127.0.0.1/"})],
    ids=["401", "403", "301"],
)
async def test_an_endpoint_that_is_refused_stops_nobody_else_at_its_push_service(
    stage: WebPushStage, reply: Reply
) -> None:
    """Whoever subscribes with another key can have it answer so."""
    taken = stage.gateway.answer
    stage.gateway.answer = lambda request: reply
    evil = await stage.provider.send([stage.push(number) for number in range(20)])
    stage.gateway.answer = taken
    (good,) = await stage.provider.send([stage.push(30)])

    assert {(type(result), result.failed) for result in evil} == {(Retry, False)}
    assert isinstance(good, Delivered)


async def test_a_key_that_a_push_service_refuses_is_in_the_log(
    stage: WebPushStage, caplog: pytest.LogCaptureFixture
) -> None:
    await one(stage, Reply(403))

    (record,) = caplog.records
    assert record.message == f"{stage.gateway.url} refuses the app's key for a subscription: status 403"


async def test_names_are_resolved_within_bounds_and_no_service_is_blamed(stage: WebPushStage) -> None:
    provider = stage.made(private_addresses=False)
    looking = provider._http._backend._looking
    looking.update(object() for _ in range(_address.LOOKUPS_MAX))
    results = [(await provider.send([stage.push()]))[0] for _ in range(9)]
    looking.clear()
    after = (await provider.send([stage.push()]))[0]
    await provider.aclose()

    assert {(type(result), result.failed, result.reason) for result in results} == {
        (Retry, False, "too many names are being resolved")
    }
    assert "not public" in after.reason, "asked at once: no breaker is open"


@pytest.mark.parametrize(
    ("argument", "value"),
    [("key", b"x"), ("contact", "ops@example.org"), ("contact", None), ("services", "push.test")],
)
async def test_a_wrong_argument_is_named(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        WebPushProvider(**({"key": PEM, "contact": "mailto:a@b.test"} | {argument: value}))


async def test_the_browsers_key_is_a_point() -> None:
    provider = WebPushProvider(key=PEM, contact="mailto:a@b.test")

    assert len(provider.application_server_key) == 87
