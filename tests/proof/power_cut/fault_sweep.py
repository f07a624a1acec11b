"""One call of the disk after the other fails, in the middle of one send: what the store says, and what is kept.

For every kind of fault and every n, a fresh copy of one log is opened, the n-th call after that fails, and then: the
refusal must be of the right class; after a failure of the disk itself nothing is committed until the file is opened
anew; it takes the same batch again and goes on; and the power is cut at places from the fault on, with all that
`check` knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, Literal

import apsw
import msgspec

from chatkit.drivers.sqlite import DiskFailedError
from chatkit.errors import UnavailableError
from chatkit.storage import base
from chatkit.testing.rng import Rng, SeededIds, Stream

from .connection import open_recorded
from .driver import Acknowledged, Driver, work
from .proof import Files, Run, cuts_at, judge, lay_out, read_files
from .recording import FailAt, Fault, FileCall, RecordedDisk
from .workload import Script

_BATCHES_BEFORE: Final = 4

State = Literal["new", "cold", "warm"]
"""What the send finds: no write-ahead log yet; one, and none of its pages in memory; one, and all it needs."""

_CHECKPOINT_PAGES: Final[dict[State, int]] = {"new": 4, "cold": 4, "warm": 1000}
"""With four the send also writes the write-ahead log back."""


class Kind(msgspec.Struct, frozen=True):
    """A way to fail.

    Attributes:
        call: Which calls are failed, one after the other; None for every call.
        lasting: Whether all later ones fail too, until the file has been closed.
        error: What the store is to raise.
    """

    name: str
    call: FileCall | None
    fault: Fault
    error: type[UnavailableError]
    lasting: bool = False


KINDS: Final = (
    Kind("disk full", "write", Fault(apsw.SQLITE_FULL), UnavailableError),
    Kind("disk full in the middle of a write", "write", Fault(apsw.SQLITE_FULL, 0.5), UnavailableError),
    Kind("disk full from here on", "write", Fault(apsw.SQLITE_FULL), UnavailableError, True),
    Kind("write fails", "write", Fault(apsw.SQLITE_IOERR_WRITE), DiskFailedError),
    Kind("short write", "write", Fault(apsw.SQLITE_IOERR_WRITE, 0.3), DiskFailedError),
    Kind("sync fails", "sync", Fault(apsw.SQLITE_IOERR_FSYNC), DiskFailedError),
    Kind("syncs fail from here on", "sync", Fault(apsw.SQLITE_IOERR_FSYNC), DiskFailedError, True),
    Kind("read fails", "read", Fault(apsw.SQLITE_IOERR_READ), DiskFailedError),
    Kind("truncation fails", "truncate", Fault(apsw.SQLITE_IOERR_TRUNCATE), DiskFailedError),
    Kind("process killed", None, Fault(apsw.SQLITE_IOERR), DiskFailedError, True),
)


class Sweep(msgspec.Struct):
    """What a sweep showed.

    Attributes:
        faults: How many calls were failed, by kind.
        refused: In how many of these cases the send was refused; in the others the fault befell a checkpoint after
            it, or nothing that mattered.
        states: Power cuts that were examined afterwards.
        findings: What was wrong, with the case that showed it.
    """

    faults: Counter[str] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    states: int = 0
    findings: list[str] = msgspec.field(default_factory=list)


class _Scene(msgspec.Struct):
    """What every case begins with: a closed log, the send that meets the fault, and what comes before and after it."""

    files: Files
    acknowledged: Sequence[Acknowledged]
    before: list[base.Command]
    send: list[base.Command]
    after: list[list[base.Command]]


async def sweep(
    folder: Path, *, seed: int = 1, cuts: int = 2, kinds: Sequence[Kind] = KINDS, step: int = 1
) -> Sweep:
    """Fail every call of one send, in every way.

    Args:
        folder: As from `scratch_folder`; what is in it afterwards has no meaning.
        seed: Draws the log and the power cuts.
        cuts: How many power cuts follow each fault, besides one at each acknowledgement and
                one in the end.
        kinds: Ways to fail.
        step: Only each so manieth call is failed.
    """
    rng, found = Rng(seed).stream("sweep"), Sweep()
    scene = await _scene(folder, rng)
    for kind in kinds:
        for state in _CHECKPOINT_PAGES:
            for n in count(1, step):
                case = _Case(folder, scene, kind, n, state)
                if not await case.play():
                    break
                await case.cut_power(rng, cuts)
                case.report(found)
    return found


async def _scene(folder: Path, rng: Stream) -> _Scene:
    path = lay_out(folder, {})
    disk, script = RecordedDisk(folder), Script(rng)
    driver = Driver(str(path), SeededIds(rng), partial(open_recorded, disk=disk), disk.journal)
    await work(driver, script, rng, _BATCHES_BEFORE)
    after = [script.sends(1), script.sends(4)]
    return _Scene(read_files(folder), driver.acknowledged, script.sends(2), script.sends(2), after)


class _Case:
    """One fault, and what becomes of it."""

    def __init__(self, folder: Path, scene: _Scene, kind: Kind, n: int, state: State) -> None:
        self._folder = folder
        self._scene = scene
        self._kind = kind
        self._state: State = state
        self._n = n
        self._fault = FailAt(kind.call, n, kind.fault, lasting=kind.lasting)
        self._first = 0
        self._refused = False
        self._states = 0
        self._findings: list[str] = []
        path = lay_out(folder, scene.files)
        self._disk = RecordedDisk(folder)
        connect = partial(open_recorded, disk=self._disk, checkpoint_pages=_CHECKPOINT_PAGES[state])
        ids = SeededIds(Rng(n).stream("secret"))
        self._driver = Driver(str(path), ids, connect, self._disk.journal, scene.acknowledged)

    async def play(self) -> bool:
        """Send into the fault, open the file anew, and go on; false if the send was over before the n-th call."""
        await self._driver.open()
        if self._state != "new":
            await self._driver.commit(self._scene.before)
        if self._state == "cold":
            self._change_elsewhere()
        self._first = len(self._disk.journal)
        self._disk.faults = self._fault
        error = await self._send()
        struck = self._fault.struck
        try:
            await self._go_on(error)
        except UnavailableError as later:
            self._findings.append(f"F12: with the disk as good as new: {later}")
        return struck

    async def cut_power(self, rng: Stream, count: int) -> None:
        """Examine what power cuts since the fault could have left."""
        driver = self._driver
        run = Run(self._disk.journal, driver.acknowledged, driver.secret)
        told = [it.position for it in driver.acknowledged if it.position > self._first]
        end = len(run.journal)
        drawn = [rng.randint(self._first, end) for _ in range(count)]
        for cut in cuts_at(run, sorted([*told, *drawn, end]), rng):
            verdict = await judge(self._folder, run, cut)
            self._states += 1
            self._findings += [f"F14: {verdict.damaged}"] if verdict.damaged else verdict.findings

    def report(self, found: Sweep) -> None:
        """Add this case to what was found."""
        name = f"{self._kind.name}, call {self._n}, {self._state}"
        found.faults[self._kind.name] += 1
        found.refused[self._kind.name] += self._refused
        found.states += self._states
        found.findings += [f"{name}: {finding}" for finding in self._findings]

    def _change_elsewhere(self) -> None:
        """Another connection's commit makes the store forget the pages that it holds."""
        other = self._driver.connect(self._driver.path)
        other.execute("PRAGMA user_version = 1")  # a number that nobody asks for
        other.close()

    async def _send(self) -> UnavailableError | None:
        try:
            outcomes = await self._driver.apply(self._scene.send)
        except UnavailableError as error:
            return error
        self._disk.faults = None  # to look only
        self._driver.acknowledge(self._scene.send, outcomes)
        self._disk.faults = self._fault
        return None

    async def _go_on(self, error: UnavailableError | None) -> None:
        """Go on as far as the store lets us; then close it, repair the disk, and go on with the file opened anew."""
        rest = self._scene.after
        if error is not None:
            self._refused = True
            await self._judge_refusal(error)
            rest = [self._scene.send, *rest]
        if not self._kind.lasting:
            self._disk.faults = None
        if self._disk.faults is None and not isinstance(error, DiskFailedError):
            await self._driver.commit(rest[0])
            rest = rest[1:]
        await self._driver.close()
        self._disk.faults = None
        await self._driver.open()
        for batch in rest:
            await self._driver.commit(batch)
        await self._driver.close()

    async def _judge_refusal(self, error: UnavailableError) -> None:
        if type(error) is not self._kind.error:
            self._findings.append(f"F12: refused with {type(error).__name__}: {error}")
        if not isinstance(error, DiskFailedError):
            self._disk.faults = None  # there is space again
        elif self._driver.healthy or await self._send() is None:
            self._findings.append("F12: it goes on committing after the disk failed")
