"""Values that people are shown, without what is secret in them: by the name of a setting, and inside addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_SECRET = re.compile(
    r"(secret|password|passwd|passphrase|token|credential|api_?key|private|^key$|_key$|^auth)"
)
_NO_SECRET = re.compile(r"(_file|_env|_s|_id|_max|_url|_bytes)$|^(jwt_key)$")
_PARAMETER = re.compile(r"([?&;])([^=&;]*(?:pass|secret|token|key|cred|sig)[^=&;]*)=([^&;]*)", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret itself, rather than the place of one, a time or a count."""
    lower = name.lower()
    return bool(_SECRET.search(lower)) and not _NO_SECRET.search(lower)


def masked(name: str, value: Any) -> Any:
    """A value that may be shown; of a table each value under its own name."""
    if isinstance(value, Mapping):
        return {key: masked(key, inner) for key, inner in value.items()}
    if value is None or isinstance(value, bool):
        return value
    if is_secret(name):
        return MASK
    if isinstance(value, list | tuple):
        return [masked(name, inner) for inner in value]
    return masked_address(value) if isinstance(value, str) and "://" in value else value


def masked_address(address: str) -> str:
    """An address without passwords: `postgresql://user:***@host/name`, `nats://***@host`.

    Of several logins only the first user is left: where a password holds a comma nobody could tell its end.
    """
    scheme, separator, rest = address.partition("://")
    login, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        is_name = colon or scheme.startswith("postgres")
        rest = f"{f'{user}:{MASK}' if colon else user if is_name else MASK}@{place}"
    return scheme + separator + _PARAMETER.sub(rf"\1\2={MASK}", rest)


def masked_place(url: str) -> str:
    """Only the scheme and host of an address, whose path may be the secret, as that of a webhook often is."""
    scheme, separator, rest = masked_address(url).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host}{slash}{MASK if path else ''}"
