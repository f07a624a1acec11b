"""Keys of JSON Web Tokens, found fit at set-up and changed while tokens live; and ids of identity providers."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from chatkit.errors import BadRequestError, ConfigurationError, UnauthenticatedError
from chatkit.server import auth
from chatkit.server.auth import external_id_of, jwt_authenticator, sign_token, user_id_from

OLD = "the-old-secret-of-at-least-32-characters"
NEW = "the-new-secret-of-at-least-32-characters"
PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("key", "algorithms", "words"),
    [
        (PEM, ["HS256"], "no key for HS256"),
        (PEM, ["RS256"], "cryptography|no key for RS256"),
        ("no PEM at all, but as long as a secret", ["ES256"], "cryptography|no key for ES256"),
        (OLD, ["HS257"], "no algorithm"),
        (OLD, ["none"], "no key for none"),
        (OLD, ["HS256", "RS256"], "one authenticator each"),
        (OLD, "HS256", "must be a list"),
        (OLD, [], "must be a list"),
        (5, ["HS256"], "not int"),
        (None, ["HS256"], "not NoneType"),
        ([OLD, None], ["HS256"], "not NoneType"),
        ([], ["HS256"], "at least one"),
        ({}, ["HS256"], "at least one"),
        ([OLD, "short"], ["HS256"], "at least 32"),
        ({"a": OLD, "b": "short"}, ["HS256"], "at least 32"),
    ],
)
def test_a_key_that_is_none_is_found_at_set_up(key: Any, algorithms: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        jwt_authenticator(key, algorithms=algorithms)


async def test_any_of_several_secrets_fits() -> None:
    authenticate = jwt_authenticator([NEW, OLD])
    for secret in (OLD, NEW):
        assert (await authenticate(sign_token(secret, user_id="ann"))).user_id == "ann"  # type: ignore[misc]
    with pytest.raises(UnauthenticatedError):
        await authenticate(sign_token(NEW + OLD, user_id="ann"))  # type: ignore[misc]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_public_key_fits_what_its_private_one_signed_and_nothing_else(algorithm: str) -> None:
    private, public = key_pair(algorithm)
    other, _ = key_pair(algorithm)
    authenticate = jwt_authenticator(public, algorithms=[algorithm])
    assert (await authenticate(jwt.encode({"sub": "ann"}, private, algorithm))).user_id == "ann"  # type: ignore[misc]
    for token in (
        jwt.encode({"sub": "ann"}, other, algorithm),
        jwt.encode({"sub": "ann"}, OLD, "HS256"),
        jwt.encode({"sub": "ann"}, None, "none"),
    ):
        with pytest.raises(UnauthenticatedError):
            await authenticate(token)  # type: ignore[misc]


def key_pair(algorithm: str) -> tuple[bytes, bytes]:
    """A private and a public key, as PEM."""
    private: Any
    if algorithm == "RS256":
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        private = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else ed25519.Ed25519PrivateKey.generate()
        )
    pem, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return (
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        private.public_key().public_bytes(pem, spki),
    )


async def test_a_key_is_found_by_its_name_and_no_other_is_tried() -> None:
    authenticate = jwt_authenticator({"old": OLD, "new": NEW})
    for name, secret in (("old", OLD), ("new", NEW)):
        token = jwt.encode({"sub": "ann"}, secret, headers={"kid": name})
        assert (await authenticate(token)).user_id == "ann"  # type: ignore[misc]
    for headers in ({"kid": "new"}, {"kid": "none"}, {}):
        with pytest.raises(UnauthenticatedError):
            await authenticate(jwt.encode({"sub": "ann"}, OLD, headers=headers))  # type: ignore[misc]


async def test_a_providers_id_comes_in_by_the_option_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth._log_once.cache_clear()  # once in a process, and a test before this one may have been it
    token = jwt.encode({"sub": "auth0|5f7c"}, OLD)
    with pytest.raises(UnauthenticatedError):
        await jwt_authenticator(OLD)(token)  # type: ignore[misc]
    identity = await jwt_authenticator(OLD, user_id=user_id_from)(token)  # type: ignore[misc]

    assert identity.user_id == "auth0:7C5f7c"
    assert caplog.text.count("user_id=user_id_from") == 1


async def test_a_token_says_when_it_was_issued() -> None:
    identity = await jwt_authenticator(OLD)(jwt.encode({"sub": "ann", "iat": 12.5}, OLD))  # type: ignore[misc]
    assert identity.issued_at_ms == 12_500
    for iat in ("soon", -1, 1e300):
        with pytest.raises(UnauthenticatedError):
            await jwt_authenticator(OLD)(jwt.encode({"sub": "ann", "iat": iat}, OLD))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "user_id"),
    [
        ("ann", "ann"),
        ("auth0|5f7c", "auth0:7C5f7c"),
        ("ann+chat@x.org", "ann:2Bchat@x.org"),
        ("a:b", "a:3Ab"),
        ("a:7Cb", "a:3A7Cb"),
        (".", ":2E"),
        ("..", ":2E:2E"),
        ("...", "..."),
        ("汤", ":E6:B1:A4"),
    ],
)
def test_any_text_has_an_id(text: str, user_id: str) -> None:
    assert user_id_from(text) == user_id
    assert external_id_of(user_id) == text


@given(st.text(min_size=1, max_size=10))
def test_an_id_gives_its_text_back(text: str) -> None:
    assert external_id_of(user_id_from(text)) == text


@pytest.mark.parametrize("text", ["", "x" * 129, "|" * 43])
def test_a_text_that_is_too_long_has_none(text: str) -> None:
    with pytest.raises(BadRequestError, match="1-128"):
        user_id_from(text)
