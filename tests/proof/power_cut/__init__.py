"""Proof that the store on SQLite keeps what it acknowledged through power cuts and failing disks.

A real `SqliteStore` runs on a disk that takes down every write, truncation, deletion and sync (`recording`). From that
journal `states` builds what a power cut at any point could have left; each such state is opened with the plain store
and compared with everything that was acknowledged until then (`check`). `python -m tests.proof.power_cut` runs
thousands of them. `fault_sweep` lets one call after the other fail instead, with the same checks afterwards.

Needs apsw, a SQLite library whose file system can be written in Python; it is in the dependency group `test`.
"""

from .connection import open_recorded
from .fault_sweep import Sweep, sweep
from .proof import Proof, prove, scratch_folder
from .recording import FailAt, Fault, RecordedDisk
from .states import DiskModel

__all__ = [
    "DiskModel",
    "FailAt",
    "Fault",
    "Proof",
    "RecordedDisk",
    "Sweep",
    "open_recorded",
    "prove",
    "scratch_folder",
    "sweep",
]
