"""Releases of SQLite that are known to be broken, from its own release notes.

Called by `drivers.sqlite` and `chatkit doctor`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

Version = tuple[int, int, int]


class Broken(NamedTuple):
    """A fault of a span of releases.

    Attributes:
        first: The first release that has it.
        last: The last one of the newest branch that has it.
        mended: Releases of older branches in which it was put right; those after them in the same branch too.
        words: What it can do.
        advice: What to do with a release that has it.
    """

    first: Version
    last: Version
    mended: tuple[Version, ...]
    words: str
    advice: str

    def has(self, version: Version) -> bool:
        """Whether a release has the fault."""
        is_mended = any(version[:2] == fix[:2] and version >= fix for fix in self.mended)
        return self.first <= version <= self.last and not is_mended


RELEASES: Final = (
    Broken(
        (3, 7, 0),
        (3, 51, 2),
        ((3, 44, 6), (3, 50, 7)),
        "can damage a file which another process checkpoints at the same moment (mended in 3.51.3)",
        "the server itself is safe, and there is nothing to do unless another program writes to the log or"
        " checkpoints it while it is served; then end that, or take a Python with a newer SQLite",
    ),
    Broken(
        (3, 35, 0),
        (3, 37, 1),
        (),
        "can damage a file when a savepoint is rolled back while temporary files are in memory (mended in 3.37.2)",
        "take a Python with a newer SQLite",
    ),
    Broken(
        (3, 52, 0),
        (3, 52, 0),
        (),
        "was withdrawn by its makers, for it is not compatible with the releases before and after it",
        "take a Python with SQLite 3.53 or newer",
    ),
)
"""Source: sqlite.org/wal.html#walresetbug, releaselog/3_37_2.html, releaselog/3_51_3.html."""


def faults_of(version: Version) -> list[Broken]:
    """What is known against a release."""
    return [broken for broken in RELEASES if broken.has(version)]
