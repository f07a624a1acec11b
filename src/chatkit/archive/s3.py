"""The archive in a bucket: S3, or what speaks its protocol. Needs obstore: `pip install "chatkit-engine[archive]"`.

obstore's own calls that wait belong to asyncio, so its blocking ones run in threads here: on every event loop alike.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.to_thread

from ..errors import ConfigurationError, UnavailableError
from . import base

try:
    import obstore
    from obstore import exceptions
    from obstore.store import S3Store
except ImportError:
    raise ConfigurationError('a bucket needs obstore: pip install "chatkit-engine[archive]"') from None

_Result = TypeVar("_Result")

_THREADS: Final = 16
_GOOD: Final = "a bucket has an address such as s3://BUCKET/PREFIX?region=eu-west-1"
_OPTIONS: Final = ("endpoint", "region")
_REFUSED_LOGIN = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)


class S3Archive:
    """`archive.base.ArchiveStore` in a bucket that is there.

    Who this is comes from the environment, as for all programs on AWS: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    `AWS_SESSION_TOKEN`, or the role of the machine. Never from the address, which stands in lists of processes.

    Args:
        address: `s3://BUCKET/PREFIX`; `?region=NAME`, and `?endpoint=URL` for another service than AWS.
        timeout_s: For one request; one that fails in passing is tried again until then.

    Raises:
        ConfigurationError: No such address.
    """

    def __init__(self, address: str, *, timeout_s: float = 20.0) -> None:
        parts = urlsplit(address)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.scheme != "s3" or not parts.hostname or parts.username or not options.keys() <= {*_OPTIONS}:
            raise ConfigurationError(_GOOD)
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        endpoint = options.get("endpoint")
        wanted: dict[str, Any] = {"region": options.get("region", "us-east-1")}
        if endpoint is not None:
            wanted |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
        limit = timedelta(seconds=timeout_s)
        self._store = S3Store(
            parts.hostname,
            **wanted,
            client_options={"timeout": limit, "allow_http": endpoint is not None},
            retry_config={"max_retries": 3, "retry_timeout": limit},
        )
        self._limit: anyio.CapacityLimiter | None = None
        self._closed = False

    async def put(self, name: str, data: bytes) -> None:
        """Write an object; S3 answers once it is durable."""
        base.check_name(name)
        base.check_size(len(data))
        await self._run(lambda: obstore.put(self._store, self._prefix + name, data))

    async def get(self, name: str) -> bytes:
        """The bytes of an object."""
        base.check_name(name)
        return await self._run(lambda: self._get(name))

    def _get(self, name: str) -> bytes:
        try:
            found = obstore.get(self._store, self._prefix + name)
        except (FileNotFoundError, exceptions.NotFoundError):
            raise base.missing(name) from None
        base.check_size(found.meta["size"])
        return bytes(found.bytes())

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Names that begin with a prefix, ascending."""
        base.check_prefix(prefix)
        return await self._run(lambda: self._list(prefix, after, min(limit, base.LIST_MAX)))

    def _list(self, prefix: str, after: str, limit: int) -> list[str]:
        if limit < 1:
            return []
        offset = self._prefix + after if after else None
        chunks = obstore.list(self._store, (self._prefix + prefix) or None, offset=offset, chunk_size=limit)
        first = next(iter(chunks), [])
        return [it["path"].removeprefix(self._prefix) for it in first][:limit]

    async def delete(self, name: str) -> None:
        """Remove an object."""
        base.check_name(name)
        await self._run(lambda: obstore.delete(self._store, self._prefix + name))

    async def aclose(self) -> None:
        """Take nothing more."""
        self._closed = True

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        """In a thread; a caller that gives up leaves it to end."""
        if self._closed:
            raise base.closed()
        if self._limit is None:
            self._limit = anyio.CapacityLimiter(_THREADS)
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limit, abandon_on_cancel=True)
        except _REFUSED_LOGIN:
            raise ConfigurationError(
                "the archive's bucket does not let this program in: see the rights of its AWS_ACCESS_KEY_ID"
            ) from None
        except (
            exceptions.BaseError,
            OSError,
        ) as error:  # its words hold addresses and answers of the service
            raise UnavailableError(
                f"the archive's bucket does not answer ({type(error).__name__})",
                retry_after_s=base.RETRY_AFTER_S,
            ) from error
