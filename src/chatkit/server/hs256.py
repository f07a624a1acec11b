"""The token that nearly every client shows, HS256 with the usual head, verified without PyJWT.

PyJWT looks at each character of a token in Python, which takes ten times what the HMAC does; and 1,000 clients that
come back at once show 1,000 tokens. Only what PyJWT would accept is accepted here; everything else is left to it, which
says what is wrong. Called by `auth`. Source: RFC 7515 section 5.2, RFC 7518 section 3.2
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64encode
from typing import Final

ALGORITHM: Final = "HS256"

USUAL_HEADS: Final = frozenset(
    urlsafe_b64encode(head).rstrip(b"=").decode()
    for head in (b'{"alg":"HS256","typ":"JWT"}', b'{"typ":"JWT","alg":"HS256"}', b'{"alg":"HS256"}')
)
"""The first part of nearly all tokens."""

_FROM_URL: Final = bytes.maketrans(b"-_+/", b"+/\x00\x00")
"""The alphabet of base64url in that of base64; the letters that only base64 has become none."""


def payload_of(token: str, secret: bytes) -> bytes | None:
    """What a token says that was signed with this secret; None if it is not certain that it was, or what it says.

    Args:
        token: As the client sent it.
        secret: Of 32 bytes or more.
    """
    if not token.isascii() or token.partition(".")[0] not in USUAL_HEADS:
        return None
    signed, _, signature = token.encode().rpartition(b".")
    expected = urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")
    if not hmac.compare_digest(expected, signature):
        return None
    payload = signed.partition(b".")[2]
    try:
        padded = payload.translate(_FROM_URL) + b"=" * (-len(payload) % 4)
        return binascii.a2b_base64(padded, strict_mode=True)
    except binascii.Error:
        return None
