"""The settings of uploaded files: one frozen value with defaults that are meant to be kept."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..._arguments import check_kind, check_number
from ...errors import ConfigurationError

SIZE_MAX: Final = 1024 * 1024 * 1024
"""No setting allows larger files: the digests of their parts are in one row."""

_KEY_LEAST: Final = 16


class BlobConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be uploaded, and for how long a link holds.

    Attributes:
        size_max: Bytes of one file; at most 1 GiB. 100 MiB.
        quota_bytes: Bytes of all files of a user that are kept; each counts 4 KiB at least. 1 GiB.
        link_s: How long a link to upload or to download by holds, at most a day. A transfer that has begun goes on.
        link_key: What links are signed with, at least 16 characters, the same on all nodes; another one ends all
            links. None: a key made from the log's own secret.
        keep_s: An upload that no message names is kept for so long; of one that is asked for again at least half of it.
        collect_s: How often what nothing names is looked for.
        transfers_max: Uploads and downloads at the same time; each takes up to 2 MiB of memory. Where all are taken, a
            user gets a place of the one who has the most, if that is two more; else OVERLOADED.
        transfers_per_user: Of one user; further ones are refused with RATE_LIMITED.
        stall_s: A peer that sends or reads nothing for so long is cut off.
        bytes_per_s_min: And one that is slower than this, once it is `stall_s` behind.
    """

    size_max: int = 100 * 1024 * 1024
    quota_bytes: int = 1024 * 1024 * 1024
    link_s: float = 300.0
    link_key: str | None = None
    keep_s: float = 86_400.0
    collect_s: float = 60.0
    transfers_max: int = 64
    transfers_per_user: int = 8
    stall_s: float = 30.0
    bytes_per_s_min: int = 16 * 1024

    def __post_init__(self) -> None:
        for name in ("size_max", "quota_bytes", "transfers_max", "transfers_per_user", "bytes_per_s_min"):
            check_number(name, getattr(self, name), whole=True)
        for name in ("link_s", "keep_s", "collect_s", "stall_s"):
            check_number(name, getattr(self, name))
        check_kind("link_key", self.link_key, str, optional=True)
        if self.link_key is not None and len(self.link_key) < _KEY_LEAST:
            raise ConfigurationError(f"link_key must have at least {_KEY_LEAST} characters")
        if self.size_max > SIZE_MAX:
            raise ConfigurationError(f"size_max must be at most {SIZE_MAX}")
        if self.quota_bytes > 2**53:
            raise ConfigurationError("quota_bytes must be at most 2^53")
        if self.link_s > 86_400 or self.keep_s > 1e9 or self.collect_s > 86_400 or self.stall_s > 86_400:
            raise ConfigurationError(
                "link_s, collect_s and stall_s must be at most a day, keep_s at most 1e9"
            )
        if self.keep_s < 2 * self.link_s:
            raise ConfigurationError("keep_s must be at least twice link_s")

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What `repr` shows: the key stays secret."""
        hidden = msgspec.structs.asdict(self)
        if self.link_key is not None:
            hidden["link_key"] = "..."
        return list(hidden.items())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    @property
    def keep_ms(self) -> int:
        """`keep_s` in milliseconds."""
        return round(self.keep_s * 1000)

    @property
    def grace_ms(self) -> int:
        """How long after a file began to go its objects are looked for once more: whoever was writing has ended."""
        return round((self.link_s + self.deadline_s(self.size_max) + 60) * 1000)

    def deadline_s(self, size: int) -> float:
        """How long a transfer of so many bytes may take."""
        return self.stall_s + size / self.bytes_per_s_min
