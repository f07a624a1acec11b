"""Short runs of the cluster: every fault of a server, nodes restarted in turn, and a crowd that is cut off at once."""

from __future__ import annotations

import pytest

from .cluster import __main__ as command
from .cluster import nemesis
from .soak import load


def test_a_short_run_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "PROCESSES", 1)
    for name, value in {"_PAUSE_S": (0.3, 0.8), "_DOWN_S": 0.3, "_BUS_DOWN_S": 1.0, "_FROZEN_S": 2.0}.items():
        monkeypatch.setattr(nemesis, name, value)

    assert command.main(["--seconds", "15", "--clients", "10", "--rate", "20"]) == 0
    told = capsys.readouterr().out
    assert "PostgreSQL crashed" in told
    assert "every log is whole" in told


def test_a_crowd_that_is_cut_off_at_once_comes_back_and_holds_everything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["--reconnect", "21", "--messages", "20"]) == 0
    told = capsys.readouterr().out
    assert "21 devices in a group" in told
    assert "everybody had everything" in told and "41 entries" in told


def test_a_rolling_restart_under_load_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "PROCESSES", 1)
    monkeypatch.setattr(nemesis, "_BETWEEN_NODES_S", 2.5)

    assert command.main(["--rolling", "--seconds", "8", "--clients", "80", "--rate", "20"]) == 0
    told = capsys.readouterr().out
    assert "3 nodes drained and started again" in told
    assert "every log is whole" in told
