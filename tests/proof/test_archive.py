"""The proof of the archive in small: under load, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import archive


async def test_nobody_notices_that_old_messages_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "GROUPS", 4)
    assert await archive.prove(tmp_path, 1_600, baseline_s=1.0, timeout_s=60.0) == []
