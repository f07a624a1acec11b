"""The client's knobs are judged when they are set."""

from __future__ import annotations

import math
from typing import Any

import pytest

from chatkit import ClientConfig
from chatkit.errors import ConfigurationError


@pytest.mark.parametrize(
    "options",
    [
        {"window": 0},
        {"events_max": 0},
        {"pending_max": -1},
        {"held_max": 0},
        {"requests_max": 0},
        {"page_limit": 0},
        {"page_limit": 201},
        {"window": 1.5},
        {"window": "many"},
        {"window": True},
        {"connect_timeout_s": 0},
        {"send_timeout_s": math.inf},
        {"gap_wait_s": math.nan},
        {"gap_wait_s": -0.1},
        {"backoff_base_s": 5, "backoff_max_s": 1},
    ],
)
def test_what_can_never_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ClientConfig(**options)


def test_zero_is_fine_where_not_waiting_makes_sense() -> None:
    config = ClientConfig(
        close_timeout_s=0, goaway_wait_s=0, gap_wait_s=0, confirm_wait_s=0, stable_after_s=0, events_low=0
    )
    assert config.close_timeout_s == 0
