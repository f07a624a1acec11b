"""What Prometheus and Grafana take: rules and a dashboard. `chatkit metrics rules` and `dashboard` print them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RULES: Final = Path(__file__).with_name("chatkit.rules.yml")
"""Recording rules and alerts."""

DASHBOARD: Final = Path(__file__).with_name("grafana.json")
"""A dashboard of Grafana."""
