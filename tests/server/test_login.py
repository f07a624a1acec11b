"""HELLO, renewal, expiry and resume tokens; and tokens that prove nothing."""

from __future__ import annotations

import base64
import json

import anyio
import jwt
import pytest

from chatkit.errors import ConfigurationError, TokenExpiredError, UnauthenticatedError
from chatkit.server.auth import jwt_authenticator, sign_token
from chatkit.testing.virtual_time import VirtualClock
from chatkit.types import Identity

from .harness import Peer, login, serving

SECRET = "a-secret-of-at-least-32-characters"


class ManualClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def now_s(self) -> float:
        return self.s

    def now_ms(self) -> int:
        return int(self.s * 1000)


def hello(**fields: str) -> dict[str, str]:
    return {"event": "HELLO", "deviceId": "phone", **fields}


async def test_a_resume_token_logs_in_once() -> None:
    async with serving() as server:
        first = Peer(server)
        first.say(hello(token="ann"))
        (welcome,) = await first.hear("WELCOME")
        first.leave()
        second = Peer(server)
        second.say(hello(resumeToken=welcome["resumeToken"]))
        (resumed,) = await second.hear("WELCOME")
        again = Peer(server)
        again.say(hello(resumeToken=welcome["resumeToken"]))

        assert (resumed["userId"], resumed["resumed"], welcome["resumed"]) == ("ann", True, False)
        assert resumed["resumeToken"] != welcome["resumeToken"]
        assert await again.closed() == 4101
        assert second.session.close_code is None


async def test_a_resume_token_is_bound_to_its_device() -> None:
    async with serving() as server:
        ann = Peer(server)
        ann.say(hello(token="ann"))
        (welcome,) = await ann.hear("WELCOME")
        thief = Peer(server)
        thief.say({**hello(resumeToken=welcome["resumeToken"]), "deviceId": "stolen"})

        assert await thief.closed() == 4101
        assert ann.session.close_code is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"token": "nobody"}, 4101),
        ({"token": "ann/tablet"}, 4101),
        ({"resumeToken": "guess"}, 4101),
        ({}, 4203),
        ({"token": "ann", "resumeToken": "x"}, 4203),
    ],
)
async def test_a_login_that_does_not_hold_is_told_why_and_closed(fields: dict[str, str], code: int) -> None:
    async with serving() as server:
        peer = Peer(server)
        peer.say(hello(**fields))
        closed = await peer.closed()
        (error,) = [event for event in peer.read() if event["event"] == "ERROR"]

        assert closed == code
        assert error["code"] in {"UNAUTHENTICATED", "TOKEN_REVOKED", "BAD_REQUEST"}


