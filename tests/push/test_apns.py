"""APNs: what Apple is sent, how its words are understood, and what HTTP/2 does to a connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import jwt
import pytest

from chatkit.errors import BadRequestError, ConfigurationError
from chatkit.push.apns import TOKEN_AGE_MAX_S, TOKEN_AGE_MIN_S, ApnsPushProvider
from chatkit.push.base import Dead, Delivered, Push, Refused, Result, Retry, Unknown
from chatkit.testing.contracts.push import Act
from tests.servers.push_gateway import Fault, Reply, Request

from .stages import KEY, PEM, TIMEOUT_S, ApnsStage, problem, taken


@pytest.fixture
async def stage() -> AsyncIterator[ApnsStage]:
    async with ApnsStage() as stage:
        yield stage


def answered(stage: ApnsStage, *replies: Reply | Fault | Callable[[Request], Reply]) -> None:
    """The gateway answers so, in order, and takes what comes after."""
    left = list(replies)

    def answer(request: Request) -> Reply | Fault:
        reply = left.pop(0) if left else taken
        return reply if isinstance(reply, Reply | Fault) else reply(request)

    stage.gateway.answer = answer


async def one(stage: ApnsStage, *replies: Reply | Fault, push: Push | None = None) -> Result:
    """The result of a push that is answered so."""
    answered(stage, *replies)
    (result,) = await stage.provider.send([push or stage.push()])
    return result


def bearer(request: Request) -> str:
    kind, _, token = request.headers["authorization"].partition(" ")
    assert kind == "bearer"
    return token


async def test_what_apple_is_sent(stage: ApnsStage) -> None:
    push = stage.push(badge=3, data={"x": "y"}, expires_at_ms=stage.clock.now_ms() + 60_000)
    assert await one(stage, push=push) == Delivered(push.id)
    (request,) = stage.gateway.seen

    assert request.path == f"/3/device/{push.token}"
    assert {name: request.headers[name] for name in request.headers if name.startswith("apns")} == {
        "apns-id": push.id,
        "apns-topic": "org.example.chat",
        "apns-collapse-id": "c-0",
        "apns-expiration": str(push.expires_at_ms // 1000),
        "apns-push-type": "alert",
        "apns-priority": "10",
    }
    assert json.loads(request.body) == {
        "aps": {
            "alert": {"title": "Ann", "body": "hello"},
            "badge": 3,
            "sound": "default",
            "mutable-content": 1,
            "thread-id": "c-0",
        },
        "conversationId": "c-0",
        "messageId": "m-0",
        "data": {"x": "y"},
    }


async def test_the_provider_token_is_signed_and_used_again(stage: ApnsStage) -> None:
    answered(stage)
    await stage.provider.send([stage.push(number) for number in range(3)])
    (token,) = {bearer(request) for request in stage.gateway.seen}
    claims = jwt.decode(token, KEY.public_key(), algorithms=["ES256"])

    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "ABC123DEFG", "typ": "JWT"}
    assert claims["iss"] == "TEAM123456"
    assert abs(claims["iat"] - stage.clock.now_ms() / 1000) < 5


async def test_the_provider_token_is_made_anew_before_apple_refuses_it(stage: ApnsStage) -> None:
    answered(stage)
    for passed_s in (0, TOKEN_AGE_MAX_S - 10, 20):
        stage.pass_s(passed_s)
        await stage.provider.send([stage.push()])
    first, second, third = [bearer(request) for request in stage.gateway.seen]

    assert first == second != third
    assert TOKEN_AGE_MAX_S < 3600


async def test_an_expired_provider_token_is_replaced_once_for_all(stage: ApnsStage) -> None:
    await one(stage)
    old = bearer(stage.gateway.seen[0])
    stage.pass_s(TOKEN_AGE_MIN_S + 1)
    stage.gateway.answer = lambda request: (
        problem(403, "ExpiredProviderToken") if bearer(request) == old else taken(request)
    )
    results = await stage.provider.send([stage.push(number) for number in range(10)])

    assert {type(result) for result in results} == {Delivered}
    assert len({bearer(request) for request in stage.gateway.seen}) == 2, "one new token for all ten"


async def test_no_new_provider_token_before_its_time(
    stage: ApnsStage, caplog: pytest.LogCaptureFixture
) -> None:
    result = await one(stage, problem(403, "ExpiredProviderToken"))

    assert isinstance(result, Retry)
    assert len(stage.gateway.seen) == 1
    assert "clock" in caplog.text


async def test_a_token_that_still_counts_as_expired_is_not_asked_for_for_ever(stage: ApnsStage) -> None:
    await one(stage)
    stage.pass_s(TOKEN_AGE_MIN_S + 1)

    assert isinstance(await one(stage, *[problem(403, "ExpiredProviderToken")] * 9), Retry)
    assert len(stage.gateway.seen) == 3


@pytest.mark.parametrize(
    ("reply", "kind", "failed"),
    [
        (problem(400, "BadDeviceToken"), Refused, None),
        (problem(400, "DeviceTokenNotForTopic"), Refused, None),
        (problem(400, "PayloadEmpty"), Refused, None),
        (problem(404, "BadPath"), Refused, None),
        (problem(413, "PayloadTooLarge"), Refused, None),
        (problem(403, "InvalidProviderToken"), Retry, True),
        (problem(410, "Unregistered"), Dead, None),
        (problem(410, "ExpiredToken"), Dead, None),
        (Reply(410), Retry, True),
        (Reply(404, {}, b"<html>"), Retry, True),
        (Reply(302, {"location": "https://127.0.0.1/"}), Retry, True),
        (problem(429, "TooManyRequests"), Retry, False),
        (problem(429, "TooManyProviderTokenUpdates"), Retry, True),
        (problem(500, "InternalServerError"), Retry, True),
        (problem(503, "Shutdown"), Retry, True),
        (Reply(502, {}, b"<html>"), Retry, True),
        (Reply(200), Unknown, None),
        (Fault.RESET, Unknown, None),
        (Fault.ENDLESS, Unknown, None),
    ],
)
async def test_what_apples_words_mean(
    stage: ApnsStage, reply: Reply | Fault, kind: type[Any], failed: bool | None
) -> None:
    result = await one(stage, reply)

    assert type(result) is kind
    assert getattr(result, "failed", None) is failed
    assert isinstance(await one(stage), Delivered), "the next one is fine"


async def test_a_dead_token_is_dated(stage: ApnsStage) -> None:
    assert await one(stage, problem(410, "Unregistered", timestamp=1_700_000_000_000)) == Dead(
        "Unregistered", 1_700_000_000_000
    )


@pytest.mark.parametrize("said", ["yesterday", 1.5, None, True])
async def test_a_date_that_is_none_is_left_away(stage: ApnsStage, said: Any) -> None:
    assert await one(stage, problem(410, "Unregistered", timestamp=said)) == Dead("Unregistered")


async def test_a_token_that_is_none_reaches_no_path(stage: ApnsStage) -> None:
    for token in ("../../admin", "a b", "é", "x/y?z"):
        assert isinstance(await one(stage, push=stage.push(token=token)), Refused)
    assert stage.gateway.seen == []


async def test_long_and_strange_collapse_ids_are_told_apart(stage: ApnsStage) -> None:
    answered(stage)
    names = ["c" * 65, "d" * 65, "grüße", " c", "c" * 64]
    await stage.provider.send([stage.push(number, collapse_id=name) for number, name in enumerate(names)])
    sent = [request.headers["apns-collapse-id"] for request in stage.gateway.seen]

    assert len(set(sent)) == len(names)
    assert all(len(each) <= 64 and each.isascii() for each in sent)
    assert "c" * 64 in sent


async def test_without_words_the_app_is_woken_and_nothing_is_shown(stage: ApnsStage) -> None:
    await one(stage, push=stage.push(title=None, body=None, badge=0))
    (request,) = stage.gateway.seen

    assert request.headers["apns-push-type"] == "background"
    assert request.headers["apns-priority"] == "5"
    assert json.loads(request.body)["aps"] == {"content-available": 1, "badge": 0, "thread-id": "c-0"}


async def test_a_goaway_while_answers_are_under_way_repeats_nothing_by_itself(stage: ApnsStage) -> None:
    answered(stage, Fault.HANG, Fault.GOAWAY)
    results = await stage.provider.send([stage.push(number) for number in range(2)])
    again = await stage.provider.send([stage.push(number) for number in range(2)])

    assert {type(result) for result in results} <= {Unknown, Delivered}
    assert isinstance(results[0], Unknown)
    assert {type(result) for result in again} == {Delivered}
    ids = [request.headers["apns-id"] for request in stage.gateway.seen]
    assert ids[:2] == ids[2:], "sent again by us, under the same ids"


async def test_twenty_pushes_meet_a_goaway_in_the_middle(stage: ApnsStage) -> None:
    answered(stage, *[taken] * 9, Fault.GOAWAY)
    results = await stage.provider.send([stage.push(number) for number in range(20)])
    ids = [request.headers["apns-id"] for request in stage.gateway.seen]

    assert {type(result) for result in results} <= {Delivered, Unknown}
    assert len(ids) == len(set(ids)), "what Apple did not count in is sent again, and nothing else"
    assert [type(results[number]) for number in range(10, 20)] == [Delivered] * 10
    assert isinstance(await one(stage), Delivered)


async def test_a_connection_that_was_closed_while_idle_costs_nobody_a_push(stage: ApnsStage) -> None:
    for _ in range(3):
        assert isinstance(await one(stage), Delivered)
        await stage.gateway.cut_all()
    assert stage.gateway.opened == 3


async def test_a_goaway_that_came_while_idle_costs_nobody_a_push(stage: ApnsStage) -> None:
    for _ in range(3):
        assert isinstance(await one(stage), Delivered)
        stage.gateway.goaway_all()
    assert len(stage.gateway.seen) == 3


async def test_one_connection_carries_them_all(stage: ApnsStage) -> None:
    for _ in range(3):
        await stage.provider.send([stage.push(number) for number in range(20)])
    assert stage.gateway.opened == 1


async def test_a_stream_limit_of_one_is_kept() -> None:
    async with ApnsStage(streams_max=1) as stage:
        results = await stage.provider.send([stage.push(number) for number in range(20)])

        assert {type(result) for result in results} == {Delivered}
        assert stage.gateway.streams_open_most == 1
        assert stage.gateway.opened == 1


async def test_behind_a_hanging_push_on_the_only_stream_the_others_never_left() -> None:
    async with ApnsStage(streams_max=1) as stage:
        pushes = [stage.push(number) for number in range(10)]
        stage.plan(pushes[0], Act.HANG)
        first, *others = await stage.provider.send(pushes)

        assert isinstance(first, Unknown)
        assert isinstance(others[0], Retry), "none of them left, and none is lost"
        assert {type(result) for result in others} <= {Retry, Delivered}, (
            "on a busy machine the last may find it free"
        )
        stage.pass_s(3600)
        await stage.provider.send(pushes[:1])
        assert [type(result) for result in await stage.provider.send(pushes)] == [Delivered] * 10


async def test_pushes_that_come_while_one_hangs_leave_on_a_fresh_connection() -> None:
    """A request that was given up takes up the server's streams; nobody else may suffer from it."""
    async with ApnsStage(streams_max=1) as stage:
        hanging = stage.push(0)
        stage.plan(hanging, Act.HANG)
        found: list[Result] = []

        async def late() -> None:
            await anyio.sleep(TIMEOUT_S / 2)
            found.extend(await stage.provider.send([stage.push(number) for number in range(1, 6)]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.provider.send, [hanging])
            tasks.start_soon(late)

        assert {type(result) for result in found} == {Delivered}


async def test_hanging_pushes_use_up_no_connection_for_good() -> None:
    async with ApnsStage(streams_max=3) as stage:
        for _ in range(4):
            pushes = [stage.push(number) for number in range(3)]
            for push in pushes:
                stage.plan(push, Act.HANG)
            await stage.provider.send(pushes)
            stage.pass_s(3600)

            assert isinstance((await stage.provider.send([stage.push(9)]))[0], Delivered)


async def test_a_stream_limit_that_sinks_delays_pushes_and_no_more(stage: ApnsStage) -> None:
    pushes = [stage.push(number) for number in range(20)]
    answered(stage, Fault.HANG, Fault.LOWER)
    with anyio.fail_after(2 * TIMEOUT_S + 1):
        results = await stage.provider.send(pushes)
    stage.pass_s(3600)

    assert {type(result) for result in results} <= {Unknown, Retry, Delivered}
    assert isinstance(await one(stage), Delivered)


async def test_nobody_there_is_worth_a_retry(stage: ApnsStage) -> None:
    provider = ApnsPushProvider(key=PEM, key_id="K", team_id="T", topic="t", url="https://localhost:1")
    (result,) = await provider.send([stage.push()])
    await provider.aclose()

    assert isinstance(result, Retry)
    assert "ConnectError" in result.reason


async def test_a_certificate_that_nobody_trusts_is_no_delivery(stage: ApnsStage) -> None:
    provider = stage.made(ssl_context=None)
    (result,) = await provider.send([stage.push()])
    await provider.aclose()

    assert isinstance(result, Retry)
    assert stage.gateway.seen == []


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("key", "no key"),
        ("key", None),
        ("key_id", None),
        ("topic", 7),
        ("url", "http://localhost"),
        ("timeout_s", 0),
        ("in_flight_max", 0),
        ("ssl_context", True),
        ("proxy", "socks5://localhost"),
        ("proxy", 7),
    ],
)
async def test_a_wrong_argument_is_named(argument: str, value: Any) -> None:
    good = {"key": PEM, "key_id": "K", "team_id": "T", "topic": "t"}
    with pytest.raises(ConfigurationError, match=argument):
        ApnsPushProvider(**(good | {argument: value}))


async def test_what_is_no_device_token_is_not_registered(stage: ApnsStage) -> None:
    stage.provider.check_token(stage.token(0))
    for token in ("../../3/device/1", "é", "a b", "0\r\nx: y"):
        with pytest.raises(BadRequestError, match="no device token"):
            stage.provider.check_token(token)
        (result,) = await stage.provider.send([stage.push(token=token)])
        assert isinstance(result, Refused)
    assert stage.gateway.seen == []
