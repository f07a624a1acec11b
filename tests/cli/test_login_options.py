"""Keys of tokens by options: several secrets, public keys of every kind, an issuer's; and a whole server with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chatkit import sign_token
from chatkit.cli.login_options import Login, authenticator_from, secrets_of, signing_secret
from chatkit.errors import ConfigurationError, UnauthenticatedError
from tests.servers.issuer import SigningKey, issuing

from .command import SECRET, TIMEOUT_S, chatkit, next_line, started

NEW, OLD = "n" * 40, "o" * 40


def pem_of(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[[SigningKey], str]:
    def write(key: SigningKey) -> str:
        path = tmp_path / f"{key.key_id}.pem"
        path.write_bytes(pem_of(key.private))
        return str(path)

    return write


async def user_of(login: Login, token: str) -> str:
    identity = await authenticator_from(login)(token)  # type: ignore[misc]
    return str(identity.user_id)


async def test_of_several_secrets_all_are_accepted_and_the_first_one_signs(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f"{NEW}\n\n{OLD}\n")
    (tmp_path / "b").write_text(SECRET)
    login = Login(jwt_secret_file=(str(tmp_path / "a"), str(tmp_path / "b")))

    assert secrets_of(login, {}) == [NEW, OLD, SECRET]
    assert signing_secret(login) == NEW
    for secret in (NEW, OLD, SECRET):
        assert await user_of(login, sign_token(secret, user_id="ann")) == "ann"
    with pytest.raises(UnauthenticatedError):
        await user_of(login, sign_token("x" * 40, user_id="ann"))


def test_a_variable_named_elsewhere_counts_in_place_of_the_usual_one() -> None:
    login = Login(jwt_secret=OLD, jwt_secret_env="ELSEWHERE")
    assert secrets_of(login, {"ELSEWHERE": f"{NEW}\n{SECRET}"}) == [NEW, SECRET]
    assert secrets_of(Login(jwt_secret=OLD), {}) == [OLD]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
async def test_a_public_key_is_used_with_the_algorithm_of_its_kind(
    algorithm: str, key_file: Callable[[SigningKey], str]
) -> None:
    key = SigningKey("k", algorithm)
    login = Login(jwt_secret=SECRET, jwt_key=(key_file(key),))

    assert await user_of(login, key.sign("ben")) == "ben"
    assert await user_of(login, sign_token(SECRET, user_id="ann")) == "ann"
    for forged in (SigningKey("k", algorithm).sign(), jwt.encode({"sub": "ann"}, None, "none")):
        with pytest.raises(UnauthenticatedError):
            await user_of(login, forged)


async def test_another_algorithm_is_chosen_and_must_fit(key_file: Callable[[SigningKey], str]) -> None:
    rsa_key, ec_key = SigningKey("rsa", "RS256"), SigningKey("ec")
    files = (key_file(rsa_key), key_file(ec_key))
    login = Login(jwt_key=files, jwt_algorithm=("PS256",))

    assert await user_of(login, jwt.encode({"sub": "ann"}, rsa_key.private, "PS256")) == "ann"
    assert await user_of(login, ec_key.sign()) == "ann"
    with pytest.raises(UnauthenticatedError):
        await user_of(login, rsa_key.sign())
    for wrong in ("RS265", "HS256", "none", "ES384"):
        with pytest.raises(ConfigurationError, match=f"--jwt-algorithm {wrong}"):
            authenticator_from(Login(jwt_key=files, jwt_algorithm=("PS256", wrong)))


def test_what_is_no_public_key_is_named(tmp_path: Path) -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content, says in [
        (b"no key", "no public key in PEM"),
        (pem_of(small), "no public key in PEM"),
        (private, "private key"),
        (b"", "is empty"),
    ]:
        (tmp_path / "key.pem").write_bytes(content)
        with pytest.raises(ConfigurationError, match=says) as refused:
            authenticator_from(Login(jwt_key=(str(tmp_path / "key.pem"),)))
        assert "key.pem" in str(refused.value)
    with pytest.raises(ConfigurationError, match="CHATKIT_JWT_SECRET"):
        authenticator_from(Login())


async def test_any_sub_issuer_and_audience(key_file: Callable[[SigningKey], str]) -> None:
    key = SigningKey("k")
    strict = Login(
        jwt_key=(key_file(key),), jwt_issuer="https://i", jwt_audience=("chat", "web"), jwt_any_sub=True
    )

    assert await user_of(strict, key.sign("auth0|7", iss="https://i", aud="web")) == "auth0:7C7"
    for claims in (
        {"iss": "https://i"},
        {"iss": "https://j", "aud": "web"},
        {"iss": "https://i", "aud": "shop"},
    ):
        with pytest.raises(UnauthenticatedError):
            await user_of(strict, key.sign(**claims))


def test_a_server_takes_tokens_of_an_issuer_and_of_its_own_secret(tmp_path: Path) -> None:
    key = SigningKey("k")
    with issuing() as issuer:
        command = ["serve", "--json", "--port", "0", "--storage", "memory://", "--jwks-url", issuer.url]
        with started(*command, cwd=tmp_path) as process:
            url = f"http://127.0.0.1:{json.loads(next_line(process))['port']}/v1/conversations"

            def status(token: str) -> int:
                return httpx.get(
                    url, headers={"Authorization": f"Bearer {token}"}, trust_env=False
                ).status_code

            issuer.status = 503
            assert status(sign_token(SECRET, user_id="ann")) == 200, "its own secret needs no issuer"
            assert status(key.sign()) == 503, "nobody can say now"
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
        issuer.publish(key)
        with started(*command, cwd=tmp_path) as process:
            url = f"http://127.0.0.1:{json.loads(next_line(process))['port']}/v1/conversations"
            assert (status(key.sign()), status(SigningKey("k").sign())) == (200, 401)
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0


def test_a_token_is_signed_by_the_first_secret_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "chatkit.toml").write_text('jwt_secret_file = "secret"\n')
    (tmp_path / "secret").write_text(f"{NEW}\n{OLD}\n")
    done = chatkit("token", "--user", "ann", cwd=tmp_path, env={"CHATKIT_JWT_SECRET": None})
    assert jwt.decode(done.stdout.strip(), NEW, algorithms=["HS256"])["sub"] == "ann"
