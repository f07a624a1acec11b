"""Signed tokens of APNs and Web Push: ES256 by PyJWT, with a key that is checked when it is given."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError


class Es256Key:
    """A private key on the curve P-256.

    Args:
        pem: The key in PEM (PKCS 8, as Apple gives it, or SEC 1).
        needed_by: Who needs it, for the error's words.

    Raises:
        ConfigurationError: It is no such key, or PyJWT or cryptography is not installed.
    """

    def __init__(self, pem: str | bytes, needed_by: str) -> None:
        try:
            import jwt
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError:
            raise ConfigurationError(
                f"{needed_by} needs PyJWT and cryptography: pip install 'chatkit-engine[push]'"
            ) from None
        try:
            key = load_pem_private_key(pem.encode() if isinstance(pem, str) else pem, None)
        except (ValueError, TypeError, AttributeError):
            raise ConfigurationError(f"{needed_by}: the key must be a private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigurationError(f"{needed_by}: the key must be one on the curve P-256")
        self._jwt: Any = jwt
        self._key = key

    def sign(self, claims: dict[str, Any], headers: dict[str, Any] | None = None) -> str:
        """A JSON Web Token of these claims."""
        token: str = self._jwt.encode(claims, self._key, algorithm="ES256", headers=headers)
        return token

    def public_point(self) -> bytes:
        """The public key as 65 bytes, uncompressed."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
