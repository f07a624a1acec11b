"""Keys that an issuer publishes: fetched from a real socket, kept, bounded; and when they are fetched again."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import jwt
import pytest

from chatkit import jwks_authenticator
from chatkit.errors import ConfigurationError, TokenExpiredError, UnauthenticatedError, UnavailableError
from chatkit.server.auth import any_authenticator, jwt_authenticator, sign_token, user_id_from
from chatkit.server.jwk_set import KEYS_MAX, BoundKey, KeySet, read_key_set
from chatkit.server.jwks import DOCUMENT_BYTES_MAX, KeyCache
from tests.servers.issuer import Issuer, SigningKey, issuing

OLD, NEW, OTHER = SigningKey("old"), SigningKey("new"), SigningKey("other")
RSA, ED = SigningKey("rsa", "RS256"), SigningKey("ed", "EdDSA")
SECRET = "a-secret-of-this-test-with-at-least-32-bytes"


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now_s(self) -> float:
        return self.s

    def now_ms(self) -> int:
        return int(self.s * 1000)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Real sockets need real time; what is measured here is the test's own clock."""
    return "asyncio"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def user_of(authenticate: Any, token: str) -> str:
    return str((await authenticate(token)).user_id)


@pytest.mark.parametrize("key", [OLD, RSA, ED], ids=["ES256", "RS256", "EdDSA"])
async def test_a_key_of_each_kind(issuer: Issuer, key: SigningKey) -> None:
    issuer.publish(OTHER, key)
    authenticate = jwks_authenticator(issuer.url)

    identity = await authenticate(key.sign("ben", dev="phone", exp=2**33, iat=5, scope="chat"))  # type: ignore[misc]

    assert (identity.user_id, identity.device_id, identity.expires_ms) == ("ben", "phone", 2**33 * 1000)
    assert issuer.asked == ["/keys"]


async def test_one_fetch_serves_everybody_who_waits(issuer: Issuer) -> None:
    issuer.publish(OLD)
    issuer.release.clear()
    authenticate = jwks_authenticator(issuer.url)
    found: list[str] = []

    async def log_in(number: int) -> None:
        found.append(await user_of(authenticate, OLD.sign(f"u{number}")))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(log_in, number)
        await anyio.wait_all_tasks_blocked()
        issuer.release.set()

    assert sorted(found) == sorted(f"u{number}" for number in range(20))
    assert issuer.asked == ["/keys"]


async def test_a_new_key_works_at_its_first_token_and_a_withdrawn_one_no_more(
    issuer: Issuer, clock: Clock
) -> None:
    issuer.publish(OLD)
    authenticate = jwks_authenticator(issuer.url, clock=clock)
    await user_of(authenticate, OLD.sign())
    issuer.publish(NEW)
    clock.s += 5

    assert await user_of(authenticate, NEW.sign("ben")) == "ben"
    with pytest.raises(UnauthenticatedError):
        await user_of(authenticate, OLD.sign())


async def test_unknown_keys_ask_the_issuer_at_most_every_retry_s(issuer: Issuer, clock: Clock) -> None:
    issuer.publish(OLD)
    authenticate = jwks_authenticator(issuer.url, clock=clock, retry_s=5)
    for number in range(100):
        with pytest.raises(UnauthenticatedError):
            await user_of(authenticate, SigningKey(f"made-up-{number}").sign())
        clock.s += 0.1

    assert len(issuer.asked) == 2
    assert await user_of(authenticate, OLD.sign()) == "ann"


