"""An issuer of tokens on a real socket of this machine: it publishes keys, and counts who asks for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


class SigningKey:
    """A private key with its id."""

    def __init__(self, key_id: str | None, algorithm: str = "ES256") -> None:
        self.key_id, self.algorithm = key_id, algorithm
        self.private: Any = _new_private(algorithm)

    def public(self, **more: Any) -> dict[str, Any]:
        """The key as it is published."""
        make = jwt.get_algorithm_by_name(self.algorithm)
        found: dict[str, Any] = json.loads(make.to_jwk(self.private.public_key()))  # type: ignore[attr-defined]
        named = {} if self.key_id is None else {"kid": self.key_id}
        return {**found, **named, "alg": self.algorithm, "use": "sig", **more}

    def sign(self, user_id: str = "ann", headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token of this key."""
        named = {} if self.key_id is None else {"kid": self.key_id}
        return jwt.encode(
            {"sub": user_id, **claims}, self.private, self.algorithm, headers={**named, **(headers or {})}
        )


def _new_private(algorithm: str) -> Any:
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])


class Issuer:
    """What is answered, and how often it was.

    Attributes:
        status: Of each answer.
        body: Of each answer.
        headers: Beside the length.
        asked: The paths that were asked for, in their order.
    """

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"", {"Content-Type": "application/json"}
        self.asked: list[str] = []
        self.release = threading.Event()
        self.release.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                issuer.release.wait(30)
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Of the keys."""
        return f"http://127.0.0.1:{self.server.server_port}/keys"

    def publish(self, *keys: SigningKey | dict[str, Any]) -> None:
        """From now on these keys are answered, and nothing else."""
        entries = [it.public() if isinstance(it, SigningKey) else it for it in keys]
        self.status, self.body = 200, json.dumps({"keys": entries}).encode()


@contextmanager
def issuing() -> Iterator[Issuer]:
    """An issuer that answers until the end."""
    issuer = Issuer()
    thread = threading.Thread(target=issuer.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        issuer.release.set()
        issuer.server.shutdown()
        thread.join()
        issuer.server.server_close()
