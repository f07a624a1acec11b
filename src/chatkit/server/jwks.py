"""Login by tokens whose issuer publishes its keys: a JWK set at a URL, fetched when it is needed, kept, bounded.

The URL is the host's. What a token says of where its key is (`jku`, `x5u`, `jwk`, `x5c`) is never looked at.

Source: RFC 7515 section 4.1, RFC 7517 section 5, RFC 8725
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import anyio

from .._arguments import check_number
from ..drivers.https import FetchError, check_url, fetch
from ..errors import ConfigurationError, UnauthenticatedError, UnavailableError
from ..ports import Clock, SystemClock
from ..transport.network import Network
from ..types import Identity
from .auth import Authenticator, TokenReader, load_pyjwt
from .jwk_set import KEY_ID_MAX, BoundKey, KeySet, read_key_set

logger = logging.getLogger(__name__)

DOCUMENT_BYTES_MAX: Final = 256 * 1024
"""Of a JWK set; a longer one counts as a failure."""

FETCH_TIMEOUT_S: Final = 5.0
"""For one fetch; below what a login may take."""

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""Accepted if nothing else is said."""

Load = Callable[[], Awaitable[KeySet]]
"""Brings the newest keys, or raises FetchError or ValueError."""


def jwks_authenticator(
    url: str,
    *,
    algorithms: Sequence[str] = ALGORITHMS,
    leeway_s: float = 30.0,
    refresh_s: float = 600.0,
    stale_max_s: float = 86_400.0,
    retry_s: float = 5.0,
    clock: Clock | None = None,
    user_id: Callable[[str], str] | None = None,
    network: Network | None = None,
    **options: Any,
) -> Authenticator:
    """Accept JSON Web Tokens of an issuer that publishes its public keys, as `jwt_authenticator` does for known ones.

    Nothing is fetched here: the first login does it, and while the issuer cannot be reached and no keys are held,
    logins are refused with UNAVAILABLE, which clients try again. Later the keys are fetched again when they are
    `refresh_s` old or a token names one that is not among them, by one login at a time and at most every `retry_s`; the
    others go on with what is held. A key that is no longer published is refused after the next fetch.

    A key is only ever used with the algorithms of its own kind, and with its `alg` alone if it says one. A token
    without a `kid` is taken only where a single key is published. At most 256 KiB and 100 keys are read; redirects are
    not followed.

    Args:
        url: Of the JWK set: `https://`, or `http://` on this machine.
        algorithms: The only ones accepted; none that takes a secret (HS...).
        leeway_s: Seconds by which the clocks of issuer and server may differ.
        refresh_s: How old the keys may be, in seconds, before a login fetches them again.
        stale_max_s: How long keys are used, in seconds, if they cannot be fetched again; then UNAVAILABLE.
        retry_s: The least time between two fetches, in seconds.
        clock: Where the time comes from.
        user_id: Makes the user id of `sub`, where `sub` is no id by itself: `user_id_from`.
        network: Trust and proxy; by default those of the system and of the environment.
        **options: `audience` and `issuer`, passed to PyJWT's `decode`. Give both: an issuer signs tokens for others
            too.

    Raises:
        ConfigurationError: Another URL, no such algorithm, a time below 0, `stale_max_s` below `refresh_s`; or PyJWT or
            cryptography is not installed.
    """
    check_url("url", url)
    for name, value in (("leeway_s", leeway_s), ("refresh_s", refresh_s), ("retry_s", retry_s)):
        check_number(name, value, least=0)
    check_number("stale_max_s", stale_max_s, least=refresh_s)
    pyjwt = load_pyjwt()
    _check_algorithms(pyjwt, algorithms)
    trust = network or Network()

    async def load() -> KeySet:
        context = await trust.ssl_context() if url.startswith("https:") else None
        document = await fetch(
            url,
            bytes_max=DOCUMENT_BYTES_MAX,
            timeout_s=FETCH_TIMEOUT_S,
            ssl_context=context,
            proxy=trust.proxy_for(url),
        )
        return read_key_set(document.body, algorithms, pyjwt.PyJWK)

    keys = KeyCache(load, clock or SystemClock(), refresh_s, stale_max_s, retry_s)
    reader = TokenReader(leeway_s, clock, user_id, options)

    async def authenticate(token: str) -> Identity:
        header = reader.header(token)
        key_id = header.get("kid")
        if header.get("alg") not in algorithms or len(key_id or "") > KEY_ID_MAX:
            raise UnauthenticatedError("the token is not valid")
        return reader.identity(token, await keys.of(key_id))

    return authenticate


