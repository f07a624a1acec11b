"""Many power cuts: real runs of the store, and for each some of the states that could have been left of it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from chatkit.drivers.sqlite import Connect
from chatkit.ports import Clock, SystemClock
from chatkit.testing.rng import Rng, SeededIds, Stream

from .check import Verdict, examine
from .connection import Synchronous, open_recorded
from .driver import Acknowledged, Driver, work
from .recording import Found, Operation, RecordedDisk, Synced, Wrote
from .states import DiskModel
from .workload import Script

FILE_NAME: Final = "chat.db"
STATES_PER_RUN: Final = 50
_BATCHES_PER_RUN: Final = 30
_CHECKPOINT_PAGES: Final = (4, 16, 60)
_EXAMPLES_MAX: Final = 5
_MEMORY: Final = Path("/dev/shm")

Files = dict[str, bytes]


class Proof(msgspec.Struct):
    """What many power cuts showed.

    Attributes:
        distinct: Of the states, those that left different files.
        lost: States in which something acknowledged was missing.
        damaged: States that the store refused to open, or in which the full check found something.
        wrong: States that broke an invariant, lost ones counted.
        batches: How many were acknowledged.
        commands: How many there were in these.
        examples: The first findings, with the state that showed them.
    """

    runs: int = 0
    states: int = 0
    distinct: int = 0
    syncs: int = 0
    writes: int = 0
    batches: int = 0
    commands: int = 0
    lost: int = 0
    damaged: int = 0
    wrong: int = 0
    seconds: float = 0.0
    examples: list[str] = msgspec.field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether no state was lost, damaged or wrong."""
        return not (self.lost or self.damaged or self.wrong)

    def add(self, name: str, verdict: Verdict) -> None:
        """Count a state."""
        self.states += 1
        self.lost += verdict.lost
        self.damaged += bool(verdict.damaged)
        self.wrong += bool(verdict.findings)
        if not verdict.sound and len(self.examples) < _EXAMPLES_MAX:
            self.examples.append(f"{name}: {verdict.damaged or verdict.findings[0]}")


class Cut(msgspec.Struct):
    """A power cut: after how many operations, and the files that it left."""

    position: int
    files: Files


class Run(msgspec.Struct):
    """One run of the store on a recorded disk, to its end."""

    journal: list[Operation]
    acknowledged: list[Acknowledged]
    secret: bytes

    def told_at(self, position: int) -> int:
        """How many batches were acknowledged when the journal had this length."""
        return bisect_right(self.acknowledged, position, key=lambda it: it.position)


class Origin(msgspec.Struct):
    """What a run begins with: nothing, or what a power cut left of an earlier run."""

    script: Script
    files: Files = {}
    acknowledged: Sequence[Acknowledged] = ()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder, in memory where the system has one; it is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        folder = Path(name) / "files"
        folder.mkdir()
        yield folder


async def prove(
    folder: Path,
    *,
    states: int,
    seed: int = 1,
    synchronous: Synchronous = "FULL",
    wrap: Callable[[Connect], Connect] = lambda connect: connect,
    progress: Callable[[Proof], None] = lambda proof: None,
    clock: Clock | None = None,
) -> Proof:
    """Cut the power many times. The same arguments give the same proof.

    Every second run goes on from a state that a power cut left of the run before it.

    Args:
        folder: As from `scratch_folder`; what is in it afterwards has no meaning.
        states: How many states are built and examined.
        seed: Draws the commands, the states, everything.
        synchronous: How the store's connections sync; only FULL keeps everything.
        wrap: Put between the store and its connections; to show that a store which lies is caught.
        progress: Told after each run.
        clock: For the seconds only; the machine's by default.
    """
    clock = clock or SystemClock()
    start_s, proof, seen = clock.now_s(), Proof(), set[bytes]()
    following: Origin | None = None
    while proof.states < states:
        rng = Rng(seed).stream(f"run {proof.runs}")
        origin, following = following or Origin(Script(rng)), None
        run = await _run(folder, rng, origin, synchronous, wrap)
        _count(proof, run)
        positions = _positions(run, rng, min(STATES_PER_RUN, states - proof.states))
        chosen = rng.choice(positions) if not origin.files else -1
        for cut in cuts_at(run, positions, rng):
            verdict = await judge(folder, run, cut)
            proof.add(f"run {proof.runs}, after operation {cut.position}", verdict)
            seen.add(_digest(cut.files))
            if cut.position == chosen and verdict.sound and verdict.held is not None:
                following = Origin(origin.script, cut.files, run.acknowledged[: verdict.held])
        proof.distinct = len(seen)
        proof.seconds = clock.now_s() - start_s
        progress(proof)
    return proof


async def _run(
    folder: Path,
    rng: Stream,
    origin: Origin,
    synchronous: Synchronous,
    wrap: Callable[[Connect], Connect],
) -> Run:
    path = lay_out(folder, origin.files)
    disk = RecordedDisk(path.parent)
    connect: Connect = partial(
        open_recorded, disk=disk, synchronous=synchronous, checkpoint_pages=rng.choice(_CHECKPOINT_PAGES)
    )
    driver = Driver(str(path), SeededIds(rng), wrap(connect), disk.journal, origin.acknowledged)
    await work(driver, origin.script, rng, _BATCHES_PER_RUN)
    return Run(disk.journal, driver.acknowledged, driver.secret)


def _count(proof: Proof, run: Run) -> None:
    proof.runs += 1
    proof.syncs += sum(isinstance(it, Synced) for it in run.journal)
    proof.writes += sum(isinstance(it, Wrote) for it in run.journal)
    made = [it for it in run.acknowledged if it.position]
    proof.batches += len(made)
    proof.commands += sum(len(it.commands) for it in made)


def _positions(run: Run, rng: Stream, count: int) -> list[int]:
    """Any points of a run, ascending; not before it found its files."""
    first = sum(isinstance(it, Found) for it in run.journal)
    return sorted(rng.randint(first, len(run.journal)) for _ in range(count))


def cuts_at(run: Run, positions: Sequence[int], rng: Stream) -> Iterator[Cut]:
    """A power cut after each of these numbers of operations, which ascend."""
    model, done = DiskModel(), 0
    for position in positions:
        for operation in run.journal[done:position]:
            model.apply(operation)
        done = position
        yield Cut(position, model.cut_power(rng))


async def judge(folder: Path, run: Run, cut: Cut) -> Verdict:
    """Lay out what a power cut left in an emptied folder, and examine it."""
    path = lay_out(folder, cut.files)
    told = run.told_at(cut.position)
    begun = run.acknowledged[told] if told < len(run.acknowledged) else None
    ids = SeededIds(Rng(cut.position).stream("secret"))
    return await examine(str(path), ids, run.secret, run.acknowledged[:told], begun)


def lay_out(folder: Path, files: Files) -> Path:
    """Empty the folder and write these files into it; returns the path of the database."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / FILE_NAME


def read_files(folder: Path) -> Files:
    """The files of a folder, as `lay_out` writes them."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _digest(files: Files) -> bytes:
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(b"%s %d " % (name.encode(), len(content)))
        digest.update(content)
    return digest.digest()
