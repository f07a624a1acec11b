"""The log that an operator's command changes: one that is there. Only a server makes one."""

from __future__ import annotations

import anyio

from .._abilities import offers
from ..assemble import open_store
from ..errors import ConfigurationError
from ..storage.base import OpensToRead, Store


async def existing_log(address: str) -> Store:
    """The store of a log, not opened. It is looked at first: a mistyped address makes no log, and is no success.

    Raises:
        ConfigurationError: There is no log, or a server of this version has not served it yet.
        UnavailableError: Storage does not answer; a retry is safe.
    """
    looked_at = open_store(address)
    if not offers(looked_at, OpensToRead):
        raise ConfigurationError("a log in the memory of a server cannot be changed here; ask the server")
    try:
        await looked_at.open_to_read()
    finally:
        with anyio.CancelScope(shield=True):
            await looked_at.aclose()
    return open_store(address)