class KeyCache:
    """The keys that were fetched last, and the rule when to fetch again.

    Args:
        load: Brings them; ends by itself within a few seconds.
        clock: Ages are measured by its monotonic time.
        refresh_s: See `jwks_authenticator`, as for the rest.
        stale_max_s: Likewise.
        retry_s: Likewise.
    """

    def __init__(
        self, load: Load, clock: Clock, refresh_s: float, stale_max_s: float, retry_s: float
    ) -> None:
        self._load, self._clock = load, clock
        self._refresh_s, self._stale_max_s, self._retry_s = refresh_s, stale_max_s, retry_s
        self._keys = KeySet({})
        self._loaded_s = self._tried_s = float("-inf")
        self._failed = False
        self._lock = anyio.Lock()

    async def of(self, key_id: str | None) -> Sequence[BoundKey]:
        """The keys that a token with this `kid` may mean; none: there is no such key.

        Raises:
            UnavailableError: Nobody can say now, for the keys could not be fetched.
        """
        if not self._knows(key_id) or (self._age_s() > self._refresh_s and not self._lock.locked()):
            await self._wait_for_newer()
        found = self._held().of(key_id)
        if not found and (self._failed or not len(self._held())):
            raise UnavailableError(
                "the keys of the issuer cannot be fetched now", retry_after_s=max(1.0, self._wait_s())
            )
        return found

    def _knows(self, key_id: str | None) -> bool:
        held = self._held()
        return bool(held.of(key_id)) if key_id is not None else len(held) > 0

    async def _wait_for_newer(self) -> None:
        """Fetch, or wait for the one who does; nothing if that was done within `retry_s`."""
        async with self._lock:
            if self._wait_s() <= 0:
                with anyio.CancelScope(
                    shield=True
                ):  # who hangs up meanwhile has not used up the turn for nothing
                    await self._fetch()

    async def _fetch(self) -> None:
        self._tried_s = self._clock.now_s()
        try:
            self._keys = await self._load()
        except (FetchError, ValueError, ConfigurationError) as error:
            if not self._failed:
                logger.error("the keys for login cannot be fetched: %s (said once until it works)", error)
            self._failed = True
            return
        if self._failed:
            logger.warning("the keys for login were fetched again")
        self._failed = False
        self._loaded_s = self._clock.now_s()

    def _held(self) -> KeySet:
        return self._keys if self._age_s() <= self._stale_max_s else KeySet({})

    def _age_s(self) -> float:
        return self._clock.now_s() - self._loaded_s

    def _wait_s(self) -> float:
        return self._tried_s + self._retry_s - self._clock.now_s()


def _check_algorithms(pyjwt: Any, algorithms: Sequence[str]) -> None:
    if isinstance(algorithms, str) or not algorithms:
        raise ConfigurationError('algorithms must be a list, such as ["RS256"]')
    for algorithm in algorithms:
        if algorithm not in pyjwt.algorithms.requires_cryptography:
            raise ConfigurationError(f"{algorithm!r} is no algorithm with public keys")
        if algorithm not in pyjwt.algorithms.get_default_algorithms():
            raise ConfigurationError(f"{algorithm} needs cryptography: pip install 'pyjwt[crypto]'")
