"""The disk under a SQLite log: room, file system, fsync, rights."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from ...drivers.sqlite import log_of, shared_memory_of
from ...ports import Clock, SystemClock
from .base import Finding, Subject, in_thread

FREE_FAILURE_BYTES: Final = 100 * 1024 * 1024
FREE_WARNING_BYTES: Final = 1024 * 1024 * 1024
FSYNC_SLOW_S: Final = 0.05
_SYNCS: Final = 5

NETWORK: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "gfs2",
        "ocfs2",
        "glusterfs",
    }
    | {"fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.ceph", "beegfs"}
    | {"vboxsf", "prl_fs", "virtiofs"}
)
"""File systems whose locks or shared memory SQLite cannot rely on: it says not to put a WAL file there."""

FLEETING: Final = {
    "tmpfs": "it is memory, and gone with the machine",
    "ramfs": "it is memory, and gone with the machine",
    "overlay": "it is a container's own layer, and gone with it",
}


async def disk(subject: Subject) -> list[Finding]:
    """Everything about the folder of the log; nothing where there is no file."""
    if subject.file is None:
        return []
    return await in_thread(_look, subject.file, subject.root)  # type: ignore[no-any-return]


def _look(file: Path, root: Path) -> list[Finding]:
    folder = Path(os.path.realpath(file)).parent
    if not folder.is_dir():
        return [Finding("disk", "failure", f"there is no folder {folder}", f"make it: mkdir -p {folder}")]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [
            Finding("disk", "failure", f"{folder} cannot be written to", "give it to the user of the server")
        ]
    return [free_space(folder), file_system(folder, root), fsync(folder), *_modes(file, folder)]


def free_space(folder: Path) -> Finding:
    """Whether there is room for a while."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    words = f"{free // (1024 * 1024)} MiB free in {folder}"
    if free < FREE_FAILURE_BYTES:
        return Finding("disk", "failure", words, "make room: sends are refused when it is full")
    status = "warning" if free < FREE_WARNING_BYTES else "ok"
    return Finding("disk", status, words, "make room soon" if status == "warning" else "")  # type: ignore[arg-type]


def file_system(folder: Path, root: Path) -> Finding:
    """Whether SQLite can rely on what is below the folder."""
    kind = _kind_of(folder, root)
    words = f"{folder} is on {kind or 'a file system that is not known'}"
    if kind in NETWORK:
        return Finding(
            "file system", "failure", words, "put the log on a local disk: locks fail over a network"
        )
    if kind in FLEETING:
        return Finding("file system", "warning", f"{words}: {FLEETING[kind]}", "put the log on a volume")
    return Finding("file system", "ok", words)


def _kind_of(folder: Path, root: Path) -> str:
    """The type of the innermost mount that holds a folder; "" if the system does not say."""
    best, kind = -1, ""
    try:
        lines = (root / "proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4].replace("\\040", " "))
        if folder.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split()[0]
    return kind


def fsync(folder: Path, clock: Clock | None = None) -> Finding:
    """Whether writes reach the disk, and how long that takes."""
    clock = clock or SystemClock()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".chatkit-doctor-") as file:
            began_s = clock.now_s()
            for _ in range(_SYNCS):
                file.write(b"chatkit")
                file.flush()
                os.fsync(file.fileno())
            took_s = (clock.now_s() - began_s) / _SYNCS
    except OSError as error:
        words = f"a file in {folder} cannot be written and synced: {error.strerror}"
        return Finding(
            "fsync", "failure", words, "the disk must take writes; without fsync nothing is acknowledged"
        )
    words = f"{took_s * 1000:.1f} ms for a write to reach the disk"
    if took_s > FSYNC_SLOW_S:
        return Finding("fsync", "warning", words, "every batch of messages waits for it: take a faster disk")
    return Finding("fsync", "ok", words)


def _modes(file: Path, folder: Path) -> list[Finding]:
    """Whether others on the machine can read what people write."""
    names = [file, Path(log_of(str(file))), Path(shared_memory_of(str(file)))]
    there = [it for it in names if it.exists()]
    open_to_all = [it.name for it in there if it.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)]
    closed = [it.name for it in there if not os.access(it, os.R_OK | os.W_OK)]
    if closed:
        words = f"{', '.join(closed)} cannot be read and written"
        return [Finding("rights", "failure", words, "give them to the user of the server")]
    if open_to_all and folder.stat().st_mode & stat.S_IXOTH:
        words = f"everybody on this machine may open {', '.join(open_to_all)}"
        return [Finding("rights", "warning", words, f"chmod o-rwx {folder}, and the files in it")]
    return [Finding("rights", "ok", "nobody else may open the log" if there else "there is no log yet")]
