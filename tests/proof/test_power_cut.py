"""What power cuts and failing disks leave of the store on SQLite, and that a store which lies about it is caught."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest

from chatkit.drivers.sqlite import Connect, Connection, DiskFailedError, Params, Row
from chatkit.errors import UnavailableError
from chatkit.storage import base
from chatkit.testing.rng import Rng, SeededIds

from ..changed_files import count_as_served
from .power_cut import Fault, Proof, RecordedDisk, open_recorded, prove, scratch_folder, sweep
from .power_cut.__main__ import main
from .power_cut.check import Verdict, examine
from .power_cut.driver import Driver, work
from .power_cut.fault_sweep import KINDS, Kind
from .power_cut.proof import FILE_NAME
from .power_cut.workload import Script


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


async def test_full_sync_loses_nothing(folder: Path) -> None:
    proof = await prove(folder, states=60)
    assert proof.sound, proof.examples
    assert (proof.states, proof.runs) == (60, 2)
    assert proof.distinct > 40
    assert proof.syncs > 100


async def test_syncing_at_checkpoints_only_loses_what_was_acknowledged(folder: Path) -> None:
    proof = await prove(folder, states=50, seed=2, synchronous="NORMAL")
    assert proof.lost > 10
    assert proof.damaged == 0  # what is left is an older state, and whole


async def test_without_syncs_files_are_damaged(folder: Path) -> None:
    proof = await prove(folder, states=50, synchronous="OFF")
    assert proof.damaged > 10


async def test_a_seed_foretells_everything(folder: Path) -> None:
    first, again, other = [await _shown(folder, seed) for seed in (3, 3, 4)]
    assert first == again
    assert first != other


async def _shown(folder: Path, seed: int) -> Proof:
    proof = await prove(folder, states=12, seed=seed, synchronous="OFF")
    proof.seconds = 0.0
    proof.examples = [example.replace(str(folder), "") for example in proof.examples]
    return proof


class EarlyConnection:
    """A connection that reports a commit before it is done: it is only done when the next one begins."""

    def __init__(self, inner: Connection, waiting: list[Connection]) -> None:
        self._inner = inner
        self._waiting = waiting

    def commit(self) -> None:
        self._waiting.append(self._inner)

    def begin(self) -> None:
        _catch_up(self._waiting)
        self._inner.begin()

    def close(self) -> None:
        _catch_up(self._waiting)
        self._inner.close()

    def rollback(self) -> None:
        self._inner.rollback()

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        return self._inner.execute(sql, params)

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        self._inner.executemany(sql, rows)

    def change(self, sql: str, params: Params = ()) -> int:
        return self._inner.change(sql, params)


def _catch_up(waiting: list[Connection]) -> None:
    while waiting:
        waiting.pop().commit()


def early(connect: Connect) -> Connect:
    waiting: list[Connection] = []

    def wrapped(path: str, *, read_only: bool = False) -> Connection:
        if read_only:
            return connect(path, read_only=True)
        _catch_up(waiting)
        return EarlyConnection(connect(path), waiting)

    return wrapped


async def test_a_store_that_acknowledges_before_the_commit_is_caught(folder: Path) -> None:
    proof = await prove(folder, states=50, wrap=early)
    assert proof.lost > 10
    assert proof.damaged == 0


@pytest.fixture
async def closed(folder: Path) -> Driver:
    """A log that was closed cleanly, with what was acknowledged."""
    rng, disk = Rng(5).stream("log"), RecordedDisk(folder)
    connect = partial(open_recorded, disk=disk)
    driver = Driver(str(folder / FILE_NAME), SeededIds(rng), connect, disk.journal)
    await work(driver, Script(rng), rng, 20)
    return driver


async def judged(driver: Driver) -> Verdict:
    return await examine(
        driver.path, SeededIds(Rng(0).stream("ids")), driver.secret, driver.acknowledged, None
    )


def change(path: str, *statements: str) -> None:
    """Damage the tables of a log; the trigger in the way is put back."""
    connection = sqlite3.connect(path, isolation_level=None)
    ((trigger,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'audit_is_never_deleted'")
    for sql in ("PRAGMA foreign_keys = 0", "DROP TRIGGER audit_is_never_deleted", *statements, trigger):
        connection.execute(sql)
    connection.close()
    count_as_served(path)


async def test_a_closed_log_is_what_was_acknowledged(closed: Driver) -> None:
    verdict = await judged(closed)
    assert verdict.sound, verdict
    assert verdict.held == len(closed.acknowledged)


@pytest.mark.parametrize(
    ("sql", "invariant"),
    [
        ("UPDATE message SET payload = x'7b7d' WHERE kind = 'USER' AND substr(payload, 1, 1) = x'7b'", "S1"),
        ("UPDATE message SET sender_id = 'eve' WHERE seq = 1", "S1"),
        ("UPDATE setting SET value = randomblob(32)", "S1"),
        ("UPDATE message SET client_msg_id = client_msg_id || 'x' WHERE kind = 'USER'", "S11"),
        ("UPDATE message SET payload_mac = x'00' WHERE kind = 'USER'", "S11"),
        ("DELETE FROM outbox", "S13"),
        ("DELETE FROM resume_token", "S13"),
    ],
)  # fmt: skip
async def test_a_change_behind_the_stores_back_is_found(closed: Driver, sql: str, invariant: str) -> None:
    change(closed.path, sql)
    verdict = await judged(closed)
    assert not verdict.damaged
    assert invariant in {finding.split(":")[0] for finding in verdict.findings}
    assert verdict.lost or invariant != "S1"


def recalled(driver: Driver) -> base.Entry:
    """A message that was sent and recalled, as it was sent."""
    done = [pair for it in driver.acknowledged for pair in zip(it.commands, it.outcomes, strict=True)]
    gone = next(
        it.message_id for it, outcome in done if type(it) is base.Recall and type(outcome) is base.Recalled
    )
    return next(it.entry for _, it in done if type(it) is base.Appended and it.entry.message_id == gone)


async def test_a_recalled_body_that_is_still_in_the_file_is_found(closed: Driver) -> None:
    entry = recalled(closed)
    change(closed.path, f"CREATE TABLE leftovers AS SELECT x'{entry.payload.hex()}' AS payload")
    assert any(it.startswith("S20:") and it.endswith("in a file") for it in (await judged(closed)).findings)


async def test_a_recall_that_is_forgotten_is_found(closed: Driver) -> None:
    entry = recalled(closed)
    change(
        closed.path,
        f"UPDATE message SET payload = x'{entry.payload.hex()}' WHERE client_msg_id = '{entry.client_msg_id}'",
        "DELETE FROM recall WHERE (conversation_key, seq) IN (SELECT conversation_key, seq FROM message "
        f"WHERE client_msg_id = '{entry.client_msg_id}')",
    )
    assert any(it.startswith("S20:") and it.endswith("is read") for it in (await judged(closed)).findings)


@pytest.mark.parametrize(
    ("sql", "invariant", "damaged"),
    [
        ("UPDATE member_cursor SET read_seq = 0, delivered_seq = 0", "S15", "nor their farthest device"),
        ("DELETE FROM audit WHERE audit_id = (SELECT min(audit_id) FROM audit WHERE action = 'RECALLED')", "S24",
         "audit rows were written"),
        ("INSERT INTO audit (at_ms, conversation_key, actor_id, action, seq, subject, number, digest) "
         "SELECT at_ms, conversation_key, actor_id, action, seq, subject, 0, x'' FROM audit LIMIT 1", "S24",
         "from before there were chains"),
    ],
)  # fmt: skip
async def test_a_change_that_the_full_check_finds_too(
    closed: Driver, sql: str, invariant: str, damaged: str
) -> None:
    """The store opens the file: neither is at the newest end of the log."""
    change(closed.path, sql)
    verdict = await judged(closed)
    assert damaged in verdict.damaged
    assert invariant in {finding.split(":")[0] for finding in verdict.findings}


async def test_a_hole_is_refused(closed: Driver) -> None:
    change(closed.path, "DELETE FROM message WHERE conversation_key = 1 AND seq = 1")
    verdict = await judged(closed)
    assert "conversation g has head" in verdict.damaged
    assert not verdict.sound


async def test_a_state_before_the_first_acknowledgement_need_only_open(folder: Path) -> None:
    path = str(folder / FILE_NAME)
    verdict = await examine(path, SeededIds(Rng(0).stream("ids")), b"", [], None)
    assert verdict.sound
    assert verdict.held is None


def kinds(*names: str) -> list[Kind]:
    return [kind for kind in KINDS if kind.name in names]


async def test_failing_calls_of_a_send_are_survived(folder: Path) -> None:
    wanted = kinds("short write", "sync fails", "read fails", "truncation fails")
    found = await sweep(folder, cuts=0, kinds=wanted, step=3)
    assert found.findings == []
    assert all(found.faults[kind.name] for kind in wanted), found.faults
    assert all(found.refused[name] for name in ("short write", "sync fails", "read fails"))
    assert found.refused["truncation fails"] == 0  # only checkpoints truncate, and nobody waits for those
    assert found.faults.total() > found.refused.total()


async def test_a_full_disk_is_survived_for_as_long_as_it_lasts(folder: Path) -> None:
    found = await sweep(folder, cuts=0, kinds=kinds("disk full from here on"), step=2)
    assert found.findings == []
    assert found.refused.total() > 5


async def test_a_refusal_of_the_wrong_class_is_found(folder: Path) -> None:
    wrong = Kind("wrong", "sync", Fault(apsw.SQLITE_IOERR_FSYNC), UnavailableError)
    found = await sweep(folder, cuts=0, kinds=[wrong])
    assert any("F12: refused with DiskFailedError" in finding for finding in found.findings)


async def test_what_a_killed_process_left_is_synced_before_it_is_answered_from(folder: Path) -> None:
    killed = Kind("killed before a sync", "sync", Fault(apsw.SQLITE_IOERR), DiskFailedError, lasting=True)
    found = await sweep(folder, cuts=0, kinds=[killed])
    assert found.faults.total() > 0
    assert found.findings == []


async def test_what_a_failed_sync_left_is_not_trusted_by_the_next_process(folder: Path) -> None:
    found = await sweep(folder, cuts=0, kinds=kinds("syncs fail from here on"))
    assert found.faults.total() > 0
    assert found.findings == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 0, "states with acknowledged loss: 0"),
        (["--expect-loss"], 1, "states with acknowledged loss: 0"),
        (["--synchronous", "NORMAL", "--states", "40"], 1, "acknowledged batches are gone"),
        (["--synchronous", "NORMAL", "--states", "40", "--expect-loss"], 0, "states found damaged: 0"),
    ],
)
def test_the_command_tells_and_judges(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--states", "10", "--seed", "2", *arguments]) == code
    assert said in capsys.readouterr().out
