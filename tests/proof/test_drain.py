"""A sample of the drain: two workers that share a small outbox."""

from __future__ import annotations

import pytest

from . import drain


def test_two_workers_push_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert drain.main(["--entries", "600", "--workers", "2"]) == 0
    told = capsys.readouterr().out
    assert "600 conversations wait; 2 workers" in told and "600 pushes in" in told
