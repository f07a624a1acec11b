"""The alerts: each fires on the figures of a server under its fault, no other does, and none while all is well.

The figures were recorded (`python -m tests.observability.faults`); one story is recorded again here, and is the same.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from chatkit.observability.prometheus import RULES

from . import promtool
from .faults import STORIES, WELL_S, Story, a_number_is_given_twice, file_of, recorded, written


def test_the_rules_are_rules() -> None:
    ran = subprocess.run([promtool.find(), "check", "rules", str(RULES)], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr


def test_every_alert_has_a_story() -> None:
    alerts = {line.split()[-1] for line in RULES.read_text().splitlines() if "- alert:" in line}

    assert alerts == set().union(*STORIES.values())


@pytest.mark.parametrize("story", STORIES, ids=lambda it: it.__name__)
def test_the_right_alerts_fire(story: Story, tmp_path: Path) -> None:
    kept = json.loads(file_of(story).read_text())

    promtool.check_alerts(kept, {WELL_S - 60: (), kept["seconds"]: STORIES[story]}, tmp_path)


def test_a_recording_is_what_the_server_shows_today() -> None:
    assert written(recorded(a_number_is_given_twice)) == file_of(a_number_is_given_twice).read_text()
