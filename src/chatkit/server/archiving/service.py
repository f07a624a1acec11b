"""Archiving as a part of a server: its reads, and its archiver at work now and then. Called by `ChatServer`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from ..._abilities import offers
from ...archive.base import ArchiveStore
from ...core.log.commands import Expire
from ...errors import ConfigurationError
from ...ports import Ports
from ...storage.base import Store
from ...storage.cold import Archivable, ColdStore
from .archiver import Archived, Archiver
from .config import ArchiveConfig
from .reader import ArchiveReader

logger = logging.getLogger(__name__)


class Archiving:
    """The archive of a server's log.

    Args:
        store: The log.
        archive: Where its old bodies are; None: nowhere.
        config: With it this server archives by itself; None: it only reads.
        ports: Time and random names.
        expire: Carries out the end of entries whose time is over.

    Attributes:
        log: Reads of the log, with the bodies that are in the archive.

    Raises:
        ConfigurationError: There are settings, and nothing to use them on.
    """

    def __init__(
        self,
        store: Store,
        archive: ArchiveStore | None,
        config: ArchiveConfig | None,
        ports: Ports,
        expire: Callable[[Expire], Awaitable[object]],
    ) -> None:
        self._cold: ColdStore | None = store.cold if offers(store, Archivable) else None
        if (archive is not None or config is not None) and self._cold is None:
            raise ConfigurationError("this store has no `cold`: nothing of it can be archived")
        if config is not None and archive is None:
            raise ConfigurationError("archiving needs an archive, such as open_archive('file:///FOLDER')")
        self.log = ArchiveReader(store, archive, config or ArchiveConfig())
        self._archive = archive
        self._config = config
        self._ports = ports
        self._expire = expire
        self._archiver: Archiver | None = None
        self._swept_s = ports.clock.now_s()

    @property
    def interval_s(self) -> float | None:
        """How often `run` is to be called; None: never."""
        return None if self._config is None else self._config.interval_s

    async def start(self, secret: bytes) -> None:
        """Make the archiver of an opened log.

        Raises:
            ConfigurationError: Messages are in an archive, and this server was given none: it could not show them.
        """
        if self._archive is None:
            if self._cold is not None and await self._cold.ranges((0, 0), 1):
                raise ConfigurationError(
                    "older messages of this log are in an archive: give it to the server (`archive=`, --archive)"
                )
            return
        if self._config is not None and self._cold is not None:
            self._archiver = Archiver(
                self._cold,
                self._archive,
                secret,
                self._config,
                self._ports,
                self.log.forget,
                self._expire,
            )

    async def run(self) -> None:
        """Archive what is due. Raises UnavailableError if the store or the archive refused; the next run goes on."""
        assert self._archiver is not None, "it was started"
        assert self._config is not None
        now_s = self._ports.clock.now_s()
        sweep = now_s - self._swept_s >= self._config.sweep_s
        done = await self._archiver.run(sweep=sweep)
        if sweep:
            self._swept_s = now_s
        if done != Archived():
            logger.info(
                "archived %d entries in %d objects; %d bodies left the log, %d objects were written anew or removed",
                done.entries,
                done.objects,
                done.moved,
                done.rewritten + done.expired + done.unknown,
            )

    def stop(self) -> None:
        """Begin nothing new: the server is drained."""
        if self._archiver is not None:
            self._archiver.stop()