async def test_a_start_without_the_issuer_is_tried_again(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    authenticate = jwks_authenticator(f"http://127.0.0.1:{port}/keys", clock=clock)
    for _ in range(3):
        with pytest.raises(UnavailableError) as refused:
            await user_of(authenticate, OLD.sign())
        clock.s += 6

    assert refused.value.retryable and refused.value.retry_after_s == 5
    assert [it.levelname for it in caplog.records] == ["ERROR"], "said once"


async def test_keys_serve_while_the_issuer_fails_and_no_longer_than_that(
    issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.publish(OLD)
    authenticate = jwks_authenticator(issuer.url, clock=clock, refresh_s=600, stale_max_s=3600)
    await user_of(authenticate, OLD.sign())
    issuer.status = 500

    clock.s += 3500
    assert await user_of(authenticate, OLD.sign()) == "ann"
    assert len(issuer.asked) == 2
    with pytest.raises(UnavailableError):  # nobody can say whether it is a new one
        await user_of(authenticate, NEW.sign())
    clock.s += 101
    with pytest.raises(UnavailableError):
        await user_of(authenticate, OLD.sign())
    issuer.status = 200
    clock.s += 5
    assert await user_of(authenticate, OLD.sign()) == "ann"
    assert [it.levelname for it in caplog.records] == ["ERROR", "WARNING"]


ANSWERS: dict[str, Callable[[Issuer], None]] = {
    "not JSON": lambda it: setattr(it, "body", b"<html>"),
    "nested": lambda it: setattr(it, "body", b"[" * 100_000),
    "no set": lambda it: setattr(it, "body", b"[]"),
    "no list": lambda it: setattr(it, "body", b'{"keys": {}}'),
    "no keys": lambda it: setattr(it, "body", b'{"keys": []}'),
    "too long": lambda it: setattr(it, "body", b" " * (DOCUMENT_BYTES_MAX + 1)),
    "not found": lambda it: setattr(it, "status", 404),
    "compressed": lambda it: it.headers.update({"Content-Encoding": "gzip"}),
    "elsewhere": lambda it: (setattr(it, "status", 302), it.headers.update(Location=f"{it.url}2")),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=[*ANSWERS])
async def test_what_is_no_set_of_keys_is_a_failure(issuer: Issuer, answer: Callable[[Issuer], None]) -> None:
    issuer.publish(OLD)
    answer(issuer)
    with pytest.raises(UnavailableError):
        await user_of(jwks_authenticator(issuer.url), OLD.sign())
    assert issuer.asked == ["/keys"], "no redirect is followed"


PUBLISHED = SigningKey("rsa", "RS256")
UNUSABLE: dict[str, Any] = {
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"},
    "for encryption": OLD.public(use="enc"),
    "to sign only": OLD.public(key_ops=["sign"]),
    "odd operations": OLD.public(key_ops=7),
    "another curve": SigningKey("p384", "ES384").public(alg="ES256"),
    "an algorithm of another kind": OLD.public(alg="RS256"),
    "an algorithm that is none": OLD.public(alg=["ES256"]),
    "an id that is none": OLD.public(kid=7),
    "an id without end": OLD.public(kid="k" * 1000),
    "no point of the curve": OLD.public(x="AAAA"),
    "a kind that is none": OLD.public(kty=["EC"]),
    "a curve that is none": OLD.public(crv=["P-256"]),
    "a small key": {
        "kty": "RSA",
        "kid": "s",
        "alg": "RS256",
        "e": "AQAB",
        "n": jwt.utils.to_base64url_uint((1 << 1023) + 1).decode(),
    },
    "nothing": None,
    "a number": 5,
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=[*UNUSABLE])
async def test_a_key_that_cannot_be_used_does_no_harm_to_its_neighbour(issuer: Issuer, entry: Any) -> None:
    algorithms = ("RS256", "ES256")
    keys = read_key_set(json.dumps({"keys": [entry, NEW.public()]}).encode(), algorithms, jwt.PyJWK)
    assert len(keys) == 1 and len(keys.of("new")) == 1
    with pytest.raises(ValueError, match="none of its 1 keys"):
        read_key_set(json.dumps({"keys": [entry]}).encode(), algorithms, jwt.PyJWK)


def test_only_so_many_keys_are_looked_at() -> None:
    entries = [OLD.public(kid=f"k{number}") for number in range(KEYS_MAX + 50)]
    assert len(read_key_set(json.dumps({"keys": entries}).encode(), ["ES256"], jwt.PyJWK)) == KEYS_MAX


async def test_a_key_that_names_no_algorithm_is_bound_by_its_kind(issuer: Issuer) -> None:
    entry = RSA.public()
    del entry["alg"]
    issuer.publish(entry, OLD)
    authenticate = jwks_authenticator(issuer.url, algorithms=["ES256", "RS256"])
    assert await user_of(authenticate, RSA.sign()) == "ann"
    keys = read_key_set(issuer.body, ["ES256", "RS512", "RS256"], jwt.PyJWK)
    assert [list(it.algorithms) for it in keys.of("rsa")] == [["RS512", "RS256"]]


async def test_a_token_without_a_kid_means_the_only_key(issuer: Issuer) -> None:
    unnamed = SigningKey(None)
    issuer.publish(unnamed)
    assert await user_of(jwks_authenticator(issuer.url), unnamed.sign()) == "ann"
    issuer.publish(unnamed, OLD)
    with pytest.raises(UnauthenticatedError):
        await user_of(jwks_authenticator(issuer.url), unnamed.sign())


def public_bytes(key: SigningKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    found: bytes = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def hs256(key: bytes, headers: dict[str, Any]) -> str:
    """Signed with what is no secret; PyJWT itself would not do it."""
    import base64
    import hashlib
    import hmac

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = encoded(json.dumps({"alg": "HS256", **headers}).encode()) + "." + encoded(b'{"sub":"ann"}')
    return head + "." + encoded(hmac.new(key, head.encode(), hashlib.sha256).digest())


async def test_attack_36_a_token_cannot_choose_its_key_or_algorithm(issuer: Issuer) -> None:
    with issuing() as attacker:
        own = SigningKey("own")
        attacker.publish(own)
        issuer.publish(OLD, RSA)
        authenticate = jwks_authenticator(issuer.url)
        await user_of(authenticate, OLD.sign())
        forged = [
            jwt.encode({"sub": "ann"}, None, "none", headers={"kid": "old"}),
            hs256(public_bytes(OLD), {"kid": "old"}),
            hs256(public_bytes(RSA), {"kid": "rsa"}),
            hs256(json.dumps(OLD.public()).encode(), {"kid": "old"}),
            OTHER.sign(headers={"kid": "old"}),
            OLD.sign(headers={"kid": "rsa"}),
            OLD.sign(headers={"kid": "other"}),
            RSA.sign(headers={"kid": "old"}),
            jwt.encode({"sub": "ann"}, RSA.private, "RS512", headers={"kid": "rsa"}),
            jwt.encode({"sub": "ann"}, RSA.private, "PS256", headers={"kid": "rsa"}),
            own.sign(headers={"kid": "old", "jwk": own.public()}),
            own.sign(headers={"kid": "old", "jku": attacker.url}),
            own.sign(headers={"kid": "old", "x5u": attacker.url}),
            own.sign(headers={"kid": "own", "jku": attacker.url}),
            own.sign(headers={"kid": "old", "x5c": ["AAAA"]}),
            OLD.sign(headers={"crit": ["exp"], "exp": 1}),
            OLD.sign(headers={"crit": []}),
            OLD.sign() + "x",
            "x.y.z",
            "",
        ]
        for token in forged:
            with pytest.raises(UnauthenticatedError):
                await user_of(authenticate, token)

        assert attacker.asked == [], "nobody asks where a token says"
        assert await user_of(authenticate, OLD.sign()) == "ann"


async def test_times_issuer_and_audience_are_held(issuer: Issuer, clock: Clock) -> None:
    issuer.publish(OLD)
    authenticate = jwks_authenticator(issuer.url, clock=clock, issuer="https://issuer", audience=["chat"])
    good = {"iss": "https://issuer", "aud": "chat", "exp": 1100}
    assert await user_of(authenticate, OLD.sign(**good)) == "ann"
    for bad in ({"iss": "https://other"}, {"aud": "shop"}, {"nbf": 1031}, {"iss": None}, {"aud": None}):
        claims = {name: value for name, value in {**good, **bad}.items() if value is not None}
        with pytest.raises(UnauthenticatedError):
            await user_of(authenticate, OLD.sign(**claims))
    with pytest.raises(TokenExpiredError):
        await user_of(authenticate, OLD.sign(**{**good, "exp": 969}))


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example.org/keys",
        "http://10.0.0.1/keys",
        "http://localhost.example.org/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
        "https://user:password@issuer.example.org/keys",
        "https://issuer.example.org/keys#x",
        "https:///keys",
        "https://issuer.example.org:port/keys",
        "",
        None,
    ],
)
def test_another_url_is_refused_and_not_repeated(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="url must") as refused:
        jwks_authenticator(url)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize("algorithms", [["HS256"], ["none"], [], "RS256", ["RS256", "HS256"], ["XX1"]])
def test_an_algorithm_with_a_secret_is_none_for_published_keys(algorithms: Any) -> None:
    with pytest.raises(ConfigurationError):
        jwks_authenticator("https://issuer.example.org/keys", algorithms=algorithms)


@pytest.mark.parametrize(
    "times",
    [
        {"leeway_s": -1},
        {"refresh_s": -1},
        {"retry_s": "5"},
        {"stale_max_s": 599},
        {"refresh_s": float("nan")},
    ],
)
def test_times_that_make_no_sense_are_refused_by_name(times: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(times))):
        jwks_authenticator("https://issuer.example.org/keys", **times)


