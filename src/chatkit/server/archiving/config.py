"""The settings of archiving: one frozen value with defaults that are meant to be kept."""

from __future__ import annotations

from typing import Final

import msgspec

from ..._arguments import check_kind, check_number
from ...errors import ConfigurationError

_MAX: Final = 1e10
_DAY_S: Final = 86_400.0
_OBJECT_BYTES_MAX: Final = 16 * 1024 * 1024


class ArchiveConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What leaves the hot tables, and how much at a time.

    Attributes:
        after_s: Entries that are older leave for the archive; at least a second. 90 days.
        keep_entries: The newest entries of a conversation stay, so many, whatever their age; at least 1.
        keep_s: Entries that are older are deleted for good, in conversations that say nothing themselves; None: none.
        object_entries: Most entries in one object.
        object_entries_min: A conversation in which fewer are cold waits until the oldest is twice `after_s` old.
        object_bytes: About how many bytes of bodies go into one object, before compression; at most 16 MiB.
        move_entries: Entries whose bodies leave in one transaction, and that are counted for retention.
        pause_s: Between two transactions, so that messages go first.
        interval_s: How often a server looks for work.
        sweep_s: How often it looks in the archive for objects that no log knows.
        lease_s: A range whose archiver has said nothing for so long is another one's to write.
        shrink_bytes: Free space that is given back to the disk in one transaction; 0: none is.
        cache_bytes: What was read from the archive is kept in memory, up to this size.
        reads: Objects that are read at the same time, for all users together.
        reads_waiting: Reads that wait for one; more are refused.
        read_timeout_s: For one page, with its wait.
        threads: Whether objects are packed and unpacked in threads. Only tests in virtual time want it otherwise.
    """

    after_s: float = 90 * _DAY_S
    keep_entries: int = 100
    keep_s: float | None = None
    object_entries: int = 2_000
    object_entries_min: int = 100
    object_bytes: int = 1024 * 1024
    move_entries: int = 200
    pause_s: float = 0.02
    interval_s: float = 3_600.0
    sweep_s: float = _DAY_S
    lease_s: float = 900.0
    shrink_bytes: int = 512 * 1024
    cache_bytes: int = 64 * 1024 * 1024
    reads: int = 8
    reads_waiting: int = 1_000
    read_timeout_s: float = 5.0
    threads: bool = True

    @property
    def keep_ms(self) -> int:
        """`keep_s` in milliseconds; 0 for ever."""
        return 0 if self.keep_s is None else milliseconds_kept(self.keep_s)

    def __post_init__(self) -> None:
        for name in ("after_s", "interval_s", "sweep_s", "lease_s", "read_timeout_s"):
            check_number(name, getattr(self, name))
        if self.keep_s is not None:
            check_number("keep_s", self.keep_s)
        check_number("pause_s", self.pause_s, least=0)
        for name in (
            "keep_entries",
            "object_entries",
            "object_entries_min",
            "object_bytes",
            "move_entries",
            "reads",
        ):
            check_number(name, getattr(self, name), whole=True)
        for name in ("shrink_bytes", "cache_bytes", "reads_waiting"):
            check_number(name, getattr(self, name), least=0, whole=True)
        check_kind("threads", self.threads, bool)
        for name in self.__struct_fields__:
            if isinstance(value := getattr(self, name), int | float) and value > _MAX:
                raise ConfigurationError(f"{name} must be at most {_MAX:g}")
        if self.object_bytes > _OBJECT_BYTES_MAX:
            raise ConfigurationError(f"object_bytes must be at most {_OBJECT_BYTES_MAX}")


def milliseconds_kept(keep_s: float) -> int:
    """How long entries are kept; 0 is for ever, and so nothing else becomes it."""
    return max(1, round(keep_s * 1000)) if keep_s else 0
