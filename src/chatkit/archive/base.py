"""The archive port: objects by name, written once and read seldom. A folder, a bucket, or memory.

What is in the objects is the business of `format`; which objects belong to a log says the log's store. Every
implementation passes the contract suite in `chatkit.testing.contracts.archive`.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from ..errors import BadRequestError, TooLargeError, UnavailableError

OBJECT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Nothing larger is put or got."""

LIST_MAX: Final = 1_000
"""Names in one listing."""

RETRY_AFTER_S: Final = 2.0

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_NAME_MAX = 200


class ObjectMissingError(UnavailableError):
    """There is no object of this name. If the log says that there is, the archive has lost it."""


class ArchiveStore(Protocol):
    """Objects by name. All methods may run side by side.

    They raise UnavailableError if the archive refuses or does not answer, ConfigurationError if it does not let this
    program in; whether a change was carried out is unknown then, and a retry is safe.
    """

    async def put(self, name: str, data: bytes) -> None:
        """Write an object. When this returns it outlives a power cut; a reader sees all of it or nothing.

        Args:
            name: As `check_name` takes it. An object of this name is replaced.
            data: At most `OBJECT_BYTES_MAX` bytes.

        Raises:
            TooLargeError: It has more.
        """

    async def get(self, name: str) -> bytes:
        """The bytes of an object.

        Raises:
            ObjectMissingError: There is none.
            TooLargeError: It has more than `OBJECT_BYTES_MAX` bytes, so it is none of ours.
        """

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Names that begin with `prefix`, ascending by their bytes, those after `after`.

        Args:
            prefix: Empty, or the name of a folder with its slash.
            after: "" for the first ones.
            limit: At most this many, and at most `LIST_MAX`; fewer than both mean that these are all.
        """

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is nothing. Versions and backups of the archive's own may stay."""

    async def aclose(self) -> None:
        """Give back connections. A second call does nothing; after it everything raises UnavailableError."""


def check_name(name: str) -> None:
    """Whether an object can have this name: parts of `a-z 0-9 . _ -` between slashes, 200 characters at most.

    No part begins with a dot, so that none leads out of a folder. Raises BadRequestError.
    """
    if len(name) > _NAME_MAX or not _NAME.fullmatch(name):
        raise BadRequestError(f"no object can have the name {name[:_NAME_MAX]!r}")


def check_prefix(prefix: str) -> None:
    """Whether it is empty, or a name and a slash. Raises BadRequestError."""
    if prefix:
        check_name(prefix.removesuffix("/"))
        if not prefix.endswith("/"):
            raise BadRequestError("a prefix ends with a slash")


def check_size(size: int) -> None:
    """Raises TooLargeError for more bytes than an object has."""
    if size > OBJECT_BYTES_MAX:
        raise TooLargeError(f"an object has at most {OBJECT_BYTES_MAX} bytes")


def missing(name: str) -> ObjectMissingError:
    """What `get` raises for a name without an object."""
    return ObjectMissingError(f"the archive has no object {name}", retry_after_s=RETRY_AFTER_S)


def closed() -> UnavailableError:
    """What everything raises after `aclose`."""
    return UnavailableError("the archive is closed", retry_after_s=RETRY_AFTER_S)