async def test_several_ways_side_by_side(issuer: Issuer, clock: Clock) -> None:
    issuer.publish(OLD)
    authenticate = any_authenticator(
        jwt_authenticator(SECRET, clock=clock),
        jwks_authenticator(issuer.url, clock=clock, user_id=user_id_from),
    )
    assert await user_of(authenticate, sign_token(SECRET, user_id="ann", clock=clock)) == "ann"
    assert issuer.asked == []
    assert await user_of(authenticate, OLD.sign("auth0|7")) == "auth0:7C7"
    with pytest.raises(UnauthenticatedError):
        await user_of(authenticate, OTHER.sign())
    with pytest.raises(TokenExpiredError):
        await user_of(authenticate, sign_token(SECRET, user_id="ann", ttl_s=-60, clock=clock))
    with pytest.raises(ConfigurationError):
        any_authenticator()


class Loads:
    """Keys that come when a test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = anyio.Event()

    async def __call__(self) -> KeySet:
        self.begun += 1
        await self.go.wait()
        return KeySet({"a": [BoundKey("key", ["ES256"])]})


async def test_who_hangs_up_during_a_fetch_does_not_end_it_for_the_others(clock: Clock) -> None:
    loads = Loads()
    cache = KeyCache(loads, clock, 600, 3600, 5)
    found = []

    async def look() -> None:
        found.append(await cache.of("a"))

    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def hang_up() -> None:
            with first:
                await cache.of("a")

        tasks.start_soon(hang_up)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(look)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        loads.go.set()

    assert loads.begun == 1 and len(found) == 1 and len(found[0]) == 1


async def test_while_one_fetches_the_others_go_on_with_what_is_held(clock: Clock) -> None:
    loads = Loads()
    loads.go.set()
    cache = KeyCache(loads, clock, 600, 3600, 5)
    await cache.of("a")
    loads.go = anyio.Event()
    clock.s += 601
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.of, "a")
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert len(await cache.of("a")) == 1
        loads.go.set()
    assert loads.begun == 2
