"""The keys in a JWK set: which of them may check a signature, and each with the algorithms that it is bound to.

Pure but for PyJWT's making of keys. A key that cannot be used is left out and does no harm to its neighbours. Called by
`jwks`.

Source: RFC 7517, RFC 8725 section 3.1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

KEYS_MAX: Final = 100
"""Keys that are looked at in one set; later ones are left out."""

KEY_ID_MAX: Final = 256
"""Characters of a `kid`."""

_FAMILIES: Final[Mapping[tuple[str, str | None], tuple[str, ...]]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("EC", "secp256k1"): ("ES256K",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""What keys of a kind and curve can check. None of them is a secret: a set that anybody may read holds no secrets."""

RSA_BITS_MIN: Final = 2048


class BoundKey(NamedTuple):
    """A key with the only algorithms that it may be used with."""

    key: Any
    algorithms: Sequence[str]


class KeySet:
    """Keys by their ids."""

    def __init__(self, by_id: Mapping[str | None, list[BoundKey]]) -> None:
        self._by_id = by_id

    def __len__(self) -> int:
        return sum(map(len, self._by_id.values()))

    def of(self, key_id: str | None) -> Sequence[BoundKey]:
        """The keys that a token may mean; one without a `kid` means the only key that there is."""
        if key_id is not None:
            return self._by_id.get(key_id, [])
        keys = [key for found in self._by_id.values() for key in found]
        return keys if len(keys) == 1 else []


def read_key_set(document: bytes, algorithms: Sequence[str], make_key: Any) -> KeySet:
    """The usable keys of a JWK set.

    Args:
        document: JSON, an object with `keys`.
        algorithms: The only ones that are wanted.
        make_key: `jwt.PyJWK`.

    Raises:
        ValueError: It is no JWK set, or no key in it can be used.
    """
    try:
        found = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("it is no JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JWK set: an object with `keys` is")
    by_id: dict[str | None, list[BoundKey]] = {}
    for entry in listed[:KEYS_MAX]:
        key = _bound(entry, algorithms, make_key)
        if key is not None:
            by_id.setdefault(entry.get("kid"), []).append(key)
    if not by_id:
        raise ValueError(f"none of its {len(listed)} keys can be used with {', '.join(algorithms)}")
    return KeySet(by_id)


def _bound(entry: Any, algorithms: Sequence[str], make_key: Any) -> BoundKey | None:
    if not isinstance(entry, dict) or not _is_for_signatures(entry):
        return None
    kind, curve = entry.get("kty"), entry.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return None
    family = _FAMILIES.get((kind, None if kind == "RSA" else curve), ())
    own = entry.get("alg")
    usable = [it for it in algorithms if it in family and own in (None, it)]
    if not usable:
        return None
    try:
        public = make_key(_public(entry), usable[0]).key
    except Exception:  # whatever PyJWT or cryptography say of what a stranger wrote: it is no key
        return None
    if kind == "RSA" and public.key_size < RSA_BITS_MIN:
        return None
    return BoundKey(public, usable)


def _is_for_signatures(entry: Mapping[str, Any]) -> bool:
    key_id, uses = entry.get("kid"), entry.get("key_ops", ["verify"])
    is_named = key_id is None or (isinstance(key_id, str) and len(key_id) <= KEY_ID_MAX)
    may_verify = isinstance(uses, list) and "verify" in uses
    return is_named and may_verify and entry.get("use") in (None, "sig")


def _public(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A key without its private part, which has no business in a set but may be there by mistake."""
    return {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
