"""A log that was put back from a backup: how a server notices, and what it does.

The store notices a file or a database that is not what was last served from its place, or is told that it was put back
(`RestoreReader.restored`). What it cannot see,
such as a disk that was set back as a whole, clients prove: each PONG carries a log token, which says how far the log
had got and is signed with the log's own secret; a client brings it back in its next HELLO. A log that has not got so
far any more has lost its end.

Either way every conversation gets a new epoch, so that clients compare what they hold with what there is, and every
resume token ends. Last of all the log's position is raised beyond all that was proved of the former one, so that a loss
is renewed once, however many clients prove it. Called by `server` and `dispatch`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from typing import Final

from ..storage.base import Done, RestoreReader
from .engine import Engine
from .side_by_side import for_each

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 200
"""Conversations that are renewed side by side, far fewer than fit into a commit queue."""


class Restoration:
    """Notices, and renews.

    Args:
        log: Where the log is read.
        engine: Carries the renewals out.

    Attributes:
        log_token: How far the log has got, as of the last `refresh`; "" before the first.
    """

    def __init__(self, log: RestoreReader, engine: Engine) -> None:
        self._log = log
        self._engine = engine
        self._key = b""
        self._position = 0
        self._renewing = False
        self.log_token = ""

    async def start(self, secret: bytes) -> None:
        """Renew a log that the store knows to be older than the one served last; then it is like any other.

        Called once the committer runs, and before anybody is let in.

        Raises:
            RefusedError: Storage refused, mostly with UnavailableError; the next start begins again.
        """
        self._key = hashlib.blake2b(b"log token", key=secret).digest()
        if self._log.restored:
            await self._renew(0)

    async def refresh(self) -> None:
        """Make a token of how far the log has got by now, and renew it if it was put back meanwhile.

        Called every few seconds.

        Raises:
            RefusedError: Storage refused, mostly with UnavailableError; the next time begins again.
        """
        self._position = await self._log.position()
        if self._log.restored:
            await self._renew_once(0)
            self._position = await self._log.position()
        self.log_token = self._signed(self._position)

    async def check(self, log_token: str) -> None:
        """Compare the log with what a client brings from its last connection. A token not signed here says nothing.

        Raises:
            RefusedError: Storage refused, mostly with UnavailableError; the next token begins again.
        """
        proved = self._proved(log_token)
        if proved > self._position and proved > await self._log.position():
            await self._renew_once(proved)

    async def _renew_once(self, proved: int) -> None:
        """Renew, unless that is under way."""
        if self._renewing:
            return
        self._renewing = True
        try:
            await self._renew(proved)
        finally:
            self._renewing = False

    async def _renew(self, proved: int) -> None:
        """End all resume tokens, give every conversation a new epoch, and raise the position beyond what is proved."""
        logger.critical(
            "the log is older than what was served before: a backup was put back; renewing all of it"
        )
        await self._engine.execute(self._engine.end_logins(), Done)
        after, count = "", 0
        while names := await self._log.conversation_ids(after, _AT_ONCE):
            await for_each(self._renew_epoch, names)
            after, count = names[-1], count + len(names)
        await self._log.confirm_restored(proved)
        logger.warning("%d conversations have a new epoch; clients sync by themselves", count)

    async def _renew_epoch(self, name: str) -> None:
        await self._engine.execute(self._engine.renew_epoch(name), Done)

    def _signed(self, position: int) -> str:
        mac = hashlib.blake2b(b"%d" % position, key=self._key, digest_size=16).hexdigest()
        return f"{position:x}-{mac}"

    def _proved(self, log_token: str) -> int:
        """How far a log with this secret had got for certain; 0 for what was not signed here."""
        number, _, _ = log_token.partition("-")
        try:
            position = int(number, 16)
        except ValueError:
            return 0
        return position if hmac.compare_digest(self._signed(position).encode(), log_token.encode()) else 0
