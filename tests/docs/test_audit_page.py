"""docs/audit.md lists every act that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from chatkit.core.log.audit import AuditAction

PAGE = (Path(__file__).parent.parent.parent / "docs/audit.md").read_text("utf-8")


def test_every_act_is_listed_and_no_other() -> None:
    cells = re.findall(r"^\| ([A-Z_, ]+) \|", PAGE, re.MULTILINE)

    listed = [name for cell in cells for name in cell.split(", ")]
    assert sorted(listed) == sorted(get_args(AuditAction))
