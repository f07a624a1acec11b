"""Moves old entries to the archive, and keeps it in order. One may run on each node, and any number of processes.

A range of a conversation goes through: claimed, its object written, read back and compared, confirmed; then its bodies
leave the hot tables step by step. Each step is one short transaction, with a pause after it. Whatever ends in between,
the next run goes on: nothing leaves the log before it is known to be in the archive. Called by `ChatServer`, and by
`chatkit archive run`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec
from msgspec.structs import replace

from ...archive.base import LIST_MAX, ArchiveStore, ObjectMissingError
from ...archive.format import DamagedObjectError, log_name, manifest
from ...core.log.cold import (
    ColdConversation,
    ColdEntry,
    ColdRange,
    manifest_name,
    object_name,
    object_place,
)
from ...core.log.commands import Expire
from ...ports import Ports
from ...storage.cold import Blanks, ColdStore, ColdTerms
from .config import ArchiveConfig
from .objects import ArchiveObjects
from .ownership import Ownership

logger = logging.getLogger(__name__)

_AT_ONCE = 100
_PAYLOAD_BYTES_MAX = 64 * 1024


class Archived(msgspec.Struct):
    """What a run did.

    Attributes:
        objects: Objects written for the first time.
        entries: Entries in them.
        moved: Entries whose bodies left the hot tables.
        rewritten: Objects that were written anew, without what had to go.
        ended: Conversations of which entries were deleted, their time being over.
        expired: Objects of which all entries have expired, and that were removed.
        unknown: Objects that no log knew, and that were removed.
        given_back_bytes: By which the log shrank on its disk.
    """

    objects: int = 0
    entries: int = 0
    moved: int = 0
    rewritten: int = 0
    ended: int = 0
    expired: int = 0
    unknown: int = 0
    given_back_bytes: int = 0


class Archiver:
    """Archives one log.

    Args:
        cold: The log.
        archive: Where to.
        secret: The log's; its objects are named after it.
        config: What, and how much at a time.
        ports: Time and random names.
        forget: Told of objects that were written anew or removed.
        expire: Carries out the end of entries whose time is over; None: nothing ends.
    """

    def __init__(
        self,
        cold: ColdStore,
        archive: ArchiveStore,
        secret: bytes,
        config: ArchiveConfig,
        ports: Ports,
        forget: Callable[[str], None] = lambda name: None,
        expire: Callable[[Expire], Awaitable[object]] | None = None,
    ) -> None:
        self._cold = cold
        self._archive = archive
        self._expire_by = expire
        self._objects = ArchiveObjects(archive, threads=config.threads)
        self._log = log_name(secret)
        self._ownership = Ownership(cold, archive, self._log, ports.ids)
        self._config = config
        self._ports = ports
        self._forget = forget
        self._stopping = False
        self._done = Archived()

    def stop(self) -> None:
        """Begin nothing new; `run` returns after the step that is under way."""
        self._stopping = True

    async def run(self, *, sweep: bool = True, claim: bool = False) -> Archived:
        """Do what is due now.

        Args:
            sweep: Whether to look for objects that no log knows.
            claim: Whether to take the archive over from another copy of this log.

        Raises:
            UnavailableError: The store or the archive refused; the next run goes on.
            ConfigurationError: The archive does not let this program in, or belongs to another copy of this log.
        """
        self._done = Archived()
        await self._ownership.prove(claim=claim)
        await self._expire()
        await self._rewrite_due()
        await self._remove_expired()
        await self._archive_due()
        await self._write_manifests()
        if sweep:
            await self._sweep()
        await self._shrink()
        return self._done

    # --- retention ---

    async def _expire(self) -> None:
        """Have those entries end that are older than they are to be kept. Their bodies leave as those of others do."""
        after_key, keep_ms = 0, self._config.keep_ms
        while self._expire_by is not None and not self._stopping:
            now_ms = self._ports.clock.now_ms()
            expiring = await self._cold.expiring(now_ms, keep_ms, after_key)
            for conversation_id, floor_seq in expiring.conversations:
                await self._expire_by(Expire(conversation_id, floor_seq, None, now_ms))
                self._done.ended += 1
            after_key = expiring.after_key
            if not after_key:
                return

    # --- new ranges ---

    async def _archive_due(self) -> None:
        after_key = 0
        while not self._stopping:
            due = await self._cold.due(self._terms(), after_key)
            for it in due.conversations:
                await self._try_archive(it)
            after_key = due.after_key
            if not after_key:
                return

    def _terms(self) -> ColdTerms:
        before_ms = self._ports.clock.now_ms() - round(self._config.after_s * 1000)
        return ColdTerms(before_ms, self._config.keep_entries)

    async def _try_archive(self, it: ColdConversation) -> None:
        """A conversation that is damaged keeps no other one waiting."""
        try:
            await self._archive_conversation(it)
        except DamagedObjectError as error:
            logger.error("a conversation cannot be archived: %s", error)

    async def _archive_conversation(self, it: ColdConversation) -> None:
        """Everything of a conversation that is cold, object by object; a part that is too small for one waits."""
        await self._move(it.conversation_key)
        after_seq = it.ranged_seq
        while not self._stopping:
            entries = await self._cold.entries(
                it.conversation_key,
                after_seq,
                self._terms(),
                self._config.object_entries,
                self._config.object_bytes,
            )
            if not entries or not self._is_worth_it(entries):
                return
            new = ColdRange(it.conversation_key, it.conversation_id, entries[0].seq, entries[-1].seq)
            if not await self._write(new, entries):
                return  # another archiver is here
            self._done.objects += 1
            self._done.entries += len(entries)
            await self._move(it.conversation_key)
            after_seq = new.last_seq

    def _is_worth_it(self, entries: Sequence[ColdEntry]) -> bool:
        size = sum(len(it.payload or b"") for it in entries)
        is_full = size > self._config.object_bytes - _PAYLOAD_BYTES_MAX
        age_ms = self._ports.clock.now_ms() - entries[0].server_ts
        is_old = age_ms >= 2_000 * self._config.after_s
        return is_full or is_old or len(entries) >= self._config.object_entries_min

    async def _move(self, key: int) -> None:
        while not self._stopping and (count := await self._cold.move(key, self._config.move_entries)):
            self._done.moved += count
            await anyio.sleep(self._config.pause_s)

    # --- objects ---

    async def _write(self, it: ColdRange, entries: Sequence[ColdEntry] | None = None) -> bool:
        """Write a range's object, the first or another one; false if somebody else does.

        Args:
            it: The range as the log has it.
            entries: What it holds; None: what its present object holds, or else the log.
        """
        token = self._ports.ids.token_bytes(8).hex()
        name = object_name(self._log, it.conversation_key, it.first_seq, it.last_seq, token)
        claimed, now_ms = replace(it, next_name=name), self._ports.clock.now_ms()
        if not await self._cold.claim(claimed, now_ms, now_ms - round(self._config.lease_s * 1000)):
            return False
        if entries is None:
            entries = await (self._objects.read(it) if it.name else self._cold.entries_of(it))
        blanks = await self._cold.blanks(it)
        digest, size = await self._objects.write(claimed, _without(entries, blanks))
        if not await self._cold.confirm(replace(it, name=name, digest=digest, size=size), blanks):
            return False
        if it.name:
            await self._remove(it.name)
        return True

    async def _remove(self, name: str) -> None:
        self._forget(name)
        await self._archive.delete(name)

    async def _rewrite_due(self) -> None:
        """Ranges that hold what was recalled, and those whose archiver ended before it had written them."""
        now_ms = self._ports.clock.now_ms()
        taken_before_ms = now_ms - round(self._config.lease_s * 1000)
        while not self._stopping and (found := await self._cold.unfinished(taken_before_ms, _AT_ONCE)):
            for it in found:
                await self._rewrite(it)

    async def _rewrite(self, it: ColdRange) -> None:
        """One that fails stays claimed, so that it comes again once its lease has ended."""
        try:
            if await self._write(it):
                self._done.rewritten += bool(it.name)
        except (DamagedObjectError, ObjectMissingError) as error:
            logger.error("an object of the archive cannot be written anew: %s", error)

    async def _remove_expired(self) -> None:
        while not self._stopping and (found := await self._cold.expired(_AT_ONCE)):
            for it in found:
                if await self._cold.forget(it):
                    self._done.expired += 1
                    await self._remove(it.name) if it.name else None

    # --- order ---

    async def _write_manifests(self) -> None:
        while not self._stopping and (due := await self._cold.manifests_due(_AT_ONCE)):
            for key, conversation_id, version in due:
                await self._write_manifest(key, conversation_id)
                await self._cold.manifest_written(key, version)

    async def _write_manifest(self, key: int, conversation_id: str) -> None:
        ranges: list[ColdRange] = []
        while found := await self._cold.ranges((key, ranges[-1].first_seq if ranges else 0), _AT_ONCE):
            own = [it for it in found if it.conversation_key == key]
            ranges += own
            if len(own) < _AT_ONCE:
                break
        name = manifest_name(self._log, key)
        if ranges:
            await self._archive.put(name, manifest(conversation_id, ranges))
        else:
            await self._archive.delete(name)

    async def _sweep(self) -> None:
        """Remove the objects that no range names: their archivers ended, or were late."""
        after = ""
        while not self._stopping:
            names = await self._archive.names(f"{self._log}/", after, LIST_MAX)
            objects = [name for name in names if object_place(name) is not None]
            known = await self._cold.known(objects)
            for name in objects:
                if name not in known and not await self._adopt(name):
                    self._done.unknown += 1
                    await self._remove(name)
            if len(names) < LIST_MAX:
                return
            after = names[-1]

    async def _adopt(self, name: str) -> bool:
        """Take an object for a range whose own is not there: so it is after a log was put back from a backup."""
        place = object_place(name)
        assert place is not None
        for it in await self._cold.ranges((place[0], place[1] - 1), 1):
            if (it.conversation_key, it.first_seq, it.last_seq) == place and await self._is_lost(it):
                return await self._put_in_place(it, name)
        return False

    async def _is_lost(self, it: ColdRange) -> bool:
        try:
            await self._archive.get(it.name)
        except ObjectMissingError:
            return True
        return False

    async def _put_in_place(self, it: ColdRange, name: str) -> bool:
        """Whether the object holds the range's entries, which names it from now on."""
        claimed, now_ms = replace(it, next_name=name), self._ports.clock.now_ms()
        try:
            entries, digest, size = await self._objects.look(claimed)
        except DamagedObjectError:
            return False
        blanks = Blanks(tuple(entry.seq for entry in entries if entry.payload is None), 0)
        if not await self._cold.claim(claimed, now_ms, now_ms + 1):
            return False
        logger.warning("%s takes the place of the lost object %s", name, it.name)
        return await self._cold.confirm(replace(it, name=name, digest=digest, size=size), blanks)

    async def _shrink(self) -> None:
        while not self._stopping and self._config.shrink_bytes:
            count = await self._cold.shrink(self._config.shrink_bytes)
            if count <= 0:
                return
            self._done.given_back_bytes += count
            await anyio.sleep(self._config.pause_s)


def _without(entries: Sequence[ColdEntry], blanks: Blanks) -> list[ColdEntry]:
    """The entries as they may be in an object."""
    gone = frozenset(blanks.seqs)
    return [
        replace(it, payload=None) if it.seq in gone or it.seq <= blanks.floor_seq else it for it in entries
    ]
