"""When a file was made, by the file system's own clock: the one time that no copy keeps and nobody can set.

Change of owner, mode or names leaves it, other than the time of the last change (ctime). Linux knows it; Python asks
for it from 3.15 on (`os.statx`), so until then the C library is asked. Called by `storage.sqlite`.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

_AT_FDCWD: Final = -100
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_MASK: Final = struct.Struct("=I")
_BIRTH: Final = struct.Struct("=80xqI")


def born_ns(path: str) -> int:
    """When a file was made; 0 if there is none.

    Where nobody says so (old file systems), or where it can be set (systems other than Linux), it is when the file was
    changed last in any way. Nobody can set that either, but a change of owner or mode counts then.
    """
    try:
        changed_ns = os.stat(path).st_ctime_ns
    except FileNotFoundError:
        return 0
    return birth_ns(path) or changed_ns


def birth_ns(path: str) -> int:
    """When Linux says that a file was made; 0 if it does not say so."""
    statx = _statx()
    found = bytearray(_STATX_BYTES)
    if statx is None or statx(path, found) != 0 or not _MASK.unpack_from(found)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(found)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


@cache
def _statx() -> Callable[[str, bytearray], int] | None:
    """The call that fills in a `struct statx` and returns 0; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        call = ctypes.CDLL(None).statx
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, a C library without the call
        return None

    def statx(path: str, found: bytearray) -> int:
        buffer = (ctypes.c_char * len(found)).from_buffer(found)
        return int(call(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer))

    return statx
