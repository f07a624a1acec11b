"""Tokens as a host's login would sign them: HS256 with the claims sub, dev, exp and scope."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "blackbox-secret-long-enough-for-hs512-too-which-asks-for-sixty-four-bytes"


class _Absent:
    """A field that is left out; its name does not change from process to process, as test ids must not."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()
"""Marks a claim that is to be left out."""


def token(
    user: str, device: str | None = None, *, ttl_s: int = 3600, secret: str = SECRET, **claims: Any
) -> str:
    """A signed token; `claims` replace or (with ABSENT) remove the usual ones."""
    values: dict[str, Any] = {"sub": user, "exp": int(time.time()) + ttl_s, "scope": "chat"}
    if device is not None:
        values["dev"] = device
    values.update(claims)
    kept = {name: value for name, value in values.items() if value is not ABSENT}
    return jwt.encode(kept, secret, algorithm="HS256")


def expires_ms(signed: str) -> int:
    """The `exp` of a token in Unix milliseconds."""
    claims = jwt.decode(signed, options={"verify_signature": False, "verify_exp": False})
    return int(claims["exp"]) * 1000
