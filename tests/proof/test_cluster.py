"""Short runs of the cluster: three nodes, PostgreSQL, NATS; with every fault of a server, and restarted in turn."""

from __future__ import annotations

import pytest

from .cluster import __main__ as command
from .cluster import nodes
from .soak import load


def test_a_short_run_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "PROCESSES", 1)
    for name, value in {"_PAUSE_S": (0.3, 0.8), "_DOWN_S": 0.3, "_BUS_DOWN_S": 1.0, "_FROZEN_S": 2.0}.items():
        monkeypatch.setattr(nodes, name, value)

    assert command.main(["--seconds", "15", "--clients", "10", "--rate", "20"]) == 0
    told = capsys.readouterr().out
    assert "PostgreSQL crashed" in told
    assert "every log is whole" in told


def test_a_rolling_restart_under_load_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "PROCESSES", 1)
    monkeypatch.setattr(nodes, "_BETWEEN_NODES_S", 2.5)

    assert command.main(["--rolling", "--seconds", "12", "--clients", "80", "--rate", "20"]) == 0
    told = capsys.readouterr().out
    assert "3 nodes drained and started again" in told
    assert "every log is whole" in told
