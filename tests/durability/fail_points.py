"""The named places at which a server dies, and what must hold after each (F7).

Every place says what the file must hold afterwards: nothing of the request before the commit, all of it after.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.blackbox.peer import send_msg
from tests.blackbox.server_process import ServerProcess

from .failing_server import ARMED_BY, PLACE
from .launched import LaunchedServer
from .stage import ALICE, GROUP, MESSAGES, Stage
from .state import State, check_whole, copy_database, read_state
from .workloads import Told, until_cut

KEYS = ("one", "two", "three")
SERVE = (sys.executable, "-m", "tests.durability.failing_server")
HEAD = MESSAGES + 1
"""Of the prepared file."""

Act = Callable[[Stage], Iterator[bytes]]


def by_socket(stage: Stage) -> Iterator[bytes]:
    """Three messages in one frame."""
    stage.alice.send(*(send_msg(GROUP, key, key) for key in KEYS))
    for key in KEYS:
        yield stage.alice.expect("MSG_ACK", clientMsgId=key).raw


def by_http(stage: Stage) -> Iterator[bytes]:
    """Three messages, one request each."""
    for key in KEYS:
        answer = stage.api(ALICE).say(GROUP, key, key)
        assert answer.status_code == 200, answer.text
        yield answer.content


@dataclass(frozen=True)
class FailPoint:
    """A place, and what must be left.

    Attributes:
        passage: The passage at which the process dies.
        stored: How many of the three messages are in the file then.
        told: How many were answered.
    """

    name: str
    stored: int
    told: int = 0
    passage: int = 1
    act: Act = by_socket

    def __str__(self) -> str:
        return f"{self.name}:{self.passage}"


ALL = len(KEYS)
FAIL_POINTS = (
    FailPoint("parse", stored=0),
    FailPoint("auth", stored=0, act=by_http),
    FailPoint("auth", stored=1, told=1, passage=2, act=by_http),
    FailPoint("begin", stored=0),
    FailPoint("insert_message", stored=0),
    FailPoint("insert_message", stored=0, passage=2),
    FailPoint("counter", stored=0),
    FailPoint("insert_outbox", stored=0),
    FailPoint("before_commit", stored=0),
    FailPoint("before_commit", stored=2, told=2, passage=3, act=by_http),
    FailPoint("after_commit", stored=ALL),
    FailPoint("after_commit", stored=1, passage=1, act=by_http),
    FailPoint("publish", stored=ALL),
    FailPoint("publish", stored=ALL, passage=2),
    FailPoint("ack_half_written", stored=ALL),
    FailPoint("ack_written", stored=ALL, told=ALL),
    FailPoint("push", stored=ALL, told=ALL),
)


def kill_at(point: FailPoint, prepared: Path, folder: Path) -> list[str]:
    """Let a server die at a place, restart the real one on its file, and see that all holds.

    Returns:
        The keys that the file held right after the death.
    """
    folder.mkdir(parents=True)
    database = copy_database(prepared, folder)
    before = read_state(database)
    told = _killed(point, folder)
    left = read_state(database)
    check_left(point, before, left, told)
    _restarted(point, ServerProcess(folder), told)
    after = read_state(database)
    check_whole(after)
    assert stored(after) == list(KEYS), "S1, S4: sent again, each is there once, in order"
    assert after.messages[: len(left.messages)] == left.messages, "S6: what was there changed"
    return stored(left)


def _killed(point: FailPoint, folder: Path) -> Told:
    armed_by = folder / "armed"
    server = LaunchedServer(folder, SERVE, {PLACE: str(point), ARMED_BY: str(armed_by)})
    server.start()
    try:
        stage = Stage(server)
        armed_by.touch()
        told = until_cut(point.act(stage))
        assert server.exit_code() == -signal.SIGKILL
        assert f"killed at {point.name}\n" in server.log, "it died elsewhere"
        stage.close()
    finally:
        server.stop()
    return told


def check_left(point: FailPoint, before: State, left: State, told: Told) -> None:
    """What a death at this place may leave."""
    check_whole(left)
    assert len(told) == point.told, told
    assert stored(left) == list(KEYS[: point.stored])
    assert left.messages[: len(before.messages)] == before.messages, "S6: an older entry changed"
    assert left.outbox == (((GROUP, HEAD + 1),) if point.stored else ()), "S13: message and outbox row differ"


def _restarted(point: FailPoint, server: ServerProcess, told: Told) -> None:
    server.start()
    try:
        stage = Stage(server)
        again = list(point.act(stage))
        assert again[: len(told)] == told, f"S11: told {told}, then {again}"
        assert list(point.act(stage)) == again, "S11: a third answer differs"
        server.kill()
        stage.close()
    finally:
        server.stop()


def stored(state: State) -> list[str]:
    """The keys of the messages beyond the prepared ones."""
    return [row[3] for row in state.log(GROUP)[HEAD:]]
