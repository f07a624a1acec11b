"""The judge of restored logs bites, and two backups under load, each put back after a kill, in both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chatkit.client.events import ChatEvent, EpochChanged, MessageReceived, MessageSent
from chatkit.types import Message, Sent

from .backups.rounds import Round, Rounds
from .backups.shown import Screen, Shown
from .backups.ways import ByCommand, ByLitestream, Way


def received(seq: int, text: str = "", log: str = "e1") -> MessageReceived:
    body = {"type": "TEXT", "text": text or f"text {seq}"}
    return MessageReceived(Message("c", seq, f"{log}-{seq}", "ann", 0, body))


def sent(seq: int, text: str, log: str = "e1") -> MessageSent:
    return MessageSent(Sent("c", text, f"{log}-{seq}", seq, 0, log))


def log_of(*events: ChatEvent) -> list[tuple[int, Shown]]:
    """The log that a screen shows which was told these alone."""
    screen = Screen("model")
    for event in events:
        screen.take(event)
    return sorted(screen._shown["c"].items())


def screen_of(*events: ChatEvent) -> Screen:
    screen = Screen("ann")
    for event in events:
        screen.take(event)
    return screen


def test_what_is_right_is_passed() -> None:
    screen = screen_of(
        received(1),
        sent(3, "mine"),
        received(2),
        received(4),
        EpochChanged("c", "e2", 2),
        sent(3, "mine", "e2"),
    )
    wanted = log_of(received(1), received(2), sent(3, "mine", "e2"))
    assert (screen.wrong, screen.differs("c", wanted)) == ([], [])
    assert (screen.taken_back, screen.epochs) == (2, 1)


WRONG: dict[str, list[ChatEvent]] = {
    "told again under its seq": [received(1), received(2), received(2)],
    "told again after a new epoch": [received(1), received(2), EpochChanged("c", "e2", 2), received(2)],
    "out of order": [received(1), received(3), received(2)],
    "its own, told twice": [received(1), sent(2, "mine"), sent(2, "mine")],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_told_again_is_found(name: str) -> None:
    assert screen_of(*WRONG[name]).wrong


LOG = log_of(received(1), received(2), received(3))
DIFFERENT: dict[str, list[ChatEvent]] = {
    "one is missing": [received(1), received(3)],
    "one of the lost log is left": [received(1), received(2), received(3), received(4)],
    "one is of the lost log": [received(1), received(2), received(3, log="lost")],
    "the same text twice": [received(1), received(2), received(3), sent(9, "text 2")],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_the_log_has_not_is_found(name: str) -> None:
    assert screen_of(received(1), received(2), received(3)).differs("c", LOG) == []
    assert screen_of(*DIFFERENT[name]).differs("c", LOG)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [ByCommand, ByLitestream])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_backups_under_load_are_put_back(way: Callable[[Path], Way], tmp_path: Path) -> None:
    rounds, told = Rounds(tmp_path, way(tmp_path), seed=5, every_s=0.05), list[Round]()
    await rounds.run(2, told.append)
    assert rounds.wrong == []
    assert len(told) == 2
    for it in told:
        assert it.acked, "there was something to keep"
        assert it.lost, "and something to lose"
        assert it.resent, "and to send again"
        assert it.taken_back > it.lost, "everybody has seen it"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_backup_that_is_too_old_is_found(tmp_path: Path) -> None:
    """A way that does not take a backup when it says so."""

    class Lazy(ByCommand):
        def take(self) -> None:
            if not self._newest:
                super().take()

    rounds = Rounds(tmp_path, Lazy(tmp_path), seed=6, every_s=0.05)
    await rounds.run(2, lambda it: None)
    assert any("was acknowledged before the backup began, and is not in the log" in it for it in rounds.wrong)