async def test_a_login_service_that_fails_is_no_wrong_password(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(token: str) -> Identity:
        raise ConnectionError("the directory is down")

    async with serving(authenticate=broken) as server:
        peer = Peer(server)
        peer.say(hello(token="ann"))
        code = await peer.closed()
        (error,) = [event for event in peer.read() if event["event"] == "ERROR"]

    assert (code, error["code"], error["retryable"]) == (4002, "UNAVAILABLE", True)
    assert "the directory is down" in caplog.text


async def test_a_host_that_proves_an_impossible_user_is_at_fault_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def careless(token: str) -> Identity:
        return Identity("ann lee")

    async with serving(authenticate=careless) as server:
        peer = Peer(server)
        peer.say(hello(token="ann"))

        assert await peer.closed() == 4101
        (error,) = [event for event in peer.read() if event["event"] == "ERROR"]
    assert (error["code"], error["retryable"]) == ("UNAUTHENTICATED", False)
    assert "user_id_from" in caplog.text


async def for_two_minutes(token: str) -> Identity:
    return Identity(token, None, VirtualClock().now_ms() + 120_000)


async def keep_alive(*peers: Peer, until_s: float) -> None:
    """Let time pass while these clients stay in touch."""
    while anyio.current_time() < until_s:
        for peer in peers:
            peer.say({"event": "PING"})
        await anyio.sleep(10)


async def test_a_login_is_warned_of_its_end_renewed_and_ended() -> None:
    async with serving(authenticate=for_two_minutes) as server:
        ann, ben = await login(server, "ann"), await login(server, "ben")
        began_s = anyio.current_time()
        await keep_alive(ann, ben, until_s=began_s + 100)
        (warning,) = await ann.hear("TOKEN_EXPIRING")
        ann.say({"event": "AUTH_REFRESH", "token": "ann", "ref": "r"})
        (renewed,) = await ann.hear("AUTH_OK")
        await keep_alive(ann, ben, until_s=began_s + 160)  # the old end and the leeway have passed

        assert (renewed["ref"], renewed["expiresTs"]) == ("r", warning["expiresTs"] + 100_000)
        assert ann.session.close_code is None
        assert ben.session.close_code == 4100


async def test_a_renewal_with_the_same_end_brings_no_second_warning() -> None:
    expires_ms = VirtualClock().now_ms() + 120_000

    async def until_then(token: str) -> Identity:
        return Identity(token, None, expires_ms)

    async with serving(authenticate=until_then) as server:
        ann = await login(server, "ann")
        began_s = anyio.current_time()
        await keep_alive(ann, until_s=began_s + 100)
        await ann.hear("TOKEN_EXPIRING")
        ann.say({"event": "AUTH_REFRESH", "token": "ann"})
        await ann.hear("AUTH_OK")
        await keep_alive(ann, until_s=began_s + 115)

        assert [event["event"] for event in ann.read() if event["event"] != "PONG"] == []


async def test_a_resume_token_does_not_outlive_its_login_and_disturbs_nobody() -> None:
    async with serving(authenticate=for_two_minutes) as server:
        ann, ben = Peer(server), Peer(server)
        ann.say(hello(token="ann"))
        ben.say({**hello(token="ben"), "deviceId": "tablet"})
        (of_ann,), (of_ben,) = await ann.hear("WELCOME"), await ben.hear("WELCOME")
        began_s = anyio.current_time()
        await keep_alive(ann, ben, until_s=began_s + 100)
        ann.say({"event": "AUTH_REFRESH", "token": "ann"})
        await ann.hear("AUTH_OK")
        await keep_alive(ann, ben, until_s=began_s + 160)
        late = Peer(server)
        late.say({**hello(resumeToken=of_ben["resumeToken"]), "deviceId": "tablet"})
        code = await late.closed()
        untouched = ann.session.close_code
        renewed = Peer(server)
        renewed.say(hello(resumeToken=of_ann["resumeToken"]))
        (welcome,) = await renewed.hear("WELCOME")

        assert code == 4100
        assert untouched is None
        assert welcome["expiresTs"] == of_ann["expiresTs"] + 100_000


@pytest.mark.parametrize(("token", "code"), [("ben", 4101), ("ann/tablet", 4101), ("nobody", None)])
async def test_a_renewal_by_another_is_closed_and_a_bad_one_only_refused(
    token: str, code: int | None
) -> None:
    async with serving() as server:
        ann = await login(server, "ann")
        ann.say({"event": "AUTH_REFRESH", "token": token})
        if code is None:
            (error,) = await ann.hear("ERROR")
            assert error["code"] == "UNAUTHENTICATED"
            assert ann.session.close_code is None
        else:
            assert await ann.closed() == code


async def test_a_signed_token_proves_its_user_and_device() -> None:
    clock = ManualClock()
    token = sign_token(SECRET, user_id="ann", device_id="phone", ttl_s=60, clock=clock)
    identity = await jwt_authenticator(SECRET, clock=clock)(token)

    assert identity == Identity("ann", "phone", 1_060_000, "chat", 1_000_000)


async def test_an_expired_token_says_so_after_the_leeway() -> None:
    clock = ManualClock()
    authenticate = jwt_authenticator(SECRET, leeway_s=30, clock=clock)
    token = sign_token(SECRET, user_id="ann", ttl_s=60, clock=clock)
    clock.s += 89
    await authenticate(token)
    clock.s += 2

    with pytest.raises(TokenExpiredError):
        await authenticate(token)


def unsigned(claims: dict[str, object]) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


@pytest.mark.parametrize(
    "token",
    [
        unsigned({"sub": "ann"}),
        jwt.encode({"sub": "ann"}, "another-secret-of-32-characters!!"),
        jwt.encode({"sub": "ann"}, SECRET + SECRET, algorithm="HS512"),
        jwt.encode({"sub": "ann/../x"}, SECRET),
        jwt.encode({}, SECRET),
        jwt.encode({"sub": "ann", "nbf": 10**10}, SECRET),
        jwt.encode({"sub": "ann", "dev": 7}, SECRET),
        jwt.encode({"sub": "ann", "exp": 1e300}, SECRET),
        "",
        "a.b.c",
        "x" * 10_000,
    ],
)
async def test_a_token_that_proves_nothing_is_refused(token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await jwt_authenticator(SECRET)(token)


@pytest.mark.parametrize("secret", ["", "short", b"x" * 31])
def test_a_short_secret_is_a_wrong_set_up(secret: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="at least 32"):
        jwt_authenticator(secret)
    with pytest.raises(ConfigurationError, match="at least 32"):
        sign_token(secret, user_id="ann")
