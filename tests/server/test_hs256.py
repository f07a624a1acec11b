"""The usual token is verified without PyJWT, and every token is judged as PyJWT judges it."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkit.errors import RefusedError
from chatkit.server import hs256
from chatkit.server.auth import TokenReader, jwt_authenticator, sign_token
from chatkit.types import Identity

SECRET = "the-secret-of-at-least-32-characters"
CLAIMS = {"sub": "ann", "exp": 2**35, "iat": 1.5, "dev": "phone", "scope": "chat"}
USUAL = b'{"alg":"HS256","typ":"JWT"}'


def part(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(head: bytes, payload: bytes, secret: str = SECRET) -> str:
    """A token whose signature is right, whatever it says."""
    words = f"{part(head)}.{part(payload)}"
    return f"{words}.{part(hmac.digest(secret.encode(), words.encode(), hashlib.sha256))}"


def of(claims: Any) -> bytes:
    return json.dumps(claims, separators=(",", ":")).encode()


def judged(token: str, *, by_pyjwt: bool, **options: Any) -> Identity | type[RefusedError]:
    """Whom it proves, or how it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        if by_pyjwt:
            patch.setattr(hs256, "payload_of", lambda *_: None)
        try:
            return jwt_authenticator(SECRET, **options).at_once(token)  # type: ignore[attr-defined]
        except RefusedError as error:
            return type(error)


GOOD = signed(USUAL, of(CLAIMS))
HEADS = [
    USUAL,
    b'{"typ":"JWT","alg":"HS256"}',
    b'{"alg":"HS256"}',
    b'{"alg": "HS256", "typ": "JWT"}',
    b'{"alg":"none","typ":"JWT"}',
    b'{"alg":"HS512","typ":"JWT"}',
    b'{"alg":"HS256","typ":"JWT","crit":["b64"],"b64":false}',
    b'{"alg":"HS256","typ":"JWT","kid":"a"}',
    b"{}",
    b"[]",
    b"",
]
PAYLOADS = [
    of(CLAIMS),
    of({"sub": "ann"}),
    of({"sub": "a b"}),
    of({"sub": 5}),
    of({}),
    of([]),
    of({**CLAIMS, "exp": 1}),
    of({**CLAIMS, "exp": "1"}),
    of({**CLAIMS, "exp": True}),
    of({**CLAIMS, "exp": 2**70}),
    of({**CLAIMS, "nbf": 2**35}),
    of({**CLAIMS, "aud": "x"}),
    of({**CLAIMS, "aud": None}),
    of({**CLAIMS, "iss": "x", "more": [1, {}]}),
    of({**CLAIMS, "jti": 5}),
    of({**CLAIMS, "jti": "x"}),
    of({**CLAIMS, "dev": None}),
    of({**CLAIMS, "scope": 5}),
    b'{"sub":"ben","sub":"ann"}',
    b'{"sub":"ann","exp":NaN}',
    b'{"sub":"ann","exp":1e999}',
    b'{"sub":"ann","scope":"\\ud800"}',
    b'\xef\xbb\xbf{"sub":"ann"}',
    b'{"sub":"ann"} ',
    b'{"sub":"ann"',
    b"\xff",
    b"[" * 5_000,
    b"",
]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_signed_is_judged_as_pyjwt_judges_it(head: bytes, payload: bytes) -> None:
    for secret in (SECRET, SECRET + "x"):
        token = signed(head, payload, secret)
        assert judged(token, by_pyjwt=False) == judged(token, by_pyjwt=True)


def spelt(token: str) -> list[str]:
    """The same token in other letters, and others that are nearly it."""
    head, payload, signature = token.split(".")
    standard = b64encode(USUAL).decode().rstrip("=")
    return [
        f"{token}=",
        f"{token}\n",
        f" {token}",
        f"{head}=.{payload}.{signature}",
        f"{head}.{payload}==.{signature}",
        f"{head}.{payload}.{signature[:-1]}",
        f"{head}.{payload}.{signature[:-1]}" + chr(ord(signature[-1]) ^ 1),
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{head}.{payload}.{signature}.{signature}",
        f"{head}..{signature}",
        f"{standard}.{payload}.{signature}",
        f"é.{payload}.{signature}",
        "",
        ".",
        "..",
    ]


@pytest.mark.parametrize("token", [GOOD, *spelt(GOOD)])
def test_every_spelling_is_judged_as_pyjwt_judges_it(token: str) -> None:
    assert judged(token, by_pyjwt=False) == judged(token, by_pyjwt=True)


@pytest.mark.parametrize("words", ["a+/b", "a-_b", "a+/b=", "a b", "a.b", "abc", "a"])
def test_a_payload_in_other_letters_is_judged_as_pyjwt_judges_it(words: str) -> None:
    """Even signed: what the letters of base64 say that base64url does not have is left to PyJWT."""
    text = f"{part(USUAL)}.{words}"
    token = f"{text}.{part(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256))}"
    assert judged(token, by_pyjwt=False) == judged(token, by_pyjwt=True)


@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=300))
@settings(max_examples=200, deadline=None)
def test_no_token_with_another_letter_proves_what_pyjwt_would_not_let_it_prove(at: int, letter: str) -> None:
    token = GOOD[:at] + letter + GOOD[at + 1 :]
    assert judged(token, by_pyjwt=False) == judged(token, by_pyjwt=True)


@pytest.mark.parametrize("options", [{"audience": "x"}, {"issuer": "x"}, {"algorithms": ["HS512"]}])
def test_what_a_host_asks_for_is_checked(options: dict[str, Any]) -> None:
    for claims in (CLAIMS, {**CLAIMS, "aud": "x", "iss": "x"}, {**CLAIMS, "aud": "y", "iss": "y"}):
        token = signed(USUAL, of(claims))
        assert judged(token, by_pyjwt=False, **options) == judged(token, by_pyjwt=True, **options)


async def test_the_usual_token_does_not_need_pyjwt(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [sign_token(SECRET, user_id="ann", device_id="phone"), jwt.encode({"sub": "ann"}, SECRET), GOOD]
    monkeypatch.setattr(TokenReader, "_judged", None)
    authenticate = jwt_authenticator(SECRET)
    for token in tokens:
        assert (await authenticate(token)).user_id == "ann"  # type: ignore[misc]
