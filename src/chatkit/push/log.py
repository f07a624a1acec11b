"""Push written to the log: says that one was due, never its words or its token. For development."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio.lowlevel

from ..ports import Ports
from ._sender import Attempt, Sender
from .base import Delivered, Push, Result

logger = logging.getLogger(__name__)


class LogPushProvider:
    """`push.base.PushProvider` that reaches nobody.

    Args:
        ports: The clock, for what has expired.
    """

    def __init__(self, *, ports: Ports | None = None) -> None:
        self._sender = Sender(self._one, ports=ports or Ports())

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        """Write a line for each push."""
        return await self._sender.send(batch)

    async def aclose(self) -> None:
        """Write no more."""
        await anyio.lowlevel.checkpoint()
        self._sender.close()

    async def _one(self, push: Push, attempt: Attempt) -> Result:
        await anyio.lowlevel.checkpoint()
        attempt.left = True
        logger.info("push %s was due: message %s", push.id, push.message_id)
        return Delivered(push.id)
